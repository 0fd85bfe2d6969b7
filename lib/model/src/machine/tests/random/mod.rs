//! Random commands, checked against simple maps. The maps know what users see and which commands
//! are accepted; `audit` checks that all other rows agree with that.

mod model;
mod steps;

use super::{BOX, World, disk_id, only_remembers};
use crate::answer::tests::ask;
use crate::command::{Answer, CommandKey, Envelope, Outcome, Refusal};
use crate::entry::Entry;
use crate::ids::{BlobId, BucketId, LeaseId};
use crate::keys::{self, RowKey, Table};
use crate::machine::{apply, page};
use crate::query::Witness;
use crate::question;
use crate::rows::{BlobRow, Counters, PartRow};
use crate::shape::CELL_LEN;
use crate::shard::ShardId;
use crate::table::{Kept, MemRows, Overlay, Rows as _};
use model::{Key, Model, Object, pick};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use steps::{Step, cluster_step, key, object_step, shard_step, upload_step};

/// What to do, as numbers that are taken modulo what there is.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Put(u8, u8, u8, Blob),
    Copy(u8, u8, u8, u8),
    Delete(u8, u8, u8),
    CreateUpload(u8, u8),
    PutPart(u8, u8, Blob),
    Complete(u8, u8),
    Abort(u8),
    CreateBucket(u8),
    DeleteBucket(u8),
    Lease,
    CloseLease(u8),
    Volume(u8),
    Close(u8),
    MarkOwed(u8, u8, bool),
    FillOwed(u8, u8),
    Doubt(u8, u8, u8),
    WorkOff,
    Ack(u8, u8),
    Register(u8),
    /// What a write left behind is discarded.
    Discard(u8, u8),
    /// A client's command from before arrives once more.
    Again(u8),
    /// A command that was refused is tried again, as it was.
    Retry(u8),
}

/// How a blob is made: its size class, volume, missing slot and flaw.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) len: u64,
    pub(super) volume: u8,
    pub(super) owed: Option<u8>,
    pub(super) flaw: u8,
}

