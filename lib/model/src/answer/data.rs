//! The data's standing: exact, from the rows of volumes and of owed segments alone.

use super::{misplaced, parsed, values};
use crate::ids::VolumeId;
use crate::keys::{self, Meta, RowKey, Table};
use crate::lookup::DiskNodes;
use crate::machine::{MachineError, decode_row, read, require};
use crate::query::{DataStatus, VolumeStatus};
use crate::rows::{OwedRow, Totals, VolumeCounts, VolumeRow};
use crate::shape::Shape;
use crate::table::Rows;
use std::collections::BTreeMap;

/// What makes owed segments alike: shape, first copy's slot or filled columns, owed mask.
type Alike = (Shape, u8, u32);

pub(super) fn data(rows: &dyn Rows) -> Result<DataStatus, MachineError> {
    let totals: Totals = read(rows, &RowKey::Meta(Meta::Totals))?.unwrap_or_default();
    let mut status = DataStatus {
        counters: totals.counters,
        buckets: totals.buckets,
        inline_blobs: totals.inline_blobs,
        deletes_pending: totals.deletes_pending,
        restored: read::<()>(rows, &RowKey::Meta(Meta::Restored))?.is_some(),
        ..DataStatus::default()
    };
    let mut nodes = DiskNodes::default();
    for row in values::<VolumeRow>(rows, Table::Volumes)? {
        let counts: VolumeCounts = require(rows, &RowKey::VolumeCounts(row.id))?;
        let volume = nodes.volume(rows, &row, &counts)?;
        let mut alike: BTreeMap<Alike, u64> = BTreeMap::new();
        scan_owed(rows, volume.id, &mut |blob, owed| {
            let kind = match owed.shape {
                Shape::Copies => (blob % volume.profile.shards() as u64) as u8,
                Shape::Coded | Shape::Inline => owed.columns,
            };
            *alike.entry((owed.shape, kind, owed.owed)).or_default() += 1;
            status.owed_segments += 1;
            status.damaged_shards += u64::from(owed.damaged.count_ones());
        })?;
        status.volumes.push(VolumeStatus {
            volume,
            counts,
            owed: alike
                .into_iter()
                .map(|((shape, kind, owed), count)| (shape, kind, owed, count))
                .collect(),
        });
    }
    Ok(status)
}

fn scan_owed(
    rows: &dyn Rows,
    volume: VolumeId,
    visit: &mut dyn FnMut(u64, &OwedRow),
) -> Result<(), MachineError> {
    let range = keys::owed(volume);
    let mut failed = None;
    rows.scan(&range.from, &range.to, &mut |key, value| {
        let row = decode_row::<OwedRow>(key, value);
        match (parsed(key), row) {
            (Ok(RowKey::Owed { blob, .. }), Ok(row)) => visit(blob.0, &row),
            (Ok(_), Ok(_)) => failed = Some(misplaced()),
            (Err(error), _) | (_, Err(error)) => failed = Some(error),
        }
        failed.is_none()
    })?;
    failed.map_or(Ok(()), Err)
}
