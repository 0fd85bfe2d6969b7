//! Linearizable reads on their way: all that wait in one round share one question to the leader.
//!
//! Raft drops such questions when the leader changes or has not committed in its term yet, so that
//! each is asked again until it is answered or no caller waits for it any more.

use ::raft::{RawNode, Storage};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bytes of a question's context.
const CONTEXT_LEN: usize = 24;

pub(super) type ReadWaiter = oneshot::Sender<u64>;

/// The reads of one member.
pub(super) struct Reads {
    /// Member and life of the process: contexts must differ between all members.
    origin: [u8; 16],
    last: u64,
    waiting: Vec<ReadWaiter>,
    asked: VecDeque<Asked>,
    retry_after: Duration,
}

struct Asked {
    number: u64,
    at: Instant,
    waiters: Vec<ReadWaiter>,
}

impl Reads {
    /// `life` must differ from that of every earlier process of this member.
    pub(super) fn new(member: u64, life: u64, retry_after: Duration) -> Self {
        let mut origin = [0; 16];
        origin[..8].copy_from_slice(&member.to_le_bytes());
        origin[8..].copy_from_slice(&life.to_le_bytes());
        Self {
            origin,
            last: 0,
            waiting: Vec::new(),
            asked: VecDeque::new(),
            retry_after,
        }
    }

    pub(super) fn add(&mut self, waiter: ReadWaiter) {
        self.waiting.push(waiter);
    }

    /// Asks for all that wait, and again for those that have waited too long.
    pub(super) fn ask<S: Storage>(&mut self, raw: &mut RawNode<S>, now: Instant) {
        while self
            .asked
            .front()
            .is_some_and(|asked| now >= asked.at + self.retry_after)
        {
            let late = self.asked.pop_front().expect("just seen");
            self.waiting.extend(
                late.waiters
                    .into_iter()
                    .filter(|waiter| !waiter.is_closed()),
            );
        }
        if self.waiting.is_empty() {
            return;
        }
        self.last += 1;
        let waiters = std::mem::take(&mut self.waiting);
        self.asked.push_back(Asked {
            number: self.last,
            at: now,
            waiters,
        });
        let mut context = Vec::with_capacity(CONTEXT_LEN);
        context.extend_from_slice(&self.origin);
        context.extend_from_slice(&self.last.to_le_bytes());
        raw.read_index(context);
    }

    /// Answers every read asked before or with this context: all of them may read at `index`.
    pub(super) fn answered(&mut self, context: &[u8], index: u64) {
        let number = match context.strip_prefix(&self.origin).map(TryInto::try_into) {
            Some(Ok(number)) => u64::from_le_bytes(number),
            Some(Err(_)) | None => return,
        };
        while self
            .asked
            .front()
            .is_some_and(|asked| asked.number <= number)
        {
            for waiter in self.asked.pop_front().expect("just seen").waiters {
                // Nobody waits any more: fine.
                let _ = waiter.send(index);
            }
        }
    }
}
