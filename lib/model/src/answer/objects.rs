//! What a read of an object needs.

use crate::ids::{BlobId, VolumeId};
use crate::keys::RowKey;
use crate::machine::{MachineError, read, require};
use crate::query::{BlobView, ObjectView};
use crate::question;
use crate::rows::{BlobRow, NameRow, VersionRow};
use crate::shape::Shape;
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
    let row = match asked.version {
        Some(version) => {
            let row: Option<VersionRow> = read(
                rows,
                &RowKey::Version {
                    bucket,
                    key,
                    version,
                },
            )?;
            row.map(|row| (version, row))
        }
        None => {
            let name_key = RowKey::Name {
                bucket,
                key: key.clone(),
            };
            match read::<NameRow>(rows, &name_key)? {
                Some(name) => {
                    let version = name.version;
                    let version_key = RowKey::Version {
                        bucket,
                        key,
                        version,
                    };
                    Some((version, require(rows, &version_key)?))
                }
                None => None,
            }
        }
    };
    let Some((version, row)) = row.filter(|(_, row)| !row.delete_marker) else {
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
        version,
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
        let view = view(rows, blob, row)?;
        let digests: usize = view.row.segments.iter().map(|s| s.digests.len()).sum();
        len += digests * size_of::<crate::rows::Digest>() + view.inline.len();
        views.push(view);
        if len >= OBJECT_BLOBS_LEN {
            break;
        }
    }
    Ok(views)
}

fn view(rows: &dyn Rows, blob: BlobId, row: BlobRow) -> Result<BlobView, MachineError> {
    let inline = match row.shape {
        Shape::Inline => require(rows, &RowKey::Inline(blob))?,
        Shape::Copies | Shape::Coded => Vec::new(),
    };
    Ok(BlobView { blob, row, inline })
}

/// Returns those of `blobs` that exist.
pub(super) fn blobs(rows: &dyn Rows, blobs: &[BlobId]) -> Result<Vec<BlobView>, MachineError> {
    let mut views = Vec::new();
    for &blob in blobs {
        if let Some(row) = read::<BlobRow>(rows, &RowKey::Blob(blob))? {
            views.push(view(rows, blob, row)?);
        }
    }
    Ok(views)
}

/// Returns those of `volumes` that exist.
pub(super) fn volumes(rows: &dyn Rows, volumes: &[VolumeId]) -> Result<Vec<Volume>, MachineError> {
    let mut found = Vec::new();
    for &volume in volumes {
        found.extend(read::<Volume>(rows, &RowKey::Volume(volume))?);
    }
    Ok(found)
}
