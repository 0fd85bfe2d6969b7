//! What a volume's slots should hold, so that disks can compare it with what they have.

use super::{misplaced, page_rows, parsed, values};
use crate::ids::{BlobId, DiskId};
use crate::keys::{self, RowKey, Table};
use crate::machine::{MachineError, page, require};
use crate::query::HeldSegment;
use crate::question;
use crate::rows::BlobRow;
use crate::shape::SegmentLayout;
use crate::table::Rows;
use crate::topology::Volume;

/// The volumes with a slot on a disk.
pub(super) fn disk_volumes(rows: &dyn Rows, disk: DiskId) -> Result<Vec<Volume>, MachineError> {
    let mut volumes = values::<Volume>(rows, Table::Volumes)?;
    volumes.retain(|volume| volume.slots.iter().any(|slot| slot.disk == disk));
    Ok(volumes)
}

/// A page of a volume's segments, by blob.
pub(super) fn held(
    rows: &dyn Rows,
    asked: question::Held,
) -> Result<Vec<HeldSegment>, MachineError> {
    let volume = asked.volume;
    let mut range = keys::volume_blobs(volume);
    if let Some((blob, segment)) = asked.after {
        let last = RowKey::VolumeBlob {
            volume,
            blob,
            segment,
        };
        range = range.after(last.encode());
    }
    let found = page::<()>(rows, &range, page_rows(asked.max))?;
    found
        .into_iter()
        .map(|(key, ())| match parsed(&key)? {
            RowKey::VolumeBlob { blob, segment, .. } => held_segment(rows, blob, segment),
            _ => Err(misplaced()),
        })
        .collect()
}

fn held_segment(rows: &dyn Rows, blob: BlobId, segment: u32) -> Result<HeldSegment, MachineError> {
    let row: BlobRow = require(rows, &RowKey::Blob(blob))?;
    let Some(found) = row.segments.get(segment as usize) else {
        let what = format!("{blob} is listed with a segment {segment} that it has not");
        return Err(MachineError::Contradiction(what));
    };
    let layout = SegmentLayout::new(row.shape, found.profile, blob, found.len);
    Ok(HeldSegment {
        blob,
        segment,
        slots: layout.slots_mask() & !found.owed,
    })
}
