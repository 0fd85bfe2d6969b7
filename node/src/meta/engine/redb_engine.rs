//! Engines on redb 4: one B-tree in one file, one transaction a write.
//!
//! What must be known of redb: a commit without durability lives in memory and the page cache until
//! the next durable one, and a crash goes back to that one; a checkpoint is a durable commit of
//! nothing, which waits for two syncs while no write can begin, so the file is synced beforehand.

use super::files::sync;
use super::files::{APPLIED_KEY, applied_of, damaged, encode_applied, failed, open_unlocked};
use super::{EngineError, MetaEngine};
use crate::meta::log::Mark;
use megalith_model::table::{Batch, Rows, RowsError};
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const FILE: &str = "rows.redb";

struct RedbEngine {
    name: String,
    file: PathBuf,
    db: Database,
    applied: Mutex<Mark>,
}

/// Opens or makes the engine in `dir`.
pub(super) fn open(
    name: &str,
    dir: &Path,
    cache_bytes: u64,
) -> Result<Arc<dyn MetaEngine>, EngineError> {
    fs::create_dir_all(dir).map_err(|source| failed("create", name, source))?;
    let file = dir.join(FILE);
    let build = || {
        Database::builder()
            .set_cache_size(usize::try_from(cache_bytes).unwrap_or(usize::MAX))
            .create(&file)
    };
    let held = |error: &DatabaseError| matches!(error, DatabaseError::DatabaseAlreadyOpen);
    let db = open_unlocked(build, held).map_err(|source| opening(name, source))?;
    let applied = read_applied(&db).map_err(|source| damaged(name, source))?;
    let applied = applied_of(name, applied.as_deref(), true)?;
    Ok(Arc::new(RedbEngine {
        name: name.to_owned(),
        file,
        db,
        applied: Mutex::new(applied),
    }))
}

fn read_applied(db: &Database) -> Result<Option<Vec<u8>>, redb::Error> {
    let write = db.begin_write()?;
    let value = {
        let table = write.open_table(ROWS)?;
        table.get(APPLIED_KEY)?.map(|value| value.value().to_vec())
    };
    write.commit()?;
    Ok(value)
}

impl RedbEngine {
    fn commit(&self, batch: &Batch, applied: Mark) -> Result<(), redb::Error> {
        let mut write = self.db.begin_write()?;
        write.set_durability(Durability::None)?;
        {
            let mut table = write.open_table(ROWS)?;
            for (key, change) in batch.iter() {
                match change {
                    Some(value) => table.insert(key, value)?,
                    None => table.remove(key)?,
                };
            }
            table.insert(APPLIED_KEY, encode_applied(applied).as_slice())?;
        }
        write.commit()?;
        Ok(())
    }

    fn commit_durably(&self) -> Result<(), redb::Error> {
        let mut write = self.db.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.set_quick_repair(true);
        write.commit()?;
        Ok(())
    }
}

impl MetaEngine for RedbEngine {
    fn write(&self, batch: &Batch, applied: Mark) -> Result<(), EngineError> {
        let mut current = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        self.commit(batch, applied)
            .map_err(|source| failed("write", &self.name, source))?;
        *current = applied;
        Ok(())
    }

    fn applied(&self) -> Mark {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checkpoint(&self) -> Result<(), EngineError> {
        sync(&self.file).map_err(|source| failed("sync", &self.name, source))?;
        self.commit_durably()
            .map_err(|source| failed("sync", &self.name, source))
    }

    fn approximate_len(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |file| file.len())
    }
}

impl Rows for RedbEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        let read = self.db.begin_read().map_err(RowsError::new)?;
        let table = read.open_table(ROWS).map_err(RowsError::new)?;
        let value = table.get(key).map_err(RowsError::new)?;
        Ok(value.map(|value| value.value().to_vec()))
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
        let read = self.db.begin_read().map_err(RowsError::new)?;
        let table = read.open_table(ROWS).map_err(RowsError::new)?;
        for row in table.range(from..to).map_err(RowsError::new)? {
            let (key, value) = row.map_err(RowsError::new)?;
            if !visit(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }
}

/// An engine that doesn't open: an error of the operating system is no damage.
fn opening(name: &str, source: DatabaseError) -> EngineError {
    let machine = match &source {
        DatabaseError::Storage(StorageError::Io(error)) => error.raw_os_error().is_some(),
        DatabaseError::DatabaseAlreadyOpen => true,
        _other => false,
    };
    match machine {
        true => failed("open", name, source),
        false => damaged(name, source),
    }
}
