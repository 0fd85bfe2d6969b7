//! Answers to queries, and the rows that the planner starts from.
//!
//! Only reads. The cost of every answer is bounded by its page. Only [`Query::Data`] and
//! [`topology`] cost more: they read the rows of volumes and of owed segments, never those of
//! blobs.

mod concerns;
mod data;
mod doubts;
mod fold;
mod held;
mod list;
mod objects;
mod owners;
#[cfg(test)]
pub(crate) mod tests;
mod witnesses;

use crate::denied::DenyList;
use crate::freeing::Freeing;
use crate::ids::{ClusterId, NodeId, UploadId, VolumeId};
use crate::keys::{self, Meta, RowKey, Table};
use crate::lookup;
use crate::machine::{EXPIRED_MAX, MachineError, decode_row, look_through, page, read};
use crate::query::{PAGE_ROWS_MAX, PartPage, Query, Reply, ResealPage};
use crate::question;
use crate::rotation::Rotation;
use crate::rows::{
    Counters, DeleteRow, DiskRow, DoomedQueue, KekRow, PartRow, UploadRow, UploadTarget,
};
use crate::settings::Settings;
use crate::shard::ShardId;
use crate::table::Rows;
use crate::topology::{Lease, Node, Volume};
use std::borrow::Cow;

pub use concerns::concerns;
pub use fold::folded;
pub use objects::OBJECT_BLOBS_MAX;

/// Answers one query from rows at one point of the log. A page size above [`PAGE_ROWS_MAX`] is cut
/// to it. `freeing` is what a leader knows that has heard all gateways: without it no delete is
/// given out.
pub fn answer(
    rows: &dyn Rows,
    query: &Query,
    freeing: Option<&Freeing>,
) -> Result<Reply, MachineError> {
    Ok(match query {
        Query::Bucket(asked) => Reply::Bucket(owners::bucket(rows, &asked.name)?),
        Query::Buckets(asked) => Reply::Buckets(owners::buckets(rows, asked)?),
        Query::Object(asked) => Reply::Object(objects::object(rows, asked)?.map(Box::new)),
        Query::Blobs(question::Blobs { blobs }) => {
            Reply::Blobs(objects::blobs(rows, &blobs[..bounded(blobs.len())])?)
        }
        Query::List(asked) => Reply::Listing(list::list(rows, asked)?),
        Query::Upload(asked) => Reply::Upload(upload(rows, asked)?),
        Query::Uploads(asked) => Reply::Uploads(list::uploads(rows, asked)?),
        Query::Parts(asked) => Reply::Parts(parts(rows, asked)?),
        Query::AccessKey(asked) => Reply::AccessKey(owners::access_key(rows, &asked.access_key)?),
        Query::Accounts(asked) => Reply::Accounts(owners::accounts(rows, asked)?),
        Query::AccessKeys(asked) => Reply::AccessKeys(owners::access_keys(rows, asked)?),
        Query::Keks(question::Keks) => Reply::Keks(values::<KekRow>(rows, Table::Keks)?),
        Query::Volumes(question::Volumes { volumes }) => {
            Reply::Volumes(objects::volumes(rows, &volumes[..bounded(volumes.len())])?)
        }
        Query::Counters(question::Counters { bucket }) => {
            let counters: Option<Counters> = read(rows, &RowKey::BucketCounters(*bucket))?;
            Reply::Counters(counters.unwrap_or_default())
        }
        Query::Deletes(asked) => Reply::Deletes(match freeing {
            Some(freeing) => deletes(rows, *asked, freeing)?,
            None => Vec::new(),
        }),
        Query::Data(question::Data) => Reply::Data(Box::new(data::data(rows)?)),
        Query::DiskVolumes(asked) => Reply::Volumes(held::disk_volumes(rows, asked.disk)?),
        Query::Held(asked) => Reply::Held(held::held(rows, *asked)?),
        Query::Doubts(asked) => Reply::Doubts(doubts::doubts(rows, *asked)?),
        Query::Settings(question::Settings) => Reply::Settings(settings(rows)?),
        Query::DenyList(question::DenyList) => Reply::DenyList(deny_list(rows)?),
        Query::Rotation(question::Rotation) => Reply::Rotation(rotation(rows)?),
        Query::ToReseal(question::ToReseal) => Reply::ToReseal(to_reseal(rows)?),
        Query::OwedShards(asked) => Reply::OwedShards(doubts::owed_shards(rows, *asked)?),
        Query::Witnesses(question::Witnesses { disk, shards }) => {
            let shards = &shards[..bounded(shards.len())];
            Reply::Witnesses(witnesses::witnesses(rows, *disk, shards)?)
        }
    })
}

