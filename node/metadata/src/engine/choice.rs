//! Which of a member's engines is opened, given its log.
//!
//! Names: `engine-<index>-<term>` began with a snapshot at that place (0-0: with nothing);
//! `staged-<index>-<term>` is a whole snapshot whose mark isn't in the log yet; `partial-…` is one
//! in the making. A snapshot becomes the engine in this order: partial → staged → mark in the log
//! → engine, so that a crash anywhere leaves either the old state or the new one. `kept-<n>-…` is
//! the engine of a life whose log was lost; it stays until the rows of the new one are whole.

use super::{EngineError, Engines, MetaEngine};
use crate::log::{Mark, MetaLog};
use std::sync::Arc;

const ENGINE_PREFIX: &str = "engine-";
/// What the name of a staged engine begins with.
const STAGED_PREFIX: &str = "staged-";
const PARTIAL_PREFIX: &str = "partial-";
const KEPT_PREFIX: &str = "kept-";

/// The engine to work with.
pub struct Choice {
    pub name: String,
    pub engine: Arc<dyn MetaEngine>,
    /// True if the log doesn't reach back to what the engine has applied: the rows must come
    /// from a peer.
    pub needs_snapshot: bool,
    /// Why the engine before it can't be used, if there was one.
    pub damaged: Option<String>,
}

/// Why no engine can be opened.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// More was applied than the log holds: the log has lost what it had made durable.
    #[error(
        "engine {name} has applied entry {applied:?}, which the raft log (up to {last}) has lost; \
         the member must be rebuilt from its peers"
    )]
    LogBehind {
        name: String,
        /// What it has applied.
        applied: Mark,
        /// The log's last entry.
        last: u64,
    },
    /// The engine is of no use, the log doesn't reach back to the first entry, and there is no
    /// peer to fetch the rows from. Nothing was removed.
    #[error("engine {name} can't be used, the only member's raft log begins at entry {first}")]
    Alone {
        name: String,
        /// The log's first entry.
        first: u64,
        /// What is wrong with it, if it doesn't open.
        source: Option<EngineError>,
    },
}

/// The name of an engine that began at `base`.
#[must_use]
pub fn engine_name(base: Mark) -> String {
    format!("{ENGINE_PREFIX}{:020}-{:020}", base.index, base.term)
}

/// The name of a whole snapshot at `base`.
#[must_use]
pub fn staged_name(base: Mark) -> String {
    format!("{STAGED_PREFIX}{:020}-{:020}", base.index, base.term)
}

/// The name of a snapshot in the making.
#[must_use]
pub fn partial_name(peer: u64) -> String {
    format!("{PARTIAL_PREFIX}{peer}")
}

fn base_of(name: &str, prefix: &str) -> Option<Mark> {
    let (index, term) = name.strip_prefix(prefix)?.split_once('-')?;
    Some(Mark {
        index: index.parse().ok()?,
        term: term.parse().ok()?,
    })
}

/// What opening an engine has shown.
enum FoundEngine {
    Usable(Arc<dyn MetaEngine>),
    /// It opens, but the log doesn't hold the entry that it has applied last.
    BesideTheLog,
    Damaged(EngineError),
}

/// Opens the engine that goes with `log`; wipes those that can be made again. `alone` is true for
/// a member without peers.
pub fn choose(engines: &dyn Engines, log: &MetaLog, alone: bool) -> Result<Choice, ChoiceError> {
    // Without the rows of an engine there is only the log.
    let needed = alone && log.prev().index > 0;
    let mut chosen = None;
    let mut useless = None;
    let mut damaged = None;
    for base in bases(engines, log)?.into_iter().rev() {
        let name = engine_name(base);
        if chosen.is_some() {
            engines.wipe(&name)?;
            continue;
        }
        let error = match open(engines, log, &name)? {
            FoundEngine::Usable(engine) => {
                chosen = Some((name, engine));
                continue;
            }
            FoundEngine::BesideTheLog => None,
            FoundEngine::Damaged(error) => {
                damaged = damaged.or(Some(format!("{error}: {}", error.source)));
                Some(error)
            }
        };
        if needed {
            useless = useless.or(Some((name, error)));
        } else {
            tracing::warn!(name, "wiping the engine; its rows are made again");
            engines.wipe(&name)?;
        }
    }
    if let Some((name, engine)) = chosen {
        return Ok(Choice {
            name,
            engine,
            needs_snapshot: false,
            damaged,
        });
    }
    let name = engine_name(Mark::default());
    if needed {
        let (name, source) = useless.unwrap_or((name, None));
        let first = log.first_index();
        return Err(ChoiceError::Alone {
            name,
            first,
            source,
        });
    }
    Ok(Choice {
        engine: engines.open(&name)?,
        name,
        needs_snapshot: log.prev().index > 0,
        damaged,
    })
}

