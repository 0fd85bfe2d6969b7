//! Bodies on their way in: what a client says of one, and writing it as a blob.
//!
//! Owns the order "write, compare with what was claimed, only then propose". A small body is held
//! whole, so that it can be written again when the cluster changed under the write.

use super::Store;
use super::checksum::{Algorithm, Claims, Computed, Value};
use super::error::OpError;
use super::ports::Source;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use megalith_blobs::{HashResults, Hashes, PutError, Reservation, SourceError, WrittenBlob};
use megalith_crypto::manifest::ContentHeaders;
use megalith_crypto::{DataKey, StreamHeader};
use megalith_model::command::NewBlob;

/// Most bytes of one request's body: 5 GiB, as in S3.
pub const BODY_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Bodies up to this length are held whole while they are written.
const HELD_BYTES_MAX: u64 = 128 * 1024;
/// How often a held body is written where the cluster changed under the write.
pub(super) const WRITES_MAX: usize = 3;

/// Checksums that follow the body.
pub struct Trailer {
    pub algorithms: Vec<Algorithm>,
    /// Takes them, once the body has ended. Fails where an announced one is missing.
    pub take: Box<dyn FnOnce() -> Result<Vec<Value>, OpError> + Send + Sync>,
}

/// A body and what its sender says of it.
pub struct Body {
    /// Its bytes. Its errors are [`BodyError`]s.
    pub source: Source,
    /// How many they are.
    pub len: u64,
    /// What they hash to.
    pub claims: Claims,
    pub trailer: Option<Trailer>,
    /// Checksums to compute though none is claimed.
    pub wanted: Vec<Algorithm>,
}

/// Why a body broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection ended before it.
    #[error("the body is incomplete")]
    Incomplete,
    /// Its sender was silent for too long.
    #[error("the body's sender is silent")]
    Timeout,
    /// A chunk's or trailer's signature is false.
    #[error("a signature in the body is false")]
    Signature,
    /// It doesn't hash to its signed hash.
    #[error("the body does not match its signed hash")]
    Sha256,
    /// Its chunks or trailers are malformed.
    #[error("the body's chunks are malformed")]
    Malformed,
    /// Shards of a copied object could not be read.
    #[error("the source of the copy could not be read")]
    SourceUnreadable,
}

/// What is told about an object: headers and user metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    pub headers: ContentHeaders,
    /// `x-amz-meta-*` without the prefix.
    pub user_metadata: Vec<(String, String)>,
}

/// A blob that is written, and checked against what was claimed.
pub(super) struct Written {
    pub(super) blob: NewBlob,
    pub(super) header: StreamHeader,
    pub(super) computed: Computed,
}

/// A body that is about to be written, perhaps more than once.
pub(super) struct Writing {
    bytes: Option<Source>,
    held: Option<(Bytes, Reservation)>,
    len: u64,
    claims: Claims,
    trailer: Option<Trailer>,
    hashes: Hashes,
}

impl Writing {
    /// True where the body can be written once more.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }
}

impl Store {
    /// Takes a body: a small one whole, another as a stream.
    pub(super) async fn take_body(&self, body: Body) -> Result<Writing, OpError> {
        if body.len > BODY_BYTES_MAX {
            return Err(OpError::EntityTooLarge);
        }
        let announced = body
            .trailer
            .iter()
            .flat_map(|trailer| &trailer.algorithms)
            .copied();
        let claimed = body.claims.checksums.iter().map(|value| value.algorithm);
        let hashes = hashes_of(announced.chain(claimed).chain(body.wanted.iter().copied()));
        let mut writing = Writing {
            bytes: Some(body.source),
            held: None,
            len: body.len,
            claims: body.claims,
            trailer: body.trailer,
            hashes,
        };
        if body.len <= HELD_BYTES_MAX {
            let reserved = self
                .blobs()
                .reserve(body.len)
                .map_err(|_| OpError::SlowDown("no memory left"))?;
            let source = writing
                .bytes
                .take()
                .unwrap_or_else(|| stream::empty().boxed());
            writing.held = Some((collect(source, body.len).await?, reserved));
        }
        Ok(writing)
    }

