//! Which shards go to the trash, come back from it, and are deleted. Pure: whoever calls asks the
//! metadata group and the disk, and does what is said here.
//!
//! No shard is deleted because evidence of it is absent. One goes to the trash when in two rounds
//! one after the other nobody spoke for it, lies there for its days, and is deleted only if then,
//! too, nobody speaks for it. [`Witness::Nobody`] itself is a proof, made from rows
//! (`megalith_model`, module `answer::witnesses`).

use megalith_model::query::Witness;
use megalith_model::shard::ShardId;
use megalith_store::{TRASH_MAX, Trash, TrashedShard};
use std::collections::BTreeSet;

/// How full a disk is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) used: u64,
    pub(crate) capacity: u64,
}

impl Fill {
    /// Bytes in use above so many percent of the disk.
    fn excess(self, percent: u32) -> u64 {
        let limit = u128::from(self.capacity) * u128::from(percent) / 100;
        self.used
            .saturating_sub(u64::try_from(limit).unwrap_or(u64::MAX))
    }
}

/// How long a shard stays in the trash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrashLimits {
    /// In milliseconds.
    pub(crate) kept_ms: u64,
    /// Above so many percent of its disk in use, a shard is deleted before its time is over.
    pub(crate) full_percent: u32,
}

/// The judge of one disk's shards.
pub(crate) struct Judge {
    limits: TrashLimits,
    trash: Trash,
    /// Nobody spoke for them in the round before. Forgotten by a crash, which only costs time.
    suspects: BTreeSet<ShardId>,
    /// Nobody spoke for them in this round.
    fresh: BTreeSet<ShardId>,
    /// Shards of the trash that the disk has listed in this round.
    seen: BTreeSet<ShardId>,
}

impl Judge {
    /// Goes on from what is in the trash.
    pub(crate) fn new(limits: TrashLimits, trash: Trash) -> Self {
        Self {
            limits,
            trash,
            suspects: BTreeSet::new(),
            fresh: BTreeSet::new(),
            seen: BTreeSet::new(),
        }
    }

    /// What is to be in the trash now.
    pub(crate) fn trash(&self) -> &Trash {
        &self.trash
    }

    /// Begins a round, whether or not the last one came to its end.
    pub(crate) fn begin(&mut self) {
        self.fresh.clear();
        self.seen.clear();
    }

    /// Takes up who speaks for a shard of `len` bytes that the disk has listed.
    pub(crate) fn hear(&mut self, now_ms: u64, shard: ShardId, len: u64, witness: Witness) {
        let in_trash = self.trash.contains_key(&shard);
        match witness {
            Witness::Row | Witness::Lease => {
                self.trash.remove(&shard);
            }
            // It goes by its queue, or waits for the operator; what lies in the trash stays there.
            Witness::Delete | Witness::Restore => {
                self.seen.extend(in_trash.then_some(shard));
            }
            Witness::Nobody if in_trash => {
                self.seen.insert(shard);
            }
            Witness::Nobody if self.suspects.contains(&shard) && self.trash.len() < TRASH_MAX => {
                let since_ms = now_ms;
                self.trash.insert(shard, TrashedShard { since_ms, len });
                self.seen.insert(shard);
            }
            Witness::Nobody => {
                if self.fresh.len() < TRASH_MAX {
                    self.fresh.insert(shard);
                }
            }
        }
    }

    /// Ends a round in which every shard of the disk was heard.
    pub(crate) fn end(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        // The others have been deleted meanwhile, by a delete queue.
        self.trash.retain(|shard, _| seen.contains(shard));
        self.suspects = std::mem::take(&mut self.fresh);
    }

    /// The shards of the trash whose time has come, the oldest first. Who speaks for them is to
    /// be asked once more.
    pub(crate) fn due(&self, now_ms: u64, fill: Fill) -> Vec<ShardId> {
        let mut oldest: Vec<_> = self.trash.iter().collect();
        oldest.sort_by_key(|(shard, entry)| (entry.since_ms, **shard));
        let mut excess = fill.excess(self.limits.full_percent);
        let due = oldest.into_iter().take_while(|(_, entry)| {
            let pressed = excess > 0;
            excess = excess.saturating_sub(entry.len);
            pressed || now_ms.saturating_sub(entry.since_ms) >= self.limits.kept_ms
        });
        due.map(|(shard, _)| *shard).collect()
    }

    /// Says whether a shard that was due is to be deleted now.
    pub(crate) fn may_delete(&mut self, shard: ShardId, witness: Witness) -> bool {
        match witness {
            Witness::Nobody => self.trash.contains_key(&shard),
            Witness::Row | Witness::Lease => {
                self.trash.remove(&shard);
                false
            }
            Witness::Delete | Witness::Restore => false,
        }
    }

    /// Forgets shards that have been deleted.
    pub(crate) fn deleted(&mut self, shards: &[ShardId]) {
        for shard in shards {
            self.trash.remove(shard);
        }
    }
}

#[cfg(test)]
mod tests;
