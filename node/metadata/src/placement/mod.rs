//! Placement beside the metadata leader: feeds the planner with heartbeats, beats of gateways,
//! topology and time, does what it says, and pushes the cluster map.
//!
//! Owns who was heard when; that is in memory only, and a new leader's begins empty. Decides
//! nothing itself: `megalith_placement` does. Heartbeats are no Raft entries.

mod group;
mod levels;
mod service;
#[cfg(test)]
mod tests;

pub use group::{Leadership, PlacementGroup};
pub use service::ClusterService;

use megalith_model::answer::Topology;
use megalith_model::beat::Beat;
use megalith_model::command::{Answer, Command};
use megalith_model::ids::{ClusterId, NodeId, UploadId};
use megalith_model::level::Level;
use megalith_model::status::{DiskReport, NodeStatus};
use megalith_model::topology::ClusterMap;
use megalith_placement::{Action, Event, Planner, PlannerSettings};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(200);
/// How long no volume can be made before it is worth a warning.
const COMPLAIN_AFTER: Duration = Duration::from_secs(3);
/// Every this many ticks the topology is read again, for the bytes of the volumes.
const TICKS_PER_READ: u32 = 5;
/// Every this many ticks old uploads are looked for.
const TICKS_PER_UPLOADS: u32 = 25;
/// Requests that may wait for the worker.
const MAILBOX_LEN: usize = 1024;

/// What the worker is asked.
enum Request {
    Heartbeat {
        node: NodeId,
        disks: Vec<DiskReport>,
        known: oneshot::Sender<bool>,
    },
    Beat {
        beat: Beat,
        heard: oneshot::Sender<()>,
    },
    Heard(oneshot::Sender<Vec<NodeStatus>>),
    CatchUp(oneshot::Sender<()>),
    Proposed {
        command: Box<Command>,
        answer: Option<Answer>,
    },
}

/// Talks to the worker. Cheap to clone.
#[derive(Clone)]
pub struct Placement {
    mailbox: mpsc::Sender<Request>,
    map: watch::Receiver<Option<Arc<ClusterMap>>>,
}

impl Placement {
    /// Starts the worker; it ends with the token, or panics never: without it the cluster keeps
    /// its volumes but makes none.
    pub fn start<G: PlacementGroup>(
        group: G,
        cluster: ClusterId,
        settings: PlannerSettings,
        stop: CancellationToken,
    ) -> Self {
        let (mailbox, requests) = mpsc::channel(MAILBOX_LEN);
        let (publish, map) = watch::channel(None);
        let worker = Worker {
            group,
            cluster,
            planner: Planner::new(settings),
            started: Instant::now(),
            refused: None,
            complained: None,
            term: None,
            topology: None,
            heard: BTreeMap::new(),
            uploads_from: UploadId([0; 16]),
            catching_up: Vec::new(),
            publish,
            mailbox: mailbox.clone(),
        };
        tokio::spawn(worker.run(requests, stop));
        Self { mailbox, map }
    }

    /// The map that this leader pushes; None while this replica doesn't lead.
    #[must_use]
    pub fn map(&self) -> watch::Receiver<Option<Arc<ClusterMap>>> {
        self.map.clone()
    }

    /// Notes that a node lives. False if it has to join first; None if this member doesn't lead.
    pub async fn heartbeat(&self, node: NodeId, disks: Vec<DiskReport>) -> Option<bool> {
        let (known, answer) = oneshot::channel();
        self.mailbox
            .send(Request::Heartbeat { node, disks, known })
            .await
            .ok()?;
        answer.await.ok()
    }

    /// Notes that a gateway lives. False if this member doesn't lead.
    pub async fn beat(&self, beat: Beat) -> bool {
        let (heard, answer) = oneshot::channel();
        let sent = self.mailbox.send(Request::Beat { beat, heard }).await;
        sent.is_ok() && answer.await.is_ok()
    }

    /// Waits until any map that is pushed from here holds everything that this replica has applied
    /// by now. False if the rows can't be read.
    pub async fn catch_up(&self) -> bool {
        let (done, answer) = oneshot::channel();
        let sent = self.mailbox.send(Request::CatchUp(done)).await;
        sent.is_ok() && answer.await.is_ok()
    }

