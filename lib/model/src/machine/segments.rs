//! Segments: which slots hold them, how they are counted, which shards are owed.

use super::MachineError;
use super::context::{Machine, Step, malformed};
use super::counters::{below_zero, down, up};
use crate::command::{NewBlob, NewSegment, Refusal};
use crate::ids::{BlobId, DiskId, Epoch};
use crate::keys::RowKey;
use crate::profile::Profile;
use crate::rows::{DiskRow, OwedRow, SegmentRow, VolumeCounts};
use crate::shape::{CELL_LEN, SEGMENT_LEN_MAX, SegmentLayout, Shape};
use crate::shard::ShardId;
use crate::topology::{Volume, VolumeState};

/// Returns the counts of an empty volume.
pub(super) fn empty_counts(profile: Profile) -> VolumeCounts {
    VolumeCounts {
        coded: 0,
        short: vec![0; profile.data() - 1],
        copies: vec![0; profile.shards()],
        owed: 0,
    }
}

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
        let mut volume: Volume = match self.read::<Volume>(&volume_key)? {
            Some(volume) if is_as_written(&volume, segment.epoch) => volume,
            Some(_) | None => return Err(stale.into()),
        };
        check_segment(new.shape, volume.profile, segment, last)?;
        let layout = SegmentLayout::new(new.shape, volume.profile, new.blob, segment.len);
        check_receipts(&layout, segment.owed)?;

        let Some(bytes) = volume.bytes.checked_add(segment.len) else {
            return malformed("the volume's bytes would overflow");
        };
        volume.bytes = bytes;
        self.write(&volume_key, &volume);
        self.write(
            &RowKey::VolumeBlob {
                volume: volume.id,
                blob: new.blob,
                segment: number,
            },
            &(),
        );
        let counts_key = RowKey::VolumeCounts(volume.id);
        let mut counts: VolumeCounts = self.require(&counts_key)?;
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
        Ok(SegmentRow {
            volume: volume.id,
            profile: volume.profile,
            len: segment.len,
            digests: segment.digests.clone(),
            owed: segment.owed,
        })
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
        let volume_key = RowKey::Volume(segment.volume);
        let mut volume: Volume = self.require(&volume_key)?;
        volume.bytes = volume
            .bytes
            .checked_sub(segment.len)
            .ok_or_else(|| below_zero("a volume's bytes"))?;
        self.write(&volume_key, &volume);
        self.delete(&RowKey::VolumeBlob {
            volume: volume.id,
            blob,
            segment: number,
        });
        let layout = SegmentLayout::new(shape, segment.profile, blob, segment.len);
        let counts_key = RowKey::VolumeCounts(volume.id);
        let mut counts: VolumeCounts = self.require(&counts_key)?;
        if segment.owed == 0 {
            count_clean(&mut counts, shape, &layout, blob, down)
        } else {
            self.delete(&RowKey::Owed {
                volume: volume.id,
                blob,
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
                blob,
                segment: number,
                slot: slot as u8,
            };
            self.queue_delete(place.disk, &row)?;
        }
        Ok(())
    }

    fn queue_delete(&mut self, disk: DiskId, delete: &ShardId) -> Result<(), MachineError> {
        let key = RowKey::Disk(disk);
        let mut row: DiskRow = self.require(&key)?;
        row.last_delete += 1;
        self.write(&key, &row);
        let sequence = row.last_delete;
        self.write(&RowKey::Delete { disk, sequence }, delete);
        self.change_totals(|totals| up(&mut totals.deletes_pending))
    }
}

/// Returns true if the volume's slots are those that a segment of `epoch` was written to.
///
/// A volume that has been closed since then still has the same slots. It takes no further write,
/// but earlier writes count; otherwise a long body would fail whenever its volume fills up
/// meanwhile.
fn is_as_written(volume: &Volume, epoch: Epoch) -> bool {
    match volume.state {
        VolumeState::Open => volume.epoch == epoch,
        // The epoch comes from a gateway: no arithmetic on it.
        VolumeState::Closed => volume.epoch.0.checked_sub(1) == Some(epoch.0),
    }
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
