//! A client's command is applied once, whatever comes between its first arrival and its second.

use super::{BOX, GATEWAY, World, coded_len, only_remembers, put, put_command, upload};
use crate::command::{
    Answer, Command, CommandKey, Condition, Envelope, ObjectBlobs, Outcome, Refusal,
};
use crate::ids::{BlobId, BucketId, Epoch, GatewayId, LeaseId, VolumeId};
use crate::keys::{self, RowKey, Table};
use crate::machine::{GATEWAY_LEASES_MAX, write_for_tests};
use crate::rows::{BlobRow, BucketRow, SpentRow};
use crate::table::{MemRows, Overlay, Rows as _};

fn key(id: u64, attempt: u32) -> CommandKey {
    CommandKey {
        id: BlobId(id),
        attempt,
        gateway: GATEWAY,
    }
}

fn with(key: CommandKey, command: Command) -> Envelope {
    Envelope {
        key: Some(key),
        command,
    }
}

fn delete(name: &str, condition: Condition) -> Command {
    Command::DeleteObject {
        bucket: BOX,
        key: name.as_bytes().to_vec(),
        condition,
    }
}

fn put_new(world: &World, name: &str, number: u64, condition: Condition) -> Command {
    let mut put = put(
        name,
        number,
        ObjectBlobs::New(world.blob(number, coded_len(9), 1)),
    );
    put.condition = condition;
    put_command(put)
}

/// Applies it; the answer must leave no trace but what is remembered.
fn idle(world: &mut World, envelope: &Envelope) -> Answer {
    let (answer, batch) = world.apply(envelope.clone());
    assert!(batch.is_empty(), "{envelope:?} left {batch:?}");
    answer
}

#[test]
fn a_copy_of_a_put_that_was_deleted_brings_nothing_back() {
    let mut world = World::ready();
    let first = with(key(1, 1), put_new(&world, "a", 1, Condition::None));
    assert_eq!(world.apply(first.clone()).0, Ok(Outcome::Done));
    assert_eq!(idle(&mut world, &first), Ok(Outcome::Done));
    world.done(delete("a", Condition::None));
    assert!(!world.exists(&RowKey::Blob(BlobId(1))));
    assert_eq!(idle(&mut world, &first), Ok(Outcome::Done));
    let other = with(key(1, 2), put_new(&world, "b", 1, Condition::None));
    assert_eq!(
        idle(&mut world, &other),
        Err(Refusal::KeyUsed { blob: BlobId(1) })
    );
    world.audited();
}

#[test]
fn a_copy_of_a_delete_spares_what_was_written_since() {
    let mut world = World::ready();
    let gone = with(key(900, 1), delete("a", Condition::None));
    assert_eq!(world.apply(gone.clone()).0, Ok(Outcome::Done));
    let fresh = put_new(&world, "a", 1, Condition::Absent);
    world.done(fresh);
    assert_eq!(idle(&mut world, &gone), Ok(Outcome::Done));
    assert!(world.exists(&RowKey::Blob(BlobId(1))));
}

#[test]
fn a_refusal_binds_its_attempt_and_those_before_it() {
    let mut world = World::ready();
    let seen = put_new(&world, "a", 1, Condition::None);
    world.done(seen);
    let taken = Condition::Absent;
    let second = with(key(2, 2), put_new(&world, "a", 2, taken));
    let (refused, batch) = world.apply(second.clone());
    assert!(matches!(refused, Err(Refusal::Condition { .. })) && only_remembers(&batch));
    world.done(delete("a", Condition::None));
    // Its condition would hold now, but its client was told no.
    assert_eq!(idle(&mut world, &second), refused);
    let first = with(key(2, 1), put_new(&world, "a", 2, Condition::None));
    let superseded = Err(Refusal::Superseded { blob: BlobId(2) });
    assert_eq!(idle(&mut world, &first), superseded);
    let same = with(key(2, 2), put_new(&world, "b", 2, taken));
    assert_eq!(
        idle(&mut world, &same),
        Err(Refusal::KeyUsed { blob: BlobId(2) })
    );
    let third = with(key(2, 3), put_new(&world, "a", 2, taken));
    assert_eq!(world.apply(third.clone()).0, Ok(Outcome::Done));
    // The blob's row is what remembers it now.
    assert!(!world.exists(&RowKey::Spent(BlobId(2))));
    assert_eq!(idle(&mut world, &second), superseded);
    assert_eq!(idle(&mut world, &third), Ok(Outcome::Done));
    world.audited();
}

