//! Cells: the pieces of 64 KiB that an object's bytes are sealed in.
//!
//! A blob's ciphertext is one FLOE stream (see `floe.rs` for its bytes) with segments of
//! [`SEALED_CELL_LEN`], so that one segment is exactly one cell: the unit of encryption, coding,
//! checksum and range read. The stream's IV is not part of the blob; it lives in the manifest.
//!
//! ```text
//! cell        = 0xFFFFFFFF (4) ‖ nonce (12) ‖ ciphertext (65536) ‖ GCM tag (16)   = 65568
//! last cell   = its own length (4) ‖ nonce (12) ‖ ciphertext (0..=65536) ‖ GCM tag (16)
//! FLOE key    = HKDF(data key, "stream")
//! FLOE context = "megalith/cell/v1" 0x00 ‖ cluster (16) ‖ blob (8) ‖ part (4), big-endian
//! ```
//!
//! A blob always has a last cell. Only the empty blob has an empty one: a blob of n plaintext
//! bytes has max(1, ⌈n / 65536⌉) cells, and [`BlobLayout`] is the only place that counts them.
//!
//! Must never: seal a position twice, seal after the last cell, or return bytes of a cell that
//! did not authenticate at its position.

use crate::context::Binding;
use crate::derive::{Stream as StreamPurpose, Subkey};
use crate::entropy::{Entropy, SYSTEM, draw};
use crate::error::CryptoError;
use crate::floe;
use crate::keys::DataKey;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use zeroize::Zeroizing;

/// Plaintext bytes in a full cell. Not less for the overhead: clients like sizes that are powers of
/// two, and an object of 64 KiB is one cell.
pub const PLAIN_CELL_LEN: usize = 64 * 1024;
/// How many bytes longer a sealed cell is than its plaintext.
pub const CELL_OVERHEAD: usize = floe::SEGMENT_OVERHEAD;
/// Length of a sealed cell in bytes; the last one of a blob may be shorter.
pub const SEALED_CELL_LEN: usize = PLAIN_CELL_LEN + CELL_OVERHEAD;
/// Most plaintext bytes of one blob.
pub const PLAIN_BLOB_LEN_MAX: u64 = floe::SEGMENTS_MAX * PLAIN_CELL_LEN as u64;

const PARAMS: floe::Params = floe::Params::new(SEALED_CELL_LEN as u32);

/// What a stream of cells is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamContext {
    pub cluster: [u8; 16],
    /// The blob that holds the cells.
    pub blob: u64,
    /// The part number of a multipart upload, else 0.
    pub part: u32,
}

impl StreamContext {
    fn binding(&self) -> Binding {
        Binding::new("megalith/cell/v1")
            .fixed(&self.cluster)
            .fixed(&self.blob.to_be_bytes())
            .fixed(&self.part.to_be_bytes())
    }
}

/// A stream's IV, random. Key, IV and context are all that it takes to open the stream.
///
/// Not secret, but kept in the sealed manifest so that it can't be exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamIv(pub [u8; Self::LEN]);

impl StreamIv {
    /// Length of an IV in bytes.
    pub const LEN: usize = floe::IV_LEN;
}

/// Seals the cells of one blob, in order.
pub struct CellSealer {
    stream: floe::Stream,
    entropy: &'static dyn Entropy,
    next: u64,
    state: SealerState,
    nonce_before: [u8; floe::NONCE_LEN],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SealerState {
    Open,
    Finished,
    /// A cell failed; the stream can't be continued.
    Failed,
}

impl CellSealer {
    /// Starts a stream under a fresh random IV.
    ///
    /// # Errors
    /// [`CryptoError::Random`] if the random source fails or repeats itself.
    pub fn new(key: &DataKey, context: StreamContext) -> Result<(Self, StreamIv), CryptoError> {
        Self::with_entropy(key, context, &SYSTEM)
    }

