//! Where a log's files are, and what to say when one of them fails.

use super::LogError;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of a log.
pub(super) struct LogDir(PathBuf);

impl LogDir {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn as_path(&self) -> &Path {
        &self.0
    }

    /// A log file.
    pub(super) fn file(&self, sequence: u64) -> PathBuf {
        self.0.join(file_name(sequence))
    }

    /// A log file that failed.
    pub(super) fn io(&self, action: &'static str, sequence: u64, source: io::Error) -> LogError {
        self.io_of(action, &file_name(sequence), source)
    }

    /// Another file of the directory that failed.
    pub(super) fn io_of(&self, action: &'static str, name: &str, source: io::Error) -> LogError {
        LogError::Io {
            action,
            path: self.0.join(name),
            source,
        }
    }
}

pub(super) fn file_name(sequence: u64) -> String {
    format!("{sequence:020}.log")
}
