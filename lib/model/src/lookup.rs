//! Finds what several rows say together: a volume with its nodes, a segment by the id that it is
//! filed under.

use crate::ids::{BlobId, DiskId, NodeId, VolumeId};
use crate::keys::RowKey;
use crate::machine::{MachineError, read, require};
use crate::rows::{BlobRow, DiskRow, FiledRow, SegmentRow, VolumeCounts, VolumeRow};
use crate::shape::SegmentLayout;
use crate::table::Rows;
use crate::topology::{Slot, Volume};
use std::collections::BTreeMap;

/// Disks' nodes, read once each.
#[derive(Default)]
pub(crate) struct DiskNodes(BTreeMap<DiskId, NodeId>);

impl DiskNodes {
    fn of(&mut self, rows: &dyn Rows, disk: DiskId) -> Result<NodeId, MachineError> {
        if let Some(node) = self.0.get(&disk) {
            return Ok(*node);
        }
        let row: DiskRow = require(rows, &RowKey::Disk(disk))?;
        self.0.insert(disk, row.node);
        Ok(row.node)
    }

    /// Completes a volume's row with its disks' nodes and its bytes.
    pub(crate) fn volume(
        &mut self,
        rows: &dyn Rows,
        row: &VolumeRow,
        counts: &VolumeCounts,
    ) -> Result<Volume, MachineError> {
        let mut slots = Vec::with_capacity(row.slots.len());
        for slot in &row.slots {
            let (node, disk) = (self.of(rows, slot.disk)?, slot.disk);
            slots.push(Slot { node, disk });
        }
        Ok(Volume {
            id: row.id,
            profile: row.profile,
            epoch: row.epoch,
            state: row.state(),
            domain: row.domain,
            slots,
            bytes: counts.bytes,
            shrunk: row.shrunk,
        })
    }
}

/// Returns a volume with its nodes and bytes, if it is there.
pub(crate) fn volume(rows: &dyn Rows, id: VolumeId) -> Result<Option<Volume>, MachineError> {
    let Some(row) = read::<VolumeRow>(rows, &RowKey::Volume(id))? else {
        return Ok(None);
    };
    let counts = require(rows, &RowKey::VolumeCounts(id))?;
    DiskNodes::default().volume(rows, &row, &counts).map(Some)
}

/// A segment, found by the id under which a volume files it.
pub(crate) struct FoundSegment {
    /// The blob that it is a segment of.
    pub(crate) owner: BlobId,
    pub(crate) blob: BlobRow,
    number: usize,
    pub(crate) layout: SegmentLayout,
}

impl FoundSegment {
    pub(crate) fn segment(&self) -> &SegmentRow {
        &self.blob.segments[self.number]
    }

    pub(crate) fn segment_mut(&mut self) -> &mut SegmentRow {
        &mut self.blob.segments[self.number]
    }
}

/// Finds a segment that `volume` files under `filed`; None if no blob's row names it.
pub(crate) fn segment(
    rows: &dyn Rows,
    volume: VolumeId,
    filed: BlobId,
    segment: u32,
) -> Result<Option<FoundSegment>, MachineError> {
    let key = RowKey::VolumeBlob {
        volume,
        blob: filed,
        segment,
    };
    let Some(place) = read::<FiledRow>(rows, &key)? else {
        return Ok(None);
    };
    let owner = place.owner.unwrap_or(filed);
    let blob: BlobRow = require(rows, &RowKey::Blob(owner))?;
    let number = segment as usize;
    let Some(found) = blob.segments.get(number) else {
        return Ok(None);
    };
    if found.volume != volume || found.filed(owner) != filed {
        let what = format!("{volume} files a segment of {owner} that is elsewhere");
        return Err(MachineError::Contradiction(what));
    }
    let layout = SegmentLayout::new(blob.shape, found.profile, filed, found.len);
    Ok(Some(FoundSegment {
        owner,
        blob,
        number,
        layout,
    }))
}
