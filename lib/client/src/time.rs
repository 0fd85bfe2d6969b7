//! The group's time at a client: the leader's last word on it, reckoned on by a clock that nobody
//! can set. The client's own wall clock counts only until the leader has said something.

use crate::metadata::now_ms;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What a client knows of the group's time.
#[derive(Debug, Default)]
pub(crate) struct GroupTime {
    /// The leader's time, in milliseconds since 1970, and when it arrived.
    heard: Mutex<Option<(u64, Instant)>>,
}

impl GroupTime {
    /// Notes the time in a leader's answer; 0 means that it says none.
    pub(crate) fn hear(&self, time_ms: u64) {
        if time_ms > 0 {
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((time_ms, Instant::now()));
        }
    }

    /// Returns the group's time in milliseconds since 1970, too early by no more than an answer
    /// was on its way.
    pub(crate) fn now_ms(&self) -> u64 {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map_or_else(now_ms, |(time_ms, at)| {
            let since = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
            time_ms.saturating_add(since)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leaders_word_counts_and_the_own_clock_only_before_it() {
        let time = GroupTime::default();
        assert!(time.now_ms().abs_diff(now_ms()) < 60_000);
        time.hear(0);
        assert!(time.now_ms().abs_diff(now_ms()) < 60_000);
        for said in [5_000_000, 1_000_000] {
            time.hear(said);
            let now = time.now_ms();
            assert!((said..said + 60_000).contains(&now), "{said}: {now}");
        }
    }
}
