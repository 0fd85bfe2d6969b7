//! Shards found missing or damaged, and deletes that disks have done.

use super::context::{Machine, Step, malformed};
use super::counters::{below_zero, down, up};
use super::segments::count_clean;
use super::{MachineError, OWED_MARKS_MAX};
use crate::command::Outcome;
use crate::ids::{DiskId, NodeId};
use crate::keys::{self, RowKey};
use crate::rows::{BlobRow, DiskRow, OwedRow, VolumeCounts};
use crate::shape::SegmentLayout;
use crate::shard::ShardKey;
use crate::table::Rows;

impl Machine<'_, '_> {
    /// Records missing shards. Skips a blob that has been deleted in the meantime; refuses the
    /// command if a name can't hold a shard.
    pub(super) fn mark_owed(&mut self, shards: &[ShardKey], damaged: bool) -> Step<Outcome> {
        if shards.len() > OWED_MARKS_MAX {
            return malformed(format!("{} shards at once", shards.len()));
        }
        for shard in shards {
            if let Some(row) = self.read::<BlobRow>(&RowKey::Blob(shard.blob))? {
                self.mark_shard(row, shard, damaged)?;
            }
        }
        Ok(Outcome::Done)
    }

    fn mark_shard(&mut self, mut row: BlobRow, shard: &ShardKey, damaged: bool) -> Step<()> {
        let shape = row.shape;
        let Some(segment) = row.segments.get_mut(shard.segment as usize) else {
            return malformed(format!("{} has no segment {}", shard.blob, shard.segment));
        };
        let layout = SegmentLayout::new(shape, segment.profile, shard.blob, segment.len);
        let bit = 1_u32.checked_shl(shard.slot.into()).unwrap_or(0);
        if bit & layout.slots_mask() == 0 {
            return malformed(format!(
                "slot {} holds no shard of {}",
                shard.slot, shard.blob
            ));
        }
        let volume = segment.volume;
        let owed_key = RowKey::Owed {
            volume,
            blob: shard.blob,
            segment: shard.segment,
        };
        let mut owed = match self.read::<OwedRow>(&owed_key)? {
            Some(owed) => owed,
            None => {
                let counts_key = RowKey::VolumeCounts(volume);
                let mut counts: VolumeCounts = self.require(&counts_key)?;
                count_clean(&mut counts, shape, &layout, shard.blob, down)
                    .and_then(|()| up(&mut counts.owed))
                    .ok_or_else(|| below_zero("a volume's counts"))?;
                self.write(&counts_key, &counts);
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
        if segment.owed != owed.owed {
            segment.owed = owed.owed;
            self.write(&RowKey::Blob(shard.blob), &row);
        }
        Ok(())
    }

    /// Takes finished deletes off a disk's queue; skips those that were taken off before.
    pub(super) fn ack_deletes(
        &mut self,
        node: NodeId,
        disk: DiskId,
        through: u64,
    ) -> Step<Outcome> {
        // If another node emptied the queue, the shards on this disk would stay for good.
        let row: Option<DiskRow> = self.read(&RowKey::Disk(disk))?;
        if row.is_none_or(|row| row.node != Some(node)) {
            return malformed(format!("disk {disk} is not served by {node}"));
        }
        let mut range = keys::deletes(disk);
        if let Some(next) = through.checked_add(1) {
            let sequence = next;
            range.to = RowKey::Delete { disk, sequence }.encode();
        }
        let mut done = Vec::new();
        self.rows
            .scan(&range.from, &range.to, &mut |key, _| {
                done.push(key.to_vec());
                true
            })
            .map_err(MachineError::from)?;
        let count = done.len() as u64;
        for key in done {
            self.rows.delete(key);
        }
        if count > 0 {
            self.change_totals(|totals| {
                totals.deletes_pending = totals.deletes_pending.checked_sub(count)?;
                Some(())
            })?;
        }
        Ok(Outcome::Done)
    }
}
