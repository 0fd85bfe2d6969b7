//! When shards that are known to be damaged are read once more: a fault may have passed, of a
//! cable, a controller, or memory. Pure.

use megalith_model::shard::ShardId;
use std::collections::VecDeque;

/// From damage to the first look.
const FIRST_WAIT_MS: u64 = 10_000;
/// Each wait is so many times the one before …
const WAIT_GROWS: u64 = 6;
/// … and no longer than this.
const WAIT_MAX_MS: u64 = 24 * 3600 * 1000;
/// Between two shards of one round.
const STEP_MS: u64 = 100;

/// The rounds over the shards that are known to be damaged.
#[derive(Debug)]
pub(crate) struct Again {
    left: VecDeque<ShardId>,
    /// When the next shard is due, or the next round.
    at_ms: u64,
    wait_ms: u64,
    /// The number of the damage that the waits have grown for.
    changes: u64,
}

impl Again {
    /// Rounds over what is damaged already; `changes` grows with all damage that comes.
    pub(crate) fn new(now_ms: u64, changes: u64) -> Self {
        Self {
            left: VecDeque::new(),
            at_ms: now_ms.saturating_add(FIRST_WAIT_MS),
            wait_ms: FIRST_WAIT_MS,
            changes,
        }
    }

    /// Begins a round now.
    pub(crate) fn demand(&mut self, now_ms: u64) {
        self.left.clear();
        self.at_ms = now_ms;
        self.wait_ms = FIRST_WAIT_MS;
    }

    /// Returns the shard to read now. `damaged` lists all that are damaged, for a new round.
    pub(crate) fn step(
        &mut self,
        now_ms: u64,
        changes: u64,
        damaged: impl FnOnce() -> Vec<ShardId>,
    ) -> Option<ShardId> {
        // A clock that was set back.
        self.at_ms = self.at_ms.min(now_ms.saturating_add(WAIT_MAX_MS));
        if changes != self.changes {
            self.changes = changes;
            self.wait_ms = FIRST_WAIT_MS;
            self.at_ms = self.at_ms.min(now_ms.saturating_add(FIRST_WAIT_MS));
        }
        if now_ms < self.at_ms {
            return None;
        }
        if self.left.is_empty() {
            self.left = damaged().into();
        }
        let next = self.left.pop_front();
        if self.left.is_empty() {
            self.at_ms = now_ms.saturating_add(self.wait_ms);
            self.wait_ms = self.wait_ms.saturating_mul(WAIT_GROWS).min(WAIT_MAX_MS);
        } else {
            self.at_ms = now_ms.saturating_add(STEP_MS);
        }
        next
    }

    /// For how many milliseconds there is nothing to do.
    pub(crate) fn wait_ms(&self, now_ms: u64) -> u64 {
        self.at_ms.saturating_sub(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::{BlobId, VolumeId};

    fn shard(blob: u64) -> ShardId {
        ShardId {
            volume: VolumeId(1),
            blob: BlobId(blob),
            segment: 0,
            slot: 0,
        }
    }

    /// Steps over a minute's milliseconds; returns when each shard came up.
    fn run(again: &mut Again, from: u64, until: u64, changes: u64, all: &[u64]) -> Vec<(u64, u64)> {
        let mut seen = Vec::new();
        let mut now = from;
        while now < until {
            let damaged = || all.iter().copied().map(shard).collect();
            if let Some(shard) = again.step(now, changes, damaged) {
                seen.push((now, shard.blob.0));
            }
            now += again.wait_ms(now).max(1);
        }
        seen
    }

    #[test]
    fn rounds_come_seldom_when_nothing_changes_and_soon_after_new_damage() {
        let mut again = Again::new(0, 1);
        let seen = run(&mut again, 0, 200_000, 1, &[7, 8]);
        let rounds = [10_000, 20_100, 80_200];
        let expected: Vec<_> = rounds
            .into_iter()
            .flat_map(|at| [(at, 7), (at + 100, 8)])
            .collect();
        assert_eq!(seen, expected);
        let seen = run(&mut again, 200_000, 215_000, 2, &[9]);
        assert_eq!(seen, [(210_000, 9)]);
        again.demand(216_000);
        assert_eq!(run(&mut again, 216_000, 217_000, 2, &[9]), [(216_000, 9)]);
        // At most a day, whatever the clock says.
        let day = 24 * 3600 * 1000;
        let mut again = Again::new(1 << 50, 1);
        assert!(again.step(5, 1, Vec::new).is_none() && again.wait_ms(5) <= day);
        assert!(!run(&mut again, 5, 3 * day, 1, &[1]).is_empty());
    }

    #[test]
    fn without_damage_nothing_is_read() {
        let mut again = Again::new(0, 0);
        assert!(run(&mut again, 0, 10_000_000, 0, &[]).is_empty());
    }
}
