//! How a member divides the memory that it may use among its caches and queues.
//!
//! Owns the shares, and no memory itself. Pure: how much there is comes in as an argument. Tables
//! of more rows hold more beside all this: the filters and indexes of their files.

use crate::engine::{EngineKind, EngineSettings};
use crate::log::LogSettings;
use crate::member::MetaSettings;
use crate::raft::RaftSettings;

const MIB: u64 = 1 << 20;

/// The memory that one member may use for what it caches and what waits, in bytes.
///
/// A half is the cache of the tables. The rows that are not in a file of the tables yet are counted
/// with an eighth, and their nodes in memory take three times as much. A sixteenth is the newest
/// part of the log. What waits for a slow disk or a slow peer is bounded beside that, for as long
/// as it waits. Beyond [`MemberMemory::default`] only the cache grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberMemory {
    bytes: u64,
}

impl Default for MemberMemory {
    /// 512 MiB.
    fn default() -> Self {
        Self { bytes: 512 * MIB }
    }
}

impl MemberMemory {
    /// Takes what a member may use, in bytes. With less than 64 MiB it works as if it had these.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self {
            bytes: bytes.max(64 * MIB),
        }
    }

    /// Returns the bytes that are divided.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// Returns the settings of tables that are made with `kind`. `cache_bytes` is for an operator
    /// who wants a cache of another size.
    #[must_use]
    pub fn engine(self, kind: EngineKind, cache_bytes: Option<u64>) -> EngineSettings {
        let rest = self.capped() / 2;
        EngineSettings {
            kind,
            cache_bytes: cache_bytes.unwrap_or(self.bytes - rest),
            memtable_bytes: self.capped() / 8,
        }
    }

    /// Returns the settings of a member: how much of its log it keeps in memory, and how much may
    /// wait.
    #[must_use]
    pub fn settings(self) -> MetaSettings {
        let part = |divisor: u64| self.capped() / divisor;
        let in_memory = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        // Whatever may wait holds the longest proposal and more.
        let queue = |divisor: u64| part(divisor).max(2 * crate::PROPOSAL_BYTES_MAX as u64);
        MetaSettings {
            log: LogSettings {
                cache_bytes: in_memory(part(16)),
                ..LogSettings::default()
            },
            raft: RaftSettings {
                uncommitted_bytes_max: queue(8),
                apply_queue_bytes: queue(16),
                inbox_bytes: in_memory(queue(4)),
                messages_bytes: in_memory(queue(8)),
                unsynced_bytes_max: in_memory(queue(8)),
                ..RaftSettings::default()
            },
            ..MetaSettings::default()
        }
    }

    /// What all shares but the cache's are taken of.
    fn capped(self) -> u64 {
        self.bytes.min(Self::default().bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the tables: their cache and what of them is in memory only. Of the log: its cache. Then
    /// what may wait: uncommitted, for apply, in the inbox, of other members, for the disk.
    fn shares_mib(bytes: u64) -> [u64; 8] {
        let memory = MemberMemory::new(bytes);
        let (engine, settings) = (memory.engine(EngineKind::Fjall, None), memory.settings());
        let raft = settings.raft;
        [
            engine.cache_bytes,
            engine.memtable_bytes,
            settings.log.cache_bytes as u64,
            raft.uncommitted_bytes_max,
            raft.apply_queue_bytes,
            raft.inbox_bytes as u64,
            raft.messages_bytes as u64,
            raft.unsynced_bytes_max as u64,
        ]
        .map(|bytes| bytes / MIB)
    }

    #[test]
    fn the_shares_follow_the_memory() {
        for (mib, shares) in [
            (0, [32, 8, 4, 16, 16, 16, 16, 16]),
            (64, [32, 8, 4, 16, 16, 16, 16, 16]),
            (128, [64, 16, 8, 16, 16, 32, 16, 16]),
            (256, [128, 32, 16, 32, 16, 64, 32, 32]),
            (512, [256, 64, 32, 64, 32, 128, 64, 64]),
            // More is for the cache alone.
            (4_096, [3_840, 64, 32, 64, 32, 128, 64, 64]),
        ] {
            assert_eq!(shares_mib(mib * MIB), shares, "{mib} MiB");
        }
    }

    #[test]
    fn a_member_that_is_told_nothing_divides_the_default() {
        let memory = MemberMemory::default();
        let engine = memory.engine(EngineKind::Fjall, None);
        assert_eq!(engine, EngineSettings::default());
        let settings = memory.settings();
        let shown = |settings: &MetaSettings| format!("{settings:?}");
        assert_eq!(shown(&settings), shown(&MetaSettings::default()));
    }

    #[test]
    fn the_steady_shares_fit_into_the_memory() {
        for mib in [64, 100, 128, 333, 512, 1_024, 65_536] {
            let [cache, memtable, log, ..] = shares_mib(mib * MIB);
            assert!(cache + 3 * memtable + log <= mib, "{mib} MiB");
        }
    }

    #[test]
    fn an_operator_may_choose_the_cache_alone() {
        let memory = MemberMemory::new(128 * MIB);
        let engine = memory.engine(EngineKind::Sled, Some(MIB));
        assert_eq!((engine.cache_bytes, engine.memtable_bytes), (MIB, 16 * MIB));
        assert_eq!(engine.kind, EngineKind::Sled);
    }
}
