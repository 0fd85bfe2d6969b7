//! One metadata member put together: its directory, its log, its tables, its threads.
//!
//! Owns starting and stopping. A member's directory is made once, by [`MetaStore::init`]; a member
//! that finds none doesn't start. One that has lost its log begins another life under another id,
//! for one that has forgotten its votes must never vote again.
//!
//! `card` is the directory's own files, `rebuild` begins another life, `join` asks to be let in,
//! `repair` is for an operator whose only member has lost its log. `start` puts a member together:
//! its `threads`, and `around` them what the driver asks of the rest.

mod around;
mod card;
mod join;
mod rebuild;
mod repair;
mod start;
mod threads;

pub use card::Lost;
pub use repair::{RepairError, Repairs, examine};
pub use start::start;

use crate::addresses::AddressBook;
use crate::apply::{ApplyError, ApplySettings};
use crate::engine::{Choice, ChoiceError, Engines, choose};
use crate::log::{Conf, LogError, LogIdentity, LogSettings, MetaLog};
use crate::raft::{RaftError, RaftSettings};
use crate::snapshot::SourceSettings;
use crate::transport::Transport;
use card::Card;
use megalith_disk::FileSystem;
use megalith_model::ids::NodeId;
use megalith_model::level::{LevelRange, OutOfRange};
use megalith_model::machine::MachineError;
use rebuild::{MemberDir, Standing, is_lost};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Where a member keeps its log, below its directory.
pub(crate) const LOG_DIR: &str = "log";

/// Why a member doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory can't be used.
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The directory was never made, or its disk is not mounted, or lost.
    #[error(
        "{} is no metadata member's directory: mount its disk, or replace the member if it is lost",
        dir.display()
    )]
    NotInitialised { dir: PathBuf },
    /// The directory was made before.
    #[error("{} is a metadata member's directory already", dir.display())]
    Initialised { dir: PathBuf },
    #[error("{} belongs to {found}", path.display())]
    Foreign {
        /// The file that says so.
        path: PathBuf,
        found: String,
    },
    /// The log is lost, and there are no peers to fetch anything from. Nothing was changed.
    #[error(
        "{reason}; this is the only member of its group, so no other can bring it back: nothing was \
         changed in {}, and `megalith meta repair` says what can be kept",
        dir.display()
    )]
    OnlyCopy { reason: String, dir: PathBuf },
    /// Another process runs this member.
    #[error("{} is in use by another process", dir.display())]
    InUse { dir: PathBuf },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// raft refuses what it finds.
    #[error(transparent)]
    Raft(#[from] RaftError),
    /// The cluster's level is none that this program can run. Nothing was changed.
    #[error(transparent)]
    Level(#[from] OutOfRange),
    /// The rows don't tell the group's time or the cluster's level.
    #[error("read the time and the level in the metadata")]
    Rows(#[from] MachineError),
}

/// Why a running member stopped by itself. It must not be started again without a look at it.
#[derive(Debug, thiserror::Error)]
pub enum MetaFailure {
    /// The log or raft.
    #[error(transparent)]
    Raft(#[from] RaftError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A promise of our own was broken.
    #[error("the {thread} thread panicked: {message}")]
    Panic {
        thread: &'static str,
        message: String,
    },
}

/// A member's directory.
pub struct MetaStore;

/// What a member may choose.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetaSettings {
    pub log: LogSettings,
    pub raft: RaftSettings,
    /// Of the apply thread.
    pub apply: ApplySettings,
    /// Of snapshots for others.
    pub source: SourceSettings,
    /// The levels of the cluster that it can run; only tests choose others than the program's.
    pub levels: LevelRange,
}

/// What a member is made of.
pub struct MetaParts {
    /// Where the log is.
    pub fs: Arc<dyn FileSystem>,
    /// Its directory, as given to [`MetaStore::init`].
    pub dir: PathBuf,
    /// Whose it is, as the settings say; its incarnation is not used.
    pub identity: LogIdentity,
    /// Where the tables are.
    pub engines: Arc<dyn Engines>,
    /// The way to the other members.
    pub transport: Arc<dyn Transport>,
    /// Where the members are; shared with the transport.
    pub addresses: Arc<AddressBook>,
    /// The machine's wall clock, in milliseconds since 1970. While this member leads, and its clock
    /// agrees with the others', it is the group's.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Where fetches and waits run.
    pub runtime: Handle,
    /// Called once, from one of the member's threads, when it stops by itself.
    pub on_failure: Arc<dyn Fn(MetaFailure) + Send + Sync>,
}

impl MetaStore {
    /// Makes the directory of a new member of a new group: `dir` must exist and hold no member.
    /// `voters` are the group's first members; all of them must be given the same.
    pub fn init(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        identity: LogIdentity,
        voters: &[NodeId],
    ) -> Result<(), StartError> {
        if Self::is_initialised(fs.as_ref(), dir)? {
            return Err(StartError::Initialised {
                dir: dir.to_owned(),
            });
        }
        let member_dir = MemberDir {
            fs,
            dir: dir.to_owned(),
            identity,
        };
        // Left behind by an init that was cut off, or by a member whose card was lost: kept.
        member_dir.put_aside()?;
        member_dir.make_log(identity, Conf::of_voters(voters.iter().copied()))?;
        let lost = None;
        Card { identity, lost }.write(member_dir.fs.as_ref(), dir)
    }

    /// True if `dir` is a member's directory, whoever's.
    pub fn is_initialised(fs: &dyn FileSystem, dir: &Path) -> Result<bool, StartError> {
        let path = dir.join(card::MEMBER_FILE);
        match fs.open(&path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StartError::Io {
                action: "open",
                path,
                source,
            }),
        }
    }
}

/// A member's log and tables, open.
struct Opened {
    card: Card,
    log: MetaLog,
    choice: Choice,
}

/// Opens what a directory holds. If the log is lost, begins a new life.
fn open(
    member_dir: &MemberDir,
    engines: &dyn Engines,
    book: &AddressBook,
    settings: LogSettings,
) -> Result<Opened, StartError> {
    let found = match member_dir.standing(engines)? {
        Standing::CardLost(reason) => Err(reason),
        Standing::Member(card) => match open_life(member_dir, engines, settings, card) {
            Ok(opened) => Ok(opened),
            Err(StartError::Log(error)) if is_lost(&error) => Err(error.to_string()),
            Err(StartError::Choice(error @ ChoiceError::LogBehind { .. })) => {
                Err(error.to_string())
            }
            Err(error) => return Err(error),
        },
    };
    let reason = match found {
        Ok(opened) => return Ok(opened),
        Err(reason) => reason,
    };
    let card = member_dir.begin_life(&reason, Some(engines), book)?;
    open_life(member_dir, engines, settings, card)
}

fn open_life(
    member_dir: &MemberDir,
    engines: &dyn Engines,
    settings: LogSettings,
    card: Card,
) -> Result<Opened, StartError> {
    let log = member_dir.open_log(card.identity, settings)?;
    let alone = log.conf().members() == [card.identity.raft_id()];
    let mut choice = choose(engines, &log, alone)?;
    choice.needs_snapshot |= log.conf().members().is_empty();
    Ok(Opened { card, log, choice })
}
