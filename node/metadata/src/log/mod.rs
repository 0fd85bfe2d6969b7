//! The Raft log and hard state of one metadata member, in files of our own.
//!
//! Owns the files `<sequence>.log` of its directory: what is in them survives a power cut once
//! [`MetaLog::append`] has returned. It must never: retry a failed sync, append to a file that
//! another process wrote, or take damage for a torn tail. Knows nothing of raft's types, of peers
//! or of what entries mean. The layout is drawn in `docs/formats/raft-log.md`.
//!
//! One append is one write and one sync, whole or not there at all. It has three steps, so that the
//! disk can be waited for on another thread: `plan` decides, [`Planned::write`] writes, `settle`
//! notes what is there. What is only planned is not seen. A log that is opened again
//! never appends to an old file: the next append opens a new one, whose first record says where
//! the old one ends. That fences a torn tail for good without cutting the file.

mod append;
mod dir;
mod error;
mod format;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod open;
mod reached;
mod scan;
mod types;
mod write;

#[cfg(test)]
mod tests;

pub use error::LogError;
pub use types::{
    Append, Conf, EntryKind, HardState, LogEntry, LogIdentity, LogSettings, Mark, node_of,
};
pub use write::{Planned, Written};

use bytes::Bytes;
use dir::LogDir;
use megalith_disk::{File, FileSystem, read_exact_at};
use std::collections::VecDeque;
use std::sync::Arc;

/// The log of one member of one group. One owner, one thread.
pub struct MetaLog {
    fs: Arc<dyn FileSystem>,
    dir: LogDir,
    identity: LogIdentity,
    settings: LogSettings,
    /// Oldest first. Never empty.
    files: VecDeque<LogFile>,
    /// None while an append or a purge is planned and not settled.
    pen: Option<write::Pen>,
    /// What is behind the log: the last entry purged, or the snapshot it began with.
    prev: Mark,
    /// Where each entry is; the first one is `prev.index + 1`.
    locations: VecDeque<Location>,
    cache: Cache,
    hard: HardState,
    conf: Conf,
    next_sequence: u64,
    next_batch: u64,
    /// Set by a failed write or sync: nothing on disk can be relied on from there on.
    failed: bool,
}

/// A file of the log.
struct LogFile {
    sequence: u64,
    file: Arc<dyn File>,
    /// The entry before its first one.
    prev: Mark,
    bytes: u64,
}

/// Where an entry is.
#[derive(Clone, Copy)]
struct Location {
    term: u64,
    sequence: u64,
    offset: u32,
    span: u32,
}

/// The newest entries, bounded in bytes.
#[derive(Default)]
struct Cache {
    entries: VecDeque<LogEntry>,
    bytes: usize,
}

