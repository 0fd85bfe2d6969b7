//! Members of one process on simulated disks, joined by a network that loses messages.

use crate::engine::{END_KEY, FIRST_KEY, MemEngines};
use crate::log::{LogSettings, node_of};
use crate::raft::Input;
use crate::testing::{Rng, log_identity};
use crate::transport::{SnapshotPieces, Transport};
use crate::*;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use megalith_disk::FileSystem;
use megalith_disk::sim::SimFs;
use megalith_model::command::{Answer, Command, Envelope};
use megalith_model::ids::NodeId;
use megalith_model::member::{ChangeStanding, MemberChange};
use megalith_model::query::Reply;
use megalith_model::question;
use megalith_proto::v1;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// How long anything may take before a test gives up.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// The pause between two looks at a state.
pub(super) const POLL: Duration = Duration::from_millis(5);
pub(super) const DIR: &str = "/meta";

pub(super) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The way between members.
#[derive(Clone)]
pub(super) struct Net {
    state: Arc<Mutex<NetState>>,
}

struct NetState {
    members: HashMap<u64, MetaHandle>,
    rng: Rng,
    /// How many of a hundred messages are lost.
    loss: u64,
    /// How long each message is on its way.
    delay: Duration,
    /// Messages that their targets had no room for.
    refused: u64,
    /// Snapshot streams that are still to be broken, and after how many pieces.
    breaks: u64,
    streams: u64,
    /// Ids that must not speak any more, and those that did nevertheless.
    silenced: BTreeSet<u64>,
    spoke: BTreeSet<u64>,
    /// The latest term in which each id has spoken.
    terms: HashMap<u64, u64>,
    /// The levels that each id has told of in its latest message.
    levels: HashMap<u64, Option<v1::LevelRange>>,
    /// Nodes that nothing comes from and nothing gets to.
    cut_off: BTreeSet<u64>,
}

impl Net {
    fn state(&self) -> MutexGuard<'_, NetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `count` snapshot streams break after a few pieces.
    pub(super) fn break_streams(&self, count: u64) {
        self.state().breaks = count;
    }

    pub(super) fn streams(&self) -> u64 {
        self.state().streams
    }

    /// From here on every message takes this long.
    pub(super) fn delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// How many messages were dropped because their targets had too much to do.
    pub(super) fn refused(&self) -> u64 {
        self.state().refused
    }

    /// From here on every message of this id is noted.
    pub(super) fn silence(&self, id: u64) {
        self.state().silenced.insert(id);
    }

    /// The latest term in which an id has spoken.
    pub(super) fn term(&self, id: u64) -> u64 {
        self.state().terms.get(&id).copied().unwrap_or(0)
    }

    /// The levels that an id has told of in its latest message; None if it told of none.
    pub(super) fn levels(&self, id: u64) -> Option<v1::LevelRange> {
        self.state().levels.get(&id).copied().flatten()
    }

    /// Cuts a node off from all others, or joins it to them again.
    pub(super) fn cut_off(&self, node: u32, cut: bool) {
        let cut_off = &mut self.state().cut_off;
        if cut {
            cut_off.insert(node.into());
        } else {
            cut_off.remove(&node.into());
        }
    }

    /// The silenced ids that have spoken.
    pub(super) fn spoke(&self) -> BTreeSet<u64> {
        self.state().spoke.clone()
    }
}

/// The network as one member uses it.
struct Port {
    net: Net,
    member: u64,
    runtime: tokio::runtime::Handle,
}

