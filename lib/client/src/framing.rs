//! Cells and their checksums in a body of shard bytes: `docs/formats/data-plane.md`, "Framing".

use bytes::{Bytes, BytesMut};
use megalith_model::shape::CELL_LEN;

/// Bytes of the checksum that follows each cell.
pub const CRC_LEN: u64 = 4;
/// The most cells of one read: 4 MiB of plaintext.
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

/// Returns the length of a body that holds `count` cells of such a shard, starting with cell
/// `first`.
#[must_use]
pub fn body_len(shard_len: u64, first: u64, count: u64) -> u64 {
    let start = first.saturating_mul(CELL_LEN).min(shard_len);
    let end = first.saturating_add(count).saturating_mul(CELL_LEN);
    let end = end.min(shard_len);
    end - start + CRC_LEN * (end - start).div_ceil(CELL_LEN)
}

/// Appends the checksum to a cell, so that it is ready to be sent. Copies nothing if the cell's
/// buffer has room for [`CRC_LEN`] more bytes.
#[must_use]
pub fn frame(mut cell: Vec<u8>) -> Bytes {
    let crc = crc32c(&cell);
    cell.extend_from_slice(&crc.to_le_bytes());
    Bytes::from(cell)
}

/// Returns a framed cell without its checksum.
#[must_use]
pub fn unframed(framed: &Bytes) -> &[u8] {
    &framed[..framed.len() - CRC_LEN as usize]
}

/// Returns the checksum behind a cell, in the form in which it is sent.
#[must_use]
pub fn frame_tail(crc: u32) -> Bytes {
    Bytes::copy_from_slice(&crc.to_le_bytes())
}

/// A cell as it arrived, with the checksum that came with it. **Not checked yet.**
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramedCell {
    pub bytes: Bytes,
    /// The crc32c that its sender gave.
    pub crc: u32,
}

impl FramedCell {
    /// Returns true if the bytes match the checksum that came with them.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        crc32c(&self.bytes) == self.crc
    }
}

/// Cuts a body into cells again, whatever pieces it arrives in. Holds at most one cell.
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
    /// Expects `count` cells of a shard of `shard_len` bytes, starting with cell `first`, or those
    /// up to its end.
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

    /// Takes a piece of the body and passes every completed cell to `each`.
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

    /// Returns true if every expected cell has arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.next == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shard(len: u64) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    fn framed(shard: &[u8], first: u64, count: u64) -> Vec<u8> {
        shard
            .chunks(CELL_LEN as usize)
            .skip(first as usize)
            .take(count as usize)
            .flat_map(|cell| frame(cell.to_vec()))
            .collect()
    }

    #[test]
    fn the_checksum_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn cells_come_back_however_the_body_is_cut(
            len in prop_oneof![1..300_000_u64, Just(CELL_LEN), Just(2 * CELL_LEN)],
            first in 0..5_u64,
            count in 1..5_u64,
            cuts in proptest::collection::vec(1..100_000_usize, 1..20),
        ) {
            let shard = shard(len);
            let body = framed(&shard, first, count);
            prop_assert_eq!(body.len() as u64, body_len(len, first, count));
            let mut deframer = Deframer::new(len, first, count);
            let (mut rest, mut got) = (Bytes::from(body), Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let piece = rest.split_to((*cut).min(rest.len()));
                deframer.push(piece, |cell| got.push(cell)).expect("not too long");
            }
            prop_assert!(deframer.is_complete());
            prop_assert!(got.iter().all(FramedCell::is_intact));
            let got: Vec<u8> = got.iter().flat_map(|cell| cell.bytes.to_vec()).collect();
            let start = (first * CELL_LEN).min(len) as usize;
            let end = ((first + count) * CELL_LEN).min(len) as usize;
            prop_assert_eq!(&got[..], &shard[start..end]);
            let one_more = Bytes::from_static(b"x");
            prop_assert_eq!(deframer.push(one_more, drop), Err(Overlong));
        }

        #[test]
        fn a_flipped_bit_is_seen(len in 1..200_000_u64, at: prop::sample::Index, bit in 0..8_u8) {
            let mut body = framed(&shard(len), 0, 64);
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
            let mut deframer = Deframer::new(len, 0, 64);
            let mut intact = true;
            deframer.push(body.into(), |cell| intact &= cell.is_intact()).expect("as long");
            prop_assert!(!intact);
        }
    }
}
