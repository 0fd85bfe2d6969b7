//! The scrub: reads every byte of a disk against its checksums, again and again, so that rot is
//! found while there are still other shards to rebuild from.
//!
//! - `plan` decides what is read when: a pure step function over a clock that is handed in.
//!   `verify` reads and checks. `ledger` is what survives a restart: where the pass stands, and the
//!   shards known to be damaged. `worker` puts them together and gives them a thread.
//! - Damage goes into the disk's health, from where the node reports it; a bad index file is
//!   rebuilt, a bad superblock written again. Damaged shards are read `again` from time to time:
//!   those that are whole count as whole.
//! - Must never keep a user waiting for long: it reads in small pieces, stands back while there is
//!   traffic and insists only when its deadline would be missed.

mod again;
pub(super) mod ledger;
pub(super) mod plan;
mod verify;
pub(super) mod worker;

use std::time::Duration;

/// How a disk is scrubbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubSettings {
    /// Every byte is checked at least once within this time (default 30 days). A pass is made in
    /// less than half of it, so that this holds whatever is written and deleted meanwhile.
    pub cycle: Duration,
    /// What is new is checked for the first time within this time (default 24 h).
    pub fresh_within: Duration,
    /// The most that is read in a second, in bytes (default 32 MiB).
    pub bytes_per_s_max: u64,
}

impl Default for ScrubSettings {
    fn default() -> Self {
        Self {
            cycle: Duration::from_secs(30 * 24 * 3600),
            fresh_within: Duration::from_secs(24 * 3600),
            bytes_per_s_max: 32 << 20,
        }
    }
}

/// How far a disk's scrub is. Times are in milliseconds since 1970, 0 if it has not been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubStatus {
    /// An operator asked for the pass under way.
    pub demanded: bool,
    /// When the pass under way, or the last one, began.
    pub began_ms: u64,
    /// How much of it is done, in thousandths.
    pub done_permille: u64,
    pub passes: u64,
    /// When the last pass was finished.
    pub finished_ms: u64,
    /// All that was written before was checked at least once.
    pub fresh_ms: u64,
    /// Bytes read in all passes.
    pub checked_bytes: u64,
    /// Damaged shards that the scrub found, in all passes.
    pub found_shards: u64,
    /// The pass takes longer than it may: the disk holds more than the rate allows for.
    pub late: bool,
}
