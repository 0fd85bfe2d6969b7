//! What went wrong on a disk so far: counts, and the shards that a caller must rebuild.

use super::shard::ShardId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Damaged shards remembered by name; beyond that they are only counted.
const DAMAGED_MAX: usize = 65_536;
/// Damaged shards shown by [`DiskHealth`].
const DAMAGED_SHOWN: usize = 16;

/// A disk's state of health, for heartbeats and `status`. Counts begin at the opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskHealth {
    /// Shards known to be damaged and neither deleted nor replaced since.
    pub damaged_shards: u64,
    /// The first few of them.
    pub damaged_first: Vec<ShardId>,
    /// Pieces of chunk files where bytes once durable are no record any more; whose they were is
    /// unknown, a reconciliation with the metadata finds out.
    pub damaged_regions: u64,
    /// Chunk files sealed because a write or a sync failed.
    pub failed_files: u64,
    /// Writes and syncs that failed.
    pub write_errors: u64,
    /// Pieces that a power cut had torn, dropped at the opening; none was acknowledged.
    pub torn_pieces: u64,
    /// Index files that were missing or bad and were rebuilt from their chunk file.
    pub indexes_rebuilt: u64,
    /// True where the disk takes no more writes.
    pub read_only: bool,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    shown: DiskHealth,
    damaged: BTreeMap<ShardId, u64>,
    unnamed: u64,
    failed_in_a_row: u32,
}

impl Health {
    pub(super) fn read(&self) -> DiskHealth {
        let state = self.guard();
        DiskHealth {
            damaged_shards: state.damaged.len() as u64 + state.unnamed,
            damaged_first: state.damaged.keys().take(DAMAGED_SHOWN).copied().collect(),
            ..state.shown.clone()
        }
    }

    pub(super) fn damaged(&self) -> Vec<ShardId> {
        self.guard().damaged.keys().copied().collect()
    }

    pub(super) fn is_damaged(&self, shard: ShardId) -> bool {
        self.guard().damaged.contains_key(&shard)
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.guard().shown.read_only
    }

    /// Remembers a damaged shard; true the first time.
    pub(super) fn add_damaged(&self, shard: ShardId, cell: u64) -> bool {
        let mut state = self.guard();
        if state.damaged.contains_key(&shard) {
            return false;
        }
        if state.damaged.len() < DAMAGED_MAX {
            state.damaged.insert(shard, cell);
        } else {
            state.unnamed += 1;
        }
        true
    }

    /// The shard was deleted or written anew.
    pub(super) fn forget_damaged(&self, shard: ShardId) {
        self.guard().damaged.remove(&shard);
    }

    pub(super) fn add_regions(&self, damaged: usize, torn: usize) {
        let mut state = self.guard();
        state.shown.damaged_regions += damaged as u64;
        state.shown.torn_pieces += torn as u64;
    }

    pub(super) fn add_rebuilt_index(&self) {
        self.guard().shown.indexes_rebuilt += 1;
    }

    /// Counts a failed write; `failed_files_max` files in a row make the disk read-only.
    pub(super) fn add_failed_file(&self, failed_files_max: u32) {
        let mut state = self.guard();
        state.shown.write_errors += 1;
        state.shown.failed_files += 1;
        state.failed_in_a_row += 1;
        state.shown.read_only |= state.failed_in_a_row >= failed_files_max;
    }

    pub(super) fn add_write_error(&self) {
        self.guard().shown.write_errors += 1;
    }

    pub(super) fn sync_went_well(&self) {
        self.guard().failed_in_a_row = 0;
    }

    fn guard(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
