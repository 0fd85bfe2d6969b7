//! The driver's thread: inputs and time in, rounds of raft out.

use super::append::Appends;
use super::change::{AskedChanges, Knocks};
use super::follow::Follow;
use super::inbox::Inbox;
use super::reads::{Alone, NotAlone, Reads};
use super::storage::LogStorage;
use super::waiters::Waiters;
use super::{
    Input, Presence, RaftError, RaftRole, RaftSettings, Surroundings, SyncQueue, convert, logger,
    newest,
};
use crate::apply::{ApplyQueue, ApplyReport, ApplyTask, ProposeError, Waiter};
use crate::clock::GroupClock;
use crate::levels::Levels;
use crate::log::{Mark, MetaLog, node_of};
use crate::tables::Tables;
use crate::transport::Transport;
use ::raft::{Config, ProgressState, RawNode};
use megalith_client::levels::range_to_wire;
use megalith_model::entry;
use megalith_model::ids::GroupId;
use megalith_proto::v1;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What a driver is made of.
pub(crate) struct DriverParts {
    pub(crate) log: MetaLog,
    /// Its id in the group, in this life.
    pub(crate) member: u64,
    pub(crate) group: GroupId,
    pub(crate) settings: RaftSettings,
    pub(crate) tables: Arc<Tables>,
    /// What is applied of this log.
    pub(crate) applied: Mark,
    /// True if the rows must be fetched from a peer.
    pub(crate) rebuild: bool,
    /// True for one of several first members, until it is known that none has taken part before.
    pub(crate) asleep: bool,
    pub(crate) inbox: Inbox,
    /// Where the log is written.
    pub(crate) disk: SyncQueue,
    pub(crate) alone: Alone,
    pub(crate) apply: ApplyQueue,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) surroundings: Box<dyn Surroundings>,
    pub(crate) role: watch::Sender<RaftRole>,
    pub(crate) presence: watch::Sender<Presence>,
    /// Differs from that of every earlier process of this member.
    pub(crate) life: u64,
    pub(crate) clock: GroupClock,
    pub(crate) levels: Levels,
}

/// One member of one group.
pub(crate) struct Driver {
    pub(super) raw: RawNode<LogStorage>,
    pub(super) member: u64,
    group: GroupId,
    pub(super) settings: RaftSettings,
    pub(super) tables: Arc<Tables>,
    pub(super) inbox: Inbox,
    pub(super) appends: Appends,
    pub(super) alone: Alone,
    pub(super) apply: ApplyQueue,
    transport: Arc<dyn Transport>,
    pub(super) surroundings: Box<dyn Surroundings>,
    pub(super) role: watch::Sender<RaftRole>,
    pub(super) presence: watch::Sender<Presence>,
    life: u64,
    pub(super) clock: GroupClock,
    pub(super) levels: Levels,
    /// What other members' clocks showed when this driver started, and when that was heard. So a
    /// clock that jumps is noticed at once, this member's own as well.
    pub(super) clocks: HashMap<u64, (i64, Instant)>,
    /// How slowly other members' logs are synced, as they told last.
    pub(super) paces: HashMap<u64, Duration>,
    /// When the lead may be handed over because of a slow disk.
    pub(super) next_hand_over: Instant,
    pub(super) started: Instant,
    pub(super) asleep: bool,
    pub(super) knocks: Knocks,
    pub(super) asked: AskedChanges,
    pub(super) waiters: Waiters,
    pub(super) reads: Reads,
    pub(super) follow: Follow,
    /// The next entry for the apply thread.
    pub(super) feed_next: u64,
    /// The last entry that raft has said is committed and durable here.
    pub(super) delivered: u64,
    /// When each member was last heard.
    pub(super) heard: HashMap<u64, Instant>,
    /// When each follower was told to fetch a snapshot.
    snapshots: HashMap<u64, Instant>,
    next_tick: Instant,
    stopping: bool,
}

