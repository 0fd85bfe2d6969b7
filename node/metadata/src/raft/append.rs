//! The append in flight, and what waits for it.
//!
//! There is one at most. It is written on the sync thread while raft goes on; what must become
//! durable meanwhile is gathered into the next one. raft's side of this is its asynchronous ready:
//!
//! - What a `Ready` holds is handed over at once: its entries are seen in [`LogStorage`] before
//!   `advance_append_async`, for raft keeps them no longer and sends them to followers from there.
//! - `on_persist_ready` comes after they are durable, and in order. Only then does raft count this
//!   member's disk towards a majority. It hands out committed entries only up to there: what is
//!   applied here is durable here, although a majority of others has committed more. So the tables
//!   never know more than the log does, whatever a power cut takes back.
//! - Messages of one that doesn't lead may promise what is not durable: they wait ([`must_wait`]).
//!   Those of a leader go at once (thesis 10.2.1), but not before its own term is durable: the only
//!   voter leads without asking anybody, and might use a term twice.
//!
//! Nothing else may be on its way (`flush`) when the log is cut back or replaced by a snapshot,
//! when members change, at the end, and before another life. While something is, the member
//! doesn't stand for election: raft takes it for granted that a new leader's entries are durable.
//!
//! [`LogStorage`]: super::storage::LogStorage

use super::RaftError;
use super::convert;
use super::driver::Driver;
use super::pace::SyncTimes;
use super::sync::SyncQueue;
use crate::log::{Append, Conf, HardState, LogEntry, LogError, Mark, Written};
use ::raft::Ready;
use ::raft::eraftpb::{Message, MessageType};
use std::mem;
use std::time::Instant;

/// Messages that wait for one append at most; more are lost, as messages may be.
const MESSAGES_MAX: usize = 4096;

/// What is on its way to the disk.
pub(super) struct Appends {
    disk: SyncQueue,
    in_flight: Option<Flight>,
    next: Next,
    /// Up to where the rows are checkpointed, if the log was not purged since.
    purge: Option<Mark>,
    pub(super) times: SyncTimes,
}

/// What the sync thread does now.
struct Flight {
    since: Instant,
    /// What is true when it is done; None for a purge.
    append: Option<Promised>,
}

/// What an append makes true.
#[derive(Default)]
struct Promised {
    /// The last `Ready` in it; 0 for none.
    ready: u64,
    messages: Vec<Message>,
}

/// What the next append will hold, beside all entries that are not durable.
#[derive(Default)]
struct Next {
    hard: Option<HardState>,
    conf: Option<Conf>,
    /// A commit index alone is not worth a sync: it is found again.
    must_sync: bool,
    promised: Promised,
}

impl Appends {
    pub(super) fn new(disk: SyncQueue) -> Self {
        Self {
            disk,
            in_flight: None,
            next: Next::default(),
            purge: None,
            times: SyncTimes::default(),
        }
    }

    /// True while anything that raft must not forget is not durable.
    pub(super) fn is_unsynced(&self) -> bool {
        let appends = self
            .in_flight
            .as_ref()
            .is_some_and(|it| it.append.is_some());
        appends || self.next.must_sync
    }

    /// For how long the disk has not answered.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.in_flight.as_ref().map(|flight| flight.since)
    }

    /// The end of this log: what its sync thread is given from now on is another's.
    pub(super) fn into_disk(self) -> SyncQueue {
        self.disk
    }

    /// The latest hard state that was handed over, if it is not durable yet.
    pub(super) fn take_hard(&mut self) -> Option<HardState> {
        self.next.hard.take()
    }
}

/// True for a message that may promise what isn't durable. What answers a heartbeat or asks a
/// leader where to read promises nothing: a leader is believed to lead by those who have heard of
/// no later term, whether their disks know of it or not. An answer to a vote or pre-vote that the
/// disk can't keep is of no use to anybody, and a proof that entries are here must wait for them.
fn must_wait(message: &Message) -> bool {
    !matches!(
        message.get_msg_type(),
        MessageType::MsgHeartbeatResponse | MessageType::MsgReadIndex
    )
}

impl Driver {
    /// Takes over what a round must make durable. `at_once`: what of its messages need not wait.
    pub(super) fn hand_over_to_disk(&mut self, ready: &mut Ready) -> Vec<Message> {
        let entries: Vec<LogEntry> = ready
            .take_entries()
            .into_iter()
            .map(convert::entry_from_raft)
            .collect();
        self.raw.mut_store().add_unsynced(entries);
        // What a leader says may go ahead of its disk, but not ahead of its term.
        let (durable, leads) = (self.raw.store().log.hard_state(), self.leads());
        let mut messages = ready.take_messages();
        let mut at_once = Vec::new();
        if leads && durable.term == self.raw.raft.term {
            at_once = mem::take(&mut messages);
        }
        messages.extend(ready.take_persisted_messages());
        let next = &mut self.appends.next;
        next.promised.ready = ready.number();
        next.hard = ready.hs().map(convert::hard_from_raft).or(next.hard);
        next.must_sync |= ready.must_sync();
        for message in messages {
            if !must_wait(&message) {
                at_once.push(message);
            } else if next.promised.messages.len() < MESSAGES_MAX {
                next.promised.messages.push(message);
            }
        }
        at_once
    }

