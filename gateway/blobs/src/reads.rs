//! The reads that are under way, by the log index at which each looked up where its bytes are.
//!
//! The lowest index goes to the metadata leader with every beat: shards that were still named there
//! are not deleted while the read goes on.

use super::lock::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The reads under way. Cloned handles share them.
#[derive(Clone, Default)]
pub struct Reads {
    /// How many go on at each index.
    counts: Arc<Mutex<BTreeMap<u64, usize>>>,
}

/// A read that goes on: keep it as long as its bytes may be asked for.
pub struct Reading {
    index: u64,
    reads: Reads,
}

impl Reads {
    /// Notes a read of what was looked up at `index` of the log.
    #[must_use]
    pub fn begin(&self, index: u64) -> Arc<Reading> {
        *lock(&self.counts).entry(index).or_insert(0) += 1;
        let reads = self.clone();
        Arc::new(Reading { index, reads })
    }

    /// Returns the lowest index of all reads under way.
    #[must_use]
    pub fn lowest(&self) -> Option<u64> {
        lock(&self.counts).keys().next().copied()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut counts = lock(&self.reads.counts);
        if let Some(count) = counts.get_mut(&self.index) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_is_that_of_the_oldest_read_under_way() {
        let reads = Reads::default();
        assert_eq!(reads.lowest(), None);
        let (late, early, also) = (reads.begin(9), reads.begin(4), reads.begin(4));
        let shared = Arc::clone(&early);
        assert_eq!(reads.lowest(), Some(4));
        drop((early, also));
        assert_eq!(reads.lowest(), Some(4), "a part of it goes on");
        drop(shared);
        assert_eq!(reads.lowest(), Some(9));
        drop(late);
        assert_eq!(reads.lowest(), None);
    }
}
