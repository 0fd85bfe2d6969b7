//! What a read of an object needs.

use crate::ids::{BlobId, VolumeId};
use crate::keys::RowKey;
use crate::lookup;
use crate::machine::{MachineError, read, require};
use crate::query::{BlobView, ObjectView};
use crate::question;
use crate::rows::{BlobRow, VersionRow};
use crate::table::Rows;
use crate::topology::Volume;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The most blobs that are returned together with an object.
pub const OBJECT_BLOBS_MAX: usize = 100;
/// No further blob is added once the digests and inline bytes reach this many bytes.
const OBJECT_BLOBS_LEN: usize = 1 << 20;

pub(super) fn object(
    rows: &dyn Rows,
    asked: &question::Object,
) -> Result<Option<ObjectView>, MachineError> {
    let (bucket, key) = (asked.bucket, Cow::Borrowed(asked.key.as_slice()));
    let row: Option<VersionRow> = read(rows, &RowKey::Name { bucket, key })?;
    let wanted = |row: &VersionRow| {
        let meant = asked.version.is_none_or(|version| row.version == version);
        meant && !row.delete_marker
    };
    let Some(row) = row.filter(wanted) else {
        return Ok(None);
    };
    let blobs = if asked.with_blobs {
        first_blobs(rows, &row.blobs)?
    } else {
        Vec::new()
    };
    let named: BTreeSet<VolumeId> = blobs
        .iter()
        .flat_map(|view| &view.row.segments)
        .map(|segment| segment.volume)
        .collect();
    let named: Vec<VolumeId> = named.into_iter().collect();
    Ok(Some(ObjectView {
        volumes: volumes(rows, &named)?,
        row,
        blobs,
    }))
}

fn first_blobs(rows: &dyn Rows, blobs: &[BlobId]) -> Result<Vec<BlobView>, MachineError> {
    let mut views = Vec::new();
    let mut len = 0;
    for &blob in blobs.iter().take(OBJECT_BLOBS_MAX) {
        let row: BlobRow = require(rows, &RowKey::Blob(blob))?;
        let digests: usize = row.segments.iter().map(|s| s.digests.len()).sum();
        len += digests * size_of::<crate::rows::Digest>() + row.inline.len();
        views.push(BlobView { blob, row });
        if len >= OBJECT_BLOBS_LEN {
            break;
        }
    }
    Ok(views)
}

/// Returns those of `blobs` that exist.
pub(super) fn blobs(rows: &dyn Rows, blobs: &[BlobId]) -> Result<Vec<BlobView>, MachineError> {
    let mut views = Vec::new();
    for &blob in blobs {
        if let Some(row) = read::<BlobRow>(rows, &RowKey::Blob(blob))? {
            views.push(BlobView { blob, row });
        }
    }
    Ok(views)
}

/// Returns those of `volumes` that exist.
pub(super) fn volumes(rows: &dyn Rows, volumes: &[VolumeId]) -> Result<Vec<Volume>, MachineError> {
    let mut found = Vec::new();
    for &volume in volumes {
        found.extend(lookup::volume(rows, volume)?);
    }
    Ok(found)
}
