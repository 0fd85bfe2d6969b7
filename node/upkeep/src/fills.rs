//! Finds owed shards that are there nevertheless: written by a late request, or out of sight for a
//! while with their disk. They count again once they have been read and compared.

use crate::propose::{UpkeepError, propose};
use crate::verify::{Found, Place};
use megalith_client::{MetaClient, TypedCalls as _};
use megalith_model::command::{Command, ShardFill};
use megalith_model::ids::{BlobId, NodeId, VolumeId};
use megalith_model::query::WantedShard;
use megalith_model::question;
use megalith_model::shard::ShardId;
use megalith_store::DiskHandle;
use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Pages of owed rows that one round looks at, at most; the next round goes on behind them.
const PAGES_MAX: usize = 10;
/// So many shards are remembered as not whole, and not read again.
const SPOILED_MAX: usize = 10_000;

/// Looks for owed shards on a disk until it is dropped.
pub async fn run(node: NodeId, meta: &MetaClient, disk: &DiskHandle, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut finder = Finder {
        node,
        meta,
        disk,
        after: None,
        spoiled: BTreeSet::new(),
    };
    let mut well = true;
    loop {
        ticks.tick().await;
        match finder.round().await {
            Ok(0) => well = true,
            Ok(filled) => {
                let disk = disk.superblock().disk;
                tracing::info!(%disk, shards = filled, "owed shards were found whole");
                well = true;
            }
            Err(error) if well => {
                let error: &dyn Error = &error;
                tracing::warn!(error, "the look for owed shards is held up");
                well = false;
            }
            Err(error) => tracing::debug!(%error, "the look is still held up"),
        }
    }
}

struct Finder<'a> {
    node: NodeId,
    meta: &'a MetaClient,
    disk: &'a DiskHandle,
    /// Where the next page begins.
    after: Option<(VolumeId, BlobId, u32)>,
    /// Owed shards that are here, and are not whole.
    spoiled: BTreeSet<ShardId>,
}

impl Finder<'_> {
    /// Looks at some pages of what the disk owes. Returns how many shards were whole.
    async fn round(&mut self) -> Result<usize, UpkeepError> {
        let disk = self.disk.superblock().disk;
        let mut filled = 0;
        for _ in 0..PAGES_MAX {
            let after = self.after;
            let page = self.meta.ask(question::OwedShards { disk, after }).await;
            let page = page.map_err(UpkeepError::Metadata)?;
            for (shard, wanted) in page.shards {
                let here = self.disk.stat(shard).await.map_err(UpkeepError::Store)?;
                if here.as_ref().is_none_or(|here| here.damaged) {
                    // The disk remembers it, and takes it back if the fault passes.
                    self.spoiled.remove(&shard);
                }
                let may_be_whole = here.is_some_and(|here| !here.damaged && here.len == wanted.len)
                    && !self.spoiled.contains(&shard);
                if !may_be_whole {
                    continue;
                }
                match Place::Here(self.disk, shard).verify(&wanted).await {
                    // At once: it may be found damaged in the next moment.
                    Found::Whole => {
                        self.fill(shard, &wanted).await?;
                        filled += 1;
                    }
                    Found::Damaged => self.remember(shard),
                    Found::Missing | Found::Unknown => {}
                }
            }
            self.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        Ok(filled)
    }

    async fn fill(&self, shard: ShardId, wanted: &WantedShard) -> Result<(), UpkeepError> {
        let fill = ShardFill {
            shard,
            epoch: wanted.epoch,
            digest: wanted.digest,
        };
        let command = Command::FillOwed {
            node: self.node,
            disk: self.disk.superblock().disk,
            fills: vec![fill],
        };
        propose(self.meta, command).await
    }

    fn remember(&mut self, shard: ShardId) {
        if self.spoiled.len() >= SPOILED_MAX {
            self.spoiled.clear();
        }
        self.spoiled.insert(shard);
    }
}