/// As [`answer`], for a storage node; None if the question does not concern it. Of the doubts it is
/// shown those about its own disks, and those that it may judge.
pub fn answer_node(
    rows: &dyn Rows,
    query: &Query,
    freeing: Option<&Freeing>,
    node: NodeId,
) -> Result<Option<Reply>, MachineError> {
    if !concerns(rows, query, node)? {
        return Ok(None);
    }
    let reply = match query {
        Query::Doubts(asked) => Reply::Doubts(doubts::doubts_of(rows, *asked, node)?),
        other => answer(rows, other, freeing)?,
    };
    Ok(Some(reply))
}

/// The rows of a page, at most [`PAGE_ROWS_MAX`].
fn page_rows(max: u32) -> usize {
    max.min(PAGE_ROWS_MAX) as usize
}

fn bounded(asked: usize) -> usize {
    asked.min(PAGE_ROWS_MAX as usize)
}

/// All rows of a small table.
fn values<T: crate::kinds::Stored>(rows: &dyn Rows, table: Table) -> Result<Vec<T>, MachineError> {
    let all = page::<T>(rows, &keys::table(table), usize::MAX)?;
    Ok(all.into_iter().map(|(_, row)| row).collect())
}

/// Takes apart a key that a scan found; a malformed one is damage.
fn parsed(key: &[u8]) -> Result<RowKey<'_>, MachineError> {
    RowKey::decode(key).map_err(|error| MachineError::Contradiction(error.to_string()))
}

/// Returns the error for a key in a table that can't have such keys.
fn misplaced() -> MachineError {
    MachineError::Contradiction("a key is in another table than its own".into())
}

/// Returns how far the rotation of key-encryption keys is.
fn rotation(rows: &dyn Rows) -> Result<Option<Rotation>, MachineError> {
    read(rows, &RowKey::Meta(Meta::Rotation))
}

fn to_reseal(rows: &dyn Rows) -> Result<ResealPage, MachineError> {
    let Some(rotation) = rotation(rows)?.filter(|rotation| !rotation.passed_all) else {
        return Ok(ResealPage::default());
    };
    let before = look_through(rows, &rotation)?.before.into_iter();
    Ok(ResealPage {
        rotation: Some(rotation),
        rows: before.map(|found| (found.row_key, found.row)).collect(),
    })
}

fn upload(rows: &dyn Rows, asked: &question::Upload) -> Result<Option<UploadRow>, MachineError> {
    let key = RowKey::Upload {
        bucket: asked.bucket,
        key: Cow::Borrowed(&asked.key),
        upload: asked.upload,
    };
    read(rows, &key)
}

fn parts(rows: &dyn Rows, asked: &question::Parts) -> Result<PartPage, MachineError> {
    let (upload, part) = (asked.upload, asked.after);
    // Rows may be left of one that has ended.
    let target: Option<UploadTarget> = read(rows, &RowKey::UploadTarget(upload))?;
    if target.is_none() {
        return Ok(PartPage::default());
    }
    let max = page_rows(asked.max);
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
    Ok(PartPage { parts, truncated })
}

