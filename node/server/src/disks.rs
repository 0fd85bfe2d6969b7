//! Making a node's disks, and how they are.

use super::{NodeError, random};
use megalith_client::{chain, now_ms};
use megalith_disk::{FileSystem, RealFs};
use megalith_model::claim::DiskClaim;
use megalith_model::ids::{ClusterId, DiskId};
use megalith_model::shape::SEGMENT_LEN_MAX;
use megalith_model::status::DiskReport;
use megalith_model::topology;
use megalith_store::{DiskHandle, LostSuperblock, StoreError, Superblock};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;

/// A disk with less room than this, the largest shard, takes no new ones.
const ROOM_MIN: u64 = SEGMENT_LEN_MAX;
/// A disk of which a write has not come back for this long takes no new shards until it does. A
/// disk that is only slow goes on: without it nothing would be quicker, and less would be safe.
const HANGS_AFTER: Duration = Duration::from_secs(10);

/// Makes each directory (made if missing) a disk of `cluster`, and returns their ids. One that is
/// a disk of this cluster already is left as it is, so that this can be repeated.
pub fn init_disks(cluster: ClusterId, paths: &[PathBuf]) -> Result<Vec<DiskId>, NodeError> {
    paths.iter().map(|path| init_disk(cluster, path)).collect()
}

fn init_disk(cluster: ClusterId, path: &Path) -> Result<DiskId, NodeError> {
    let failed = |source| NodeError::Disk {
        path: path.to_owned(),
        source,
    };
    match DiskHandle::identify(&RealFs, path) {
        Ok(found) if found.cluster == cluster => return Ok(found.disk),
        Ok(found) => {
            return Err(failed(StoreError::ForeignCluster {
                disk: found.disk,
                found: found.cluster,
                expected: cluster,
            }));
        }
        Err(StoreError::NoSuperblock { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    make_dir(path).map_err(|source| NodeError::Directory {
        path: path.to_owned(),
        source,
    })?;
    let superblock = Superblock::new(cluster, DiskId(random()), now_ms(), random());
    DiskHandle::format(&RealFs, path, &superblock).map_err(failed)?;
    Ok(superblock.disk)
}

/// What the chunk files of a disk say of a superblock that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuiltSuperblock {
    pub disk: DiskId,
    pub cluster: ClusterId,
    /// Chunk files that say so.
    pub witnesses: u64,
    /// Chunk files whose head is damaged.
    pub damaged: u64,
}

/// Makes the superblock again for a disk that has lost both copies, or only says which disk it is.
/// Fails if there is a superblock, if the chunk files disagree or there are none, and while the
/// disk is open.
pub fn rebuild_superblock(path: &Path, dry_run: bool) -> Result<RebuiltSuperblock, NodeError> {
    let failed = |source| NodeError::Rebuild {
        path: path.to_owned(),
        source,
    };
    let lost = LostSuperblock::find(&RealFs, path).map_err(failed)?;
    let ((disk, cluster), (witnesses, damaged)) = (lost.identity(), lost.witnesses());
    if !dry_run {
        let written = lost.rebuild(&RealFs);
        written.map_err(|error| failed(error.into()))?;
    }
    Ok(RebuiltSuperblock {
        disk,
        cluster,
        witnesses,
        damaged,
    })
}

/// Makes a directory with its parents; each new name is synced.
fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        make_dir(parent)?;
        RealFs.create_dir(path)?;
        return RealFs.sync_dir(parent);
    }
    RealFs.create_dir(path)
}

