//! A node's registration with the cluster: it asks to be let in, and then says twice a second that
//! it lives.

use super::config::NodeSettings;
use super::disks::{Reporter, describe};
use megalith_client::{ClientError, ClusterClient, HeartbeatAnswer};
use megalith_model::claim::NodeClaim;
use megalith_model::ids::DiskId;
use megalith_store::Disks;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// The longest that a node waits for its disks before it joins without some.
const DISKS_WAIT: Duration = Duration::from_mins(1);
/// A stop waits no longer than this to be heard.
const GOODBYE_DEADLINE: Duration = Duration::from_millis(500);

/// How a node stands with the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// It has not been let in yet.
    Joining,
    /// The leader hears it.
    Heard,
    /// The leader can't be reached at present.
    Unheard,
}

/// Keeps a node registered.
pub(super) struct Registrar {
    cluster: ClusterClient,
    node: NodeClaim,
    disks: Arc<Disks>,
    settings: NodeSettings,
    state: watch::Sender<Registration>,
    /// The disks that are not registered, and why.
    refused: BTreeMap<DiskId, String>,
    reporter: Reporter,
    /// How many disks were opened, or could not be, for the first time.
    tried: watch::Receiver<usize>,
}

impl Registrar {
    /// Builds the registrar of a node, whose claim names no disks yet; `state` shows how it stands,
    /// `tried` counts the disks that were opened, or could not be, for the first time.
    pub(super) fn new(
        cluster: ClusterClient,
        node: NodeClaim,
        disks: Arc<Disks>,
        settings: NodeSettings,
        state: watch::Sender<Registration>,
        tried: watch::Receiver<usize>,
    ) -> Self {
        Self {
            cluster,
            node,
            disks,
            settings,
            state,
            refused: BTreeMap::new(),
            reporter: Reporter::default(),
            tried,
        }
    }

    /// Joins and sends heartbeats until `stopping`; then says goodbye once. Every change is logged
    /// once.
    ///
    /// It joins once each of `disks` disks was opened, or could not be, and again with every change
    /// of which are here.
    pub(super) async fn run(mut self, disks: usize, stopping: CancellationToken) {
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            () = self.live(disks) => {}
        }
        self.say_goodbye().await;
    }

    /// Waits until every disk was tried. What is registered without a disk may get volumes without
    /// it, so a slow one is waited for, but not for ever.
    async fn wait_for_disks(&mut self, disks: usize) {
        let all = self.tried.wait_for(|tried| *tried >= disks);
        if timeout(DISKS_WAIT, all).await.is_err() {
            tracing::error!("not all disks are open yet; the node joins without those");
        }
    }

    async fn live(&mut self, disks: usize) {
        self.wait_for_disks(disks).await;
        let changes = self.disks.changes();
        // For which disks it was joined last, and whether each of them could be measured.
        let (mut claimed, mut whole) = (None, true);
        let mut ticks = interval(self.settings.heartbeat_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut joined = false;
        let mut asked = Instant::now();
        loop {
            ticks.tick().await;
            let present = *changes.borrow();
            let waited = asked.elapsed() >= self.settings.claim_interval;
            let lacks = !whole || !self.refused.is_empty();
            let again = claimed != Some(present) || (lacks && waited);
            let disks = self.disks.all();
            // Also by a node that was known before: its addresses may be new.
            if !joined || again {
                asked = Instant::now();
                let known = self.reporter.last();
                self.node.disks = describe(&disks, known, self.settings.disk_deadline).await;
                match self.cluster.join(&self.node).await {
                    Ok(refused) => {
                        joined = true;
                        claimed = Some(present);
                        whole = self.node.disks.len() == disks.len();
                        self.note_refused(refused);
                    }
                    // What is registered is registered; it goes on being heard.
                    Err(error) if joined => tracing::debug!(%error, "disks are not registered yet"),
                    Err(error) => {
                        enter(&self.state, Registration::Joining, Some(&error));
                        continue;
                    }
                }
            }
            let deadline = self.settings.disk_deadline;
            let reports = self.reporter.report(&disks, &self.refused, deadline);
            let reports = reports.await;
            match self.cluster.heartbeat(self.node.id, &reports).await {
                Ok(HeartbeatAnswer::Known) => enter(&self.state, Registration::Heard, None),
                Ok(HeartbeatAnswer::Unknown) => {
                    joined = false;
                    ticks.reset_immediately();
                }
                Err(error) => enter(&self.state, Registration::Unheard, Some(&error)),
            }
        }
    }

    /// Remembers which disks the cluster refuses, and logs every change once.
    fn note_refused(&mut self, refused: Vec<(DiskId, String)>) {
        let refused: BTreeMap<DiskId, String> = refused.into_iter().collect();
        for (disk, why) in &refused {
            if self.refused.get(disk) != Some(why) {
                tracing::error!(%disk, why, "the cluster refuses a disk; the others are served");
            }
        }
        for disk in self.refused.keys() {
            if !refused.contains_key(disk) {
                tracing::info!(%disk, "the cluster takes a disk that it refused");
            }
        }
        self.refused = refused;
    }

    /// Closes the disks in the cluster's eyes, so that no gateway has to find out by itself.
    async fn say_goodbye(&mut self) {
        let mut reports: Vec<_> = self.reporter.last().values().cloned().collect();
        for report in &mut reports {
            report.closed = Some("the node is stopping".into());
        }
        let goodbye = self.cluster.heartbeat(self.node.id, &reports);
        if timeout(GOODBYE_DEADLINE, goodbye).await.is_err() {
            tracing::debug!("the leader did not hear the node's goodbye");
        }
    }
}

fn enter(state: &watch::Sender<Registration>, now: Registration, error: Option<&ClientError>) {
    let changed = state.send_if_modified(|held| std::mem::replace(held, now) != now);
    let error = error.map(|error| error as &dyn Error);
    match now {
        Registration::Heard if changed => tracing::info!("the cluster hears this node"),
        Registration::Unheard if changed => {
            tracing::warn!(error, "the cluster does not hear this node");
        }
        Registration::Joining if changed => tracing::warn!(error, "not let into the cluster yet"),
        Registration::Heard | Registration::Unheard | Registration::Joining => {
            tracing::debug!(error, "still so");
        }
    }
}
