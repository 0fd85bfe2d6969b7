//! What engines on a file system share: how the mark is kept, and how files are made durable.

use super::EngineError;
use crate::log::Mark;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Where an engine keeps how far the log is applied; sorts before every row.
pub(super) const APPLIED_KEY: &[u8] = b"\0applied";
/// The version of what is kept there.
const APPLIED_VERSION: u8 = 1;
/// How long the lock of a database that was just closed is waited for.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);

pub(super) fn encode_applied(applied: Mark) -> [u8; 17] {
    let mut bytes = [APPLIED_VERSION; 17];
    bytes[1..9].copy_from_slice(&applied.index.to_le_bytes());
    bytes[9..].copy_from_slice(&applied.term.to_le_bytes());
    bytes
}

/// The mark of an engine as it was found: `value` is what is kept under [`APPLIED_KEY`].
pub(super) fn applied_of(
    name: &str,
    value: Option<&[u8]>,
    empty: bool,
) -> Result<Mark, EngineError> {
    match value {
        Some(bytes) => decode_applied(bytes).ok_or_else(|| damaged(name, "its mark is damaged")),
        None if empty => Ok(Mark::default()),
        None => Err(damaged(name, "it has rows but no mark")),
    }
}

fn decode_applied(bytes: &[u8]) -> Option<Mark> {
    let (&version, rest) = bytes.split_first()?;
    let (index, rest) = rest.split_first_chunk::<8>()?;
    let (term, rest) = rest.split_first_chunk::<8>()?;
    let mark = Mark {
        index: u64::from_le_bytes(*index),
        term: u64::from_le_bytes(*term),
    };
    (version == APPLIED_VERSION && rest.is_empty()).then_some(mark)
}

/// Syncs every file and directory below `dir`, then `dir`.
pub(super) fn sync_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let result = match entry.file_type() {
            Ok(kind) if kind.is_dir() => sync_all(&entry.path()),
            Ok(_file) => sync(&entry.path()),
            Err(error) => Err(error),
        };
        match result {
            // Engines remove files of their own meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    sync(dir)
}

/// Syncs one file or directory.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Opens a database; waits a little if `locked` says that another handle, just dropped, still
/// holds it.
#[expect(
    clippy::disallowed_methods,
    reason = "the databases have no way to wait for their lock; the deadline bounds it"
)]
pub(super) fn open_unlocked<T, E>(
    mut open: impl FnMut() -> Result<T, E>,
    locked: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + LOCK_DEADLINE;
    loop {
        match open() {
            Err(error) if locked(&error) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// True for an error that speaks of the machine, not of an engine's files: what can't be opened for
/// want of memory or of a permission is not thrown away. All others are damage: a file that is
/// missing, empty or can't be read.
pub(super) fn is_machines(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::ResourceBusy
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
    ) || matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

pub(super) fn damaged(
    name: &str,
    what: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> EngineError {
    let error = failed("open", name, what);
    EngineError {
        damaged: true,
        ..error
    }
}

pub(super) fn failed(
    action: &'static str,
    name: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> EngineError {
    EngineError {
        action,
        name: name.to_owned(),
        damaged: false,
        source: source.into(),
    }
}
