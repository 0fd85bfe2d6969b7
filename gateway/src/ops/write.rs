//! Incoming bodies: what a client claims of one, and writing it as a blob.
//!
//! Owns the order "write, compare with the claims, only then propose". Also owns writing again: a
//! small body is held whole, so that it can be written again if the cluster changed during the
//! write ([`Writing::again`]). No layer below does that.

use super::checksum::{Algorithm, Claims, Computed, Value};
use super::error::{OpError, Outage};
use super::{Caller, Rejection, Store, no_id};
use crate::lock::lock;
use megalith_blobs::{
    Busy, HashResults, Hashes, HeldBody, HoldError, LeasedId, Payer, Paying, Pieces, PutError,
    Reservation, Source, WrittenBlob, is_small,
};
use megalith_crypto::manifest::ContentHeaders;
use megalith_crypto::{DataKey, StreamIv};
use megalith_model::command::{NewBlob, Refusal};
use std::sync::Mutex;

/// The most bytes of one request's body: 5 GiB, as in S3.
pub const BODY_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// How often a held body is written if the cluster changes during the write. Both leases that the
/// gateway holds may have been closed, and after that the volume or the bucket may still be another
/// one.
const WRITES_MAX: usize = 5;

/// Checksums that follow the body.
pub struct Trailer {
    pub algorithms: Vec<Algorithm>,
    /// Returns them once the body has ended. Fails if an announced one is missing.
    pub take: Box<dyn FnOnce() -> Result<Vec<Value>, OpError> + Send + Sync>,
}

/// A body and its sender's claims.
pub struct Body {
    pub source: Pieces,
    /// The number of bytes.
    pub len: u64,
    /// The hashes that the client claims.
    pub claims: Claims,
    pub trailer: Option<Trailer>,
    /// Checksums to compute even if the client claims none.
    pub wanted: Vec<Algorithm>,
    /// Whether it is read from another object.
    pub copied: bool,
}

/// Why a body broke off.
pub use megalith_blobs::SourceError as BodyError;

/// Headers and user metadata of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    pub headers: ContentHeaders,
    /// `x-amz-meta-*` without the prefix.
    pub user_metadata: Vec<(String, String)>,
}

/// A blob that is written, and checked against the claims.
pub(super) struct CheckedBlob {
    /// The key of the command that brings it.
    pub(super) id: LeasedId,
    pub(super) blob: NewBlob,
    pub(super) iv: StreamIv,
    pub(super) computed: Computed,
}

/// A body that is about to be written, perhaps more than once.
pub(super) struct Writing {
    body: Waiting,
    /// How often it has been written.
    written: usize,
    claims: Claims,
    trailer: Option<Trailer>,
    hashes: Hashes,
}

/// A body's bytes between attempts to write them.
enum Waiting {
    Held(HeldBody),
    /// None once it has been written: a stream can't be written twice.
    Stream(Option<Source>),
}

impl Writing {
    /// Says whether the body should be written again after a failed write.
    ///
    /// # Errors
    /// The error for the client, if it should not.
    pub(super) fn again(&self, rejection: Rejection) -> Result<(), OpError> {
        match rejection {
            Rejection::Refused(
                refusal @ (Refusal::LeaseClosed { .. } | Refusal::StaleVolume { .. }),
            ) => self.once_more(refusal.into()),
            Rejection::Refused(_) | Rejection::Failed(_) => Err(rejection.into()),
        }
    }

    /// Says whether the body can be written again: a stream can't.
    ///
    /// # Errors
    /// `told`, if it can't, or has been written too often.
    pub(super) fn once_more(&self, told: OpError) -> Result<(), OpError> {
        match &self.body {
            Waiting::Held(_) if self.written < WRITES_MAX => Ok(()),
            Waiting::Held(_) | Waiting::Stream(_) => Err(told),
        }
    }

