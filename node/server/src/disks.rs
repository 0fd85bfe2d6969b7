//! Opening a node's disks, and how they are.

use super::config::NodeConfig;
use super::{NodeError, random};
use megalith_client::{chain, now_ms};
use megalith_disk::{FileSystem, RealFs};
use megalith_model::claim::DiskClaim;
use megalith_model::ids::{ClusterId, DiskId};
use megalith_model::shape::SEGMENT_LEN_MAX;
use megalith_model::status::DiskReport;
use megalith_model::topology;
use megalith_store::Disks;
use megalith_store::{DiskHandle, LostSuperblock, StoreError, Superblock};
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

/// Opens the disks, all at once: a recovery takes its time. A disk that can't be opened is left
/// out, because the others' shards are needed the more; fails when none is left.
pub(super) async fn open(config: &NodeConfig) -> Result<Disks, NodeError> {
    let cluster = config.storage.identity().cluster();
    let opening = config.disks.iter().map(|path| {
        let (path, settings) = (path.clone(), config.settings.store.clone());
        tokio::task::spawn_blocking(move || {
            let disk = DiskHandle::open(Arc::new(RealFs), &path, cluster, None, settings);
            disk.map_err(|source| NodeError::Disk { path, source })
        })
    });
    let mut disks: BTreeMap<DiskId, DiskHandle> = BTreeMap::new();
    let mut last = None;
    let opened = futures::future::join_all(opening).await;
    let goes_on = opened.iter().any(|opened| matches!(opened, Ok(Ok(_))));
    for opened in opened {
        match opened.expect("opening a disk does not panic") {
            Ok(disk) => {
                let id = disk.superblock().disk;
                tracing::info!(disk = %id, "disk opened");
                if let Err(error) = disk.start_scrub(Arc::new(now_ms)) {
                    let error: &dyn Error = &error;
                    tracing::error!(error, disk = %id, "disk is not scrubbed");
                }
                disks.insert(id, disk);
            }
            Err(error) => {
                let shown: &dyn Error = &error;
                if goes_on {
                    tracing::error!(
                        error = shown,
                        "disk not opened; the node goes on without it"
                    );
                } else {
                    tracing::error!(error = shown, "disk not opened, and no other one is");
                }
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if disks.is_empty() => Err(error),
        Some(_) | None => Ok(Disks::new(disks.into_values())),
    }
}

/// Says which disks a node has and how large they are, each with the proof that it is here.
pub(super) async fn describe(disks: &Disks) -> Result<Vec<DiskClaim>, NodeError> {
    let mut described = Vec::new();
    for disk in disks.iter() {
        let id = disk.superblock().disk;
        let space = disk.space().await;
        let capacity = space
            .map_err(|source| NodeError::Measure { disk: id, source })?
            .capacity;
        described.push(DiskClaim {
            disk: topology::Disk { id, capacity },
            proof: disk.superblock().proof(),
        });
    }
    Ok(described)
}

/// Says how the disks are, remembering what each last said of itself.
#[derive(Default)]
pub(super) struct Reporter {
    last: BTreeMap<DiskId, DiskReport>,
}

impl Reporter {
    /// Returns what was reported last.
    pub(super) fn last(&self) -> Vec<DiskReport> {
        self.last.values().cloned().collect()
    }

    /// Asks all disks. One that the cluster has `refused` is closed for that reason.
    pub(super) async fn report(
        &mut self,
        disks: &Disks,
        refused: &BTreeMap<DiskId, String>,
        deadline: Duration,
    ) -> Vec<DiskReport> {
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
        self.last()
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
