//! The log as raft reads it.

use super::convert;
use crate::log::{LogEntry, LogError, Mark, MetaLog, Written};
use ::raft::eraftpb::{Entry, Snapshot};
use ::raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};
use std::collections::VecDeque;

/// The log, what follows it and is not durable yet, and what is applied of it.
///
/// raft forgets an entry as soon as it has handed it over (`advance_append_async`) and reads it
/// here from then on, whether it is durable or not. What is durable it counts by itself, from what
/// it is told (`on_persist_ready`).
pub(super) struct LogStorage {
    /// What is durable.
    pub(super) log: MetaLog,
    /// Entries on their way to the disk, without gaps. They follow the log or take the place of
    /// its end.
    unsynced: VecDeque<LogEntry>,
    unsynced_bytes: usize,
    /// What the tables hold; a snapshot for a peer stands for at least this.
    pub(super) applied: Mark,
}

impl LogStorage {
    pub(super) fn new(log: MetaLog, applied: Mark) -> Self {
        Self {
            log,
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            applied,
        }
    }

    /// Takes entries that are to be written. They follow what is there; only if nothing is on its
    /// way they may take the place of the log's end.
    pub(super) fn add_unsynced(&mut self, entries: impl IntoIterator<Item = LogEntry>) {
        for entry in entries {
            let last = self.unsynced.back().map(|last| last.index);
            let follows = last.is_none_or(|last| entry.index == last + 1);
            assert!(follows, "entry {} after {last:?} unsynced", entry.index);
            self.unsynced_bytes += entry.bytes();
            self.unsynced.push_back(entry);
        }
    }

    /// What is not durable yet.
    pub(super) fn unsynced(&self) -> impl ExactSizeIterator<Item = &LogEntry> {
        self.unsynced.iter()
    }

    /// Bytes of what is not durable yet.
    pub(super) fn unsynced_bytes(&self) -> usize {
        self.unsynced_bytes
    }

    /// Notes what is durable now.
    pub(super) fn settle(&mut self, written: Written) -> std::result::Result<(), LogError> {
        self.log.settle(written)?;
        let is_durable = |entry: &LogEntry| self.log.term(entry.index) == Some(entry.term);
        while self.unsynced.front().is_some_and(is_durable) {
            let entry = self.unsynced.pop_front().expect("just seen");
            self.unsynced_bytes -= entry.bytes();
        }
        Ok(())
    }

    /// The first entry that is not durable, or one past the last.
    fn unsynced_from(&self) -> u64 {
        let first = self.unsynced.front().map(|entry| entry.index);
        first.unwrap_or_else(|| self.log.last_index() + 1)
    }

    fn last(&self) -> u64 {
        self.unsynced_from() + self.unsynced.len() as u64 - 1
    }

    fn read(
        &self,
        low: u64,
        high: u64,
        bytes_max: u64,
    ) -> std::result::Result<Vec<LogEntry>, LogError> {
        let from = self.unsynced_from();
        let mut entries = Vec::new();
        if low < from {
            let durable_to = high.min(from);
            entries = self.log.entries(low, durable_to, bytes_max)?;
            if low + (entries.len() as u64) < durable_to {
                return Ok(entries);
            }
        }
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes() as u64).sum();
        let wanted = |entry: &&LogEntry| entry.index >= low && entry.index < high;
        for entry in self.unsynced.iter().filter(wanted) {
            bytes += entry.bytes() as u64;
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }
}

