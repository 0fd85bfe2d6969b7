//! What a page of rows and a page of a disk's list say of each other. Pure.

use super::report::Fault;
use megalith_model::ids::{BlobId, VolumeId};
use megalith_model::query::HeldSegment;
use megalith_model::shard::{ShardId, ShardStat};
use std::collections::BTreeSet;

/// The slots of a volume that one disk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) volume: VolumeId,
    pub(super) slots: Vec<u8>,
}

impl Own {
    /// The shards that the disk should hold, by these rows.
    pub(super) fn wanted(&self, held: &[HeldSegment]) -> Vec<ShardId> {
        let mut wanted = Vec::new();
        for segment in held {
            for &slot in &self.slots {
                if segment.slots >> slot & 1 == 1 {
                    wanted.push(ShardId {
                        volume: self.volume,
                        blob: segment.blob,
                        segment: segment.segment,
                        slot,
                    });
                }
            }
        }
        wanted
    }

    /// Those of a disk's shards that these rows, in order, don't name. A shard that the disk owes
    /// and has all the same is named.
    pub(super) fn unnamed(&self, held: &[HeldSegment], listed: &[ShardId]) -> Vec<ShardId> {
        let named = |shard: &ShardId| {
            let place = (shard.blob, shard.segment);
            self.slots.contains(&shard.slot) && find(held, place).is_some()
        };
        listed
            .iter()
            .copied()
            .filter(|shard| !named(shard))
            .collect()
    }
}

fn find(held: &[HeldSegment], place: (BlobId, u32)) -> Option<&HeldSegment> {
    let found = held.binary_search_by_key(&place, |segment| (segment.blob, segment.segment));
    found.ok().map(|at| &held[at])
}

/// What is wrong with the shards that a disk was asked for, in their order.
pub(super) fn faults(asked: &[ShardId], told: &[Option<ShardStat>]) -> Vec<(Fault, ShardId)> {
    let each = asked.iter().zip(told);
    each.filter_map(|(shard, stat)| match stat {
        None => Some((Fault::Missing, *shard)),
        Some(stat) if stat.damaged => Some((Fault::Damaged, *shard)),
        Some(_) => None,
    })
    .collect()
}

/// What was wrong at both looks, and is named by the rows at both.
pub(super) fn still_wrong(
    first: &[(Fault, ShardId)],
    second: &[(Fault, ShardId)],
    wanted: &BTreeSet<ShardId>,
) -> Vec<(Fault, ShardId)> {
    let both = second.iter().filter(|(_, shard)| {
        wanted.contains(shard) && first.iter().any(|(_, before)| before == shard)
    });
    both.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::Epoch;

    fn shard(blob: u64, slot: u8) -> ShardId {
        ShardId {
            volume: VolumeId(1),
            blob: BlobId(blob),
            segment: 0,
            slot,
        }
    }

    fn held(blob: u64, slots: u32) -> HeldSegment {
        HeldSegment {
            blob: BlobId(blob),
            segment: 0,
            slots,
        }
    }

    #[test]
    fn a_page_says_what_is_wanted_and_what_is_unnamed() {
        let own = Own {
            volume: VolumeId(1),
            slots: vec![2],
        };
        let rows = [held(1, 0b111), held(2, 0b011), held(4, 0b100)];
        assert_eq!(own.wanted(&rows), [shard(1, 2), shard(4, 2)]);
        // Blob 2 owes slot 2: what is there is named. Nothing names blob 3, nor slot 1 here.
        let listed = [shard(1, 1), shard(1, 2), shard(2, 2), shard(3, 2)];
        assert_eq!(own.unnamed(&rows, &listed), [shard(1, 1), shard(3, 2)]);
    }

    #[test]
    fn only_what_is_wrong_twice_and_still_named_is_wrong() {
        let stat = |damaged| {
            Some(ShardStat {
                shard: shard(2, 2),
                len: 1,
                digest: None,
                epoch: Epoch(1),
                damaged,
            })
        };
        let asked = [shard(1, 2), shard(2, 2), shard(3, 2), shard(4, 2)];
        let first = faults(&asked, &[None, stat(true), stat(false), None]);
        assert_eq!(
            first,
            [
                (Fault::Missing, shard(1, 2)),
                (Fault::Damaged, shard(2, 2)),
                (Fault::Missing, shard(4, 2)),
            ]
        );
        let second = faults(&asked, &[None, stat(true), None, stat(false)]);
        // Blob 1 was deleted meanwhile.
        let wanted = BTreeSet::from([shard(2, 2), shard(3, 2), shard(4, 2)]);
        let wrong = still_wrong(&first, &second, &wanted);
        assert_eq!(wrong, [(Fault::Damaged, shard(2, 2))]);
    }
}
