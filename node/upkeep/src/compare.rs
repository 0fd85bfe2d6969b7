//! Compares what the metadata group says a disk holds with what it holds: at every start, once a
//! day, and at once for a volume of which something may be missing without a trace.
//!
//! A shard that should be here and is not, or is not whole, is remembered as damaged; what
//! reports damage (`deletes`) does the rest. Nothing is ever deleted here: what is here and should
//! not be is a question for `orphans`.

use megalith_client::{ClientError, MetaClient, TypedCalls as _};
use megalith_model::ids::{BlobId, DiskId, VolumeId};
use megalith_model::query::{HeldSegment, PAGE_ROWS_MAX};
use megalith_model::question;
use megalith_model::shard::{ShardId, ShardStat};
use megalith_model::topology::Volume;
use megalith_store::{DiskHandle, StoreError};
use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Between two comparisons of everything.
const EVERYTHING_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Between two pages: a disk of ten million shards takes some ten minutes.
const PAGE_PAUSE: Duration = Duration::from_millis(50);

/// Why a comparison did not come to its end.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error("ask the metadata group")]
    Metadata(#[source] ClientError),
    #[error("look at the disk")]
    Store(#[source] StoreError),
}

/// Compares a disk until it is dropped.
pub async fn run(meta: &MetaClient, disk: &DiskHandle, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut everything_at: Option<Instant> = None;
    let mut well = true;
    loop {
        ticks.tick().await;
        let doubtful: BTreeSet<VolumeId> = disk.doubtful().into_iter().collect();
        let everything = everything_at.is_none_or(|at| at.elapsed() >= EVERYTHING_INTERVAL);
        if doubtful.is_empty() && !everything {
            continue;
        }
        let compared = compare(meta, disk, &doubtful, everything).await;
        let id = disk.superblock().disk;
        match compared {
            Ok(lacking) => {
                if everything {
                    everything_at = Some(Instant::now());
                    tracing::info!(disk = %id, lacking, "disk compared with the metadata");
                }
                well = true;
            }
            Err(error) => {
                let error: &dyn Error = &error;
                if well {
                    tracing::warn!(error, disk = %id, "comparison with the metadata is held up");
                } else {
                    tracing::debug!(error, disk = %id, "comparison is still held up");
                }
                well = false;
            }
        }
    }
}

/// Compares the volumes in doubt, and then all others if that is asked.
async fn compare(
    meta: &MetaClient,
    disk: &DiskHandle,
    doubtful: &BTreeSet<VolumeId>,
    everything: bool,
) -> Result<usize, ReconcileError> {
    let id = disk.superblock().disk;
    let mut volumes = disk_volumes(meta, id).await?;
    volumes.retain(|volume| everything || doubtful.contains(&volume.id));
    volumes.sort_by_key(|volume| (!doubtful.contains(&volume.id), volume.id));
    let mut lacking = 0;
    for volume in &volumes {
        lacking += compare_volume(meta, disk, volume).await?;
        disk.forget_doubt(volume.id);
    }
    // Volumes that this disk is no slot of any more.
    for volume in doubtful {
        disk.forget_doubt(*volume);
    }
    Ok(lacking)
}

async fn disk_volumes(meta: &MetaClient, disk: DiskId) -> Result<Vec<Volume>, ReconcileError> {
    let asked = question::DiskVolumes { disk };
    meta.ask(asked).await.map_err(ReconcileError::Metadata)
}

async fn compare_volume(
    meta: &MetaClient,
    disk: &DiskHandle,
    volume: &Volume,
) -> Result<usize, ReconcileError> {
    let mut reported = 0;
    let mut after = None;
    loop {
        // Asked first: what the metadata says is here was durable before it said so.
        let held = held(meta, volume.id, after).await?;
        let here = here(disk, volume.id, after, &held).await?;
        let mut lacking = lacking(disk, volume, &held, &here);
        if !lacking.is_empty() && is_slot_still(meta, disk, volume).await? {
            // Asked again: what was deleted meanwhile is rightly not here.
            let now = self::held(meta, volume.id, after).await?;
            lacking.retain(|shard| is_held(&now, shard));
        } else {
            lacking.clear();
        }
        if !lacking.is_empty() {
            tracing::error!(
                disk = %disk.superblock().disk,
                volume = %volume.id,
                shards = lacking.len(),
                first = %lacking[0],
                "shards that should be here are missing"
            );
            disk.report_missing(&lacking);
            reported += lacking.len();
        }
        if held.len() < PAGE_ROWS_MAX as usize {
            return Ok(reported);
        }
        after = held.last().map(|last| (last.blob, last.segment));
        sleep(PAGE_PAUSE).await;
    }
}

/// A page of what the volume's slots should hold.
async fn held(
    meta: &MetaClient,
    volume: VolumeId,
    after: Option<(BlobId, u32)>,
) -> Result<Vec<HeldSegment>, ReconcileError> {
    let max = PAGE_ROWS_MAX;
    let asked = question::Held { volume, after, max };
    meta.ask(asked).await.map_err(ReconcileError::Metadata)
}

fn is_held(held: &[HeldSegment], shard: &ShardId) -> bool {
    let key = (shard.blob, shard.segment);
    let found = held.binary_search_by_key(&key, |segment| (segment.blob, segment.segment));
    found.is_ok_and(|at| held[at].slots & (1 << shard.slot) != 0)
}

/// The shards on the disk in the reach of a page.
async fn here(
    disk: &DiskHandle,
    volume: VolumeId,
    mut after: Option<(BlobId, u32)>,
    held: &[HeldSegment],
) -> Result<Vec<ShardStat>, ReconcileError> {
    let Some(end) = held.last().map(|last| (last.blob, last.segment)) else {
        return Ok(Vec::new());
    };
    let mut here = Vec::new();
    loop {
        let page = disk.list(volume, after, PAGE_ROWS_MAX as usize).await;
        let page = page.map_err(ReconcileError::Store)?;
        let Some(last) = page.last() else {
            return Ok(here);
        };
        let reached = (last.shard.blob, last.shard.segment);
        here.extend(page);
        if reached >= end {
            return Ok(here);
        }
        after = Some(reached);
    }
}

/// The shards of a page that should be on the disk and are not, or not whole.
fn lacking(
    disk: &DiskHandle,
    volume: &Volume,
    held: &[HeldSegment],
    here: &[ShardStat],
) -> Vec<ShardId> {
    let id = disk.superblock().disk;
    let whole: BTreeSet<ShardId> = here
        .iter()
        .filter(|stat| !stat.damaged)
        .map(|stat| stat.shard)
        .collect();
    let slots = (0..)
        .zip(&volume.slots)
        .filter(|(_, slot)| slot.disk == id)
        .map(|(number, _)| number);
    let mine: Vec<u8> = slots.collect();
    let mut lacking = Vec::new();
    for segment in held {
        for slot in &mine {
            let shard = ShardId {
                volume: volume.id,
                blob: segment.blob,
                segment: segment.segment,
                slot: *slot,
            };
            if segment.slots & (1 << slot) != 0 && !whole.contains(&shard) {
                lacking.push(shard);
            }
        }
    }
    lacking
}

/// False if the volume's place on this disk was given to another meanwhile.
async fn is_slot_still(
    meta: &MetaClient,
    disk: &DiskHandle,
    volume: &Volume,
) -> Result<bool, ReconcileError> {
    let now = disk_volumes(meta, disk.superblock().disk).await?;
    let now = now.iter().find(|now| now.id == volume.id);
    Ok(now.is_some_and(|now| now.slots == volume.slots))
}
