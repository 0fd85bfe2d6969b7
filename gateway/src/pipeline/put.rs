//! Life of a write.

use super::hashes::{HashResults, Hashes};
use super::memory::Busy;
use super::ports::MetaIoError;
use super::{JobLost, Pipeline};
use bytes::Bytes;
use futures::Stream;
use megalith_crypto::{CryptoError, DataKey, StreamHeader};
use megalith_model::command::NewBlob;
use std::error::Error;

/// The client's body failed; the cause is the reader's own.
#[derive(Debug, thiserror::Error)]
#[error("read the body")]
pub struct SourceError(#[source] pub Box<dyn Error + Send + Sync>);

/// A blob that is written and durable, and that nothing names yet.
#[derive(Clone, Debug)]
pub struct WrittenBlob {
    /// For the command that will name it.
    pub blob: NewBlob,
    /// For the manifest.
    pub header: StreamHeader,
    /// To be compared with what the client said, before anything is proposed.
    pub hashes: HashResults,
}

/// Why a blob was not written. Nothing names it; what was written of it is garbage.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// No memory: slow down. The body was not touched.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The body failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The body is shorter or longer than was said.
    #[error("body of {expected} bytes has {found}")]
    Length {
        /// Bytes announced.
        expected: u64,
        /// Bytes that came, at least; never more than one piece beyond `expected`.
        found: u64,
    },
    /// No volume takes blobs; the cluster's own words, where it gave any.
    #[error("no volume takes new blobs: {reason}")]
    NoVolume {
        /// Why.
        reason: String,
    },
    /// Too few nodes took it; trying again may help.
    #[error("too few members took the blob: {reason}")]
    Unavailable {
        /// What the last of them said.
        reason: String,
    },
    /// No blob id was to be had.
    #[error("take a blob id")]
    Lease(#[from] MetaIoError),
    /// The random source failed.
    #[error("seal the blob")]
    Seal(#[from] CryptoError),
    /// A mistake of our own.
    #[error(transparent)]
    Compute(#[from] JobLost),
}

impl Pipeline {
    /// Writes one blob of `plain_len` bytes from `source`, sealed under `key` as part `part`
    /// (0 where the object has one part).
    ///
    /// # Errors
    /// See [`PutError`]; the source is not touched before memory is reserved.
    pub async fn write_blob<S>(
        &self,
        source: S,
        plain_len: u64,
        key: &DataKey,
        part: u32,
        hashes: Hashes,
    ) -> Result<WrittenBlob, PutError>
    where
        S: Stream<Item = Result<Bytes, SourceError>> + Send,
    {
        let _ = (source, plain_len, key, part, hashes);
        Err(PutError::Unavailable {
            reason: "not connected".into(),
        })
    }
}
