//! Latencies of an open loop: what they were, and what of that is told.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a failed request counts as: clients would still wait for it.
pub const FAILED: Duration = Duration::from_secs(30);

/// The outcomes of requests.
#[derive(Debug, Default)]
pub struct Outcomes {
    taken: Vec<Duration>,
    /// How often each kind of failure occurred.
    failures: BTreeMap<String, u64>,
}

impl Outcomes {
    /// Notes a request that took so long from its intended start, or why it failed.
    pub fn note(&mut self, outcome: Result<Duration, String>) {
        match outcome {
            Ok(taken) => self.taken.push(taken),
            Err(why) => {
                self.taken.push(FAILED);
                *self.failures.entry(why).or_default() += 1;
            }
        }
    }

    /// Returns how many there were.
    pub fn count(&self) -> usize {
        self.taken.len()
    }

    /// Returns the latency in milliseconds below which `share` of all requests are.
    fn quantile_ms(&self, share: f64) -> f64 {
        let last = self.taken.len().saturating_sub(1);
        let at = ((self.taken.len() as f64 * share) as usize).min(last);
        self.taken
            .get(at)
            .map_or(0.0, |taken| taken.as_secs_f64() * 1e3)
    }

    /// Returns what is told of them.
    pub fn told(mut self) -> Value {
        self.taken.sort_unstable();
        let failed: u64 = self.failures.values().sum();
        json!({
            "requests": self.taken.len(),
            "failed": failed,
            "failures": self.failures,
            "p50_ms": self.quantile_ms(0.5),
            "p90_ms": self.quantile_ms(0.9),
            "p99_ms": self.quantile_ms(0.99),
            "max_ms": self.quantile_ms(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_long_wait() {
        let mut outcomes = Outcomes::default();
        (1..=97).for_each(|ms| outcomes.note(Ok(Duration::from_millis(ms))));
        (0..3).for_each(|_| outcomes.note(Err("503".into())));
        let told = outcomes.told();
        assert_eq!(
            (&told["requests"], &told["failed"]),
            (&json!(100), &json!(3))
        );
        assert_eq!(told["p50_ms"], json!(51.0));
        assert_eq!(told["p99_ms"], json!(30_000.0));
        assert_eq!(Outcomes::default().told()["p99_ms"], json!(0.0));
    }
}
