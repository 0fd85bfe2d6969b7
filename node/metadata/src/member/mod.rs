//! One metadata member put together: its directory, its log, its tables, its threads.
//!
//! Owns starting and stopping. A member's directory is made once, by [`MetaStore::init`]; a member
//! that finds none doesn't start. One that has lost its log begins another life under another id,
//! for one that has forgotten its votes must never vote again.
//!
//! `card` is the directory's own files, `rebuild` begins another life, `join` asks to be let in,
//! `repair` is for an operator whose only member has lost its log.

mod card;
mod join;
mod rebuild;
mod repair;

pub use card::Lost;
pub use repair::{RepairError, Repairs, examine};

use crate::addresses::AddressBook;
use crate::apply::{Applier, ApplyError, ApplyQueue, ApplyReport, ApplySettings, ApplyTask};
use crate::engine::{Choice, EngineHome, HomeError, choose};
use crate::log::{Conf, HardState, LogError, LogIdentity, LogSettings, MetaLog, node_of};
use crate::raft::{
    Driver, DriverParts, Input, Phase, Presence, RaftError, RaftHandle, RaftRole, RaftSettings,
    Surroundings,
};
use crate::service::{HandleParts, MetaHandle};
use crate::snapshot::{Fetched, Source, SourceSettings, fetch};
use crate::tables::Tables;
use crate::transport::Transport;
use card::Card;
use megalith_disk::{DirLock, FileSystem};
use megalith_model::ids::{GroupId, NodeId};
use megalith_model::member::Losses;
use rebuild::{Place, Standing, is_lost};
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Where a member keeps its log, below its directory.
pub const LOG_DIR: &str = "log";
/// Raft's ticks between two knocks of a member that is to become a voter.
const KNOCK_TICKS: u32 = 10;
const LOCK_FILE: &str = "lock";

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
        "{reason}; this is the only member of its group, so nobody can bring it back: nothing was \
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
    Home(#[from] HomeError),
    /// raft refuses what it finds.
    #[error(transparent)]
    Raft(#[from] RaftError),
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
    pub home: Arc<dyn EngineHome>,
    /// The way to the other members.
    pub transport: Arc<dyn Transport>,
    /// Where the members are; shared with the transport.
    pub addresses: Arc<AddressBook>,
    /// Milliseconds since 1970, for the commands that this member makes itself.
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
        let place = Place {
            fs,
            dir: dir.to_owned(),
            identity,
        };
        // Left behind by an init that was cut off, or by a member whose card was lost: kept.
        place.put_aside()?;
        place.make_log(identity, Conf::of_voters(voters.iter().copied()))?;
        let lost = None;
        Card { identity, lost }.write(place.fs.as_ref(), dir)
    }

    /// True where `dir` is a member's directory, whoever's.
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

/// Opens what a directory holds; where the log is lost, a new life is begun.
fn open(
    place: &Place,
    home: &dyn EngineHome,
    book: &AddressBook,
    settings: LogSettings,
) -> Result<Opened, StartError> {
    let found = match place.standing(home)? {
        Standing::CardLost(reason) => Err(reason),
        Standing::Member(card) => match open_life(place, home, settings, card) {
            Ok(opened) => Ok(opened),
            Err(StartError::Log(error)) if is_lost(&error) => Err(error.to_string()),
            Err(StartError::Home(error @ HomeError::LogBehind { .. })) => Err(error.to_string()),
            Err(error) => return Err(error),
        },
    };
    let reason = match found {
        Ok(opened) => return Ok(opened),
        Err(reason) => reason,
    };
    let card = place.begin_anew(&reason, Some(home), book)?;
    open_life(place, home, settings, card)
}

fn open_life(
    place: &Place,
    home: &dyn EngineHome,
    settings: LogSettings,
    card: Card,
) -> Result<Opened, StartError> {
    let log = place.open_log(card.identity, settings)?;
    let alone = log.conf().members() == [card.identity.raft_id()];
    let mut choice = choose(home, &log, alone)?;
    choice.needs_snapshot |= log.conf().members().is_empty();
    Ok(Opened { card, log, choice })
}

/// Opens a member's directory and starts its threads.
pub fn start(parts: MetaParts, settings: &MetaSettings) -> Result<MetaHandle, StartError> {
    let MetaParts {
        fs,
        dir,
        identity,
        home,
        transport,
        addresses: book,
        clock,
        runtime,
        on_failure,
    } = parts;
    let place = Place {
        fs: fs.clone(),
        dir: dir.clone(),
        identity,
    };
    // Also says that it is this member's, before anything is written there.
    place.standing(home.as_ref())?;
    let lock = own(fs.as_ref(), &dir)?;
    book.remember(card::read_peers(fs.as_ref(), &dir));
    let Opened { card, log, choice } = open(&place, home.as_ref(), &book, settings.log)?;
    let life = life();
    let tables = Arc::new(Tables::new(
        choice.name,
        choice.engine,
        !choice.needs_snapshot,
        log.conf().clone(),
    ));
    let (inbox_sender, inbox) = mpsc::sync_channel(settings.raft.inbox_len);
    let raft = RaftHandle::new(inbox_sender, settings.raft.inbox_bytes);
    let (tasks_sender, tasks) = mpsc::channel();
    let queued = Arc::default();
    let apply_queue = |queued| {
        ApplyQueue::new(
            tasks_sender.clone(),
            queued,
            settings.raft.apply_queue_bytes,
        )
    };
    let source = Source::new(tables.clone(), settings.source, life);
    let (role_sender, role) = watch::channel(RaftRole::default());
    let (topology_sender, topology_changes) = watch::channel(0);
    let own_id = card.identity.raft_id();
    let founders = founders(&log, own_id);
    let (presence_sender, presence) = watch::channel(Presence {
        id: own_id,
        phase: Phase::Joining,
    });
    let lost = Arc::new(Mutex::new(card.lost));
    let surroundings = Around {
        raft: raft.clone(),
        home: home.clone(),
        transport: transport.clone(),
        source: source.clone(),
        group: identity.group,
        runtime: runtime.clone(),
        place,
        settings: settings.log,
        book: book.clone(),
        lost: lost.clone(),
        tables: choice.damaged.clone(),
    };
    if !log.conf().members().is_empty() {
        surroundings.members_are(log.conf());
    }
    let driver = Driver::new(DriverParts {
        log,
        member: own_id,
        group: identity.group,
        settings: settings.raft,
        tables: tables.clone(),
        applied: *tables.applied().borrow(),
        rebuild: choice.needs_snapshot,
        asleep: !founders.is_empty(),
        inbox,
        inbox_bytes: raft.bytes(),
        apply: apply_queue(Arc::clone(&queued)),
        transport: transport.clone(),
        surroundings: Box::new(surroundings),
        role: role_sender,
        presence: presence_sender,
        life,
    })?;
    let asker = join::Asker {
        raft: raft.clone(),
        transport,
        group: identity.group,
        book: book.clone(),
        presence,
        lost,
        tables: choice.damaged,
        fs,
        founders,
        pause: settings.raft.tick * KNOCK_TICKS,
    };
    runtime.spawn(asker.run());
    let reports = raft.clone();
    let applier = Applier {
        tables: tables.clone(),
        home,
        settings: settings.apply,
        tasks,
        queued: queued.clone(),
        report: Arc::new(move |report: ApplyReport| reports.send_blocking(Input::Report(report))),
        topology_changes: topology_sender,
        since: Default::default(),
    };
    let threads = spawn(
        driver,
        applier,
        apply_queue(queued),
        raft.clone(),
        on_failure,
        lock,
    )
    .map_err(|source| StartError::Io {
        action: "start threads for",
        path: dir,
        source,
    })?;
    Ok(MetaHandle::new(HandleParts {
        raft,
        tables,
        role,
        topology_changes,
        source,
        addresses: book,
        identity,
        clock,
        threads,
        runtime,
    }))
}

/// The other first members, where this log is a first member's and has never been used.
fn founders(log: &MetaLog, own: u64) -> Vec<NodeId> {
    let unused =
        log.hard_state() == HardState::default() && log.last_index() == 0 && log.conf().index == 0;
    let mut others = log.conf().members();
    others.retain(|&id| unused && id != own);
    others.into_iter().filter_map(node_of).collect()
}

/// Takes a member's directory for this process.
fn own(fs: &dyn FileSystem, dir: &Path) -> Result<Box<dyn DirLock>, StartError> {
    let path = dir.join(LOCK_FILE);
    fs.lock(&path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => StartError::InUse {
            dir: dir.to_owned(),
        },
        _other => StartError::Io {
            action: "lock",
            path,
            source,
        },
    })
}

