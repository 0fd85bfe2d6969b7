//! Segments: which slots hold them, how they are counted, which shards are owed.

use super::MachineError;
use super::context::{Machine, Step, malformed};
use super::counters::{below_zero, down, up};
use crate::command::{NewBlob, NewSegment, Refusal};
use crate::ids::{BlobId, DiskId, Epoch};
use crate::keys::RowKey;
use crate::profile::Profile;
use crate::rows::{DeleteRow, DiskRow, FiledRow, OwedRow, SegmentRow, VolumeCounts, VolumeRow};
use crate::shape::{CELL_LEN, SEGMENT_LEN_MAX, SegmentLayout, Shape};
use crate::shard::ShardId;
use crate::sum::ShardSum;

/// Counts a segment without owed shards up or down; None if the counts can't be right.
pub(super) fn count_clean(
    counts: &mut VolumeCounts,
    shape: Shape,
    layout: &SegmentLayout,
    blob: BlobId,
    step: fn(&mut u64) -> Option<()>,
) -> Option<()> {
    match shape {
        Shape::Inline => None,
        Shape::Copies => {
            let first = blob.0 % layout.profile().shards() as u64;
            step(counts.copies.get_mut(usize::try_from(first).ok()?)?)
        }
        Shape::Coded => {
            step(&mut counts.coded)?;
            let columns = layout.filled_columns();
            if columns < layout.profile().data() {
                step(counts.short.get_mut(columns.checked_sub(1)?)?)?;
            }
            Some(())
        }
    }
}

/// Adds the shards of `slots` (bits) to their slots' sums, or takes them off; None if that can't be
/// right. Whoever changes which shards a segment owes changes the sums here, too.
pub(super) fn sum_shards(
    counts: &mut VolumeCounts,
    place: SegmentPlace<'_>,
    slots: u32,
    step: fn(ShardSum, ShardSum) -> Option<ShardSum>,
) -> Option<()> {
    let SegmentPlace {
        filed,
        number,
        shape,
        segment,
        layout,
    } = place;
    for slot in layout.slots().filter(|slot| slots >> slot & 1 == 1) {
        let digest = segment.digest(shape, slot)?;
        let shard = ShardSum::of(filed, number, layout.shard_len(slot), digest);
        let sum = counts.sums.get_mut(slot)?;
        *sum = step(*sum, shard)?;
    }
    Some(())
}

/// A segment with its name in its volume.
#[derive(Clone, Copy)]
pub(super) struct SegmentPlace<'a> {
    /// The id under which its shards are filed.
    pub(super) filed: BlobId,
    pub(super) number: u32,
    pub(super) shape: Shape,
    pub(super) segment: &'a SegmentRow,
    pub(super) layout: &'a SegmentLayout,
}

impl Machine<'_, '_> {
    /// Checks one segment of a new blob against its volume and adds it.
    pub(super) fn add_segment(
        &mut self,
        new: &NewBlob,
        number: u32,
        segment: &NewSegment,
        last: bool,
    ) -> Step<SegmentRow> {
        let volume_key = RowKey::Volume(segment.volume);
        let stale = Refusal::StaleVolume {
            volume: segment.volume,
            epoch: segment.epoch,
        };
        let volume = match self.read_kept::<VolumeRow>(&volume_key)? {
            Some(volume) if is_as_written(&volume, segment.epoch) => volume,
            Some(_) | None => return Err(stale.into()),
        };
        check_segment(new.shape, volume.profile, segment, last)?;
        let layout = SegmentLayout::new(new.shape, volume.profile, new.blob, segment.len);
        check_receipts(&layout, segment.owed)?;
        self.write(
            &RowKey::VolumeBlob {
                volume: volume.id,
                blob: new.blob,
                segment: number,
            },
            &FiledRow { owner: None },
        );
        let row = SegmentRow {
            volume: volume.id,
            profile: volume.profile,
            len: segment.len,
            digests: segment.digests.clone(),
            owed: segment.owed,
            filed: None,
        };
        let place = SegmentPlace {
            filed: new.blob,
            number,
            shape: new.shape,
            segment: &row,
            layout: &layout,
        };
        let counts_key = RowKey::VolumeCounts(volume.id);
        let mut counts: VolumeCounts = self.require(&counts_key)?;
        let Some(bytes) = counts.bytes.checked_add(segment.len) else {
            return malformed("the volume's bytes would overflow");
        };
        counts.bytes = bytes;
        sum_shards(&mut counts, place, !segment.owed, ShardSum::plus)
            .ok_or_else(|| below_zero("a slot's sum"))?;
        if segment.owed == 0 {
            count_clean(&mut counts, new.shape, &layout, new.blob, up)
        } else {
            self.write(
                &RowKey::Owed {
                    volume: volume.id,
                    blob: new.blob,
                    segment: number,
                },
                &OwedRow {
                    shape: new.shape,
                    columns: layout.filled_columns() as u8,
                    owed: segment.owed,
                    damaged: 0,
                    since_ms: self.now_ms,
                },
            );
            up(&mut counts.owed)
        }
        .ok_or_else(|| below_zero("a volume's counts"))?;
        self.write(&counts_key, &counts);
        Ok(row)
    }

