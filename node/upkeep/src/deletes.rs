//! What a node does about its disks by itself: the deletes they owe, the damage found on them.
//!
//! A delete is acknowledged only after it is durable, and damage is reported until the metadata
//! group has taken it, so that neither is lost by a crash, here or there.

use crate::propose::{UpkeepError, propose};
use megalith_client::{MetaClient, TypedCalls as _};
use megalith_model::command::{Command, ShardMark};
use megalith_model::ids::{Epoch, NodeId, VolumeId};
use megalith_model::query::PAGE_ROWS_MAX;
use megalith_model::question;
use megalith_model::shard::ShardId;
use megalith_store::{DiskHandle, DiskSpace};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Works off the deletes of a disk and reports its damage, until it is dropped.
pub async fn run(node: NodeId, meta: &MetaClient, disk: &DiskHandle, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = BTreeSet::new();
    let mut well = true;
    loop {
        ticks.tick().await;
        let deletes = do_deletes(node, meta, disk).await;
        let damage = report_damage(node, meta, disk, &mut reported).await;
        match deletes.and(damage) {
            Ok(()) if well => {}
            Ok(()) => {
                tracing::info!(disk = %disk.superblock().disk, "deletes and reports go on");
                well = true;
            }
            Err(error) if well => {
                let error: &dyn Error = &error;
                let disk = disk.superblock().disk;
                tracing::warn!(error, %disk, "deletes or reports are held up");
                well = false;
            }
            Err(error) => tracing::debug!(%error, "still held up"),
        }
    }
}

/// Returns whether the disk nears its reserve, so that its deletes can't wait for reads: what may
/// still be taken is less than the reserve itself, or than a fiftieth of the disk.
fn is_short(space: &DiskSpace) -> bool {
    let room = space.free.saturating_sub(space.reserve);
    room < space.reserve.max(space.capacity / 50)
}

/// Does the deletes of the disk's queue that are due.
async fn do_deletes(
    node: NodeId,
    meta: &MetaClient,
    handle: &DiskHandle,
) -> Result<(), UpkeepError> {
    loop {
        let disk = handle.superblock().disk;
        let space = handle.space().await.map_err(UpkeepError::Store)?;
        let asked = question::Deletes {
            disk,
            max: PAGE_ROWS_MAX,
            after: 0,
            urgent: is_short(&space),
        };
        let rows = meta.ask(asked).await;
        let rows = rows.map_err(UpkeepError::Metadata)?;
        let Some(through) = rows.iter().map(|(sequence, _)| *sequence).max() else {
            return Ok(());
        };
        let shards: Vec<ShardId> = rows.iter().map(|(_, shard)| *shard).collect();
        // Durable when it returns; only then is it acknowledged.
        handle.delete(&shards).await.map_err(UpkeepError::Store)?;
        let done = Command::AckDeletes {
            node,
            disk,
            through,
        };
        propose(meta, done).await?;
        tracing::debug!(%disk, shards = shards.len(), "deleted");
        if rows.len() < PAGE_ROWS_MAX as usize {
            return Ok(());
        }
    }
}

/// Tells the metadata group of shards found damaged, each once.
async fn report_damage(
    node: NodeId,
    meta: &MetaClient,
    disk: &DiskHandle,
    reported: &mut BTreeSet<ShardId>,
) -> Result<(), UpkeepError> {
    let damaged: BTreeSet<ShardId> = disk.damaged().into_iter().collect();
    // Repaired or deleted ones may be found damaged again.
    reported.retain(|shard| damaged.contains(shard));
    let fresh: Vec<ShardId> = damaged.difference(reported).copied().collect();
    for page in fresh.chunks(PAGE_ROWS_MAX as usize) {
        let marks = marks(meta, page).await?;
        if !marks.is_empty() {
            let command = Command::MarkOwed {
                node,
                disk: disk.superblock().disk,
                marks,
                damaged: true,
            };
            propose(meta, command).await?;
        }
        tracing::error!(
            disk = %disk.superblock().disk,
            shards = page.len(),
            first = %page[0],
            "damaged shards were found; their segments owe them now"
        );
        reported.extend(page);
    }
    Ok(())
}

/// Adds the epochs of the shards' volumes. A volume that is gone has none, and its shards need no
/// mark.
async fn marks(meta: &MetaClient, shards: &[ShardId]) -> Result<Vec<ShardMark>, UpkeepError> {
    let volumes: BTreeSet<VolumeId> = shards.iter().map(|shard| shard.volume).collect();
    let volumes = volumes.into_iter().collect();
    let found = meta.ask(question::Volumes { volumes }).await;
    let found = found.map_err(UpkeepError::Metadata)?;
    let epochs: BTreeMap<VolumeId, Epoch> = found
        .into_iter()
        .map(|volume| (volume.id, volume.epoch))
        .collect();
    let mark = |shard: &ShardId| {
        let shard = *shard;
        let epoch = *epochs.get(&shard.volume)?;
        Some(ShardMark { shard, epoch })
    };
    Ok(shards.iter().filter_map(mark).collect())
}
