//! Who waits for which proposal.
//!
//! A proposal is known by (term, index). It may vanish at a leader change: then no member can say
//! whether it will be applied, and its proposer proposes it again.

use crate::apply::{ProposeError, Waiter};
use crate::log::LogEntry;
use std::collections::VecDeque;

struct Waiting {
    index: u64,
    term: u64,
    waiter: Waiter,
}

/// Proposals of this member that are not yet on their way to apply, by index.
#[derive(Default)]
pub(super) struct Waiters(VecDeque<Waiting>);

impl Waiters {
    pub(super) fn add(&mut self, index: u64, term: u64, waiter: Waiter) {
        self.0.push_back(Waiting {
            index,
            term,
            waiter,
        });
    }

    /// Takes those of committed `entries`, with their indexes. One whose place another entry has
    /// taken is told that its fate isn't known to us.
    pub(super) fn take(&mut self, entries: &[LogEntry]) -> Vec<(u64, Waiter)> {
        let Some((first, last)) = entries.first().zip(entries.last()) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        while self
            .0
            .front()
            .is_some_and(|waiting| waiting.index <= last.index)
        {
            let Waiting {
                index,
                term,
                waiter,
            } = self.0.pop_front().expect("just seen");
            let position = index
                .checked_sub(first.index)
                .and_then(|at| usize::try_from(at).ok());
            match position.and_then(|at| entries.get(at)) {
                Some(entry) if entry.term == term => taken.push((index, waiter)),
                Some(_) | None => answer_unknown(waiter),
            }
        }
        taken
    }

    /// Tells everybody that their proposals' fate isn't known.
    pub(super) fn fail_all(&mut self) {
        for waiting in self.0.drain(..) {
            answer_unknown(waiting.waiter);
        }
    }
}

fn answer_unknown(waiter: Waiter) {
    // Nobody waits any more: fine.
    let _ = waiter.send(Err(ProposeError::Unknown));
}
