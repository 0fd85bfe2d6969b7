//! Answers to queries, and the rows that the planner starts from.
//!
//! Only reads. The cost of every answer is bounded by its page, [`Query::Data`] and [`topology`]
//! aside, which read the rows of volumes and of owed segments, never those of blobs.

mod data;
mod fold;
mod held;
mod list;
mod objects;
mod owners;
#[cfg(test)]
mod tests;

use crate::ids::{ClusterId, DiskId, UploadId, VolumeId};
use crate::keys::{self, Meta, RowKey, Table};
use crate::machine::{MachineError, page, read, require};
use crate::query::{PAGE_ROWS_MAX, Query, Reply};
use crate::rows::{Counters, KekRow, PartRow};
use crate::shard::ShardId;
use crate::table::Rows;
use crate::topology::{Lease, Node, Volume};
use std::borrow::Cow;

pub use fold::folded;
pub use objects::OBJECT_BLOBS_MAX;

/// Answers one query from rows at one point of the log. Pages asked for larger than
/// [`PAGE_ROWS_MAX`] are cut to it.
pub fn answer(rows: &dyn Rows, query: &Query) -> Result<Reply, MachineError> {
    Ok(match query {
        Query::Bucket { name } => Reply::Bucket(owners::bucket(rows, name)?),
        Query::Buckets {
            account,
            after,
            max,
        } => Reply::Buckets(owners::buckets(rows, *account, after, page_rows(*max))?),
        Query::Object {
            bucket,
            key,
            version,
            with_blobs,
        } => {
            let view = objects::object(rows, *bucket, key, *version, *with_blobs)?;
            Reply::Object(view.map(Box::new))
        }
        Query::Blobs { blobs } => {
            Reply::Blobs(objects::blobs(rows, &blobs[..bounded(blobs.len())])?)
        }
        Query::List(list) => Reply::Listing(list::list(rows, list)?),
        Query::Upload {
            bucket,
            key,
            upload,
        } => Reply::Upload(read(
            rows,
            &RowKey::Upload {
                bucket: *bucket,
                key: Cow::Borrowed(key),
                upload: *upload,
            },
        )?),
        Query::Uploads {
            bucket,
            prefix,
            delimiter,
            after,
            max,
        } => Reply::Uploads(list::uploads(
            rows,
            *bucket,
            prefix,
            delimiter,
            after.as_ref(),
            page_rows(*max),
        )?),
        Query::Parts { upload, after, max } => parts(rows, *upload, *after, page_rows(*max))?,
        Query::AccessKey { access_key } => Reply::AccessKey(owners::access_key(rows, access_key)?),
        Query::Accounts { after, max } => {
            Reply::Accounts(owners::accounts(rows, after, page_rows(*max))?)
        }
        Query::AccessKeys {
            account,
            after,
            max,
        } => Reply::AccessKeys(owners::access_keys(rows, *account, after, page_rows(*max))?),
        Query::Keks => Reply::Keks(values::<KekRow>(rows, Table::Keks)?),
        Query::Volumes { volumes } => {
            Reply::Volumes(objects::volumes(rows, &volumes[..bounded(volumes.len())])?)
        }
        Query::Counters { bucket } => {
            let counters: Option<Counters> = read(rows, &RowKey::BucketCounters(*bucket))?;
            Reply::Counters(counters.unwrap_or_default())
        }
        Query::Deletes { disk, max } => Reply::Deletes(deletes(rows, *disk, page_rows(*max))?),
        Query::Data => Reply::Data(Box::new(data::data(rows)?)),
        Query::DiskVolumes { disk } => Reply::Volumes(held::disk_volumes(rows, *disk)?),
        Query::Held { volume, after, max } => {
            Reply::Held(held::held(rows, *volume, *after, page_rows(*max))?)
        }
    })
}

/// The rows of a page, at most [`PAGE_ROWS_MAX`].
fn page_rows(max: u32) -> usize {
    max.min(PAGE_ROWS_MAX) as usize
}

fn bounded(asked: usize) -> usize {
    asked.min(PAGE_ROWS_MAX as usize)
}

/// All rows of a small table.
fn values<T: serde::de::DeserializeOwned>(
    rows: &dyn Rows,
    table: Table,
) -> Result<Vec<T>, MachineError> {
    let all = page::<T>(rows, &keys::table(table), usize::MAX)?;
    Ok(all.into_iter().map(|(_, row)| row).collect())
}

/// Takes a key apart that a scan found; a malformed one is damage.
fn parsed(key: &[u8]) -> Result<RowKey<'_>, MachineError> {
    RowKey::decode(key).map_err(|error| MachineError::Contradiction(error.to_string()))
}

/// The error for a key in a table where it can't be.
fn misplaced() -> MachineError {
    MachineError::Contradiction("a key is in another table than its own".into())
}

fn parts(rows: &dyn Rows, upload: UploadId, after: u32, max: usize) -> Result<Reply, MachineError> {
    let part = after;
    let range = keys::parts(upload).after(RowKey::Part { upload, part }.encode());
    let mut found = page::<PartRow>(rows, &range, max.saturating_add(1))?;
    let truncated = found.len() > max;
    found.truncate(max);
    let parts = found
        .into_iter()
        .map(|(key, row)| match parsed(&key)? {
            RowKey::Part { part, .. } => Ok((part, row)),
            _ => Err(misplaced()),
        })
        .collect::<Result<_, _>>()?;
    Ok(Reply::Parts { parts, truncated })
}

fn deletes(rows: &dyn Rows, disk: DiskId, max: usize) -> Result<Vec<(u64, ShardId)>, MachineError> {
    page::<ShardId>(rows, &keys::deletes(disk), max)?
        .into_iter()
        .map(|(key, row)| match parsed(&key)? {
            RowKey::Delete { sequence, .. } => Ok((sequence, row)),
            _ => Err(misplaced()),
        })
        .collect()
}

/// The few rows that describe the cluster itself; cheap to read whole.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Topology {
    /// The cluster, once it is named.
    pub cluster: Option<ClusterId>,
    /// Every registered node, by number.
    pub nodes: Vec<Node>,
    /// Volumes that take blobs (closed ones are left out), by number.
    pub open_volumes: Vec<Volume>,
    /// The number that the next volume will get.
    pub next_volume: VolumeId,
    /// Leases not yet closed, by number.
    pub leases: Vec<Lease>,
}

/// Reads the topology.
pub fn topology(rows: &dyn Rows) -> Result<Topology, MachineError> {
    let open = page::<()>(rows, &keys::table(Table::OpenVolumes), usize::MAX)?;
    let open_volumes = open
        .iter()
        .map(|(key, ())| match parsed(key)? {
            RowKey::OpenVolume(volume) => require(rows, &RowKey::Volume(volume)),
            _ => Err(misplaced()),
        })
        .collect::<Result<_, _>>()?;
    let next: Option<VolumeId> = read(rows, &RowKey::Meta(Meta::NextVolume))?;
    Ok(Topology {
        cluster: read(rows, &RowKey::Meta(Meta::Cluster))?,
        nodes: values(rows, Table::Nodes)?,
        open_volumes,
        next_volume: next.unwrap_or(VolumeId(1)),
        leases: values(rows, Table::Leases)?,
    })
}
