//! Settles doubts: shards that a gateway could not read.
//!
//! The node that serves the disk reads the shard, and marks it or denies the doubt. If the doubt is
//! denied, or the disk's own node does not settle it, another node of the volume judges: it reads
//! the shard over the network and compares it with the digest in the blob's row.

use crate::propose::{UpkeepError, propose};
use crate::verify::{Found, Place};
use megalith_client::{DataClient, MapWatch, MetaClient, ShardRoute, TypedCalls as _};
use megalith_model::command::{Command, ShardMark, Verdict};
use megalith_model::ids::{DiskId, NodeId};
use megalith_model::query::{DoubtView, PAGE_ROWS_MAX, WantedShard};
use megalith_model::question;
use megalith_model::shard::{ShardId, ShardTarget};
use megalith_model::topology::Slot;
use megalith_store::{DiskHandle, Disks};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// The way to other nodes' shards.
pub struct Peers {
    pub data: DataClient,
    /// Where the nodes are, and which disks they have.
    pub maps: MapWatch,
}

/// Settles doubts about this node's disks, and judges those about others', until it is dropped.
pub async fn run(node: NodeId, meta: MetaClient, disks: Arc<Disks>, peers: Peers, every: Duration) {
    let settler = Settler {
        node,
        meta,
        disks,
        peers,
    };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut well = true;
    loop {
        ticks.tick().await;
        match settler.round().await {
            Ok(()) => well = true,
            Err(error) if well => {
                let error: &dyn Error = &error;
                tracing::warn!(error, "doubts about shards are held up");
                well = false;
            }
            Err(error) => tracing::debug!(%error, "doubts are still held up"),
        }
    }
}

struct Settler {
    node: NodeId,
    meta: MetaClient,
    disks: Arc<Disks>,
    peers: Peers,
}

impl Settler {
    /// Looks at every doubt once: first at this node's own disks, then at what it is to judge. One
    /// that can't be settled keeps no other from it.
    async fn round(&self) -> Result<(), UpkeepError> {
        let mut after = None;
        let mut afar = Vec::new();
        let mut ended = Ok(());
        loop {
            let max = PAGE_ROWS_MAX;
            let page = self.meta.ask(question::Doubts { after, max }).await;
            let page = page.map_err(UpkeepError::Metadata)?;
            after = page.last().map(|doubt| (doubt.disk, doubt.shard));
            let last = page.len() < max as usize;
            for doubt in page {
                match self.disks.get(doubt.disk) {
                    Some(disk) if !doubt.row.denied || doubt.wanted.is_none() => {
                        ended = ended.and(self.look(&disk, &doubt).await);
                    }
                    None if doubt.judge(self.meta.now_ms()) == Some(self.node) => afar.push(doubt),
                    Some(_) | None => {}
                }
            }
            if last {
                break;
            }
        }
        for doubt in &afar {
            ended = ended.and(self.judge(doubt).await);
        }
        ended
    }

    /// Settles a doubt about a disk of this node.
    async fn look(&self, disk: &DiskHandle, doubt: &DoubtView) -> Result<(), UpkeepError> {
        let (shard, wanted) = (doubt.shard, doubt.wanted);
        let found = match &wanted {
            Some(wanted) => Place::Here(disk, shard).verify(wanted).await,
            // Nothing names it any more: what there is to deny is the doubt itself.
            None => Found::Whole,
        };
        let (node, disk) = (self.node, doubt.disk);
        let command = match (found, wanted) {
            (Found::Missing | Found::Damaged, Some(WantedShard { epoch, .. })) => {
                let damaged = found == Found::Damaged;
                tracing::error!(%disk, %shard, damaged, "a shard in doubt is not whole");
                Command::MarkOwed {
                    node,
                    disk,
                    marks: vec![ShardMark { shard, epoch }],
                    damaged,
                }
            }
            (Found::Whole, _) => {
                let shards = vec![shard];
                Command::DenyDoubts { node, disk, shards }
            }
            (Found::Unknown | Found::Missing | Found::Damaged, _) => return Ok(()),
        };
        propose(&self.meta, command).await
    }

    /// Settles a doubt about another node's disk.
    async fn judge(&self, doubt: &DoubtView) -> Result<(), UpkeepError> {
        let (disk, shard) = (doubt.disk, doubt.shard);
        let whole = match &doubt.wanted {
            None => true,
            Some(wanted) => match self.read_afar(disk, shard, wanted).await {
                Found::Whole => true,
                Found::Missing | Found::Damaged => false,
                // A disk that is away is not a shard that is missing.
                Found::Unknown => return Ok(()),
            },
        };
        if !whole {
            tracing::error!(%disk, %shard, "another node's shard is not whole, whatever it says");
        }
        let command = Command::JudgeDoubts {
            judge: self.node,
            disk,
            verdicts: vec![Verdict { shard, whole }],
        };
        propose(&self.meta, command).await
    }

    async fn read_afar(&self, disk: DiskId, shard: ShardId, wanted: &WantedShard) -> Found {
        let map = self.peers.maps.current();
        let has = |id: &DiskId| *id == disk;
        let server = map
            .nodes
            .iter()
            .find(|node| node.disks.iter().any(|disk| has(&disk.id)));
        let Some(server) = server.filter(|server| map.is_alive(server.id)) else {
            return Found::Unknown;
        };
        let node = server.id;
        let route = ShardRoute {
            target: ShardTarget {
                at: Slot { node, disk },
                shard,
            },
            address: server.data_address.clone(),
            epoch: wanted.epoch,
        };
        Place::Afar(&self.peers.data, &route).verify(wanted).await
    }
}
