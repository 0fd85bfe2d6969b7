//! How rows, commands and answers become bytes: one version byte, then postcard's wire format
//! (<https://postcard.jamesmunns.com/wire-format>).
//!
//! The version byte counts the formats of one kind ([`crate::kinds`]). A kind that changes gets the
//! next number and keeps a decoder for each older one; the cluster's level says which is written.
//! Nothing is trusted: lengths are checked against the bytes that are there, and trailing bytes are
//! an error.

use crate::kinds::Stored;
use crate::level::{KNOWN, Level};

/// The first version of every kind.
pub const VERSION: u8 = 1;

/// Bytes that are no row, command or answer of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("empty record")]
    Empty,
    /// Written by a newer program, or not by ours.
    #[error("record version {0} is not known to this program: a newer one wrote it")]
    Version(u8),
    /// A newer program's command.
    #[error("command {0} is not known to this program: a newer one proposed it")]
    Command(u32),
    /// The bytes don't fit the kind.
    #[error("malformed record")]
    Malformed,
}

impl DecodeError {
    /// Returns true if a newer program can read the bytes, as far as they tell.
    #[must_use]
    pub fn is_newer(&self) -> bool {
        match self {
            Self::Version(version) => *version > 0,
            Self::Command(_) => true,
            Self::Empty | Self::Malformed => false,
        }
    }
}

/// Encodes a value as it is written at `level`, behind its version byte.
#[must_use]
pub fn encode_at<T: Stored>(value: &T, level: Level) -> Vec<u8> {
    let version = T::version_at(level);
    value.write_body(version, vec![version])
}

/// Encodes a value for a reader whose level isn't known: as at the lowest level that this program
/// runs. Rows are written by [`encode_at`].
#[must_use]
pub fn encode<T: Stored>(value: &T) -> Vec<u8> {
    encode_at(value, KNOWN.lowest)
}

/// Decodes what [`encode_at`] made, at whatever level.
pub fn decode<T: Stored>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        None => Err(DecodeError::Empty),
        Some((&version, body)) => T::decode_version(version, body),
    }
}
