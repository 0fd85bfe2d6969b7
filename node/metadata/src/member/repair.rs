//! Saving what is left of a member that nobody can bring back: the only one of its group, or the
//! last of a group whose majority is gone for good. Offline, and only at an operator's word.
//!
//! The member goes on as a group of one, under a new id. Its rows are those of its engine, and the
//! entries that can still be read behind them. The files of the log are put aside, not removed.

use super::rebuild::{MemberDir, Standing, new_incarnation};
use super::start::own;
use super::{Card, LOG_DIR, Lost, StartError, card};
use crate::addresses::AddressBook;
use crate::engine::{EngineError, Engines, engine_bases, engine_name};
use crate::log::{
    Append, Conf, HardState, LogEntry, LogError, LogIdentity, LogSettings, Mark, MetaLog,
};
use megalith_disk::{DirLock, FileSystem};
use megalith_model::ids::NodeId;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A repair that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Neither rows nor a log from its beginning can be read.
    #[error(
        "nothing can be saved: no rows can be read, and the log's beginning is lost: restore a \
         backup ({problem})"
    )]
    Nothing { problem: String },
}

/// What was found, and what a repair would keep.
pub struct Repairs {
    /// What is wrong; None if the member would start.
    pub problem: Option<String>,
    /// The other members, as last known.
    pub others: Vec<NodeId>,
    /// The place that the rows stand for.
    pub rows: u64,
    /// The last entry that would be kept.
    pub kept: u64,
    /// The highest entry that is known to have been there; later ones may have been.
    pub known: u64,
    member_dir: MemberDir,
    base: Option<Mark>,
    mark: Mark,
    entries: Vec<LogEntry>,
    term: u64,
    _lock: Box<dyn DirLock>,
}

/// Looks at a member's directory; changes nothing.
pub fn examine(
    fs: Arc<dyn FileSystem>,
    dir: &Path,
    identity: LogIdentity,
    engines: &dyn Engines,
) -> Result<Repairs, RepairError> {
    let settings = LogSettings::default();
    let member_dir = MemberDir {
        fs: fs.clone(),
        dir: dir.to_owned(),
        identity,
    };
    let standing = member_dir.standing(engines)?;
    let lock = own(fs.as_ref(), dir)?;
    let book = AddressBook::new(identity.member, BTreeMap::new());
    book.remember(card::read_peers(fs.as_ref(), dir));
    let rows = newest_rows(engines)?;
    let problem = match standing {
        Standing::CardLost(reason) => Some(reason),
        Standing::Member(card) => match member_dir.open_log(card.identity, settings) {
            Ok(log) => rows.and_then(|(_, mark)| behind(&log, mark)),
            Err(error) => Some(error.to_string()),
        },
    };
    let runs = MetaLog::salvage(&fs, &dir.join(LOG_DIR), identity, settings)?;
    let known = runs
        .iter()
        .map(|run| run.last_index().max(run.hard_state().commit));
    let known = known.max().unwrap_or(0);
    let terms = runs.iter().map(|run| {
        run.hard_state()
            .term
            .max(run.term(run.last_index()).unwrap_or(0))
    });
    let term = terms.max().unwrap_or(0);
    let (base, mark) = match rows {
        Some((base, mark)) => (Some(base), mark),
        None => (None, Mark::default()),
    };
    let fits = |run: &&MetaLog| run.term(mark.index) == Some(mark.term);
    let best = runs.iter().filter(fits).max_by_key(|run| run.last_index());
    let entries = match best {
        Some(run) if run.last_index() > mark.index => {
            run.entries(mark.index + 1, run.last_index() + 1, u64::MAX)?
        }
        Some(_) | None => Vec::new(),
    };
    if mark.index == 0 && best.is_none() {
        let problem = problem.unwrap_or_else(|| "there are no rows".to_owned());
        return Err(RepairError::Nothing { problem });
    }
    let kept = entries.last().map_or(mark.index, |entry| entry.index);
    let mut others = book.others();
    for node in best
        .into_iter()
        .flat_map(|run| run.conf().members())
        .filter_map(crate::log::node_of)
    {
        if node != identity.member && !others.contains(&node) {
            others.push(node);
        }
    }
    Ok(Repairs {
        problem,
        others,
        rows: mark.index,
        kept,
        known: known.max(mark.index),
        member_dir,
        base,
        mark,
        entries,
        term: term.max(mark.term) + 1,
        _lock: lock,
    })
}

/// What is wrong if the rows stand for more than the log holds.
fn behind(log: &MetaLog, rows: Mark) -> Option<String> {
    let last = log.last_index();
    (rows.index > last).then(|| {
        let rows = rows.index;
        format!("the raft log ends at entry {last}, and the rows have applied entry {rows}")
    })
}

/// The engine that has applied the most of those that open, and where it began.
fn newest_rows(engines: &dyn Engines) -> Result<Option<(Mark, Mark)>, EngineError> {
    let mut newest: Option<(Mark, Mark)> = None;
    for base in engine_bases(engines)? {
        match engines.open(&engine_name(base)) {
            Ok(engine) => {
                let applied = engine.applied();
                if newest.is_none_or(|(_, best)| applied > best) {
                    newest = Some((base, applied));
                }
            }
            Err(error) => tracing::warn!(%error, "these rows can't be read"),
        }
    }
    Ok(newest)
}

impl Repairs {
    /// Makes the member the only one of its group, with what can be kept. Returns where the old
    /// log is.
    pub fn repair(self) -> Result<String, RepairError> {
        let Self {
            problem,
            member_dir,
            base,
            mark,
            entries,
            term,
            kept: last,
            ..
        } = self;
        let kept = member_dir.put_aside()?;
        let kept = kept.map_or_else(String::new, |kept| kept.display().to_string());
        let identity = LogIdentity {
            incarnation: new_incarnation(),
            ..member_dir.identity
        };
        let conf = Conf {
            // Changes of members among the entries kept are history.
            index: last,
            voters: vec![identity.raft_id()],
            ..Conf::default()
        };
        member_dir.make_log(identity, conf.clone())?;
        let mut log = member_dir.open_log(identity, LogSettings::default())?;
        log.append(Append {
            reset: (mark.index > 0).then_some(mark),
            hard: Some(HardState {
                term,
                vote: 0,
                commit: last,
            }),
            conf: Some(conf),
            entries,
        })?;
        let reason = problem.unwrap_or_else(|| "made the only member by an operator".to_owned());
        let lost = Some(Lost {
            reason,
            kept: kept.clone(),
        });
        tracing::warn!(
            ?base,
            last,
            kept,
            "the member was made the only one of its group"
        );
        Card { identity, lost }.write(member_dir.fs.as_ref(), &member_dir.dir)?;
        Ok(kept)
    }
}
