//! A backup becomes the rows and the log of a new member.
//!
//! Every member of the new group restores the same backup by itself. The rows are made fit to go
//! on with (`megalith_model::restored`) the same way everywhere, and stand at the same place of the
//! log, in a term far behind the backup's: no log that the lost group may have left anywhere can
//! outvote the new one.

use super::file::{self, RowsReader};
use super::{BackupCard, BackupError, io_error};
use crate::engine::{Engines, engine_name, partial_name};
use crate::log::{Append, Conf, HardState, LogIdentity, LogSettings, Mark, MetaLog};
use crate::member::LOG_DIR;
use megalith_disk::FileSystem;
use megalith_model::ids::{GroupId, NodeId};
use megalith_model::{level, machine, restored};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// More terms than a group goes through between a backup and its loss.
const TERMS: u64 = 1 << 32;
/// There while a member's directory is being made; removed last.
const UNFINISHED_FILE: &str = "restoring";

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where the new log begins.
    pub mark: Mark,
    pub records: u64,
}

/// True for a directory in which a restore was cut off: it is no member's.
#[must_use]
pub fn unfinished(dir: &Path) -> bool {
    dir.join(UNFINISHED_FILE).exists()
}

/// Restores the backup in `from` into `dir`, as a member that [`crate::MetaStore::init`] has just
/// made there for the group of `voters`. `make` is that init: it is called when the backup is known
/// to be good and the directory to be free.
pub fn restore(
    from: &Path,
    dir: &Path,
    identity: LogIdentity,
    voters: &[NodeId],
    fs: Arc<dyn FileSystem>,
    make: impl FnOnce() -> Result<Arc<dyn Engines>, BackupError>,
) -> Result<Restored, BackupError> {
    let card = verified(from, identity)?;
    if unfinished(dir) {
        fs::remove_dir_all(dir).map_err(io_error("clear", dir))?;
    }
    if !super::is_free(dir)? {
        return Err(BackupError::NotEmpty {
            dir: dir.to_owned(),
        });
    }
    fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    let unfinished = dir.join(UNFINISHED_FILE);
    fs::write(&unfinished, "a restore was cut off: begin it again\n")
        .map_err(io_error("write", &unfinished))?;
    super::sync(dir)?;
    let engines = make()?;
    let mark = Mark {
        index: card.mark.index,
        term: card.mark.term + TERMS,
    };
    rows(from, &card, engines.as_ref(), mark)?;
    log(fs, &dir.join(LOG_DIR), identity, voters, mark)?;
    fs::remove_file(&unfinished).map_err(io_error("remove", &unfinished))?;
    super::sync(dir)?;
    if let Some(parent) = dir.parent().filter(|parent| parent.is_dir()) {
        super::sync(parent)?;
    }
    Ok(Restored {
        mark,
        records: card.records,
    })
}

/// Reads every byte of a backup before any of it is used.
fn verified(from: &Path, identity: LogIdentity) -> Result<BackupCard, BackupError> {
    let card = BackupCard::read(from, identity.cluster)?;
    check(&card, identity.group, file::digest(from)?, from)?;
    Ok(card)
}

/// Compares a card with the length and digest of the rows beside it.
pub(super) fn check(
    card: &BackupCard,
    group: GroupId,
    found: (u64, blake3::Hash),
    from: &Path,
) -> Result<(), BackupError> {
    if found == (card.len, card.digest) && card.group == group {
        return Ok(());
    }
    Err(BackupError::Damaged {
        path: from.join(file::ROWS_FILE),
        what: format!(
            "it is not the file of {} bytes that the card names",
            card.len
        ),
    })
}

/// Makes the engine: under its name only once it is whole and durable.
fn rows(
    from: &Path,
    card: &BackupCard,
    engines: &dyn Engines,
    mark: Mark,
) -> Result<(), BackupError> {
    let partial = partial_name(0);
    engines.wipe(&partial)?;
    let engine = engines.open(&partial)?;
    let (mut reader, mut records) = (RowsReader::open(from)?, 0);
    while let Some((batch, count)) = reader.next_batch()? {
        engine.write(&batch, Mark::default())?;
        records += count;
    }
    if records != card.records {
        return Err(BackupError::Damaged {
            path: from.join(file::ROWS_FILE),
            what: format!("{records} records, not {}", card.records),
        });
    }
    let level = machine::level_of_cluster(engine.as_ref())?;
    level.map_or(Ok(()), |level| level::KNOWN.check(level))?;
    engine.write(&restored::changes(engine.as_ref())?, mark)?;
    engine.checkpoint()?;
    drop(engine);
    engines.rename(&partial, &engine_name(mark))?;
    Ok(())
}

/// Lets the log begin where the rows end.
fn log(
    fs: Arc<dyn FileSystem>,
    dir: &Path,
    identity: LogIdentity,
    voters: &[NodeId],
    mark: Mark,
) -> Result<(), BackupError> {
    let mut log = MetaLog::open(fs, dir, identity, LogSettings::default())?;
    log.append(Append {
        reset: Some(mark),
        hard: Some(HardState {
            term: mark.term,
            vote: 0,
            commit: mark.index,
        }),
        conf: Some(Conf::of_voters(voters.iter().copied())),
        entries: Vec::new(),
    })?;
    Ok(())
}
