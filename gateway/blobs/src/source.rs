//! An incoming body: a small one that is held whole, or a stream.
//!
//! A held body owns the memory that its write needs, so this is reserved once however often the
//! body is written. Its holder writes it again if the cluster changed during the write.

use super::budget::{Busy, Reservation};
use super::memory::{Gathering, Memory, Paying};
use super::shares::Payer;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use megalith_crypto::cell::sealed_len;
use megalith_model::shape::Shape;
use std::sync::Arc;

/// Why a body broke off before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The connection ended early.
    #[error("the body is incomplete")]
    Incomplete,
    /// Its sender was silent for too long.
    #[error("the body's sender is silent")]
    Timeout,
    /// The signature of a chunk or trailer is wrong.
    #[error("a signature in the body is false")]
    Signature,
    /// Its hash is not the signed one.
    #[error("the body does not match its signed hash")]
    Sha256,
    /// Its chunks or trailers are malformed.
    #[error("the body's chunks are malformed")]
    Malformed,
    /// Shards of a copied object could not be read.
    #[error("the source of the copy could not be read")]
    SourceUnreadable,
}

/// The bytes of a body as they arrive.
pub type Pieces = BoxStream<'static, Result<Bytes, SourceError>>;

/// An incoming body.
pub enum Source {
    /// It comes piece by piece and can be written once.
    Stream {
        pieces: Pieces,
        /// The announced number of bytes.
        plain_len: u64,
        paying: Paying,
    },
    /// It is in memory.
    Held(HeldBody),
}

/// A small body, held whole. Clones share its bytes and its memory: that for the body and for
/// writing it.
#[derive(Clone, Debug)]
pub struct HeldBody {
    bytes: Bytes,
    room: Arc<Reservation>,
}

/// Why a small body is not held.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// No memory is free: the client should slow down.
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The body is shorter or longer than announced.
    #[error("a body is not as long as announced")]
    Length,
}

/// Returns true if a body of `plain_len` bytes is small: it is kept inline or as copies, and held
/// whole while it is written.
#[must_use]
pub fn is_small(plain_len: u64) -> bool {
    match Shape::for_len(sealed_len(plain_len)) {
        Shape::Inline | Shape::Copies => true,
        Shape::Coded => false,
    }
}

/// Returns the most bytes held for a body whose cells are all in memory at once: its plaintext and
/// its cells.
pub(super) fn whole_write_bytes(plain_len: u64) -> u64 {
    2 * sealed_len(plain_len)
}

impl HeldBody {
    /// Reads a small body ([`is_small`]) whole. Reserves memory for its first bytes before any of
    /// it is read, and for its write when it is there.
    ///
    /// # Errors
    /// See [`HoldError`].
    pub async fn collect(
        memory: &Memory,
        payer: Payer,
        mut pieces: Pieces,
        plain_len: u64,
    ) -> Result<Self, HoldError> {
        assert!(is_small(plain_len), "only small bodies are held whole");
        let whole = whole_write_bytes(plain_len);
        let mut gathering = Gathering::new(memory, payer, whole);
        gathering.make_room(plain_len.min(1)).await?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let len = (bytes.len() + piece.len()) as u64;
            if len > plain_len {
                return Err(HoldError::Length);
            }
            gathering.make_room(len).await?;
            bytes.extend_from_slice(&piece);
        }
        if (bytes.len() as u64) < plain_len {
            return Err(HoldError::Length);
        }
        let (room, _) = gathering.work(whole).await?;
        Ok(Self {
            bytes: bytes.freeze(),
            room: Arc::new(room),
        })
    }
}

impl Source {
    /// Returns the number of bytes that were announced.
    #[must_use]
    pub fn plain_len(&self) -> u64 {
        match self {
            Self::Stream { plain_len, .. } => *plain_len,
            Self::Held(held) => held.bytes.len() as u64,
        }
    }

    /// Returns who pays for what it holds.
    #[must_use]
    pub fn payer(&self) -> Payer {
        match self {
            Self::Stream { paying, .. } => paying.payer(),
            Self::Held(held) => held.room.payer(),
        }
    }

    /// Returns the bytes as a stream, in either case.
    #[must_use]
    pub fn into_pieces(self) -> Pieces {
        match self {
            Self::Stream { pieces, .. } => pieces,
            Self::Held(held) => stream::iter([Ok(held.bytes)]).boxed(),
        }
    }
}
