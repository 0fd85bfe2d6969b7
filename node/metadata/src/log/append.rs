//! What an append or a purge is: planned before it is written, and settled after. Pure, but for
//! [`MetaLog::append`] and [`MetaLog::purge`], which do all of it in turn.

use super::format::{self, HEADER_LEN, Record};
use super::write::{Bytes, Grown, Pen};
use super::{
    Append, Conf, HardState, Location, LogEntry, LogError, Mark, MetaLog, Planned, Written,
    index_in,
};

/// What is true of the log once something planned is on disk.
pub(super) enum Change {
    Appended(Box<Appended>),
    /// So many of the oldest log files are gone.
    Purged(usize),
}

pub(super) struct Appended {
    /// What is before the entries, if what was there after it is void.
    ends_at: Option<Mark>,
    /// True if what was there up to it is void as well.
    reset: bool,
    hard: HardState,
    conf: Conf,
    entries: Vec<(LogEntry, Location)>,
}

impl MetaLog {
    /// Makes one round durable: one write, one sync. When it returns, all of it survives a power
    /// cut; after an error the log takes no more appends.
    pub fn append(&mut self, append: Append) -> Result<(), LogError> {
        match self.plan(append)? {
            Some(planned) => self.settle(planned.write()),
            None => Ok(()),
        }
    }

    /// Removes whole log files that hold only entries up to `through`, as long as `keep_bytes`
    /// stay; the newest file always does. `through` must be applied and checkpointed. Returns how
    /// many files went.
    pub fn purge(&mut self, through: u64, keep_bytes: u64) -> Result<usize, LogError> {
        let before = self.files.len();
        if let Some(planned) = self.plan_purge(through, keep_bytes)? {
            self.settle(planned.write())?;
        }
        Ok(before - self.files.len())
    }

