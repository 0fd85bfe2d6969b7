//! How quickly a member's log is synced, and when the lead should go where that is quicker.
//!
//! A command is answered when it is durable and applied where the lead is: a slow disk there slows
//! the whole group, while one elsewhere slows nobody. Members tell each other with every message
//! how long their syncs take. Pure: time comes in as an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Syncs that are remembered at most.
const SYNCS_MAX: usize = 64;
/// Fewer say nothing of a disk.
const SYNCS_MIN: usize = 8;
/// Older ones say nothing of it now.
const SYNCS_AGE_MAX: Duration = Duration::from_secs(10);
/// Only members so many times quicker are worth a change of leaders.
const QUICKER: u32 = 4;

/// How long the last syncs took.
#[derive(Default)]
pub(super) struct SyncTimes(VecDeque<(Instant, Duration)>);

/// How a disk does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// For how long the disk has not answered.
    pub(super) waiting: Duration,
    /// What its last syncs took, the median; zero if too few are known.
    pub(super) typical: Duration,
}

/// From when on a leader's disk is too slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct PaceLimits {
    /// It has not answered for this long.
    pub(super) hangs: Duration,
    /// Its typical sync takes this long.
    pub(super) slow: Duration,
}

impl SyncTimes {
    pub(super) fn note(&mut self, took: Duration, now: Instant) {
        self.0.push_back((now, took));
        if self.0.len() > SYNCS_MAX {
            self.0.pop_front();
        }
    }

    pub(super) fn pace(&self, waiting_since: Option<Instant>, now: Instant) -> Pace {
        let lately = |&&(at, _): &&(Instant, Duration)| now.duration_since(at) <= SYNCS_AGE_MAX;
        let mut took: Vec<Duration> = self
            .0
            .iter()
            .filter(lately)
            .map(|(_, took)| *took)
            .collect();
        took.sort_unstable();
        let typical = if took.len() < SYNCS_MIN {
            Duration::ZERO
        } else {
            took[took.len() / 2]
        };
        let waiting = waiting_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        Pace { waiting, typical }
    }
}

impl Pace {
    /// What a member tells the others.
    pub(super) fn worst(self) -> Duration {
        self.waiting.max(self.typical)
    }

    /// True for another member whose disk, by what it tells, is so much quicker that the lead is
    /// worth moving to it.
    pub(super) fn is_far_behind(self, other: Duration) -> bool {
        other.saturating_mul(QUICKER) <= self.worst()
    }
}

/// Whether a leader's disk is too slow and those of enough others are not. `others` are the other
/// voters; None for one that isn't heard. They must be a majority without this member: a vote
/// waits for the voter's disk, and so does all that they commit.
pub(super) fn others_are_quicker(
    own: Pace,
    others: &[Option<Duration>],
    limits: PaceLimits,
) -> bool {
    let too_slow = own.waiting >= limits.hangs || own.typical >= limits.slow;
    let quicker = others.iter().flatten();
    let quicker = quicker.filter(|&&other| own.is_far_behind(other)).count();
    let voters = others.len() + 1;
    too_slow && quicker * 2 > voters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_lead_moves_only_from_a_slow_disk_to_a_majority_of_quick_ones() {
        let limits = PaceLimits {
            hangs: ms(500),
            slow: ms(100),
        };
        for (waiting, typical, others, moves) in [
            // Quick enough, or nothing known yet.
            (0, 0, &[Some(0), Some(0)][..], false),
            (499, 99, &[Some(0), Some(0)], false),
            // It hangs; they don't.
            (500, 2, &[Some(2), Some(125)], true),
            (9_000, 2, &[Some(0), Some(0)], true),
            // Each sync is slow; theirs are not.
            (0, 100, &[Some(25), Some(0)], true),
            // All hang, all are slow, or not different enough.
            (500, 2, &[Some(500), Some(480)], false),
            (0, 200, &[Some(190), Some(51)], false),
            (500, 2, &[Some(126), Some(0)], false),
            // No majority without it: one hangs too, isn't heard, or there is no third.
            (900, 2, &[Some(0), Some(900)], false),
            (900, 2, &[Some(0), None], false),
            (900, 2, &[Some(0)], false),
            (900, 2, &[], false),
            // Three of five.
            (900, 2, &[Some(0), Some(0), Some(0), None], true),
            (900, 2, &[Some(0), Some(0), Some(880), None], false),
        ] {
            let own = Pace {
                waiting: ms(waiting),
                typical: ms(typical),
            };
            let found = others_are_quicker(own, &to_durations(others), limits);
            assert_eq!(found, moves, "{own:?} {others:?}");
        }
    }

    fn to_durations(others: &[Option<u64>]) -> Vec<Option<Duration>> {
        others.iter().map(|other| other.map(ms)).collect()
    }

    #[test]
    fn a_disk_is_known_by_the_median_of_its_last_syncs() {
        let begun = Instant::now();
        let mut times = SyncTimes::default();
        let typical = |times: &SyncTimes, after| times.pace(None, begun + ms(after)).typical;
        for number in 0..SYNCS_MIN as u64 - 1 {
            times.note(ms(300), begun + ms(number));
        }
        assert_eq!(typical(&times, 10), ms(0), "too few");
        times.note(ms(300), begun + ms(10));
        assert_eq!(typical(&times, 10), ms(300));
        // One that is late is no slow disk.
        for number in 0..SYNCS_MAX as u64 {
            let took = if number % 3 == 0 { 5_000 } else { 1 };
            times.note(ms(took), begun + ms(20 + number));
        }
        assert_eq!(typical(&times, 100), ms(1));
        assert_eq!(typical(&times, 100 + 11_000), ms(0), "too old");
        let waits = times.pace(Some(begun), begun + ms(700));
        assert_eq!((waits.waiting, waits.worst()), (ms(700), ms(700)));
    }
}
