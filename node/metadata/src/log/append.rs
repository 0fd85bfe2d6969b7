//! The writing half of the log: appending, opening new log files, purging old ones.

use super::format::{self, HEADER_LEN, Record};
use super::reached::{FILE, Reached, ReachedFile};
use super::{Append, Location, LogEntry, LogError, LogFile, Mark, MetaLog, Writer, index_in};
use std::io::IoSlice;

impl MetaLog {
    /// Makes one round durable: one write, one sync. When it returns, all of it survives a power
    /// cut; after an error the log takes no more appends.
    pub fn append(&mut self, append: Append) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if append.is_empty() {
            return Ok(());
        }
        let result = self.write(append);
        self.failed = result.is_err();
        result
    }

    fn write(&mut self, append: Append) -> Result<(), LogError> {
        self.check_order(&append);
        let truncates = append
            .entries
            .first()
            .is_some_and(|entry| entry.index <= self.last_index());
        let full = |writer: &Writer| writer.offset >= self.settings.file_bytes;
        let rolls = append.reset.is_some() || truncates || self.writer.as_ref().is_none_or(full);
        let prev = match (append.reset, append.entries.first()) {
            (Some(mark), _) => mark,
            (None, Some(entry)) if truncates => self.mark_at(entry.index - 1),
            (None, _) => self.mark_at(self.last_index()),
        };
        self.hard = append.hard.unwrap_or(self.hard);
        if let Some(conf) = append.conf.clone() {
            self.conf = conf;
        }
        let mut records = Vec::with_capacity(append.entries.len() + 3);
        if rolls {
            records.push(Record::Start {
                prev,
                reset: append.reset.is_some(),
            });
            records.push(Record::Conf(self.conf.clone()));
        } else if let Some(conf) = append.conf {
            records.push(Record::Conf(conf));
        }
        records.push(Record::Hard(self.hard));
        let entries_from = records.len();
        records.extend(append.entries.into_iter().map(Record::Entry));
        let (bytes, places) = self.encode(rolls, &records);
        let reserved_more = if rolls {
            self.create_file(prev, &bytes)?;
            true
        } else {
            self.extend_file(&bytes)?
        };
        self.note_reached(reserved_more)?;
        self.next_batch += 1;
        if append.reset.is_some() {
            self.forget_all(prev)?;
        } else if truncates {
            self.forget_after(prev.index);
        }
        let entries = records.drain(entries_from..).zip(&places[entries_from..]);
        for (record, &(offset, span)) in entries {
            let Record::Entry(entry) = record else {
                unreachable!("only entries follow")
            };
            self.remember(entry, offset, span);
        }
        Ok(())
    }

    fn check_order(&self, append: &Append) {
        let from = append.reset.unwrap_or(self.prev).index;
        let last = append.reset.map_or(self.last_index(), |mark| mark.index);
        for (entry, position) in append.entries.iter().zip(0..) {
            let first = append.entries[0].index;
            assert!(
                first > from && first <= last + 1,
                "entry {first} on a log up to {last}"
            );
            assert_eq!(entry.index, first + position, "entries without gaps");
        }
    }

    fn mark_at(&self, index: u64) -> Mark {
        Mark {
            index,
            term: self.term(index).expect("within the log"),
        }
    }

    /// Encodes records as one append. Returns the bytes and each record's (offset in the file,
    /// span).
    fn encode(&self, rolls: bool, records: &[Record]) -> (Vec<u8>, Vec<(u32, u32)>) {
        let base = match (&self.writer, rolls) {
            (Some(writer), false) => writer.offset,
            _new_file => 0,
        };
        let mut bytes = Vec::new();
        if rolls {
            bytes.extend_from_slice(&format::encode_header(&self.identity, self.next_sequence));
            debug_assert_eq!(bytes.len(), HEADER_LEN);
        }
        let mut places = Vec::with_capacity(records.len());
        for (position, record) in records.iter().enumerate() {
            let last = position + 1 == records.len();
            let begin = format::encode_record(&mut bytes, self.next_batch, last, record);
            let offset = u32::try_from(base + begin as u64).expect("log files are below 4 GiB");
            let span = u32::try_from(bytes.len() - begin).expect("records are below 4 GiB");
            places.push((offset, span));
        }
        (bytes, places)
    }

    fn create_file(&mut self, prev: Mark, bytes: &[u8]) -> Result<(), LogError> {
        if self.reached.is_none() {
            let made = ReachedFile::create(self.fs.as_ref(), &self.dir);
            self.reached = Some(made.map_err(|source| self.io_of("create", FILE, source))?);
        }
        let sequence = self.next_sequence;
        let file = self
            .fs
            .create(&self.path(sequence))
            .map_err(|source| self.io("create", sequence, source))?;
        let preallocated = self.settings.preallocate_bytes.max(bytes.len() as u64);
        file.preallocate(0, preallocated)
            .map_err(|source| self.io("reserve", sequence, source))?;
        file.write_at(&[IoSlice::new(bytes)], 0)
            .map_err(|source| self.io("write", sequence, source))?;
        file.sync_data()
            .map_err(|source| self.io("sync", sequence, source))?;
        self.fs.sync_dir(&self.dir).map_err(|source| LogError::Io {
            action: "sync",
            path: self.dir.clone(),
            source,
        })?;
        self.next_sequence += 1;
        self.writer = Some(Writer {
            offset: bytes.len() as u64,
            preallocated,
        });
        self.files.push_back(LogFile {
            sequence,
            file,
            prev,
            bytes: preallocated,
        });
        Ok(())
    }

    /// Notes how far the log reaches now: durably if a log file is new or has got more space.
    fn note_reached(&mut self, sync: bool) -> Result<(), LogError> {
        let newest = self.files.back().expect("never empty");
        let reached = Reached {
            sequence: newest.sequence,
            reserved: newest.bytes,
            append: self.next_batch,
        };
        let file = self.reached.as_mut().expect("made with a log file");
        let noted = file.note(&self.identity, reached, sync);
        noted.map_err(|source| self.io_of("write", FILE, source))
    }

    /// Returns whether space was reserved.
    fn extend_file(&mut self, bytes: &[u8]) -> Result<bool, LogError> {
        let step = self.settings.preallocate_bytes;
        let writer = self
            .writer
            .as_mut()
            .expect("a full or missing writer rolls");
        let log_file = self.files.back_mut().expect("never empty");
        let (sequence, end) = (log_file.sequence, writer.offset + bytes.len() as u64);
        let more_needed = end > writer.preallocated;
        let written = (|| {
            if more_needed {
                let more = step.max(end - writer.preallocated);
                log_file.file.preallocate(writer.preallocated, more)?;
                writer.preallocated += more;
                log_file.bytes = writer.preallocated;
            }
            log_file
                .file
                .write_at(&[IoSlice::new(bytes)], writer.offset)?;
            log_file.file.sync_data()?;
            writer.offset = end;
            Ok(more_needed)
        })();
        written.map_err(|source| self.io("append to", sequence, source))
    }

    fn remember(&mut self, entry: LogEntry, offset: u32, span: u32) {
        let sequence = self.files.back().expect("never empty").sequence;
        self.locations.push_back(Location {
            term: entry.term,
            sequence,
            offset,
            span,
        });
        self.cache.push(entry, self.settings.cache_bytes);
    }

    fn forget_after(&mut self, index: u64) {
        self.locations.truncate(index_in(index - self.prev.index));
        self.cache.truncate(index + 1);
    }

    /// After a reset: only the newest log file counts.
    fn forget_all(&mut self, prev: Mark) -> Result<(), LogError> {
        self.locations.clear();
        self.cache = super::Cache::default();
        self.prev = prev;
        let keep = self.files.len() - 1;
        self.remove_files(keep)
    }

    /// Removes whole log files that hold only entries up to `through`, as long as `keep_bytes`
    /// stay; the newest file always does. `through` must be applied and checkpointed. Returns how
    /// many files went.
    pub fn purge(&mut self, through: u64, keep_bytes: u64) -> Result<usize, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let Some(count) = self
            .purgeable(through, keep_bytes)
            .filter(|&count| count > 0)
        else {
            return Ok(0);
        };
        let prev = self.files[count].prev;
        let result = self.remove_files(count);
        self.failed = result.is_err();
        result?;
        if prev.index > self.prev.index {
            self.locations
                .drain(..index_in(prev.index - self.prev.index));
            self.cache.drop_through(prev.index);
            self.prev = prev;
        }
        Ok(count)
    }

    /// The most log files that may go. A later file that goes back behind an earlier one's start
    /// makes that one useless as a beginning.
    fn purgeable(&self, through: u64, keep_bytes: u64) -> Option<usize> {
        let (mut kept, mut lowest) = (0, u64::MAX);
        self.files
            .iter()
            .enumerate()
            .rev()
            .find(|(_, log_file)| {
                kept += log_file.bytes;
                let begins = log_file.prev.index <= lowest;
                lowest = lowest.min(log_file.prev.index);
                begins && log_file.prev.index <= through && kept >= keep_bytes
            })
            .map(|(count, _)| count)
    }

    /// Removes the oldest log files, one durably after the other: a power cut may undo removals in
    /// any order, and a log with a hole is damaged.
    fn remove_files(&mut self, count: usize) -> Result<(), LogError> {
        for _ in 0..count {
            let sequence = self.files.front().expect("counted").sequence;
            self.fs
                .remove(&self.path(sequence))
                .map_err(|source| self.io("remove", sequence, source))?;
            self.files.pop_front();
            self.fs.sync_dir(&self.dir).map_err(|source| LogError::Io {
                action: "sync",
                path: self.dir.clone(),
                source,
            })?;
        }
        Ok(())
    }
}