#[test]
fn a_key_is_of_its_gateways_own_lease_and_of_its_own_blob() {
    let mut world = World::ready();
    let theirs = CommandKey {
        gateway: GatewayId(2),
        ..key(1, 1)
    };
    let closed = Err(Refusal::LeaseClosed { blob: BlobId(1) });
    let foreign = with(theirs, put_new(&world, "a", 1, Condition::None));
    assert_eq!(idle(&mut world, &foreign), closed);
    let delete = with(theirs, delete("a", Condition::None));
    assert_eq!(idle(&mut world, &delete), closed);
    let other = with(key(2, 1), put_new(&world, "a", 1, Condition::None));
    let without = Envelope {
        key: None,
        command: put_new(&world, "a", 1, Condition::None),
    };
    let of_none = with(key(3, 1), Command::WorkOff);
    for wrong in [other, without, of_none] {
        let (answer, batch) = world.apply(wrong);
        assert!(matches!(answer, Err(Refusal::Malformed(_))), "{answer:?}");
        assert!(only_remembers(&batch));
    }
    world.done(put_new(&world, "a", 1, Condition::None));
    world.audited();
}

#[test]
fn a_bucket_has_the_key_of_its_command_and_no_other_bucket_ever_has_it() {
    let mut world = World::ready();
    let bucket = |id, name: &str| super::bucket(id, name, 1);
    let (answer, batch) = world.apply(with(key(900, 1), bucket(901, "crate")));
    assert!(matches!(answer, Err(Refusal::Malformed(_))), "{answer:?}");
    assert!(only_remembers(&batch));
    world.done(bucket(901, "crate"));
    world.done(Command::DeleteBucket(BucketId(901)));
    let again = with(key(901, u32::MAX), bucket(901, "chest"));
    let blob = BlobId(901);
    assert_eq!(idle(&mut world, &again), Err(Refusal::KeyUsed { blob }));
    let (gateway, lease) = (GATEWAY, LeaseId(0));
    world.done(Command::CloseLease { gateway, lease });
    world.done(Command::WorkOff);
    assert!(!world.exists(&RowKey::Spent(blob)), "nothing is remembered");
    let closed = Err(Refusal::LeaseClosed { blob });
    assert_eq!(idle(&mut world, &again), closed);
    world.audited();
}

#[test]
fn a_bucket_is_not_written_over_another_whose_row_is_there() {
    let mut world = World::ready();
    let row: BucketRow = world.row(&RowKey::Bucket(BOX)).expect("there");
    let mut overlay = Overlay::new(&world.rows);
    write_for_tests(&mut overlay, &RowKey::Bucket(BucketId(901)), &row).expect("written");
    let batch = overlay.into_batch();
    world.rows.write(batch);
    let taken = Refusal::Malformed(format!("bucket id {} is taken", BucketId(901)));
    assert_eq!(world.try_apply(super::bucket(901, "crate", 1)), Err(taken));
}

fn spent(rows: &MemRows) -> usize {
    let range = keys::table(Table::Spent);
    let mut found = 0;
    rows.scan(&range.from, &range.to, &mut |_, _| {
        found += 1;
        true
    })
    .expect("rows in memory");
    found
}

#[test]
fn a_closed_lease_is_forgotten_in_pages_and_still_takes_no_copy() {
    let mut world = World::ready();
    let first = with(key(1, 1), put_new(&world, "a", 1, Condition::None));
    world.apply(first.clone()).0.expect("put");
    world.done(delete("a", Condition::None));
    let deletes: Vec<Envelope> = (2_000..4_500)
        .map(|id| with(key(id, 1), delete("nothing", Condition::None)))
        .collect();
    for envelope in &deletes {
        world.apply(envelope.clone()).0.expect("nothing to delete");
    }
    let kept = with(key(2, 1), put_new(&world, "kept", 2, Condition::None));
    world.apply(kept.clone()).0.expect("put");
    let before = spent(&world.rows);
    assert!(before > 2_500, "{before}");
    world.lease();
    world.done(Command::CloseLease {
        gateway: GATEWAY,
        lease: LeaseId(0),
    });
    let mut pages = 0;
    while world.done(Command::WorkOff) == (Outcome::WorkedOff { left: true }) {
        world.audited();
        pages += 1;
    }
    assert_eq!((pages, spent(&world.rows)), (2, 0));
    let closed = |id| Err(Refusal::LeaseClosed { blob: BlobId(id) });
    assert_eq!(idle(&mut world, &first), closed(1));
    assert_eq!(idle(&mut world, &deletes[7]), closed(2_007));
    // What its blob's row remembers is answered as long as the blob is there.
    assert_eq!(idle(&mut world, &kept), Ok(Outcome::Done));
    world.audited();
}

