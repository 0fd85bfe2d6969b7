//! What an append or a purge does on disk. It decides nothing and sees nothing of the log but its
//! pen, so that it can be done on another thread while the log is read.

use super::append::Change;
use super::dir::LogDir;
use super::reached::{FILE, Reached, ReachedFile};
use super::{LogError, LogFile, LogIdentity, LogSettings, Mark};
use megalith_disk::{File, FileSystem};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

/// What only one writer may have: the end of the newest log file. A log gives it away with what it
/// plans and gets it back with what was written, so that there is never a second one on its way.
pub(super) struct Pen {
    fs: Arc<dyn FileSystem>,
    dir: LogDir,
    identity: LogIdentity,
    settings: LogSettings,
    /// Where the next append goes; None: into a new log file.
    pub(super) writer: Option<Writer>,
    /// None if there was no such file, until the first append.
    pub(super) reached: Option<ReachedFile>,
}

/// The end of the newest log file, if this process created it.
pub(super) struct Writer {
    sequence: u64,
    file: Arc<dyn File>,
    pub(super) offset: u64,
    preallocated: u64,
}

/// What is to be written for one append, or removed by one purge; nothing is done yet.
#[must_use = "the log takes nothing more before it is written and settled"]
pub struct Planned {
    pub(super) pen: Pen,
    pub(super) bytes: Option<Bytes>,
    /// Log files to remove afterwards, oldest first.
    pub(super) removes: Vec<u64>,
    pub(super) change: Change,
}

/// The bytes of an append.
pub(super) struct Bytes {
    pub(super) bytes: Vec<u8>,
    /// The number of the append.
    pub(super) batch: u64,
    /// The sequence number and the start of a new log file; None: at the end of the newest one.
    pub(super) new_file: Option<(u64, Mark)>,
}

/// What has become of something planned; the log has not heard of it yet.
#[must_use = "the log takes nothing more before it is settled"]
pub struct Written {
    pub(super) pen: Pen,
    pub(super) change: Change,
    pub(super) result: Result<Grown, LogError>,
}

/// How the newest log file has changed.
pub(super) enum Grown {
    No,
    /// It is new.
    New(LogFile),
    /// It has so many bytes now.
    To(u64),
}

impl Planned {
    /// Writes and syncs. What was planned survives a power cut afterwards, or the log fails when
    /// it settles this. Takes as long as the disk does.
    pub fn write(self) -> Written {
        let Self {
            mut pen,
            bytes,
            removes,
            change,
        } = self;
        let result = (|| {
            let grown = match bytes {
                Some(bytes) => pen.write(&bytes)?,
                None => Grown::No,
            };
            pen.remove_files(&removes)?;
            Ok(grown)
        })();
        Written {
            pen,
            change,
            result,
        }
    }
}

impl Pen {
    pub(super) fn new(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        identity: LogIdentity,
        settings: LogSettings,
    ) -> Self {
        Self {
            fs,
            dir: LogDir::new(dir),
            identity,
            settings,
            writer: None,
            reached: None,
        }
    }

    fn write(&mut self, bytes: &Bytes) -> Result<Grown, LogError> {
        let grown = match bytes.new_file {
            Some((sequence, prev)) => Grown::New(self.create_file(sequence, prev, &bytes.bytes)?),
            None => self.extend_file(&bytes.bytes)?,
        };
        let reserved_more = !matches!(grown, Grown::No);
        self.note_reached(bytes.batch, reserved_more)?;
        Ok(grown)
    }

    fn create_file(
        &mut self,
        sequence: u64,
        prev: Mark,
        bytes: &[u8],
    ) -> Result<LogFile, LogError> {
        if self.reached.is_none() {
            let made = ReachedFile::create(self.fs.as_ref(), self.dir.as_path());
            self.reached = Some(made.map_err(|source| self.dir.io_of("create", FILE, source))?);
        }
        let file = self
            .fs
            .create(&self.dir.file(sequence))
            .map_err(|source| self.dir.io("create", sequence, source))?;
        let preallocated = self.settings.preallocate_bytes.max(bytes.len() as u64);
        file.preallocate(0, preallocated)
            .map_err(|source| self.dir.io("reserve", sequence, source))?;
        file.write_at(&[IoSlice::new(bytes)], 0)
            .map_err(|source| self.dir.io("write", sequence, source))?;
        file.sync_data()
            .map_err(|source| self.dir.io("sync", sequence, source))?;
        self.sync_dir()?;
        self.writer = Some(Writer {
            sequence,
            file: file.clone(),
            offset: bytes.len() as u64,
            preallocated,
        });
        Ok(LogFile {
            sequence,
            file,
            prev,
            bytes: preallocated,
        })
    }

    fn extend_file(&mut self, bytes: &[u8]) -> Result<Grown, LogError> {
        let step = self.settings.preallocate_bytes;
        let writer = self
            .writer
            .as_mut()
            .expect("a full or missing writer rolls");
        let (sequence, end) = (writer.sequence, writer.offset + bytes.len() as u64);
        let more_needed = end > writer.preallocated;
        let written = (|| {
            if more_needed {
                let more = step.max(end - writer.preallocated);
                writer.file.preallocate(writer.preallocated, more)?;
                writer.preallocated += more;
            }
            writer
                .file
                .write_at(&[IoSlice::new(bytes)], writer.offset)?;
            writer.file.sync_data()?;
            writer.offset = end;
            Ok(if more_needed {
                Grown::To(writer.preallocated)
            } else {
                Grown::No
            })
        })();
        written.map_err(|source| self.dir.io("append to", sequence, source))
    }

    /// Notes how far the log reaches now: durably if a log file is new or has got more space.
    fn note_reached(&mut self, batch: u64, sync: bool) -> Result<(), LogError> {
        let writer = self.writer.as_ref().expect("it has just written");
        let reached = Reached {
            sequence: writer.sequence,
            reserved: writer.preallocated,
            append: batch,
        };
        let file = self.reached.as_mut().expect("made with a log file");
        let noted = file.note(&self.identity, reached, sync);
        noted.map_err(|source| self.dir.io_of("write", FILE, source))
    }

    /// Removes log files, one durably after the other: a power cut may undo removals in any order,
    /// and a log with a hole is damaged.
    fn remove_files(&self, sequences: &[u64]) -> Result<(), LogError> {
        for &sequence in sequences {
            self.fs
                .remove(&self.dir.file(sequence))
                .map_err(|source| self.dir.io("remove", sequence, source))?;
            self.sync_dir()?;
        }
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), LogError> {
        let dir = self.dir.as_path();
        self.fs.sync_dir(dir).map_err(|source| LogError::Io {
            action: "sync",
            path: dir.to_owned(),
            source,
        })
    }
}
