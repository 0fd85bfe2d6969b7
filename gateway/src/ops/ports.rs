//! The seam below the operations towards the object pipeline.
//!
//! The real part is [`megalith_blobs`]; tests put a small model here. The seam towards the
//! metadata group is [`megalith_client::Metadata`].

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use megalith_blobs::{
    Busy, GetError, Hashes, Pipeline, PutError, ReadPlan, Room, Source, WrittenBlob,
};
use megalith_crypto::DataKey;
use megalith_model::ids::LeaseId;
use std::ops::Range;

/// Plaintext on its way out; an error ends it and must end the connection.
pub type Plaintext = BoxStream<'static, Result<Bytes, GetError>>;

/// Where blobs are written and read.
pub trait Blobs: Send + Sync + 'static {
    /// Writes a blob.
    fn write<'a>(
        &'a self,
        source: Source,
        key: &'a DataKey,
        part: u32,
        hashes: Hashes,
    ) -> BoxFuture<'a, Result<WrittenBlob, PutError>>;

    /// Reads plaintext; done when the first piece is there.
    fn read(&self, plan: ReadPlan, range: Range<u64>)
    -> BoxFuture<'_, Result<Plaintext, GetError>>;

    /// Makes room for a small body ([`megalith_blobs::is_small`]) that is to be held whole.
    ///
    /// # Errors
    /// [`Busy`] if there is no room.
    fn make_room(&self, plain_len: u64) -> Result<Room, Busy>;

    /// Notes that the metadata group doesn't know a lease any more.
    fn lease_refused(&self, lease: LeaseId);
}

impl Blobs for Pipeline {
    fn write<'a>(
        &'a self,
        source: Source,
        key: &'a DataKey,
        part: u32,
        hashes: Hashes,
    ) -> BoxFuture<'a, Result<WrittenBlob, PutError>> {
        Box::pin(self.write_blob(source, key, part, hashes))
    }

    fn read(
        &self,
        plan: ReadPlan,
        range: Range<u64>,
    ) -> BoxFuture<'_, Result<Plaintext, GetError>> {
        Box::pin(async move { Ok(Self::read(self, plan, range).await?.boxed()) })
    }

    fn make_room(&self, plain_len: u64) -> Result<Room, Busy> {
        Room::reserve(self.memory(), plain_len)
    }

    fn lease_refused(&self, lease: LeaseId) {
        self.leases().refused(lease);
    }
}