type Threads = Vec<thread::JoinHandle<()>>;

fn spawn(
    driver: Driver,
    applier: Applier,
    apply: ApplyQueue,
    raft: RaftHandle,
    on_failure: Arc<dyn Fn(MetaFailure) + Send + Sync>,
    lock: Box<dyn DirLock>,
) -> io::Result<Threads> {
    let failed = on_failure.clone();
    let raft_thread = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| driver.run()));
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(MetaFailure::Raft(error)),
            Err(panic) => Some(panicked("raft", panic.as_ref())),
        };
        apply.push(ApplyTask::Stop {
            clean: failure.is_none(),
        });
        report(failure, failed.as_ref());
    };
    let apply_thread = move || {
        // Held until nothing of this process writes any more.
        let _lock = lock;
        let ended = catch_unwind(AssertUnwindSafe(|| applier.run()));
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(MetaFailure::Apply(error)),
            Err(panic) => Some(panicked("apply", panic.as_ref())),
        };
        if failure.is_some() {
            raft.send_blocking(Input::Stop);
        }
        report(failure, on_failure.as_ref());
    };
    Ok(vec![
        thread::Builder::new()
            .name("meta-raft".into())
            .spawn(raft_thread)?,
        thread::Builder::new()
            .name("meta-apply".into())
            .spawn(apply_thread)?,
    ])
}

