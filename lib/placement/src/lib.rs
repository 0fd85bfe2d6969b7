//! The planner: decides which volumes there should be, and makes the map that every process gets.
//! It also has what is doomed worked off, one piece after the other, and old uploads ended, and
//! closes the leases that no gateway names any more.
//!
//! Runs beside the metadata leader. `step(now, event) → actions`; reads no clock. Its memory is
//! soft: a new leader's planner learns everything again from the topology and the heartbeats.
//!
//! `domains` says which profile is wished and which is possible, `choose` picks slots, `plan`
//! compares what is with what should be, `map` makes the map. `gateways` knows what gateways said.
//!
//! Failure domains: with three or more storage nodes, nodes. With one or two, disks, spread evenly
//! over the nodes; then the loss of a node isn't covered, and `status` says so.

mod choose;
mod domains;
mod gateways;
mod map;
mod plan;
mod state;
#[cfg(test)]
mod tests;

use megalith_model::answer::Topology;
use megalith_model::beat::Beat;
use megalith_model::command::{Answer, Command, Outcome};
use megalith_model::freeing::{Freeing, Grace};
use megalith_model::ids::{NodeId, UploadId};
use megalith_model::profile::Profile;
use megalith_model::status::DiskReport;
use megalith_model::topology::{ClusterMap, Volume, VolumeState};
use state::Leading;

/// The rules that the planner follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannerSettings {
    /// The profile of new volumes; None: the default for the domains there are.
    pub profile: Option<Profile>,
    /// How many writable volumes of the best profile are kept open.
    pub open_target: usize,
    /// A node not heard from for this long is taken for dead.
    pub silent_ms: u64,
    /// How many storage nodes the operator announced: volumes are made as soon as exactly that many
    /// are registered. If None, or if the number differs: once no new node has come for
    /// `settle_ms`.
    pub expected_nodes: Option<usize>,
    /// See `expected_nodes`.
    pub settle_ms: u64,
    /// How long shrunk volumes stay open after full ones are writable again, so that a node that
    /// comes and goes doesn't leave a trail of small volumes.
    pub shrunk_linger_ms: u64,
    /// A gateway that says nothing for this long, or not this of a lease, has lost what it held.
    /// Sixty beats in a row don't get lost by chance, nor in an election or while a member starts;
    /// and a gateway that was only slow takes a new lease.
    pub gateway_life_ms: u64,
    /// How long deletes wait.
    pub grace: Grace,
}

