//! The scrub's own file, `scrub` in the disk's directory: how far it is, and the shards known to be
//! damaged. Layout in `docs/formats/disk.md`.
//!
//! Replaced as a whole, never changed in place. One that is missing or bad costs a pass that begins
//! again, nothing else: what was known to be damaged is found again.

use super::plan::{ScrubProgress, Spot};
use crate::list_file::{Entry, ListFile};
use crate::record::{u32_at, u64_at};
use bytes::BufMut;
use megalith_disk::{FileSystem, replace_file};
use megalith_model::ids::{DiskId, VolumeId};
use megalith_model::shard::ShardId;
use std::io;
use std::path::Path;

/// As many as are remembered by name.
const DAMAGED_MAX: usize = 262_144;
const FILE: ListFile = ListFile {
    magic: *b"MGRs",
    version: 2,
    head_len: 112,
    entries_max: DAMAGED_MAX,
};

/// A shard known to be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DamagedShard {
    pub(crate) shard: ShardId,
    /// Of the record that holds; an entry for another one is out of date.
    pub(crate) lsn: u64,
    /// The first bad cell.
    pub(crate) cell: u64,
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) progress: ScrubProgress,
    pub(crate) damaged: Vec<DamagedShard>,
}

/// Why there is no ledger.
#[derive(Debug)]
pub(crate) enum NoLedger {
    /// There is no file: the disk is new.
    Missing,
    /// It does not check out.
    Bad,
}

impl Ledger {
    pub(crate) fn encode(&self, disk: DiskId) -> Vec<u8> {
        let damaged = &self.damaged[..self.damaged.len().min(DAMAGED_MAX)];
        let progress = &self.progress;
        let mut head = Vec::new();
        head.put_u64_le(progress.at.volume.0);
        head.put_u32_le(progress.at.seq);
        head.put_u32_le(progress.at.block);
        head.put_u32_le(u32::from(progress.demanded));
        head.put_u32_le(0);
        for number in [
            progress.began_ms,
            progress.passes,
            progress.finished_ms,
            progress.fresh_lsn,
            progress.fresh_ms,
            progress.checked_bytes,
            progress.found_shards,
            damaged.len() as u64,
        ] {
            head.put_u64_le(number);
        }
        let entries = damaged.iter().map(|entry| Entry {
            shard: entry.shard,
            numbers: [entry.lsn, entry.cell],
        });
        FILE.encode(disk, &head, entries)
    }

    pub(crate) fn decode(bytes: &[u8], disk: DiskId) -> Option<Self> {
        let (head, entries) = FILE.decode(bytes, disk)?;
        if entries.len() as u64 != u64_at(head, 104) {
            return None;
        }
        let progress = ScrubProgress {
            at: Spot {
                volume: VolumeId(u64_at(head, 24)),
                seq: u32_at(head, 32),
                block: u32_at(head, 36),
            },
            demanded: u32_at(head, 40) != 0,
            began_ms: u64_at(head, 48),
            passes: u64_at(head, 56),
            finished_ms: u64_at(head, 64),
            fresh_lsn: u64_at(head, 72),
            fresh_ms: u64_at(head, 80),
            checked_bytes: u64_at(head, 88),
            found_shards: u64_at(head, 96),
        };
        let damaged = entries.map(|entry| {
            let [lsn, cell] = entry.numbers;
            DamagedShard {
                shard: entry.shard,
                lsn,
                cell,
            }
        });
        let damaged = damaged.collect();
        Some(Self { progress, damaged })
    }

    /// Reads the file.
    pub(crate) fn read(fs: &dyn FileSystem, path: &Path, disk: DiskId) -> Result<Self, NoLedger> {
        let read = FILE.read(fs, path).map_err(|_| NoLedger::Bad)?;
        let bytes = read.ok_or(NoLedger::Missing)?;
        Self::decode(&bytes, disk).ok_or(NoLedger::Bad)
    }

    /// Replaces the file, durably.
    pub(crate) fn write(&self, fs: &dyn FileSystem, path: &Path, disk: DiskId) -> io::Result<()> {
        replace_file(fs, path, &self.encode(disk))
    }
}
