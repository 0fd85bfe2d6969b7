//! Random commands, checked against simple maps. The maps know what users see and which commands
//! are accepted; `audit` checks that all other rows agree with that.

mod model;
mod steps;

use super::World;
use crate::answer::tests::ask;
use crate::command::{Envelope, Outcome};
use crate::ids::{BucketId, LeaseId, Token, VersionId};
use crate::keys::RowKey;
use crate::machine::apply;
use crate::question;
use crate::rows::{BlobRow, Counters};
use crate::shape::CELL_LEN;
use crate::table::{MemRows, Overlay};
use model::{Key, Model, Object};
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
                version: view.version,
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
    let references = model.references();
    for blob in &model.brought {
        let row: Option<BlobRow> = world.row(&RowKey::Blob(*blob));
        let kept = row.map(|row| row.references);
        assert_eq!(kept, references.get(blob).copied(), "{blob}");
    }
}

/// Applies the same log again, in batches of `batch` entries.
fn replay(log: &[(u64, Envelope)], batch: usize) -> MemRows {
    let mut rows = MemRows::default();
    for entries in log.chunks(batch) {
        let mut overlay = Overlay::new(&rows);
        for (stamp_ms, envelope) in entries {
            apply(&mut overlay, *stamp_ms, envelope)
                .map(drop)
                .expect("rows in memory agree");
        }
        let batch = overlay.into_batch();
        rows.write(batch);
    }
    rows
}

fn run(ops: &[(Op, bool, u64)]) {
    let mut world = World::ready();
    let mut model = Model {
        buckets: BTreeMap::from([(BucketId(1), "box".into())]),
        leases: BTreeSet::from([LeaseId(1)]),
        leases_opened: 1,
        volumes: 1,
        ..Model::default()
    };
    for (op, with_token, later_ms) in ops {
        world.time_ms += later_ms;
        let step = object_step(&mut model, &world, op)
            .or_else(|| upload_step(&mut model, &world, op))
            .or_else(|| cluster_step(&mut model, &world, op))
            .or_else(|| shard_step(&mut model, &world, op));
        let Some(Step(command, good, effect)) = step else {
            continue;
        };
        let token = with_token
            .then(|| VersionId::new(model.number(), [1; 8]).0)
            .map(Token);
        let (answer, batch) = world.apply(token, command.clone());
        assert_eq!(answer.is_ok(), good, "{command:?} {answer:?}");
        assert!(
            good || token.is_some() || batch.is_empty(),
            "{command:?} {batch:?}"
        );
        if token.is_some() {
            let (again, batch) = world.apply(token, command);
            assert_eq!((again, batch.is_empty()), (answer.clone(), true));
        }
        match answer {
            Ok(Outcome::Bucket(row)) => {
                model.buckets.insert(row.id, row.name);
            }
            Ok(_) => effect(&mut model),
            Err(_) => {}
        }
        compare(&model, &world);
        world.audited();
    }
    assert_eq!(replay(&world.log, 1), world.rows);
    assert_eq!(replay(&world.log, 7), world.rows);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn commands_do_what_simple_maps_do(
        ops in prop::collection::vec((op(), any::<bool>(), 0_u64..120_000), 1..60),
    ) {
        run(&ops);
    }
}