impl Driver {
    /// Builds the driver of an opened log and its tables.
    pub(crate) fn new(parts: DriverParts) -> Result<Self, RaftError> {
        let settings = parts.settings;
        let (member, applied) = (parts.member, parts.applied);
        let prev = parts.log.prev().index;
        let config = Config {
            id: member,
            election_tick: settings.election_ticks,
            heartbeat_tick: settings.heartbeat_ticks,
            // While the rows are fetched raft believes what is behind the log to be applied.
            applied: applied.index.max(prev),
            max_size_per_msg: settings.message_bytes_max,
            max_inflight_msgs: settings.inflight_max,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            max_uncommitted_size: settings.uncommitted_bytes_max,
            max_committed_size_per_ready: settings.committed_bytes_max,
            ..Config::default()
        };
        let storage = LogStorage::new(parts.log, applied);
        let raw = RawNode::new(&config, storage, &logger::logger())
            .map_err(|error| RaftError::Raft(error.to_string()))?;
        let retry = settings.tick * u32::try_from(settings.heartbeat_ticks * 2).unwrap_or(4);
        let feed_next = applied.index.max(prev) + 1;
        Ok(Self {
            raw,
            member,
            group: parts.group,
            settings,
            tables: parts.tables,
            inbox: parts.inbox,
            appends: Appends::new(parts.disk),
            alone: parts.alone,
            apply: parts.apply,
            transport: parts.transport,
            surroundings: parts.surroundings,
            role: parts.role,
            presence: parts.presence,
            life: parts.life,
            clock: parts.clock,
            levels: parts.levels,
            clocks: HashMap::new(),
            paces: HashMap::new(),
            next_hand_over: Instant::now(),
            started: Instant::now(),
            asleep: parts.asleep,
            knocks: Knocks::default(),
            asked: AskedChanges::default(),
            waiters: Waiters::default(),
            reads: Reads::new(member, parts.life, retry),
            follow: Follow::new(parts.rebuild),
            feed_next,
            delivered: feed_next - 1,
            heard: HashMap::new(),
            snapshots: HashMap::new(),
            next_tick: Instant::now() + settings.tick,
            stopping: false,
        })
    }

    /// Drives until told to stop or until the log fails.
    pub(crate) fn run(mut self) -> Result<(), RaftError> {
        let _ended = NotAlone(self.alone.clone());
        self.publish();
        if self.raw.raft.prs().is_singleton() && !self.follow.rebuilding() && !self.asleep {
            // Nobody else can lead: no need to wait for an election timeout.
            self.raw
                .campaign()
                .map_err(|error| RaftError::Raft(error.to_string()))?;
        }
        while !self.stopping {
            match self.round() {
                Err(RaftError::Lost(reason)) => self = self.begin_life(&reason)?,
                ended => ended?,
            }
        }
        if !self.asleep {
            // Whoever was on the way to an answer gets it, if it needs nobody else.
            self.flush()?;
            self.process_ready()?;
        }
        self.end_appends()
    }

    /// Goes on in another life: with an empty log, under another id, as a member of no group yet.
    fn begin_life(mut self, reason: &str) -> Result<Self, RaftError> {
        self.alone.set(false);
        self.end_appends()?;
        let (log, member) = self.surroundings.begin_life(reason)?;
        self.tables.forget();
        Self::new(DriverParts {
            log,
            member,
            group: self.group,
            settings: self.settings,
            tables: self.tables,
            applied: Mark::default(),
            rebuild: true,
            asleep: false,
            inbox: self.inbox,
            disk: self.appends.into_disk(),
            alone: self.alone,
            apply: self.apply,
            transport: self.transport,
            surroundings: self.surroundings,
            role: self.role,
            presence: self.presence,
            life: self.life,
            clock: self.clock,
            levels: self.levels,
        })
    }

