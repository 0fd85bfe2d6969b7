//! Large things go piece by piece, and readers never see them again.

use super::{BOX, World, coded_len, put, put_command, upload};
use crate::answer::tests::ask;
use crate::answer::topology;
use crate::command::{Command, Condition, ObjectBlobs, Outcome, PutObject, Refusal};
use crate::ids::{BlobId, UploadId};
use crate::keys::{self, RowKey};
use crate::machine::ENDED_WITH_BUCKET_MAX;
use crate::question;
use crate::rows::{BlobRow, DiskRow, PartRow, Totals};
use crate::table::Rows;

/// More than a few, and more than one piece of work.
const PARTS: u32 = 150;

fn create(world: &mut World, upload: UploadId) {
    world.done(Command::CreateUpload {
        bucket: BOX,
        key: b"big".to_vec(),
        upload,
        wrapped_key: vec![],
        sealed_manifest: vec![],
    });
}

fn abort(upload: UploadId) -> Command {
    Command::AbortUpload {
        bucket: BOX,
        key: b"big".to_vec(),
        upload,
    }
}

/// Uploads part `n` as blob `first + n`.
fn put_parts(world: &mut World, upload: UploadId, first: u64, parts: u32) {
    for part in 1..=parts {
        let blob = world.blob(first + u64::from(part), coded_len(9), 1);
        world.done(Command::PutPart {
            bucket: BOX,
            key: b"big".to_vec(),
            upload,
            part,
            size: 1,
            written_ms: world.time_ms,
            sealed_part: vec![],
            blob,
        });
    }
}

fn complete(world: &mut World, upload: UploadId, first: u64, parts: &[u32], version: u64) {
    let object = PutObject {
        key: b"big".to_vec(),
        ..put("big", version, ObjectBlobs::Parts)
    };
    world.done(Command::CompleteUpload {
        upload,
        parts: parts
            .iter()
            .map(|part| (*part, BlobId(first + u64::from(*part))))
            .collect(),
        object: Box::new(object),
    });
}

fn blobs(world: &World) -> usize {
    let range = keys::table(keys::Table::Blobs);
    let mut found = 0;
    let counted = world.rows.scan(&range.from, &range.to, &mut |_, _| {
        found += 1;
        true
    });
    counted.expect("rows in memory");
    found
}

/// Works off everything; returns in how many pieces, none of which was large.
fn work_off(world: &mut World) -> usize {
    for piece in 1.. {
        let (answer, batch) = world.attempt(Command::WorkOff);
        world.audited();
        assert!(batch.len() < 3_000, "{} rows", batch.len());
        match answer {
            Ok(Outcome::WorkedOff { left: true }) => {}
            Ok(Outcome::WorkedOff { left: false }) => return piece,
            other => panic!("{other:?}"),
        }
    }
    unreachable!("it ends")
}

fn doomed(world: &World) -> bool {
    topology(&world.rows).expect("rows in memory").doomed
}

#[test]
fn an_object_of_many_parts_is_gone_at_once_and_its_blobs_piece_by_piece() {
    let mut world = World::ready();
    create(&mut world, upload(1));
    put_parts(&mut world, upload(1), 0, PARTS);
    let named: Vec<u32> = (1..=PARTS).filter(|part| part % 10 != 0).collect();
    complete(&mut world, upload(1), 0, &named, 1);
    world.audited();
    assert!(doomed(&world));
    // What it is made of can't be lost by the work on what was left over.
    assert_eq!(work_off(&mut world), 3);
    assert_eq!(blobs(&world), named.len());
    let delete = Command::DeleteObject {
        bucket: BOX,
        key: b"big".to_vec(),
        condition: Condition::None,
    };
    let (answer, batch) = world.attempt(delete);
    assert!(answer.is_ok() && batch.len() < 20, "{} rows", batch.len());
    world.audited();
    let asked = question::Object {
        bucket: BOX,
        key: b"big".to_vec(),
        version: None,
        with_blobs: true,
    };
    assert_eq!(ask(&world.rows, asked), None);
    let totals: Totals = world.row(&RowKey::Meta(keys::Meta::Totals)).expect("there");
    assert_eq!((totals.counters.objects, totals.counters.bytes), (0, 0));
    assert_eq!(blobs(&world), named.len());
    work_off(&mut world);
    assert_eq!((blobs(&world), doomed(&world)), (0, false));
    assert_eq!(world.volume_row(1).bytes, 0);
    // The bucket is empty as soon as nobody finds anything in it.
    world.done(Command::DeleteBucket(BOX));
    world.audited();
}

fn uploads(world: &World) -> u64 {
    let totals: Totals = world.row(&RowKey::Meta(keys::Meta::Totals)).expect("there");
    totals.counters.uploads
}

