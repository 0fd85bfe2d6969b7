//! Shards found missing, damaged or whole again. Only the node that serves a disk speaks for it.
//!
//! A mark or a fill names the disk, the slot and the epoch in which the node saw the volume. It
//! counts only if that disk is still the slot's, and if the blob's row still puts this segment
//! there. Anything else is out of date, and is skipped: no row is changed by it.

use super::context::{Machine, Step, malformed};
use super::counters::{below_zero, down, up};
use super::segments::{SegmentPlace, count_clean, sum_shards};
use super::{MachineError, OWED_MARKS_MAX};
use crate::command::{Outcome, ShardFill, ShardMark};
use crate::ids::{DiskId, Epoch, NodeId};
use crate::keys::RowKey;
use crate::lookup::{self, FoundSegment};
use crate::rows::{DiskRow, OwedRow, SegmentRow, VolumeCounts, VolumeRow};
use crate::shard::ShardId;
use crate::sum::ShardSum;

/// A shard that a blob's row names, on the disk that should hold it.
pub(super) struct NamedShard {
    shard: ShardId,
    found: FoundSegment,
}

impl NamedShard {
    pub(super) fn segment(&self) -> &SegmentRow {
        self.found.segment()
    }

    fn place(&self) -> SegmentPlace<'_> {
        SegmentPlace {
            filed: self.shard.blob,
            number: self.shard.segment,
            shape: self.found.blob.shape,
            segment: self.found.segment(),
            layout: &self.found.layout,
        }
    }

    pub(super) fn bit(&self) -> u32 {
        1 << self.shard.slot
    }

    fn owed_key(&self) -> RowKey<'static> {
        RowKey::Owed {
            volume: self.shard.volume,
            blob: self.shard.blob,
            segment: self.shard.segment,
        }
    }
}

impl Machine<'_, '_> {
    /// Checks that a node speaks of a disk that it serves.
    pub(super) fn own_disk(&self, node: NodeId, disk: DiskId) -> Step<()> {
        let row: Option<DiskRow> = self.read(&RowKey::Disk(disk))?;
        if row.is_none_or(|row| row.node != node || !row.listed) {
            return malformed(format!("disk {disk} is not served by {node}"));
        }
        Ok(())
    }

    /// Finds the shard in its blob's row; None if no row names it there, or its slot is on another
    /// disk, or `epoch` is still to come or from before the slot came to this disk.
    pub(super) fn named(
        &self,
        shard: ShardId,
        disk: DiskId,
        epoch: Epoch,
    ) -> Result<Option<NamedShard>, MachineError> {
        let volume: Option<VolumeRow> = self.read(&RowKey::Volume(shard.volume))?;
        let Some(volume) = volume.filter(|volume| epoch <= volume.epoch) else {
            return Ok(None);
        };
        let slot = volume.slots.get(usize::from(shard.slot));
        if slot.is_none_or(|slot| slot.disk != disk || epoch < slot.since) {
            return Ok(None);
        }
        let found = lookup::segment(self.rows, shard.volume, shard.blob, shard.segment)?;
        // A profile has fewer slots than the mask has bits, and the slot is one of them.
        let holds = |found: &FoundSegment| found.layout.slots_mask() >> shard.slot & 1 == 1;
        let found = found.filter(holds);
        Ok(found.map(|found| NamedShard { shard, found }))
    }

    /// Records shards that `node` lacks on a disk of its own.
    pub(super) fn mark_owed(
        &mut self,
        node: NodeId,
        disk: DiskId,
        marks: &[ShardMark],
        damaged: bool,
    ) -> Step<Outcome> {
        if marks.len() > OWED_MARKS_MAX {
            return malformed(format!("{} shards at once", marks.len()));
        }
        self.own_disk(node, disk)?;
        for mark in marks {
            if let Some(named) = self.named(mark.shard, disk, mark.epoch)? {
                self.mark(named, damaged)?;
            }
            self.settle_doubt(disk, mark.shard)?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn mark(
        &mut self,
        mut named: NamedShard,
        damaged: bool,
    ) -> Result<(), MachineError> {
        let (bit, owed_key) = (named.bit(), named.owed_key());
        let (shape, filed) = (named.found.blob.shape, named.shard.blob);
        let mut owed = match self.read::<OwedRow>(&owed_key)? {
            Some(owed) => owed,
            None => {
                let layout = &named.found.layout;
                self.change_counts(&named, |counts| {
                    count_clean(counts, shape, layout, filed, down)?;
                    up(&mut counts.owed)
                })?;
                OwedRow {
                    shape,
                    columns: layout.filled_columns() as u8,
                    owed: 0,
                    damaged: 0,
                    since_ms: self.now_ms,
                }
            }
        };
        if !named.owes() {
            self.change_counts(&named, |counts| {
                sum_shards(counts, named.place(), bit, ShardSum::minus)
            })?;
            named.found.segment_mut().owed |= bit;
            self.write(&RowKey::Blob(named.found.owner), &named.found.blob);
        }
        owed.owed |= bit;
        if damaged {
            owed.damaged |= bit;
        }
        self.write(&owed_key, &owed);
        Ok(())
    }

    /// Records shards that `node` holds whole on a disk of its own, although they were owed. The
    /// digest shows that it is this very shard.
    pub(super) fn fill_owed(
        &mut self,
        node: NodeId,
        disk: DiskId,
        fills: &[ShardFill],
    ) -> Step<Outcome> {
        if fills.len() > OWED_MARKS_MAX {
            return malformed(format!("{} shards at once", fills.len()));
        }
        self.own_disk(node, disk)?;
        for fill in fills {
            let Some(named) = self.named(fill.shard, disk, fill.epoch)? else {
                continue;
            };
            let slot = usize::from(fill.shard.slot);
            let digest = named.segment().digest(named.found.blob.shape, slot);
            if digest == Some(&fill.digest) && named.owes() {
                self.fill(named)?;
                self.settle_doubt(disk, fill.shard)?;
            }
        }
        Ok(Outcome::Done)
    }

    fn fill(&mut self, mut named: NamedShard) -> Result<(), MachineError> {
        let (bit, owed_key) = (named.bit(), named.owed_key());
        let (shape, filed) = (named.found.blob.shape, named.shard.blob);
        let mut owed: OwedRow = self.require(&owed_key)?;
        owed.owed &= !bit;
        owed.damaged &= !bit;
        let whole = owed.owed == 0;
        let layout = &named.found.layout;
        self.change_counts(&named, |counts| {
            sum_shards(counts, named.place(), bit, ShardSum::plus)?;
            if whole {
                down(&mut counts.owed)?;
                count_clean(counts, shape, layout, filed, up)?;
            }
            Some(())
        })?;
        if whole {
            self.delete(&owed_key);
        } else {
            self.write(&owed_key, &owed);
        }
        named.found.segment_mut().owed = owed.owed;
        self.write(&RowKey::Blob(named.found.owner), &named.found.blob);
        Ok(())
    }

    fn change_counts(
        &mut self,
        named: &NamedShard,
        change: impl FnOnce(&mut VolumeCounts) -> Option<()>,
    ) -> Result<(), MachineError> {
        let key = RowKey::VolumeCounts(named.shard.volume);
        let mut counts: VolumeCounts = self.require(&key)?;
        change(&mut counts).ok_or_else(|| below_zero("a volume's counts"))?;
        self.write(&key, &counts);
        Ok(())
    }
}
