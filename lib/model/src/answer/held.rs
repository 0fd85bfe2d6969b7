//! What a volume's slots should hold, so that disks can compare it with what they have.

use super::{misplaced, page_rows, parsed, values};
use crate::ids::{BlobId, DiskId, VolumeId};
use crate::keys::{self, RowKey, Table};
use crate::lookup::{self, DiskNodes};
use crate::machine::{MachineError, page, require};
use crate::query::HeldSegment;
use crate::question;
use crate::rows::{FiledRow, VolumeCounts, VolumeRow};
use crate::table::Rows;
use crate::topology::Volume;

/// The volumes with a slot on a disk.
pub(super) fn disk_volumes(rows: &dyn Rows, disk: DiskId) -> Result<Vec<Volume>, MachineError> {
    let mut nodes = DiskNodes::default();
    let mut found = Vec::new();
    for row in values::<VolumeRow>(rows, Table::Volumes)? {
        if row.slots.iter().any(|slot| slot.disk == disk) {
            let counts: VolumeCounts = require(rows, &RowKey::VolumeCounts(row.id))?;
            found.push(nodes.volume(rows, &row, &counts)?);
        }
    }
    Ok(found)
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
    let found = page::<FiledRow>(rows, &range, page_rows(asked.max))?;
    found
        .into_iter()
        .map(|(key, _)| match parsed(&key)? {
            RowKey::VolumeBlob { blob, segment, .. } => held_segment(rows, volume, blob, segment),
            _ => Err(misplaced()),
        })
        .collect()
}

fn held_segment(
    rows: &dyn Rows,
    volume: VolumeId,
    blob: BlobId,
    segment: u32,
) -> Result<HeldSegment, MachineError> {
    let Some(found) = lookup::segment(rows, volume, blob, segment)? else {
        let what = format!("{blob} is listed with a segment {segment} that it has not");
        return Err(MachineError::Contradiction(what));
    };
    Ok(HeldSegment {
        blob,
        segment,
        slots: found.layout.slots_mask() & !found.segment().owed,
    })
}
