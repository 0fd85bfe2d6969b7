//! A member whose log or rows are too old: the rows come from a peer, out of band.
//!
//! Two ways lead here. The leader sends a snapshot message, because its log no longer reaches back
//! to ours: the message is held back until the rows are here, then raft gets it with the place that
//! they really stand for. Or our own engine was lost while our log is fine: then the log goes on
//! growing and voting meanwhile, and only the rows are put in.

use super::driver::Driver;
use super::{RaftError, convert};
use crate::apply::ApplyTask;
use crate::log::node_of;
use crate::snapshot::Fetched;
use ::raft::eraftpb::{Message, MessageType};
use ::raft::{ProgressState, StateRole};
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
    /// Which peer is asked next while no leader is known.
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
    /// may follow. Fails if a message proves that the log has lost something.
    pub(super) fn intercept(&mut self, message: Message) -> Result<Option<Message>, RaftError> {
        let current = message.term >= self.raw.raft.term;
        match message.get_msg_type() {
            // It must not lead: it has no rows, no right clock, or a disk that has not answered.
            MessageType::MsgTimeoutNow
                if self.follow.rebuilding
                    || self.has_wrong_clock()
                    || self.appends.is_unsynced() =>
            {
                Ok(None)
            }
            // More would wait in memory for a disk that does not answer. It is sent again.
            MessageType::MsgAppend
                if !message.entries.is_empty()
                    && self.raw.store().unsynced_bytes() > self.settings.unsynced_bytes_max =>
            {
                Ok(None)
            }
            MessageType::MsgSnapshot if current => {
                self.hold(message);
                Ok(None)
            }
            // The first entries don't say who the first members were: only a snapshot does.
            MessageType::MsgAppend if current && self.is_joining() => {
                self.ask_for_snapshot(&message);
                Ok(None)
            }
            // It was asked for once more than needed: the leader is sending it already.
            MessageType::MsgAppendResponse
                if message.request_snapshot != 0 && self.is_sending_snapshot(message.from) =>
            {
                Ok(None)
            }
            // A leader lets a follower commit only what that has said it holds.
            MessageType::MsgHeartbeat
                if current && message.commit > self.raw.raft.raft_log.last_index() =>
            {
                Err(RaftError::Lost(format!(
                    "the raft log ends at entry {}, and this member had acknowledged entry {}",
                    self.raw.raft.raft_log.last_index(),
                    message.commit
                )))
            }
            _other => Ok(Some(message)),
        }
    }

    /// True for a member that does not know its group yet.
    pub(super) fn is_joining(&self) -> bool {
        self.raw.store().log.conf().voters.is_empty()
    }

    /// Says to a leader that its entries are of no use here, once in a while.
    fn ask_for_snapshot(&mut self, append: &Message) {
        let follow = &mut self.follow;
        let now = Instant::now();
        let under_way = follow.fetching || follow.held.is_some() || follow.staged.is_some();
        if under_way || now < follow.next_fetch {
            return;
        }
        follow.next_fetch = now + FETCH_PAUSE;
        let mut ask = Message {
            to: append.from,
            from: append.to,
            term: append.term,
            index: append.index,
            reject: true,
            request_snapshot: 1,
            ..Message::default()
        };
        ask.set_msg_type(MessageType::MsgAppendResponse);
        self.send_all(vec![ask]);
    }

    fn is_sending_snapshot(&self, peer: u64) -> bool {
        let progress = self.raw.raft.prs().get(peer);
        progress.is_some_and(|progress| progress.state == ProgressState::Snapshot)
    }

    fn hold(&mut self, message: Message) {
        // Rows never go back behind those that were served here.
        let served = self.tables.applied().borrow().index;
        let index_min = message.get_snapshot().get_metadata().index.max(served);
        let Some(leader) = node_of(message.from) else {
            return;
        };
        self.follow.held = Some(message);
        if !self.follow.fetching && self.follow.staged.is_none() {
            self.fetch(leader, index_min);
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
        let wanted = self.follow.rebuilding && !self.is_joining();
        if wanted && !self.follow.fetching && now >= self.follow.next_fetch {
            let leader = node_of(self.raw.raft.leader_id)
                .filter(|leader| Some(*leader) != node_of(self.member));
            if let Some(peer) = leader.or_else(|| self.some_peer()) {
                let index_min = self.raw.store().log.prev().index;
                self.fetch(peer, index_min.max(1));
            }
        }
        Ok(())
    }

    fn some_peer(&mut self) -> Option<NodeId> {
        let mut members = self.raw.store().log.conf().members();
        members.retain(|&member| node_of(member) != node_of(self.member));
        self.follow.turn += 1;
        let turn = self.follow.turn.checked_rem(members.len())?;
        node_of(members[turn])
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
        let log = &self.raw.raft.raft_log;
        if log
            .term(staged.mark.index)
            .is_ok_and(|term| term == staged.mark.term)
        {
            // It is on its way to the disk. Rows must not be ahead of what is durable.
            return Ok(());
        }
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
