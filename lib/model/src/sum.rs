//! Sums over shards: what a slot holds, in 24 bytes.
//!
//! Two that hold the same shards have the same sum, in whatever order they came and went. The hash
//! is additive modulo 2^128 over blake3 of each shard's name, length and digest; a difference shows
//! that something differs, not what (an incremental multiset hash after Clarke and others, 2003,
//! "Incremental Multiset Hash Functions and Their Application to Memory Integrity Checking").
//! It finds mistakes, not forgeries: whoever chooses the digests could find two sets alike.

use crate::ids::BlobId;
use crate::rows::Digest;
use serde::{Deserialize, Serialize};

/// How many shards, and their hashes added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ShardSum {
    pub count: u64,
    /// Little-endian, modulo 2^128.
    pub hash: [u8; 16],
}

impl ShardSum {
    /// Returns the sum of one shard: of the segment `segment`, filed under `filed`, with `len`
    /// bytes of cells and their digest.
    #[must_use]
    pub fn of(filed: BlobId, segment: u32, len: u64, digest: &Digest) -> Self {
        let mut shard = [0; 36];
        shard[..8].copy_from_slice(&filed.0.to_le_bytes());
        shard[8..12].copy_from_slice(&segment.to_le_bytes());
        shard[12..20].copy_from_slice(&len.to_le_bytes());
        shard[20..].copy_from_slice(digest);
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(&shard).as_bytes()[..16]);
        Self { count: 1, hash }
    }

    /// Adds what `other` sums up; None if the count overflows.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        Some(Self {
            count: self.count.checked_add(other.count)?,
            hash: self.number().wrapping_add(other.number()).to_le_bytes(),
        })
    }

    /// Takes off what `other` sums up; None if the count would fall below zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        Some(Self {
            count: self.count.checked_sub(other.count)?,
            hash: self.number().wrapping_sub(other.number()).to_le_bytes(),
        })
    }

    fn number(self) -> u128 {
        u128::from_le_bytes(self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;

    fn shard(number: u8) -> ShardSum {
        let of = u64::from(number);
        ShardSum::of(
            BlobId(of / 4),
            u32::from(number % 4),
            100 + of,
            &[number; 16],
        )
    }

    fn all(numbers: impl IntoIterator<Item = u8>) -> ShardSum {
        let none = ShardSum::default();
        let add = |sum: ShardSum, number| sum.plus(shard(number)).expect("few");
        numbers.into_iter().fold(none, add)
    }

    proptest! {
        #[test]
        fn order_and_detours_leave_no_trace(
            kept in prop::collection::btree_set(0_u8..100, 0..20),
            passing in prop::collection::btree_set(100_u8..200, 0..20),
            swap: bool,
        ) {
            let both = kept.iter().chain(&passing).copied();
            let mut sum = if swap { all(both.rev()) } else { all(both) };
            for number in passing {
                sum = sum.minus(shard(number)).expect("it is in there");
            }
            prop_assert_eq!(sum, all(kept));
        }
    }

    #[test]
    fn every_field_counts() {
        let sum =
            |filed, segment, len, digest| ShardSum::of(BlobId(filed), segment, len, &[digest; 16]);
        let first = sum(1, 2, 3, 4);
        for other in [
            sum(9, 2, 3, 4),
            sum(1, 9, 3, 4),
            sum(1, 2, 9, 4),
            sum(1, 2, 3, 9),
        ] {
            assert_ne!(first, other);
        }
        assert_eq!(first.minus(sum(1, 2, 3, 4)), Some(ShardSum::default()));
        assert_eq!(ShardSum::default().minus(first), None);
    }

    #[test]
    fn the_sum_of_a_shard_never_changes() {
        let sum = ShardSum::of(BlobId(0x0102_0304), 5, 65_568, &[7; 16]);
        expect!["ca6a26e6f7d16d41693800e1c68c0007"].assert_eq(&hex(&sum.hash));
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
