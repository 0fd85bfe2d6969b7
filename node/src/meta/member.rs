//! One metadata member put together: its directory, its log, its tables, its threads.
//!
//! Owns starting and stopping. A member's directory is made once, by [`MetaStore::init`]; a member
//! that finds none doesn't start, for one that has forgotten its votes must never vote again.

use crate::fs::{DirLock, FileSystem, replace_file};
use crate::meta::apply::{Applier, ApplyError, ApplyQueue, ApplyReport, ApplySettings, ApplyTask};
use crate::meta::engine::{EngineHome, HomeError, choose};
use crate::meta::log::{Conf, LogError, LogIdentity, LogSettings, MetaLog};
use crate::meta::raft::{
    Driver, DriverParts, Input, RaftError, RaftHandle, RaftSettings, Role, Surroundings,
};
use crate::meta::service::{HandleParts, MetaHandle};
use crate::meta::snapshot::{Fetched, Source, SourceSettings, fetch};
use crate::meta::tables::Tables;
use crate::meta::transport::Transport;
use megalith_model::ids::{GroupId, NodeId};
use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// The file that says whose directory it is; written last when one is made.
const MEMBER_FILE: &str = "member";
const LOG_DIR: &str = "log";
const LOCK_FILE: &str = "lock";

/// Why a member doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory can't be used.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The directory was never made, or its disk is not mounted, or lost.
    #[error(
        "{} is no metadata member's directory: mount its disk, or replace the member if it is lost",
        dir.display()
    )]
    NotInitialised {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory was made before.
    #[error("{} is a metadata member's directory already", dir.display())]
    Initialised {
        /// The directory.
        dir: PathBuf,
    },
    /// Another member's directory.
    #[error("{} belongs to {found}", path.display())]
    Foreign {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Another process runs this member.
    #[error("{} is in use by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The tables.
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
    /// The tables.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A promise of our own was broken.
    #[error("the {thread} thread panicked: {message}")]
    Panic {
        /// Which thread.
        thread: &'static str,
        /// What it said.
        message: String,
    },
}

/// A member's directory.
pub struct MetaStore;

/// What a member may choose.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetaSettings {
    /// Of the log.
    pub log: LogSettings,
    /// Of the driver.
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
    /// Whose it is.
    pub identity: LogIdentity,
    /// Where the tables are.
    pub home: Arc<dyn EngineHome>,
    /// The way to the other members.
    pub transport: Arc<dyn Transport>,
    /// `host:port` of every member's gRPC listener, for redirects.
    pub addresses: BTreeMap<NodeId, String>,
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
        if member_text(fs.as_ref(), dir)?.is_some() {
            return Err(StartError::Initialised {
                dir: dir.to_owned(),
            });
        }
        let failed = |action, path: &Path, source| StartError::Io {
            action,
            path: path.to_owned(),
            source,
        };
        let log_dir = dir.join(LOG_DIR);
        match fs.create_dir(&log_dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("create", &log_dir, error));
            }
            _there => {}
        }
        // Left behind by an init that was cut off: nothing was ever answered from it.
        let found = fs
            .list(&log_dir)
            .map_err(|error| failed("list", &log_dir, error))?;
        for entry in found {
            let path = log_dir.join(entry.name);
            fs.remove(&path)
                .map_err(|error| failed("remove", &path, error))?;
        }
        let conf = Conf::of_voters(voters.iter().copied());
        MetaLog::init(fs.clone(), &log_dir, identity, conf)?;
        fs.sync_dir(dir)
            .map_err(|error| failed("sync", dir, error))?;
        let file = dir.join(MEMBER_FILE);
        replace_file(fs.as_ref(), &file, text_of(&identity).as_bytes())
            .map_err(|error| failed("write", &file, error))
    }

    /// True where `dir` is a member's directory.
    pub fn is_initialised(fs: &dyn FileSystem, dir: &Path) -> Result<bool, StartError> {
        Ok(member_text(fs, dir)?.is_some())
    }
}

fn text_of(identity: &LogIdentity) -> String {
    format!(
        "megalith metadata member, version 1\ncluster {}\nmember {}\ngroup {}\n",
        identity.cluster, identity.member.0, identity.group.0
    )
}

fn member_text(fs: &dyn FileSystem, dir: &Path) -> Result<Option<String>, StartError> {
    let path = dir.join(MEMBER_FILE);
    let file = match fs.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(StartError::Io {
                action: "open",
                path,
                source,
            });
        }
    };
    let mut bytes = vec![0; 4096];
    match file.read_at(&mut bytes, 0) {
        Ok(len) => Ok(Some(String::from_utf8_lossy(&bytes[..len]).into_owned())),
        Err(source) => Err(StartError::Io {
            action: "read",
            path,
            source,
        }),
    }
}

/// Opens a member's directory and starts its threads.
pub fn start(parts: MetaParts, settings: &MetaSettings) -> Result<MetaHandle, StartError> {
    let MetaParts {
        fs,
        dir,
        identity,
        home,
        transport,
        addresses,
        clock,
        runtime,
        on_failure,
    } = parts;
    let lock = own(fs.as_ref(), &dir, &identity)?;
    let log = MetaLog::open(fs, &dir.join(LOG_DIR), identity, settings.log)?;
    let alone = log.conf().members() == [u64::from(identity.member.0)];
    let choice = choose(home.as_ref(), &log, alone)?;
    let tables = Arc::new(Tables::new(
        choice.name,
        choice.engine,
        !choice.needs_snapshot,
        log.conf().clone(),
    ));
    let life = life();
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
    let (role_sender, role) = watch::channel(Role::default());
    let (topology_sender, topology_changes) = watch::channel(0);
    let surroundings = Around {
        raft: raft.clone(),
        home: home.clone(),
        transport: transport.clone(),
        source: source.clone(),
        group: identity.group,
        runtime: runtime.clone(),
    };
    let driver = Driver::new(DriverParts {
        log,
        member: identity.member,
        group: identity.group,
        settings: settings.raft,
        tables: tables.clone(),
        rebuild: choice.needs_snapshot,
        inbox,
        inbox_bytes: raft.bytes(),
        apply: apply_queue(Arc::clone(&queued)),
        transport,
        surroundings: Box::new(surroundings),
        role: role_sender,
        life,
    })?;
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
        addresses,
        identity,
        clock,
        threads,
        runtime,
    }))
}

/// Takes a member's directory for this process.
fn own(
    fs: &dyn FileSystem,
    dir: &Path,
    identity: &LogIdentity,
) -> Result<Box<dyn DirLock>, StartError> {
    let Some(found) = member_text(fs, dir)? else {
        return Err(StartError::NotInitialised {
            dir: dir.to_owned(),
        });
    };
    if found != text_of(identity) {
        let found = found.trim().replace('\n', ", ");
        return Err(StartError::Foreign {
            path: dir.join(MEMBER_FILE),
            found,
        });
    }
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

    fn snapshot_used(&self, peer: NodeId) -> Option<Instant> {
        self.source.last_used(peer.0)
    }
}
