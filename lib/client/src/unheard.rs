//! Since when the metadata group has answered nobody in this process.
//!
//! Owns one moment: the start of the first call since the last answer. A process whose callers
//! can't wait is told at once that there will be no answer. Something must go on calling all the
//! while, or nobody would notice that the group is back.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

#[derive(Default)]
pub(crate) struct Unheard {
    /// After how long callers are told at once; not set if they always wait.
    limit: OnceLock<Duration>,
    since: Mutex<Option<Instant>>,
}

impl Unheard {
    /// From now on callers are told at once when nothing was answered for `limit`. The first
    /// setting counts.
    pub(crate) fn give_up_after(&self, limit: Duration) {
        let _ = self.limit.set(limit);
    }

    pub(crate) fn asked(&self) {
        self.since().get_or_insert_with(Instant::now);
    }

    pub(crate) fn answered(&self) {
        *self.since() = None;
    }

    /// Returns for how long nothing has been answered, if that is the limit or more.
    pub(crate) fn lasting(&self) -> Option<Duration> {
        let silent = (*self.since())?.elapsed();
        Some(silent).filter(|silent| self.limit.get().is_some_and(|limit| silent >= limit))
    }

    /// Waits until nothing has been answered for the limit, and returns for how long.
    pub(crate) async fn lasts(&self) -> Duration {
        loop {
            if let Some(silent) = self.lasting() {
                return silent;
            }
            let (since, limit) = (*self.since(), self.limit.get());
            match (since, limit) {
                (Some(since), Some(&limit)) => sleep_until(since + limit).await,
                (None, Some(&limit)) => sleep(limit).await,
                (_, None) => std::future::pending().await,
            }
        }
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says it for people.
pub(crate) fn said(silent: Duration) -> String {
    let silent_s = silent.as_secs();
    format!("no leader of the metadata group has answered for {silent_s} s")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_the_limit_and_not_before_and_an_answer_ends_it() {
        let unheard = Unheard::default();
        unheard.asked();
        advance(LIMIT * 2).await;
        assert_eq!(unheard.lasting(), None, "no limit was set");
        unheard.answered();
        unheard.give_up_after(LIMIT);
        unheard.asked();
        advance(LIMIT / 2).await;
        // The first call since the answer counts.
        unheard.asked();
        assert_eq!(unheard.lasting(), None);
        assert_eq!(unheard.lasts().await, LIMIT);
        let expected = "no leader of the metadata group has answered for 5 s";
        assert_eq!(said(LIMIT), expected);
        unheard.answered();
        assert_eq!(unheard.lasting(), None);
        assert!(timeout(LIMIT * 3, unheard.lasts()).await.is_err());
    }
}
