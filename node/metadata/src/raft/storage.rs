//! The log as raft reads it.

use super::convert;
use crate::log::{LogError, Mark, MetaLog};
use ::raft::eraftpb::{Entry, Snapshot};
use ::raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

/// The log, and what is applied of it.
pub(super) struct LogStorage {
    pub(super) log: MetaLog,
    /// What the tables hold; a snapshot for a peer stands for at least this.
    pub(super) applied: Mark,
}

impl LogStorage {
    pub(super) fn new(log: MetaLog, applied: Mark) -> Self {
        Self { log, applied }
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
        if high > self.log.last_index() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        if low >= high {
            return Ok(Vec::new());
        }
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let entries = self.log.entries(low, high, bytes_max).map_err(unreadable)?;
        Ok(entries.into_iter().map(convert::entry_to_raft).collect())
    }

    fn term(&self, index: u64) -> Result<u64> {
        match self.log.term(index) {
            Some(term) => Ok(term),
            None if index < self.log.first_index() => Err(Error::Store(StorageError::Compacted)),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.log.first_index())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.log.last_index())
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
