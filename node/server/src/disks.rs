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
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// A disk with less room than this, the largest shard, takes no new ones.
const ROOM_MIN: u64 = SEGMENT_LEN_MAX;
/// A report waits no longer for disks that don't answer at once.
const ANSWER_WAIT: Duration = Duration::from_millis(50);
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
/// can't be measured within `deadline` has its last known size, or else is left out for now.
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
        // What never answered has no size yet.
        let told = known
            .get(&id)
            .map(|last| last.capacity)
            .filter(|&it| it > 0);
        let Some(capacity) = measured.or(told) else {
            tracing::error!(disk = %id, "disk can't be measured, and is not registered yet");
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
    /// Disks that were asked and have not answered. None is asked twice at a time.
    asked: BTreeMap<DiskId, Asked>,
}

/// A question under way.
struct Asked {
    since: Instant,
    answer: JoinHandle<Result<DiskReport, String>>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl Reporter {
    /// Returns what was reported last.
    pub(super) fn last(&self) -> &BTreeMap<DiskId, DiskReport> {
        &self.last
    }

    /// Asks all disks, and waits for [`ANSWER_WAIT`] at most: no disk delays what is said of the
    /// others. What does not answer at once is as it was, and closed after `deadline`. One that the
    /// cluster has `refused` is closed for that reason.
    pub(super) async fn report(
        &mut self,
        disks: &[DiskHandle],
        refused: &BTreeMap<DiskId, String>,
        deadline: Duration,
    ) -> Vec<DiskReport> {
        let here = |id: &DiskId| disks.iter().any(|disk| disk.superblock().disk == *id);
        self.last.retain(|id, _| here(id));
        self.asked.retain(|id, _| here(id));
        for disk in disks {
            let asked = self.asked.entry(disk.superblock().disk);
            asked.or_insert_with(|| Asked {
                since: Instant::now(),
                answer: tokio::spawn(ask(disk.clone())),
            });
        }
        let until = Instant::now() + ANSWER_WAIT.min(deadline);
        let ids: Vec<DiskId> = self.asked.keys().copied().collect();
        for id in ids {
            if let Some(answer) = self.answer(id, until, deadline).await {
                self.take(id, answer, refused.get(&id));
            }
        }
        self.last.values().cloned().collect()
    }

    /// Returns a disk's answer, if there is one `until` then, or if it is overdue.
    async fn answer(
        &mut self,
        id: DiskId,
        until: Instant,
        deadline: Duration,
    ) -> Option<Result<DiskReport, String>> {
        let asked = self.asked.get_mut(&id)?;
        match timeout_at(until, &mut asked.answer).await {
            Ok(answer) => {
                self.asked.remove(&id);
                Some(answer.unwrap_or_else(|error| Err(error.to_string())))
            }
            Err(_) if asked.since.elapsed() >= deadline => {
                Some(Err("the disk does not answer".into()))
            }
            Err(_) => None,
        }
    }

    /// Takes up what a disk said of itself, or why it said nothing.
    fn take(&mut self, id: DiskId, report: Result<DiskReport, String>, refused: Option<&String>) {
        let last = self.last.get(&id);
        let mut report = report.unwrap_or_else(|why| DiskReport {
            closed: Some(why),
            ..last.cloned().unwrap_or_else(|| DiskReport {
                disk: id,
                ..DiskReport::default()
            })
        });
        if let Some(why) = refused {
            report.closed = Some(format!("refused by the cluster: {why}"));
        }
        let was = last.map(|last| &last.closed);
        if was.is_some_and(|was| *was != report.closed) || (was.is_none() && !is_open(&report)) {
            match &report.closed {
                Some(why) => tracing::error!(disk = %id, why, "disk takes no new shards"),
                None => tracing::info!(disk = %id, "disk takes new shards again"),
            }
        }
        self.last.insert(id, report);
    }
}

fn is_open(report: &DiskReport) -> bool {
    report.closed.is_none()
}

/// Waits for as long as the disk lets it.
async fn ask(disk: DiskHandle) -> Result<DiskReport, String> {
    let id = disk.superblock().disk;
    let space = disk.space().await.map_err(|error| chain(&error))?;
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
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_disk::sim::{SimFs, SimOp};
    use megalith_model::ids::{BlobId, Epoch, VolumeId};
    use megalith_model::shard::ShardId;
    use megalith_store::{StoreSettings, crc32c};
    use std::sync::Arc;

    fn disk(number: u8) -> (SimFs, DiskHandle) {
        let (fs, root, cluster) = (SimFs::new(1 << 30), Path::new("/disk"), ClusterId([1; 16]));
        fs.create_dir(root).expect("made");
        let superblock = Superblock::new(cluster, DiskId([number; 16]), 1, [number; 32]);
        DiskHandle::format(&fs, root, &superblock).expect("formatted");
        let settings = StoreSettings {
            reserve: 0,
            reader_threads: 1,
            ..StoreSettings::default()
        };
        let disk = DiskHandle::open(Arc::new(fs.clone()), root, cluster, None, settings);
        (fs, disk.expect("opened"))
    }

    #[tokio::test]
    async fn a_disk_that_hangs_delays_no_report_and_is_closed_after_a_while() {
        let ((fs, hung), (_, well)) = (disk(1), disk(2));
        let shard = ShardId {
            volume: VolumeId(1),
            blob: BlobId(1),
            segment: 0,
            slot: 0,
        };
        let mut writer = hung.begin(shard, Epoch(1), 4).await.expect("begun");
        let cell = bytes::Bytes::from_static(b"cell");
        let crc = crc32c(&cell);
        writer.push_cell(cell, crc).await.expect("taken");
        let digest = *blake3::hash(b"cell").as_bytes();
        writer.finish(digest).await.expect("stored");

        let (mut reporter, none) = (Reporter::default(), BTreeMap::new());
        let disks = [hung.clone(), well.clone()];
        let mut report = async |deadline: Duration| {
            let reports = reporter.report(&disks, &none, deadline).await;
            let closed = reports.into_iter().map(|report| report.closed);
            closed.collect::<Vec<_>>()
        };
        // A minute is longer than a test may take: nobody waits for it.
        let patient = Duration::from_mins(1);
        while report(patient).await != [None, None] {}
        let hold = fs.hold(SimOp::Read, ".chunk");
        let reader = hung.clone();
        let read = tokio::spawn(async move { reader.read(shard, 0, 1).await.is_ok() });
        while hold.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            assert_eq!(report(patient).await, [None, None], "as it was");
        }
        // It is registered with the size that it had, or later.
        let now = Duration::from_millis(200);
        let claimed = async |capacity: Option<u64>| {
            let last = |capacity| DiskReport {
                capacity,
                ..DiskReport::default()
            };
            let known = capacity.map(|it| (hung.superblock().disk, last(it)));
            let known = known.into_iter().collect();
            let claims = describe(&[hung.clone(), well.clone()], &known, now).await;
            claims
                .iter()
                .map(|claim| claim.disk.id.0[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(claimed(None).await, [2]);
        assert_eq!(claimed(Some(0)).await, [2]);
        assert_eq!(claimed(Some(7)).await, [1, 2]);
        let away = Some("the disk does not answer".to_owned());
        assert_eq!(report(Duration::ZERO).await[0], away);
        drop(hold);
        assert!(read.await.expect("no panic"));
        while report(patient).await != [None, None] {}
        hung.stop().await;
        well.stop().await;
    }
}
