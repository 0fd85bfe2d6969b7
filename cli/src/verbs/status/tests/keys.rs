//! What is shown of rotations of key-encryption keys.

use super::*;
use megalith_model::rotation::Rotation;

/// A rotation that is done.
pub(super) fn rotated() -> Rotation {
    Rotation {
        to: 2,
        begun_ms: 1,
        grace_ms: 2,
        cursor: Vec::new(),
        passed_all: true,
        resealed: 30,
        left: 0,
        closed: 0,
        clear_since_ms: Some(4),
        dropped_ms: None,
    }
}

#[test]
fn a_rotation_of_keys_is_shown_until_it_is_done_and_after() {
    let mut shown = String::new();
    let mut show = |rotation: &Rotation| {
        let report = verdict::report(&well(), Some(rotation));
        let text = answer(&report, OutputFormat::Text).text;
        let about = |line: &&str| line.contains("key-encryption");
        shown.extend(text.lines().filter(about).map(|line| format!("{line}\n")));
    };
    let mut rotation = rotated();
    (rotation.passed_all, rotation.left) = (false, 12);
    show(&rotation);
    (rotation.passed_all, rotation.closed) = (true, 12);
    show(&rotation);
    (rotation.left, rotation.closed) = (0, 0);
    show(&rotation);
    rotation.dropped_ms = Some(9);
    show(&rotation);
    expect![[r#"
          - the rotation to key-encryption key 2 has 12 rows left, and access keys
        rows under key-encryption key 2: 30 sealed again, 12 left and access keys
          ! 12 sealed records do not open, and keep the key-encryption keys before 2: what they are is in the gateways' logs
        rows under key-encryption key 2: 30 sealed again, 12 do not open
          - everything is sealed under key-encryption key 2; the older ones are deleted soon
        rows under key-encryption key 2: 30 sealed again, none left
        rows under key-encryption key 2: 30 sealed again, none left; the older keys are deleted
    "#]].assert_eq(&shown);
}
