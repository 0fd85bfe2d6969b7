//! One round of raft: send what may go at once, hand over to the disk what must be durable before
//! the rest, and to the apply thread what is committed.

use super::driver::Driver;
use super::{RaftError, convert, membership};
use crate::apply::ApplyTask;
use crate::log::{Append, EntryKind, LogEntry};
use ::raft::eraftpb::Entry;
use ::raft::{Ready, StateRole};

impl Driver {
    pub(super) fn process_ready(&mut self) -> Result<(), RaftError> {
        while self.raw.has_ready() {
            if self.cuts_log() {
                self.flush()?;
            }
            let mut ready = self.raw.ready();
            if ready
                .ss()
                .is_some_and(|soft| soft.raft_state != StateRole::Leader)
            {
                self.waiters.fail_all();
            }
            for state in ready.take_read_states() {
                self.reads.answered(&state.request_ctx, state.index);
            }
            if ready.snapshot().get_metadata().index > 0 {
                self.install(ready)?;
                continue;
            }
            let at_once = self.hand_over_to_disk(&mut ready);
            // Raft lets a leader's appends go before its own are durable (thesis 10.2.1).
            self.send_all(at_once);
            let committed = ready.take_committed_entries();
            self.raw.advance_append_async(ready);
            self.start_append()?;
            self.deliver(committed)?;
        }
        Ok(())
    }

    /// Replaces log and rows by a snapshot that was fetched. Nothing is on its way to the disk.
    fn install(&mut self, mut ready: Ready) -> Result<(), RaftError> {
        let (mark, conf) = convert::snapshot_parts(ready.snapshot());
        let entries = ready.take_entries();
        let before = self.appends.take_hard();
        let hard = ready.hs().map(convert::hard_from_raft).or(before);
        self.append_now(Append {
            reset: Some(mark),
            hard,
            conf: Some(conf.clone()),
            entries: entries.into_iter().map(convert::entry_from_raft).collect(),
        })?;
        let staged = self.follow.take_staged().ok_or_else(|| {
            RaftError::Raft("a snapshot to install that was not fetched".to_owned())
        })?;
        self.waiters.fail_all();
        self.surroundings.members_are(&conf);
        self.tables.set_conf(conf);
        self.apply.push(ApplyTask::Switch {
            staged: staged.name,
            base: mark,
        });
        self.feed_next = mark.index + 1;
        self.delivered = mark.index;
        let messages = ready.take_persisted_messages();
        self.send_all(messages);
        let mut light = self.raw.advance_append(ready);
        self.raw.advance_apply_to(mark.index);
        self.send_all(light.take_messages());
        self.deliver(light.take_committed_entries())
    }

    /// Takes committed entries: changes of members at once, all others for the apply thread.
    fn deliver(&mut self, entries: Vec<Entry>) -> Result<(), RaftError> {
        let entries: Vec<LogEntry> = entries.into_iter().map(convert::entry_from_raft).collect();
        let Some((first, last)) = entries.first().zip(entries.last()) else {
            return Ok(());
        };
        let (first, last) = (first.index, last.index);
        for entry in entries
            .iter()
            .filter(|entry| entry.kind != EntryKind::Normal)
        {
            self.change_members(entry)?;
        }
        self.delivered = self.delivered.max(last);
        let wanted = !self.follow.rebuilding() && first <= self.feed_next;
        if wanted && self.feed_next <= last && self.apply.has_room() {
            let skip = usize::try_from(self.feed_next - first).expect("within the entries");
            self.feed(entries.into_iter().skip(skip).collect());
        }
        Ok(())
    }

    fn change_members(&mut self, entry: &LogEntry) -> Result<(), RaftError> {
        if entry.index <= self.raw.store().log.conf().index {
            return Ok(());
        }
        let change = membership::decode(entry)?;
        let state = self
            .raw
            .apply_conf_change(&change)
            .map_err(|error| RaftError::Raft(format!("change of members: {error}")))?;
        let before = self.raw.store().log.conf();
        let conf = membership::changed(before, &change, &state, entry.index);
        tracing::info!(?conf, "metadata members changed");
        self.tables.set_conf(conf.clone());
        self.surroundings.members_are(&conf);
        // Durable before the entry counts as applied.
        self.append_conf(conf)
    }
}
