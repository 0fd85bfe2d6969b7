//! Bodies on their way in: what a client says of one, and writing it as a blob.
//!
//! Owns the order "write, compare with what was claimed, only then propose". Also owns writing
//! again: a small body is held whole, so that it can be written once more if the cluster changed
//! under the write ([`Writing::again`]). Nobody below does that.

use super::checksum::{Algorithm, Claims, Computed, Value};
use super::error::OpError;
use super::{Rejection, Store};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use megalith_blobs::{
    HashResults, Hashes, HeldBody, Pieces, PutError, Source, WrittenBlob, is_small,
};
use megalith_crypto::manifest::ContentHeaders;
use megalith_crypto::{DataKey, StreamHeader};
use megalith_model::command::{NewBlob, Refusal};
use megalith_model::ids::LeaseId;

/// Most bytes of one request's body: 5 GiB, as in S3.
pub const BODY_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// How often a held body is written if the cluster changes under the write. Both leases at hand
/// may have been closed, and then the volume, or the bucket, may still be another one.
const WRITES_MAX: usize = 5;

/// Checksums that follow the body.
pub struct Trailer {
    pub algorithms: Vec<Algorithm>,
    /// Takes them, once the body has ended. Fails if an announced one is missing.
    pub take: Box<dyn FnOnce() -> Result<Vec<Value>, OpError> + Send + Sync>,
}

/// A body and what its sender says of it.
pub struct Body {
    /// Its bytes.
    pub source: Pieces,
    /// How many they are.
    pub len: u64,
    /// What they hash to.
    pub claims: Claims,
    pub trailer: Option<Trailer>,
    /// Checksums to compute though none is claimed.
    pub wanted: Vec<Algorithm>,
}

/// Why a body broke off.
pub use megalith_blobs::SourceError as BodyError;

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
    body: Waiting,
    /// How often it was written.
    written: usize,
    claims: Claims,
    trailer: Option<Trailer>,
    hashes: Hashes,
}

/// A body's bytes between attempts to write them.
enum Waiting {
    Held(HeldBody),
    /// None once it is written: it can't be a second time.
    Stream(Option<Source>),
}

impl Writing {
    /// Says whether the body is to be written once more after a write came to nothing.
    ///
    /// # Errors
    /// What the client is told instead.
    pub(super) fn again(&self, rejection: Rejection) -> Result<(), OpError> {
        match rejection {
            Rejection::Refused(
                refusal @ (Refusal::LeaseClosed { .. } | Refusal::StaleVolume { .. }),
            ) => self.once_more(refusal.into()),
            Rejection::Refused(_) | Rejection::Failed(_) => Err(rejection.into()),
        }
    }

    /// Says whether the body can be written once more: a stream is gone.
    ///
    /// # Errors
    /// `told`, if it can't be, or was written too often.
    pub(super) fn once_more(&self, told: OpError) -> Result<(), OpError> {
        match &self.body {
            Waiting::Held(_) if self.written < WRITES_MAX => Ok(()),
            Waiting::Held(_) | Waiting::Stream(_) => Err(told),
        }
    }

    fn source(&mut self) -> Result<Source, OpError> {
        match &mut self.body {
            Waiting::Held(held) => Ok(Source::Held(held.clone())),
            Waiting::Stream(stream) => stream
                .take()
                .ok_or_else(|| OpError::Internal("a stream is written twice".to_owned())),
        }
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
        let (pieces, plain_len) = (body.source, body.len);
        let bytes = if is_small(plain_len) {
            let room = self.blobs().make_room(plain_len);
            let room = room.map_err(|_| OpError::SlowDown("no memory left"))?;
            Waiting::Held(HeldBody::new(collect(pieces, plain_len).await?, room))
        } else {
            Waiting::Stream(Some(Source::Stream { pieces, plain_len }))
        };
        Ok(Writing {
            body: bytes,
            written: 0,
            claims: body.claims,
            trailer: body.trailer,
            hashes,
        })
    }

    /// Writes the body as a blob and compares it with what was claimed. Nothing names the blob.
    pub(super) async fn write(
        &self,
        writing: &mut Writing,
        key: &DataKey,
        part: u32,
    ) -> Result<Written, Rejection> {
        let failed = Rejection::Failed;
        let source = writing.source().map_err(failed)?;
        writing.written += 1;
        let written = self.blobs().write(source, key, part, writing.hashes).await;
        let WrittenBlob {
            blob,
            header,
            hashes,
        } = written.map_err(put_error)?;
        if let Some(trailer) = writing.trailer.take() {
            let checksums = (trailer.take)().map_err(failed)?;
            writing.claims.checksums.extend(checksums);
        }
        let computed = computed(&hashes);
        writing.claims.verify(&computed).map_err(failed)?;
        Ok(Written {
            blob,
            header,
            computed,
        })
    }

    /// Notes the lease of a blob whose command was refused for it, so that it is not used again.
    pub(super) fn note_lease(&self, lease: LeaseId, rejection: Rejection) -> Rejection {
        if matches!(rejection, Rejection::Refused(Refusal::LeaseClosed { .. })) {
            self.blobs().lease_refused(lease);
        }
        rejection
    }
}

/// Reads a small body whole.
async fn collect(mut pieces: Pieces, len: u64) -> Result<Bytes, OpError> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(len).unwrap_or(0));
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece?);
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

/// Says what came of a write: a node that calls the lease closed says what the metadata group
/// would.
fn put_error(error: PutError) -> Rejection {
    Rejection::Failed(match error {
        PutError::LeaseClosed { blob } => {
            return Rejection::Refused(Refusal::LeaseClosed { blob });
        }
        PutError::Busy(_) => OpError::SlowDown("no memory left"),
        PutError::Source(source) => source.into(),
        PutError::Length { .. } => OpError::IncompleteBody,
        PutError::TooLarge(_) => OpError::EntityTooLarge,
        PutError::NoVolume { .. } | PutError::Unavailable { .. } => {
            OpError::Unavailable(error.to_string())
        }
        PutError::Lease(cause) => OpError::Unavailable(cause.to_string()),
        PutError::Seal(_) | PutError::Compute(_) => OpError::Internal(error.to_string()),
    })
}