#[test]
fn every_command_of_a_client_changes_nothing_when_it_comes_twice() {
    let mut world = World::ready();
    let id = upload(5);
    let part = |world: &World, part: u32, blob: u64| Command::PutPart {
        bucket: BOX,
        key: b"big".to_vec(),
        upload: id,
        part,
        size: 50,
        written_ms: world.time_ms,
        sealed_part: vec![],
        blob: world.blob(blob, coded_len(9), 1),
    };
    let create = Command::CreateUpload {
        bucket: BOX,
        key: b"big".to_vec(),
        upload: id,
        wrapped_key: vec![],
        sealed_manifest: vec![],
    };
    let complete = Command::CompleteUpload {
        upload: id,
        parts: vec![(1, BlobId(11))],
        object: Box::new(put("big", 9, ObjectBlobs::Parts)),
    };
    let copy = ObjectBlobs::Shared {
        bucket: BOX,
        key: b"big".to_vec(),
        version: super::version(9),
    };
    let abort = Command::AbortUpload {
        bucket: BOX,
        key: b"big".to_vec(),
        upload: id,
    };
    let of_ann = super::bucket(50_002, "second", 1);
    let commands = [
        (100, create),
        (11, part(&world, 1, 11)),
        (12, part(&world, 2, 12)),
        (101, complete),
        (102, put_command(put("copy", 10, copy))),
        (103, delete("big", Condition::None)),
        (104, abort),
        (50_002, of_ann),
        (106, Command::DeleteBucket(BucketId(50_002))),
    ];
    let mut judged = Vec::new();
    for (number, command) in commands {
        let envelope = with(key(number, 1), command);
        let (answer, _) = world.apply(envelope.clone());
        judged.push((envelope, answer));
        for (envelope, answer) in judged.clone() {
            assert_eq!(idle(&mut world, &envelope), answer);
        }
    }
    let refused = judged.iter().filter(|(_, answer)| answer.is_err()).count();
    assert_eq!(refused, 1, "the upload was completed before it was aborted");
    world.audited();
}

#[test]
fn a_write_that_was_refused_for_its_volume_comes_again_with_another_segment() {
    let mut world = World::ready();
    let early = put_new(&world, "a", 1, Condition::None);
    world.done(Command::CloseVolume {
        volume: VolumeId(1),
        epoch: Epoch(1),
    });
    let volume = world.volume(4, 2);
    let mut late = put_new(&world, "a", 1, Condition::None);
    let Command::PutObject(object) = &mut late else {
        panic!("a put");
    };
    let ObjectBlobs::New(blob) = &mut object.blobs else {
        panic!("a new blob");
    };
    // As if written after the volume was closed.
    blob.segments[0].epoch = Epoch(2);
    let stale = world.apply(with(key(1, 1), late.clone())).0;
    assert!(
        matches!(stale, Err(Refusal::StaleVolume { .. })),
        "{stale:?}"
    );
    if let Command::PutObject(object) = &mut late
        && let ObjectBlobs::New(blob) = &mut object.blobs
    {
        blob.segments[0].volume = volume.id;
        blob.segments[0].epoch = volume.epoch;
    }
    let second = with(key(1, 2), late);
    assert_eq!(world.apply(second.clone()).0, Ok(Outcome::Done));
    // The first attempt, in yet another form, is too late.
    let superseded = Err(Refusal::Superseded { blob: BlobId(1) });
    assert_eq!(idle(&mut world, &with(key(1, 1), early)), superseded);
    world.done(delete("a", Condition::None));
    let row: SpentRow = world.row(&RowKey::Spent(BlobId(1))).expect("remembered");
    assert_eq!((row.proposal.attempt, row.answer), (2, Ok(Outcome::Done)));
    assert!(world.row::<BlobRow>(&RowKey::Blob(BlobId(1))).is_none());
    world.audited();
}

#[test]
fn what_is_kept_of_a_refusal_has_no_text_of_the_programs() {
    let mut world = World::ready();
    let put = put_new(&world, "", 1, Condition::None);
    let refused = with(key(1, 1), put);
    let (first, _) = world.apply(refused.clone());
    assert!(matches!(&first, Err(Refusal::Malformed(why)) if !why.is_empty()));
    let kept = Err(Refusal::Malformed(String::new()));
    assert_eq!(idle(&mut world, &refused), kept);
}

#[test]
fn a_gateway_has_only_so_many_open_leases() {
    let mut world = World::ready();
    let open = |gateway, request| Command::OpenLease {
        gateway: GatewayId(gateway),
        request,
    };
    for request in 0..GATEWAY_LEASES_MAX as u64 {
        world.done(open(9, request));
    }
    let refused = world.try_apply(open(9, u64::MAX));
    assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
    // What it has already is not refused, and others have their own.
    world.done(open(9, 0));
    world.done(open(8, u64::MAX));
}