#[test]
fn a_bucket_ends_all_its_uploads_or_none() {
    let delete = Command::DeleteBucket(BOX);
    let mut world = World::ready();
    let blob = world.blob(900, coded_len(9), 1);
    world.done(put_command(put("object", 1, ObjectBlobs::New(blob))));
    for number in 0..=ENDED_WITH_BUCKET_MAX {
        create(&mut world, upload(number as u64 + 1));
    }
    put_parts(&mut world, upload(1), 0, PARTS);
    let all = ENDED_WITH_BUCKET_MAX as u64 + 1;
    // One object keeps them, and so does one upload too many.
    assert_eq!(
        world.try_apply(delete.clone()),
        Err(Refusal::BucketNotEmpty)
    );
    world.done(Command::DeleteObject {
        bucket: BOX,
        key: b"object".to_vec(),
        condition: Condition::None,
    });
    assert_eq!(
        world.try_apply(delete.clone()),
        Err(Refusal::BucketNotEmpty)
    );
    world.audited();
    assert_eq!((uploads(&world), doomed(&world)), (all, false));
    assert_eq!(blobs(&world), PARTS as usize);
    world.done(abort(upload(2)));
    let (answer, batch) = world.attempt(delete);
    assert!(
        answer.is_ok() && batch.len() < 3_000,
        "{} rows",
        batch.len()
    );
    world.audited();
    assert_eq!(uploads(&world), 0);
    assert_eq!(
        world.try_apply(abort(upload(1))),
        Err(Refusal::NoSuchBucket)
    );
    work_off(&mut world);
    assert_eq!((blobs(&world), doomed(&world)), (0, false));
    assert_eq!(world.volume_row(1).bytes, 0);
    world.audited();
}

#[test]
fn an_aborted_upload_of_many_parts_ends_at_once() {
    let mut world = World::ready();
    create(&mut world, upload(1));
    put_parts(&mut world, upload(1), 0, PARTS);
    let abort = abort(upload(1));
    let (answer, batch) = world.attempt(abort.clone());
    assert!(answer.is_ok() && batch.len() < 20, "{} rows", batch.len());
    assert_eq!(world.try_apply(abort), Err(Refusal::NoSuchUpload));
    world.audited();
    let asked = question::Parts {
        upload: upload(1),
        after: 0,
        max: 1_000,
    };
    assert_eq!(ask(&world.rows, asked), Default::default());
    // Its id is not free before the last of its parts is gone.
    let again = Command::CreateUpload {
        bucket: BOX,
        key: b"big".to_vec(),
        upload: upload(1),
        wrapped_key: vec![],
        sealed_manifest: vec![],
    };
    let refused = world.try_apply(again.clone());
    assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
    assert_eq!(work_off(&mut world), 3);
    assert_eq!(blobs(&world), 0);
    world.done(again);
    let none: Option<PartRow> = world.row(&RowKey::Part {
        upload: upload(1),
        part: 1,
    });
    assert!(none.is_none());
}

#[test]
fn few_parts_go_at_once() {
    let mut world = World::ready();
    create(&mut world, upload(1));
    put_parts(&mut world, upload(1), 0, 8);
    complete(&mut world, upload(1), 0, &[2, 3], 1);
    assert_eq!((blobs(&world), doomed(&world)), (2, false));
    world.audited();
}

#[test]
fn blobs_that_others_share_outlive_a_doomed_object() {
    let mut world = World::ready();
    create(&mut world, upload(1));
    put_parts(&mut world, upload(1), 0, 20);
    let named: Vec<u32> = (1..=20).collect();
    complete(&mut world, upload(1), 0, &named, 1);
    work_off(&mut world);
    let source = put("big", 1, ObjectBlobs::Parts).version;
    let shared = ObjectBlobs::Shared {
        bucket: BOX,
        key: b"big".to_vec(),
        version: source,
    };
    world.done(put_command(put("copy", 2, shared)));
    let blob = world.blob(500, 10, 1);
    world.done(put_command(put("big", 3, ObjectBlobs::New(blob))));
    assert!(doomed(&world));
    work_off(&mut world);
    assert_eq!(blobs(&world), 21);
    let row: BlobRow = world.row(&RowKey::Blob(BlobId(7))).expect("shared");
    assert_eq!(row.references, 1);
}

#[test]
fn a_look_at_a_delete_queue_begins_where_the_last_acknowledgement_ended() {
    let mut world = World::ready();
    for number in 1..=30 {
        let blob = world.blob(number, coded_len(9), 1);
        world.done(put_command(put("k", number, ObjectBlobs::New(blob))));
    }
    let disk = super::disk_id(1);
    let acknowledge = |through| Command::AckDeletes {
        node: crate::ids::NodeId(1),
        disk,
        through,
    };
    let row = |world: &World| -> DiskRow { world.row(&RowKey::Disk(disk)).expect("there") };
    assert_eq!((row(&world).first_delete, row(&world).last_delete), (1, 29));
    world.done(acknowledge(10));
    // A late repetition changes nothing; one of numbers that were never given ends at the last.
    world.done(acknowledge(3));
    assert_eq!(row(&world).first_delete, 11);
    let max = 5;
    let page = ask(
        &world.rows,
        question::Deletes {
            disk,
            max,
            after: 0,
            urgent: false,
        },
    );
    let numbers: Vec<u64> = page.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [11, 12, 13, 14, 15]);
    world.done(acknowledge(u64::MAX));
    assert_eq!(row(&world).first_delete, 30);
    world.audited();
}

#[test]
fn rows_that_contradict_each_other_refuse_a_command_and_stop_nobody() {
    let mut world = World::ready();
    let blob = world.blob(1, coded_len(9), 1);
    world.done(put_command(put("a", 1, ObjectBlobs::New(blob))));
    let mut overlay = crate::table::Overlay::new(&world.rows);
    overlay.delete(RowKey::Blob(BlobId(1)).encode());
    let lost = overlay.into_batch();
    world.rows.write(lost);
    let delete = Command::DeleteObject {
        bucket: BOX,
        key: b"a".to_vec(),
        condition: Condition::None,
    };
    let refused = world.try_apply(delete);
    assert!(matches!(refused, Err(Refusal::Internal(_))), "{refused:?}");
    let blob = world.blob(2, coded_len(9), 1);
    world.done(put_command(put("b", 2, ObjectBlobs::New(blob))));
}
