//! The cluster's settings, and the uploads that end by them.

use super::*;
use crate::answer::{OldUploads, old_uploads, settings, topology};
use crate::command::Refusal;
use crate::machine::EXPIRED_MAX;
use crate::settings::Settings;

const DAY_MS: u64 = 24 * 3_600 * 1_000;

fn set(revision: u64, upload_days: u32) -> Command {
    Command::SetSettings(Settings {
        revision,
        upload_days,
        ..Settings::default()
    })
}

#[test]
fn settings_are_changed_by_who_has_seen_them() {
    let mut world = World::ready();
    assert_eq!(
        settings(&world.rows).expect("readable"),
        Settings::default()
    );
    for _ in 0..2 {
        // The same command twice is one change.
        world.done(set(1, 30));
        let seen = topology(&world.rows).expect("readable").settings;
        assert_eq!((seen.revision, seen.upload_days), (1, 30));
    }
    assert_eq!(world.try_apply(set(1, 3)), Err(Refusal::Changed));
    assert_eq!(world.try_apply(set(3, 3)), Err(Refusal::Changed));
    let senseless = world.try_apply(set(2, 1_000_000));
    assert!(
        matches!(senseless, Err(Refusal::Malformed(_))),
        "{senseless:?}"
    );
    world.done(set(2, 0));
    world.audited();
}

fn begin(world: &mut World, key: &str, parts: u32) -> UploadId {
    world.keys += 1;
    let upload = UploadId::new(world.time_ms, [world.keys as u8; 8]);
    world.done(Command::CreateUpload {
        bucket: BOX,
        key: key.as_bytes().to_vec(),
        upload,
        wrapped_key: vec![1],
        sealed_manifest: vec![2],
    });
    for part in 1..=parts {
        world.keys += 1;
        let blob = world.blob(10_000 + u64::from(world.keys), 200_000, 1);
        world.done(Command::PutPart {
            bucket: BOX,
            key: key.as_bytes().to_vec(),
            upload,
            part,
            size: 10,
            written_ms: world.time_ms,
            sealed_part: vec![3],
            blob,
        });
    }
    upload
}

fn old(world: &World, from: UploadId) -> OldUploads {
    old_uploads(&world.rows, world.time_ms, from).expect("readable")
}

const START: UploadId = UploadId([0; 16]);

#[test]
fn uploads_end_when_they_are_too_old_and_no_sooner() {
    let mut world = World::ready();
    world.time_ms = 100 * DAY_MS;
    let first = begin(&mut world, "first", 12);
    world.time_ms += DAY_MS;
    let second = begin(&mut world, "second", 1);
    let both = || vec![first, second];

    // Too young, or the setting says never: nothing is found, and apply does nothing.
    assert_eq!(old(&world, START).uploads, []);
    world.done(Command::ExpireUploads { uploads: both() });
    world.time_ms += 30 * DAY_MS;
    world.done(set(1, 0));
    assert_eq!(old(&world, START).uploads, []);
    world.done(Command::ExpireUploads { uploads: both() });
    world.done(set(2, 31));
    let rows = [first, second].map(|id| world.exists(&RowKey::UploadTarget(id)));
    assert_eq!(rows, [true, true]);

    world.time_ms += 1;
    let found = old(&world, START);
    assert_eq!(
        (found.uploads.as_slice(), found.next),
        (&[first][..], first)
    );
    world.done(Command::ExpireUploads { uploads: both() });
    let rows = [first, second].map(|id| world.exists(&RowKey::UploadTarget(id)));
    assert_eq!(rows, [false, true]);
    // Once more does nothing, and its parts go by and by.
    world.done(Command::ExpireUploads { uploads: both() });
    world.audited();
    while matches!(
        world.done(Command::WorkOff),
        Outcome::WorkedOff { left: true }
    ) {}
    let left =
        crate::machine::page::<crate::rows::PartRow>(&world.rows, &crate::keys::parts(first), 99);
    assert_eq!(left.expect("readable").len(), 0);
    world.audited();

    // The next look begins where nothing older can be, also if the time was made longer again.
    let next = old(&world, found.next).next;
    assert!(next > first && next <= second, "{next}");
    world.done(set(3, 60));
    let earlier = old(&world, next).next;
    assert!(earlier < next);
    world.done(set(4, 1));
    assert_eq!(old(&world, earlier).uploads, [second]);
}

#[test]
fn one_command_ends_a_bounded_number() {
    let mut world = World::ready();
    world.time_ms = 100 * DAY_MS;
    for number in 0..EXPIRED_MAX + 3 {
        begin(&mut world, &format!("k{number}"), 0);
    }
    world.time_ms += 8 * DAY_MS;
    let found = old(&world, START).uploads;
    assert_eq!(found.len(), EXPIRED_MAX);
    let mut many = found.clone();
    many.push(found[0]);
    let refused = world.try_apply(Command::ExpireUploads { uploads: many });
    assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
    world.done(Command::ExpireUploads { uploads: found });
    assert_eq!(old(&world, START).uploads.len(), 3);
    world.audited();
}