/// Says which disks are here and how large they are, each with the proof that it is here. One that
/// can't be measured within `deadline` has its last known size, or else is left out.
pub(super) async fn describe(
    disks: &[DiskHandle],
    known: &BTreeMap<DiskId, DiskReport>,
    deadline: Duration,
) -> Vec<DiskClaim> {
    let mut described = Vec::new();
    for disk in disks {
        let id = disk.superblock().disk;
        let measured = timeout(deadline, disk.space()).await.ok();
        let measured = measured.and_then(|space| Some(space.ok()?.capacity));
        let Some(capacity) = measured.or_else(|| Some(known.get(&id)?.capacity)) else {
            tracing::error!(disk = %id, "disk can't be measured, and is not registered");
            continue;
        };
        described.push(DiskClaim {
            disk: topology::Disk { id, capacity },
            proof: disk.superblock().proof(),
        });
    }
    described
}

/// Says how the disks are, remembering what each last said of itself.
#[derive(Default)]
pub(super) struct Reporter {
    last: BTreeMap<DiskId, DiskReport>,
}

impl Reporter {
    /// Returns what was reported last.
    pub(super) fn last(&self) -> &BTreeMap<DiskId, DiskReport> {
        &self.last
    }

    /// Asks all disks. One that the cluster has `refused` is closed for that reason.
    pub(super) async fn report(
        &mut self,
        disks: &[DiskHandle],
        refused: &BTreeMap<DiskId, String>,
        deadline: Duration,
    ) -> Vec<DiskReport> {
        let here = |id: &DiskId| disks.iter().any(|disk| disk.superblock().disk == *id);
        self.last.retain(|id, _| here(id));
        let asked = disks.iter().map(|disk| ask(disk, deadline));
        for (id, report) in futures::future::join_all(asked).await {
            let last = self.last.get(&id);
            let mut report = report.unwrap_or_else(|why| DiskReport {
                closed: Some(why),
                ..last.cloned().unwrap_or_else(|| DiskReport {
                    disk: id,
                    ..DiskReport::default()
                })
            });
            if let Some(why) = refused.get(&id) {
                report.closed = Some(format!("refused by the cluster: {why}"));
            }
            let was = last.map(|last| &last.closed);
            if was.is_some_and(|was| *was != report.closed) || (was.is_none() && !is_open(&report))
            {
                match &report.closed {
                    Some(why) => tracing::error!(disk = %id, why, "disk takes no new shards"),
                    None => tracing::info!(disk = %id, "disk takes new shards again"),
                }
            }
            self.last.insert(id, report);
        }
        self.last.values().cloned().collect()
    }
}

fn is_open(report: &DiskReport) -> bool {
    report.closed.is_none()
}

async fn ask(disk: &DiskHandle, deadline: Duration) -> (DiskId, Result<DiskReport, String>) {
    let id = disk.superblock().disk;
    let space = match timeout(deadline, disk.space()).await {
        Ok(Ok(space)) => space,
        Ok(Err(error)) => return (id, Err(chain(&error))),
        Err(_) => return (id, Err("the disk does not answer".into())),
    };
    let health = disk.health();
    let free = space.free.saturating_sub(space.reserve);
    let pace = disk.pace();
    let closed = if health.read_only {
        Some("read-only after failed writes".to_owned())
    } else if free < ROOM_MIN {
        Some("full".to_owned())
    } else if pace.running >= HANGS_AFTER {
        Some("a write does not come back".to_owned())
    } else {
        None
    };
    let trash = disk.trash();
    let report = DiskReport {
        disk: id,
        capacity: space.capacity,
        used: space.used,
        free,
        closed,
        damaged_shards: health.damaged_shards,
        write_errors: health.write_errors,
        damaged_regions: health.damaged_regions,
        restored_files: health.indexes_rebuilt + health.files_restored,
        scrubbed_ms: disk.scrub_status().finished_ms,
        trash_shards: trash.len() as u64,
        trash_bytes: trash.values().map(|shard| shard.len).sum(),
        commits: pace.commits,
        commit_us: u64::try_from(pace.busy.as_micros()).unwrap_or(u64::MAX),
        turn_ms: u64::try_from(pace.running.as_millis()).unwrap_or(u64::MAX),
    };
    (id, Ok(report))
}
