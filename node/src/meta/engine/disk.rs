//! Engines on a file system, each in a directory of its own: which database one was made with, and
//! which one a new one gets.

use super::files::{failed, sync};
use super::{EngineError, EngineHome, MetaEngine, fjall_engine, redb_engine, sled_engine};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The embedded database that keeps the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// fjall 3.
    #[default]
    Fjall,
    /// redb 4.
    Redb,
    /// sled 0.34.
    Sled,
}

/// What one process may choose about its engines.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// The database of new engines.
    pub kind: EngineKind,
    /// Bytes of rows kept in memory. Default 256 MiB.
    pub cache_bytes: u64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            kind: EngineKind::default(),
            cache_bytes: 256 << 20,
        }
    }
}

/// Engines in directories.
#[derive(Clone, Debug)]
pub struct DiskHome {
    dir: PathBuf,
    settings: EngineSettings,
}

impl DiskHome {
    /// Keeps engines in `dir`, which must exist.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, settings: EngineSettings) -> Self {
        Self {
            dir: dir.into(),
            settings,
        }
    }
}

impl EngineHome for DiskHome {
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
        let dir = self.dir.join(name);
        match self.settings.kind {
            EngineKind::Fjall => fjall_engine::open(name, &dir, self.settings.cache_bytes),
            EngineKind::Redb => redb_engine::open(name, &dir, self.settings.cache_bytes),
            EngineKind::Sled => sled_engine::open(name, &dir, self.settings.cache_bytes),
        }
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
