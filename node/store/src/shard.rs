//! Where a shard lies, and its key as stored.

use super::record::{BLOCK_LEN, CELL_LEN, RECORD_CELLS_MAX, record_len};
use megalith_model::ids::{BlobId, Epoch};
use megalith_model::shard::ShardKey;

/// Bytes of a stored key.
pub(super) const KEY_LEN: usize = 13;

/// A key as index files and tombstones have it.
pub(super) fn key_to_bytes(key: ShardKey) -> [u8; KEY_LEN] {
    let mut bytes = [0; KEY_LEN];
    bytes[..8].copy_from_slice(&key.blob.0.to_le_bytes());
    bytes[8..12].copy_from_slice(&key.segment.to_le_bytes());
    bytes[12] = key.slot;
    bytes
}

/// Reads what [`key_to_bytes`] made.
pub(super) fn key_from_bytes(bytes: &[u8; KEY_LEN]) -> ShardKey {
    let (blob, rest) = bytes.split_first_chunk::<8>().expect("13 bytes");
    let (segment, rest) = rest.split_first_chunk::<4>().expect("5 bytes");
    ShardKey {
        blob: BlobId(u64::from_le_bytes(*blob)),
        segment: u32::from_le_bytes(*segment),
        slot: rest[0],
    }
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

    /// Bytes that the records take on the disk, padding included.
    pub(super) fn disk_len(&self) -> u64 {
        self.records().map(|(_, _, len)| len).sum()
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
