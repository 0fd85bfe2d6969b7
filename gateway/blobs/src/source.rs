//! A body on its way in: a small one that is held whole, or a stream.
//!
//! A held body brings the memory that its write takes along, so that it is paid for once however
//! often it is written. Who holds it writes it again if the cluster changed under the write.

use super::memory::{Busy, Memory, Reservation};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use megalith_crypto::cell::sealed_len;
use megalith_model::shape::Shape;
use std::sync::Arc;

/// Why a body broke off before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
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

/// The bytes of a body as they come.
pub type Pieces = BoxStream<'static, Result<Bytes, SourceError>>;

/// A body on its way in.
pub enum Source {
    /// It comes piece by piece and can be written once.
    Stream {
        pieces: Pieces,
        /// Bytes that were announced.
        plain_len: u64,
    },
    /// It is here.
    Held(HeldBody),
}

/// A small body, held whole. Clones share its bytes and its room.
#[derive(Clone, Debug)]
pub struct HeldBody {
    bytes: Bytes,
    _room: Arc<Room>,
}

/// Memory for a small body and for what writing it takes.
#[derive(Debug)]
pub struct Room {
    plain_len: u64,
    _reservation: Reservation,
}

/// True if a body of `plain_len` bytes is small: kept inline or as copies, and to be held whole
/// while it is written.
#[must_use]
pub fn is_small(plain_len: u64) -> bool {
    match Shape::for_len(sealed_len(plain_len)) {
        Shape::Inline | Shape::Copies => true,
        Shape::Coded => false,
    }
}

impl Room {
    /// Reserves memory for a small body of `plain_len` bytes, before any of it is read.
    ///
    /// # Errors
    /// [`Busy`] if there is no room.
    pub fn reserve(memory: &Memory, plain_len: u64) -> Result<Self, Busy> {
        assert!(is_small(plain_len), "only small bodies are held whole");
        Ok(Self {
            plain_len,
            _reservation: memory.try_reserve(whole_write_bytes(plain_len))?,
        })
    }
}

/// The most bytes that are held for a body whose cells are all there at a time: its plaintext,
/// and its cells.
pub(super) fn whole_write_bytes(plain_len: u64) -> u64 {
    2 * sealed_len(plain_len)
}

impl HeldBody {
    /// Holds a body in the room that was made for it.
    #[must_use]
    pub fn new(bytes: Bytes, room: Room) -> Self {
        assert!(
            bytes.len() as u64 == room.plain_len,
            "a body fits its room exactly"
        );
        Self {
            bytes,
            _room: Arc::new(room),
        }
    }
}

impl Source {
    /// The body's bytes as they were announced.
    #[must_use]
    pub fn plain_len(&self) -> u64 {
        match self {
            Self::Stream { plain_len, .. } => *plain_len,
            Self::Held(held) => held.bytes.len() as u64,
        }
    }

    /// The bytes, as a stream in either case.
    #[must_use]
    pub fn into_pieces(self) -> Pieces {
        match self {
            Self::Stream { pieces, .. } => pieces,
            Self::Held(held) => stream::iter([Ok(held.bytes)]).boxed(),
        }
    }
}
