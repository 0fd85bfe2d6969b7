//! Where this member stands, and who of the others is alive: what it tells and goes by.

use super::driver::Driver;
use super::{Phase, Presence, RaftRole, RaftStatus};
use crate::log::{HardState, Mark, node_of};
use ::raft::{ProgressState, StateRole};
use megalith_model::ids::NodeId;
use megalith_model::member::MemberStatus;
use std::time::{Duration, Instant};

impl Driver {
    /// Notes whether reads need no other member. An entry of its term must be applied: before that
    /// the rows may lack what an earlier process has answered. So must the entry that made this
    /// member the only one: before that they may lack what another has answered. A learner answers
    /// questions, too, and may have applied more than is applied here.
    pub(super) fn look_if_alone(&self) {
        let raft = &self.raw.raft;
        let leads = raft.state == StateRole::Leader && !self.asleep;
        let conf = self.raw.store().log.conf();
        let only =
            raft.promotable() && raft.prs().is_singleton() && conf.members() == [self.member];
        let applied = self.raw.store().applied;
        let reached = applied.term == raft.term && applied.index >= conf.index;
        self.alone.set(leads && only && reached);
    }

    pub(super) fn role(&self) -> RaftRole {
        let raft = &self.raw.raft;
        RaftRole {
            term: raft.term,
            leader: node_of(raft.leader_id),
            leads: raft.state == StateRole::Leader,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        let conf = self.raw.store().log.conf();
        if self.is_fresh() && self.asleep {
            Phase::Fresh
        } else if conf.voters.contains(&self.member) {
            Phase::Voter
        } else if conf.learners.contains(&self.member) {
            Phase::Learner
        } else if conf.members().is_empty() {
            Phase::Joining
        } else {
            Phase::Removed
        }
    }

    /// True if this member has never promised anything to anybody.
    pub(super) fn is_fresh(&self) -> bool {
        let log = &self.raw.store().log;
        self.raw.raft.term == 0
            && log.hard_state() == HardState::default()
            && log.last_index() == 0
            && log.conf().index == 0
            && !log.conf().voters.is_empty()
    }

    /// For how long a member counts as alive that is not heard from any more.
    pub(super) fn alive_for(&self) -> Duration {
        self.settings.tick * u32::try_from(self.settings.election_ticks * 2).unwrap_or(u32::MAX)
    }

    pub(super) fn alive_since(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.alive_for()).unwrap_or(now)
    }

    pub(super) fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// True within the last two election timeouts, and for this member itself.
    pub(super) fn is_alive(&self, id: u64) -> bool {
        id == self.member
            || self
                .heard
                .get(&id)
                .is_some_and(|&at| at >= self.alive_since())
    }

    /// A node that speaks under `id` is not alive under any other.
    pub(super) fn forget_other_lives(&mut self, node: NodeId, id: u64) {
        self.heard
            .retain(|&other, _| other == id || node_of(other) != Some(node));
    }

    pub(super) fn publish(&mut self) {
        self.look_if_alone();
        let presence = Presence {
            id: self.member,
            phase: self.phase(),
        };
        self.presence.send_if_modified(|old| {
            if *old != presence {
                tracing::info!(?presence, "this metadata member's place in its group");
                *old = presence;
                true
            } else {
                false
            }
        });
        let role = self.role();
        self.role.send_if_modified(|old| {
            if *old != role {
                tracing::info!(?role, "metadata leadership");
                *old = role;
                true
            } else {
                false
            }
        });
    }

    pub(super) fn status(&self) -> RaftStatus {
        let raft = &self.raw.raft;
        let log = &self.raw.store().log;
        let conf = log.conf();
        let mut members = Vec::new();
        for (&id, progress) in raft.prs().iter() {
            let Some(node) = node_of(id) else { continue };
            let itself = id == self.member;
            let (matched, committed) = if itself {
                (raft.raft_log.persisted, raft.raft_log.committed)
            } else {
                (progress.matched, progress.committed_index)
            };
            let losses = if itself {
                self.surroundings.losses()
            } else {
                self.knocks.losses(node, id)
            };
            members.push(MemberStatus {
                node,
                id,
                address: self.surroundings.address(node),
                leader: node_of(raft.leader_id) == Some(node),
                learner: conf.learners.contains(&id),
                matched,
                committed,
                alive: self.is_alive(id),
                clock_ahead_ms: self.clock_ahead(id).unwrap_or(0),
                losses,
            });
        }
        members.sort_by_key(|member| (member.node, member.id));
        RaftStatus {
            id: self.member,
            role: self.role(),
            committed: raft.raft_log.committed,
            applied: self.raw.store().applied.index,
            log: (log.first_index(), log.last_index()),
            unsynced: self.raw.store().unsynced().len(),
            log_bytes: log.bytes(),
            rebuilding: self.follow.rebuilding(),
            clock: self.clock.standing(),
            sync_ms: self.sync_ms(),
            members,
        }
    }

    /// The last entry that neither this member nor a living follower needs, nor one that fetches a
    /// snapshot and goes on behind that.
    pub(super) fn log_purgeable(&self, checkpointed: Mark) -> u64 {
        let alive_since = self.alive_since();
        let needed = self
            .raw
            .raft
            .prs()
            .iter()
            .filter(|(id, _)| self.heard.get(id).is_some_and(|&at| at >= alive_since))
            .map(|(_, progress)| match progress.state {
                ProgressState::Snapshot => progress.pending_snapshot,
                ProgressState::Probe | ProgressState::Replicate => progress.matched,
            })
            .min();
        let fetched = self.surroundings.log_needed_after().unwrap_or(u64::MAX);
        let wanted = needed
            .filter(|_| self.leads())
            .unwrap_or(u64::MAX)
            .min(checkpointed.index);
        let behind = self.raw.store().log.bytes_after(wanted);
        let through = if behind > self.settings.log_behind_bytes {
            checkpointed.index
        } else {
            wanted
        };
        through.min(fetched)
    }
}
