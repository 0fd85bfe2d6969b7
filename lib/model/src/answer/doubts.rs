//! Shards in doubt and owed shards, with what they must be like.

use super::concerns::of_disk;
use super::{misplaced, page_rows, parsed};
use crate::ids::{BlobId, DiskId, NodeId, VolumeId};
use crate::keys::{self, KeyRange, RowKey, Table};
use crate::lookup;
use crate::machine::{MachineError, decode_row, page};
use crate::query::{DoubtView, OwedPage, PAGE_ROWS_MAX, WantedShard};
use crate::question;
use crate::rows::{DoubtRow, OwedRow};
use crate::shard::ShardId;
use crate::table::Rows;
use crate::topology::Volume;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A page of doubts by disk, for an operator.
pub(super) fn doubts(
    rows: &dyn Rows,
    asked: question::Doubts,
) -> Result<Vec<DoubtView>, MachineError> {
    let found = page::<DoubtRow>(rows, &range(asked), page_rows(asked.max))?;
    views(rows, found)
}

/// As [`doubts`], of those that concern a storage node: it serves the disk, or is a judge. Costs a
/// look for each disk and volume that has doubts, besides the page itself.
pub(super) fn doubts_of(
    rows: &dyn Rows,
    asked: question::Doubts,
    node: NodeId,
) -> Result<Vec<DoubtView>, MachineError> {
    let (mut range, mut found) = (range(asked), Vec::new());
    let mut volumes = Volumes::default();
    loop {
        let rest = page_rows(asked.max) - found.len();
        let Some((key, _)) = page::<DoubtRow>(rows, &range, rest.min(1))?.pop() else {
            return Ok(found);
        };
        let (disk, shard) = place(&key)?;
        let same = KeyRange {
            from: key,
            to: first_of(disk, shard.volume.next()),
        };
        range.from = same.to.clone();
        let volume = volumes.get(rows, shard.volume)?;
        let judges = volume.is_some_and(|volume| judges(volume, disk, shard).contains(&node));
        if judges || of_disk(rows, disk, node)? {
            found.extend(views(rows, page(rows, &same, rest)?)?);
        }
    }
}

fn range(asked: question::Doubts) -> KeyRange {
    let range = keys::table(Table::Doubts);
    match asked.after {
        Some((disk, shard)) => range.after(RowKey::Doubt { disk, shard }.encode()),
        None => range,
    }
}

/// Where the doubts about a disk's shards of one volume begin.
fn first_of(disk: DiskId, volume: VolumeId) -> Vec<u8> {
    let shard = ShardId {
        volume,
        blob: BlobId(0),
        segment: 0,
        slot: 0,
    };
    RowKey::Doubt { disk, shard }.encode()
}

fn place(key: &[u8]) -> Result<(DiskId, ShardId), MachineError> {
    match parsed(key)? {
        RowKey::Doubt { disk, shard } => Ok((disk, shard)),
        _ => Err(misplaced()),
    }
}

fn views(rows: &dyn Rows, found: Vec<(Vec<u8>, DoubtRow)>) -> Result<Vec<DoubtView>, MachineError> {
    let views = found.into_iter().map(|(key, row)| {
        let (disk, shard) = place(&key)?;
        doubt(rows, disk, shard, row)
    });
    views.collect()
}

/// Volumes, read once each.
#[derive(Default)]
struct Volumes(BTreeMap<VolumeId, Option<Volume>>);

impl Volumes {
    fn get(&mut self, rows: &dyn Rows, id: VolumeId) -> Result<Option<&Volume>, MachineError> {
        let volume = match self.0.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(lookup::volume(rows, id)?),
        };
        Ok(volume.as_ref())
    }
}

fn doubt(
    rows: &dyn Rows,
    disk: DiskId,
    shard: ShardId,
    row: DoubtRow,
) -> Result<DoubtView, MachineError> {
    let volume = lookup::volume(rows, shard.volume)?;
    let judges = volume.as_ref().map(|volume| judges(volume, disk, shard));
    let wanted = match volume {
        Some(volume) => wanted(rows, &volume, disk, shard)?,
        None => None,
    };
    Ok(DoubtView {
        disk,
        shard,
        row,
        judges: judges.unwrap_or_default(),
        wanted,
    })
}

/// Returns the nodes of the volume's other slots, from the one behind the shard's own on.
fn judges(volume: &Volume, disk: DiskId, shard: ShardId) -> Vec<NodeId> {
    let own = volume.slots.iter().find(|slot| slot.disk == disk);
    let slots = volume.slots.len();
    let after = usize::from(shard.slot) + 1;
    (0..slots)
        .map(|step| volume.slots[(after + step) % slots].node)
        .filter(|node| own.is_none_or(|own| own.node != *node))
        .collect()
}

/// Returns what a shard must be like; None if no row names it on that disk.
fn wanted(
    rows: &dyn Rows,
    volume: &Volume,
    disk: DiskId,
    shard: ShardId,
) -> Result<Option<WantedShard>, MachineError> {
    let number = usize::from(shard.slot);
    if volume
        .slots
        .get(number)
        .is_none_or(|slot| slot.disk != disk)
    {
        return Ok(None);
    }
    let Some(found) = lookup::segment(rows, shard.volume, shard.blob, shard.segment)? else {
        return Ok(None);
    };
    let holds = found.layout.slots().any(|slot| slot == number);
    let digest = found.segment().digest(found.blob.shape, number);
    Ok(digest.filter(|_| holds).map(|digest| WantedShard {
        len: found.layout.shard_len(number),
        digest: *digest,
        epoch: volume.epoch,
    }))
}

