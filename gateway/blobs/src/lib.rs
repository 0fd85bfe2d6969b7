//! The object pipeline: turns plaintext bytes into a blob on storage nodes, and back.
//!
//! Owns blob-id leases, who still reads what, the memory budget, the compute pool and what is known
//! of the nodes' speed. Knows nothing of S3, of names, of accounts or of wrapped keys: it is given
//! a data key and returns what a row and a manifest need. Must never report a write below its
//! quorum, hold more bytes than the budget, or return a byte that was not opened under the data
//! key.
//!
//! Next: `put` (the life of a write), `get` (the life of a read), `ports` (the seam to storage
//! nodes).

// Sealing and the disks' checks and reads use the same unit: one cell.
const _: () = {
    use megalith_crypto::cell::{CELL_OVERHEAD, PLAIN_CELL_LEN, SEALED_CELL_LEN};
    use megalith_model::shape;
    assert!(PLAIN_CELL_LEN as u64 == shape::CELL_PLAIN_LEN);
    assert!(CELL_OVERHEAD as u64 == shape::CELL_OVERHEAD);
    assert!(SEALED_CELL_LEN as u64 == shape::CELL_LEN);
};

mod adapters;
mod again;
mod alarms;
mod budget;
mod chooser;
mod compute;
mod get;
mod hashes;
mod hedge;
mod leases;
mod lock;
mod memory;
mod nodes;
mod plain;
mod ports;
mod put;
mod reads;
mod refusals;
mod segment;
mod settings;
mod shares;
mod source;
mod stripes;
mod window;

pub use adapters::NodeShards;
pub use alarms::{Alarms, Fault};
pub use budget::{Budget, Busy, Reservation};
pub use compute::{Compute, JobLost};
pub use get::{GetError, PartToRead, ReadPlan, ReadStream};
pub use hashes::{HashResults, Hasher, Hashes};
pub use leases::{LeaseError, LeasedId, Leases, OnLease};
pub use memory::{Memory, Paying};
pub use ports::{ShardError, ShardIo, ShardWrite};
pub use put::{Approve, PutError, WrittenBlob};
pub use reads::{Reading, Reads};
pub use settings::PipelineSettings;
pub use shares::Payer;
pub use source::{HeldBody, HoldError, Pieces, Source, SourceError, is_small};

use chooser::Chooser;
use hedge::HedgeBudget;
use nodes::Nodes;
use refusals::Refusals;

use megalith_client::{DataClient, Metadata};
use megalith_model::ids::{ClusterId, GatewayId};
use megalith_model::topology::ClusterMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::sync::watch;

/// What the pipeline works with.
pub struct PipelineComponents {
    pub meta: Arc<dyn Metadata>,
    pub shards: Arc<dyn ShardIo>,
    /// The newest map of the cluster.
    pub map: watch::Receiver<Arc<ClusterMap>>,
    /// The cluster, part of every stream's context.
    pub cluster: ClusterId,
    /// The gateway that blob ids are leased for.
    pub gateway: GatewayId,
    /// What is done for each lease before an id of it is used.
    pub on_lease: OnLease,
}

/// The pipeline. Cloned handles share everything.
#[derive(Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
}

struct Shared {
    meta: Arc<dyn Metadata>,
    shards: Arc<dyn ShardIo>,
    map: watch::Receiver<Arc<ClusterMap>>,
    cluster: ClusterId,
    settings: PipelineSettings,
    leases: Leases,
    reads: Reads,
    memory: Memory,
    compute: Compute,
    alarms: Alarms,
    nodes: Nodes,
    chooser: Chooser,
    refusals: Refusals,
    hedges: HedgeBudget,
    /// Spreads reads over slots that are equally good.
    turn: AtomicUsize,
}

impl PipelineComponents {
    /// Returns the real components: storage nodes through their client, and the metadata group.
    #[must_use]
    pub fn connected(
        meta: Arc<dyn Metadata>,
        data: DataClient,
        map: watch::Receiver<Arc<ClusterMap>>,
        cluster: ClusterId,
        gateway: GatewayId,
        on_lease: OnLease,
    ) -> Self {
        Self {
            meta,
            shards: Arc::new(NodeShards::new(data, map.clone())),
            map,
            cluster,
            gateway,
            on_lease,
        }
    }
}

impl Pipeline {
    /// Starts the pipeline with its compute threads and its reporter of damage.
    ///
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn start(components: PipelineComponents, settings: PipelineSettings) -> Self {
        let PipelineComponents {
            meta,
            shards,
            map,
            cluster,
            gateway,
            on_lease,
        } = components;
        let leases = Leases::new(Arc::clone(&meta), gateway, on_lease);
        Self {
            shared: Arc::new(Shared {
                shards,
                map,
                cluster,
                leases,
                reads: Reads::default(),
                memory: Memory::new(settings.memory_bytes_max, settings.memory_wait),
                compute: Compute::start(settings.compute_threads),
                alarms: Alarms::start(Arc::clone(&meta)),
                meta,
                nodes: Nodes::new(settings.penalty),
                chooser: Chooser::default(),
                refusals: Refusals::default(),
                hedges: HedgeBudget::new(settings.hedge_percent),
                turn: AtomicUsize::new(0),
                settings,
            }),
        }
    }

    /// Returns the blob-id leases. Call [`Leases::refused`] when a proposal was refused for its
    /// lease.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.shared.leases
    }

    /// Returns the reads that are under way.
    #[must_use]
    pub fn reads(&self) -> &Reads {
        &self.shared.reads
    }

    /// Returns the memory budget.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// Closes the leases; for shutdown, after the last request has ended.
    ///
    /// # Errors
    /// If the metadata group can't be reached; the leader closes the leases after a while.
    pub async fn close(&self) -> Result<(), LeaseError> {
        self.shared.leases.close().await
    }
}

#[cfg(test)]
mod tests;
