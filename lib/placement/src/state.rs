//! What a leader's planner remembers, and whom it takes to be alive.

use super::PlannerSettings;
use super::gateways::Gateways;
use megalith_model::answer::Topology;
use megalith_model::command::Command;
use megalith_model::ids::{DiskId, NodeId, UploadId, VolumeId};
use megalith_model::status::DiskReport;
use megalith_model::topology::{ClusterMap, Node, Slot};
use std::collections::{BTreeMap, BTreeSet};

/// How long nothing is proposed after a refused or lost proposal.
pub(super) const RETRY_MS: u64 = 1_000;
/// The same for work on what is doomed, which nobody waits for.
pub(super) const WORK_RETRY_MS: u64 = 10_000;
/// After this long without an answer, a proposal counts as lost.
const IN_FLIGHT_MS: u64 = 10_000;

/// What a node last said.
#[derive(Debug)]
pub(super) struct Heard {
    at_ms: u64,
    pub(super) disks: BTreeMap<DiskId, DiskReport>,
}

/// The memory of one term of leadership.
#[derive(Debug)]
pub(super) struct Leading {
    pub(super) term: u64,
    pub(super) topology: Option<Topology>,
    pub(super) heard: BTreeMap<NodeId, Heard>,
    /// When this leader first saw each node registered. For `silent_ms` after that, a node counts
    /// as alive even if it has not been heard.
    first_seen_ms: BTreeMap<NodeId, u64>,
    /// When the newest node registered.
    newest_node_ms: u64,
    /// Proposals without an answer yet, each with its time.
    pub(super) in_flight: Vec<(u64, Command)>,
    pub(super) retry_at_ms: u64,
    /// Uploads that may be too old.
    pub(super) old_uploads: Vec<UploadId>,
    /// When what is doomed may be worked off again.
    pub(super) work_at_ms: u64,
    /// Since when enough volumes of the wished profile are writable.
    pub(super) whole_since_ms: Option<u64>,
    pub(super) published: Option<ClusterMap>,
    pub(super) gateways: Gateways,
    returns: Returns,
    stepped_ms: u64,
}

/// Nodes that were silent and are heard again, one soon after the other. While this lasts no shrunk
/// volume is made: the next heartbeat would make it useless.
#[derive(Debug, Default)]
struct Returns {
    first_ms: Option<u64>,
    last_ms: u64,
}

impl Returns {
    fn note(&mut self, now_ms: u64, silent_ms: u64) {
        if !self.going_on(now_ms, silent_ms) {
            self.first_ms = Some(now_ms);
        }
        self.last_ms = now_ms;
    }

    /// Returns whether it still lasts: until half a silence after the last node, and at most a
    /// whole one after the first.
    fn going_on(&self, now_ms: u64, silent_ms: u64) -> bool {
        self.first_ms.is_some_and(|first_ms| {
            now_ms < self.last_ms + silent_ms / 2 && now_ms < first_ms + silent_ms
        })
    }
}

impl Leading {
    pub(super) fn new(now_ms: u64, term: u64) -> Self {
        Self {
            term,
            topology: None,
            heard: BTreeMap::new(),
            first_seen_ms: BTreeMap::new(),
            newest_node_ms: 0,
            in_flight: Vec::new(),
            retry_at_ms: 0,
            old_uploads: Vec::new(),
            work_at_ms: 0,
            whole_since_ms: None,
            published: None,
            gateways: Gateways::new(now_ms),
            returns: Returns::default(),
            stepped_ms: now_ms,
        }
    }

    /// Records that the planner runs. Time in which it did not run doesn't count as
    /// silence: after a pause of the whole process every node and gateway would look dead.
    pub(super) fn wake(&mut self, now_ms: u64, silent_ms: u64) {
        let slept_ms = now_ms.saturating_sub(self.stepped_ms);
        if slept_ms >= silent_ms / 2 {
            for heard in self.heard.values_mut() {
                heard.at_ms += slept_ms;
            }
            for seen_ms in self.first_seen_ms.values_mut() {
                *seen_ms += slept_ms;
            }
            self.gateways.sleep(slept_ms);
        }
        self.stepped_ms = now_ms;
    }

    /// Takes in the topology.
    pub(super) fn learn(&mut self, now_ms: u64, topology: Topology) {
        let forming = topology.next_volume <= VolumeId(1);
        let first = self.topology.is_none();
        for node in &topology.nodes {
            let mut new = false;
            self.first_seen_ms.entry(node.id).or_insert_with(|| {
                new = true;
                now_ms
            });
            // Nodes that a new leader finds are not new, unless the cluster has no volume yet.
            if new && (forming || !first) {
                self.newest_node_ms = now_ms;
            }
        }
        self.gateways.learn(now_ms, &topology.leases);
        self.topology = Some(topology);
    }

