//! The seam below the operations towards the object pipeline.
//!
//! The real part is [`megalith_blobs`]; tests put a small model here. The seam towards the
//! metadata group is [`megalith_client::Metadata`].

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use megalith_blobs::{
    Busy, GetError, Hashes, Pipeline, PutError, ReadPlan, Reservation, SourceError, WrittenBlob,
};
use megalith_crypto::DataKey;
use megalith_model::ids::LeaseId;
use std::ops::Range;

/// A body on its way in.
pub type Source = BoxStream<'static, Result<Bytes, SourceError>>;
/// Plaintext on its way out; an error ends it and must end the connection.
pub type Plaintext = BoxStream<'static, Result<Bytes, GetError>>;

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
