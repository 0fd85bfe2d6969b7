//! What waits for the driver, in two queues with bounds of their own: other members' messages and
//! the member's own affairs, ahead of proposals, reads and whatever else is asked for. And, in a
//! place of its own, what the sync thread has written.
//!
//! Heartbeats and votes keep the group alive: thousands of waiting proposals must neither delay
//! them by more than a round nor take their place.

use super::{Input, ProposeError, RaftSettings};
use crate::log::Written;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Inputs of each queue taken in one round at most: what they propose is one append.
const ROUND_INPUTS: usize = 1024;
/// Bytes of proposals taken in one round, more or less: messages wait for their append.
const ROUND_BYTES: usize = 8 << 20;

/// One end of the inbox: whoever tells the driver something.
#[derive(Clone)]
pub(super) struct Outside {
    shared: Arc<Shared>,
}

/// The other end: the driver.
pub(crate) struct Inbox {
    shared: Arc<Shared>,
    /// Taken out, in order.
    round: VecDeque<Input>,
}

struct Shared {
    queues: Mutex<Queues>,
    filled: Condvar,
    emptied: Condvar,
}

struct Queues {
    urgent: Queue,
    rest: Queue,
    /// There is one append at a time.
    written: Option<Written>,
    /// The sync thread has ended.
    sync_ended: bool,
    /// The driver has ended.
    closed: bool,
}

struct Queue {
    inputs: VecDeque<Input>,
    bytes: usize,
    len_max: usize,
    bytes_max: usize,
}

/// Makes both ends.
pub(super) fn inbox(settings: &RaftSettings) -> (Outside, Inbox) {
    let queue = |len_max, bytes_max| Queue {
        inputs: VecDeque::new(),
        bytes: 0,
        len_max,
        bytes_max,
    };
    let shared = Arc::new(Shared {
        queues: Mutex::new(Queues {
            urgent: queue(settings.messages_len, settings.messages_bytes),
            rest: queue(settings.inbox_len, settings.inbox_bytes),
            written: None,
            sync_ended: false,
            closed: false,
        }),
        filled: Condvar::new(),
        emptied: Condvar::new(),
    });
    let outside = Outside {
        shared: shared.clone(),
    };
    let round = VecDeque::new();
    (outside, Inbox { shared, round })
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    fn of(&mut self, input: &Input) -> &mut Queue {
        match input.is_urgent() {
            true => &mut self.urgent,
            false => &mut self.rest,
        }
    }
}

impl Queue {
    fn push(&mut self, input: Input) {
        self.bytes += input.weight();
        self.inputs.push_back(input);
    }

    fn has_room(&self, weight: usize) -> bool {
        self.inputs.len() < self.len_max && self.bytes + weight <= self.bytes_max
    }

    fn take(&mut self, bytes_max: usize, round: &mut VecDeque<Input>) {
        let mut taken = 0;
        for _ in 0..ROUND_INPUTS {
            let Some(input) = self.inputs.pop_front() else {
                break;
            };
            taken += input.weight();
            round.push_back(input);
            if taken >= bytes_max {
                break;
            }
        }
        self.bytes -= taken;
    }
}

impl Outside {
    /// Hands an input over, unless too many of its kind wait already.
    pub(super) fn send(&self, input: Input) -> Result<(), ProposeError> {
        let mut queues = self.shared.queues();
        if queues.closed {
            return Err(ProposeError::Stopped);
        }
        let weight = input.weight();
        let queue = queues.of(&input);
        if !queue.has_room(weight) {
            return Err(ProposeError::Busy);
        }
        queue.push(input);
        drop(queues);
        self.shared.filled.notify_one();
        Ok(())
    }