    /// Takes in a heartbeat; returns true if it changes more than free space.
    pub(super) fn hear(
        &mut self,
        now_ms: u64,
        node: NodeId,
        disks: Vec<DiskReport>,
        silent_ms: u64,
    ) -> bool {
        let disks: BTreeMap<_, _> = disks.into_iter().map(|disk| (disk.disk, disk)).collect();
        let news = match self.heard.get(&node) {
            None => true,
            Some(old) => {
                let standing = |disks: &BTreeMap<DiskId, DiskReport>| -> Vec<(DiskId, bool)> {
                    disks
                        .values()
                        .map(|disk| (disk.disk, disk.closed.is_some()))
                        .collect()
                };
                let silent = now_ms >= old.at_ms + silent_ms;
                if silent {
                    self.returns.note(now_ms, silent_ms);
                }
                silent || standing(&old.disks) != standing(&disks)
            }
        };
        let at_ms = now_ms;
        self.heard.insert(node, Heard { at_ms, disks });
        news
    }

    /// Forgets proposals that will not be answered.
    pub(super) fn expire(&mut self, now_ms: u64) {
        self.in_flight
            .retain(|(since_ms, _)| now_ms < since_ms + IN_FLIGHT_MS);
    }
}

/// Everything that a decision depends on, at one moment.
pub(super) struct View<'a> {
    pub(super) now_ms: u64,
    pub(super) settings: &'a PlannerSettings,
    pub(super) topology: &'a Topology,
    heard: &'a BTreeMap<NodeId, Heard>,
    pub(super) alive: BTreeSet<NodeId>,
    /// True if some storage node is within its grace period and has not been heard yet.
    pub(super) awaited: bool,
    /// True while nodes are coming back: the next one may be here in a moment.
    pub(super) returning: bool,
    /// True if no new node has come for a while, or all announced nodes are there.
    pub(super) settled: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(
        leading: &'a Leading,
        topology: &'a Topology,
        now_ms: u64,
        settings: &'a PlannerSettings,
    ) -> Self {
        let lately = |at_ms: u64| now_ms < at_ms + settings.silent_ms;
        let mut alive = BTreeSet::new();
        let mut awaited = false;
        for node in &topology.nodes {
            let heard = leading.heard.get(&node.id);
            let first_seen = leading.first_seen_ms.get(&node.id);
            if heard.is_some_and(|heard| lately(heard.at_ms)) {
                alive.insert(node.id);
            } else if heard.is_none() && first_seen.is_some_and(|at_ms| lately(*at_ms)) {
                alive.insert(node.id);
                awaited |= !node.disks.is_empty();
            }
        }
        let storage = topology
            .nodes
            .iter()
            .filter(|n| !n.disks.is_empty())
            .count();
        let settled = settings.expected_nodes == Some(storage)
            || now_ms >= leading.newest_node_ms + settings.settle_ms;
        Self {
            now_ms,
            settings,
            topology,
            heard: &leading.heard,
            alive,
            awaited,
            returning: leading.returns.going_on(now_ms, settings.silent_ms),
            settled,
        }
    }

    /// Iterates over registered nodes with disks.
    pub(super) fn storage_nodes(&self) -> impl Iterator<Item = &'a Node> + use<'a> {
        self.topology
            .nodes
            .iter()
            .filter(|node| !node.disks.is_empty())
    }

    pub(super) fn report(&self, node: NodeId, disk: DiskId) -> Option<&'a DiskReport> {
        self.heard.get(&node)?.disks.get(&disk)
    }

    /// Returns true if new shards may go there: the node lives and the disk takes them. A node that
    /// has not been heard yet counts as alive within its grace period.
    pub(super) fn takes(&self, slot: &Slot) -> bool {
        let listed = self
            .storage_nodes()
            .find(|node| node.id == slot.node)
            .is_some_and(|node| node.disks.iter().any(|disk| disk.id == slot.disk));
        let open = match self.heard.get(&slot.node) {
            Some(heard) => heard
                .disks
                .get(&slot.disk)
                .is_some_and(|d| d.closed.is_none()),
            None => true,
        };
        listed && open && self.alive.contains(&slot.node)
    }

    /// Returns the disks that report themselves closed. What a node says of a disk that isn't
    /// registered with it does not count.
    pub(super) fn closed_disks(&self) -> Vec<DiskId> {
        let own = |node: &'a Node| node.disks.iter().map(|disk| (node.id, disk.id));
        let mut closed: Vec<DiskId> = self
            .storage_nodes()
            .flat_map(own)
            .filter(|(node, disk)| {
                let report = self.report(*node, *disk);
                report.is_some_and(|report| report.closed.is_some())
            })
            .map(|(_, disk)| disk)
            .collect();
        closed.sort_unstable();
        closed
    }
}
