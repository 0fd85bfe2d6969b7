//! Cells and their checksums in a body of shard bytes: `node/docs/data-plane.md`, "Framing".

use bytes::{BufMut, Bytes, BytesMut};
use megalith_model::shape::CELL_LEN;

/// Bytes of the checksum that follows each cell.
pub const CRC_LEN: u64 = 4;
/// The most cells of one read: 4 MiB.
pub const READ_CELLS_MAX: u64 = 64;

/// Returns the crc32c (Castagnoli) of a cell.
#[must_use]
pub fn crc32c(cell: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(cell)
}

/// Returns how many cells a shard of `shard_len` bytes has.
#[must_use]
pub fn cells(shard_len: u64) -> u64 {
    shard_len.div_ceil(CELL_LEN)
}

/// Returns the length in bytes of cell number `cell` of such a shard; 0 past its end.
#[must_use]
pub fn cell_len(shard_len: u64, cell: u64) -> u64 {
    shard_len
        .saturating_sub(cell.saturating_mul(CELL_LEN))
        .min(CELL_LEN)
}

/// Returns the bytes of a body that holds `count` cells of such a shard from cell `first` on.
#[must_use]
pub fn body_len(shard_len: u64, first: u64, count: u64) -> u64 {
    let start = first.saturating_mul(CELL_LEN).min(shard_len);
    let end = first.saturating_add(count).saturating_mul(CELL_LEN);
    let end = end.min(shard_len);
    end - start + CRC_LEN * (end - start).div_ceil(CELL_LEN)
}

/// Returns a cell with its checksum behind it, ready to be sent.
#[must_use]
pub fn frame(cell: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(cell.len() + CRC_LEN as usize);
    framed.put_slice(cell);
    framed.put_u32_le(crc32c(cell));
    framed.freeze()
}

/// Returns the checksum behind a cell, in the form in which it is sent.
#[must_use]
pub fn frame_tail(crc: u32) -> Bytes {
    Bytes::copy_from_slice(&crc.to_le_bytes())
}

/// A cell as it arrived, with the checksum that came with it. **Not yet checked.**
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramedCell {
    /// The cell.
    pub bytes: Bytes,
    /// What its sender says is its crc32c.
    pub crc: u32,
}

impl FramedCell {
    /// True where the bytes have the checksum that came with them.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        crc32c(&self.bytes) == self.crc
    }
}

/// Cuts a body back into cells, however its pieces arrive. Holds at most one cell.
#[derive(Debug)]
pub struct Deframer {
    shard_len: u64,
    next: u64,
    end: u64,
    held: BytesMut,
}

/// More bytes than the body should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more bytes than the cells have")]
pub struct Overlong;

impl Deframer {
    /// Expects `count` cells of a shard of `shard_len` bytes from cell `first` on, or those up to
    /// its end.
    #[must_use]
    pub fn new(shard_len: u64, first: u64, count: u64) -> Self {
        let end = first.saturating_add(count).min(cells(shard_len));
        Self {
            shard_len,
            next: first.min(end),
            end,
            held: BytesMut::new(),
        }
    }

    /// Takes a piece of the body and hands every cell that is complete now to `each`.
    pub fn push(
        &mut self,
        mut piece: Bytes,
        mut each: impl FnMut(FramedCell),
    ) -> Result<(), Overlong> {
        while !piece.is_empty() {
            if self.next == self.end {
                return Err(Overlong);
            }
            let cell = cell_len(self.shard_len, self.next) as usize;
            let want = cell + CRC_LEN as usize;
            let framed = if self.held.is_empty() && piece.len() >= want {
                piece.split_to(want)
            } else {
                self.held.reserve(want - self.held.len());
                let take = (want - self.held.len()).min(piece.len());
                self.held.extend_from_slice(&piece.split_to(take));
                if self.held.len() < want {
                    return Ok(());
                }
                self.held.split().freeze()
            };
            self.next += 1;
            let (bytes, tail) = (framed.slice(..cell), &framed[cell..]);
            let crc = u32::from_le_bytes(tail.try_into().expect("four bytes follow the cell"));
            each(FramedCell { bytes, crc });
        }
        Ok(())
    }

    /// True where every expected cell has come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.next == self.end
    }
}