    /// Starts a stream with randomness from `entropy`.
    ///
    /// # Errors
    /// As [`CellSealer::new`].
    pub fn with_entropy(
        key: &DataKey,
        context: StreamContext,
        entropy: &'static dyn Entropy,
    ) -> Result<(Self, StreamIv), CryptoError> {
        let iv = draw::<{ floe::IV_LEN }>(entropy)?;
        if key.same_bytes(&iv) {
            return Err(CryptoError::Random);
        }
        let mut nonce_before = [0; floe::NONCE_LEN];
        nonce_before.copy_from_slice(&iv[..floe::NONCE_LEN]);
        let sealer = Self {
            stream: stream(key, context, &iv)?,
            entropy,
            next: 0,
            state: SealerState::Open,
            nonce_before,
        };
        Ok((sealer, StreamIv(*iv)))
    }

    /// Seals the next cell and appends it to `out`.
    ///
    /// `plaintext` has exactly [`PLAIN_CELL_LEN`] bytes, fewer only if `last`.
    ///
    /// # Errors
    /// [`CryptoError::Random`], or [`CryptoError::Misuse`] for a wrong length or a cell after the
    /// last. After any error the sealer refuses further cells, and `out` is as it was.
    pub fn seal(
        &mut self,
        plaintext: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let start = out.len();
        let cell_len = plaintext.len().min(PLAIN_CELL_LEN) + CELL_OVERHEAD;
        out.resize(start + cell_len, 0);
        let sealed = self.seal_into(plaintext, last, &mut out[start..]);
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed
    }

    /// Seals the next cell into `out`, which has exactly the length of the plaintext plus
    /// [`CELL_OVERHEAD`]. Saves the zeroing that [`CellSealer::seal`] needs.
    ///
    /// # Errors
    /// As [`CellSealer::seal`].
    pub fn seal_into(
        &mut self,
        plaintext: &[u8],
        last: bool,
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        if self.state != SealerState::Open {
            return Err(CryptoError::Misuse(
                "sealing after the last cell or after a failure",
            ));
        }
        self.state = SealerState::Failed;
        let nonce = draw::<{ floe::NONCE_LEN }>(self.entropy)?;
        if *nonce == self.nonce_before {
            return Err(CryptoError::Random);
        }
        self.nonce_before = *nonce;
        self.stream
            .seal_segment(self.next, last, &nonce, plaintext, out)?;
        self.next += 1;
        self.state = if last {
            SealerState::Finished
        } else {
            SealerState::Open
        };
        Ok(())
    }

    /// Returns how many cells were sealed.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.next
    }

    /// Returns whether the last cell was sealed. A blob without it does not open.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.state == SealerState::Finished
    }
}

/// Opens the cells of one blob, in any order, from any thread.
pub struct CellOpener {
    stream: floe::Stream,
}

impl CellOpener {
    /// Starts to open a stream. With another key, context or IV than it was sealed with no cell
    /// opens; the cells tell, and a blob always has one.
    ///
    /// # Errors
    /// [`CryptoError::Misuse`] if the cipher refuses its key.
    pub fn new(key: &DataKey, context: StreamContext, iv: &StreamIv) -> Result<Self, CryptoError> {
        let stream = stream(key, context, &iv.0)?;
        Ok(Self { stream })
    }

    /// Opens the cell at `index` and appends its plaintext to `out`.
    ///
    /// `last` comes from the authenticated length ([`BlobLayout::is_last`]), never from the cell.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`]; `out` is then as it was.
    pub fn open(
        &self,
        index: u64,
        last: bool,
        cell: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let plain_len = plain_cell_len(cell)?;
        let start = out.len();
        out.resize(start + plain_len, 0);
        let opened = self.open_into(index, last, cell, &mut out[start..]);
        if opened.is_err() {
            out.truncate(start);
        }
        opened
    }

    /// Opens the cell at `index` into `out`, which has exactly the plaintext's length.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`]; `out` is then all zeros.
    pub fn open_into(
        &self,
        index: u64,
        last: bool,
        cell: &[u8],
        out: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.stream.open_segment(index, last, cell, out)
    }
}

fn plain_cell_len(cell: &[u8]) -> Result<usize, CryptoError> {
    if cell.len() > SEALED_CELL_LEN {
        return Err(CryptoError::Unauthentic);
    }
    cell.len()
        .checked_sub(CELL_OVERHEAD)
        .ok_or(CryptoError::Unauthentic)
}

