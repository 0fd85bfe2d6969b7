//! Engines on sled 0.34: one database a directory, one tree, one batch a write.
//!
//! What must be known of sled: `flush` writes but makes no fsync, so a checkpoint syncs every file
//! and directory itself, and what a power cut finds between two checkpoints may not open at all;
//! nothing is flushed per write; the lock of a database that was just dropped may linger for a
//! moment. It has no snapshots.

use super::files::{
    APPLIED_KEY, applied_of, damaged, encode_applied, failed, is_machines, open_unlocked, sync,
    sync_all,
};
use super::{EngineError, EngineView, MetaEngine};
use crate::log::Mark;
use megalith_model::table::{Batch, Rows, RowsError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

struct SledEngine {
    name: String,
    dir: PathBuf,
    db: sled::Db,
    applied: Mutex<Mark>,
}

/// Opens or makes the engine in `dir`.
pub(super) fn open(
    name: &str,
    dir: &Path,
    cache_bytes: u64,
) -> Result<Arc<dyn MetaEngine>, EngineError> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(cache_bytes)
        .flush_every_ms(None)
        .mode(sled::Mode::HighThroughput);
    let held = |error: &sled::Error| matches!(error, sled::Error::Io(error) if locked(error));
    let db = open_unlocked(|| config.open(), held).map_err(|source| opening(name, source))?;
    let applied = db
        .get(APPLIED_KEY)
        .map_err(|source| opening(name, source))?;
    let applied = applied_of(name, applied.as_deref(), db.is_empty())?;
    Ok(Arc::new(SledEngine {
        name: name.to_owned(),
        dir: dir.to_owned(),
        db,
        applied: Mutex::new(applied),
    }))
}

/// sled reports a taken lock as `Other` with these words.
fn locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
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

    fn snapshot(&self) -> Option<Box<dyn EngineView>> {
        None
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

impl EngineView for SledEngine {
    fn applied(&self) -> Mark {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner)
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

/// An engine that doesn't open.
fn opening(name: &str, source: sled::Error) -> EngineError {
    let machine = matches!(
        &source,
        sled::Error::Io(error) if is_machines(error) || locked(error)
    );
    match machine {
        true => failed("open", name, source),
        false => damaged(name, source),
    }
}
