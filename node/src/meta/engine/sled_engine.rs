//! Engines on sled 0.34: one database a directory, one tree, one batch a write.
//!
//! What must be known of sled: `flush` writes but makes no fsync, so a checkpoint syncs every file
//! and directory itself; nothing is flushed per write; the lock of a database that was just dropped
//! may linger for a moment.

use super::{EngineError, EngineHome, MetaEngine};
use crate::meta::log::Mark;
use megalith_model::table::{Batch, Rows, RowsError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Where an engine keeps how far the log is applied; sorts before every row.
const APPLIED_KEY: &[u8] = b"\0applied";
/// The version of what is kept there.
const APPLIED_VERSION: u8 = 1;
/// How long the lock of a database that was just closed is waited for.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);

/// What one process may choose about its engines.
#[derive(Clone, Copy, Debug)]
pub struct SledSettings {
    /// Bytes of rows kept in memory. Default 256 MiB; sled's own is 1 GiB.
    pub cache_bytes: u64,
}

impl Default for SledSettings {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
        }
    }
}

/// Engines on sled, each in a directory of its own.
#[derive(Clone, Debug)]
pub struct SledHome {
    dir: PathBuf,
    settings: SledSettings,
}

struct SledEngine {
    name: String,
    dir: PathBuf,
    db: sled::Db,
    applied: Mutex<Mark>,
}

impl SledHome {
    /// Keeps engines in `dir`, which must exist.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, settings: SledSettings) -> Self {
        Self {
            dir: dir.into(),
            settings,
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "sled has no way to wait for its lock; the deadline bounds it"
    )]
    fn open_db(&self, name: &str) -> sled::Result<sled::Db> {
        let config = sled::Config::new()
            .path(self.dir.join(name))
            .cache_capacity(self.settings.cache_bytes)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        let deadline = Instant::now() + LOCK_DEADLINE;
        loop {
            match config.open() {
                Err(sled::Error::Io(error)) if locked(&error) && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                }
                result => return result,
            }
        }
    }
}

/// sled reports a taken lock as `Other` with these words.
fn locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

impl EngineHome for SledHome {
    fn names(&self) -> Result<Vec<String>, EngineError> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
            names.sort();
            Ok(names)
        };
        list().map_err(|source| failed("list", "", source))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn MetaEngine>, EngineError> {
        let db = self.open_db(name).map_err(|source| opening(name, source))?;
        let applied = match db.get(APPLIED_KEY) {
            Ok(None) if db.is_empty() => Mark::default(),
            Ok(Some(value)) => {
                decode_applied(&value).ok_or_else(|| damaged(name, "its mark is damaged"))?
            }
            Ok(None) => return Err(damaged(name, "it has rows but no mark")),
            Err(source) => return Err(opening(name, source)),
        };
        let (name, dir) = (name.to_owned(), self.dir.join(name));
        Ok(Arc::new(SledEngine {
            name,
            dir,
            db,
            applied: Mutex::new(applied),
        }))
    }

    fn rename(&self, source: &str, target: &str) -> Result<(), EngineError> {
        fs::rename(self.dir.join(source), self.dir.join(target))
            .and_then(|()| sync(&self.dir))
            .map_err(|error| failed("rename", source, error))
    }

    fn wipe(&self, name: &str) -> Result<(), EngineError> {
        match fs::remove_dir_all(self.dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("wipe", name, error))
            }
            _gone => sync(&self.dir).map_err(|error| failed("wipe", name, error)),
        }
    }
}

impl MetaEngine for SledEngine {
    fn write(&self, batch: &Batch, applied: Mark) -> Result<(), EngineError> {
        let mut writes = sled::Batch::default();
        for (key, change) in batch.iter() {
            match change {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        writes.insert(APPLIED_KEY, encode_applied(applied).as_slice());
        let mut current = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        self.db
            .apply_batch(writes)
            .map_err(|source| failed("write", &self.name, source))?;
        *current = applied;
        Ok(())
    }

    fn applied(&self) -> Mark {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checkpoint(&self) -> Result<(), EngineError> {
        self.db
            .flush()
            .map_err(|source| failed("flush", &self.name, source))?;
        sync_all(&self.dir).map_err(|source| failed("sync", &self.name, source))?;
        if let Some(parent) = self.dir.parent() {
            sync(parent).map_err(|source| failed("sync", &self.name, source))?;
        }
        Ok(())
    }

    fn approximate_len(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

impl Rows for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        let value = self.db.get(key).map_err(RowsError::new)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        if from >= to {
            return Ok(());
        }
        for row in self.db.range(from..to) {
            let (key, value) = row.map_err(RowsError::new)?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}

fn encode_applied(applied: Mark) -> [u8; 17] {
    let mut bytes = [APPLIED_VERSION; 17];
    bytes[1..9].copy_from_slice(&applied.index.to_le_bytes());
    bytes[9..].copy_from_slice(&applied.term.to_le_bytes());
    bytes
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
fn sync_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let result = if entry.file_type()?.is_dir() {
            sync_all(&entry.path())
        } else {
            sync(&entry.path())
        };
        match result {
            // sled removes files of its own meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    sync(dir)
}

fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// An engine that doesn't open: an error of the operating system is no damage.
fn opening(name: &str, source: sled::Error) -> EngineError {
    let system = matches!(&source, sled::Error::Io(error) if error.raw_os_error().is_some());
    let lock = matches!(&source, sled::Error::Io(error) if locked(error));
    let error = failed("open", name, source);
    EngineError {
        damaged: !system && !lock,
        ..error
    }
}

fn damaged(name: &str, what: &str) -> EngineError {
    let error = failed("open", name, what);
    EngineError {
        damaged: true,
        ..error
    }
}

fn failed(
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
