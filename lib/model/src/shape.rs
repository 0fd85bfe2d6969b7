//! How the bytes of a blob fall into segments, stripes, cells and shards. Pure arithmetic.
//!
//! A blob of `len` ciphertext bytes is cut into cells of [`CELL_LEN`]; only its last cell may be
//! shorter.
//!
//! A **coded** blob fills segments of up to [`SEGMENT_LEN_MAX`] bytes, whatever its profile. Within
//! a segment, cell `i` belongs to stripe `i / k`, column `i % k`; the last stripe may lack cells at
//! its end, in every segment. Parity cells are as long as the first cell of their stripe, which is
//! its longest; shorter data cells are padded with zeros for the computation only. A shard holds
//! one column's cells in stripe order; a column without cells has no shard at all.
//!
//! A **copied** blob has one segment, kept whole on m+1 slots that rotate with the blob id.
//!
//! An **inline** blob lives in a metadata row and in no volume.

use crate::ids::BlobId;
use crate::profile::Profile;
use serde::{Deserialize, Serialize};

/// Plaintext bytes of a full cell. All sizes of cells, segments and shapes follow from it.
pub const CELL_PLAIN_LEN: u64 = 64 * 1024;
/// How many bytes longer a cell is than its plaintext. `lib/crypto` says why; neither crate knows
/// the other, and `gateway/blobs`, which knows both, does not compile if they differ.
pub const CELL_OVERHEAD: u64 = 32;
/// The unit of encryption, coding, checksum and range read, in ciphertext bytes.
pub const CELL_LEN: u64 = CELL_PLAIN_LEN + CELL_OVERHEAD;
/// The most cells of one segment: 64 MiB of plaintext.
pub const SEGMENT_CELLS_MAX: u64 = 1024;
/// The most ciphertext bytes of one segment.
pub const SEGMENT_LEN_MAX: u64 = SEGMENT_CELLS_MAX * CELL_LEN;
/// Blobs of at most this many ciphertext bytes (4 KiB of plaintext) live in metadata.
pub const INLINE_LEN_MAX: u64 = 4 * 1024 + CELL_OVERHEAD;
/// Blobs of at most this many ciphertext bytes (128 KiB of plaintext) are kept as whole copies.
pub const COPIES_LEN_MAX: u64 = 2 * CELL_LEN;

/// How a blob is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Shape {
    /// Sealed, in a row of its own in the metadata group.
    Inline,
    /// m+1 whole copies on rotating slots of one volume.
    Copies,
    /// k data and m parity shards per segment.
    Coded,
}

impl Shape {
    /// Returns the shape for a blob of `len` ciphertext bytes.
    #[must_use]
    pub fn for_len(len: u64) -> Self {
        if len <= INLINE_LEN_MAX {
            Self::Inline
        } else if len <= COPIES_LEN_MAX {
            Self::Copies
        } else {
            Self::Coded
        }
    }
}

/// Returns the lengths of the segments of a blob of `len` bytes, in order. Empty for an empty blob.
pub fn segments(len: u64) -> impl Iterator<Item = u64> {
    let full = SEGMENT_LEN_MAX;
    (0..len.div_ceil(full)).map(move |i| full.min(len - i * full))
}

/// One segment's layout over the slots of a volume. Cheap to make and copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLayout {
    shape: Shape,
    profile: Profile,
    first_copy: usize,
    len: u64,
}

impl SegmentLayout {
    /// Describes a segment of `len` ciphertext bytes (at least one) of `blob`.
    #[must_use]
    pub fn new(shape: Shape, profile: Profile, blob: BlobId, len: u64) -> Self {
        let first_copy = (blob.0 % profile.shards() as u64) as usize;
        Self {
            shape,
            profile,
            first_copy,
            len,
        }
    }

    /// Returns the ciphertext bytes of the segment.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true for a segment of no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the profile of the volume that holds the segment.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Returns how many data cells the segment has.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.len.div_ceil(CELL_LEN)
    }

    /// Returns how many stripes the segment has (for copies: cells).
    #[must_use]
    pub fn stripes(&self) -> u64 {
        self.cells().div_ceil(self.columns() as u64)
    }

    /// Returns the data cells per stripe: k for coded, 1 for copies.
    #[must_use]
    pub fn columns(&self) -> usize {
        match self.shape {
            Shape::Coded => self.profile.data(),
            Shape::Copies | Shape::Inline => 1,
        }
    }

    /// Returns the slots (by number) that hold a shard of this segment.
    pub fn slots(&self) -> impl Iterator<Item = usize> + use<> {
        let this = *self;
        (0..this.profile.shards()).filter(move |&slot| this.shard_cells(slot) > 0)
    }

    /// Returns the slots that hold a shard of this segment, as bits.
    #[must_use]
    pub fn slots_mask(&self) -> u32 {
        self.slots().fold(0, |mask, slot| mask | 1 << slot)
    }

    /// Returns how many data columns have cells: at most k for coded, 1 for copies.
    #[must_use]
    pub fn filled_columns(&self) -> usize {
        let columns = self.columns() as u64;
        self.cells().min(columns) as usize
    }

    /// Returns true if `slot` holds a whole copy.
    fn is_copy(&self, slot: usize) -> bool {
        let n = self.profile.shards();
        (slot + n - self.first_copy) % n <= self.profile.parity()
    }

    /// Returns how many cells `slot`'s shard has; 0 if it has no shard.
    #[must_use]
    pub fn shard_cells(&self, slot: usize) -> u64 {
        match self.shape {
            Shape::Inline => 0,
            Shape::Copies if self.is_copy(slot) => self.cells(),
            Shape::Copies => 0,
            Shape::Coded if slot >= self.profile.data() => self.stripes(),
            Shape::Coded => {
                let k = self.profile.data() as u64;
                (self.cells() + k - 1 - slot as u64) / k
            }
        }
    }

    /// Returns the length in bytes of cell number `cell` (counted within the shard) of `slot`'s
    /// shard.
    #[must_use]
    pub fn shard_cell_len(&self, slot: usize, cell: u64) -> u64 {
        match self.shape {
            Shape::Copies | Shape::Inline => self.cell_len(cell),
            Shape::Coded => {
                let k = self.profile.data() as u64;
                let column = if slot < self.profile.data() {
                    slot as u64
                } else {
                    0
                };
                self.cell_len(cell * k + column)
            }
        }
    }

    /// Returns the length of `slot`'s shard in bytes, without checksums.
    #[must_use]
    pub fn shard_len(&self, slot: usize) -> u64 {
        match self.shard_cells(slot) {
            0 => 0,
            cells => (cells - 1) * CELL_LEN + self.shard_cell_len(slot, cells - 1),
        }
    }

    /// Returns the length of data cell `cell` of the segment, in bytes; 0 past its end.
    #[must_use]
    pub fn cell_len(&self, cell: u64) -> u64 {
        self.len.saturating_sub(cell * CELL_LEN).min(CELL_LEN)
    }

    /// Returns the fewest shards from which the segment can be read.
    #[must_use]
    pub fn shards_needed(&self) -> usize {
        match self.shape {
            Shape::Coded => self.profile.data(),
            Shape::Copies | Shape::Inline => 1,
        }
    }

    /// Returns the fewest receipts with which this segment counts as written: all its shards but
    /// one if m ≥ 2, else all.
    #[must_use]
    pub fn write_quorum(&self) -> usize {
        let holders = self.slots().count();
        if self.profile.parity() >= 2 {
            holders - 1
        } else {
            holders
        }
    }
}

#[cfg(test)]
mod tests;
