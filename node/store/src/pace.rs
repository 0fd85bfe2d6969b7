//! How long the writer's turns take, so that a slow or hung disk can be named.
//!
//! A turn is what the writer's thread does without looking at its mail: it writes, syncs, tidies
//! up. What is measured begins before the first system call, so a turn that never ends is seen
//! while it hangs. Judges nothing: how slow is too slow depends on other disks.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Commits older than this say nothing of the disk as it is now.
pub const PACE_WINDOW: Duration = Duration::from_secs(3);
/// Commits that end within this time of each other are remembered together.
const STEP: Duration = Duration::from_millis(250);

/// How the writer of a disk has been doing lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskPace {
    /// Commits that made something durable and ended within [`PACE_WINDOW`].
    pub commits: u64,
    /// The time that these took.
    pub busy: Duration,
    /// How long the turn under way has taken; zero if there is none.
    pub running: Duration,
}

/// Measures the turns of one writer.
pub(super) struct PaceTracker {
    begun: Instant,
    turns: Mutex<Turns>,
}

impl PaceTracker {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            turns: Mutex::default(),
        }
    }

    /// A turn begins.
    pub(super) fn begin(&self) {
        let now = self.begun.elapsed();
        self.guard().running = Some(now);
    }

    /// The turn is over; `durable` if it was a commit that made something durable.
    pub(super) fn end(&self, durable: bool) {
        let now = self.begun.elapsed();
        self.guard().end(now, durable);
    }

    pub(super) fn read(&self) -> DiskPace {
        let now = self.begun.elapsed();
        self.guard().read(now)
    }

    fn guard(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turns of late. Times count from the opening of the disk.
#[derive(Default)]
struct Turns {
    /// When the turn under way began.
    running: Option<Duration>,
    /// At most as many as [`PACE_WINDOW`] has steps, and one more.
    ended: VecDeque<Step>,
}

/// Commits that ended one soon after the other.
struct Step {
    first: Duration,
    commits: u64,
    busy: Duration,
}

impl Turns {
    fn end(&mut self, now: Duration, durable: bool) {
        let Some(begun) = self.running.take() else {
            return;
        };
        if !durable {
            return;
        }
        self.forget(now);
        let took = now.saturating_sub(begun);
        match self.ended.back_mut() {
            Some(step) if now < step.first + STEP => {
                step.commits += 1;
                step.busy += took;
            }
            Some(_) | None => self.ended.push_back(Step {
                first: now,
                commits: 1,
                busy: took,
            }),
        }
    }

    fn read(&mut self, now: Duration) -> DiskPace {
        self.forget(now);
        DiskPace {
            commits: self.ended.iter().map(|step| step.commits).sum(),
            busy: self.ended.iter().map(|step| step.busy).sum(),
            running: self
                .running
                .map_or(Duration::ZERO, |begun| now.saturating_sub(begun)),
        }
    }

    fn forget(&mut self, now: Duration) {
        while let Some(step) = self.ended.front()
            && now.saturating_sub(step.first) > PACE_WINDOW
        {
            self.ended.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn turn(turns: &mut Turns, begun: Duration, took: Duration, durable: bool) {
        turns.running = Some(begun);
        turns.end(begun + took, durable);
    }

    #[test]
    fn commits_of_late_are_summed_and_old_ones_forgotten() {
        let mut turns = Turns::default();
        for number in 0..1_000 {
            turn(&mut turns, MS * 10 * number, MS * 4, true);
            turn(&mut turns, MS * (10 * number + 5), MS * 2, false);
        }
        let now = MS * 10_000;
        let pace = turns.read(now);
        // Three seconds have 300 commits; a step is forgotten as a whole.
        assert!((275..=300).contains(&pace.commits), "{pace:?}");
        assert_eq!(
            pace.busy,
            MS * 4 * u32::try_from(pace.commits).expect("few")
        );
        assert_eq!(pace.running, Duration::ZERO);
        assert!(turns.ended.len() <= 13, "{}", turns.ended.len());
        assert_eq!(turns.read(now + PACE_WINDOW + MS), DiskPace::default());
    }

    #[test]
    fn what_never_ends_is_seen_while_it_runs() {
        let mut turns = Turns::default();
        turn(&mut turns, MS, MS, true);
        turns.running = Some(MS * 10);
        assert_eq!(turns.read(MS * 10).running, Duration::ZERO);
        let later = PACE_WINDOW * 20;
        let hung = DiskPace {
            running: later - MS * 10,
            ..DiskPace::default()
        };
        assert_eq!(turns.read(later), hung);
        // It counts as a commit once it has come back, as long as that took.
        turns.end(later, true);
        let pace = turns.read(later);
        assert_eq!((pace.commits, pace.busy), (1, later - MS * 10));
        assert_eq!(pace.running, Duration::ZERO);
    }
}