    /// Starts the next append, or the purge that is due, unless the disk is at work. What needs no
    /// append is true at once.
    pub(super) fn start_append(&mut self) -> Result<(), RaftError> {
        if self.appends.in_flight.is_some() {
            return Ok(());
        }
        let next = mem::take(&mut self.appends.next);
        if !next.must_sync && next.conf.is_none() {
            self.appends.next.hard = next.hard;
            self.keep(next.promised);
            return self.start_purge();
        }
        let store = self.raw.mut_store();
        let append = Append {
            reset: None,
            hard: next.hard,
            conf: next.conf,
            entries: store.unsynced().cloned().collect(),
        };
        if let Some(planned) = store.log.plan(append)? {
            self.start(planned, Some(next.promised));
        }
        Ok(())
    }

    /// Writes one append and waits for it; nothing may be on its way.
    pub(super) fn append_now(&mut self, append: Append) -> Result<(), RaftError> {
        if let Some(planned) = self.raw.mut_store().log.plan(append)? {
            self.start(planned, None);
            self.await_disk()?;
        }
        Ok(())
    }

    fn start(&mut self, planned: crate::log::Planned, append: Option<Promised>) {
        self.appends.in_flight = Some(Flight {
            since: Instant::now(),
            append,
        });
        self.appends.disk.give(planned);
    }

    /// Takes what the sync thread has done since, if it has.
    pub(super) fn look_at_disk(&mut self) -> Result<(), RaftError> {
        match self.inbox.take_written() {
            Some(written) => self.settle(written),
            None => Ok(()),
        }
    }

    fn await_disk(&mut self) -> Result<(), RaftError> {
        // The sync thread has said why it ended.
        let written = self.inbox.wait_written().ok_or(LogError::Failed)?;
        self.settle(written)
    }

    /// Notes what is durable now, and keeps what was promised for then.
    fn settle(&mut self, written: Written) -> Result<(), RaftError> {
        let flight = self
            .appends
            .in_flight
            .take()
            .expect("it was given to the disk");
        self.raw.mut_store().settle(written)?;
        let took = flight.since.elapsed();
        metrics::histogram!("megalith_meta_sync_seconds").record(took);
        self.appends.times.note(took, Instant::now());
        if let Some(promised) = flight.append {
            self.keep(promised);
        }
        Ok(())
    }

    fn keep(&mut self, promised: Promised) {
        if promised.ready > 0 {
            self.raw.on_persist_ready(promised.ready);
        }
        self.send_all(promised.messages);
    }

    /// Waits until nothing is on its way to the disk. Not within a `Ready`: raft hears of what
    /// became durable.
    pub(super) fn flush(&mut self) -> Result<(), RaftError> {
        loop {
            self.start_append()?;
            if self.appends.in_flight.is_none() {
                return Ok(());
            }
            self.await_disk()?;
        }
    }

    /// Makes the members durable, with all that is on its way.
    pub(super) fn append_conf(&mut self, conf: Conf) -> Result<(), RaftError> {
        self.appends.next.conf = Some(conf);
        self.flush()
    }

    /// Waits for what the disk does now, at the end of this log. Nothing is said of it any more.
    pub(super) fn end_appends(&mut self) -> Result<(), RaftError> {
        if self.appends.in_flight.take().is_some() {
            let written = self.inbox.wait_written().ok_or(LogError::Failed)?;
            self.raw.mut_store().settle(written)?;
        }
        Ok(())
    }

    /// True if raft wants the log cut back or replaced.
    pub(super) fn cuts_log(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        let cut = !log.unstable.entries.is_empty()
            && ::raft::Storage::last_index(&log.store)
                .is_ok_and(|last| log.unstable.offset <= last);
        cut || self.raw.snap().is_some()
    }

    /// Notes that the rows up to `checkpointed` are durable: the log can be purged behind them.
    pub(super) fn purge(&mut self, checkpointed: Mark) {
        self.appends.purge = Some(checkpointed);
    }

    /// Drops log that neither this member nor a living follower needs, nor one that fetches a
    /// snapshot: it goes on behind that.
    fn start_purge(&mut self) -> Result<(), RaftError> {
        let Some(checkpointed) = self.appends.purge.take() else {
            return Ok(());
        };
        let through = self.log_purgeable(checkpointed);
        let keep_bytes = self.settings.log_keep_bytes;
        let log = &mut self.raw.mut_store().log;
        if let Some(planned) = log.plan_purge(through, keep_bytes)? {
            tracing::debug!(through, "purging the raft log");
            self.start(planned, None);
        }
        Ok(())
    }
}
