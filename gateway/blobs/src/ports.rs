//! The pipeline's seam to storage nodes. The one to the metadata group is
//! [`megalith_client::Metadata`].
//!
//! Owns no connection. The real implementation is an adapter over `megalith-client`; tests use a
//! data plane in memory that can delay, fail, flip bytes and lie.

use bytes::Bytes;
use futures::future::BoxFuture;
use megalith_model::ids::Epoch;
use megalith_model::shard::ShardDigest;
use megalith_model::shard::{Receipt, ShardTarget};
use tokio::sync::{mpsc, oneshot};

/// What is needed to write a shard besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardWrite {
    pub target: ShardTarget,
    /// The volume's epoch as the gateway knows it.
    pub epoch: Epoch,
    /// The shard's length in bytes, without checksums.
    pub len: u64,
}

/// Why a shard could not be written or read; each kind says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The shard doesn't exist.
    #[error("shard not found")]
    NotFound,
    /// The shard is bad, or its cells don't match their checksums.
    #[error("shard damaged")]
    Damaged,
    /// The volume is in another epoch.
    #[error("volume is in another epoch")]
    StaleEpoch,
    /// The blob id is in no open lease.
    #[error("lease closed")]
    LeaseClosed,
    /// The disk is full.
    #[error("disk full")]
    Full,
    /// The node has no room in its queue.
    #[error("node busy")]
    Busy,
    /// No connection, no answer in time, a broken answer, or a failing disk.
    #[error("node failed: {0}")]
    Node(String),
    /// The node refuses, and would refuse again.
    #[error("node refused: {0}")]
    Refused(String),
}

/// Shards on storage nodes.
pub trait ShardIo: Send + Sync + 'static {
    /// Writes a shard and returns when the node has made it durable. Framed cells (each followed by
    /// its crc32c) arrive one by one, the digest last. If the sender of cells or digest is dropped,
    /// the write is given up.
    fn put_stream(
        &self,
        write: ShardWrite,
        body: mpsc::Receiver<Bytes>,
        digest: oneshot::Receiver<ShardDigest>,
    ) -> BoxFuture<'static, Result<Receipt, ShardError>>;

    /// Writes a shard whose framed cells and digest are all known.
    fn put_whole(
        &self,
        write: ShardWrite,
        cells: Vec<Bytes>,
        digest: ShardDigest,
    ) -> BoxFuture<'static, Result<Receipt, ShardError>>;

    /// Reads `count` cells, starting with `first`, of a shard of `len` bytes; each has been checked
    /// against its crc32c.
    fn get(
        &self,
        target: ShardTarget,
        len: u64,
        first: u64,
        count: u64,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, ShardError>>;
}
