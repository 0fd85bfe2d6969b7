//! The rotation of key-encryption keys (KEKs): which rows are sealed under one, and how far the
//! work is.
//!
//! A rotation makes a newer version, and everything that an older one has sealed is sealed again
//! under it, in steps. Three things together let the older one be deleted:
//! - **Fence**: from the entry that begins it, nothing is taken that an older version sealed.
//! - **Cursor**: rows are looked through in the order of their keys, when a step is applied. It
//!   moves past a row only if no older version seals that row, or counts the row as closed.
//! - **Grace**: a reader that has looked up a row before it was sealed again finds its key for a
//!   while.
//!
//! No row may move to a place behind the cursor without being sealed again. Nothing moves rows yet:
//! a version that becomes current again would.
//!
//! `docs/decisions/kek-rotation.md` says why it is done like this.

use crate::codec::{self, DecodeError};
use crate::ids::{BucketId, UploadId, VersionId};
use crate::keys::{self, KeyRange, RowKey, Table};
use crate::level::Level;
use crate::rows::{AccessKeyRow, BucketRow, Digest, UploadRow, VersionRow};
use crate::sealed::kek_version;
use serde::{Deserialize, Serialize};

/// The level from which on there are rotations: members of lower ones know neither the commands
/// nor the questions.
pub const LEVEL: Level = Level(2);
/// The most rows of one step.
pub const STEP_ROWS_MAX: usize = 256;
/// The most rows that are looked through for one step, whoever sealed them.
pub const STEP_SCAN_MAX: usize = 1_024;
/// The most bytes of rows that are looked through for one step, the last row left out.
pub const STEP_SCAN_BYTES: usize = 4 << 20;
/// The longest grace, in milliseconds: a day.
pub const GRACE_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// The grace that commands give if nobody says another: a minute.
pub const GRACE_MS: u64 = 60_000;

/// The tables whose rows a KEK seals, in the order of their keys.
const TABLES: [Table; 5] = [
    Table::Names,
    Table::Versions,
    Table::Uploads,
    Table::Buckets,
    Table::AccessKeys,
];

/// How far the rotation of KEKs is. The row stays when it is done: the fence is for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The version that seals everything from its beginning on.
    pub to: u32,
    /// When it began, in milliseconds since 1970.
    pub begun_ms: u64,
    /// For how long older versions stay when no row is sealed under them any more.
    pub grace_ms: u64,
    /// All rows up to this key have been passed; empty at the start. May hold an object's name.
    #[serde(with = "serde_bytes")]
    pub cursor: Vec<u8>,
    /// True once all rows have been passed.
    pub passed_all: bool,
    /// How many rows it has sealed again.
    pub resealed: u64,
    /// How many rows of objects, uploads and buckets an older version seals, and of access keys
    /// those that are closed. There is no count of the other access keys.
    pub left: u64,
    /// How many of them have been passed: they didn't open, so they can't be sealed again.
    pub closed: u64,
    /// Since when no row is sealed under an older version.
    pub clear_since_ms: Option<u64>,
    /// When the older versions were deleted.
    pub dropped_ms: Option<u64>,
}

impl Rotation {
    /// Returns whether a row of this key has been passed.
    #[must_use]
    pub fn has_passed(&self, row_key: &[u8]) -> bool {
        self.passed_all || row_key <= self.cursor.as_slice()
    }

    /// Returns from when on the older versions may be deleted, if they are there and not needed.
    #[must_use]
    pub fn may_drop_from_ms(&self) -> Option<u64> {
        let since = self.clear_since_ms.filter(|_| self.dropped_ms.is_none())?;
        Some(since.saturating_add(self.grace_ms))
    }
}

/// What a KEK seals of one row, with what it is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SealedRow {
    Version {
        bucket: BucketId,
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        version: VersionId,
        /// Plaintext bytes.
        size: u64,
        #[serde(with = "serde_bytes")]
        wrapped_key: Vec<u8>,
        #[serde(with = "serde_bytes")]
        sealed_listing: Vec<u8>,
    },
    Upload {
        bucket: BucketId,
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        upload: UploadId,
        #[serde(with = "serde_bytes")]
        wrapped_key: Vec<u8>,
    },
    Bucket {
        bucket: BucketId,
        name: String,
        #[serde(with = "serde_bytes")]
        sealed_owner: Vec<u8>,
    },
    AccessKey {
        access_key: String,
        #[serde(with = "serde_bytes")]
        sealed_credential: Vec<u8>,
    },
}