impl Default for PlannerSettings {
    fn default() -> Self {
        Self {
            profile: None,
            open_target: 2,
            silent_ms: 2_000,
            expected_nodes: None,
            settle_ms: 3_000,
            shrunk_linger_ms: 60_000,
            gateway_life_ms: 60_000,
            grace: Grace::default(),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This replica leads in `term`. A [`Event::TopologyChanged`] follows.
    BecameLeader { term: u64 },
    /// This replica no longer leads.
    LostLeader,
    /// The topology as it is now. Sent after every command for which [`Command::changes_topology`]
    /// holds, and about once a second for the volumes' bytes.
    TopologyChanged(Topology),
    /// A node is alive; the heartbeat lists all its disks.
    Heartbeat {
        node: NodeId,
        disks: Vec<DiskReport>,
    },
    /// A gateway is alive.
    Beat(Beat),
    /// The answer to a proposed command; None if it isn't known.
    Proposed {
        /// The command as it was proposed.
        command: Command,
        answer: Option<Answer>,
    },
    /// Uploads that may be too old, at most [`megalith_model::machine::EXPIRED_MAX`].
    OldUploads(Vec<UploadId>),
    /// Time has passed; needed every 100–500 ms.
    Tick,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Propose this command (without a token) and report back with [`Event::Proposed`].
    Propose(Command),
    /// Push this map to every process.
    PublishMap(ClusterMap),
}

/// The planner's state.
#[derive(Debug)]
pub struct Planner {
    settings: PlannerSettings,
    leading: Option<Leading>,
}

impl Planner {
    /// Makes a planner that doesn't lead.
    #[must_use]
    pub fn new(settings: PlannerSettings) -> Self {
        Self {
            settings,
            leading: None,
        }
    }

    /// Takes in an event at `now_ms` (of any clock that only goes forward) and says what to do.
    /// While this replica doesn't lead, nothing is remembered and nothing is done.
    pub fn step(&mut self, now_ms: u64, event: Event) -> Vec<Action> {
        let Some(leading) = &mut self.leading else {
            if let Event::BecameLeader { term } = event {
                self.leading = Some(Leading::new(now_ms, term));
            }
            return Vec::new();
        };
        leading.wake(now_ms, self.settings.silent_ms);
        match event {
            Event::BecameLeader { term } => {
                *leading = Leading::new(now_ms, term);
                return Vec::new();
            }
            Event::LostLeader => {
                self.leading = None;
                return Vec::new();
            }
            Event::TopologyChanged(topology) => leading.learn(now_ms, topology),
            Event::Heartbeat { node, disks } => {
                if !leading.hear(now_ms, node, disks, self.settings.silent_ms) {
                    return Vec::new();
                }
            }
            Event::Beat(beat) => {
                let life_ms = self.settings.gateway_life_ms;
                leading.gateways.hear(now_ms, &beat, life_ms);
                return Vec::new();
            }
            Event::Proposed { command, answer } => {
                leading.settle(now_ms, &command, answer);
            }
            Event::OldUploads(uploads) => leading.old_uploads = uploads,
            Event::Tick => {}
        }
        leading.plan(now_ms, &self.settings)
    }

    /// Returns by which rules this leader may give out deletes at `now_ms`, when the group's time
    /// is `group_ms`; None until it has been in office for one gateway's life, because it may not
    /// have heard yet who reads.
    #[must_use]
    pub fn freeing(&self, now_ms: u64, group_ms: u64) -> Option<Freeing> {
        let (gateways, life_ms) = (
            &self.leading.as_ref()?.gateways,
            self.settings.gateway_life_ms,
        );
        gateways.all_heard(now_ms, life_ms).then(|| Freeing {
            now_ms: group_ms,
            lowest_read: gateways.lowest_read(now_ms, life_ms),
            grace: self.settings.grace,
        })
    }

    /// Returns the map last published by this leader.
    #[must_use]
    pub fn map(&self) -> Option<&ClusterMap> {
        self.leading.as_ref()?.published.as_ref()
    }
}

/// Work that nobody waits for: it must not hold up volumes.
fn is_tidying(command: &Command) -> bool {
    matches!(command, Command::WorkOff | Command::ExpireUploads { .. })
}

impl Leading {
    /// Records the answer to a proposal.
    fn settle(&mut self, now_ms: u64, command: &Command, answer: Option<Answer>) {
        if let Some(at) = self.in_flight.iter().position(|(_, c)| c == command) {
            self.in_flight.remove(at);
        }
        match answer {
            Some(Ok(Outcome::Volume(volume))) => self.learn_volume(volume),
            Some(Ok(Outcome::WorkedOff { left })) => {
                if let Some(topology) = &mut self.topology {
                    topology.doomed = left;
                }
            }
            Some(Ok(_)) => self.learn_closed(command),
            Some(Err(_)) | None if matches!(command, Command::CloseLease { .. }) => {
                self.gateways.close_at_ms = now_ms + state::WORK_RETRY_MS;
            }
            Some(Err(_)) | None if is_tidying(command) => {
                self.work_at_ms = now_ms + state::WORK_RETRY_MS;
            }
            Some(Err(_)) | None => self.retry_at_ms = now_ms + state::RETRY_MS,
        }
    }

    /// Takes in that a lease is closed, before the topology shows it.
    fn learn_closed(&mut self, command: &Command) {
        if let (Command::CloseLease { lease, .. }, Some(topology)) = (command, &mut self.topology) {
            topology.leases.retain(|open| open.id != *lease);
            self.gateways.closed(*lease);
        }
    }

    /// Takes in a volume that a proposal made or closed, before the topology shows it.
    fn learn_volume(&mut self, volume: Volume) {
        let Some(topology) = &mut self.topology else {
            return;
        };
        topology.next_volume = topology.next_volume.max(volume.id.next());
        topology.open_volumes.retain(|known| known.id != volume.id);
        if volume.state == VolumeState::Open {
            topology.open_volumes.push(volume);
            topology.open_volumes.sort_by_key(|volume| volume.id);
        }
    }
}
