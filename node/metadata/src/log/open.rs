//! Making a log, and opening one: what is whole is taken, a torn tail is left behind, everything
//! else is refused.

use super::dir::{LogDir, file_name};
use super::format::{self, HeaderError, Record};
use super::reached::{FILE, ReachedFile};
use super::scan::{self, Placed, Scanned};
use super::write::Pen;
use super::{
    Append, Cache, Conf, HardState, Location, LogError, LogFile, LogIdentity, LogSettings, Mark,
    MetaLog,
};
use bytes::Bytes;
use megalith_disk::{File, FileSystem, read_exact_at};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a log file is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Older,
    /// Its end may be torn.
    Newest,
    /// Whatever can be had of it is wanted.
    Salvage,
}

/// A log file as found on disk.
struct Opened {
    sequence: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    bytes: u64,
    scanned: Scanned,
}

impl MetaLog {
    /// Makes the log of a new member in an existing, empty directory: the members, no entries.
    /// The one and only way to a log; [`MetaLog::open`] never makes one.
    pub fn init(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        identity: LogIdentity,
        conf: Conf,
    ) -> Result<(), LogError> {
        if !sequences(fs.as_ref(), dir)?.is_empty() {
            return Err(LogError::Exists {
                dir: dir.to_owned(),
            });
        }
        match fs.remove(&dir.join(FILE)) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(LogError::Io {
                    action: "remove",
                    path: dir.join(FILE),
                    source,
                });
            }
            _gone => {}
        }
        let settings = LogSettings {
            preallocate_bytes: 4096,
            ..LogSettings::default()
        };
        let mut log = Self::empty(fs, dir, identity, settings);
        log.append(Append {
            conf: Some(conf),
            ..Append::default()
        })
    }

    /// Opens a member's log. Whole appends are there, a torn last one is not; anything else is an
    /// error, and the member must not take part.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        identity: LogIdentity,
        settings: LogSettings,
    ) -> Result<Self, LogError> {
        let sequences = sequences(fs.as_ref(), dir)?;
        let mut log = Self::empty(fs, dir, identity, settings);
        let Some((&newest, _)) = sequences.split_last() else {
            return Err(LogError::Missing {
                dir: dir.to_owned(),
            });
        };
        let reached = ReachedFile::open(log.fs.as_ref(), dir, &identity)
            .map_err(|source| log.dir.io_of("read", FILE, source))?;
        let (reached_file, reached) = reached.unzip();
        let reached = reached.unwrap_or_default();
        for sequence in sequences {
            let expected = log.files.back().map(|log_file| log_file.sequence + 1);
            if expected.is_some_and(|expected| expected != sequence) {
                return Err(log.damaged(sequence, 0, "the log file before it is missing"));
            }
            let reading = if sequence == newest {
                Reading::Newest
            } else {
                Reading::Older
            };
            match log.read_file(sequence, reading)? {
                Some(opened) if sequence == reached.sequence && opened.bytes < reached.reserved => {
                    let reason = format!("it had {} bytes once", reached.reserved);
                    return Err(log.damaged(sequence, opened.bytes, &reason));
                }
                Some(opened) => log.take(opened)?,
                None if sequence <= reached.sequence => {
                    return Err(log.damaged(sequence, 0, "its first append was whole once"));
                }
                None => log.discard(sequence)?,
            }
        }
        if newest < reached.sequence {
            return Err(log.damaged(reached.sequence, 0, "it is missing"));
        }
        if log.next_batch <= reached.append {
            let (ends, reached) = (log.next_batch - 1, reached.append);
            let reason = format!("it ends with append {ends}, and append {reached} was durable");
            return Err(log.damaged(newest, 0, &reason));
        }
        if let Some(pen) = &mut log.pen {
            pen.reached = reached_file;
        }
        let Some(last) = log.files.back() else {
            return Err(LogError::Missing {
                dir: dir.to_owned(),
            });
        };
        // What a killed process wrote may be in the page cache only. From here on it counts.
        last.file
            .sync_data()
            .map_err(|source| log.dir.io("sync", last.sequence, source))?;
        log.fs.sync_dir(dir).map_err(|source| LogError::Io {
            action: "sync",
            path: dir.to_owned(),
            source,
        })?;
        // Only what is committed is purged, and a commit index is written late.
        log.hard.commit = log.hard.commit.max(log.prev.index);
        if log.hard.commit > log.last_index() {
            let reason = format!(
                "entries {}..={} do not reach the commit index {}",
                log.first_index(),
                log.last_index(),
                log.hard.commit
            );
            return Err(log.damaged(newest, 0, &reason));
        }
        Ok(log)
    }

    /// Reads what can still be read of a log that doesn't open: for each log file that can be a
    /// beginning, all that follows it up to the first damage. Nothing is changed, and none of these
    /// logs may be appended to.
    pub fn salvage(
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        identity: LogIdentity,
        settings: LogSettings,
    ) -> Result<Vec<Self>, LogError> {
        let sequences = match sequences(fs.as_ref(), dir) {
            Ok(sequences) => sequences,
            Err(LogError::Missing { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut runs = Vec::new();
        for first in 0..sequences.len() {
            let mut run = Self::empty(fs.clone(), dir, identity, settings);
            for &sequence in &sequences[first..] {
                let next = run.files.back().map(|log_file| log_file.sequence + 1);
                let follows = next.is_none_or(|next| next == sequence);
                // What isn't whole ends the run, whatever is wrong with it.
                let read = run.read_file(sequence, Reading::Salvage);
                let Ok(Some(opened)) = read else { break };
                if !follows || run.take(opened).is_err() {
                    break;
                }
            }
            if !run.files.is_empty() {
                runs.push(run);
            }
        }
        Ok(runs)
    }

    fn empty(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        identity: LogIdentity,
        settings: LogSettings,
    ) -> Self {
        let pen = Pen::new(fs.clone(), dir, identity, settings);
        Self {
            fs,
            dir: LogDir::new(dir),
            identity,
            settings,
            files: VecDeque::new(),
            pen: Some(pen),
            prev: Mark::default(),
            locations: VecDeque::new(),
            cache: Cache::default(),
            hard: HardState::default(),
            conf: Conf::default(),
            next_sequence: 1,
            next_batch: 1,
            failed: false,
        }
    }

    /// Reads a log file. None if it is the newest one and its creation was torn.
    fn read_file(&self, sequence: u64, reading: Reading) -> Result<Option<Opened>, LogError> {
        let newest = reading == Reading::Newest;
        let path = self.dir.file(sequence);
        let failed = |source| self.dir.io("read", sequence, source);
        let file = self.fs.open(&path).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let mut bytes = vec![0; usize::try_from(len).expect("log files are below 4 GiB")];
        read_exact_at(file.as_ref(), &mut bytes, 0).map_err(failed)?;
        let bytes = Bytes::from(bytes);
        let header = match format::decode_header(&bytes) {
            Ok(header) => Some(header),
            Err(HeaderError::Version(version)) => return Err(LogError::Version { path, version }),
            Err(HeaderError::Unreadable) => None,
        };
        let foreign = |&(found, _): &(LogIdentity, u64)| match reading {
            Reading::Newest | Reading::Older => found != self.identity,
            // The card that knows the incarnation may be lost with the log.
            Reading::Salvage => {
                let incarnation = self.identity.incarnation;
                LogIdentity {
                    incarnation,
                    ..found
                } != self.identity
            }
        };
        if let Some((found, _)) = header.filter(foreign) {
            let (found, expected) = (Box::new(found), Box::new(self.identity));
            return Err(LogError::Foreign {
                path,
                found,
                expected,
            });
        }
        if header.is_some_and(|(_, named)| named != sequence) {
            return Err(self.damaged(sequence, 0, "the header is another log file's"));
        }
        let scanned = header.and_then(|_| scan::scan(&bytes));
        // Without a whole first append, only records of the one that made the log file may be here.
        let (end, last_batch) = match &scanned {
            Some(scanned) => (scanned.end, scanned.last_batch + 1),
            None => (0, self.next_batch),
        };
        if newest && let Some(offset) = scan::later_record(&bytes, end, last_batch) {
            let reason = format!("a good record at {offset} follows damage");
            return Err(self.damaged(sequence, end as u64, &reason));
        }
        match scanned {
            Some(scanned) => Ok(Some(Opened {
                sequence,
                path,
                file,
                bytes: len,
                scanned,
            })),
            None if newest && !self.files.is_empty() => Ok(None),
            None => Err(self.damaged(sequence, 0, "its first append does not read")),
        }
    }

    /// Takes a log file's whole appends.
    fn take(&mut self, opened: Opened) -> Result<(), LogError> {
        let Opened {
            sequence,
            path,
            file,
            bytes,
            scanned,
        } = opened;
        let first = self.files.is_empty();
        if !first && scanned.first_batch != self.next_batch {
            let reason = format!(
                "append {} follows {}: appends between are lost",
                scanned.first_batch,
                self.next_batch - 1
            );
            return Err(self.damaged(sequence, 0, &reason));
        }
        let mut records = scanned.records.into_iter();
        let start = records.next().map(|placed| placed.record);
        let Some(Record::Start { prev, reset }) = start else {
            return Err(self.damaged(sequence, 0, "it has no start record"));
        };
        if first || reset {
            self.locations.clear();
            self.cache = Cache::default();
            self.prev = prev;
        } else if self.term(prev.index) != Some(prev.term) {
            return Err(self.damaged(sequence, 0, "it does not continue the one before it"));
        } else {
            self.locations
                .truncate(super::index_in(prev.index - self.prev.index));
            self.cache.truncate(prev.index + 1);
        }
        self.files.push_back(LogFile {
            sequence,
            file,
            prev,
            bytes,
        });
        for placed in records {
            self.take_record(sequence, placed)?;
        }
        self.next_sequence = sequence + 1;
        self.next_batch = scanned.last_batch + 1;
        tracing::debug!(path = %path.display(), last = self.last_index(), "raft log file read");
        Ok(())
    }

    fn take_record(&mut self, sequence: u64, placed: Placed) -> Result<(), LogError> {
        let Placed {
            offset,
            span,
            record,
        } = placed;
        match record {
            Record::Start { .. } => {
                Err(self.damaged(sequence, offset as u64, "a second start record"))
            }
            Record::Hard(hard) => {
                self.hard = hard;
                Ok(())
            }
            Record::Conf(conf) => {
                self.conf = conf;
                Ok(())
            }
            Record::Entry(mut entry) if entry.index == self.last_index() + 1 => {
                let offset = u32::try_from(offset).expect("log files are below 4 GiB");
                let span = u32::try_from(span).expect("log files are below 4 GiB");
                self.locations.push_back(Location {
                    term: entry.term,
                    sequence,
                    offset,
                    span,
                });
                // A slice would keep the whole log file in memory.
                entry.data = Bytes::copy_from_slice(&entry.data);
                entry.context = Bytes::copy_from_slice(&entry.context);
                self.cache.push(entry, self.settings.cache_bytes);
                Ok(())
            }
            Record::Entry(entry) => {
                let reason = format!("entry {} after {}", entry.index, self.last_index());
                Err(self.damaged(sequence, offset as u64, &reason))
            }
        }
    }

    /// Removes a newest log file whose creation was torn: nothing was ever acknowledged from it.
    fn discard(&mut self, sequence: u64) -> Result<(), LogError> {
        self.fs
            .remove(&self.dir.file(sequence))
            .map_err(|source| self.dir.io("remove", sequence, source))
    }

    fn damaged(&self, sequence: u64, offset: u64, reason: &str) -> LogError {
        LogError::Damaged {
            path: self.dir.file(sequence),
            offset,
            reason: reason.to_owned(),
        }
    }
}

/// The sequence numbers of the log files in a directory, ascending. Other files are not ours.
fn sequences(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<u64>, LogError> {
    let entries = fs.list(dir).map_err(|source| match source.kind() {
        ErrorKind::NotFound => LogError::Missing {
            dir: dir.to_owned(),
        },
        _other => LogError::Io {
            action: "list",
            path: dir.to_owned(),
            source,
        },
    })?;
    let mut sequences: Vec<u64> = entries
        .iter()
        .filter_map(|entry| {
            let sequence = entry.name.strip_suffix(".log")?.parse().ok()?;
            (file_name(sequence) == entry.name).then_some(sequence)
        })
        .collect();
    sequences.sort_unstable();
    Ok(sequences)
}
