//! Life of a read.

use super::memory::Busy;
use super::{JobLost, Pipeline};
use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use megalith_crypto::{DataKey, StreamHeader};
use megalith_model::ids::BlobId;
use megalith_model::query::BlobView;
use megalith_model::topology::Volume;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// One blob of an object, as its manifest tells it.
#[derive(Clone, Debug)]
pub struct PartToRead {
    /// Where it is.
    pub view: BlobView,
    /// Its header, from the manifest.
    pub header: StreamHeader,
    /// Plaintext bytes, from the manifest.
    pub plain_len: u64,
    /// Its part number as it was sealed (0 where the object has one part).
    pub part: u32,
}

/// All that is needed to read an object's bytes.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    /// Its parts, in order.
    pub parts: Vec<PartToRead>,
    /// The volumes that they name.
    pub volumes: Vec<Volume>,
    /// The data key.
    pub key: Arc<DataKey>,
}

/// Why a read can't go on.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// No memory: slow down.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The range is not within the object.
    #[error("range {start}..{end} of an object of {len} bytes")]
    Range {
        /// First byte.
        start: u64,
        /// After the last byte.
        end: u64,
        /// The object's bytes.
        len: u64,
    },
    /// Too few good shards answered; trying again may help.
    #[error("{blob} segment {segment}: {good} good shards of the {needed} needed")]
    Unavailable {
        /// The blob.
        blob: BlobId,
        /// Its segment.
        segment: u32,
        /// Shards that answered well.
        good: usize,
        /// Shards needed.
        needed: usize,
    },
    /// The bytes are not those that were sealed, and no shard can be blamed.
    #[error("{blob} does not open")]
    Unauthentic {
        /// The blob.
        blob: BlobId,
    },
    /// Row, manifest and volumes don't fit each other.
    #[error("{blob}: metadata is inconsistent: {what}")]
    Inconsistent {
        /// The blob.
        blob: BlobId,
        /// How.
        what: &'static str,
    },
    /// A mistake of our own.
    #[error(transparent)]
    Compute(#[from] JobLost),
}

/// The plaintext, piece by piece. After an error nothing follows.
pub struct ReadStream {
    pieces: BoxStream<'static, Result<Bytes, GetError>>,
}

impl Stream for ReadStream {
    type Item = Result<Bytes, GetError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.as_mut().poll_next(cx)
    }
}

impl Pipeline {
    /// Reads the plaintext bytes `range` of the object; done when the first piece is there, so
    /// that what fails at once can still be answered as an error.
    ///
    /// # Errors
    /// See [`GetError`].
    pub async fn read(&self, plan: ReadPlan, range: Range<u64>) -> Result<ReadStream, GetError> {
        let _ = range;
        Err(GetError::Inconsistent {
            blob: plan.parts.first().map(|part| part.view.blob).unwrap_or_default(),
            what: "not connected",
        })
    }
}
