//! From the client's body to sealed cells, in order.
//!
//! The plaintext of the next cells is gathered while the last cells are hashed and sealed on the
//! compute pool. Must never pull more than one batch ahead, nor finish a body of the wrong length:
//! a body that is too short or too long never gets a last cell.

use super::compute::Compute;
use super::hashes::{HashResults, Hasher};
use super::put::PutError;
use super::source::{Pieces, Source};
use bytes::Bytes;
use futures::StreamExt;
use megalith_client::framing::{CRC_LEN, frame};
use megalith_crypto::cell::{CELL_OVERHEAD, PLAIN_CELL_LEN};
use megalith_crypto::{CellSealer, CryptoError};
use megalith_model::shape::CELL_LEN;
use std::collections::VecDeque;

/// The most cells that are gathered and sealed at a time.
const BATCH_CELLS_MAX: usize = 16;

/// A body whose length was announced.
struct Announced {
    pieces: Pieces,
    rest: Bytes,
    expected: u64,
    taken: u64,
}

impl Announced {
    fn left(&self) -> u64 {
        self.expected - self.taken
    }

    /// Gathers up to `max` bytes; fewer only at the announced end, and the body must end there too.
    async fn gather(&mut self, max: u64) -> Result<Vec<Bytes>, PutError> {
        let mut wanted = self.left().min(max);
        let mut gathered = Vec::new();
        while wanted > 0 {
            if self.rest.is_empty() {
                self.rest = match self.pieces.next().await {
                    Some(piece) => piece?,
                    None => return Err(self.wrong_length(self.taken)),
                };
                continue;
            }
            let take = wanted.min(self.rest.len() as u64);
            gathered.push(self.rest.split_to(take as usize));
            self.taken += take;
            wanted -= take;
        }
        if self.left() == 0 {
            self.expect_end().await?;
        }
        Ok(gathered)
    }

    async fn expect_end(&mut self) -> Result<(), PutError> {
        while self.rest.is_empty() {
            match self.pieces.next().await {
                Some(piece) => self.rest = piece?,
                None => return Ok(()),
            }
        }
        Err(self.wrong_length(self.taken + self.rest.len() as u64))
    }

    fn wrong_length(&self, found: u64) -> PutError {
        PutError::Length {
            expected: self.expected,
            found,
        }
    }
}

/// The state that one sealing job hands to the next.
pub struct Sealing {
    pub sealer: CellSealer,
    /// Sees every plaintext byte once.
    pub hasher: Hasher,
}

/// Gives the framed cells of one blob, in order; cells put back come first again.
pub struct Feed {
    body: Announced,
    compute: Compute,
    /// None after a failure: then the feed has ended.
    sealing: Option<Sealing>,
    gathered: Option<Vec<Bytes>>,
    ready: VecDeque<Bytes>,
    /// The checksums, once everything is sealed.
    hashes: Option<HashResults>,
}

impl Feed {
    /// Starts a feed of the source's bytes.
    pub fn new(source: Source, compute: Compute, sealing: Sealing) -> Self {
        Self {
            body: Announced {
                expected: source.plain_len(),
                pieces: source.into_pieces(),
                rest: Bytes::new(),
                taken: 0,
            },
            compute,
            sealing: Some(sealing),
            gathered: None,
            ready: VecDeque::new(),
            hashes: None,
        }
    }

    /// Gives the next `count` cells; fewer only at the blob's end.
    pub async fn next(&mut self, count: usize) -> Result<Vec<Bytes>, PutError> {
        while self.ready.len() < count && self.hashes.is_none() {
            self.seal_batch(count.clamp(1, BATCH_CELLS_MAX)).await?;
        }
        let count = count.min(self.ready.len());
        Ok(self.ready.drain(..count).collect())
    }

    /// Takes cells back, to give them again before all others.
    pub fn put_back(&mut self, cells: Vec<Bytes>) {
        for cell in cells.into_iter().rev() {
            self.ready.push_front(cell);
        }
    }

    /// Returns the checksums of the whole body, once it is sealed to its end.
    pub fn hashes(&self) -> Option<HashResults> {
        self.hashes
    }

    /// Seals all that is left, however much that is: for small bodies.
    pub async fn seal_rest(&mut self) -> Result<(), PutError> {
        while self.hashes.is_none() {
            self.seal_batch(BATCH_CELLS_MAX).await?;
        }
        Ok(())
    }

    async fn seal_batch(&mut self, cells: usize) -> Result<(), PutError> {
        let batch = (cells * PLAIN_CELL_LEN) as u64;
        let plain = match self.gathered.take() {
            Some(plain) => plain,
            None => self.body.gather(batch).await?,
        };
        let last = self.body.left() == 0;
        let sealing = self.sealing.take();
        let sealing = sealing.ok_or(CryptoError::Misuse("sealing after a failure"))?;
        let job = self.compute.run(move || seal(sealing, &plain, last));
        let ahead = async {
            match last {
                true => Ok(None),
                false => self.body.gather(batch).await.map(Some),
            }
        };
        let (sealed, gathered) = tokio::join!(job, ahead);
        let (sealing, cells) = sealed??;
        if sealing.sealer.is_finished() {
            self.hashes = Some(sealing.hasher.finish());
        } else {
            self.sealing = Some(sealing);
        }
        self.gathered = gathered?;
        self.ready.extend(cells);
        Ok(())
    }
}

/// Hashes and seals one batch: whole cells, except for the last cell of the blob.
fn seal(
    mut sealing: Sealing,
    plain: &[Bytes],
    last: bool,
) -> Result<(Sealing, Vec<Bytes>), CryptoError> {
    let mut left: usize = plain.iter().map(Bytes::len).sum();
    let mut cells = Vec::with_capacity(left.div_ceil(PLAIN_CELL_LEN).max(1));
    let mut scratch = Vec::new();
    let mut pieces = plain.iter();
    let mut rest: &[u8] = &[];
    loop {
        let len = left.min(PLAIN_CELL_LEN);
        left -= len;
        scratch.clear();
        let cell = loop {
            let missing = len - scratch.len();
            if rest.len() >= missing {
                let (head, tail) = rest.split_at(missing);
                rest = tail;
                if scratch.is_empty() {
                    break head;
                }
                scratch.extend_from_slice(head);
                break &scratch[..];
            }
            scratch.extend_from_slice(rest);
            rest = pieces.next().map_or(&[][..], |piece| &piece[..]);
        };
        sealing.hasher.update(cell);
        let mut out = Vec::with_capacity(cell.len() + CELL_OVERHEAD + CRC_LEN as usize);
        sealing.sealer.seal(cell, last && left == 0, &mut out)?;
        debug_assert!(out.len() as u64 <= CELL_LEN);
        cells.push(frame(out));
        if left == 0 {
            return Ok((sealing, cells));
        }
    }
}
