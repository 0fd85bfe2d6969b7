//! From the client's body to sealed cells, in order.
//!
//! The plaintext of the next cells is gathered while the last cells are hashed and sealed on the
//! compute pool. Must never pull more than one batch ahead, nor finish a body of the wrong length:
//! a body that is too short or too long never gets a last cell.

use super::compute::Compute;
use super::hashes::{HashResults, Hasher};
use super::put::PutError;
use super::source::{Pieces, Source};
use bytes::{Bytes, BytesMut};
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

    /// Gathers the plaintext of up to `cells` cells; fewer, and a shorter last one, only at the
    /// announced end, and the body must end there too.
    async fn gather(&mut self, cells: usize) -> Result<Vec<Bytes>, PutError> {
        let mut gathered = Vec::new();
        while gathered.len() < cells && self.left() > 0 {
            let len = self.left().min(PLAIN_CELL_LEN as u64) as usize;
            gathered.push(self.cell(len).await?);
            self.taken += len as u64;
        }
        if self.left() == 0 {
            self.expect_end().await?;
        }
        Ok(gathered)
    }

    /// Takes the next `len` bytes. Short pieces are copied together: each would keep the whole
    /// buffer that it was cut from, and a client chooses how short its pieces are.
    async fn cell(&mut self, len: usize) -> Result<Bytes, PutError> {
        let mut copied = BytesMut::new();
        loop {
            let missing = len - copied.len();
            if copied.is_empty() && self.rest.len() >= len {
                return Ok(self.rest.split_to(len));
            }
            copied.reserve(missing);
            copied.extend_from_slice(&self.rest.split_to(missing.min(self.rest.len())));
            if copied.len() == len {
                return Ok(copied.freeze());
            }
            self.rest = match self.pieces.next().await {
                Some(piece) => piece?,
                None => return Err(self.wrong_length(self.taken + copied.len() as u64)),
            };
        }
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
        let plain = match self.gathered.take() {
            Some(plain) => plain,
            None => self.body.gather(cells).await?,
        };
        let last = self.body.left() == 0;
        let sealing = self.sealing.take();
        let sealing = sealing.ok_or(CryptoError::Misuse("sealing after a failure"))?;
        let job = self.compute.run(move || seal(sealing, plain, last));
        let ahead = async {
            match last {
                true => Ok(None),
                false => self.body.gather(cells).await.map(Some),
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
    mut plain: Vec<Bytes>,
    last: bool,
) -> Result<(Sealing, Vec<Bytes>), CryptoError> {
    if plain.is_empty() {
        // An empty blob has one empty cell.
        plain.push(Bytes::new());
    }
    let mut cells = Vec::with_capacity(plain.len());
    for (at, cell) in plain.iter().enumerate() {
        sealing.hasher.update(cell);
        let mut out = Vec::with_capacity(cell.len() + CELL_OVERHEAD + CRC_LEN as usize);
        let ends = last && at + 1 == plain.len();
        sealing.sealer.seal(cell, ends, &mut out)?;
        debug_assert!(out.len() as u64 <= CELL_LEN);
        cells.push(frame(out));
    }
    Ok((sealing, cells))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::sync::Arc;

    /// A buffer off the network, and how many of them are held.
    struct Buffer(
        Vec<u8>,
        #[expect(dead_code, reason = "counted by its references")] Arc<()>,
    );

    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    fn announced(pieces: Vec<Bytes>, expected: u64) -> Announced {
        Announced {
            pieces: stream::iter(pieces.into_iter().map(Ok)).boxed(),
            rest: Bytes::new(),
            expected,
            taken: 0,
        }
    }

    #[tokio::test]
    async fn short_pieces_do_not_keep_the_buffers_that_they_are_cut_from() {
        let held = Arc::new(());
        let piece = |at: usize| {
            let buffer = Bytes::from_owner(Buffer(vec![at as u8; 1 << 16], held.clone()));
            buffer.slice(..1)
        };
        let mut body = announced((0..1_000).map(piece).collect(), 1_000);
        assert_eq!(Arc::strong_count(&held), 1_001);
        let cells = body.gather(16).await.expect("whole");
        assert_eq!(Arc::strong_count(&held), 1);
        let bytes: Vec<u8> = (0..1_000).map(|at| at as u8).collect();
        assert_eq!(cells, [bytes]);
    }

    #[tokio::test]
    async fn whole_cells_are_not_copied() {
        let bytes: Vec<u8> = (0..3 * PLAIN_CELL_LEN).map(|at| (at / 251) as u8).collect();
        let piece = Bytes::from(bytes);
        let pieces = vec![piece.slice(..5), piece.slice(5..)];
        let mut body = announced(pieces, piece.len() as u64);
        let cells = body.gather(16).await.expect("whole");
        let lens: Vec<_> = cells.iter().map(Bytes::len).collect();
        assert_eq!(
            (cells.concat(), lens),
            (piece.to_vec(), vec![PLAIN_CELL_LEN; 3])
        );
        assert_eq!(cells[1].as_ptr(), piece[PLAIN_CELL_LEN..].as_ptr());
    }
}
