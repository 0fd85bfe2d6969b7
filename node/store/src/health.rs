//! What went wrong on a disk so far: counts, and the shards that a caller must rebuild.

use megalith_model::ids::VolumeId;
use megalith_model::shard::ShardId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Damaged shards remembered by name; beyond that they are only counted.
const DAMAGED_MAX: usize = 262_144;
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
    /// Chunk files finished because a write or a sync failed.
    pub failed_files: u64,
    /// Writes and syncs that failed.
    pub write_errors: u64,
    /// Pieces that a power cut had torn, dropped at the opening; none was acknowledged.
    pub torn_pieces: u64,
    /// Index files that were missing or bad and were rebuilt from their chunk file.
    pub indexes_rebuilt: u64,
    /// Other files of ours that were bad and were written again: superblock, scrub's ledger.
    pub files_restored: u64,
    /// True if the disk takes no more writes.
    pub read_only: bool,
    /// True if the disk's directory is no longer what was opened.
    pub gone: bool,
}

#[derive(Debug, Default)]
pub(super) struct HealthTracker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    shown: DiskHealth,
    damaged: BTreeMap<ShardId, u64>,
    unnamed: u64,
    failed_in_a_row: u32,
    doubtful: BTreeSet<VolumeId>,
    /// Where damaged pieces begin: volume, file, block. Beyond a bound they are counted again.
    regions: BTreeSet<(VolumeId, u32, u32)>,
    /// Grows with every change of the damaged shards.
    changes: u64,
}

impl HealthTracker {
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

    /// The damaged shards, and a number that grows with every change of them.
    pub(super) fn damage(&self) -> (Vec<(ShardId, u64)>, u64) {
        let state = self.guard();
        let damaged = state.damaged.iter().map(|(shard, cell)| (*shard, *cell));
        (damaged.collect(), state.changes)
    }

    pub(super) fn damage_changes(&self) -> u64 {
        self.guard().changes
    }

    /// Marks a volume of which shards may be missing without a trace.
    pub(super) fn add_doubt(&self, volume: VolumeId) {
        self.guard().doubtful.insert(volume);
    }

    pub(super) fn doubtful(&self) -> Vec<VolumeId> {
        self.guard().doubtful.iter().copied().collect()
    }

    pub(super) fn forget_doubt(&self, volume: VolumeId) {
        self.guard().doubtful.remove(&volume);
    }

    pub(super) fn add_restored_file(&self) {
        self.guard().shown.files_restored += 1;
    }

    /// The disk's directory is another one: true the first time.
    pub(super) fn set_gone(&self) -> bool {
        !std::mem::replace(&mut self.guard().shown.gone, true)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.guard().shown.gone
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
        state.changes += 1;
        if state.damaged.len() < DAMAGED_MAX {
            state.damaged.insert(shard, cell);
        } else {
            state.unnamed += 1;
        }
        true
    }

    /// The shard was deleted or written again.
    pub(super) fn forget_damaged(&self, shard: ShardId) {
        let mut state = self.guard();
        state.changes += u64::from(state.damaged.remove(&shard).is_some());
    }

    pub(super) fn add_regions(&self, damaged: usize, torn: usize) {
        let mut state = self.guard();
        state.shown.damaged_regions += damaged as u64;
        state.shown.torn_pieces += torn as u64;
    }

    /// Counts a damaged piece by its place; true the first time.
    pub(super) fn add_region_at(&self, volume: VolumeId, seq: u32, block: u32) -> bool {
        let mut state = self.guard();
        if state.regions.contains(&(volume, seq, block)) {
            return false;
        }
        if state.regions.len() < DAMAGED_MAX {
            state.regions.insert((volume, seq, block));
        }
        state.shown.damaged_regions += 1;
        true
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