    /// Decides what goes where for one append; None if there is nothing to write. The log is as it
    /// was until that is written and settled, and takes nothing else before.
    pub fn plan(&mut self, append: Append) -> Result<Option<Planned>, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if append.is_empty() {
            return Ok(None);
        }
        self.check_order(&append);
        let pen = self.take_pen();
        let reset = append.reset.is_some();
        let truncates = append
            .entries
            .first()
            .is_some_and(|entry| entry.index <= self.last_index());
        let has_room = |offset| offset < self.settings.file_bytes;
        let end = pen.writer.as_ref().map(|writer| writer.offset);
        let end = end.filter(|&offset| !reset && !truncates && has_room(offset));
        let prev = match (append.reset, append.entries.first()) {
            (Some(mark), _) => mark,
            (None, Some(entry)) if truncates => self.mark_at(entry.index - 1),
            (None, _) => self.mark_at(self.last_index()),
        };
        let hard = append.hard.unwrap_or(self.hard);
        let mut records = Vec::with_capacity(append.entries.len() + 3);
        if end.is_none() {
            records.push(Record::Start { prev, reset });
        }
        if end.is_none() || append.conf.is_some() {
            let conf = append.conf.as_ref().unwrap_or(&self.conf);
            records.push(Record::Conf(conf.clone()));
        }
        records.push(Record::Hard(hard));
        let entries_from = records.len();
        records.extend(append.entries.into_iter().map(Record::Entry));
        let (bytes, places) = self.encode(end, &records);
        let sequence = match end {
            Some(_) => self.files.back().expect("never empty").sequence,
            None => self.next_sequence,
        };
        let entries = records.drain(entries_from..).zip(&places[entries_from..]);
        let entries = entries.map(|(record, &place)| placed(record, sequence, place));
        Ok(Some(Planned {
            pen,
            bytes: Some(Bytes {
                bytes,
                batch: self.next_batch,
                new_file: end.is_none().then_some((sequence, prev)),
            }),
            removes: self.oldest(if reset { self.files.len() } else { 0 }),
            change: Change::Appended(Box::new(Appended {
                ends_at: (reset || truncates).then_some(prev),
                reset,
                hard,
                conf: append.conf.unwrap_or_else(|| self.conf.clone()),
                entries: entries.collect(),
            })),
        }))
    }

    /// Decides what [`MetaLog::purge`] removes; None if nothing.
    pub fn plan_purge(
        &mut self,
        through: u64,
        keep_bytes: u64,
    ) -> Result<Option<Planned>, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let count = self.purgeable(through, keep_bytes).unwrap_or(0);
        if count == 0 {
            return Ok(None);
        }
        Ok(Some(Planned {
            pen: self.take_pen(),
            bytes: None,
            removes: self.oldest(count),
            change: Change::Purged(count),
        }))
    }

    /// Notes what is on disk now. If it isn't, the log takes no more appends.
    pub fn settle(&mut self, written: Written) -> Result<(), LogError> {
        self.pen = Some(written.pen);
        let grown = match written.result {
            Ok(grown) => grown,
            Err(error) => {
                self.failed = true;
                return Err(error);
            }
        };
        match grown {
            Grown::No => {}
            Grown::To(bytes) => self.files.back_mut().expect("never empty").bytes = bytes,
            Grown::New(log_file) => {
                self.next_sequence = log_file.sequence + 1;
                self.files.push_back(log_file);
            }
        }
        match written.change {
            Change::Appended(appended) => self.settle_append(*appended),
            Change::Purged(count) => self.settle_purge(count),
        }
        Ok(())
    }

    fn settle_append(&mut self, appended: Appended) {
        self.next_batch += 1;
        self.hard = appended.hard;
        self.conf = appended.conf;
        match appended.ends_at {
            Some(prev) if appended.reset => self.forget_all(prev),
            Some(prev) => self.forget_after(prev.index),
            None => {}
        }
        for (entry, location) in appended.entries {
            self.locations.push_back(location);
            self.cache.push(entry, self.settings.cache_bytes);
        }
    }

    fn settle_purge(&mut self, count: usize) {
        self.files.drain(..count);
        let prev = self.files.front().expect("the newest stays").prev;
        if prev.index > self.prev.index {
            self.locations
                .drain(..index_in(prev.index - self.prev.index));
            self.cache.drop_through(prev.index);
            self.prev = prev;
        }
    }

    fn take_pen(&mut self) -> Pen {
        self.pen.take().expect("one append or purge at a time")
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

    /// Encodes records as one append, at `end` of the newest log file or as a new one. Returns the
    /// bytes and each record's (offset in the file, span).
    fn encode(&self, end: Option<u64>, records: &[Record]) -> (Vec<u8>, Vec<(u32, u32)>) {
        let mut bytes = Vec::new();
        if end.is_none() {
            bytes.extend_from_slice(&format::encode_header(&self.identity, self.next_sequence));
            debug_assert_eq!(bytes.len(), HEADER_LEN);
        }
        let mut places = Vec::with_capacity(records.len());
        for (position, record) in records.iter().enumerate() {
            let last = position + 1 == records.len();
            let begin = format::encode_record(&mut bytes, self.next_batch, last, record);
            let offset = end.unwrap_or(0) + begin as u64;
            let offset = u32::try_from(offset).expect("log files are below 4 GiB");
            let span = u32::try_from(bytes.len() - begin).expect("records are below 4 GiB");
            places.push((offset, span));
        }
        (bytes, places)
    }

    fn forget_after(&mut self, index: u64) {
        self.locations.truncate(index_in(index - self.prev.index));
        self.cache.truncate(index + 1);
    }

    /// After a reset: only the newest log file counts.
    fn forget_all(&mut self, prev: Mark) {
        self.locations.clear();
        self.cache = super::Cache::default();
        self.prev = prev;
        self.files.drain(..self.files.len() - 1);
    }

    /// The sequence numbers of the oldest log files.
    fn oldest(&self, count: usize) -> Vec<u64> {
        let oldest = self.files.iter().take(count);
        oldest.map(|log_file| log_file.sequence).collect()
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
}

fn placed(record: Record, sequence: u64, (offset, span): (u32, u32)) -> (LogEntry, Location) {
    let Record::Entry(entry) = record else {
        unreachable!("only entries follow")
    };
    let location = Location {
        term: entry.term,
        sequence,
        offset,
        span,
    };
    (entry, location)
}
