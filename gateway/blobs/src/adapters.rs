//! The real implementation behind the seam: storage nodes, through `megalith-client`.

use super::ports::{ShardError, ShardIo, ShardWrite};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use megalith_client::{DataClient, DataError, DataFault, ShardRoute};
use megalith_model::ids::Epoch;
use megalith_model::shard::ShardDigest;
use megalith_model::shard::{Receipt, ShardTarget};
use megalith_model::topology::ClusterMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// How long to wait for a node that the map doesn't list.
const NODE_WAIT: Duration = Duration::from_secs(2);

/// Shards on storage nodes; addresses come from the newest map.
pub struct NodeShards {
    client: DataClient,
    map: watch::Receiver<Arc<ClusterMap>>,
}

impl NodeShards {
    /// Builds the adapter.
    #[must_use]
    pub fn new(client: DataClient, map: watch::Receiver<Arc<ClusterMap>>) -> Self {
        Self { client, map }
    }

    /// Finds the node's address. Waits for a node that the map doesn't list: right after a start of
    /// the gateway or of the cluster, nodes may not be in it yet.
    fn resolve(
        &self,
        target: ShardTarget,
        epoch: Epoch,
    ) -> impl Future<Output = Result<ShardRoute, ShardError>> + Send + use<> {
        let mut maps = self.map.clone();
        async move {
            let known = maps.wait_for(|map| map.node(target.at.node).is_some());
            let map = match timeout(NODE_WAIT, known).await {
                Ok(Ok(map)) => Arc::clone(&map),
                Ok(Err(_)) | Err(_) => return Err(ShardError::Node("not in the map".into())),
            };
            let address = map
                .node(target.at.node)
                .map(|node| node.data_address.clone());
            Ok(ShardRoute {
                target,
                address: address.ok_or_else(|| ShardError::Node("not in the map".into()))?,
                epoch,
            })
        }
    }
}

impl ShardIo for NodeShards {
    fn put_stream(
        &self,
        write: ShardWrite,
        body: mpsc::Receiver<Bytes>,
        digest: oneshot::Receiver<ShardDigest>,
    ) -> BoxFuture<'static, Result<Receipt, ShardError>> {
        let (client, target) = (self.client.clone(), self.resolve(write.target, write.epoch));
        async move {
            let receipt = client
                .put_shard(&target.await?, write.len, body, digest)
                .await;
            receipt.map_err(own_error)
        }
        .boxed()
    }

    fn put_whole(
        &self,
        write: ShardWrite,
        cells: Vec<Bytes>,
        digest: ShardDigest,
    ) -> BoxFuture<'static, Result<Receipt, ShardError>> {
        let (client, target) = (self.client.clone(), self.resolve(write.target, write.epoch));
        async move {
            let receipt = client
                .put_small(&target.await?, write.len, cells, digest)
                .await;
            receipt.map_err(own_error)
        }
        .boxed()
    }

    fn get(
        &self,
        target: ShardTarget,
        len: u64,
        first: u64,
        count: u64,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, ShardError>> {
        // Reads ignore the epoch.
        let (client, target) = (self.client.clone(), self.resolve(target, Epoch(0)));
        async move {
            let cells = client.get_cells(&target.await?, len, first, count).await;
            cells.map_err(own_error)
        }
        .boxed()
    }
}

fn own_error(error: DataError) -> ShardError {
    match error.fault {
        DataFault::NotFound => ShardError::NotFound,
        DataFault::Damaged => ShardError::Damaged,
        DataFault::StaleEpoch { .. } => ShardError::StaleEpoch,
        DataFault::LeaseClosed => ShardError::LeaseClosed,
        DataFault::Full => ShardError::Full,
        DataFault::Busy => ShardError::Busy,
        DataFault::Malformed | DataFault::Forbidden | DataFault::Conflict => {
            ShardError::Refused(error.to_string())
        }
        DataFault::Checksum
        | DataFault::Io
        | DataFault::Unreachable
        | DataFault::Timeout
        | DataFault::Abandoned
        | DataFault::Protocol => ShardError::Node(error.to_string()),
    }
}