/// A page of what a disk owes. Looks at no more than a page of owed rows, whichever disks they are
/// about.
pub(super) fn owed_shards(
    rows: &dyn Rows,
    asked: question::OwedShards,
) -> Result<OwedPage, MachineError> {
    let mut range = keys::table(Table::Owed);
    if let Some((volume, blob, segment)) = asked.after {
        let last = RowKey::Owed {
            volume,
            blob,
            segment,
        };
        range = range.after(last.encode());
    }
    let mut seen: Vec<((VolumeId, BlobId, u32), OwedRow)> = Vec::new();
    let mut failed = None;
    rows.scan(&range.from, &range.to, &mut |key, value| {
        match (parsed(key), decode_row::<OwedRow>(key, value)) {
            (
                Ok(RowKey::Owed {
                    volume,
                    blob,
                    segment,
                }),
                Ok(row),
            ) => seen.push(((volume, blob, segment), row)),
            (Ok(_), Ok(_)) => failed = Some(misplaced()),
            (Err(error), _) | (_, Err(error)) => failed = Some(error),
        }
        failed.is_none() && seen.len() < PAGE_ROWS_MAX as usize
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let mut found = OwedPage {
        next: (seen.len() == PAGE_ROWS_MAX as usize).then(|| seen[seen.len() - 1].0),
        ..OwedPage::default()
    };
    let mut volumes = Volumes::default();
    for ((id, blob, segment), owed) in seen {
        let Some(volume) = volumes.get(rows, id)? else {
            continue;
        };
        let mine = (0..).zip(&volume.slots).find(|(_, s)| s.disk == asked.disk);
        let Some((slot, _)) = mine.filter(|(slot, _)| owed.owed >> slot & 1 == 1) else {
            continue;
        };
        let shard = ShardId {
            volume: id,
            blob,
            segment,
            slot,
        };
        if let Some(wanted) = wanted(rows, volume, asked.disk, shard)? {
            found.shards.push((shard, wanted));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use crate::answer::answer_node;
    use crate::answer::tests::ask;
    use crate::command::{Command, NewDoubt, ObjectBlobs};
    use crate::ids::{BlobId, DiskId, Epoch, NodeId, VolumeId};
    use crate::machine::tests::{World, coded_len, disk_id, node, put, put_command};
    use crate::query::{DoubtView, Reply};
    use crate::question::{self, Question};
    use crate::shard::ShardId;

    type Place = (DiskId, ShardId);

    /// Volume 1 is on nodes 1 to 6, volume 2 on the first three, and 7 has no slot. Slot i is on
    /// disk i+1 of node i+1. Both have two blobs, and every shard on the first two disks is in
    /// doubt.
    fn world() -> World {
        let mut world = World::ready();
        world.register(node(7));
        world.volume(2, 1);
        for (blob, volume) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
            let new = world.blob(blob, coded_len(9), volume);
            let object = put(&format!("k{blob}"), blob, ObjectBlobs::New(new));
            world.done(put_command(object));
            for slot in [0, 1] {
                world.done(Command::RaiseDoubts(vec![NewDoubt {
                    shard: ShardId {
                        volume: VolumeId(volume),
                        blob: BlobId(blob),
                        segment: 0,
                        slot,
                    },
                    disk: disk_id(1 + u32::from(slot)),
                    epoch: Epoch(1),
                    damaged: false,
                }]));
            }
        }
        world
    }

    fn shown(world: &World, node: u32, asked: question::Doubts) -> Vec<DoubtView> {
        let reply = answer_node(&world.rows, &asked.into(), None, NodeId(node));
        let reply: Reply = reply.expect("rows in memory").expect("it concerns it");
        question::Doubts::from_reply(reply).expect("doubts")
    }

    /// All pages of `max`.
    fn pages(world: &World, node: u32, max: u32) -> Vec<DoubtView> {
        let (mut all, mut after): (Vec<DoubtView>, Option<Place>) = (Vec::new(), None);
        loop {
            let page = shown(world, node, question::Doubts { after, max });
            let last = page.len() < max as usize;
            after = page.last().map(|doubt| (doubt.disk, doubt.shard));
            all.extend(page);
            if last {
                return all;
            }
        }
    }

    #[test]
    fn a_node_is_shown_the_doubts_that_it_can_settle() {
        let world = world();
        let (after, max) = (None, 1_000);
        let all = ask(&world.rows, question::Doubts { after, max });
        assert_eq!(all.len(), 8);
        let of_volume_1 = |doubt: &DoubtView| doubt.shard.volume == VolumeId(1);
        for max in [1, 2, 3, 1_000] {
            for both in [1, 2, 3] {
                assert_eq!(pages(&world, both, max), all, "node {both}, pages of {max}");
            }
            let mut first = all.clone();
            first.retain(of_volume_1);
            assert_eq!(pages(&world, 5, max), first, "pages of {max}");
            assert_eq!(pages(&world, 7, max), [], "pages of {max}");
        }
        assert_eq!(shown(&world, 1, question::Doubts { after, max: 0 }), []);
    }
}
