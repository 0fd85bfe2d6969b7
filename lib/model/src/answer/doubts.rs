//! Shards in doubt and owed shards, with what they must be like.

use super::{misplaced, page_rows, parsed};
use crate::ids::{BlobId, DiskId, NodeId, VolumeId};
use crate::keys::{self, RowKey, Table};
use crate::lookup;
use crate::machine::{MachineError, decode_row, page};
use crate::query::{DoubtView, OwedPage, PAGE_ROWS_MAX, WantedShard};
use crate::question;
use crate::rows::{DoubtRow, OwedRow};
use crate::shard::ShardId;
use crate::table::Rows;
use crate::topology::Volume;
use std::collections::BTreeMap;

pub(super) fn doubts(
    rows: &dyn Rows,
    asked: question::Doubts,
) -> Result<Vec<DoubtView>, MachineError> {
    let mut range = keys::table(Table::Doubts);
    if let Some((disk, shard)) = asked.after {
        range = range.after(RowKey::Doubt { disk, shard }.encode());
    }
    page::<DoubtRow>(rows, &range, page_rows(asked.max))?
        .into_iter()
        .map(|(key, row)| match parsed(&key)? {
            RowKey::Doubt { disk, shard } => doubt(rows, disk, shard, row),
            _ => Err(misplaced()),
        })
        .collect()
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
    let mut volumes: BTreeMap<VolumeId, Option<Volume>> = BTreeMap::new();
    for ((id, blob, segment), owed) in seen {
        let volume = match volumes.get(&id) {
            Some(volume) => volume,
            None => {
                let volume = lookup::volume(rows, id)?;
                volumes.entry(id).or_insert(volume)
            }
        };
        let Some(volume) = volume else { continue };
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
