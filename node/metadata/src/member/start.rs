//! A member's start: its directory opened, its parts put together, its threads begun.
//!
//! Owns the order: the directory is this process's before anything is written in it, and the
//! threads begin when all that they use is there.

use super::around::Around;
use super::card::{self, Card, Lost};
use super::rebuild::MemberDir;
use super::{MetaParts, MetaSettings, Opened, StartError, join, open, threads};
use crate::apply::{Applier, ApplyQueue, ApplyReport, Since};
use crate::clock::GroupClock;
use crate::engine::Choice;
use crate::levels::Levels;
use crate::log::{HardState, MetaLog, node_of};
use crate::raft::{
    Driver, DriverParts, Inbox, Input, Phase, Presence, RaftError, RaftHandle, RaftRole,
    Surroundings, SyncQueue, sync_queue,
};
use crate::service::{HandleParts, MetaHandle};
use crate::snapshot::SnapshotSource;
use crate::tables::Tables;
use megalith_disk::{DirLock, FileSystem};
use megalith_model::ids::NodeId;
use megalith_model::machine;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use tokio::sync::watch;

const LOCK_FILE: &str = "lock";
/// Raft's ticks between two knocks of a member that wants to become a voter.
const KNOCK_TICKS: u32 = 10;

/// Opens a member's directory and starts its threads.
pub fn start(parts: MetaParts, settings: &MetaSettings) -> Result<MetaHandle, StartError> {
    let member_dir = MemberDir {
        fs: parts.fs.clone(),
        dir: parts.dir.clone(),
        identity: parts.identity,
    };
    // Also says that it is this member's, before anything is written there.
    member_dir.standing(parts.engines.as_ref())?;
    let lock = own(parts.fs.as_ref(), &parts.dir)?;
    let book = &parts.addresses;
    book.remember(card::read_peers(parts.fs.as_ref(), &parts.dir));
    let Opened { card, log, choice } =
        open(&member_dir, parts.engines.as_ref(), book, settings.log)?;
    let (raft, inbox) = RaftHandle::new(&settings.raft);
    let (tasks_sender, tasks) = mpsc::channel();
    let queued = Arc::default();
    let bytes_max = settings.raft.apply_queue_bytes;
    let apply_queue = || ApplyQueue::new(tasks_sender.clone(), Arc::clone(&queued), bytes_max);
    let (role_sender, role) = watch::channel(RaftRole::default());
    let (topology_sender, topology_changes) = watch::channel(0);
    let assembly = Assembly::new(parts, settings, raft, &log, card, choice)?;
    let (presence_sender, presence) = watch::channel(Presence {
        id: assembly.own_id,
        phase: Phase::Joining,
    });
    let surroundings = assembly.around(member_dir);
    if !log.conf().members().is_empty() {
        surroundings.members_are(log.conf());
    }
    let (disk, syncer) = sync_queue(&assembly.raft);
    let driver = assembly.driver(DriverEnds {
        log,
        inbox,
        disk,
        apply: apply_queue(),
        surroundings,
        role: role_sender,
        presence: presence_sender,
    })?;
    let asker = assembly.asker(presence);
    assembly.parts.runtime.spawn(asker.run());
    let reports = assembly.raft.clone();
    let applier = Applier {
        tables: assembly.tables.clone(),
        engines: assembly.parts.engines.clone(),
        settings: settings.apply,
        tasks,
        queued: queued.clone(),
        report: Arc::new(move |report: ApplyReport| reports.send_blocking(Input::Report(report))),
        topology_changes: topology_sender,
        clock: assembly.clock.clone(),
        levels: assembly.levels.clone(),
        since: Since::start(&settings.apply),
        kept: Default::default(),
        retired: Vec::new(),
    };
    let (raft, on_failure) = (assembly.raft.clone(), assembly.parts.on_failure.clone());
    let threads = threads::spawn(
        driver,
        syncer,
        applier,
        apply_queue(),
        raft,
        on_failure,
        lock,
    );
    let threads = threads.map_err(|source| StartError::Io {
        action: "start threads for",
        path: assembly.parts.dir.clone(),
        source,
    })?;
    Ok(assembly.handle(threads, role, topology_changes))
}

/// What the parts of a member share while they are put together.
struct Assembly {
    parts: MetaParts,
    settings: MetaSettings,
    own_id: u64,
    /// Differs from that of every earlier process of this member.
    life: u64,
    founders: Vec<NodeId>,
    raft: RaftHandle,
    tables: Arc<Tables>,
    clock: GroupClock,
    levels: Levels,
    /// True if the rows must be fetched from a peer.
    rebuild: bool,
    /// Why the tables were made again, if they were.
    damaged: Option<String>,
    source: SnapshotSource,
    lost: Arc<Mutex<Option<Lost>>>,
}

