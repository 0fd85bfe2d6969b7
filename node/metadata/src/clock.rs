//! The group's time at one member: whether its own clock agrees with the other members', and what
//! it stamps entries with while it leads.
//!
//! [`judge`] is pure. The driver tells a [`GroupClock`] what it found; the handle and the apply
//! thread share it. Time in rows never runs back: apply takes the greatest stamp
//! ([`megalith_model::machine::apply`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How far the clocks of members that agree may be apart, in milliseconds.
pub(crate) const APART_MAX_MS: i64 = 60_000;

/// Whether a member's clock can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockStanding {
    /// More than half of the voters, this member among them, agree.
    #[default]
    Agrees,
    /// No such majority is heard, neither with this member nor without it.
    Unknown,
    /// More than half of the voters agree, and this member's clock is ahead of theirs by so many
    /// milliseconds (negative: behind).
    Apart { ahead_ms: i64 },
}

/// Judges a voter's clock by how far those of the other voters are ahead of it, in milliseconds;
/// None for one that isn't heard.
pub(crate) fn judge(others: &[Option<i64>]) -> ClockStanding {
    let voters = others.len() + 1;
    let mut heard: Vec<i64> = others.iter().flatten().copied().collect();
    heard.push(0);
    heard.sort_unstable();
    let is_majority = |clocks: &[i64]| clocks.len() * 2 > voters;
    let agreeing = heard.iter().enumerate().map(|(first, low)| {
        let end = heard.partition_point(|clock| clock.saturating_sub(*low) <= APART_MAX_MS);
        &heard[first..end]
    });
    let mut apart = None;
    for clocks in agreeing.filter(|clocks| is_majority(clocks)) {
        if clocks.contains(&0) {
            return ClockStanding::Agrees;
        }
        apart = Some(clocks[clocks.len() / 2].saturating_neg());
    }
    apart.map_or(ClockStanding::Unknown, |ahead_ms| ClockStanding::Apart {
        ahead_ms,
    })
}

/// Tells the group's time at one member. Cheap to clone; clones share it.
#[derive(Clone)]
pub(crate) struct GroupClock {
    shared: Arc<Shared>,
}

struct Shared {
    wall: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// The greatest stamp in the rows here.
    applied_ms: AtomicU64,
    state: Mutex<State>,
}

struct State {
    standing: ClockStanding,
    /// While the standing is unknown: the time from which to reckon on.
    base: Option<(u64, Instant)>,
    /// What the own clock showed when it was last found to agree, and when that was: clients are
    /// told this, reckoned on, so that they never hear of a jump before it is judged.
    agreed: Option<(u64, Instant)>,
}

