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
    let mut reported = Reported::default();
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

/// What of a disk's damage the metadata group knows.
#[derive(Default)]
struct Reported {
    shards: BTreeSet<ShardId>,
    /// The disk's number of changes as of which that is all; None while something is missing.
    complete_as_of: Option<u64>,
}

impl Reported {
    /// Returns the shards that are not reported yet. `list` lists all damaged ones, as of `changes`
    /// or later; it is not called if nothing has changed.
    fn fresh(&mut self, changes: u64, list: impl FnOnce() -> Vec<ShardId>) -> Vec<ShardId> {
        if self.complete_as_of == Some(changes) {
            return Vec::new();
        }
        self.complete_as_of = None;
        let damaged: BTreeSet<ShardId> = list().into_iter().collect();
        // Repaired or deleted ones may be found damaged again.
        self.shards.retain(|shard| damaged.contains(shard));
        damaged.difference(&self.shards).copied().collect()
    }
}

/// Tells the metadata group of shards found damaged, each once.
async fn report_damage(
    node: NodeId,
    meta: &MetaClient,
    disk: &DiskHandle,
    reported: &mut Reported,
) -> Result<(), UpkeepError> {
    // Before they are listed: what is found meanwhile makes another number.
    let changes = disk.damage_changes();
    let fresh = reported.fresh(changes, || disk.damaged());
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
        reported.shards.extend(page);
    }
    reported.complete_as_of = Some(changes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::BlobId;

    fn shard(blob: u64) -> ShardId {
        ShardId {
            volume: VolumeId(1),
            blob: BlobId(blob),
            segment: 0,
            slot: 0,
        }
    }

    /// A disk's damage, and how often it was listed.
    #[derive(Default)]
    struct Disk {
        damaged: Vec<ShardId>,
        changes: u64,
        listed: u32,
    }

    impl Disk {
        fn change(&mut self, blobs: &[u64]) {
            self.damaged = blobs.iter().copied().map(shard).collect();
            self.changes += 1;
        }

        fn fresh(&mut self, reported: &mut Reported) -> Vec<ShardId> {
            let (damaged, listed) = (self.damaged.clone(), &mut self.listed);
            reported.fresh(self.changes, || {
                *listed += 1;
                damaged
            })
        }

        /// One look, of which all arrives.
        fn report(&mut self, reported: &mut Reported) -> Vec<ShardId> {
            let fresh = self.fresh(reported);
            reported.shards.extend(&fresh);
            reported.complete_as_of = Some(self.changes);
            fresh
        }
    }

    #[test]
    fn damage_that_stays_is_listed_once_and_every_change_is_reported() {
        let (mut disk, mut reported) = (Disk::default(), Reported::default());
        for (change, fresh, listed) in [
            // What the disk knew at its opening counts from 0.
            (None, &[][..], 1),
            (Some(&[1, 2][..]), &[1, 2], 2),
            (None, &[], 2),
            (None, &[], 2),
            (Some(&[1, 2, 3]), &[3], 3),
            (None, &[], 3),
            // Repaired, and then found damaged again.
            (Some(&[2, 3]), &[], 4),
            (Some(&[1, 2, 3]), &[1], 5),
            (None, &[], 5),
        ] {
            if let Some(blobs) = change {
                disk.change(blobs);
            }
            let expected: Vec<ShardId> = fresh.iter().copied().map(shard).collect();
            assert_eq!(disk.report(&mut reported), expected, "{change:?}");
            assert_eq!(disk.listed, listed, "{change:?}");
        }
    }

    #[test]
    fn a_report_that_did_not_arrive_is_made_again() {
        let (mut disk, mut reported) = (Disk::default(), Reported::default());
        disk.change(&[1, 2]);
        assert_eq!(disk.fresh(&mut reported), [shard(1), shard(2)]);
        // The first page arrived.
        reported.shards.insert(shard(1));
        assert_eq!(disk.fresh(&mut reported), [shard(2)]);
        assert_eq!(disk.report(&mut reported), [shard(2)]);
        assert_eq!((disk.fresh(&mut reported), disk.listed), (Vec::new(), 3));
    }
}
