//! The object pipeline: plaintext bytes in, a blob on storage nodes out, and back.
//!
//! Owns blob-id leases, the memory budget, the compute pool and what is known of the nodes'
//! speed. Knows nothing of S3, of names, of accounts or of wrapped keys: it is handed a data key
//! and gives back what a row and a manifest need. Must never report a write below its quorum,
//! hold more bytes than the budget, or let out a byte that was not opened under the data key.
//!
//! Read on in `put` (life of a write), `get` (life of a read), `ports` (the seams).

mod alarms;
mod compute;
mod get;
mod hashes;
mod leases;
mod memory;
mod ports;
mod put;
mod settings;

pub use alarms::Alarms;
pub use compute::{Compute, JobLost};
pub use get::{GetError, PartToRead, ReadPlan, ReadStream};
pub use hashes::{HashResults, Hasher, Hashes};
pub use leases::Leases;
pub use memory::{Busy, Memory, Reservation};
pub use ports::{
    MetaIo, MetaIoError, ShardError, ShardFrame, ShardIo, ShardReceipt, ShardTarget, ShardWrite,
};
pub use put::{PutError, SourceError, WrittenBlob};
pub use settings::Settings;

use megalith_model::ids::{ClusterId, GatewayId};
use megalith_model::topology::ClusterMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What the pipeline works with.
pub struct Parts {
    /// Metadata calls.
    pub meta: Arc<dyn MetaIo>,
    /// Shards on nodes.
    pub shards: Arc<dyn ShardIo>,
    /// The newest map of the cluster.
    pub map: watch::Receiver<Arc<ClusterMap>>,
    /// The cluster, part of every stream's context.
    pub cluster: ClusterId,
    /// This gateway.
    pub gateway: GatewayId,
}

/// The pipeline. Cloned handles share everything.
#[derive(Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
}

struct Shared {
    shards: Arc<dyn ShardIo>,
    map: watch::Receiver<Arc<ClusterMap>>,
    cluster: ClusterId,
    settings: Settings,
    leases: Leases,
    memory: Memory,
    compute: Compute,
    alarms: Alarms,
}

impl Pipeline {
    /// Starts the pipeline: its compute threads and its reporter of damage.
    ///
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn start(parts: Parts, settings: Settings) -> Self {
        let leases = Leases::new(Arc::clone(&parts.meta), settings.lease_ids);
        Self {
            shared: Arc::new(Shared {
                shards: parts.shards,
                map: parts.map,
                cluster: parts.cluster,
                leases,
                memory: Memory::new(settings.memory_bytes_max),
                compute: Compute::start(settings.compute_threads),
                alarms: Alarms::start(parts.meta),
                settings,
            }),
        }
    }

    /// The blob-id leases: [`Leases::refused`] is for a proposal that was refused for its lease.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.shared.leases
    }

    /// The memory budget.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// Closes the leases; for shutdown, after the last request has ended.
    ///
    /// # Errors
    /// When the metadata group can't be reached; that costs nothing but a lease to expire.
    pub async fn close(&self) -> Result<(), MetaIoError> {
        self.shared.leases.close().await
    }
}
