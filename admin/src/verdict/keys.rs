//! How far the rotation of key-encryption keys is, and what keeps older ones.

use super::Verdict;
use crate::report::KeysReport;
use megalith_model::rotation::Rotation;

pub(super) fn judge(
    rotation: &Rotation,
    verdict: &mut Verdict,
    notes: &mut Vec<String>,
) -> KeysReport {
    let Rotation {
        to, left, closed, ..
    } = rotation;
    if *closed > 0 {
        verdict.degraded(format!(
            "{closed} sealed records do not open, and keep the key-encryption keys before {to}: \
             what they are is in the gateways' logs"
        ));
    } else if !rotation.passed_all {
        notes.push(format!(
            "the rotation to key-encryption key {to} has {left} rows left, and access keys"
        ));
    } else if rotation.dropped_ms.is_none() {
        notes.push(format!(
            "everything is sealed under key-encryption key {to}; the older ones are deleted soon"
        ));
    }
    KeysReport {
        version: *to,
        begun_ms: rotation.begun_ms,
        resealed: rotation.resealed,
        left: *left,
        closed: *closed,
        passed_all: rotation.passed_all,
        dropped_ms: rotation.dropped_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Health;

    fn judged(change: impl FnOnce(&mut Rotation)) -> (Health, Vec<String>) {
        let mut rotation = Rotation {
            to: 3,
            begun_ms: 5,
            grace_ms: 9,
            cursor: b"names a user's object".to_vec(),
            passed_all: false,
            resealed: 10,
            left: 4,
            closed: 0,
            clear_since_ms: None,
            dropped_ms: None,
        };
        change(&mut rotation);
        let (mut verdict, mut notes) = (Verdict::default(), Vec::new());
        judge(&rotation, &mut verdict, &mut notes);
        let (health, reasons) = verdict.close();
        notes.extend(reasons);
        (health, notes)
    }

    #[test]
    fn what_is_left_is_said_and_what_does_not_open_is_wrong() {
        let (health, said) = judged(|_| {});
        assert_eq!(health, Health::Healthy);
        assert!(said[0].contains("key 3 has 4 rows left"), "{said:?}");
        let (health, said) = judged(|rotation| (rotation.passed_all, rotation.closed) = (true, 4));
        assert_eq!(health, Health::Degraded);
        assert!(said[0].contains("4 sealed records do not open"), "{said:?}");
        let (health, said) = judged(|rotation| {
            (rotation.passed_all, rotation.clear_since_ms) = (true, Some(8));
        });
        assert_eq!(health, Health::Healthy);
        assert!(said[0].contains("deleted soon"), "{said:?}");
        let (health, said) = judged(|rotation| {
            (rotation.passed_all, rotation.dropped_ms) = (true, Some(9));
        });
        assert_eq!((health, said), (Health::Healthy, Vec::new()));
    }
}