impl GroupClock {
    /// `wall` is the member's own clock, in milliseconds since 1970.
    pub(crate) fn new(wall: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        Self {
            shared: Arc::new(Shared {
                wall,
                applied_ms: AtomicU64::new(0),
                state: Mutex::new(State {
                    standing: ClockStanding::Agrees,
                    base: None,
                    agreed: None,
                }),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// The member's own clock, right or wrong.
    pub(crate) fn wall_ms(&self) -> u64 {
        (self.shared.wall)()
    }

    pub(crate) fn standing(&self) -> ClockStanding {
        self.state().standing
    }

    /// Notes the time in the rows, as of the last entry applied.
    pub(crate) fn note_applied(&self, applied_ms: u64) {
        self.shared.applied_ms.store(applied_ms, Ordering::Release);
    }

    /// Notes how this member's clock stands among the others'; whether it `leads` only decides what
    /// is worth a line in the log.
    pub(crate) fn note_standing(&self, standing: ClockStanding, leads: bool) {
        let mut state = self.state();
        if standing == ClockStanding::Agrees {
            state.agreed = Some((self.wall_ms(), Instant::now()));
        }
        let (was, is_apart) = (
            state.standing,
            matches!(standing, ClockStanding::Apart { .. }),
        );
        state.standing = standing;
        // How far it is apart differs from moment to moment; that is no news.
        if was == standing || is_apart && matches!(was, ClockStanding::Apart { .. }) {
            return;
        }
        if standing == ClockStanding::Unknown {
            // What the group has last agreed on: its rows know it.
            let applied_ms = self.shared.applied_ms.load(Ordering::Acquire);
            state.base = (applied_ms > 0).then(|| (applied_ms, Instant::now()));
        } else {
            state.base = None;
        }
        match standing {
            ClockStanding::Agrees => tracing::debug!("this member's clock agrees with the others'"),
            ClockStanding::Unknown if !leads => {}
            ClockStanding::Unknown => {
                tracing::warn!("no majority of the members' clocks agree; time is reckoned on");
            }
            ClockStanding::Apart { ahead_ms } => tracing::error!(
                ahead_ms,
                "this member's clock is wrong: it is far from the other members'; it will not lead"
            ),
        }
    }

    /// What this member stamps entries with while it leads, in milliseconds since 1970. It may be
    /// before a time that is in the rows: apply takes the greater one, unless a command has just
    /// set the rows' time back.
    pub(crate) fn stamp_ms(&self) -> u64 {
        let base = self.state().base;
        base.map_or_else(|| self.wall_ms(), reckon)
    }

    /// The group's time if this member leads, in milliseconds since 1970, as clients are told it.
    /// Never before a time that is in the rows. None while this member's clock is wrong.
    pub(crate) fn now_ms(&self) -> Option<u64> {
        let (standing, known) = {
            let state = self.state();
            (state.standing, state.base.or(state.agreed))
        };
        if matches!(standing, ClockStanding::Apart { .. }) {
            return None;
        }
        let applied_ms = self.shared.applied_ms.load(Ordering::Acquire);
        let now_ms = known.map_or_else(|| self.wall_ms(), reckon);
        Some(now_ms.max(applied_ms))
    }

    /// Goes on from this member's own clock, whatever the rows say. Returns the stamp for the
    /// command that sets the rows' time to it.
    pub(crate) fn reset(&self) -> u64 {
        let wall_ms = self.wall_ms();
        let mut state = self.state();
        state.base = state.base.map(|_| (wall_ms, Instant::now()));
        state.agreed = state.agreed.map(|_| (wall_ms, Instant::now()));
        wall_ms
    }
}

fn reckon((from_ms, since): (u64, Instant)) -> u64 {
    let since = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    from_ms.saturating_add(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ClockStanding::{Agrees, Apart, Unknown};

    const YEAR: i64 = 365 * 24 * 3_600 * 1_000;

    #[test]
    fn a_majority_decides_who_is_wrong() {
        for (others, standing) in [
            (&[][..], Agrees),
            (&[Some(5), Some(-59_000)], Agrees),
            (&[Some(40_000), Some(-40_000)], Agrees),
            (&[None, Some(YEAR), Some(3), Some(-3)], Agrees),
            // Two of three that can't be told apart, and too few that are heard.
            (&[None, Some(YEAR)], Unknown),
            (&[None, None], Unknown),
            (&[Some(-YEAR), Some(YEAR)], Unknown),
            (&[Some(YEAR)], Unknown),
            (
                &[Some(YEAR), Some(YEAR + 9)],
                Apart {
                    ahead_ms: -YEAR - 9,
                },
            ),
            (&[Some(-YEAR), Some(1 - YEAR)], Apart { ahead_ms: YEAR - 1 }),
            (&[Some(i64::MIN), Some(i64::MAX)], Unknown),
        ] {
            assert_eq!(judge(others), standing, "{others:?}");
        }
    }

    #[test]
    fn time_is_the_own_clock_unless_nobody_agrees() {
        let wall = Arc::new(AtomicU64::new(5_000_000));
        let shown = wall.clone();
        let clock = GroupClock::new(Arc::new(move || shown.load(Ordering::Relaxed)));
        let near = |now_ms: Option<u64>, wanted: u64| {
            now_ms.is_some_and(|now_ms| (wanted..wanted + 60_000).contains(&now_ms))
        };
        assert!(near(clock.now_ms(), 5_000_000));
        // Without any time in the rows there is only the own clock.
        clock.note_standing(Unknown, true);
        assert!(near(clock.now_ms(), 5_000_000));
        clock.note_standing(Agrees, true);
        clock.note_applied(5_500_000);
        assert!(near(clock.now_ms(), 5_500_000));
        clock.note_standing(Unknown, true);
        wall.store(90_000_000, Ordering::Relaxed);
        assert!(near(clock.now_ms(), 5_500_000));
        clock.note_standing(Agrees, true);
        assert!(near(clock.now_ms(), 90_000_000));
    }

    #[test]
    fn nobody_is_told_a_time_that_is_not_judged_yet_or_wrong() {
        let wall = Arc::new(AtomicU64::new(5_000_000));
        let shown = wall.clone();
        let clock = GroupClock::new(Arc::new(move || shown.load(Ordering::Relaxed)));
        clock.note_standing(Agrees, true);
        wall.store(900_000_000, Ordering::Relaxed);
        let told = clock.now_ms().expect("it agreed a moment ago");
        assert!((5_000_000..5_060_000).contains(&told), "{told}");
        clock.note_standing(
            Apart {
                ahead_ms: 895_000_000,
            },
            true,
        );
        assert_eq!(clock.now_ms(), None);
    }

    #[test]
    fn a_reset_counts_for_the_stamps_behind_it() {
        let clock = GroupClock::new(Arc::new(|| 5_000_000));
        clock.note_applied(900_000_000);
        for standing in [Agrees, Unknown] {
            clock.note_standing(standing, true);
            assert_eq!(clock.reset(), 5_000_000);
            // Before the reset is applied, others are told what the rows say.
            assert!(clock.now_ms() >= Some(900_000_000));
            let stamp = clock.stamp_ms();
            assert!((5_000_000..5_060_000).contains(&stamp), "{stamp}");
        }
    }
}
