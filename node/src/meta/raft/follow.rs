//! A member whose log or rows are too old: the rows come from a peer, out of band.
//!
//! Two ways lead here. The leader sends a snapshot message, because its log no longer reaches back
//! to ours: the message is held back until the rows are here, then raft gets it with the place that
//! they really stand for. Or our own engine was lost while our log is fine: then the log goes on
//! growing and voting meanwhile, and only the rows are put in.

use super::driver::{Driver, node};
use super::{RaftError, convert};
use crate::meta::apply::ApplyTask;
use crate::meta::snapshot::Fetched;
use ::raft::StateRole;
use ::raft::eraftpb::{Message, MessageType};
use megalith_model::ids::NodeId;
use std::time::{Duration, Instant};

/// The pause after a failed fetch.
const FETCH_PAUSE: Duration = Duration::from_millis(500);

/// Where a member is with its snapshot.
pub(super) struct Follow {
    rebuilding: bool,
    /// The snapshot message that waits for its rows.
    held: Option<Message>,
    fetching: bool,
    staged: Option<Fetched>,
    next_fetch: Instant,
    /// Which peer is asked next where no leader is known.
    turn: usize,
}

impl Follow {
    pub(super) fn new(rebuilding: bool) -> Self {
        let next_fetch = Instant::now();
        Self {
            rebuilding,
            held: None,
            fetching: false,
            staged: None,
            next_fetch,
            turn: 0,
        }
    }

    /// True while there are no rows.
    pub(super) fn rebuilding(&self) -> bool {
        self.rebuilding
    }

    /// Takes the rows that raft now wants installed.
    pub(super) fn take_staged(&mut self) -> Option<Fetched> {
        let staged = self.staged.take()?;
        self.rebuilding = false;
        self.held = None;
        Some(staged)
    }
}

impl Driver {
    /// Holds a snapshot message back and fetches its rows; lets all others pass that this member
    /// may follow.
    pub(super) fn intercept(&mut self, message: Message) -> Option<Message> {
        match message.get_msg_type() {
            MessageType::MsgTimeoutNow if self.follow.rebuilding => None,
            MessageType::MsgSnapshot if message.term >= self.raw.raft.term => {
                let index_min = message.get_snapshot().get_metadata().index;
                let leader = node(message.from)?;
                self.follow.held = Some(message);
                if !self.follow.fetching && self.follow.staged.is_none() {
                    self.fetch(leader, index_min);
                }
                None
            }
            _other => Some(message),
        }
    }

    fn fetch(&mut self, peer: NodeId, index_min: u64) {
        tracing::info!(%peer, index_min, "fetching a snapshot of the metadata");
        self.follow.fetching = true;
        self.surroundings.fetch(peer, index_min);
    }

    pub(super) fn fetched(&mut self, fetched: Option<Fetched>) {
        self.follow.fetching = false;
        match fetched {
            Some(fetched) => self.follow.staged = Some(fetched),
            None => {
                // The leader sends another message when its patience ends.
                self.follow.held = None;
                self.follow.next_fetch = Instant::now() + FETCH_PAUSE;
            }
        }
    }

    /// Puts fetched rows to use, or fetches what is missing.
    pub(super) fn follow_tick(&mut self, now: Instant) -> Result<(), RaftError> {
        if self.follow.staged.is_some() {
            return self.use_staged();
        }
        if self.follow.rebuilding && !self.follow.fetching && now >= self.follow.next_fetch {
            let leader =
                node(self.raw.raft.leader_id).filter(|leader| u64::from(leader.0) != self.member);
            if let Some(peer) = leader.or_else(|| self.some_peer()) {
                let index_min = self.raw.store().log.prev().index;
                self.fetch(peer, index_min.max(1));
            }
        }
        Ok(())
    }

    fn some_peer(&mut self) -> Option<NodeId> {
        let mut members = self.raw.store().log.conf().members();
        members.retain(|&member| member != self.member);
        self.follow.turn += 1;
        let turn = self.follow.turn.checked_rem(members.len())?;
        node(members[turn])
    }

    fn use_staged(&mut self) -> Result<(), RaftError> {
        let Some(staged) = self.follow.staged.clone() else {
            return Ok(());
        };
        let log = &self.raw.store().log;
        if log.term(staged.mark.index) == Some(staged.mark.term) {
            // The log is whole there: only the rows are wanted, if any.
            self.follow.held = None;
            return if self.follow.rebuilding {
                self.adopt(staged)
            } else {
                self.give_up(&staged)
            };
        }
        let leader = self.raw.raft.leader_id;
        if self.follow.held.is_none() {
            // The log may still grow up to it.
            let ahead = self.follow.rebuilding && staged.mark.index > log.last_index();
            return if ahead { Ok(()) } else { self.give_up(&staged) };
        }
        if leader == 0 || leader == self.member || self.raw.raft.state != StateRole::Follower {
            return Ok(());
        }
        let Some(mut message) = self.follow.held.take() else {
            return Ok(());
        };
        // What was fetched is committed: whoever leads now may have sent it.
        message.from = leader;
        message.term = self.raw.raft.term;
        message.set_snapshot(convert::snapshot(staged.mark, &staged.conf));
        self.raw
            .step(message)
            .map_err(|error| RaftError::Raft(error.to_string()))?;
        if self.raw.snap().is_some() {
            Ok(())
        } else {
            self.give_up(&staged)
        }
    }

    /// Puts rows in under a log that is whole.
    fn adopt(&mut self, staged: Fetched) -> Result<(), RaftError> {
        tracing::info!(index = staged.mark.index, "the metadata's rows are rebuilt");
        let _taken = self.follow.take_staged();
        self.feed_next = staged.mark.index + 1;
        self.apply.push(ApplyTask::Switch {
            staged: staged.name,
            base: staged.mark,
        });
        Ok(())
    }

    fn give_up(&mut self, staged: &Fetched) -> Result<(), RaftError> {
        tracing::debug!(
            index = staged.mark.index,
            "a snapshot came too late to be of use"
        );
        self.follow.staged = None;
        self.follow.held = None;
        self.surroundings.discard(staged);
        Ok(())
    }
}
