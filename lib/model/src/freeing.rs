//! When shards that no row names any more may be deleted: a read that began before may still want
//! them.
//!
//! A delete waits in its disk's queue until it is `min_ms` old and no read goes on that looked its
//! bytes up before the delete was queued; after `max_ms` it waits for no read. What a look-up at
//! index i found is never queued at an index up to i. The deletes of a disk become old in the order
//! in which they were queued, so that a node takes them from the head.

use crate::rows::DeleteRow;

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// No delete is younger, in milliseconds. Longer than a gateway's life and the longest
    /// look-up: by then the beats name every read that the delete could hurt.
    pub min_ms: u64,
    /// After this time no read is waited for, in milliseconds.
    pub max_ms: u64,
    /// The most deletes of a disk that wait; the oldest ones go sooner.
    pub queue_max: u64,
}

impl Grace {
    /// None at all: for tests and models.
    pub const NONE: Self = Self {
        min_ms: 0,
        max_ms: 0,
        queue_max: 0,
    };
}

impl Default for Grace {
    fn default() -> Self {
        Self {
            min_ms: 15 * 60 * 1_000,
            max_ms: 24 * 60 * 60 * 1_000,
            queue_max: 1_000_000,
        }
    }
}

/// What a leader knows by which it gives out deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freeing {
    /// The group's time, in milliseconds since 1970.
    pub now_ms: u64,
    /// The lowest log index at which a gateway that is heard still reads.
    pub lowest_read: Option<u64>,
    pub grace: Grace,
}

impl Freeing {
    /// Everything that is queued: for tests and models.
    pub const ALL: Self = Self {
        now_ms: u64::MAX,
        lowest_read: None,
        grace: Grace::NONE,
    };

    /// Returns whether a delete may be done that has `behind` others behind it in its queue.
    #[must_use]
    pub fn may_free(&self, row: &DeleteRow, behind: u64) -> bool {
        if behind >= self.grace.queue_max {
            return true;
        }
        // None of a row that was queued before the group's clock was set back: it counts as old,
        // but the reads decide.
        let age_ms = self.now_ms.checked_sub(row.queued_ms);
        let unread = self.lowest_read.is_none_or(|lowest| row.index <= lowest);
        let old = age_ms.is_none_or(|age_ms| age_ms >= self.grace.min_ms);
        let aged = age_ms.is_some_and(|age_ms| age_ms >= self.grace.max_ms);
        old && (unread || aged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BlobId, VolumeId};
    use crate::shard::ShardId;

    const GRACE: Grace = Grace {
        min_ms: 100,
        max_ms: 1_000,
        queue_max: 50,
    };

    fn may_free(now_ms: u64, lowest_read: Option<u64>, behind: u64) -> bool {
        let row = DeleteRow {
            shard: ShardId {
                volume: VolumeId(1),
                blob: BlobId(1),
                segment: 0,
                slot: 0,
            },
            index: 7,
            queued_ms: 10_000,
        };
        let grace = GRACE;
        Freeing {
            now_ms,
            lowest_read,
            grace,
        }
        .may_free(&row, behind)
    }

    #[test]
    fn a_delete_waits_for_its_age_and_for_older_reads() {
        for (now_ms, lowest_read, expected) in [
            (10_000, None, false),
            (10_099, None, false),
            (10_100, None, true),
            // A read that was looked up at the index of the delete, or later, does not know it.
            (10_100, Some(8), true),
            (10_100, Some(7), true),
            (10_100, Some(6), false),
            (10_999, Some(6), false),
            (11_000, Some(6), true),
        ] {
            let may = may_free(now_ms, lowest_read, 49);
            assert_eq!(may, expected, "at {now_ms}, read at {lowest_read:?}");
        }
    }

    #[test]
    fn a_queue_that_is_too_long_waits_for_nothing() {
        assert!(may_free(10_000, Some(1), 50));
        assert!(!may_free(10_000, Some(1), 49));
    }

    #[test]
    fn a_clock_that_was_set_back_blocks_no_queue_and_hurts_no_read() {
        assert!(may_free(500, None, 0));
        assert!(may_free(500, Some(7), 0));
        assert!(!may_free(500, Some(6), 0));
    }
}