fn report(failure: Option<MetaFailure>, on_failure: &dyn Fn(MetaFailure)) {
    if let Some(failure) = failure {
        let error: &dyn std::error::Error = &failure;
        tracing::error!(error, "the metadata member stops");
        on_failure(failure);
    }
}

fn panicked(thread: &'static str, panic: &(dyn Any + Send)) -> MetaFailure {
    let text = panic.downcast_ref::<String>().cloned();
    let message = text
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default();
    MetaFailure::Panic { thread, message }
}

/// A number that no earlier process of this member had.
fn life() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the kernel has randomness");
    u64::from_le_bytes(bytes) >> 1
}

/// The rest of the member, as the driver needs it.
struct Around {
    raft: RaftHandle,
    home: Arc<dyn EngineHome>,
    transport: Arc<dyn Transport>,
    source: Source,
    group: GroupId,
    runtime: Handle,
    place: Place,
    settings: LogSettings,
    book: Arc<AddressBook>,
    lost: Arc<Mutex<Option<Lost>>>,
    /// Why the tables were made again, where they were.
    tables: Option<String>,
}

impl Surroundings for Around {
    fn fetch(&self, peer: NodeId, index_min: u64) {
        let (home, transport) = (self.home.clone(), self.transport.clone());
        let (raft, group) = (self.raft.clone(), self.group);
        self.runtime.spawn(async move {
            let fetched = match fetch(home, transport, group, peer, index_min).await {
                Ok(fetched) => Some(fetched),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(%peer, error, "no snapshot of the metadata");
                    None
                }
            };
            let send = move || raft.send_blocking(Input::Fetched(fetched));
            // The runtime ends only after the member.
            let _ = tokio::task::spawn_blocking(send).await;
        });
    }

    fn discard(&self, staged: &Fetched) {
        let (home, name) = (self.home.clone(), staged.name.clone());
        self.runtime.spawn_blocking(move || {
            if let Err(error) = home.wipe(&name) {
                tracing::warn!(%error, "a staged snapshot stays behind");
            }
        });
    }

    fn members_are(&self, conf: &Conf) {
        self.book.learn(conf);
        if let Err(error) = card::write_peers(self.place.fs.as_ref(), &self.place.dir, &self.book) {
            let dir = self.place.dir.display();
            tracing::warn!(%dir, %error, "the members' addresses are not written down");
        }
    }

    fn begin_anew(&self, reason: &str) -> Result<(MetaLog, u64), RaftError> {
        let anew = |error: StartError| RaftError::Anew(error.into());
        let card = self
            .place
            .begin_anew(reason, None, &self.book)
            .map_err(anew)?;
        let log = self.place.open_log(card.identity, self.settings)?;
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = card.lost;
        Ok((log, card.identity.raft_id()))
    }

    fn address(&self, node: NodeId) -> String {
        self.book.told(node)
    }

    fn losses(&self) -> Losses {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = lost.clone().unwrap_or_default();
        let there = join::is_dir(self.place.fs.as_ref(), &lost.kept);
        Losses {
            lost: lost.reason,
            kept: Some(lost.kept).filter(|_| there).unwrap_or_default(),
            tables: self.tables.clone().unwrap_or_default(),
        }
    }

    fn snapshot_used(&self, peer: NodeId) -> Option<Instant> {
        self.source.last_used(peer.0)
    }
}
