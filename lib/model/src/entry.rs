//! One entry of the Raft log: the leader's stamp, and a proposer's envelope as it was encoded.
//!
//! ```text
//! entry = 1 version = 1 ‖ 8 stamp, big-endian milliseconds since 1970 ‖ envelope (`codec`)
//! ```
//!
//! The envelope is encoded once, by its proposer: its bytes are copied behind room for the stamp,
//! and the leader fills in its time when it appends the entry. So no client tells the group the
//! time, and the command's bytes are not touched on the way.

use crate::codec::{self, DecodeError};
use crate::command::Envelope;
use crate::rows::Proposal;

/// The last millisecond of the year 9999: the latest time that the group accepts, because texts of
/// dates have four digits for the year.
pub const TIME_MAX_MS: u64 = 253_402_300_799_999;

const VERSION: u8 = 1;
const STAMP_LEN: usize = 8;
const HEAD_LEN: usize = 1 + STAMP_LEN;

/// Makes the entry of an encoded envelope. Its stamp is still 0.
#[must_use]
pub fn unstamped(envelope: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(HEAD_LEN + envelope.len());
    entry.push(VERSION);
    entry.extend_from_slice(&[0; STAMP_LEN]);
    entry.extend_from_slice(envelope);
    entry
}

/// Writes the leader's time into an entry that [`unstamped`] made.
///
/// # Panics
/// If `entry` is shorter than its head.
pub fn stamp(entry: &mut [u8], stamp_ms: u64) {
    entry[1..HEAD_LEN].copy_from_slice(&stamp_ms.min(TIME_MAX_MS).to_be_bytes());
}

/// An entry, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The leader's time when it appended the entry, in milliseconds since 1970.
    pub stamp_ms: u64,
    pub envelope: Envelope,
    /// Its place in the log; it is not a part of its bytes.
    pub index: u64,
    /// What is remembered of a client's command; None for others.
    pub proposal: Option<Proposal>,
}

impl Entry {
    /// Builds the entry of an envelope, at index 0.
    #[must_use]
    pub fn new(stamp_ms: u64, envelope: Envelope) -> Self {
        let bytes = codec::encode(&envelope);
        Self::of(0, stamp_ms, envelope, &bytes)
    }

    /// `bytes` are the encoded envelope.
    fn of(index: u64, stamp_ms: u64, envelope: Envelope, bytes: &[u8]) -> Self {
        let proposal = envelope.key.map(|key| {
            let mut digest = [0; 8];
            digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
            Proposal {
                attempt: key.attempt,
                digest,
            }
        });
        Self {
            stamp_ms,
            envelope,
            index,
            proposal,
        }
    }
}

/// Takes the entry at `index` of the log apart.
pub fn decode(index: u64, entry: &[u8]) -> Result<Entry, DecodeError> {
    let (version, rest) = entry.split_first().ok_or(DecodeError::Empty)?;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    let (stamp, envelope) = rest
        .split_first_chunk::<STAMP_LEN>()
        .ok_or(DecodeError::Malformed)?;
    let decoded = codec::decode(envelope)?;
    let stamp_ms = u64::from_be_bytes(*stamp);
    Ok(Entry::of(index, stamp_ms, decoded, envelope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;

    fn envelope() -> Envelope {
        Envelope {
            key: None,
            command: Command::Nothing,
        }
    }

    #[test]
    fn an_entry_is_its_stamp_and_its_envelope() {
        let bytes = codec::encode(&envelope());
        let mut entry = unstamped(&bytes);
        stamp(&mut entry, 0x0102_0304);
        assert_eq!(entry[..9], [1, 0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(entry[9..], bytes);
        assert_eq!(decode(0, &entry), Ok(Entry::new(0x0102_0304, envelope())));
    }

    #[test]
    fn a_clock_beyond_all_dates_is_stamped_as_the_last_one() {
        let mut entry = unstamped(&codec::encode(&envelope()));
        stamp(&mut entry, u64::MAX);
        assert_eq!(decode(0, &entry), Ok(Entry::new(TIME_MAX_MS, envelope())));
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(decode(0, &[]), Err(DecodeError::Empty));
        assert_eq!(decode(0, &[2; 40]), Err(DecodeError::Version(2)));
        assert_eq!(decode(0, &[1; 8]), Err(DecodeError::Malformed));
        let whole = unstamped(&codec::encode(&envelope()));
        for len in 1..whole.len() {
            assert!(decode(0, &whole[..len]).is_err(), "{len} bytes");
        }
    }
}
