//! Turns numbers into commands, each with what the maps expect of it.

use super::super::{GATEWAY, World, bucket, claim, disk_id, node, version};
use super::Op;
use super::model::{Key, Model, Object, pick};
use crate::command::{
    Command, Condition, Leftover, NewDoubt, ObjectBlobs, PutObject, ShardFill, ShardMark, Verdict,
};
use crate::ids::{BlobId, Epoch, LeaseId, NodeId, UploadId, VersionId, VolumeId};
use crate::keys::RowKey;
use crate::rows::{BlobRow, DoubtRow};
use crate::shard::ShardId;
use std::collections::BTreeMap;

pub(super) fn key(n: u8) -> Vec<u8> {
    vec![b'a' + n % 4]
}

/// What a command should do to the maps once it is accepted.
pub(super) type Effect = Box<dyn FnOnce(&mut Model)>;

/// A command, whether it should be accepted, and what it then changes.
pub(super) struct Step(pub(super) Command, pub(super) bool, pub(super) Effect);

impl Step {
    fn new(command: Command, good: bool, effect: impl FnOnce(&mut Model) + 'static) -> Self {
        Self(command, good, Box::new(effect))
    }
}

fn object(
    model: &mut Model,
    world: &World,
    key: &Key,
    condition: Condition,
    blobs: ObjectBlobs,
) -> PutObject {
    let number = model.number();
    PutObject {
        bucket: key.0,
        key: key.1.clone(),
        version: VersionId::new(world.time_ms, number.to_be_bytes()),
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

pub(super) fn object_step(model: &mut Model, world: &World, op: &Op) -> Option<Step> {
    Some(match op {
        Op::Put(bucket, name, condition, spec) => {
            let place = (model.bucket(*bucket), key(*name));
            let (condition, holds) = model.condition(&place, *condition);
            let (new, good) = model.blob(world, spec);
            let good = good && holds && model.buckets.contains_key(&place.0);
            let blob = new.blob;
            let put = object(model, world, &place, condition, ObjectBlobs::New(new));
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
            let blobs = ObjectBlobs::Shared {
                bucket: from.0,
                key: from.1,
                version: if gone { version(0) } else { source.version },
            };
            let mut put = object(model, world, &place, Condition::None, blobs);
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
        Op::Discard(segment, volume) => {
            let leftovers = vec![Leftover {
                volume: VolumeId(1 + u64::from(*volume) % model.volumes),
                segment: u32::from(segment % 3),
            }];
            Step::new(Command::DiscardBlob { leftovers }, true, |_| {})
        }
        Op::CreateBucket(n) => {
            let name = format!("bucket{}", n % 3);
            let good = !model.buckets.values().any(|known| *known == name);
            // Behind all blobs of its lease.
            let id = world.lease.blobs().0.0 + 30_000 + model.number();
            Step::new(bucket(id, &name, 1), good, |_| {})
        }
        Op::DeleteBucket(n) => {
            let bucket = model.bucket(*n);
            let empty = !model.objects.keys().any(|key| key.0 == bucket);
            let good = empty && model.buckets.contains_key(&bucket);
            Step::new(Command::DeleteBucket(bucket), good, move |model| {
                model.buckets.remove(&bucket);
                model.uploads.retain(|_, (key, _)| key.0 != bucket);
            })
        }
        _ => return None,
    })
}

pub(super) fn upload_step(model: &mut Model, world: &World, op: &Op) -> Option<Step> {
    Some(match op {
        Op::CreateUpload(bucket, name) => {
            let place = (model.bucket(*bucket), key(*name));
            let upload = UploadId::new(world.time_ms, model.number().to_be_bytes());
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
            let (part, (blob, good)) = (u32::from(part % 5), model.blob(world, spec));
            let id = blob.blob;
            let command = Command::PutPart {
                bucket: place.0,
                key: place.1,
                upload,
                part,
                size: 1,
                written_ms: world.time_ms,
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
            let put = object(model, world, &place, Condition::None, ObjectBlobs::Parts);
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
            let (upload, ((bucket, key), _)) = pick(model.uploads.clone().into_iter(), *n)?;
            let command = Command::AbortUpload {
                bucket,
                key,
                upload,
            };
            Step::new(command, true, move |model| {
                model.uploads.remove(&upload);
            })
        }
        _ => return None,
    })
}

/// Picks a slot of the first segment of a blob; returns the number of its disk and node, too. If
/// the blob has no segment, the shard is one that was never there.
fn pick_shard(model: &Model, world: &World, n: u8, slot: u8) -> Option<(ShardId, u32)> {
    let blob = pick(model.references().into_keys(), n)?;
    let row: BlobRow = world.row(&RowKey::Blob(blob)).expect("referenced");
    let volume = row
        .segments
        .first()
        .map_or(VolumeId(1), |segment| segment.volume);
    let slots = world.volume_row(volume.0).slots;
    let number = usize::from(slot) % slots.len();
    let shard = ShardId {
        volume,
        blob,
        segment: 0,
        slot: number as u8,
    };
    Some((shard, slots[number].node.0))
}

pub(super) fn cluster_step(model: &mut Model, world: &World, op: &Op) -> Option<Step> {
    Some(match op {
        Op::Lease => {
            let command = Command::OpenLease {
                gateway: GATEWAY,
                request: 1 << 32 | model.number(),
            };
            Step::new(command, true, |model| {
                model.leases.insert(LeaseId(model.leases_opened));
                model.leases_opened += 1;
            })
        }
        Op::CloseLease(n) => {
            // Lease 0, of all commands without blobs, is seldom closed.
            let lease = if *n == 0 { 0 } else { 1 + u64::from(n % 6) };
            let (gateway, lease) = (GATEWAY, LeaseId(lease));
            let command = Command::CloseLease { gateway, lease };
            Step::new(command, true, move |model| {
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
                keys: 0,
                lease: LeaseId(0),
            };
            scratch.volume(data, parity);
            let entry = scratch.log.pop().expect("just applied");
            let command = entry.envelope.command;
            Step::new(command, true, |model| model.volumes += 1)
        }
        Op::Close(n) => {
            let volume = world.volume_row(1 + u64::from(*n) % model.volumes);
            let (volume, epoch) = (volume.id, volume.epoch);
            Step::new(Command::CloseVolume { volume, epoch }, true, |_| {})
        }
        Op::Register(n) => {
            let node = node(1 + u32::from(n % 8));
            Step::new(Command::RegisterNode(claim(node)), true, |_| {})
        }
        _ => return None,
    })
}

pub(super) fn shard_step(model: &mut Model, world: &World, op: &Op) -> Option<Step> {
    Some(match op {
        Op::MarkOwed(n, slot, damaged) => {
            let (shard, disk) = pick_shard(model, world, *n, *slot)?;
            let epoch = Epoch(1);
            let command = Command::MarkOwed {
                node: NodeId(disk),
                disk: disk_id(disk),
                marks: vec![ShardMark { shard, epoch }],
                damaged: *damaged,
            };
            Step::new(command, true, |_| {})
        }
        Op::FillOwed(n, slot) => {
            let (shard, disk) = pick_shard(model, world, *n, *slot)?;
            let digest = [shard.blob.0 as u8; 16];
            let epoch = Epoch(1);
            let command = Command::FillOwed {
                node: NodeId(disk),
                disk: disk_id(disk),
                fills: vec![ShardFill {
                    shard,
                    epoch,
                    digest,
                }],
            };
            Step::new(command, true, |_| {})
        }
        Op::Doubt(n, slot, act) => {
            let (shard, disk) = pick_shard(model, world, *n, *slot)?;
            let (command, good) = doubt_command(world, shard, disk, *act);
            Step::new(command, good, |_| {})
        }
        Op::WorkOff => Step::new(Command::WorkOff, true, |_| {}),
        Op::Ack(n, through) => {
            // Each disk's node has the same number as the disk; the seventh node serves none.
            let (node, number) = (1 + u32::from(n % 7), 1 + u32::from(n % 6));
            let command = Command::AckDeletes {
                node: NodeId(node),
                disk: disk_id(number),
                through: u64::from(*through),
            };
            Step::new(command, node == number, |_| {})
        }
        _ => return None,
    })
}

/// A doubt, its denial, or a verdict; and whether it should be accepted.
fn doubt_command(world: &World, shard: ShardId, disk: u32, act: u8) -> (Command, bool) {
    let judge = NodeId(1 + disk % 6);
    let volume = world.volume_row(shard.volume.0);
    let takes_part = volume.slots.iter().any(|slot| slot.node == judge);
    let (node, disk, epoch) = (NodeId(disk), disk_id(disk), Epoch(1));
    let doubted = world
        .row::<DoubtRow>(&RowKey::Doubt { disk, shard })
        .is_some();
    match act % 4 {
        0 | 1 => {
            let damaged = act % 8 > 3;
            let doubt = NewDoubt {
                shard,
                disk,
                epoch,
                damaged,
            };
            (Command::RaiseDoubts(vec![doubt]), true)
        }
        2 => {
            let shards = vec![shard];
            (Command::DenyDoubts { node, disk, shards }, true)
        }
        _ => {
            let whole = act % 8 > 3;
            let verdicts = vec![Verdict { shard, whole }];
            let command = Command::JudgeDoubts {
                judge,
                disk,
                verdicts,
            };
            (command, takes_part || !doubted)
        }
    }
}