/// What the driver alone holds, beside what it shares.
struct DriverEnds {
    log: MetaLog,
    inbox: Inbox,
    disk: SyncQueue,
    apply: ApplyQueue,
    surroundings: Around,
    role: watch::Sender<RaftRole>,
    presence: watch::Sender<Presence>,
}

impl Assembly {
    fn new(
        parts: MetaParts,
        settings: &MetaSettings,
        raft: RaftHandle,
        log: &MetaLog,
        card: Card,
        choice: Choice,
    ) -> Result<Self, StartError> {
        let own_id = card.identity.raft_id();
        let life = life();
        let rebuild = choice.needs_snapshot;
        let conf = log.conf().clone();
        let tables = Arc::new(Tables::new(choice.name, choice.engine, !rebuild, conf));
        let clock = GroupClock::new(parts.clock.clone());
        let levels = Levels::new(settings.levels);
        if !rebuild {
            let rows = tables.engine();
            clock.note_applied(machine::clock(rows.as_ref())?);
            let level = machine::level_of_cluster(rows.as_ref())?;
            level.map_or(Ok(()), |level| settings.levels.check(level))?;
            levels.note_applied(level);
        }
        let source = SnapshotSource::new(tables.clone(), settings.source, life);
        Ok(Self {
            parts,
            settings: *settings,
            own_id,
            life,
            founders: founders(log, own_id),
            raft,
            tables,
            clock,
            levels,
            rebuild,
            damaged: choice.damaged,
            source,
            lost: Arc::new(Mutex::new(card.lost)),
        })
    }

    fn around(&self, member_dir: MemberDir) -> Around {
        Around {
            raft: self.raft.clone(),
            engines: self.parts.engines.clone(),
            transport: self.parts.transport.clone(),
            source: self.source.clone(),
            group: self.parts.identity.group,
            runtime: self.parts.runtime.clone(),
            member_dir,
            settings: self.settings.log,
            book: self.parts.addresses.clone(),
            lost: self.lost.clone(),
            tables: self.damaged.clone(),
            levels: self.levels.clone(),
        }
    }

    fn driver(&self, ends: DriverEnds) -> Result<Driver, RaftError> {
        Driver::new(DriverParts {
            log: ends.log,
            member: self.own_id,
            group: self.parts.identity.group,
            settings: self.settings.raft,
            tables: self.tables.clone(),
            applied: *self.tables.applied().borrow(),
            rebuild: self.rebuild,
            asleep: !self.founders.is_empty(),
            inbox: ends.inbox,
            disk: ends.disk,
            alone: self.raft.alone().clone(),
            apply: ends.apply,
            transport: self.parts.transport.clone(),
            surroundings: Box::new(ends.surroundings),
            role: ends.role,
            presence: ends.presence,
            life: self.life,
            clock: self.clock.clone(),
            levels: self.levels.clone(),
        })
    }

    fn asker(&self, presence: watch::Receiver<Presence>) -> join::Asker {
        join::Asker {
            raft: self.raft.clone(),
            transport: self.parts.transport.clone(),
            group: self.parts.identity.group,
            book: self.parts.addresses.clone(),
            presence,
            lost: self.lost.clone(),
            tables: self.damaged.clone(),
            levels: self.levels.clone(),
            fs: self.parts.fs.clone(),
            founders: self.founders.clone(),
            pause: self.settings.raft.tick * KNOCK_TICKS,
        }
    }

    fn handle(
        self,
        threads: threads::Threads,
        role: watch::Receiver<RaftRole>,
        topology_changes: watch::Receiver<u64>,
    ) -> MetaHandle {
        MetaHandle::new(HandleParts {
            raft: self.raft,
            tables: self.tables,
            role,
            topology_changes,
            source: self.source,
            addresses: self.parts.addresses,
            identity: self.parts.identity,
            clock: self.clock,
            levels: self.levels,
            threads,
            runtime: self.parts.runtime,
        })
    }
}

/// The other first members, if this log is a first member's and has never been used.
fn founders(log: &MetaLog, own: u64) -> Vec<NodeId> {
    let unused =
        log.hard_state() == HardState::default() && log.last_index() == 0 && log.conf().index == 0;
    let mut others = log.conf().members();
    others.retain(|&id| unused && id != own);
    others.into_iter().filter_map(node_of).collect()
}

/// Takes a member's directory for this process.
pub(super) fn own(fs: &dyn FileSystem, dir: &Path) -> Result<Box<dyn DirLock>, StartError> {
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

/// A number that no earlier process of this member had.
fn life() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the kernel has randomness");
    u64::from_le_bytes(bytes) >> 1
}
