//! A member whose log can't be relied on begins another life: what is left is put aside, and it
//! goes on under an id that has never voted or acknowledged anything.
//!
//! Never removes a file of a life before the next but one has begun. `docs/formats/raft-log.md` has
//! the argument why this is safe.

use super::card::{self, Card, FoundCard, Lost, MEMBER_FILE};
use super::{LOG_DIR, StartError};
use crate::addresses::AddressBook;
use crate::engine::{ChoiceError, Engines, set_aside};
use crate::log::{Conf, LogError, LogIdentity, LogSettings, MetaLog};
use megalith_disk::FileSystem;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directories with the files of earlier lives are `kept-1`, `kept-2`, …
const KEPT_PREFIX: &str = "kept-";
/// The files of so many lives stay; `status` names the newest ones.
const KEPT_STAY: usize = 2;

/// A member's directory.
pub(super) struct MemberDir {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) dir: PathBuf,
    /// As the settings say; its incarnation is not used.
    pub(super) identity: LogIdentity,
}

/// What the directory says of its member.
pub(super) enum Standing {
    Member(Card),
    /// There was one, and the card is lost.
    CardLost(String),
}

impl MemberDir {
    /// Finds out whether a member lives here.
    pub(super) fn standing(&self, engines: &dyn Engines) -> Result<Standing, StartError> {
        let path = self.dir.join(MEMBER_FILE);
        match Card::find(self.fs.as_ref(), &self.dir, &self.identity)? {
            FoundCard::Card(card) => Ok(Standing::Member(card)),
            FoundCard::Foreign(found) => Err(StartError::Foreign { path, found }),
            FoundCard::Damaged => Ok(Standing::CardLost(format!("{} is damaged", path.display()))),
            FoundCard::Nothing if self.has_leftovers(engines)? => {
                Ok(Standing::CardLost(format!("{} is missing", path.display())))
            }
            FoundCard::Nothing => Err(StartError::NotInitialised {
                dir: self.dir.clone(),
            }),
        }
    }

    /// True if a log or rows show that a member lived here. One that was being made for the
    /// first time has neither entries nor rows.
    fn has_leftovers(&self, engines: &dyn Engines) -> Result<bool, StartError> {
        if !engines.names().map_err(ChoiceError::from)?.is_empty() {
            return Ok(true);
        }
        let names = |dir: &Path| match self.fs.list(dir) {
            Ok(found) => Ok(found.into_iter().map(|entry| entry.name).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.failed("list", dir)(error)),
        };
        let kept = |name: &String| name.starts_with(KEPT_PREFIX);
        let log_file = |name: &String| name.ends_with(".log");
        Ok(names(&self.dir)?.iter().any(kept)
            || names(&self.dir.join(LOG_DIR))?.iter().any(log_file))
    }

    /// Begins the next life: the old files are moved, a log without entries or members is made.
    /// The card is written last, so a rebuild that is cut off half way is done again.
    ///
    /// Puts `engines` aside; None if somebody has them open and replaces them.
    pub(super) fn begin_life(
        &self,
        reason: &str,
        engines: Option<&dyn Engines>,
        book: &AddressBook,
    ) -> Result<Card, StartError> {
        if book.alone() {
            return Err(StartError::OnlyCopy {
                reason: reason.to_owned(),
                dir: self.dir.clone(),
            });
        }
        let kept = self.put_aside()?;
        let identity = LogIdentity {
            incarnation: new_incarnation(),
            ..self.identity
        };
        self.make_log(identity, Conf::default())?;
        if let Some(engines) = engines {
            set_aside(engines).map_err(ChoiceError::from)?;
        }
        let lost = Lost {
            reason: reason.to_owned(),
            kept: kept.map_or_else(String::new, |kept| kept.display().to_string()),
        };
        tracing::error!(
            dir = %self.dir.display(),
            reason,
            kept = lost.kept,
            "this metadata member has lost its log: it does not vote, fetches everything from its \
             peers, and comes back as a voter under a new id"
        );
        let card = Card {
            identity,
            lost: Some(lost),
        };
        card.write(self.fs.as_ref(), &self.dir)?;
        if let Err(error) = self.forget_old_lives() {
            let dir = self.dir.display();
            tracing::warn!(%dir, %error, "files of earlier lives stay behind");
        }
        Ok(card)
    }

