//! Linearizable reads on their way: all that wait in one round share one question to the leader.
//!
//! Raft drops such questions when the leader changes or has not committed in its term yet, so that
//! another one is asked when an answer is late. Whoever waits stays with the question that was
//! asked for it: an answer to that one is good, however late it comes, and so is one to any later
//! question. [`Alone`] spares the only voter the round.

use ::raft::{RawNode, Storage};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bytes of a question's context.
const CONTEXT_LEN: usize = 24;

pub(super) type ReadWaiter = oneshot::Sender<u64>;

/// Whether this member leads and is the only member, so that nothing is answered but by itself: a
/// read then sees everything that was answered before if it sees what is applied here.
///
/// Another leader can only come to be by a message of this member: a vote, or what tells another
/// of its being a voter. The driver therefore looks again before each message leaves; between two
/// looks this cannot be wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alone(Arc<AtomicBool>);

impl Alone {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn set(&self, alone: bool) {
        self.0.store(alone, Ordering::SeqCst);
    }
}

/// The driver's end, whatever brings it: from here on it answers nothing.
pub(super) struct NotAlone(pub(super) Alone);

impl Drop for NotAlone {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// The reads of one member.
pub(super) struct Reads {
    /// Member and life of the process: contexts must differ between all members.
    origin: [u8; 16],
    /// The newest question.
    last: u64,
    last_at: Instant,
    /// When those were forgotten who wait no more.
    tidied_at: Instant,
    waiting: Vec<ReadWaiter>,
    asked: VecDeque<Asked>,
    retry_after: Duration,
}

struct Asked {
    number: u64,
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
            last_at: Instant::now(),
            tidied_at: Instant::now(),
            waiting: Vec::new(),
            asked: VecDeque::new(),
            retry_after,
        }
    }

    pub(super) fn add(&mut self, waiter: ReadWaiter) {
        self.waiting.push(waiter);
    }

    /// Asks for all that have come since; and again if the last answer is late and anybody still
    /// waits for it.
    pub(super) fn ask<S: Storage>(&mut self, raw: &mut RawNode<S>, now: Instant) {
        if let Some(context) = self.question(now) {
            raw.read_index(context);
        }
    }

    fn question(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now >= self.tidied_at + self.retry_after {
            self.tidied_at = now;
            self.forget_gone();
        }
        let again = now >= self.last_at + self.retry_after && !self.asked.is_empty();
        if self.waiting.is_empty() && !again {
            return None;
        }
        self.last += 1;
        self.last_at = now;
        if !self.waiting.is_empty() {
            self.asked.push_back(Asked {
                number: self.last,
                waiters: std::mem::take(&mut self.waiting),
            });
        }
        let mut context = Vec::with_capacity(CONTEXT_LEN);
        context.extend_from_slice(&self.origin);
        context.extend_from_slice(&self.last.to_le_bytes());
        Some(context)
    }

    /// Forgets the waiters that have gone.
    fn forget_gone(&mut self) {
        self.asked.retain_mut(|asked| {
            asked.waiters.retain(|waiter| !waiter.is_closed());
            !asked.waiters.is_empty()
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    const RETRY: Duration = Duration::from_millis(200);

    fn waiter(reads: &mut Reads) -> oneshot::Receiver<u64> {
        let (waiter, answer) = oneshot::channel();
        reads.add(waiter);
        answer
    }

    #[test]
    fn an_answer_later_than_the_next_question_is_still_an_answer() {
        let mut reads = Reads::new(1, 7, RETRY);
        let begun = Instant::now();
        let mut first = waiter(&mut reads);
        let asked = reads.question(begun).expect("it is asked");
        assert!(reads.question(begun + RETRY / 2).is_none());
        // Never in time: another question each time, the last answer on its way.
        let mut again = Vec::new();
        for late in 1..=5 {
            again.push(reads.question(begun + RETRY * late).expect("asked again"));
        }
        let mut second = waiter(&mut reads);
        let newest = reads.question(begun + RETRY * 5).expect("it is asked");
        reads.answered(&asked, 40);
        assert_eq!(first.try_recv(), Ok(40));
        // What was asked before it came is of no use to it.
        reads.answered(&again[4], 41);
        assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
        let later = reads.question(begun + RETRY * 6).expect("asked again");
        assert_ne!(later, newest);
        reads.answered(&later, 42);
        assert_eq!(second.try_recv(), Ok(42));
        // Nobody waits any more.
        assert!(reads.question(begun + RETRY * 9).is_none());
    }

    #[test]
    fn nothing_is_asked_for_those_who_have_gone_nor_answered_from_elsewhere() {
        let mut reads = Reads::new(1, 7, RETRY);
        let begun = Instant::now();
        let mut stays = waiter(&mut reads);
        let context = reads.question(begun).expect("it is asked");
        let mut other = context.clone();
        other[0] ^= 1;
        reads.answered(&other, 9);
        assert_eq!(stays.try_recv(), Err(TryRecvError::Empty));
        drop(stays);
        assert!(reads.question(begun + RETRY).is_none());
    }
}
