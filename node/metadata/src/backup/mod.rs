//! Backups of the metadata: all rows at one point of the log, in a directory.
//!
//! Owns the format (`docs/formats/metadata-backup.md`). A backup is whole once its card is there,
//! and is read only after every byte of it was checked. Must never: write into a member's directory
//! that is in use; restore half of anything.

mod card;
mod file;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod restore;
mod take;
#[cfg(test)]
mod tests;

pub use card::BackupCard;
pub use restore::{Restored, restore, unfinished};
pub use take::{BackupSource, take};

use crate::engine::EngineError;
use crate::log::LogError;
use megalith_model::level::OutOfRange;
use megalith_model::machine::MachineError;
use megalith_model::table::MemRows;
use std::io;
use std::path::{Path, PathBuf};
use tonic::Status;

/// The files of a backup, in the order in which a copy must be made: the one that makes it whole
/// comes last.
pub const FILES: [&str; 2] = [file::ROWS_FILE, card::CARD_FILE];
/// What a name ends with while a copy is being made.
pub const PARTIAL_SUFFIX: &str = ".new";

/// A backup that can't be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or directory.
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// There is something already.
    #[error("{} is not empty: nothing was changed", dir.display())]
    NotEmpty { dir: PathBuf },
    /// It isn't what was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    /// It was made by another cluster.
    #[error("{} is a backup of cluster {found}", path.display())]
    Foreign { path: PathBuf, found: String },
    /// The members don't send their rows.
    #[error("stream the metadata")]
    Stream(#[source] Box<Status>),
    /// What a member sent isn't what it read.
    #[error("a member sent {0}")]
    Malformed(&'static str),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Log(#[from] LogError),
    /// The backup is of a level that this program can't run.
    #[error(transparent)]
    Level(#[from] OutOfRange),
    /// The rows can't be read.
    #[error("make the rows fit to go on with")]
    Rows(#[from] MachineError),
    #[error("the work was given up")]
    Stopped,
}

/// Reads all rows of the backup in `dir` into memory, unchanged: to look at, not to go on from.
///
/// # Errors
/// If a frame is damaged. The card is not compared.
pub fn read_rows(dir: &Path) -> Result<MemRows, BackupError> {
    let (mut reader, mut rows) = (file::RowsReader::open(dir)?, MemRows::default());
    while let Some((batch, _)) = reader.next_batch()? {
        rows.write(batch);
    }
    Ok(rows)
}

/// Names what was tried on a path.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io {
        action,
        path,
        source,
    }
}

/// True for a directory that is missing or holds nothing.
fn is_free(dir: &Path) -> Result<bool, BackupError> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_error("list", dir)(error)),
    }
}

fn sync(path: &Path) -> Result<(), BackupError> {
    let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
    synced.map_err(io_error("sync", path))
}
