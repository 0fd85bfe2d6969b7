//! Shards found missing, damaged or whole again. Only the node that serves a disk speaks for it.
//!
//! A mark or a fill names the disk, the slot and the epoch in which the node saw the volume. It
//! counts only if that disk is still the slot's, and if the blob's row still puts this segment
//! there. Anything else is out of date, and is skipped: no row is changed by it.

use super::context::{Machine, Step, malformed};
use super::counters::{below_zero, down, up};
use super::segments::count_clean;
use super::{MachineError, OWED_MARKS_MAX};
use crate::command::{Outcome, ShardFill, ShardMark};
use crate::ids::{DiskId, Epoch, NodeId};
use crate::keys::RowKey;
use crate::rows::{BlobRow, DiskRow, OwedRow, SegmentRow, VolumeCounts};
use crate::shape::SegmentLayout;
use crate::shard::ShardId;
use crate::topology::Volume;

/// A shard that a blob's row names, on the disk that should hold it.
pub(super) struct Standing {
    shard: ShardId,
    blob: BlobRow,
    layout: SegmentLayout,
}

impl Standing {
    pub(super) fn segment(&self) -> &SegmentRow {
        &self.blob.segments[self.shard.segment as usize]
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
        if row.is_none_or(|row| row.node != Some(node)) {
            return malformed(format!("disk {disk} is not served by {node}"));
        }
        Ok(())
    }

    /// Finds the shard in its blob's row; None if no row names it there, or its slot is on another
    /// disk, or `epoch` is still to come. Slots don't move yet; once they do, an epoch from before
    /// the slot came to this disk is out of date, too.
    pub(super) fn standing(
        &self,
        shard: ShardId,
        disk: DiskId,
        epoch: Epoch,
    ) -> Result<Option<Standing>, MachineError> {
        let volume: Option<Volume> = self.read(&RowKey::Volume(shard.volume))?;
        let Some(volume) = volume.filter(|volume| epoch <= volume.epoch) else {
            return Ok(None);
        };
        let slot = volume.slots.get(usize::from(shard.slot));
        if slot.is_none_or(|slot| slot.disk != disk) {
            return Ok(None);
        }
        let Some(blob) = self.read::<BlobRow>(&RowKey::Blob(shard.blob))? else {
            return Ok(None);
        };
        let segment = blob.segments.get(shard.segment as usize);
        let Some(segment) = segment.filter(|segment| segment.volume == shard.volume) else {
            return Ok(None);
        };
        let layout = SegmentLayout::new(blob.shape, segment.profile, shard.blob, segment.len);
        // A profile has fewer slots than the mask has bits, and the slot is one of them.
        let holds = layout.slots_mask() >> shard.slot & 1 == 1;
        Ok(holds.then_some(Standing {
            shard,
            blob,
            layout,
        }))
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
            if let Some(standing) = self.standing(mark.shard, disk, mark.epoch)? {
                self.mark(standing, damaged)?;
            }
            self.settle_doubt(disk, mark.shard)?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn mark(
        &mut self,
        mut standing: Standing,
        damaged: bool,
    ) -> Result<(), MachineError> {
        let (bit, owed_key) = (standing.bit(), standing.owed_key());
        let (shape, blob) = (standing.blob.shape, standing.shard.blob);
        let mut owed = match self.read::<OwedRow>(&owed_key)? {
            Some(owed) => owed,
            None => {
                let layout = &standing.layout;
                self.change_counts(&standing, |counts| {
                    count_clean(counts, shape, layout, blob, down)?;
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
        owed.owed |= bit;
        if damaged {
            owed.damaged |= bit;
        }
        self.write(&owed_key, &owed);
        let segment = &mut standing.blob.segments[standing.shard.segment as usize];
        if segment.owed != owed.owed {
            segment.owed = owed.owed;
            self.write(&RowKey::Blob(blob), &standing.blob);
        }
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
            let Some(standing) = self.standing(fill.shard, disk, fill.epoch)? else {
                continue;
            };
            let slot = usize::from(fill.shard.slot);
            let digest = standing.segment().digest(standing.blob.shape, slot);
            if digest == Some(&fill.digest) && standing.owes() {
                self.fill(standing)?;
                self.settle_doubt(disk, fill.shard)?;
            }
        }
        Ok(Outcome::Done)
    }

    fn fill(&mut self, mut standing: Standing) -> Result<(), MachineError> {
        let (bit, owed_key) = (standing.bit(), standing.owed_key());
        let (shape, blob) = (standing.blob.shape, standing.shard.blob);
        let mut owed: OwedRow = self.require(&owed_key)?;
        owed.owed &= !bit;
        owed.damaged &= !bit;
        if owed.owed == 0 {
            let layout = &standing.layout;
            self.change_counts(&standing, |counts| {
                down(&mut counts.owed)?;
                count_clean(counts, shape, layout, blob, up)
            })?;
            self.delete(&owed_key);
        } else {
            self.write(&owed_key, &owed);
        }
        let segment = &mut standing.blob.segments[standing.shard.segment as usize];
        segment.owed = owed.owed;
        self.write(&RowKey::Blob(blob), &standing.blob);
        Ok(())
    }

    fn change_counts(
        &mut self,
        standing: &Standing,
        change: impl FnOnce(&mut VolumeCounts) -> Option<()>,
    ) -> Result<(), MachineError> {
        let key = RowKey::VolumeCounts(standing.shard.volume);
        let mut counts: VolumeCounts = self.require(&key)?;
        change(&mut counts).ok_or_else(|| below_zero("a volume's counts"))?;
        self.write(&key, &counts);
        Ok(())
    }
}