impl SealedRow {
    /// The sealed records, in the order in which a step names them.
    #[must_use]
    pub fn records(&self) -> Vec<&[u8]> {
        match self {
            Self::Version {
                wrapped_key,
                sealed_listing,
                ..
            } => vec![wrapped_key, sealed_listing],
            Self::Upload { wrapped_key, .. } => vec![wrapped_key],
            Self::Bucket { sealed_owner, .. } => vec![sealed_owner],
            Self::AccessKey {
                sealed_credential, ..
            } => vec![sealed_credential],
        }
    }

    /// Returns whether a version before `to` seals any of it.
    #[must_use]
    pub fn is_before(&self, to: u32) -> bool {
        any_before(&self.records(), to)
    }

    /// Returns the digest that shows that the row is still the one that was read.
    #[must_use]
    pub fn digest(&self) -> Digest {
        records_digest(&self.records())
    }
}

/// A row of a step: what it becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resealed {
    /// The row's key, encoded.
    #[serde(with = "serde_bytes")]
    pub row_key: Vec<u8>,
    /// [`SealedRow::digest`] of what was sealed again.
    pub was: Digest,
    /// The records sealed again, in the order of [`SealedRow::records`]; none if one of them does
    /// not open.
    pub records: Vec<Vec<u8>>,
}

/// Returns whether a version before `to` seals any of the records. A record that names no version
/// is sealed by none.
#[must_use]
pub fn any_before(records: &[&[u8]], to: u32) -> bool {
    let mut versions = records.iter().filter_map(|record| kek_version(record));
    versions.any(|version| version < to)
}

/// Returns the first 16 bytes of blake3 over the records, each behind its length.
#[must_use]
pub fn records_digest(records: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for record in records {
        hasher.update(&(record.len() as u64).to_be_bytes());
        hasher.update(record);
    }
    let mut digest = Digest::default();
    hasher.finalize_xof().fill(&mut digest);
    digest
}

/// Returns the ranges of rows that follow `cursor`, in the order of their keys.
#[must_use]
pub fn ranges_after(cursor: &[u8]) -> Vec<KeyRange> {
    let whole = TABLES.iter().map(|table| keys::table(*table));
    let rest = whole.map(|range| range.after(cursor.to_vec()));
    rest.filter(|range| range.from < range.to).collect()
}

/// Takes apart what is sealed of a row; None for a row of a table that no KEK seals.
///
/// # Errors
/// A row that does not decode.
pub fn sealed_row(key: &RowKey<'_>, value: &[u8]) -> Result<Option<SealedRow>, DecodeError> {
    Ok(Some(match key {
        RowKey::Name { bucket, key } | RowKey::Version { bucket, key, .. } => {
            let row: VersionRow = codec::decode(value)?;
            SealedRow::Version {
                bucket: *bucket,
                key: key.to_vec(),
                version: row.version,
                size: row.size,
                wrapped_key: row.wrapped_key,
                sealed_listing: row.sealed_listing,
            }
        }
        RowKey::Upload {
            bucket,
            key,
            upload,
        } => {
            let row: UploadRow = codec::decode(value)?;
            SealedRow::Upload {
                bucket: *bucket,
                key: key.to_vec(),
                upload: *upload,
                wrapped_key: row.wrapped_key,
            }
        }
        RowKey::Bucket(bucket) => {
            let row: BucketRow = codec::decode(value)?;
            SealedRow::Bucket {
                bucket: *bucket,
                name: row.name,
                sealed_owner: row.sealed_owner,
            }
        }
        RowKey::AccessKey(_) => {
            let row: AccessKeyRow = codec::decode(value)?;
            SealedRow::AccessKey {
                access_key: row.access_key,
                sealed_credential: row.sealed_credential,
            }
        }
        _ => return Ok(None),
    }))
}
