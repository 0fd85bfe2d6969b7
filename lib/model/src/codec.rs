//! How rows, commands and answers become bytes: one version byte, then postcard's wire format
//! (<https://postcard.jamesmunns.com/wire-format>).
//!
//! The version byte counts the formats of one kind. A kind that changes gets the next number and
//! keeps a decoder for each older one. Nothing is trusted: lengths are checked against the bytes
//! that are there, and trailing bytes are an error.

use serde::{Serialize, de::DeserializeOwned};

/// The version of every kind so far.
pub const VERSION: u8 = 1;

/// Bytes that are no row, command or answer of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("empty record")]
    Empty,
    /// Written by a newer program, or not by ours.
    #[error("record version {0} is not known (this program knows {VERSION})")]
    Version(u8),
    /// The bytes don't fit the kind.
    #[error("malformed record")]
    Malformed,
}

/// Encodes a value behind its version byte.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("our kinds have known lengths")
}

/// Decodes what [`encode`] made.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        None => Err(DecodeError::Empty),
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            Ok(_) | Err(_) => Err(DecodeError::Malformed),
        },
        Some((&version, _)) => Err(DecodeError::Version(version)),
    }
}
