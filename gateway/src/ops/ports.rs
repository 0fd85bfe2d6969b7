//! The seam between the operations and the object pipeline.
//!
//! The real implementation is [`megalith_blobs`]; tests use a small model. The seam to the metadata
//! group is [`megalith_client::Metadata`].

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use megalith_blobs::{
    Approve, Busy, GetError, Hashes, LeaseError, LeasedId, Memory, Payer, Pipeline, PutError,
    ReadPlan, Reads, Reservation, Source, WrittenBlob,
};
use megalith_crypto::DataKey;
use megalith_model::ids::LeaseId;
use std::ops::Range;

/// Plaintext for the client; an error ends it and must end the connection.
pub type Plaintext = BoxStream<'static, Result<Bytes, GetError>>;

/// Where blobs are written and read.
pub trait Blobs: Send + Sync + 'static {
    /// Writes a blob; a held body only if it is approved ([`Pipeline::write_blob`]).
    fn write<'a>(
        &'a self,
        source: Source,
        key: &'a DataKey,
        part: u32,
        hashes: Hashes,
        approve: Approve<'a>,
    ) -> BoxFuture<'a, Result<WrittenBlob, PutError>>;

    /// Reads plaintext; returns when the first piece is there.
    fn read(&self, plan: ReadPlan, range: Range<u64>)
    -> BoxFuture<'_, Result<Plaintext, GetError>>;

    /// Returns who reads what.
    fn reads(&self) -> &Reads;

    /// Returns the memory that all requests share.
    fn memory(&self) -> &Memory;

    /// Reserves memory for a read whose bytes are written again ([`Pipeline::reserve_copy`]).
    fn reserve_copy(&self, payer: Payer) -> BoxFuture<'_, Result<Reservation, Busy>>;

    /// Takes the key of a command that brings no blob.
    fn take_id(&self) -> BoxFuture<'_, Result<LeasedId, LeaseError>>;

    /// Records that the metadata group no longer knows a lease.
    fn lease_refused(&self, lease: LeaseId);
}

impl Blobs for Pipeline {
    fn write<'a>(
        &'a self,
        source: Source,
        key: &'a DataKey,
        part: u32,
        hashes: Hashes,
        approve: Approve<'a>,
    ) -> BoxFuture<'a, Result<WrittenBlob, PutError>> {
        Box::pin(self.write_blob(source, key, part, hashes, approve))
    }

    fn read(
        &self,
        plan: ReadPlan,
        range: Range<u64>,
    ) -> BoxFuture<'_, Result<Plaintext, GetError>> {
        Box::pin(async move { Ok(Self::read(self, plan, range).await?.boxed()) })
    }

    fn reads(&self) -> &Reads {
        Self::reads(self)
    }

    fn memory(&self) -> &Memory {
        Self::memory(self)
    }

    fn reserve_copy(&self, payer: Payer) -> BoxFuture<'_, Result<Reservation, Busy>> {
        Box::pin(Self::reserve_copy(self, payer))
    }

    fn take_id(&self) -> BoxFuture<'_, Result<LeasedId, LeaseError>> {
        Box::pin(self.leases().next_id())
    }

    fn lease_refused(&self, lease: LeaseId) {
        self.leases().refused(lease);
    }
}
