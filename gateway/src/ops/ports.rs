//! The two seams below the operations: the metadata group and the blob pipeline.
//!
//! The real parts are `megalith-client` and [`crate::pipeline`]; tests put a small model here.

use crate::pipeline::{
    Busy, GetError, Hashes, Pipeline, PutError, ReadPlan, Reservation, SourceError, WrittenBlob,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use megalith_client::{ClientError, MetaClient};
use megalith_crypto::DataKey;
use megalith_model::command::{Answer, Envelope};
use megalith_model::ids::LeaseId;
use megalith_model::query::{Query, Reply};
use std::ops::Range;

/// A body on its way in.
pub type Source = BoxStream<'static, Result<Bytes, SourceError>>;
/// Plaintext on its way out; an error ends it and must end the connection.
pub type Plaintext = BoxStream<'static, Result<Bytes, GetError>>;

/// Why the metadata group gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// A command may or may not have been applied.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Nobody answered; nothing was changed.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Refused for what it is: a mistake of ours.
    #[error("rejected: {0}")]
    Rejected(String),
}

/// The metadata group.
pub trait Metadata: Send + Sync + 'static {
    /// Puts a command through the log.
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, MetadataError>>;

    /// Asks a question; the reply is linearizable.
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Reply, MetadataError>>;
}

/// Where blobs are written and read.
pub trait Blobs: Send + Sync + 'static {
    /// Writes a blob of exactly `plain_len` bytes.
    fn write<'a>(
        &'a self,
        source: Source,
        plain_len: u64,
        key: &'a DataKey,
        part: u32,
        hashes: Hashes,
    ) -> BoxFuture<'a, Result<WrittenBlob, PutError>>;

    /// Reads plaintext; done when the first piece is there.
    fn read(&self, plan: ReadPlan, range: Range<u64>)
    -> BoxFuture<'_, Result<Plaintext, GetError>>;

    /// Reserves memory for a small body that is to be held whole.
    ///
    /// # Errors
    /// [`Busy`] where there is no room.
    fn reserve(&self, bytes: u64) -> Result<Reservation, Busy>;

    /// Notes that the metadata group doesn't know a lease any more.
    fn lease_refused(&self, lease: LeaseId);
}

impl Metadata for MetaClient {
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, MetadataError>> {
        Box::pin(async move {
            Self::propose(self, envelope)
                .await
                .map_err(MetadataError::from)
        })
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Reply, MetadataError>> {
        Box::pin(async move { Self::query(self, query).await.map_err(MetadataError::from) })
    }
}

impl From<ClientError> for MetadataError {
    fn from(error: ClientError) -> Self {
        match error {
            // An answer that can't be read leaves open what was done.
            ClientError::Unknown(why) | ClientError::Malformed(why) => Self::Unknown(why),
            ClientError::Unavailable(why) => Self::Unavailable(why),
            ClientError::Rejected(why) => Self::Rejected(why),
        }
    }
}

impl Blobs for Pipeline {
    fn write<'a>(
        &'a self,
        source: Source,
        plain_len: u64,
        key: &'a DataKey,
        part: u32,
        hashes: Hashes,
    ) -> BoxFuture<'a, Result<WrittenBlob, PutError>> {
        Box::pin(self.write_blob(source, plain_len, key, part, hashes))
    }

    fn read(
        &self,
        plan: ReadPlan,
        range: Range<u64>,
    ) -> BoxFuture<'_, Result<Plaintext, GetError>> {
        Box::pin(async move { Ok(Self::read(self, plan, range).await?.boxed()) })
    }

    fn reserve(&self, bytes: u64) -> Result<Reservation, Busy> {
        self.memory().try_reserve(bytes)
    }

    fn lease_refused(&self, lease: LeaseId) {
        self.leases().refused(lease);
    }
}
