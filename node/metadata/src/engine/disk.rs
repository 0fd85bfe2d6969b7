//! Engines on a file system, each in a directory of its own: which database one was made with, and
//! which one a new one gets.

use super::files::{damaged, failed, sync};
use super::{EngineError, Engines, MetaEngine, fjall_engine, sled_engine};
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The embedded database that keeps the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// fjall 3.
    #[default]
    Fjall,
    /// sled 0.34.
    Sled,
}

/// What one process may choose about its engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// The database of new engines.
    pub kind: EngineKind,
    /// Bytes of rows kept in memory. Default 256 MiB.
    pub cache_bytes: u64,
    /// Rows that are in memory only until they are so many bytes; then they become a file. Default
    /// 64 MiB. Their nodes take three times as much. Tables keep what they were made with; of fjall
    /// only, because sled has nothing like it.
    pub memtable_bytes: u64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            kind: EngineKind::default(),
            cache_bytes: 256 << 20,
            memtable_bytes: 64 << 20,
        }
    }
}

/// Engines in directories.
#[derive(Clone, Debug)]
pub struct DiskEngines {
    dir: PathBuf,
    settings: EngineSettings,
}

impl DiskEngines {
    /// Keeps engines in `dir`; one that is missing has none, and is made by the first.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, settings: EngineSettings) -> Self {
        Self {
            dir: dir.into(),
            settings,
        }
    }
}

impl Engines for DiskEngines {
    fn names(&self) -> Result<Vec<String>, EngineError> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            let entries = match fs::read_dir(&self.dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
                entries => entries?,
            };
            for entry in entries {
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
        let made_by = made_by(&dir).map_err(|source| failed("open", name, source))?;
        let kind = match made_by {
            MadeBy::Nobody => self.settings.kind,
            MadeBy::Kind(kind) => kind,
            MadeBy::Unknown => return Err(damaged(name, "its files are of no known database")),
        };
        if kind != self.settings.kind {
            tracing::info!(
                name,
                ?kind,
                "the engine stays with the database that made it; a rebuilt one will not"
            );
        }
        let settings = &self.settings;
        let open = || match kind {
            EngineKind::Fjall => fjall_engine::open(name, &dir, settings),
            EngineKind::Sled => sled_engine::open(name, &dir, settings.cache_bytes),
        };
        // A database that trips over its own damaged files is damaged, not a reason to crash.
        catch_unwind(AssertUnwindSafe(open))
            .unwrap_or_else(|_| Err(damaged(name, "the database panicked")))
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
            _gone => match sync(&self.dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                synced => synced.map_err(|error| failed("wipe", name, error)),
            },
        }
    }
}

/// Which database a directory is of.
enum MadeBy {
    Nobody,
    Kind(EngineKind),
    Unknown,
}

fn made_by(dir: &Path) -> io::Result<MadeBy> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(MadeBy::Nobody),
        entries => entries?,
    };
    let mut found = MadeBy::Nobody;
    for entry in entries {
        let name = entry?.file_name();
        let of_fjall = |name: &str| name == "keyspaces" || name.ends_with(".jnl");
        found = match name.to_str() {
            Some(name) if of_fjall(name) => return Ok(MadeBy::Kind(EngineKind::Fjall)),
            Some("conf" | "db" | "blobs") => return Ok(MadeBy::Kind(EngineKind::Sled)),
            // Of a fjall database that was never finished.
            Some("version" | "lock") if !matches!(found, MadeBy::Unknown) => {
                MadeBy::Kind(EngineKind::Fjall)
            }
            _other => MadeBy::Unknown,
        };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_missing_is_empty_and_made_by_its_first_engine() {
        let dir = tempfile::tempdir().expect("a directory");
        for kind in [EngineKind::Fjall, EngineKind::Sled] {
            let settings = EngineSettings {
                kind,
                ..EngineSettings::default()
            };
            let engines = DiskEngines::new(dir.path().join(format!("{kind:?}")), settings);
            assert_eq!(engines.names().expect("names"), Vec::<String>::new());
            engines.wipe("partial-0").expect("nothing to wipe");
            drop(engines.open("partial-0").expect("open"));
            assert_eq!(engines.names().expect("names"), ["partial-0"]);
        }
    }
}