    /// Removes a segment from its volume and queues the deletes of its shards. That includes owed
    /// ones: a shard that arrived late may lie there without a receipt.
    pub(super) fn drop_segment(
        &mut self,
        blob: BlobId,
        shape: Shape,
        number: u32,
        segment: &SegmentRow,
    ) -> Result<(), MachineError> {
        let volume: VolumeRow = self.require(&RowKey::Volume(segment.volume))?;
        let filed = segment.filed(blob);
        self.delete(&RowKey::VolumeBlob {
            volume: volume.id,
            blob: filed,
            segment: number,
        });
        let layout = SegmentLayout::new(shape, segment.profile, filed, segment.len);
        let place = SegmentPlace {
            filed,
            number,
            shape,
            segment,
            layout: &layout,
        };
        let counts_key = RowKey::VolumeCounts(volume.id);
        let mut counts: VolumeCounts = self.require(&counts_key)?;
        counts.bytes = counts
            .bytes
            .checked_sub(segment.len)
            .ok_or_else(|| below_zero("a volume's bytes"))?;
        sum_shards(&mut counts, place, !segment.owed, ShardSum::minus)
            .ok_or_else(|| below_zero("a slot's sum"))?;
        if segment.owed == 0 {
            count_clean(&mut counts, shape, &layout, filed, down)
        } else {
            self.delete(&RowKey::Owed {
                volume: volume.id,
                blob: filed,
                segment: number,
            });
            down(&mut counts.owed)
        }
        .ok_or_else(|| below_zero("a volume's counts"))?;
        self.write(&counts_key, &counts);
        for slot in layout.slots() {
            let place = volume.slots.get(slot).ok_or_else(|| {
                MachineError::Contradiction(format!("{} has no slot {slot}", volume.id))
            })?;
            let row = ShardId {
                volume: volume.id,
                blob: filed,
                segment: number,
                slot: slot as u8,
            };
            self.queue_delete(place.disk, &row)?;
        }
        Ok(())
    }

    pub(super) fn queue_delete(
        &mut self,
        disk: DiskId,
        delete: &ShardId,
    ) -> Result<(), MachineError> {
        let key = RowKey::Disk(disk);
        let mut row: DiskRow = self.require(&key)?;
        row.last_delete += 1;
        self.write(&key, &row);
        let sequence = row.last_delete;
        let row = DeleteRow {
            shard: *delete,
            index: self.index,
            queued_ms: self.now_ms,
        };
        self.write(&RowKey::Delete { disk, sequence }, &row);
        self.change_totals(|totals| up(&mut totals.deletes_pending))
    }
}

/// Returns true if the volume's slots are those that a segment of `epoch` was written to.
///
/// A volume that has been closed since then still has the same slots. It takes no further write,
/// but earlier writes count; otherwise a long body would fail whenever its volume fills up
/// meanwhile.
fn is_as_written(volume: &VolumeRow, epoch: Epoch) -> bool {
    epoch <= volume.open_until && volume.slots.iter().all(|slot| slot.since <= epoch)
}

/// Checks a segment's length and digests.
///
/// Every segment but the last ends with a whole cell. It may be shorter than a full segment: a
/// gateway that loses a volume in the middle of a blob ends the segment and goes on elsewhere.
fn check_segment(shape: Shape, profile: Profile, segment: &NewSegment, last: bool) -> Step<()> {
    if segment.len == 0 || segment.len > SEGMENT_LEN_MAX {
        return malformed("a segment is empty or longer than a segment may be");
    }
    if !last && !segment.len.is_multiple_of(CELL_LEN) {
        return malformed("a segment before the last doesn't end with a whole cell");
    }
    let digests = match shape {
        Shape::Inline => 0,
        Shape::Copies => 1,
        Shape::Coded => profile.shards(),
    };
    if segment.digests.len() != digests {
        return malformed(format!(
            "{} digests where {digests} belong",
            segment.digests.len()
        ));
    }
    Ok(())
}

fn check_receipts(layout: &SegmentLayout, owed: u32) -> Step<()> {
    let holders = layout.slots_mask();
    if owed & !holders != 0 {
        return malformed("a shard is owed by a slot that holds none");
    }
    let receipts = (holders & !owed).count_ones() as usize;
    if receipts < layout.write_quorum() {
        return malformed(format!(
            "{receipts} receipts where {} are needed",
            layout.write_quorum()
        ));
    }
    Ok(())
}
