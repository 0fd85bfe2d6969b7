//! All rows of a member, sent to one whose log no longer reaches them.
//!
//! The source is not paused: it scans in pieces while entries go on being applied, notes which of
//! the rows already sent change meanwhile, and sends those until nothing is left. The last piece
//! says which place of the log the whole stands for. Appends, votes and ticks never wait for any
//! of this. Every piece has a checksum and is about a MiB long; a broken stream goes on
//! where it broke, as long as the source remembers it.

mod fetch;
mod session;
mod source;

#[cfg(test)]
mod tests;

pub use fetch::{Fetched, fetch};
pub use session::Session;
pub use source::{SnapshotSource, SourceSettings};

use megalith_proto::v1;

/// The default of [`SourceSettings::piece_bytes`].
const PIECE_BYTES: usize = 1 << 20;

/// The checksum of a piece: crc32c over keys and values, each behind its length.
pub(crate) fn checksum(rows: &[v1::SnapshotRow]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for row in rows {
        for part in [&row.key, &row.value] {
            let len = u32::try_from(part.len()).expect("rows are below 4 GiB");
            digest.update(&len.to_le_bytes());
            digest.update(part);
        }
        digest.update(&[u8::from(row.deleted)]);
    }
    u32::try_from(digest.finalize()).expect("a 32-bit checksum")
}