    /// Every registered storage node as it was last heard; None if this member doesn't lead.
    pub async fn heard(&self) -> Option<Vec<NodeStatus>> {
        let (heard, answer) = oneshot::channel();
        self.mailbox.send(Request::Heard(heard)).await.ok()?;
        answer.await.ok()
    }
}

struct Worker<G> {
    group: G,
    cluster: ClusterId,
    planner: Planner,
    started: Instant,
    /// Since when no volume can be made.
    refused: Option<Instant>,
    /// What was said of that last.
    complained: Option<String>,
    /// Set while this replica leads.
    term: Option<u64>,
    topology: Option<Topology>,
    heard: BTreeMap<NodeId, (Instant, Vec<DiskReport>)>,
    /// Where the next look for old uploads begins.
    uploads_from: UploadId,
    /// Who waits for a map of the rows as they are.
    catching_up: Vec<oneshot::Sender<()>>,
    publish: watch::Sender<Option<Arc<ClusterMap>>>,
    mailbox: mpsc::Sender<Request>,
}

impl<G: PlacementGroup> Worker<G> {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, stop: CancellationToken) {
        let mut leadership = self.group.leadership();
        let mut changes = self.group.topology_changes();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut count = 0_u32;
        let term = leadership.borrow_and_update().term;
        self.lead(term).await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let term = leadership.borrow_and_update().term;
                    self.lead(term).await;
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    changes.mark_unchanged();
                    self.read_topology().await;
                }
                Some(request) = requests.recv() => {
                    self.answer(request);
                    // One map for all who wait by now; who comes later waits for the next.
                    for _ in 0..requests.len() {
                        let Ok(request) = requests.try_recv() else {
                            break;
                        };
                        self.answer(request);
                    }
                    self.catch_up().await;
                }
                _ = ticks.tick() => {
                    count = count.wrapping_add(1);
                    if count.is_multiple_of(TICKS_PER_READ) {
                        self.read_topology().await;
                    }
                    if count.is_multiple_of(TICKS_PER_UPLOADS) {
                        self.find_old_uploads().await;
                    }
                    self.step(Event::Tick);
                    self.tell_freeing();
                    self.complain();
                }
            }
        }
    }

    async fn lead(&mut self, term: Option<u64>) {
        if self.term == term {
            return;
        }
        self.term = term;
        self.heard.clear();
        self.topology = None;
        self.uploads_from = UploadId([0; 16]);
        self.group.tell_freeing(None);
        self.publish.send_replace(None);
        match term {
            Some(term) => {
                tracing::info!(term, "placement leads");
                self.step(Event::BecameLeader { term });
                self.read_topology().await;
            }
            None => self.step(Event::LostLeader),
        }
    }

    /// Makes one map for all who wait for one.
    async fn catch_up(&mut self) {
        if self.catching_up.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.catching_up);
        // Where it fails they are dropped, and know.
        if self.read_topology().await {
            for done in waiting {
                let _ = done.send(());
            }
        }
    }

    /// Takes the topology in as it is applied here, if this replica leads; without that no map is
    /// pushed. False if it can't be read.
    async fn read_topology(&mut self) -> bool {
        if self.term.is_none() {
            return true;
        }
        let Some(topology) = self.group.topology().await else {
            return false;
        };
        if topology.cluster.is_none() {
            self.propose(Command::InitCluster {
                cluster: self.cluster,
                level: self.first_level().await,
            });
        }
        self.topology = Some(topology.clone());
        self.step(Event::TopologyChanged(topology));
        true
    }

    /// Tells the planner of uploads that are too old.
    async fn find_old_uploads(&mut self) {
        if self.term.is_none() {
            return;
        }
        if let Some(old) = self.group.old_uploads(self.uploads_from).await {
            self.uploads_from = old.next;
            if !old.uploads.is_empty() {
                self.step(Event::OldUploads(old.uploads));
            }
        }
    }

    /// What a new cluster begins at: the highest level that all its first members run.
    async fn first_level(&self) -> Level {
        let members = self.group.members().await;
        let status = levels::status(&self.group.levels(), &members, &[], &[]);
        let known = status.processes.iter().map(|one| one.known);
        let highest = known.map(|known| known.map_or(Level::FIRST, |known| known.highest));
        highest.fold(status.highest, Level::min)
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Heartbeat { node, disks, known } => {
                // Without an answer the caller knows that this member doesn't lead.
                let Some(topology) = self.topology.as_ref() else {
                    return;
                };
                let is_known = topology.nodes.iter().any(|known| known.id == node);
                let _ = known.send(is_known);
                if is_known {
                    let heard = (Instant::now(), disks.clone());
                    self.heard.insert(node, heard);
                    self.step(Event::Heartbeat { node, disks });
                }
            }
            Request::Beat { beat, heard } => {
                // As above: an answer says that this member leads, and knows who holds what.
                if self.topology.is_some() {
                    self.step(Event::Beat(beat));
                    let _ = heard.send(());
                }
            }
            Request::Heard(answer) => {
                if let Some(heard) = self.all_heard() {
                    let _ = answer.send(heard);
                }
            }
            Request::CatchUp(done) => self.catching_up.push(done),
            Request::Proposed { command, answer } => self.step(Event::Proposed {
                command: *command,
                answer,
            }),
        }
    }

    fn all_heard(&self) -> Option<Vec<NodeStatus>> {
        let topology = self.topology.as_ref()?;
        let alive = self
            .planner
            .map()
            .map(|map| map.alive.clone())
            .unwrap_or_default();
        let heard = |node: NodeId| {
            let last = self.heard.get(&node);
            NodeStatus {
                node,
                alive: alive.contains(&node) && last.is_some(),
                silent: last.map(|(at, _)| at.elapsed()),
                disks: last.map(|(_, disks)| disks.clone()).unwrap_or_default(),
            }
        };
        Some(topology.nodes.iter().map(|node| heard(node.id)).collect())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells who answers nodes which deletes they may do.
    fn tell_freeing(&self) {
        let group_ms = self.group.now_ms();
        // Without the time nobody can say how old a delete is.
        let freeing = self.planner.freeing(self.now_ms(), group_ms);
        let freeing = freeing.filter(|_| group_ms > 0);
        self.group.tell_freeing(self.term.zip(freeing));
    }

    fn step(&mut self, event: Event) {
        let now_ms = self.now_ms();
        for action in self.planner.step(now_ms, event) {
            match action {
                Action::Propose(command) => self.propose(command),
                Action::PublishMap(map) => {
                    tracing::debug!(
                        version = map.version,
                        alive = map.alive.len(),
                        writable = map.writable.len(),
                        "cluster map"
                    );
                    self.publish.send_replace(Some(Arc::new(map)));
                }
            }
        }
    }

    /// Says why no volume can be made, once it has lasted; a start's first moments are no news.
    fn complain(&mut self) {
        let refusal = self.planner.map().and_then(|map| map.refusal.clone());
        let since = self.refused.unwrap_or_else(Instant::now);
        self.refused = refusal.is_some().then_some(since);
        let lasting = since.elapsed() >= COMPLAIN_AFTER;
        let news = refusal.filter(|_| lasting);
        match &news {
            Some(refusal) if news != self.complained => {
                tracing::warn!(refusal, "no volume can be made");
            }
            None if self.complained.is_some() => tracing::info!("volumes can be made again"),
            Some(_) | None => {}
        }
        self.complained = news;
    }

    /// Proposes in the background; the answer comes back as a request.
    fn propose(&self, command: Command) {
        let (group, mailbox) = (self.group.clone(), self.mailbox.clone());
        tokio::spawn(async move {
            let answer = group.propose(command.clone()).await;
            if let Some(Err(refusal)) = &answer {
                tracing::warn!(%refusal, ?command, "placement command refused");
            }
            // Gone only when the worker is.
            let command = Box::new(command);
            let _ = mailbox.send(Request::Proposed { command, answer }).await;
        });
    }
}