    fn round(&mut self) -> Result<(), RaftError> {
        self.inbox.wait(self.next_tick);
        self.look_at_disk()?;
        while let Some(input) = self.inbox.next() {
            self.take(input)?;
        }
        let now = Instant::now();
        if self.asleep {
            self.next_tick = now + self.settings.tick;
            return Ok(());
        }
        self.tick(now)?;
        self.reads.ask(&mut self.raw, now);
        self.process_ready()?;
        self.start_append()?;
        self.feed_from_log()?;
        self.publish();
        Ok(())
    }

    fn take(&mut self, input: Input) -> Result<(), RaftError> {
        match input {
            Input::Propose {
                data,
                reset,
                waiter,
            } => self.propose(data, reset, waiter),
            Input::Read(waiter) => self.reads.add(waiter),
            Input::Message(message) => self.step(message)?,
            Input::Knock { knock, asker } => {
                let _ = asker.send(self.knocked(knock));
            }
            Input::Change { change, asker } => {
                let _ = asker.send(self.change(change));
            }
            Input::Founded { first } => self.founded(first)?,
            Input::Report(ApplyReport::Applied(mark)) => self.applied(mark),
            Input::Report(ApplyReport::Checkpointed(mark)) => self.purge(mark),
            Input::Fetched(fetched) => self.fetched(fetched),
            Input::OutOfRange(level) => return Err(RaftError::Level(level)),
            Input::Status(asker) => {
                // Nobody waits any more: fine.
                let _ = asker.send(self.status());
            }
            Input::HandOver => self.hand_over(),
            Input::Stop => self.stopping = true,
        }
        Ok(())
    }

    fn propose(&mut self, mut data: Vec<u8>, reset: bool, waiter: Waiter) {
        let leads = self.leads();
        let apart = self.compare_clocks(leads);
        let stamp_ms = if reset {
            self.clock.reset()
        } else {
            self.clock.stamp_ms()
        };
        entry::stamp(&mut data, stamp_ms);
        let refusal = if !leads {
            ProposeError::NotLeader {
                hint: node_of(self.raw.raft.leader_id),
            }
        } else if apart {
            // No entry gets a wrong stamp; the lead is being handed over.
            ProposeError::NotLeader {
                hint: self.successor().and_then(node_of),
            }
        } else if self.raw.propose(Vec::new(), data).is_err() {
            ProposeError::Busy
        } else {
            let raft = &self.raw.raft;
            self.waiters
                .add(raft.raft_log.last_index(), raft.term, waiter);
            return;
        };
        // Nobody waits any more: fine.
        let _ = waiter.send(Err(refusal));
    }

    /// One of several first members learns whether the group is being formed now.
    fn founded(&mut self, first: bool) -> Result<(), RaftError> {
        if !self.asleep {
            return Ok(());
        }
        if first {
            tracing::info!("none of the first members has taken part before: the group is formed");
            self.asleep = false;
            return Ok(());
        }
        Err(RaftError::Lost(
            "the group was formed before, and this directory is new".to_owned(),
        ))
    }

    fn step(&mut self, message: v1::RaftMessage) -> Result<(), RaftError> {
        if self.asleep {
            return Ok(());
        }
        if message.to != self.member {
            // Sent to an earlier life of this member, which says nothing any more.
            tracing::debug!(
                to = message.to,
                from = message.from,
                "another member's raft message"
            );
            return Ok(());
        }
        let now = Instant::now();
        self.heard.insert(message.from, now);
        if message.time_ms > 0 {
            let showed = self.at_start(message.time_ms);
            self.clocks.insert(message.from, (showed, now));
        }
        let pace = Duration::from_millis(message.sync_ms.into());
        self.paces.insert(message.from, pace);
        match convert::from_wire(message) {
            Ok(message) => {
                if let Some(message) = self.intercept(message)?
                    && let Err(error) = self.raw.step(message)
                {
                    tracing::debug!(%error, "raft message not taken");
                }
            }
            Err(error) => tracing::warn!(%error, "raft message refused"),
        }
        Ok(())
    }