impl Storage for LogStorage {
    fn initial_state(&self) -> Result<RaftState> {
        let mut hard = self.log.hard_state();
        // The commit index is written late; what is applied was committed.
        hard.commit = hard.commit.max(self.applied.index);
        Ok(RaftState::new(
            convert::hard_to_raft(hard),
            convert::conf_to_raft(self.log.conf()),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low < self.log.first_index() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        if low >= high {
            return Ok(Vec::new());
        }
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let entries = self.read(low, high, bytes_max).map_err(unreadable)?;
        Ok(entries.into_iter().map(convert::entry_to_raft).collect())
    }

    fn term(&self, index: u64) -> Result<u64> {
        let term = match index.checked_sub(self.unsynced_from()) {
            Some(place) => {
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                self.unsynced.get(place).map(|entry| entry.term)
            }
            None => self.log.term(index),
        };
        match term {
            Some(term) => Ok(term),
            None if index < self.log.first_index() => Err(Error::Store(StorageError::Compacted)),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.log.first_index())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        if self.applied.index == 0 || self.applied.index < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(convert::snapshot(self.applied, self.log.conf()))
    }
}

fn unreadable(error: LogError) -> Error {
    Error::Store(StorageError::Other(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Append, Conf, EntryKind, LogSettings};
    use crate::testing::log_identity;
    use megalith_disk::FileSystem;
    use megalith_disk::sim::SimFs;
    use megalith_model::ids::NodeId;
    use std::path::Path;
    use std::sync::Arc;

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry {
            kind: EntryKind::Normal,
            term,
            index,
            data: vec![7; 100].into(),
            context: bytes::Bytes::new(),
        }
    }

    /// A log of entries 1 to 6 in term 1.
    fn storage() -> LogStorage {
        let fs: Arc<dyn FileSystem> = Arc::new(SimFs::new(1 << 26));
        let (dir, conf) = (Path::new("/log"), Conf::of_voters([NodeId(1)]));
        fs.create_dir(dir).expect("create");
        MetaLog::init(fs.clone(), dir, log_identity(1), conf).expect("init");
        let log = MetaLog::open(fs, dir, log_identity(1), LogSettings::default());
        let mut storage = LogStorage::new(log.expect("open"), Mark::default());
        let entries = (1..=6).map(|index| entry(index, 1)).collect();
        let append = Append {
            entries,
            ..Append::default()
        };
        storage.log.append(append).expect("append");
        storage
    }

    fn places(storage: &LogStorage, low: u64, high: u64, bytes_max: u64) -> Vec<(u64, u64)> {
        let context = GetEntriesContext::empty(false);
        let entries = storage.entries(low, high, bytes_max, context);
        let entries = entries.expect("within the log");
        entries.iter().map(|it| (it.index, it.term)).collect()
    }

    fn write(storage: &mut LogStorage) {
        let entries = storage.unsynced().cloned().collect();
        let append = Append {
            entries,
            ..Append::default()
        };
        let planned = storage.log.plan(append).expect("plan");
        let written = planned.expect("entries").write();
        storage.settle(written).expect("durable");
    }

    #[test]
    fn what_is_not_durable_yet_follows_the_log() {
        let mut storage = storage();
        storage.add_unsynced((7..=9).map(|index| entry(index, 2)));
        assert_eq!(storage.last_index(), Ok(9));
        assert_eq!((storage.term(6), storage.term(7)), (Ok(1), Ok(2)));
        assert!(storage.term(10).is_err());
        let all = u64::MAX;
        assert_eq!(
            places(&storage, 5, 9, all),
            [(5, 1), (6, 1), (7, 2), (8, 2)]
        );
        assert_eq!(places(&storage, 8, 10, all), [(8, 2), (9, 2)]);
        // As many as there is room for, one at least.
        assert_eq!(places(&storage, 6, 10, 300), [(6, 1), (7, 2)]);
        assert_eq!(places(&storage, 8, 10, 0), [(8, 2)]);
        assert_eq!(places(&storage, 4, 10, 0), [(4, 1)]);
        assert_eq!(storage.log.last_index(), 6);
        write(&mut storage);
        assert_eq!((storage.log.last_index(), storage.unsynced_bytes()), (9, 0));
        assert_eq!(places(&storage, 6, 10, all).len(), 4);
    }

    #[test]
    fn what_takes_the_place_of_the_logs_end_hides_it_at_once() {
        let mut storage = storage();
        storage.add_unsynced([entry(4, 2)]);
        assert_eq!(storage.last_index(), Ok(4));
        assert_eq!((storage.term(4), storage.term(3)), (Ok(2), Ok(1)));
        assert!(storage.term(5).is_err());
        assert_eq!(places(&storage, 2, 5, u64::MAX), [(2, 1), (3, 1), (4, 2)]);
        write(&mut storage);
        assert_eq!((storage.last_index(), storage.unsynced().len()), (Ok(4), 0));
    }
}