fn stream(
    key: &DataKey,
    context: StreamContext,
    iv: &[u8; floe::IV_LEN],
) -> Result<floe::Stream, CryptoError> {
    let mut stream_key = Zeroizing::new([0; 32]);
    Subkey::<StreamPurpose>::of_key(key.bytes()).expand(&[b"floe"], &mut stream_key[..])?;
    floe::Stream::new(PARAMS, &stream_key, context.binding().as_bytes(), iv)
}

/// Returns the sealed length of `plain_len` bytes; saturates above [`PLAIN_BLOB_LEN_MAX`].
#[must_use]
pub fn sealed_len(plain_len: u64) -> u64 {
    let cells = plain_len.div_ceil(PLAIN_CELL_LEN as u64).max(1);
    plain_len.saturating_add(cells.saturating_mul(CELL_OVERHEAD as u64))
}

/// Returns the plaintext length of a blob of `sealed_len` bytes.
///
/// # Errors
/// [`CryptoError::InvalidLength`] for a length that no blob has.
pub fn plain_len(sealed_len: u64) -> Result<u64, CryptoError> {
    let cells = sealed_len.div_ceil(SEALED_CELL_LEN as u64).max(1);
    let plain = cells
        .checked_mul(CELL_OVERHEAD as u64)
        .and_then(|overhead| sealed_len.checked_sub(overhead))
        .ok_or(CryptoError::InvalidLength)?;
    // Rejects an empty last cell after full ones.
    if plain > PLAIN_BLOB_LEN_MAX || self::sealed_len(plain) != sealed_len {
        return Err(CryptoError::InvalidLength);
    }
    Ok(plain)
}

/// Where the cells of a blob lie; computed from its authenticated plaintext length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLayout {
    plain_len: u64,
}

/// The cells that cover a range of plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellSpan {
    /// Indexes of the cells to open; empty for an empty range.
    pub cells: Range<u64>,
    /// Bytes to drop from the front of the first opened cell.
    pub skip: usize,
    /// Bytes to return after that.
    pub take: u64,
}

impl BlobLayout {
    /// Takes a blob's plaintext length in bytes.
    ///
    /// # Errors
    /// [`CryptoError::InvalidLength`] above [`PLAIN_BLOB_LEN_MAX`].
    pub fn new(plain_len: u64) -> Result<Self, CryptoError> {
        if plain_len > PLAIN_BLOB_LEN_MAX {
            return Err(CryptoError::InvalidLength);
        }
        Ok(Self { plain_len })
    }

    /// Returns the plaintext length in bytes.
    #[must_use]
    pub fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// Returns the length of all cells in bytes.
    #[must_use]
    pub fn sealed_len(&self) -> u64 {
        sealed_len(self.plain_len)
    }

    /// Returns the number of cells, at least 1.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.plain_len.div_ceil(PLAIN_CELL_LEN as u64).max(1)
    }

    /// Returns whether the cell at `index` is the blob's last.
    #[must_use]
    pub fn is_last(&self, index: u64) -> bool {
        index == self.cells() - 1
    }

    /// Returns where the sealed bytes of the cell at `index` lie in the blob.
    ///
    /// # Errors
    /// [`CryptoError::InvalidLength`] if there is no such cell.
    pub fn sealed_range(&self, index: u64) -> Result<Range<u64>, CryptoError> {
        if index >= self.cells() {
            return Err(CryptoError::InvalidLength);
        }
        let start = index * SEALED_CELL_LEN as u64;
        Ok(start..self.sealed_len().min(start + SEALED_CELL_LEN as u64))
    }

    /// Returns the cells that cover a range of plaintext bytes.
    ///
    /// # Errors
    /// [`CryptoError::InvalidLength`] if the range is reversed or ends beyond the blob.
    pub fn span(&self, plain: Range<u64>) -> Result<CellSpan, CryptoError> {
        if plain.start > plain.end || plain.end > self.plain_len {
            return Err(CryptoError::InvalidLength);
        }
        let cell = PLAIN_CELL_LEN as u64;
        if plain.is_empty() {
            return Ok(CellSpan {
                cells: 0..0,
                skip: 0,
                take: 0,
            });
        }
        Ok(CellSpan {
            cells: plain.start / cell..plain.end.div_ceil(cell),
            skip: (plain.start % cell) as usize,
            take: plain.end - plain.start,
        })
    }
}

#[cfg(test)]
mod tests;
