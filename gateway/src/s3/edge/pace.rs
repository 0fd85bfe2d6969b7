//! How slowly a client may send a body, or read one.
//!
//! Who sends or takes a byte every half a minute is never silent for long, and holds a body's
//! memory for as long as he likes. That is his right while there is memory for all. When it is
//! short, a body needs a pace. Only the time counts in which we wait for the client; what we can't
//! take yet is no fault of his.

use std::time::Duration;

/// The time that a client may be behind: at the beginning, and at the most later on.
const CREDIT: Duration = Duration::from_secs(30);
/// How often it is looked whether a client that we wait for is too slow.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The bytes for which a client gets a second back.
const BYTES_PER_S: u64 = 64 * 1024;

/// How far a body's sender is behind.
pub(super) struct Pace {
    left: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { left: CREDIT }
    }

    /// Counts time in which we waited for the client.
    pub(super) fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// Counts bytes that came.
    pub(super) fn came(&mut self, bytes: usize) {
        let earned = Duration::from_micros(bytes as u64 * 1_000_000 / BYTES_PER_S);
        self.left = CREDIT.min(self.left + earned);
    }

    /// Counts bytes that the client was given and has now to read, however many they are.
    pub(super) fn gave(&mut self, bytes: usize) {
        let needed = Duration::from_micros(bytes as u64 * 1_000_000 / BYTES_PER_S);
        self.left = CREDIT.min(self.left) + needed;
    }

    /// Returns whether the client is too slow, if memory is short.
    pub(super) fn is_slow(&self) -> bool {
        self.left.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the seconds until a client is too slow that sends some bytes each second; None if it
    /// is fast enough for an hour.
    fn slow_after(bytes_per_s: usize) -> Option<u32> {
        let mut pace = Pace::new();
        (1..3600).find(|_| {
            pace.waited(Duration::from_secs(1));
            let slow = pace.is_slow();
            pace.came(bytes_per_s);
            slow
        })
    }

    #[test]
    fn a_client_that_is_too_slow_for_long_is_found() {
        assert_eq!(slow_after(0), Some(30));
        assert_eq!(slow_after(1), Some(31));
        assert_eq!(slow_after(32 * 1024), Some(59));
        assert_eq!(slow_after(64 * 1024), None);
        assert_eq!(slow_after(1 << 30), None);
    }

    #[test]
    fn a_large_piece_may_take_as_long_as_small_ones() {
        let mut pace = Pace::new();
        for _ in 0..100 {
            pace.gave(4 << 20);
            pace.waited(Duration::from_secs(64));
            assert!(!pace.is_slow());
        }
        pace.gave(4 << 20);
        pace.waited(Duration::from_secs(64) + CREDIT);
        assert!(pace.is_slow());
    }

    #[test]
    fn what_came_early_counts_for_half_a_minute_only() {
        let mut pace = Pace::new();
        pace.came(1 << 40);
        pace.waited(CREDIT);
        assert!(pace.is_slow());
        pace.came(BYTES_PER_S as usize);
        assert!(!pace.is_slow());
    }
}