    /// Hands an input over that must not be lost; blocks while too many wait.
    pub(super) fn send_blocking(&self, input: Input) {
        let mut queues = self.shared.queues();
        while !queues.closed {
            let queue = queues.of(&input);
            if queue.inputs.len() < queue.len_max {
                queue.push(input);
                drop(queues);
                self.shared.filled.notify_one();
                return;
            }
            let waited = self.shared.emptied.wait(queues);
            queues = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Outside {
    /// Hands over what the sync thread has written. Never blocks.
    pub(super) fn written(&self, written: Written) {
        self.shared.queues().written = Some(written);
        self.shared.filled.notify_one();
    }

    /// Says that nothing will be written any more.
    pub(super) fn sync_ended(&self) {
        self.shared.queues().sync_ended = true;
        self.shared.filled.notify_one();
    }
}

impl Inbox {
    /// What the sync thread has written since, if anything.
    pub(super) fn take_written(&mut self) -> Option<Written> {
        self.shared.queues().written.take()
    }

    /// Waits for what the sync thread writes, whatever else waits meanwhile. None if it has ended.
    pub(super) fn wait_written(&mut self) -> Option<Written> {
        let mut queues = self.shared.queues();
        loop {
            if let Some(written) = queues.written.take() {
                return Some(written);
            }
            if queues.sync_ended {
                return None;
            }
            let waited = self.shared.filled.wait(queues);
            queues = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until there is something, but not beyond `until`.
    pub(super) fn wait(&mut self, until: Instant) {
        if !self.round.is_empty() {
            return;
        }
        let mut queues = self.shared.queues();
        while queues.urgent.inputs.is_empty()
            && queues.rest.inputs.is_empty()
            && queues.written.is_none()
        {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.filled.wait_timeout(queues, left);
            (queues, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        queues.urgent.take(usize::MAX, &mut self.round);
        queues.rest.take(ROUND_BYTES, &mut self.round);
        drop(queues);
        self.shared.emptied.notify_all();
    }

    /// The next input of the round.
    pub(super) fn next(&mut self) -> Option<Input> {
        self.round.pop_front()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut queues = self.shared.queues();
        queues.closed = true;
        // Whoever waits for an answer learns that there is none.
        let left = (
            std::mem::take(&mut queues.urgent.inputs),
            std::mem::take(&mut queues.rest.inputs),
        );
        drop(queues);
        drop(left);
        self.shared.emptied.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_proto::v1;
    use std::thread;
    use std::time::Duration;
    use tokio::sync::oneshot;

    fn small() -> RaftSettings {
        RaftSettings {
            inbox_len: 3_000,
            inbox_bytes: 1 << 20,
            messages_len: 2,
            messages_bytes: 1 << 20,
            ..RaftSettings::default()
        }
    }

    fn read() -> Input {
        Input::Read(oneshot::channel().0)
    }

    fn proposal(len: usize) -> Input {
        Input::Propose {
            data: vec![0; len],
            reset: false,
            waiter: oneshot::channel().0,
        }
    }

    fn message() -> Input {
        Input::Message(v1::RaftMessage::default())
    }

    #[test]
    fn messages_pass_a_full_queue_of_proposals() {
        let (outside, mut inbox) = inbox(&small());
        while outside.send(read()).is_ok() {}
        assert_eq!(outside.send(read()), Err(ProposeError::Busy));
        // They have a bound of their own.
        assert_eq!(outside.send(message()), Ok(()));
        assert_eq!(outside.send(message()), Ok(()));
        assert_eq!(outside.send(message()), Err(ProposeError::Busy));
        let mut taken = Vec::new();
        for _ in 0..2 {
            inbox.wait(Instant::now());
            while let Some(input) = inbox.next() {
                taken.push(matches!(input, Input::Message(_)));
            }
            assert_eq!(outside.send(message()), Ok(()));
        }
        assert_eq!(&taken[..3], [true, true, false]);
        // One that came later passes those that are left.
        let second = taken.iter().skip(2).position(|&message| message);
        assert!(second.is_some_and(|at| at < 2_100), "{second:?}");
    }

    #[test]
    fn proposals_of_one_round_are_bounded_in_bytes() {
        let settings = RaftSettings {
            inbox_bytes: 64 << 20,
            ..small()
        };
        let (outside, mut inbox) = inbox(&settings);
        while outside.send(proposal(1 << 20)).is_ok() {}
        inbox.wait(Instant::now());
        let round = std::iter::from_fn(|| inbox.next()).count();
        assert!((7..=9).contains(&round), "{round}");
        // What was taken makes room.
        assert_eq!(outside.send(proposal(1 << 20)), Ok(()));
    }

    #[test]
    fn what_must_not_be_lost_waits_for_room_and_nobody_waits_for_a_driver_that_is_gone() {
        let (outside, mut inbox) = inbox(&small());
        assert!(outside.send(message()).is_ok() && outside.send(message()).is_ok());
        let (asker, mut answer) = oneshot::channel();
        outside.send(Input::Read(asker)).expect("room");
        let blocked = outside.clone();
        let stop = thread::spawn(move || blocked.send_blocking(Input::Stop));
        let mut stopped = false;
        while !stopped {
            inbox.wait(Instant::now() + Duration::from_secs(10));
            while let Some(input) = inbox.next() {
                stopped |= matches!(input, Input::Stop);
                // Not dropped: its asker waits.
                if let Input::Read(asker) = input {
                    outside.send(Input::Read(asker)).expect("room");
                }
            }
        }
        stop.join().expect("no panic");
        assert!(
            answer
                .try_recv()
                .is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
        );
        drop(inbox);
        assert!(
            answer
                .try_recv()
                .is_err_and(|error| error == oneshot::error::TryRecvError::Closed)
        );
        assert_eq!(outside.send(read()), Err(ProposeError::Stopped));
        outside.send_blocking(Input::Stop);
    }
}