/// The head of a disk's queue, up to the first delete that must wait. Later ones are younger.
fn deletes(
    rows: &dyn Rows,
    asked: question::Deletes,
    freeing: &Freeing,
) -> Result<Vec<(u64, ShardId)>, MachineError> {
    let row: Option<DiskRow> = read(rows, &RowKey::Disk(asked.disk))?;
    let (first, last) = row.map_or((0, 0), |row| (row.first_delete, row.last_delete));
    let first = first.max(asked.after.saturating_add(1));
    let (mut found, mut failed, max) = (Vec::new(), None, page_rows(asked.max));
    let range = keys::deletes(asked.disk, first);
    let mut take = |key: &[u8], value: &[u8]| {
        let row: DeleteRow = decode_row(key, value)?;
        let RowKey::Delete { sequence, .. } = parsed(key)? else {
            return Err(misplaced());
        };
        let free = asked.urgent || freeing.may_free(&row, last.saturating_sub(sequence));
        if free {
            found.push((sequence, row.shard));
        }
        Ok(free && found.len() < max)
    };
    rows.scan(&range.from, &range.to, &mut |key, value| {
        max > 0
            && take(key, value).unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(found),
    }
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
    /// True if something doomed is to be worked off.
    pub doomed: bool,
    pub settings: Settings,
}

/// Returns the cluster's settings.
pub fn settings(rows: &dyn Rows) -> Result<Settings, MachineError> {
    Ok(read(rows, &RowKey::Meta(Meta::Settings))?.unwrap_or_default())
}

/// Returns the deny list of certificates.
pub fn deny_list(rows: &dyn Rows) -> Result<DenyList, MachineError> {
    Ok(read(rows, &RowKey::Meta(Meta::DenyList))?.unwrap_or_default())
}

/// Uploads that were begun long ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldUploads {
    /// At most [`EXPIRED_MAX`], the oldest first.
    pub uploads: Vec<UploadId>,
    /// Where the next look begins: nothing is older, or will be.
    pub next: UploadId,
}

/// Finds uploads that are older than the settings allow at `now_ms`, among those from `from` on.
/// Ids begin with the time, so the oldest stand first, and only a short range is read; `from` keeps
/// the traces of older ones out of it, which an engine keeps for a while.
pub fn old_uploads(
    rows: &dyn Rows,
    now_ms: u64,
    from: UploadId,
) -> Result<OldUploads, MachineError> {
    let none = OldUploads {
        uploads: Vec::new(),
        next: from,
    };
    let Some(end_ms) = settings(rows)?.uploads_end_before_ms(now_ms) else {
        return Ok(none);
    };
    let end = UploadId::new(end_ms, [0; 8]);
    if from >= end {
        // A longer time was set, or the clock was set back: uploads may begin before `from`.
        return Ok(OldUploads { next: end, ..none });
    }
    let range = keys::KeyRange {
        from: RowKey::UploadTarget(from).encode(),
        to: RowKey::UploadTarget(end).encode(),
    };
    let found = page::<UploadTarget>(rows, &range, EXPIRED_MAX)?;
    let uploads = found
        .iter()
        .map(|(key, _)| match parsed(key)? {
            RowKey::UploadTarget(upload) => Ok(upload),
            _ => Err(misplaced()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let next = uploads.first().copied().unwrap_or(end);
    Ok(OldUploads { uploads, next })
}

/// Reads the topology.
pub fn topology(rows: &dyn Rows) -> Result<Topology, MachineError> {
    let open = page::<()>(rows, &keys::table(Table::OpenVolumes), usize::MAX)?;
    let open_volumes = open
        .iter()
        .map(|(key, ())| match parsed(key)? {
            RowKey::OpenVolume(volume) => lookup::volume(rows, volume)?.ok_or_else(|| {
                MachineError::Contradiction(format!("{volume} is open, and not there"))
            }),
            _ => Err(misplaced()),
        })
        .collect::<Result<_, _>>()?;
    let next: Option<VolumeId> = read(rows, &RowKey::Meta(Meta::NextVolume))?;
    let doomed: Option<DoomedQueue> = read(rows, &RowKey::Meta(Meta::Doomed))?;
    Ok(Topology {
        cluster: read(rows, &RowKey::Meta(Meta::Cluster))?,
        nodes: values(rows, Table::Nodes)?,
        open_volumes,
        next_volume: next.unwrap_or(VolumeId(1)),
        leases: values(rows, Table::Leases)?,
        settings: settings(rows)?,
        doomed: doomed.is_some_and(|queue| queue.first < queue.next),
    })
}
