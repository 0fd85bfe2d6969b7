//! All rows of a member, sent to one whose log no longer reaches them.
//!
//! The source is not paused. Its rows are a snapshot of the engine at one place of the log (module
//! `still`): what is written meanwhile is in the log behind that place, which is not purged while
//! the snapshot is in use. An engine without snapshots is scanned in pieces while entries go on
//! being applied; its `session` notes which of the rows already sent change meanwhile, and sends
//! those until nothing is left. The last piece says which place of the log the whole stands for.
//! Appends, votes and ticks never wait for any of this. Every piece has a checksum and is about a
//! MiB long; a broken stream goes on where it broke, as long as the source remembers it. It forgets
//! one that is idle or too old: what the engine keeps for it takes space.

mod fetch;
mod session;
mod source;
mod still;

#[cfg(test)]
mod tests;

pub use fetch::{FetchError, Fetched, fetch};
pub use session::Session;
pub(crate) use source::{BACKUP_PEER, CHECK_PEER};
pub use source::{SnapshotSource, SourceSettings};

use crate::engine::FIRST_KEY;
pub(crate) use megalith_client::rows_checksum as checksum;
use megalith_proto::v1;

/// The default of [`SourceSettings::piece_bytes`].
const PIECE_BYTES: usize = 1 << 20;

/// The first key behind the row `after`; empty: the first that a row may have.
fn next_key(after: &[u8]) -> Vec<u8> {
    let mut key = after.to_vec();
    if key.is_empty() {
        key.extend_from_slice(FIRST_KEY);
    } else {
        key.push(0);
    }
    key
}

fn row(key: &[u8], value: Option<&[u8]>) -> v1::SnapshotRow {
    v1::SnapshotRow {
        key: key.to_vec().into(),
        value: value.unwrap_or_default().to_vec().into(),
        deleted: value.is_none(),
    }
}