    fn tick(&mut self, now: Instant) -> Result<(), RaftError> {
        if now < self.next_tick {
            return Ok(());
        }
        // After a pause of the process one tick counts, not all that were missed: the peers'
        // messages are waiting in the inbox.
        let late = now.saturating_duration_since(self.next_tick);
        self.next_tick = if late > self.settings.tick * 3 {
            now
        } else {
            self.next_tick
        };
        self.next_tick += self.settings.tick;
        let leads = self.leads();
        let apart = self.compare_clocks(leads);
        if apart && leads {
            self.hand_over();
        } else {
            self.watch_disk(now);
        }
        let unsynced = self.appends.is_unsynced();
        if self.follow.rebuilding() || (!leads && (apart || unsynced)) {
            // Without rows, with a wrong clock or before its disk has answered it must not lead.
            // It votes, so that time passes for its lease too.
            let raft = &mut self.raw.raft;
            raft.election_elapsed = (raft.election_elapsed + 1).min(raft.election_timeout());
        } else {
            self.raw.tick();
        }
        self.watch_snapshots(now);
        self.follow_tick(now)
    }

    /// Tells raft of followers that have given up on a snapshot.
    fn watch_snapshots(&mut self, now: Instant) {
        let patience = self.settings.snapshot_patience;
        let mut failed = Vec::new();
        for (&peer, told) in &mut self.snapshots {
            let state = self.raw.raft.prs().get(peer).map(|progress| progress.state);
            let used = node_of(peer).and_then(|peer| self.surroundings.snapshot_used(peer));
            let active = used.map_or(*told, |used| used.max(*told));
            if state != Some(ProgressState::Snapshot) || now >= active + patience {
                failed.push(peer);
            }
        }
        for peer in failed {
            self.snapshots.remove(&peer);
            self.raw
                .report_snapshot(peer, ::raft::SnapshotStatus::Failure);
        }
    }

    pub(super) fn send_all(&mut self, messages: Vec<::raft::eraftpb::Message>) {
        // Before any of them leaves.
        self.look_if_alone();
        if messages.is_empty() {
            return;
        }
        let sync_ms = self.sync_ms();
        for message in messages {
            let to = message.to;
            if message.get_msg_type() == ::raft::eraftpb::MessageType::MsgSnapshot {
                self.snapshots.insert(to, Instant::now());
                // What it has asked for is on its way. raft would send it once more, and the
                // follower fetch everything again.
                if let Some(progress) = self.raw.raft.mut_prs().get_mut(to) {
                    progress.pending_request_snapshot = 0;
                }
            }
            let mut message = convert::to_wire(self.group.0, message);
            message.time_ms = self.clock.wall_ms();
            message.levels = Some(range_to_wire(self.levels.known()));
            message.sync_ms = sync_ms;
            if !self.transport.send(message) {
                self.raw.report_unreachable(to);
            }
        }
    }

    fn applied(&mut self, mark: Mark) {
        let storage = self.raw.mut_store();
        storage.applied = newest(storage.applied, mark);
        let log = &self.raw.raft.raft_log;
        let known = mark.index.min(log.committed).min(log.persisted);
        if known > log.applied {
            self.raw.advance_apply_to(known);
        }
    }

    /// Reads entries again that the apply thread had no room for.
    fn feed_from_log(&mut self) -> Result<(), RaftError> {
        while !self.follow.rebuilding() && self.feed_next <= self.delivered && self.apply.has_room()
        {
            let (low, high) = (self.feed_next, self.delivered + 1);
            let log = &self.raw.store().log;
            let entries = log.entries(low, high, self.settings.committed_bytes_max)?;
            self.feed(entries);
        }
        Ok(())
    }

    pub(super) fn feed(&mut self, entries: Vec<crate::log::LogEntry>) {
        let Some(last) = entries.last() else { return };
        self.feed_next = last.index + 1;
        let waiters = self.waiters.take(&entries);
        self.apply.push(ApplyTask::Entries { entries, waiters });
    }
}
