//! Shards in doubt and owed shards, with what they must be like.

use super::{misplaced, page_rows, parsed};
use crate::ids::{BlobId, DiskId, NodeId, VolumeId};
use crate::keys::{self, RowKey, Table};
use crate::machine::{DOUBT_SETTLED_MS, MachineError, clock, decode_row, page, read};
use crate::query::{DoubtView, OwedPage, PAGE_ROWS_MAX, WantedShard};
use crate::question;
use crate::rows::{BlobRow, DoubtRow, OwedRow};
use crate::shape::SegmentLayout;
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
    let now_ms = clock(rows)?;
    page::<DoubtRow>(rows, &range, page_rows(asked.max))?
        .into_iter()
        .map(|(key, row)| match parsed(&key)? {
            RowKey::Doubt { disk, shard } => doubt(rows, now_ms, disk, shard, row),
            _ => Err(misplaced()),
        })
        .collect()
}

fn doubt(
    rows: &dyn Rows,
    now_ms: u64,
    disk: DiskId,
    shard: ShardId,
    row: DoubtRow,
) -> Result<DoubtView, MachineError> {
    let volume: Option<Volume> = read(rows, &RowKey::Volume(shard.volume))?;
    let age_ms = now_ms.saturating_sub(row.since_ms);
    let judge = volume.as_ref().and_then(|volume| {
        let due = row.denied || age_ms >= DOUBT_SETTLED_MS;
        due.then(|| judge(volume, disk, shard, age_ms)).flatten()
    });
    let wanted = match volume {
        Some(volume) => wanted(rows, &volume, disk, shard)?,
        None => None,
    };
    Ok(DoubtView {
        disk,
        shard,
        row,
        judge,
        wanted,
    })
}

/// Returns whose turn it is to judge: the nodes of the volume's other slots, one after the other,
/// each for as long as the disk's own node had.
fn judge(volume: &Volume, disk: DiskId, shard: ShardId, age_ms: u64) -> Option<NodeId> {
    let own = volume.slots.iter().find(|slot| slot.disk == disk)?.node;
    let slots = volume.slots.len();
    let after = usize::from(shard.slot) + 1;
    let others: Vec<NodeId> = (0..slots)
        .map(|step| volume.slots[(after + step) % slots].node)
        .filter(|node| *node != own)
        .collect();
    let turn = usize::try_from(age_ms / DOUBT_SETTLED_MS).unwrap_or(0);
    others.get(turn % others.len().max(1)).copied()
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
    let Some(blob) = read::<BlobRow>(rows, &RowKey::Blob(shard.blob))? else {
        return Ok(None);
    };
    let segment = blob.segments.get(shard.segment as usize);
    let Some(segment) = segment.filter(|segment| segment.volume == shard.volume) else {
        return Ok(None);
    };
    let layout = SegmentLayout::new(blob.shape, segment.profile, shard.blob, segment.len);
    let holds = layout.slots().any(|slot| slot == number);
    let digest = segment.digest(blob.shape, number).filter(|_| holds);
    Ok(digest.map(|digest| WantedShard {
        len: layout.shard_len(number),
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
                let volume = read(rows, &RowKey::Volume(id))?;
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