impl Transport for Port {
    fn send(&self, message: v1::RaftMessage) -> bool {
        let mut state = self.net.state();
        let loss = state.loss;
        if state.silenced.contains(&message.from) {
            state.spoke.insert(message.from);
        }
        let term = state.terms.entry(message.from).or_default();
        *term = message.term.max(*term);
        state.levels.insert(message.from, message.levels);
        if !state.members.contains_key(&self.member) || state.rng.below(100) < loss {
            return true;
        }
        let node = node_of(message.to).map(|node| u64::from(node.0));
        let ends = [Some(self.member), node];
        if ends.iter().flatten().any(|end| state.cut_off.contains(end)) {
            return true;
        }
        let Some(target) = node.and_then(|node| state.members.get(&node)) else {
            return false;
        };
        let target = target.clone();
        if !state.delay.is_zero() {
            let delay = state.delay;
            self.runtime.spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = target.raft_for_tests().send(Input::Message(message));
            });
            return true;
        }
        let sent = target.raft_for_tests().send(Input::Message(message));
        state.refused += u64::from(sent == Err(ProposeError::Busy));
        sent.is_ok()
    }

    fn snapshot(
        &self,
        peer: NodeId,
        request: v1::SnapshotRequest,
    ) -> BoxFuture<'static, Result<SnapshotPieces, Status>> {
        let (net, member) = (self.net.clone(), self.member);
        async move {
            let (source, broken) = {
                let mut state = net.state();
                state.streams += 1;
                let broken = state.breaks > 0;
                state.breaks = state.breaks.saturating_sub(1);
                let target = state.members.get(&u64::from(peer.0));
                let target = target.ok_or_else(|| Status::unavailable("it is down"))?;
                (target.source().clone(), broken)
            };
            let pieces = source.stream(u32::try_from(member).expect("small"), &request)?;
            let pieces = ReceiverStream::new(pieces);
            Ok(if broken {
                pieces.take(3).boxed()
            } else {
                pieces.boxed()
            })
        }
        .boxed()
    }

    fn knock(
        &self,
        peer: NodeId,
        request: v1::KnockRequest,
    ) -> BoxFuture<'static, Result<v1::KnockReply, Status>> {
        let target = {
            let state = self.net.state();
            let caller = state.members.contains_key(&self.member);
            let target = state.members.get(&u64::from(peer.0));
            target.filter(|_| caller).cloned()
        };
        let caller = NodeId(u32::try_from(self.member).expect("small"));
        async move {
            let target = target.ok_or_else(|| Status::unavailable("it is down"))?;
            target.knock(caller, request).await
        }
        .boxed()
    }
}

/// A member's disks, which outlive it.
pub(super) struct Disk {
    pub(super) fs: SimFs,
    pub(super) engines: MemEngines,
}

pub(super) struct Cluster {
    pub(super) net: Net,
    pub(super) disks: BTreeMap<u32, Disk>,
    pub(super) running: BTreeMap<u32, MetaHandle>,
    pub(super) settings: MetaSettings,
    pub(super) failures: Arc<Mutex<Vec<(u32, MetaFailure)>>>,
    /// Each member's wall clock, in milliseconds; it stands still unless a test moves it.
    pub(super) clocks: BTreeMap<u32, Arc<AtomicU64>>,
    seed: u64,
}

/// What the members' clocks show at first.
pub(super) const CLOCK_MS: u64 = 1_000;

pub(super) fn settings() -> MetaSettings {
    let mut settings = MetaSettings::default();
    settings.raft.tick = Duration::from_millis(10);
    settings.log = LogSettings {
        file_bytes: 16 << 10,
        cache_bytes: 8 << 10,
        preallocate_bytes: 4 << 10,
    };
    settings.raft.log_keep_bytes = 0;
    settings.raft.snapshot_patience = Duration::from_millis(500);
    settings.apply.checkpoint_entries = 40;
    settings.source.piece_bytes = 2 << 10;
    settings
}

impl Cluster {
    /// Starts `count` members that have just been made.
    pub(super) fn start(count: u32, seed: u64, loss: u64, settings: MetaSettings) -> Self {
        let mut cluster = Self::make(count, seed, loss, settings);
        for member in 1..=count {
            cluster.restart(member);
        }
        cluster
    }

    /// Makes `count` members and starts none.
    pub(super) fn make(count: u32, seed: u64, loss: u64, settings: MetaSettings) -> Self {
        eprintln!("seed {seed}");
        let state = NetState {
            members: HashMap::new(),
            rng: Rng::new(seed),
            loss,
            delay: Duration::ZERO,
            refused: 0,
            breaks: 0,
            streams: 0,
            silenced: BTreeSet::new(),
            spoke: BTreeSet::new(),
            terms: HashMap::new(),
            levels: HashMap::new(),
            cut_off: BTreeSet::new(),
        };
        let mut cluster = Self {
            net: Net {
                state: Arc::new(Mutex::new(state)),
            },
            disks: BTreeMap::new(),
            running: BTreeMap::new(),
            settings,
            failures: Arc::default(),
            clocks: BTreeMap::new(),
            seed,
        };
        for member in 1..=count {
            cluster.make_disk(member, count);
        }
        cluster
    }

    /// Makes the disks of a member that is one of the first `count`, or a later one.
    pub(super) fn make_disk(&mut self, member: u32, count: u32) {
        let mut voters: Vec<NodeId> = (1..=count).map(NodeId).collect();
        if member > count {
            voters.push(NodeId(member));
        }
        let fs = SimFs::new(1 << 30);
        fs.create_dir(Path::new(DIR)).expect("create");
        fs.sync_dir(Path::new("/")).expect("sync");
        let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
        MetaStore::init(shared, Path::new(DIR), log_identity(member), &voters).expect("init");
        let engines = MemEngines::default();
        self.disks.insert(member, Disk { fs, engines });
    }