    /// Takes the checksums that follow the body, once the body was read to its end.
    fn take_trailer(&mut self) -> Result<(), OpError> {
        if let Some(trailer) = self.trailer.take() {
            self.claims.checksums.extend((trailer.take)()?);
        }
        Ok(())
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
    /// Reserves memory for a document.
    ///
    /// # Errors
    /// [`OpError::SlowDown`] if there is no room.
    pub fn reserve(&self, payer: Payer, bytes: u64) -> Result<Reservation, OpError> {
        Ok(self.blobs().memory().try_reserve(payer, bytes)?)
    }

    /// Reserves memory for what a connection holds of a request before anybody reads it.
    ///
    /// # Errors
    /// [`OpError::SlowDown`] if there is no room.
    pub fn reserve_incoming(&self, payer: Payer, bytes: u64) -> Result<Reservation, OpError> {
        Ok(self.blobs().memory().try_incoming(payer, bytes)?)
    }

    /// Waits for memory for what a connection holds of a request while nobody knows whose it is.
    ///
    /// # Errors
    /// [`OpError::SlowDown`] if there is none for too long.
    pub async fn reserve_strange(&self, bytes: u64) -> Result<Reservation, OpError> {
        let memory = self.blobs().memory();
        Ok(memory.incoming(Payer::Unknown, bytes).await?)
    }

    /// Returns whether half of the memory or more is in use.
    #[must_use]
    pub fn is_memory_short(&self) -> bool {
        !self.blobs().memory().is_ample()
    }

    /// Takes a body: a small one is read whole, any other stays a stream.
    pub(super) async fn take_body(&self, caller: Caller, body: Body) -> Result<Writing, OpError> {
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
            let memory = self.blobs().memory();
            let held = HeldBody::collect(memory, caller.payer(), pieces, plain_len);
            Waiting::Held(held.await?)
        } else {
            let paying = match body.copied {
                true => Paying::AtOnce(caller.payer()),
                false => Paying::AsItComes(caller.payer()),
            };
            Waiting::Stream(Some(Source::Stream {
                pieces,
                plain_len,
                paying,
            }))
        };
        Ok(Writing {
            body: bytes,
            written: 0,
            claims: body.claims,
            trailer: body.trailer,
            hashes,
        })
    }

    /// Writes the body as a blob and compares it with the claims. No row names the blob yet.
    pub(super) async fn write(
        &self,
        writing: &mut Writing,
        key: &DataKey,
        part: u32,
    ) -> Result<CheckedBlob, Rejection> {
        let failed = Rejection::Failed;
        let source = writing.source().map_err(failed)?;
        writing.written += 1;
        if let Source::Held(_) = source {
            // Its body was read to the end.
            writing.take_trailer().map_err(failed)?;
        }
        let (claims, hashes) = (&writing.claims, writing.hashes);
        let false_claim = Mutex::new(None);
        let approve = |hashes: &HashResults| match claims.verify(&computed(hashes)) {
            Ok(()) => true,
            Err(error) => {
                *lock(&false_claim) = Some(error);
                false
            }
        };
        let written = self
            .blobs()
            .write(source, key, part, hashes, &approve)
            .await;
        if let Some(error) = lock(&false_claim).take() {
            return Err(failed(error));
        }
        let WrittenBlob {
            id,
            blob,
            iv,
            hashes,
        } = written.map_err(put_error)?;
        writing.take_trailer().map_err(failed)?;
        let computed = computed(&hashes);
        writing.claims.verify(&computed).map_err(failed)?;
        Ok(CheckedBlob {
            id,
            blob,
            iv,
            computed,
        })
    }
}

impl From<Busy> for OpError {
    fn from(_: Busy) -> Self {
        Self::SlowDown("no memory left")
    }
}

impl From<HoldError> for OpError {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Busy(busy) => busy.into(),
            HoldError::Source(source) => source.into(),
            HoldError::Length => Self::IncompleteBody,
        }
    }
}

pub(super) fn hashes_of(algorithms: impl Iterator<Item = Algorithm>) -> Hashes {
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

pub(super) fn computed(results: &HashResults) -> Computed {
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

/// Turns a failed write into a rejection: if a node calls the lease closed, the result is the same
/// as if the metadata group had said so.
fn put_error(error: PutError) -> Rejection {
    Rejection::Failed(match error {
        PutError::LeaseClosed { blob } => {
            return Rejection::Refused(Refusal::LeaseClosed { blob });
        }
        PutError::Busy(busy) => busy.into(),
        PutError::Source(source) => source.into(),
        PutError::Length { .. } => OpError::IncompleteBody,
        PutError::TooLarge(_) => OpError::EntityTooLarge,
        PutError::NoVolume { .. } => OpError::Unavailable(Outage::NoVolume, error.to_string()),
        PutError::Unavailable { .. } => OpError::Unavailable(Outage::Writes, error.to_string()),
        PutError::Lease(cause) => no_id(&cause),
        PutError::Seal(_) | PutError::Compute(_) | PutError::Refused => {
            OpError::Internal(error.to_string())
        }
    })
}