impl MetaLog {
    /// The first entry that can be read; one past the last if there is none.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.prev.index + 1
    }

    /// The last entry; that of [`MetaLog::prev`] if the log is empty.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.prev.index + self.locations.len() as u64
    }

    /// The entry just before the first one.
    #[must_use]
    pub fn prev(&self) -> Mark {
        self.prev
    }

    /// The term of an entry or of [`MetaLog::prev`]; None outside.
    #[must_use]
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.prev.index {
            return Some(self.prev.term);
        }
        self.location(index).map(|location| location.term)
    }

    /// The last hard state appended.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard
    }

    /// The last members appended.
    #[must_use]
    pub fn conf(&self) -> &Conf {
        &self.conf
    }

    /// Bytes of all log files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|log_file| log_file.bytes).sum()
    }

    /// Bytes of the log files that hold entries after `index`.
    #[must_use]
    pub fn bytes_after(&self, index: u64) -> u64 {
        let from = self
            .files
            .iter()
            .rposition(|log_file| log_file.prev.index <= index);
        self.files
            .iter()
            .skip(from.unwrap_or(0))
            .map(|log_file| log_file.bytes)
            .sum()
    }

    /// Reads entries from `low` on, before `high`, of at most `bytes_max` bytes together but one
    /// at least. The range must be within the log.
    pub fn entries(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<LogEntry>, LogError> {
        assert!(
            low >= self.first_index() && low < high && high <= self.last_index() + 1,
            "entries {low}..{high} of a log of {}..={}",
            self.first_index(),
            self.last_index()
        );
        let cached_from = self.last_index() + 1 - self.cache.entries.len() as u64;
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut index = low;
        while index < high {
            if index >= cached_from {
                let cached = self.cache.entries.range(index_in(index - cached_from)..);
                for entry in cached.take(index_in(high - index)) {
                    bytes += entry.bytes() as u64;
                    if bytes > bytes_max && !entries.is_empty() {
                        break;
                    }
                    entries.push(entry.clone());
                }
                break;
            }
            let run_end = high.min(cached_from);
            let whole = self.read_run(index, run_end, bytes_max, &mut bytes, &mut entries)?;
            index = low + entries.len() as u64;
            if !whole {
                break;
            }
        }
        Ok(entries)
    }

    /// Reads entries of one log file. False if `bytes_max` ended it.
    fn read_run(
        &self,
        low: u64,
        high: u64,
        bytes_max: u64,
        bytes: &mut u64,
        entries: &mut Vec<LogEntry>,
    ) -> Result<bool, LogError> {
        let first = *self.location(low).expect("checked by the caller");
        let mut end = low;
        let mut whole = true;
        while end < high {
            let location = self.location(end).expect("checked by the caller");
            if location.sequence != first.sequence {
                break;
            }
            *bytes += u64::from(location.span);
            if *bytes > bytes_max && !(entries.is_empty() && end == low) {
                whole = false;
                break;
            }
            end += 1;
        }
        if end == low {
            return Ok(whole);
        }
        let last = self.location(end - 1).expect("checked by the caller");
        let len = (last.offset + last.span - first.offset) as usize;
        let log_file = self.log_file(first.sequence);
        let mut buffer = vec![0; len];
        read_exact_at(log_file.file.as_ref(), &mut buffer, u64::from(first.offset))
            .map_err(|source| self.dir.io("read", first.sequence, source))?;
        let buffer = Bytes::from(buffer);
        for index in low..end {
            let location = self.location(index).expect("checked by the caller");
            let at = (location.offset - first.offset) as usize;
            let found = format::decode_record(&buffer.slice(at..at + location.span as usize));
            match found.map(|found| found.record) {
                Some(format::Record::Entry(entry))
                    if entry.index == index && entry.term == location.term =>
                {
                    entries.push(entry);
                }
                Some(_) | None => {
                    return Err(LogError::Damaged {
                        path: self.dir.file(first.sequence),
                        offset: u64::from(location.offset),
                        reason: format!("entry {index} does not read back"),
                    });
                }
            }
        }
        Ok(whole)
    }

    fn location(&self, index: u64) -> Option<&Location> {
        let position = index.checked_sub(self.first_index())?;
        self.locations.get(usize::try_from(position).ok()?)
    }

    fn log_file(&self, sequence: u64) -> &LogFile {
        let oldest = self.files.front().expect("never empty").sequence;
        &self.files[index_in(sequence - oldest)]
    }
}

impl Cache {
    fn push(&mut self, entry: LogEntry, bytes_max: usize) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.bytes > bytes_max {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes();
        }
    }

    fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|entry| entry.index >= from) {
            self.bytes -= self.entries.pop_back().map_or(0, |entry| entry.bytes());
        }
    }

    fn drop_through(&mut self, index: u64) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.index <= index)
        {
            self.bytes -= self.entries.pop_front().map_or(0, |entry| entry.bytes());
        }
    }
}

/// A difference of indexes that are both within memory.
fn index_in(difference: u64) -> usize {
    usize::try_from(difference).expect("within a collection in memory")
}
