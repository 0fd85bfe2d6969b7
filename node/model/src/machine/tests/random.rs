//! Random commands against simple maps. The maps know what users see and what is accepted; `audit`
//! knows that all other rows agree with what users see.

use super::{World, disk_id, node, version};
use crate::command::{Blobs, Command, Condition, Envelope, NewBlob, Outcome, PutObject, Refusal};
use crate::ids::{
    AccountId, BlobId, BucketId, GatewayId, LeaseId, Token, UploadId, VersionId, VolumeId,
};
use crate::keys::RowKey;
use crate::machine::apply;
use crate::query::{Query, Reply};
use crate::rows::{BlobRow, Counters, ShardPlace};
use crate::shape::{CELL_LEN, SegmentLayout, Shape};
use crate::table::{MemRows, Overlay};
use crate::topology::VolumeState;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What to do, in numbers that are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
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
    Seal(u8),
    MarkOwed(u8, u8, bool),
    Ack(u8, u8),
    Register(u8),
}

/// How a blob is made: its size class, volume, missing member and flaw.
#[derive(Clone, Debug)]
struct Blob {
    len: u64,
    volume: u8,
    owed: Option<u8>,
    flaw: u8,
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
        1 => n().prop_map(Op::Seal),
        3 => (n(), n(), any::<bool>()).prop_map(|(a, b, c)| Op::MarkOwed(a, b, c)),
        1 => (n(), n()).prop_map(|(a, b)| Op::Ack(a, b)),
        1 => n().prop_map(Op::Register),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Object {
    version: VersionId,
    size: u64,
    blobs: Vec<BlobId>,
}

type Key = (BucketId, Vec<u8>);

#[derive(Default)]
struct Model {
    buckets: BTreeMap<BucketId, String>,
    objects: BTreeMap<Key, Object>,
    uploads: BTreeMap<UploadId, (Key, BTreeMap<u32, BlobId>)>,
    leases: BTreeSet<LeaseId>,
    leases_opened: u64,
    volumes: u32,
    /// Blobs that had a row once.
    brought: BTreeSet<BlobId>,
    next: u64,
}

/// The n-th of some things, counted round.
fn pick<T: Clone>(things: impl Iterator<Item = T>, n: u8) -> Option<T> {
    let things: Vec<T> = things.collect();
    let at = usize::from(n) % things.len().max(1);
    things.get(at).cloned()
}

impl Model {
    fn bucket(&self, n: u8) -> BucketId {
        // Sometimes one that isn't there.
        BucketId(1 + u64::from(n) % (self.buckets.len() as u64 + 1))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// References by blob, counted from objects and parts.
    fn references(&self) -> BTreeMap<BlobId, u32> {
        let objects = self.objects.values().flat_map(|object| &object.blobs);
        let parts = self.uploads.values().flat_map(|(_, parts)| parts.values());
        let mut references = BTreeMap::new();
        for blob in objects.chain(parts) {
            *references.entry(*blob).or_default() += 1;
        }
        references
    }

    /// A blob, and whether the state machine should take it.
    fn blob(&mut self, world: &World, spec: &Blob) -> (NewBlob, bool) {
        let lease = LeaseId(self.leases_opened.max(1));
        let id = (lease.0 - 1) * 1_000 + 1 + self.number() % 1_000;
        let volume = 1 + u32::from(spec.volume) % self.volumes;
        let mut new = world.blob(id, spec.len, volume);
        let row = world.volume_row(volume);
        let inline = new.shape == Shape::Inline;
        let mut good = self.leases.contains(&lease)
            && !self.brought.contains(&new.blob)
            && (inline || row.state == VolumeState::Open);
        if let (Some(member), Some(segment)) = (spec.owed, new.segments.first_mut()) {
            let member = usize::from(member) % row.profile.shards();
            segment.owed = 1 << member;
            let layout = SegmentLayout::new(new.shape, row.profile, new.blob, segment.len);
            good &= layout.members().any(|holder| holder == member) && row.profile.parity() >= 2;
        }
        match spec.flaw {
            0 => {
                new.lease = LeaseId(99);
                good = false;
            }
            1 => {
                new.len += 1;
                good = false;
            }
            2 => {
                if let Some(segment) = new.segments.last_mut() {
                    segment.epoch = segment.epoch.next();
                    good = false;
                }
            }
            _ => {}
        }
        (new, good)
    }

    fn condition(&self, key: &Key, n: u8) -> (Condition, bool) {
        let current = self.objects.get(key).map(|object| object.version);
        match (n % 6, current) {
            (0, current) => (Condition::Absent, current.is_none()),
            (1, Some(version)) => (Condition::Version(version), true),
            (2, current) => (Condition::Version(version(0)), current == Some(version(0))),
            _ => (Condition::None, true),
        }
    }
}

fn key(n: u8) -> Vec<u8> {
    vec![b'a' + n % 4]
}

/// What a command should do to the maps once it is accepted.
type Effect = Box<dyn FnOnce(&mut Model)>;

/// A command, whether it should be accepted, and what it then changes.
struct Step(Command, bool, Effect);

impl Step {
    fn new(command: Command, good: bool, effect: impl FnOnce(&mut Model) + 'static) -> Self {
        Self(command, good, Box::new(effect))
    }
}

fn object(model: &mut Model, key: &Key, condition: Condition, blobs: Blobs) -> PutObject {
    let number = model.number();
    PutObject {
        bucket: key.0,
        key: key.1.clone(),
        version: version(number),
        size: number,
        condition,
        wrapped_key: vec![],
        sealed_manifest: vec![],
        sealed_listing: vec![],
        blobs,
    }
}

fn linked(put: &PutObject, blobs: Vec<BlobId>) -> Object {
    Object {
        version: put.version,
        size: put.size,
        blobs,
    }
}

fn object_step(model: &mut Model, world: &World, op: &Op) -> Option<Step> {
    Some(match op {
        Op::Put(bucket, name, condition, spec) => {
            let place = (model.bucket(*bucket), key(*name));
            let (condition, holds) = model.condition(&place, *condition);
            let (new, good) = model.blob(world, spec);
            let good = good && holds && model.buckets.contains_key(&place.0);
            let blob = new.blob;
            let put = object(model, &place, condition, Blobs::New(new));
            let row = linked(&put, vec![blob]);
            Step::new(Command::PutObject(Box::new(put)), good, move |model| {
                model.brought.insert(blob);
                model.objects.insert(place, row);
            })
        }
        Op::Copy(source, bucket, name, stale) => {
            let (from, source) = pick(model.objects.clone().into_iter(), *source)?;
            let place = (model.bucket(*bucket), key(*name));
            let gone = stale % 5 == 0;
            let blobs = Blobs::Shared {
                bucket: from.0,
                key: from.1,
                version: if gone { version(0) } else { source.version },
            };
            let mut put = object(model, &place, Condition::None, blobs);
            put.size = source.size;
            let row = linked(&put, source.blobs);
            let good = !gone && model.buckets.contains_key(&place.0);
            Step::new(Command::PutObject(Box::new(put)), good, move |model| {
                model.objects.insert(place, row);
            })
        }
        Op::Delete(bucket, name, condition) => {
            let place = (model.bucket(*bucket), key(*name));
            let (condition, holds) = model.condition(&place, *condition);
            let command = Command::DeleteObject {
                bucket: place.0,
                key: place.1.clone(),
                condition,
            };
            let good = holds && model.buckets.contains_key(&place.0);
            Step::new(command, good, move |model| {
                model.objects.remove(&place);
            })
        }
        Op::CreateBucket(n) => {
            let name = format!("bucket{}", n % 3);
            let good = !model.buckets.values().any(|known| *known == name);
            let command = Command::CreateBucket {
                name,
                account: AccountId(1),
            };
            Step::new(command, good, |_| {})
        }
        Op::DeleteBucket(n) => {
            let bucket = model.bucket(*n);
            let empty = !model.objects.keys().any(|key| key.0 == bucket)
                && !model.uploads.values().any(|(key, _)| key.0 == bucket);
            let good = empty && model.buckets.contains_key(&bucket);
            Step::new(Command::DeleteBucket(bucket), good, move |model| {
                model.buckets.remove(&bucket);
            })
        }
        _ => return None,
    })
}

fn upload_step(model: &mut Model, world: &World, op: &Op) -> Option<Step> {
    Some(match op {
        Op::CreateUpload(bucket, name) => {
            let place = (model.bucket(*bucket), key(*name));
            let upload = UploadId::new(model.number(), [0; 8]);
            let command = Command::CreateUpload {
                bucket: place.0,
                key: place.1.clone(),
                upload,
                wrapped_key: vec![],
                sealed_manifest: vec![],
            };
            let good = model.buckets.contains_key(&place.0);
            Step::new(command, good, move |model| {
                model.uploads.insert(upload, (place, BTreeMap::new()));
            })
        }
        Op::PutPart(n, part, spec) => {
            let (upload, (place, _)) = pick(model.uploads.clone().into_iter(), *n)?;
            let part = u32::from(part % 5);
            let (blob, good) = model.blob(world, spec);
            let id = blob.blob;
            let command = Command::PutPart {
                bucket: place.0,
                key: place.1,
                upload,
                part,
                size: 1,
                sealed_part: vec![],
                blob,
            };
            Step::new(command, good && part > 0, move |model| {
                model.brought.insert(id);
                let (_, parts) = model.uploads.get_mut(&upload).expect("picked");
                parts.insert(part, id);
            })
        }
        Op::Complete(n, choice) => {
            let (upload, (place, parts)) = pick(model.uploads.clone().into_iter(), *n)?;
            let mut named: Vec<(u32, BlobId)> = parts.into_iter().collect();
            named.retain(|(part, _)| choice >> part & 1 == 0);
            let mut good = !named.is_empty();
            if choice & 1 == 1 {
                named.push((9, BlobId(1)));
                good = false;
            }
            let put = object(model, &place, Condition::None, Blobs::Parts);
            let row = linked(&put, named.iter().map(|(_, blob)| *blob).collect());
            let command = Command::CompleteUpload {
                upload,
                parts: named,
                object: Box::new(put),
            };
            Step::new(command, good, move |model| {
                model.uploads.remove(&upload);
                model.objects.insert(place, row);
            })
        }
        Op::Abort(n) => {
            let (upload, (place, _)) = pick(model.uploads.clone().into_iter(), *n)?;
            let command = Command::AbortUpload {
                bucket: place.0,
                key: place.1,
                upload,
            };
            Step::new(command, true, move |model| {
                model.uploads.remove(&upload);
            })
        }
        _ => return None,
    })
}

fn cluster_step(model: &mut Model, world: &World, op: &Op) -> Option<Step> {
    Some(match op {
        Op::Lease => {
            let command = Command::OpenLease {
                gateway: GatewayId(1),
                count: 1_000,
            };
            Step::new(command, true, |model| {
                model.leases_opened += 1;
                model.leases.insert(LeaseId(model.leases_opened));
            })
        }
        Op::CloseLease(n) => {
            let lease = LeaseId(1 + u64::from(n % 4));
            Step::new(Command::CloseLease(lease), true, move |model| {
                model.leases.remove(&lease);
            })
        }
        Op::Volume(n) => {
            let profiles = [(4, 2), (3, 2), (1, 2), (5, 1), (1, 0)];
            let (data, parity) = profiles[usize::from(*n) % profiles.len()];
            let mut scratch = World {
                rows: world.rows.clone(),
                time_ms: world.time_ms,
                log: Vec::new(),
            };
            scratch.volume(data, parity);
            let command = scratch.log.pop().expect("just applied").command;
            Step::new(command, true, |model| model.volumes += 1)
        }
        Op::Seal(n) => {
            let volume = world.volume_row(1 + u32::from(*n) % model.volumes);
            let (volume, epoch) = (volume.id, volume.epoch);
            Step::new(Command::SealVolume { volume, epoch }, true, |_| {})
        }
        Op::MarkOwed(n, member, damaged) => {
            let blob = pick(model.references().into_keys(), *n)?;
            let row: BlobRow = world.row(&RowKey::Blob(blob)).expect("referenced");
            let member = member % 6;
            let good = row.segments.first().is_some_and(|segment| {
                let layout = SegmentLayout::new(row.shape, segment.profile, blob, segment.len);
                layout.members().any(|holder| holder == usize::from(member))
            });
            let place = ShardPlace {
                blob,
                segment: 0,
                member,
            };
            let command = Command::MarkOwed {
                places: vec![place],
                damaged: *damaged,
            };
            Step::new(command, good, |_| {})
        }
        Op::Ack(n, through) => {
            let disk = disk_id(1 + u32::from(n % 6));
            let through = u64::from(*through);
            Step::new(Command::AckDeletes { disk, through }, true, |_| {})
        }
        Op::Register(n) => {
            let node = node(1 + u32::from(n % 8));
            Step::new(Command::RegisterNode(node), true, |_| {})
        }
        _ => return None,
    })
}

/// What users see is what the maps say.
fn compare(model: &Model, world: &World) {
    let bucket_ids: Vec<BucketId> = model.buckets.keys().copied().collect();
    for bucket in bucket_ids {
        let mut expected = Counters::default();
        for name in 0..4 {
            let place = (bucket, key(name));
            let query = Query::Object {
                bucket,
                key: place.1.clone(),
                version: None,
                with_blobs: true,
            };
            let seen = match crate::answer::answer(&world.rows, &query) {
                Ok(Reply::Object(view)) => view,
                other => panic!("{other:?}"),
            };
            let seen = seen.map(|view| Object {
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

/// The same log, applied in batches of `batch` entries.
fn replay(log: &[Envelope], batch: usize) -> MemRows {
    let mut rows = MemRows::default();
    for entries in log.chunks(batch) {
        let mut overlay = Overlay::new(&rows);
        for envelope in entries {
            apply(&mut overlay, envelope)
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
            .or_else(|| cluster_step(&mut model, &world, op));
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
            Err(Refusal::Malformed(_)) | Err(_) => {}
        }
        compare(&model, &world);
        world.audited();
    }
    assert_eq!(replay(&world.log, 1), world.rows);
    assert_eq!(replay(&world.log, 7), world.rows);
    assert_eq!(
        VolumeId(model.volumes),
        VolumeId(world.volume_row(model.volumes).id.0)
    );
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