fn blob() -> impl Strategy<Value = Blob> {
    let cells = prop_oneof![3_u64..10, Just(1_024), Just(1_500), Just(2_049)];
    let len = prop_oneof![
        0_u64..200,
        5_000..130_000_u64,
        cells.prop_map(|cells| cells * CELL_LEN - 5),
    ];
    let owed = prop::option::weighted(0.3, any::<u8>());
    (len, any::<u8>(), owed, 0_u8..24).prop_map(|(len, volume, owed, flaw)| Blob {
        len,
        volume,
        owed,
        flaw,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    prop_oneof![
        8 => (n(), n(), n(), blob()).prop_map(|(b, k, c, blob)| Op::Put(b, k, c, blob)),
        3 => (n(), n(), n(), n()).prop_map(|(a, b, c, d)| Op::Copy(a, b, c, d)),
        3 => (n(), n(), n()).prop_map(|(a, b, c)| Op::Delete(a, b, c)),
        2 => (n(), n()).prop_map(|(a, b)| Op::CreateUpload(a, b)),
        6 => (n(), n(), blob()).prop_map(|(a, b, blob)| Op::PutPart(a, b, blob)),
        2 => (n(), n()).prop_map(|(a, b)| Op::Complete(a, b)),
        1 => n().prop_map(Op::Abort),
        1 => n().prop_map(Op::CreateBucket),
        1 => n().prop_map(Op::DeleteBucket),
        1 => Just(Op::Lease),
        1 => n().prop_map(Op::CloseLease),
        1 => n().prop_map(Op::Volume),
        1 => n().prop_map(Op::Close),
        3 => (n(), n(), any::<bool>()).prop_map(|(a, b, c)| Op::MarkOwed(a, b, c)),
        2 => (n(), n()).prop_map(|(a, b)| Op::FillOwed(a, b)),
        3 => (n(), n(), n()).prop_map(|(a, b, c)| Op::Doubt(a, b, c)),
        2 => Just(Op::WorkOff),
        1 => (n(), n()).prop_map(|(a, b)| Op::Ack(a, b)),
        1 => n().prop_map(Op::Register),
        2 => (n(), n()).prop_map(|(a, b)| Op::Discard(a, b)),
        6 => n().prop_map(Op::Again),
        3 => n().prop_map(Op::Retry),
    ]
}

/// Checks that users see what the maps say.
fn compare(model: &Model, world: &World) {
    let bucket_ids: Vec<BucketId> = model.buckets.keys().copied().collect();
    for bucket in bucket_ids {
        let mut expected = Counters::default();
        for name in 0..4 {
            let place = (bucket, key(name));
            let asked = question::Object {
                bucket,
                key: place.1.clone(),
                version: None,
                with_blobs: true,
            };
            let seen = ask(&world.rows, asked).map(|view| Object {
                version: view.row.version,
                size: view.row.size,
                blobs: view.row.blobs,
            });
            let object = model.objects.get(&place).cloned();
            expected.objects += u64::from(object.is_some());
            expected.versions += u64::from(object.is_some());
            expected.bytes += object.as_ref().map_or(0, |object| object.size);
            assert_eq!(seen, object);
        }
        let of_bucket = |(key, _): &&(Key, _)| key.0 == bucket;
        expected.uploads = model.uploads.values().filter(of_bucket).count() as u64;
        let counters: Option<Counters> = world.row(&RowKey::BucketCounters(bucket));
        assert_eq!(counters, Some(expected));
    }
    let mut references = model.references();
    for blob in held_by_ended_uploads(model, world) {
        *references.entry(blob).or_default() += 1;
    }
    for blob in &model.brought {
        let row: Option<BlobRow> = world.row(&RowKey::Blob(*blob));
        let kept = row.map(|row| row.references);
        assert_eq!(kept, references.get(blob).copied(), "{blob}");
    }
}

/// Returns the blobs of parts that wait to be worked off. The audit checks that they are doomed.
fn held_by_ended_uploads(model: &Model, world: &World) -> Vec<BlobId> {
    let parts = page::<PartRow>(&world.rows, &keys::table(Table::Parts), usize::MAX);
    let parts = parts.expect("rows in memory").into_iter();
    let ended = parts.filter(|(key, _)| match RowKey::decode(key) {
        Ok(RowKey::Part { upload, .. }) => !model.uploads.contains_key(&upload),
        other => panic!("{other:?}"),
    });
    ended.map(|(_, row)| row.blob).collect()
}

/// Applies the same log again, in batches of `batch` entries. What is kept from batch to batch is
/// true of the rows; every fifth batch fails before it is written, and nothing is kept of it.
fn replay(log: &[Entry], batch: usize) -> MemRows {
    let (mut rows, mut kept) = (MemRows::default(), Kept::default());
    for (number, entries) in log.chunks(batch).enumerate() {
        let tries = if number % 5 == 4 { 2 } else { 1 };
        for tried in 1..=tries {
            let mut overlay = Overlay::resume(&rows, std::mem::take(&mut kept));
            for entry in entries {
                apply(&mut overlay, entry)
                    .map(drop)
                    .expect("rows in memory agree");
            }
            let (changes, after) = overlay.into_parts();
            if tried == tries {
                rows.write(changes);
                kept = after;
            }
        }
        for (key, row) in kept.iter() {
            let is = rows.get(key).expect("rows in memory");
            assert_eq!(is.as_deref(), row, "{key:?} is kept");
        }
    }
    rows
}

/// A client's command and its answer.
type Judged = (Envelope, Answer);

/// Lets a command from before arrive once more. Whatever happened between, it changes nothing, and
/// its answer is the one of before, or that nobody waits for it any more.
fn once_more(world: &mut World, judged: &[Judged], n: u8) {
    let Some((envelope, before)) = pick(judged.iter(), n) else {
        return;
    };
    let (answer, batch) = world.apply(envelope.clone());
    let id = envelope.key.expect("a client's").id;
    let late = [
        Err(Refusal::Superseded { blob: id }),
        Err(Refusal::LeaseClosed { blob: id }),
    ];
    // The texts of refusals are not kept.
    let malformed = |answer: &Answer| matches!(answer, Err(Refusal::Malformed(_)));
    assert!(
        answer == *before || late.contains(&answer) || malformed(before) && malformed(&answer),
        "{envelope:?}: {before:?}, then {answer:?}"
    );
    assert!(batch.is_empty(), "{envelope:?} {batch:?}");
}

/// A refused command that brings nothing is tried again: it is judged as if its key were new.
fn judged_afresh(world: &World, judged: &[Judged], n: u8) {
    let refused = judged
        .iter()
        .filter(|(envelope, answer)| answer.is_err() && envelope.command.brings().is_none());
    let Some((envelope, _)) = pick(refused, n) else {
        return;
    };
    let tried = |key: CommandKey| {
        let envelope = Envelope {
            key: Some(key),
            ..envelope.clone()
        };
        let mut overlay = Overlay::new(&world.rows);
        apply(&mut overlay, &Entry::new(world.time_ms, envelope)).expect("rows in memory agree")
    };
    let key = envelope.key.expect("a client's");
    let later = tried(CommandKey {
        attempt: key.attempt + 1,
        ..key
    });
    let fresh = BlobId(60_000);
    let new = tried(CommandKey { id: fresh, ..key });
    let closed = |answer: &Answer| matches!(answer, Err(Refusal::LeaseClosed { .. }));
    assert!(
        later == new || closed(&later) && closed(&new),
        "{envelope:?}"
    );
}

/// The first shard of each segment of every blob that a command wanted to bring, accepted or not.
fn proposed(judged: &[Judged]) -> impl Iterator<Item = ShardId> {
    let blobs = judged
        .iter()
        .filter_map(|(envelope, _)| envelope.command.new_blob());
    blobs.flat_map(|new| {
        (0..).zip(&new.segments).map(|(segment, of)| ShardId {
            volume: of.volume,
            blob: new.blob,
            segment,
            slot: 0,
        })
    })
}

fn witness(world: &World, shard: &ShardId) -> Witness {
    let (disk, shards) = (disk_id(1), vec![*shard]);
    ask(&world.rows, question::Witnesses { disk, shards })[0]
}

fn run(ops: &[(Op, u64)]) {
    let mut world = World::ready();
    let mut model = Model {
        buckets: BTreeMap::from([(BOX, "box".into())]),
        leases: BTreeSet::from([LeaseId(0)]),
        leases_opened: 1,
        volumes: 1,
        ..Model::default()
    };
    let mut judged: Vec<Judged> = Vec::new();
    // What nobody spoke for, once.
    let mut orphans: BTreeSet<ShardId> = BTreeSet::new();
    for (op, later_ms) in ops {
        world.time_ms += later_ms;
        match op {
            Op::Again(n) => {
                once_more(&mut world, &judged, *n);
                continue;
            }
            Op::Retry(n) => {
                judged_afresh(&world, &judged, *n);
                continue;
            }
            _ => {}
        }
        let step = object_step(&mut model, &world, op)
            .or_else(|| upload_step(&mut model, &world, op))
            .or_else(|| cluster_step(&mut model, &world, op))
            .or_else(|| shard_step(&mut model, &world, op));
        let Some(Step(command, good, effect)) = step else {
            continue;
        };
        let envelope = world.envelope(command);
        let leased = envelope
            .key
            .is_none_or(|key| model.leases.contains(&key.id.lease()));
        let (answer, batch) = world.apply(envelope.clone());
        assert_eq!(answer.is_ok(), good && leased, "{envelope:?} {answer:?}");
        assert!(
            answer.is_ok() || only_remembers(&batch),
            "{envelope:?} {batch:?}"
        );
        if envelope.key.is_some() {
            judged.push((envelope, answer.clone()));
        }
        match answer {
            Ok(Outcome::Bucket(row)) => {
                model.buckets.insert(row.id, row.name);
            }
            Ok(_) => effect(&mut model),
            Err(_) => {}
        }
        compare(&model, &world);
        for shard in &orphans {
            let now = witness(&world, shard);
            assert_eq!(now, Witness::Nobody, "{shard} was taken for an orphan");
        }
        let nobody = |shard: &ShardId| witness(&world, shard) == Witness::Nobody;
        orphans.extend(proposed(&judged).filter(nobody));
        world.audited();
    }
    assert_eq!(replay(&world.log, 1), world.rows);
    assert_eq!(replay(&world.log, 7), world.rows);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn commands_do_what_simple_maps_do(
        ops in prop::collection::vec((op(), 0_u64..120_000), 1..80),
    ) {
        run(&ops);
    }
}
