//! Names of shards and what is known of one.

use super::record::{BLOCK_LEN, CELL_LEN, RECORD_CELLS_MAX, record_len};
use megalith_model::ids::{BlobId, Epoch, VolumeId};
use std::fmt;

/// One shard: all cells of one segment of a blob that one slot of a volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// The volume the segment was written to.
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
    pub(super) fn key(self) -> ShardKey {
        ShardKey {
            blob: self.blob,
            segment: self.segment,
            slot: self.slot,
        }
    }
}

/// A shard's name within its volume; the order of index files and lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ShardKey {
    pub(super) blob: BlobId,
    pub(super) segment: u32,
    pub(super) slot: u8,
}

impl ShardKey {
    pub(super) const LEN: usize = 13;
    pub(super) const MIN: Self = Self {
        blob: BlobId(0),
        segment: 0,
        slot: 0,
    };

    pub(super) fn of(self, volume: VolumeId) -> ShardId {
        ShardId {
            volume,
            blob: self.blob,
            segment: self.segment,
            slot: self.slot,
        }
    }

    /// The smallest key above this one; None for the last key of all.
    pub(super) fn next(self) -> Option<Self> {
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

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.blob.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.segment.to_le_bytes());
        bytes[12] = self.slot;
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let (blob, rest) = bytes.split_first_chunk::<8>().expect("13 bytes");
        let (segment, rest) = rest.split_first_chunk::<4>().expect("5 bytes");
        Self {
            blob: BlobId(u64::from_le_bytes(*blob)),
            segment: u32::from_le_bytes(*segment),
            slot: rest[0],
        }
    }
}

/// What a caller gets for a stored shard; goes into the metadata row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Bytes of all cells, without checksums.
    pub len: u64,
    /// blake3 of these bytes.
    pub digest: [u8; 32],
    /// The epoch it was written under.
    pub epoch: Epoch,
}

/// What the store knows of a shard without reading its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardStat {
    pub shard: ShardId,
    /// Bytes of all cells, without checksums.
    pub len: u64,
    pub cells: u64,
    /// blake3 of the bytes; None where the record that says it is damaged.
    pub digest: Option<[u8; 32]>,
    /// The epoch it was written under.
    pub epoch: Epoch,
    /// True where a part is known to be unreadable.
    pub damaged: bool,
}

/// The block number that stands for a record lost to damage.
pub(super) const RECORD_LOST: u32 = u32::MAX;

/// Where a complete shard lies in its chunk file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) len: u64,
    pub(super) cells: u32,
    /// Cells in every record but the last.
    pub(super) record_cells: u16,
    pub(super) digest: Option<[u8; 32]>,
    /// The 4 KiB block each record begins at, in cell order.
    pub(super) records: Box<[u32]>,
}

impl Extent {
    /// First block and block after the last of each record that is not lost, in cell order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (u32, u32)> {
        let records = self.records();
        records.map(|(_, start, len)| (start, start + (len / BLOCK_LEN) as u32))
    }

    /// First cell, first block and length in bytes of each record that is not lost.
    pub(super) fn records(&self) -> impl Iterator<Item = (u32, u32, u64)> {
        let per_record = u32::from(self.record_cells.clamp(1, RECORD_CELLS_MAX));
        let numbered = (0..).zip(self.records.iter());
        let kept = numbered.filter(|(_, block)| **block != RECORD_LOST);
        kept.map(move |(number, block): (u32, _)| {
            let first = number * per_record;
            let cells = per_record.min(self.cells.saturating_sub(first));
            let before = u64::from(first) * CELL_LEN as u64;
            let most = u64::from(cells) * CELL_LEN as u64;
            let length = self.len.saturating_sub(before).min(most);
            (first, *block, record_len(cells as u16, length))
        })
    }

    pub(super) fn is_whole(&self) -> bool {
        self.digest.is_some() && !self.records.contains(&RECORD_LOST)
    }
}

/// The last word of one chunk file on one shard. Over all files the highest `lsn` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) lsn: u64,
    pub(super) epoch: Epoch,
    pub(super) extent: Option<Extent>,
}