    /// Takes steps of a change of members until it is done; what refuses it is the error.
    pub(super) async fn change(&self, change: MemberChange) -> Result<String, String> {
        let mut seen = None;
        wait_for("a change of members", async || {
            let leader = self.leader().await;
            let standing = self.running[&leader].change_members(change).await;
            if seen.as_ref() != Some(&standing) {
                // Only a test that fails shows it.
                eprintln!("{change:?}: {standing:?}");
                seen = Some(standing.clone());
            }
            match standing {
                Ok(ChangeStanding::Done(how)) => Some(Ok(how)),
                Ok(ChangeStanding::Refused(why)) => Some(Err(why)),
                Ok(ChangeStanding::UnderWay(_)) | Err(_) => None,
            }
        })
        .await
    }

    /// Waits until a node is a voter in one life only, alive and not behind; returns its id.
    pub(super) async fn voter(&self, node: u32) -> u64 {
        let mut seen = Vec::new();
        wait_for("a node to be a voter again", async || {
            let leader = self.leader().await;
            let status = self.running[&leader].status().await?;
            let lives = status.members.iter().map(|m| (m.id, m.learner, m.alive));
            let lives: Vec<_> = lives.collect();
            if lives != seen {
                // Only a test that fails shows it.
                eprintln!("waiting for {node}, as {leader} sees it: {lives:?}");
                seen = lives;
            }
            let mut lives = status.members.iter().filter(|m| m.node == NodeId(node));
            let (life, another) = (lives.next()?, lives.next());
            let own = self.running[&node].status().await?.id;
            let back = another.is_none() && life.id == own && !life.learner && life.alive;
            (back && life.matched + 20 >= status.committed).then_some(life.id)
        })
        .await
    }

    /// Waits until a node is a voter in another life than `before`; returns its id.
    pub(super) async fn another_life(&self, node: u32, before: u64) -> u64 {
        wait_for("another life", async || {
            let id = self.voter(node).await;
            (id != before).then_some(id)
        })
        .await
    }

    /// The nodes that vote, in order.
    pub(super) async fn voters(&self) -> Vec<u32> {
        let leader = self.leader().await;
        let status = self.running[&leader].status().await.expect("status");
        let voters = status.members.iter().filter(|member| !member.learner);
        voters.map(|member| member.node.0).collect()
    }

    pub(super) fn try_restart(&mut self, member: u32) -> Result<(), StartError> {
        let clock = self.clock(member);
        let disk = &self.disks[&member];
        let failures = self.failures.clone();
        let addresses = self
            .disks
            .keys()
            .map(|&node| (NodeId(node), format!("node-{node}:1")));
        let parts = MetaParts {
            fs: Arc::new(disk.fs.clone()),
            dir: DIR.into(),
            identity: log_identity(member),
            engines: Arc::new(disk.engines.clone()),
            transport: Arc::new(Port {
                net: self.net.clone(),
                member: u64::from(member),
                runtime: tokio::runtime::Handle::current(),
            }),
            addresses: Arc::new(AddressBook::new(NodeId(member), addresses.collect())),
            clock: Arc::new(move || clock.load(Ordering::Relaxed)),
            runtime: tokio::runtime::Handle::current(),
            on_failure: Arc::new(move |failure| {
                let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.push((member, failure));
            }),
        };
        let handle = start(parts, &self.settings)?;
        self.net
            .state()
            .members
            .insert(u64::from(member), handle.clone());
        self.running.insert(member, handle);
        Ok(())
    }

    pub(super) fn restart(&mut self, member: u32) {
        self.try_restart(member).unwrap_or_else(|error| {
            panic!(
                "seed {}: member {member} does not start: {error}",
                self.seed
            )
        });
    }

    /// Cuts a member's power; its disks keep what was made durable, and perhaps more.
    pub(super) async fn crash(&mut self, member: u32) {
        self.net.state().members.remove(&u64::from(member));
        let disk = &self.disks[&member];
        let seed = self.net.state().rng.next();
        disk.engines.crash();
        disk.fs.crash(seed);
        if let Some(handle) = self.running.remove(&member) {
            handle.stop().await;
        }
        // That its disk failed under it was the point.
        self.failures().retain(|(failed, _)| *failed != member);
    }

    /// Cuts the power of all members, and starts them again once all are down.
    pub(super) async fn power_cut(&mut self) {
        let members: Vec<u32> = self.running.keys().copied().collect();
        for member in &members {
            self.crash(*member).await;
        }
        for member in members {
            self.restart(member);
        }
    }

    /// Stops a member in good order.
    pub(super) async fn stop(&mut self, member: u32) {
        self.net.state().members.remove(&u64::from(member));
        let handle = self.running.remove(&member).expect("running");
        handle.stop().await;
        self.disks[&member].fs.kill();
    }

    pub(super) fn client(&self) -> Client {
        Client {
            net: self.net.clone(),
        }
    }

