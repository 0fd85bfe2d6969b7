//! The name of a shard, and what is known of a shard.

use crate::ids::{BlobId, Epoch, VolumeId};
use crate::rows::Digest;
use crate::topology::Slot;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A shard's name: the cells of one segment of a blob that one slot of a volume holds.
///
/// A row of the delete queues is one of these, so the fields' order is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId {
    /// The volume that the segment was written to.
    pub volume: VolumeId,
    pub blob: BlobId,
    /// The segment's number within the blob, from 0.
    pub segment: u32,
    /// The volume's slot, from 0.
    pub slot: u8,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}",
            self.volume, self.blob, self.segment, self.slot
        )
    }
}

impl ShardId {
    /// Returns the name without the volume.
    #[must_use]
    pub fn key(self) -> ShardKey {
        ShardKey {
            blob: self.blob,
            segment: self.segment,
            slot: self.slot,
        }
    }
}

/// A shard's name within its volume, which the blob's row knows too.
///
/// Commands carry it, so the fields' order is stored. A disk's lists are sorted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardKey {
    pub blob: BlobId,
    pub segment: u32,
    pub slot: u8,
}

impl ShardKey {
    /// The smallest key.
    pub const MIN: Self = Self {
        blob: BlobId(0),
        segment: 0,
        slot: 0,
    };

    /// Returns the shard's whole name in `volume`.
    #[must_use]
    pub fn of(self, volume: VolumeId) -> ShardId {
        ShardId {
            volume,
            blob: self.blob,
            segment: self.segment,
            slot: self.slot,
        }
    }

    /// Returns the smallest key above this one; None for the last key of all.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let Self {
            blob,
            segment,
            slot,
        } = self;
        if let Some(slot) = slot.checked_add(1) {
            return Some(Self { slot, ..self });
        }
        if let Some(segment) = segment.checked_add(1) {
            return Some(Self {
                blob,
                segment,
                slot: 0,
            });
        }
        blob.0.checked_add(1).map(|blob| Self {
            blob: BlobId(blob),
            segment: 0,
            slot: 0,
        })
    }
}

/// A shard on one disk of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardTarget {
    pub at: Slot,
    pub shard: ShardId,
}

/// The digest of a whole shard: blake3 of its cells without checksums.
pub type ShardDigest = [u8; 32];

/// Returns what rows keep of a digest.
#[must_use]
pub fn row_digest(digest: &ShardDigest) -> Digest {
    let mut half = Digest::default();
    half.copy_from_slice(&digest[..size_of::<Digest>()]);
    half
}

/// A node's assurance that it holds a shard durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Bytes of all cells, without checksums.
    pub len: u64,
    /// Of these bytes, as the node computed it.
    pub digest: ShardDigest,
    /// The epoch in which it was written.
    pub epoch: Epoch,
}

/// What a disk knows of a shard without reading its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardStat {
    pub shard: ShardId,
    /// Bytes of all cells, without checksums.
    pub len: u64,
    /// None if the record that contains it is damaged.
    pub digest: Option<ShardDigest>,
    /// The epoch in which it was written.
    pub epoch: Epoch,
    /// True if part of the shard is known to be unreadable.
    pub damaged: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_key_is_the_smallest_above() {
        let key = |blob, segment, slot| ShardKey {
            blob: BlobId(blob),
            segment,
            slot,
        };
        assert_eq!(key(1, 2, 3).next(), Some(key(1, 2, 4)));
        assert_eq!(key(1, 2, u8::MAX).next(), Some(key(1, 3, 0)));
        assert_eq!(key(1, u32::MAX, u8::MAX).next(), Some(key(2, 0, 0)));
        assert_eq!(key(u64::MAX, u32::MAX, u8::MAX).next(), None);
    }
}
