//! Writing and reading shards: `docs/formats/data-plane.md`.
//!
//! Every wait has a deadline, so that a dead, frozen or crawling node costs a bounded time. A slow
//! caller is not the node's fault: while a write waits for its caller, no deadline runs.

use crate::body::{Progress, ShardBody};
use crate::error::{DataError, DataFault};
use crate::exchange::{Get, Put, Unsent};
use crate::framing::{self, READ_CELLS_MAX};
use crate::pool::{Connection, Pool};
use crate::wire::{DIGEST_HEADER, ShardPath, digest_text};
use bytes::Bytes;
use http::{HeaderName, header};
use megalith_identity::TlsMaterial;
use megalith_model::ids::Epoch;
use megalith_model::shard::ShardDigest;
use megalith_model::shard::{Receipt, ShardTarget};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long the data plane waits, and what it keeps.
#[derive(Clone, Debug)]
pub struct DataSettings {
    /// For a connection and its handshake together.
    pub connect_deadline: Duration,
    /// From a read's request to its answer's head.
    pub first_byte_deadline: Duration,
    /// Between pieces of a read, and for a node to take the next piece of a write.
    pub idle_deadline: Duration,
    /// From a write's last byte to its receipt.
    pub receipt_deadline: Duration,
    /// Idle connections kept for each node.
    pub idle_connections_max: usize,
    /// An idle connection is closed after this time. Shorter than the node's own.
    pub idle_max: Duration,
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            connect_deadline: Duration::from_secs(1),
            first_byte_deadline: Duration::from_secs(5),
            idle_deadline: Duration::from_secs(5),
            receipt_deadline: Duration::from_secs(10),
            idle_connections_max: 64,
            idle_max: Duration::from_secs(20),
        }
    }
}

/// A shard, and the way to the node that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRoute {
    /// The shard, its disk and the node. The node's certificate must say that it is this one.
    pub target: ShardTarget,
    /// `host:port` of the node's data listener.
    pub address: String,
    /// The volume's epoch, for writes; reads ignore it.
    pub epoch: Epoch,
}

impl ShardRoute {
    /// Returns the shard's name on the wire.
    #[must_use]
    pub fn path(&self) -> ShardPath {
        ShardPath {
            disk: self.target.at.disk,
            shard: self.target.shard,
        }
    }
}

/// Writes and reads shards on any node. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct DataClient {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) settings: DataSettings,
}

impl DataClient {
    /// Builds a client that authenticates with this certificate.
    #[must_use]
    pub fn new(material: Arc<TlsMaterial>, settings: DataSettings) -> Self {
        let pool = Pool::new(material, settings.clone());
        Self {
            shared: Arc::new(Shared { pool, settings }),
        }
    }

    /// Writes a shard of `length` bytes and returns when it is durable. `body` delivers the framed
    /// cells (`framing`: each cell followed by its crc32c), in pieces of any size, preferably 64
    /// KiB or more; the digest comes last.
    ///
    /// `body` is closed if this ends early. Fails with [`DataFault::Abandoned`] if `body` ends
    /// before its length or the digest's sender is dropped; then the node has kept nothing.
    pub async fn put_shard(
        &self,
        route: &ShardRoute,
        length: u64,
        body: mpsc::Receiver<Bytes>,
        digest: oneshot::Receiver<ShardDigest>,
    ) -> Result<Receipt, DataError> {
        let progress = Progress::new();
        let body = ShardBody::Stream {
            pieces: body,
            left: framing::body_len(length, 0, framing::cells(length)),
            digest: Some(digest),
            progress: progress.clone(),
        };
        let put = Put {
            route,
            length,
            progress,
        };
        let mut connection = self.shared.take(route).await?;
        let mut request = put.request((header::TRAILER, DIGEST_HEADER), body)?;
        loop {
            let reused = connection.reused;
            let (error, unsent) = match put.send(&self.shared, connection, request).await {
                Ok(receipt) => return Ok(receipt),
                Err(Unsent { error, request }) => (error, request),
            };
            // The connection closed before any byte of the request was sent.
            match unsent {
                Some(unsent) if reused => request = *unsent,
                Some(_) | None => return Err(error),
            }
            connection = self.shared.connect(route).await?;
        }
    }

    /// Writes a shard of `length` bytes whose framed cells and digest are known. Returns when it
    /// is durable.
    pub async fn put_small(
        &self,
        route: &ShardRoute,
        length: u64,
        pieces: Vec<Bytes>,
        digest: ShardDigest,
    ) -> Result<Receipt, DataError> {
        let total: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if total != framing::body_len(length, 0, framing::cells(length)) {
            let message = format!("{total} framed bytes don't make a shard of {length}");
            return Err(route.error(DataFault::Malformed, message));
        }
        let mut connection = self.shared.take(route).await?;
        loop {
            let reused = connection.reused;
            let progress = Progress::new();
            progress.sent(digest);
            let body = ShardBody::Whole {
                pieces: pieces.iter().cloned().collect(),
                left: total,
                progress: progress.clone(),
            };
            let put = Put {
                route,
                length,
                progress,
            };
            let name = HeaderName::from_static(DIGEST_HEADER);
            let request = put.request((name, &digest_text(&digest)), body)?;
            match put.send(&self.shared, connection, request).await {
                // Writing the same shard twice is harmless.
                Err(Unsent { error, .. }) if reused && error.fault == DataFault::Unreachable => {
                    connection = self.shared.connect(route).await?;
                }
                Err(Unsent { error, .. }) => return Err(error),
                Ok(receipt) => return Ok(receipt),
            }
        }
    }

    /// Reads `count` cells (1–64), starting with cell `first`, of a shard of `shard_len` bytes.
    /// Every cell returned has the right length and checksum; fails with [`DataFault::Damaged`] if
    /// one has not.
    pub async fn get_cells(
        &self,
        route: &ShardRoute,
        shard_len: u64,
        first: u64,
        count: u64,
    ) -> Result<Vec<Bytes>, DataError> {
        let cells = framing::cells(shard_len);
        if count == 0 || count > READ_CELLS_MAX || first.saturating_add(count) > cells {
            let message = format!("cells {first}+{count} of {cells} can't be read at once");
            return Err(route.error(DataFault::Malformed, message));
        }
        let get = Get {
            route,
            shard_len,
            first,
            count,
        };
        let connection = self.shared.take(route).await?;
        let reused = connection.reused;
        match get.send(&self.shared, connection).await {
            Err(error) if reused && error.fault == DataFault::Unreachable => {
                let connection = self.shared.connect(route).await?;
                get.send(&self.shared, connection).await
            }
            answer => answer,
        }
    }
}

impl Shared {
    async fn take(&self, route: &ShardRoute) -> Result<Connection, DataError> {
        self.pool.take(route.target.at.node, &route.address).await
    }

    async fn connect(&self, route: &ShardRoute) -> Result<Connection, DataError> {
        self.pool
            .connect(route.target.at.node, &route.address)
            .await
    }
}

impl ShardRoute {
    pub(crate) fn error(&self, fault: DataFault, message: impl Into<String>) -> DataError {
        DataError {
            node: self.target.at.node,
            fault,
            message: message.into(),
        }
    }
}