    /// A member's wall clock, in milliseconds.
    pub(super) fn clock(&mut self, member: u32) -> Arc<AtomicU64> {
        let clock = self.clocks.entry(member);
        clock
            .or_insert_with(|| Arc::new(AtomicU64::new(CLOCK_MS)))
            .clone()
    }

    /// Waits until some member leads.
    pub(super) async fn leader(&self) -> u32 {
        wait_for("a leader", async || {
            let leads = |handle: &MetaHandle| handle.leader_changes().borrow().leads;
            self.running
                .iter()
                .find(|(_, handle)| leads(handle))
                .map(|(&member, _)| member)
        })
        .await
    }

    /// Waits until a member has applied `index`.
    pub(super) async fn caught_up(&self, member: u32, index: u64) {
        let handle = &self.running[&member];
        wait_for("a member to catch up", async || {
            assert!(self.failures().is_empty(), "{:?}", self.failures());
            (handle.applied() >= index).then_some(())
        })
        .await;
    }

    pub(super) fn failures(&self) -> MutexGuard<'_, Vec<(u32, MetaFailure)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rows(&self, member: u32) -> Rows {
        self.running[&member].rows_for_tests()
    }

    /// Waits until all members have applied the same, and checks that it is the same.
    pub(super) async fn agree(&self) {
        let applied =
            || -> BTreeSet<u64> { self.running.values().map(MetaHandle::applied).collect() };
        wait_for("all members to agree", async || {
            (applied().len() == 1).then_some(())
        })
        .await;
        let mut rows = self.running.keys().map(|&member| self.rows(member));
        let first = rows.next().expect("members");
        assert!(!first.is_empty());
        assert!(
            rows.all(|other| other == first),
            "seed {}: rows differ",
            self.seed
        );
    }
}

/// Waits for `state` to be something; panics after [`DEADLINE`].
pub(super) async fn wait_for<T>(what: &str, mut state: impl AsyncFnMut() -> Option<T>) -> T {
    let patience = Patience::new();
    loop {
        if let Some(found) = state().await {
            return found;
        }
        patience.pause(what).await;
    }
}

/// An end to waiting.
pub(super) struct Patience(Instant);

impl Patience {
    pub(super) fn new() -> Self {
        Self(Instant::now() + DEADLINE)
    }

    /// Waits a moment; panics after [`DEADLINE`].
    pub(super) async fn pause(&self, what: &str) {
        assert!(Instant::now() < self.0, "waited in vain for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// A client that asks until it is answered.
#[derive(Clone)]
pub(super) struct Client {
    net: Net,
}

impl Client {
    fn members(&self) -> Vec<MetaHandle> {
        self.net.state().members.values().cloned().collect()
    }

    /// Proposes it again and again until there is an answer; twice must do no harm.
    pub(super) async fn propose(&self, command: Command) -> Answer {
        let envelope = Envelope { key: None, command };
        let patience = Patience::new();
        loop {
            for member in self.members() {
                match member.propose(&envelope).await {
                    Ok(answer) => return answer,
                    Err(ProposeError::TooLarge) => panic!("a small command"),
                    Err(
                        ProposeError::NotLeader { .. }
                        | ProposeError::Unknown
                        | ProposeError::Busy
                        | ProposeError::Stopped,
                    ) => {}
                }
            }
            patience.pause("an answer to a command").await;
        }
    }

    pub(super) async fn create_account(&self, name: &str) {
        let answer = self
            .propose(Command::CreateAccount {
                name: name.to_owned(),
                request: 0,
            })
            .await;
        answer.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
    }

    /// Whether an account is there, as a member picked by `pick` says; None if it can't say.
    pub(super) async fn has_account(&self, name: &str, pick: u64) -> Option<bool> {
        let members = self.members();
        // All are down while a power cut lasts.
        let place = usize::try_from(pick).expect("small") % members.len().max(1);
        let member = members.get(place)?;
        // Names have a fixed length, so that the one before it is found by its last letter.
        let before = format!("{}\u{1}", &name[..name.len() - 1]);
        let query = question::Accounts {
            after: before,
            max: 20,
        };
        match member.query(query.into()).await.ok()? {
            Reply::Accounts(found) => Some(found.iter().any(|account| account.name == name)),
            _other => panic!("another reply"),
        }
    }
}

/// All rows of a member.
pub(super) fn rows_of(tables: &tables::Tables) -> Rows {
    let mut rows = Rows::new();
    let read = tables.read(|engine| {
        engine.scan(FIRST_KEY, END_KEY, &mut |key, value| {
            rows.insert(key.to_vec(), value.to_vec());
            true
        })
    });
    if let Some(read) = read {
        read.expect("scan");
    }
    rows
}