    /// Removes what is left of all lives but the newest ones.
    fn forget_old_lives(&self) -> io::Result<()> {
        let mut kept = self.kept_numbers()?;
        kept.truncate(kept.len().saturating_sub(KEPT_STAY));
        for number in kept {
            let dir = self.kept_dir(number);
            for entry in self.fs.list(&dir)? {
                self.fs.remove(&dir.join(entry.name))?;
            }
            self.fs.remove_dir(&dir)?;
            tracing::info!(dir = %dir.display(), "the files of an earlier life are removed");
        }
        self.fs.sync_dir(&self.dir)
    }

    /// The numbers of the directories with the files of earlier lives, the oldest first.
    fn kept_numbers(&self) -> io::Result<Vec<u32>> {
        let names = self.fs.list(&self.dir)?.into_iter();
        let number = |name: String| name.strip_prefix(KEPT_PREFIX)?.parse().ok();
        let mut numbers: Vec<u32> = names.filter_map(|entry| number(entry.name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn kept_dir(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{KEPT_PREFIX}{number}"))
    }

    /// Makes a log in an empty directory, made if missing.
    pub(super) fn make_log(&self, identity: LogIdentity, conf: Conf) -> Result<(), StartError> {
        let log_dir = self.dir.join(LOG_DIR);
        self.make_dir(&log_dir)?;
        MetaLog::init(self.fs.clone(), &log_dir, identity, conf)?;
        self.sync(&self.dir)
    }

    /// Opens the log of a life.
    pub(super) fn open_log(
        &self,
        identity: LogIdentity,
        settings: LogSettings,
    ) -> Result<MetaLog, LogError> {
        MetaLog::open(self.fs.clone(), &self.dir.join(LOG_DIR), identity, settings)
    }

    /// Moves what there is of a log and a card into a directory of its own. None if there is
    /// nothing.
    pub(super) fn put_aside(&self) -> Result<Option<PathBuf>, StartError> {
        let log_dir = self.dir.join(LOG_DIR);
        let mut moves: Vec<(PathBuf, String)> = match self.fs.list(&log_dir) {
            Ok(found) => found
                .into_iter()
                .map(|entry| (log_dir.join(&entry.name), entry.name))
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(self.failed("list", &log_dir)(source)),
        };
        let card = self.dir.join(MEMBER_FILE);
        if self.fs.open(&card).is_ok() {
            moves.push((card, MEMBER_FILE.to_owned()));
        }
        if moves.is_empty() {
            return Ok(None);
        }
        let kept = self.new_kept_dir()?;
        for (source, name) in moves {
            let target = kept.join(name);
            let moved = self.fs.rename(&source, &target);
            moved.map_err(self.failed("move aside", &source))?;
        }
        self.sync(&kept)?;
        if self.fs.list(&log_dir).is_ok() {
            self.sync(&log_dir)?;
        }
        self.sync(&self.dir)?;
        Ok(Some(kept))
    }

    fn new_kept_dir(&self) -> Result<PathBuf, StartError> {
        let numbers = self.kept_numbers();
        let newest = numbers.map_err(self.failed("list", &self.dir))?.pop();
        let kept = self.kept_dir(newest.unwrap_or(0).saturating_add(1));
        let made = self.fs.create_dir(&kept);
        made.map_err(self.failed("create", &kept))?;
        Ok(kept)
    }

    fn make_dir(&self, path: &Path) -> Result<(), StartError> {
        match self.fs.create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(self.failed("create", path)(error))
            }
            _there => Ok(()),
        }
    }

    fn sync(&self, dir: &Path) -> Result<(), StartError> {
        self.fs.sync_dir(dir).map_err(self.failed("sync", dir))
    }

    fn failed(&self, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
        let path = path.to_owned();
        move |source| StartError::Io {
            action,
            path,
            source,
        }
    }
}

/// True if a log is lost, damaged or another's: then the member begins another life. A program that
/// is too old, or a machine without memory, says nothing of the log.
pub(super) fn is_lost(error: &LogError) -> bool {
    match error {
        LogError::Missing { .. } | LogError::Foreign { .. } | LogError::Damaged { .. } => true,
        LogError::Io { action, source, .. } => *action == "read" && card::is_bad_disk(source),
        LogError::Failed | LogError::Exists { .. } | LogError::Version { .. } => false,
    }
}

/// A number that no life of this member had before, but by a chance of one in four thousand
/// million.
pub(super) fn new_incarnation() -> u32 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the kernel has randomness");
    u32::from_le_bytes(bytes).max(1)
}
