//! From the client's body to sealed cells, in order.
//!
//! The plaintext of the next cells is gathered while the last cells are hashed and sealed on the
//! compute pool. Sealed cells don't wait for those that are still being gathered: a client may be
//! slow. Must never pull more than one batch ahead, hold more of a client's bytes than are paid
//! for, nor finish a body of the wrong length: a body that is too short or too long never gets a
//! last cell.

use super::budget::Reservation;
use super::compute::Compute;
use super::hashes::{HashResults, Hasher};
use super::memory::{Gathering, Memory, Paying};
use super::put::PutError;
use super::shares::Payer;
use super::source::{Pieces, Source};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::{BoxFuture, Either, FutureExt as _, ready, select};
use megalith_client::framing::{CRC_LEN, frame};
use megalith_crypto::cell::{CELL_OVERHEAD, PLAIN_CELL_LEN};
use megalith_crypto::{CellSealer, CryptoError};
use megalith_model::shape::CELL_LEN;
use std::collections::VecDeque;
use std::sync::Arc;

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
    /// announced end, and the body must end there too. Of all but a body's first bytes, memory is
    /// reserved when they have come.
    async fn gather(
        &mut self,
        cells: usize,
        mut paid: Option<Gathering>,
    ) -> Result<Gathered, PutError> {
        let mut gathered = Vec::new();
        while gathered.len() < cells && self.left() > 0 {
            if let Some(paid) = &mut paid {
                if self.taken > 0 && self.rest.is_empty() {
                    self.rest = self.next_piece().await?;
                }
                paid.make_room(((gathered.len() + 1) * PLAIN_CELL_LEN) as u64)
                    .await?;
            }
            let len = self.left().min(PLAIN_CELL_LEN as u64) as usize;
            gathered.push(self.cell(len).await?);
            self.taken += len as u64;
        }
        if self.left() == 0 {
            self.expect_end().await?;
        }
        Ok(Gathered {
            plain: gathered,
            paid,
        })
    }

    async fn next_piece(&mut self) -> Result<Bytes, PutError> {
        match self.pieces.next().await {
            Some(piece) => Ok(piece?),
            None => Err(self.wrong_length(self.taken)),
        }
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

/// Plaintext that was gathered, and the memory that it takes.
struct Gathered {
    plain: Vec<Bytes>,
    paid: Option<Gathering>,
}

/// The state that one sealing job hands to the next.
pub struct Sealing {
    pub sealer: CellSealer,
    /// Sees every plaintext byte once.
    pub hasher: Hasher,
}

/// How a feed pays for what it holds, if that is not its caller's affair.
pub struct Purse {
    pub memory: Memory,
    pub payer: Payer,
    /// The most parity cells of a stripe.
    pub parity: usize,
}

impl Purse {
    /// Returns the purse of a write that pays as its body comes.
    pub fn new(memory: &Memory, paying: Paying, parity: usize) -> Option<Self> {
        match paying {
            Paying::AsItComes(payer) => Some(Self {
                memory: memory.clone(),
                payer,
                parity,
            }),
            Paying::AtOnce(_) => None,
        }
    }

    /// Bytes of working memory for a batch: its sealed cells, and their parity.
    fn working(&self, cells: usize) -> u64 {
        (cells + self.parity) as u64 * CELL_LEN
    }
}

/// The memory of a stripe; what holds a cell of it holds this.
pub type Room = Arc<Reservation>;

/// Framed cells in order, and the memory that is reserved for them and their parity.
#[derive(Default)]
pub struct Fed {
    pub cells: Vec<Bytes>,
    pub rooms: Vec<Room>,
}

/// A body on its way to its next batch.
type Ahead = BoxFuture<'static, (Announced, Result<Gathered, PutError>)>;

/// Gives the framed cells of one blob, in order; cells put back come first again.
pub struct Feed {
    /// None while it is being gathered from.
    body: Option<Announced>,
    compute: Compute,
    purse: Option<Purse>,
    /// None after a failure: then the feed has ended.
    sealing: Option<Sealing>,
    ahead: Option<Ahead>,
    ready: VecDeque<(Bytes, Option<Room>)>,
    /// The checksums, once everything is sealed.
    hashes: Option<HashResults>,
}

impl Feed {
    /// Starts a feed of the source's bytes.
    pub fn new(source: Source, compute: Compute, sealing: Sealing, purse: Option<Purse>) -> Self {
        Self {
            body: Some(Announced {
                expected: source.plain_len(),
                pieces: source.into_pieces(),
                rest: Bytes::new(),
                taken: 0,
            }),
            compute,
            purse,
            sealing: Some(sealing),
            ahead: None,
            ready: VecDeque::new(),
            hashes: None,
        }
    }

    /// Gives the next `count` cells; fewer only at the blob's end. Of the `after` cells that will
    /// be wanted then, it gathers what comes meanwhile.
    pub async fn next(&mut self, count: usize, after: usize) -> Result<Fed, PutError> {
        while self.ready.len() < count && self.hashes.is_none() {
            let missing = count - self.ready.len();
            self.seal_batch(missing.min(BATCH_CELLS_MAX), after.min(BATCH_CELLS_MAX))
                .await?;
        }
        let count = count.min(self.ready.len());
        let mut fed = Fed::default();
        for (cell, room) in self.ready.drain(..count) {
            fed.cells.push(cell);
            let held = fed.rooms.last();
            let new = room.filter(|room| held.is_none_or(|last| !Arc::ptr_eq(last, room)));
            fed.rooms.extend(new);
        }
        Ok(fed)
    }

    /// Takes cells back, to give them again before all others. Their memory is the caller's affair.
    pub fn put_back(&mut self, cells: Vec<Bytes>) {
        for cell in cells.into_iter().rev() {
            self.ready.push_front((cell, None));
        }
    }

    /// Returns the checksums of the whole body, once it is sealed to its end.
    pub fn hashes(&self) -> Option<HashResults> {
        self.hashes
    }

    /// Seals all that is left, however much that is: for small bodies.
    pub async fn seal_rest(&mut self) -> Result<(), PutError> {
        while self.hashes.is_none() {
            self.seal_batch(BATCH_CELLS_MAX, BATCH_CELLS_MAX).await?;
        }
        Ok(())
    }

    /// Seals the batch that was gathered ahead, or one of `cells` cells. Meanwhile the next one, of
    /// `after` cells, is begun.
    async fn seal_batch(&mut self, cells: usize, after: usize) -> Result<(), PutError> {
        let gathering = match self.ahead.take() {
            Some(ahead) => ahead,
            None => self.gather(cells)?,
        };
        let (body, gathered) = gathering.await;
        let last = body.left() == 0;
        self.body = Some(body);
        let Gathered { plain, paid } = gathered?;
        let (room, incoming) = match (paid, &self.purse) {
            (Some(paid), Some(purse)) => {
                let (room, incoming) = paid.work(purse.working(plain.len())).await?;
                (Some(room), incoming)
            }
            (None, _) | (_, None) => (None, None),
        };
        let sealing = self.sealing.take();
        let sealing = sealing.ok_or(CryptoError::Misuse("sealing after a failure"))?;
        let compute = self.compute.clone();
        let bytes = plain.iter().map(|cell| cell.len() as u64).sum();
        let job = compute.run_on(bytes, move || {
            let sealed = seal(sealing, plain, last);
            drop(incoming);
            sealed
        });
        let job = std::pin::pin!(job);
        let sealed = match last || after == 0 {
            true => job.await,
            false => match select(job, self.gather(after)?).await {
                Either::Left((sealed, ahead)) => {
                    self.ahead = Some(ahead);
                    sealed
                }
                Either::Right((gathered, job)) => {
                    self.ahead = Some(ready(gathered).boxed());
                    job.await
                }
            },
        };
        let (sealing, cells) = sealed??;
        if sealing.sealer.is_finished() {
            self.hashes = Some(sealing.hasher.finish());
        } else {
            self.sealing = Some(sealing);
        }
        let room = room.map(Arc::new);
        self.ready
            .extend(cells.into_iter().map(|cell| (cell, room.clone())));
        Ok(())
    }

    /// Begins to gather a batch.
    fn gather(&mut self, cells: usize) -> Result<Ahead, PutError> {
        let body = self.body.take();
        let mut body = body.ok_or(CryptoError::Misuse("gathering after a failure"))?;
        let paid = self.purse.as_ref().map(|purse| {
            // Its plaintext too: what has come of it may find no incoming memory.
            let whole = purse.working(cells) + cells as u64 * CELL_LEN;
            Gathering::new(&purse.memory, purse.payer, whole)
        });
        Ok(async move {
            let gathered = body.gather(cells, paid).await;
            (body, gathered)
        }
        .boxed())
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
        let cells = body.gather(16, None).await.expect("whole").plain;
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
        let cells = body.gather(16, None).await.expect("whole").plain;
        let lens: Vec<_> = cells.iter().map(Bytes::len).collect();
        assert_eq!(
            (cells.concat(), lens),
            (piece.to_vec(), vec![PLAIN_CELL_LEN; 3])
        );
        assert_eq!(cells[1].as_ptr(), piece[PLAIN_CELL_LEN..].as_ptr());
    }
}
