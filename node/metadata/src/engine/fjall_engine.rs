//! Engines on fjall 3: a log-structured merge tree, one keyspace, one batch a write.
//!
//! What must be known of fjall: a batch goes through one checksummed journal, and its recovery
//! takes whole batches in order, so that rows and mark go together; a batch is in the page cache
//! when `write` returns and durable once the journal is synced, which is all that a checkpoint
//! costs; every block carries a checksum that a read judges. A snapshot costs nothing to make and
//! sees all writes that are visible when it is made; fjall's own upkeep can make a batch visible
//! that is only half written, so that no snapshot is made during a write. While one is held, the
//! old versions of rows and the files that hold them stay.

use super::files::{
    APPLIED_KEY, applied_of, damaged, encode_applied, failed, is_machines, open_unlocked, sync,
};
use super::{EngineError, EngineSettings, EngineView, MetaEngine};
use crate::log::Mark;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use megalith_model::table::{Batch, Rows, RowsError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const ROWS: &str = "rows";
/// Journals kept at most hold so many times what is in memory only; what is in them is read again
/// at a start. fjall wants at least 64 MiB.
const JOURNALS_PER_MEMTABLE: u64 = 4;
const JOURNALS_BYTES_MIN: u64 = 64 << 20;
/// After so many rows a reader's scan offers its core to others: about 30 microseconds. A thread
/// that is woken on the core of a busy one waits otherwise until the kernel's next tick, or until
/// the page ends; with few cores that was the 99th percentile of gets beside a listing.
const ROWS_BETWEEN_YIELDS: usize = 32;

struct FjallEngine {
    name: String,
    dir: PathBuf,
    db: Database,
    rows: Keyspace,
    /// Held during a write.
    applied: Mutex<Mark>,
}

/// All rows at one mark.
struct FjallSnapshot {
    rows: Keyspace,
    snapshot: Snapshot,
    applied: Mark,
}

/// Opens or makes the engine in `dir`.
pub(super) fn open(
    name: &str,
    dir: &Path,
    settings: &EngineSettings,
) -> Result<Arc<dyn MetaEngine>, EngineError> {
    let journals_bytes = settings
        .memtable_bytes
        .saturating_mul(JOURNALS_PER_MEMTABLE);
    let build = || {
        Database::builder(dir)
            .cache_size(settings.cache_bytes)
            .max_journaling_size(journals_bytes.max(JOURNALS_BYTES_MIN))
            .worker_threads(2)
            .open()
    };
    let held = |error: &fjall::Error| matches!(error, fjall::Error::Locked);
    let db = open_unlocked(build, held).map_err(|source| opening(name, source))?;
    let options = || KeyspaceCreateOptions::default().max_memtable_size(settings.memtable_bytes);
    let rows = db
        .keyspace(ROWS, options)
        .map_err(|source| opening(name, source))?;
    let applied = rows
        .get(APPLIED_KEY)
        .map_err(|source| opening(name, source))?;
    let empty = applied.is_some() || rows.is_empty().map_err(|source| opening(name, source))?;
    let applied = applied_of(name, applied.as_deref(), empty)?;
    Ok(Arc::new(FjallEngine {
        name: name.to_owned(),
        dir: dir.to_owned(),
        db,
        rows,
        applied: Mutex::new(applied),
    }))
}

impl MetaEngine for FjallEngine {
    fn write(&self, batch: &Batch, applied: Mark) -> Result<(), EngineError> {
        let mut writes = self.db.batch();
        for (key, change) in batch.iter() {
            match change {
                Some(value) => writes.insert(&self.rows, key, value),
                None => writes.remove(&self.rows, key),
            }
        }
        writes.insert(&self.rows, APPLIED_KEY, encode_applied(applied));
        let mut current = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        writes
            .commit()
            .map_err(|source| failed("write", &self.name, source))?;
        *current = applied;
        metrics::counter!("megalith_meta_rows_written_total").increment(batch.len() as u64);
        Ok(())
    }

    fn snapshot(&self) -> Option<Box<dyn EngineView>> {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Box::new(FjallSnapshot {
            rows: self.rows.clone(),
            snapshot: self.db.snapshot(),
            applied: *applied,
        }))
    }

    fn checkpoint(&self) -> Result<(), EngineError> {
        self.db
            .persist(PersistMode::SyncAll)
            .map_err(|source| failed("sync", &self.name, source))?;
        // fjall syncs its own directories, not the one that holds this one.
        let parent = self.dir.parent().unwrap_or(&self.dir);
        sync(parent).map_err(|source| failed("sync", &self.name, source))
    }

    fn approximate_len(&self) -> u64 {
        self.db.disk_space().unwrap_or(0)
    }
}

impl EngineView for FjallEngine {
    fn applied(&self) -> Mark {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows for FjallEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        count_get();
        let value = self.rows.get(key).map_err(RowsError::new)?;
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
        visit_all(self.rows.range(from..to), visit, || {})
    }
}

impl EngineView for FjallSnapshot {
    fn applied(&self) -> Mark {
        self.applied
    }
}

impl Rows for FjallSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        count_get();
        let value = self.snapshot.get(&self.rows, key);
        Ok(value.map_err(RowsError::new)?.map(|value| value.to_vec()))
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
        let mut visited = 0_usize;
        let give_way = || {
            visited += 1;
            if visited.is_multiple_of(ROWS_BETWEEN_YIELDS) {
                std::thread::yield_now();
            }
        };
        visit_all(self.snapshot.range(&self.rows, from..to), visit, give_way)
    }
}

/// Visits rows until `visit` is false; calls `between` before each.
fn visit_all(
    rows: fjall::Iter,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    mut between: impl FnMut(),
) -> Result<(), RowsError> {
    metrics::counter!("megalith_meta_row_scans_total").increment(1);
    for row in rows {
        between();
        let (key, value) = row.into_inner().map_err(RowsError::new)?;
        if !visit(&key, &value) {
            break;
        }
    }
    Ok(())
}

fn count_get() {
    metrics::counter!("megalith_meta_row_gets_total").increment(1);
}

/// An engine that doesn't open.
fn opening(name: &str, source: fjall::Error) -> EngineError {
    let machine = match &source {
        fjall::Error::Io(error) => is_machines(error),
        fjall::Error::Storage(fjall::LsmError::Io(error)) => is_machines(error),
        fjall::Error::Locked => true,
        _other => false,
    };
    match machine {
        true => failed("open", name, source),
        false => damaged(name, source),
    }
}