    /// Writes the body as a blob and compares it with what was claimed. Nothing names the blob.
    pub(super) async fn write(
        &self,
        writing: &mut Writing,
        key: &DataKey,
        part: u32,
    ) -> Result<Written, OpError> {
        let source = match (&writing.held, writing.bytes.take()) {
            (Some((bytes, _)), _) => stream::iter([Ok(bytes.clone())]).boxed(),
            (None, Some(source)) => source,
            (None, None) => return Err(OpError::Internal("a body is written twice".to_owned())),
        };
        let written = self
            .blobs()
            .write(source, writing.len, key, part, writing.hashes)
            .await;
        let WrittenBlob {
            blob,
            header,
            hashes,
        } = written.map_err(put_error)?;
        if let Some(trailer) = writing.trailer.take() {
            writing.claims.checksums.extend((trailer.take)()?);
        }
        let computed = computed(&hashes);
        writing.claims.verify(&computed)?;
        Ok(Written {
            blob,
            header,
            computed,
        })
    }
}

/// Reads a small body whole.
async fn collect(mut source: Source, len: u64) -> Result<Bytes, OpError> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(len).unwrap_or(0));
    while let Some(piece) = source.next().await {
        bytes.extend_from_slice(&piece.map_err(source_error)?);
        if bytes.len() as u64 > len {
            return Err(OpError::IncompleteBody);
        }
    }
    if (bytes.len() as u64) < len {
        return Err(OpError::IncompleteBody);
    }
    Ok(bytes.freeze())
}

fn hashes_of(algorithms: impl Iterator<Item = Algorithm>) -> Hashes {
    let mut hashes = Hashes::default();
    for algorithm in algorithms {
        match algorithm {
            Algorithm::Crc32 => hashes.crc32 = true,
            Algorithm::Crc32c => hashes.crc32c = true,
            Algorithm::Crc64Nvme => hashes.crc64nvme = true,
            Algorithm::Sha1 => hashes.sha1 = true,
            Algorithm::Sha256 => hashes.sha256 = true,
        }
    }
    hashes
}

fn computed(results: &HashResults) -> Computed {
    let HashResults {
        md5,
        crc32,
        crc32c,
        crc64nvme,
        sha1,
        sha256,
    } = results;
    let all = [
        (Algorithm::Crc32, crc32.map(|value| value.to_vec())),
        (Algorithm::Crc32c, crc32c.map(|value| value.to_vec())),
        (Algorithm::Crc64Nvme, crc64nvme.map(|value| value.to_vec())),
        (Algorithm::Sha1, sha1.map(|value| value.to_vec())),
        (Algorithm::Sha256, sha256.map(|value| value.to_vec())),
    ];
    let checksums = all
        .into_iter()
        .filter_map(|(algorithm, bytes)| {
            Some(Value {
                algorithm,
                bytes: bytes?,
            })
        })
        .collect();
    Computed {
        md5: *md5,
        checksums,
    }
}

fn source_error(error: SourceError) -> OpError {
    match error.0.downcast_ref::<BodyError>() {
        Some(BodyError::Incomplete) | None => OpError::IncompleteBody,
        Some(BodyError::Timeout) => OpError::BodyTimeout,
        Some(BodyError::Signature) => OpError::BodySignature,
        Some(BodyError::Sha256) => OpError::BodySha256,
        Some(BodyError::Malformed) => OpError::BodyMalformed,
        Some(BodyError::SourceUnreadable) => {
            OpError::Unavailable("the source of the copy could not be read".to_owned())
        }
    }
}

pub(super) fn put_error(error: PutError) -> OpError {
    match error {
        PutError::Busy(_) => OpError::SlowDown("no memory left"),
        PutError::Source(source) => source_error(source),
        PutError::Length { .. } => OpError::IncompleteBody,
        PutError::LeaseClosed { .. } => OpError::SlowDown("the lease of blob ids was closed"),
        PutError::TooLarge(_) => OpError::EntityTooLarge,
        PutError::NoVolume { .. } | PutError::Unavailable { .. } | PutError::Lease(_) => {
            OpError::Unavailable(error.to_string())
        }
        PutError::Seal(_) | PutError::Compute(_) => OpError::Internal(error.to_string()),
    }
}
