//! The budget for asking a second slot: a share of all requests, so that slow nodes never cause a
//! flood of requests.

use super::lock::lock;
use std::sync::Mutex;

/// How many requests may be saved up.
const SAVED_MAX: u64 = 20;

/// The budget, in hundredths of a request.
pub struct HedgeBudget {
    percent: u64,
    saved: Mutex<u64>,
}

impl HedgeBudget {
    /// Starts with a full budget; each request earns `percent` hundredths of another.
    pub fn new(percent: u32) -> Self {
        let saved = if percent == 0 { 0 } else { SAVED_MAX * 100 };
        Self {
            percent: u64::from(percent),
            saved: Mutex::new(saved),
        }
    }

    /// Counts a request.
    pub fn earn(&self) {
        let mut saved = lock(&self.saved);
        *saved = (*saved + self.percent).min(SAVED_MAX * 100);
    }

    /// Takes a hedged request from the budget; false if none is left.
    pub fn spend(&self) -> bool {
        let mut saved = lock(&self.saved);
        let may = *saved >= 100;
        if may {
            *saved -= 100;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_share() {
        let budget = HedgeBudget::new(5);
        while budget.spend() {}
        let mut hedged = 0;
        for _ in 0..1000 {
            budget.earn();
            hedged += u32::from(budget.spend());
        }
        assert_eq!(hedged, 50);
        assert!(!HedgeBudget::new(0).spend());
    }
}