/// Opens one engine and compares it with the log. An engine that can't be opened at this time, or
/// that is ahead of the log, is an error: neither may cost any rows.
fn open(engines: &dyn Engines, log: &MetaLog, name: &str) -> Result<FoundEngine, ChoiceError> {
    let engine = match engines.open(name) {
        Ok(engine) => engine,
        Err(error) if !error.damaged => return Err(error.into()),
        Err(error) => {
            tracing::error!(name, %error, source = %error.source, "the engine is damaged");
            return Ok(FoundEngine::Damaged(error));
        }
    };
    let applied = engine.applied();
    if log.term(applied.index) == Some(applied.term) {
        return Ok(FoundEngine::Usable(engine));
    }
    let last = log.last_index();
    if applied.index > last {
        return Err(ChoiceError::LogBehind {
            name: name.to_owned(),
            applied,
            last,
        });
    }
    tracing::warn!(name, ?applied, "the engine is not where the log is");
    Ok(FoundEngine::BesideTheLog)
}

/// Where the engines of a member began, ascending.
pub(crate) fn engine_bases(engines: &dyn Engines) -> Result<Vec<Mark>, EngineError> {
    let names = engines.names()?;
    let mut bases: Vec<Mark> = names
        .iter()
        .filter_map(|name| base_of(name, ENGINE_PREFIX))
        .collect();
    bases.sort_unstable();
    Ok(bases)
}

/// Renames all engines out of the way of a new life; their rows stay.
pub(crate) fn set_aside(engines: &dyn Engines) -> Result<(), EngineError> {
    let names = engines.names()?;
    for name in names.iter().filter(|name| name.starts_with(ENGINE_PREFIX)) {
        let numbered = (1_u32..).map(|number| format!("{KEPT_PREFIX}{number}-{name}"));
        let mut free = numbered.filter(|kept| !names.contains(kept));
        let kept = free.next().expect("names are few");
        engines.rename(name, &kept)?;
        tracing::warn!(name, kept, "an engine is put aside");
    }
    Ok(())
}

/// Removes the engines of lost lives: there is a whole one again.
pub(crate) fn drop_kept(engines: &dyn Engines) -> Result<(), EngineError> {
    let names = engines.names()?;
    for name in names.iter().filter(|name| name.starts_with(KEPT_PREFIX)) {
        tracing::info!(
            name,
            "the rows are whole again: the engine of the lost life is removed"
        );
        engines.wipe(name)?;
    }
    Ok(())
}

/// Where the engines began that there are, ascending. Promotes a staged one whose mark is in the
/// log; wipes all other leftovers.
fn bases(engines: &dyn Engines, log: &MetaLog) -> Result<Vec<Mark>, EngineError> {
    let in_log = |mark: &Mark| log.term(mark.index) == Some(mark.term);
    let mut bases = Vec::new();
    for name in engines.names()? {
        if let Some(base) = base_of(&name, ENGINE_PREFIX) {
            bases.push(base);
        } else if let Some(base) = base_of(&name, STAGED_PREFIX).filter(in_log) {
            engines.wipe(&engine_name(base))?;
            engines.rename(&name, &engine_name(base))?;
            bases.push(base);
        } else if name.starts_with(STAGED_PREFIX) || name.starts_with(PARTIAL_PREFIX) {
            engines.wipe(&name)?;
        }
    }
    bases.sort_unstable();
    bases.dedup();
    Ok(bases)
}

#[cfg(test)]
mod tests;
