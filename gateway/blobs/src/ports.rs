//! The seam of the pipeline towards storage nodes. The one towards the metadata group is
//! [`megalith_client::Metadata`].
//!
//! Owns no connection. The real part is an adapter over `megalith-client`; tests put a data plane
//! in memory here which can delay, fail, flip bytes and lie.

use bytes::Bytes;
use futures::future::BoxFuture;
use megalith_model::ids::Epoch;
use megalith_model::rows::Digest;
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

/// Why a shard could not be written or read: what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The shard isn't there.
    #[error("shard not found")]
    NotFound,
    /// The shard is there and bad, or its cells don't match their checksums.
    #[error("shard damaged")]
    Damaged,
    /// The volume has moved on.
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
    /// No connection, no answer in time, a broken answer, a failing disk.
    #[error("node failed: {0}")]
    Node(String),
    /// The node refuses for a reason that repeating won't change.
    #[error("node refused: {0}")]
    Refused(String),
}

/// Shards on storage nodes.
pub trait ShardIo: Send + Sync + 'static {
    /// Writes a shard whose framed cells (each with its crc32c behind it) arrive one by one and
    /// whose digest arrives last; done when the node has made it durable. A body or a digest
    /// whose sender goes away gives the shard up.
    fn put_stream(
        &self,
        write: ShardWrite,
        body: mpsc::Receiver<Bytes>,
        digest: oneshot::Receiver<Digest>,
    ) -> BoxFuture<'static, Result<Receipt, ShardError>>;

    /// Writes a shard whose framed cells and digest are all there.
    fn put_whole(
        &self,
        write: ShardWrite,
        cells: Vec<Bytes>,
        digest: Digest,
    ) -> BoxFuture<'static, Result<Receipt, ShardError>>;

    /// Reads `count` cells from `first` on of a shard of `len` bytes; each was checked against
    /// its crc32c.
    fn get(
        &self,
        target: ShardTarget,
        len: u64,
        first: u64,
        count: u64,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, ShardError>>;
}
