//! The life of a write: body → sealed cells → stripes → shards on the slots of a volume.
//!
//! The stages run side by side: while one stripe is coded and sent, the next is hashed and sealed,
//! and the one after that is gathered from the client (`plain`, `segment`). A segment that loses
//! its volume starts again on another one, as long as all its cells are still held. No row names
//! anything written here until the caller proposes it.

use super::budget::{Busy, Reservation};
use super::chooser::NoVolume;
use super::hashes::{HashResults, Hasher, Hashes};
use super::leases::{LeaseError, LeasedId};
use super::memory::{Memory, Paying};
use super::plain::{Feed, Purse, Sealing};
use super::segment::{STRIPES_IN_FLIGHT, Segment, SegmentLost, SegmentOrder};
use super::shares::Payer;
use super::source::{Source, SourceError, whole_write_bytes};
use super::{JobLost, Pipeline, Shared};
use bytes::Bytes;
use megalith_client::framing::unframed;
use megalith_crypto::cell::{PLAIN_BLOB_LEN_MAX, sealed_len};
use megalith_crypto::{CellSealer, CryptoError, DataKey, StreamContext, StreamIv};
use megalith_model::command::{Leftover, NewBlob, NewSegment};
use megalith_model::ids::BlobId;
use megalith_model::profile::Profile;
use megalith_model::shape::{CELL_LEN, SEGMENT_CELLS_MAX, SEGMENT_LEN_MAX, Shape};
use megalith_model::topology::ClusterMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// By how many bytes the allowance for held cells grows at a time.
const SPARE_STEP: u64 = 1 << 20;

/// A blob that is written and durable, but not yet named by any row.
#[derive(Debug)]
pub struct WrittenBlob {
    /// Its id, as the key of the command that brings it.
    pub id: LeasedId,
    /// For the command that will name it.
    pub blob: NewBlob,
    pub iv: StreamIv,
    /// The caller compares them with the client's claims before it proposes anything.
    pub hashes: HashResults,
}

/// Why a blob was not written. No row names it; what was written of it is garbage.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// No memory became free for too long: the client should slow down.
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The body is shorter or longer than announced.
    #[error("body of {expected} bytes has {found}")]
    Length {
        /// Bytes announced.
        expected: u64,
        /// Bytes that came, at least; never more than one piece beyond `expected`.
        found: u64,
    },
    /// No volume takes blobs; includes the cluster's reason, if it gave one.
    #[error("no volume takes new blobs: {reason}")]
    NoVolume { reason: String },
    /// Too few nodes took it; trying again may help.
    #[error("too few slots took the blob: {reason}")]
    Unavailable {
        /// What the last of them said.
        reason: String,
    },
    /// The lease of the blob's id was closed meanwhile; writing again takes a new one.
    #[error("the lease of {blob} was closed during the write")]
    LeaseClosed { blob: BlobId },
    /// The body is not what it was said to be, and nothing of it was written.
    #[error("the body was refused before it was written")]
    Refused,
    /// The body is longer than a blob can be.
    #[error("a blob of {0} bytes is too large")]
    TooLarge(u64),
    /// No blob id was available.
    #[error("take a blob id")]
    Lease(#[from] LeaseError),
    /// The random source failed.
    #[error("seal the blob")]
    Seal(#[from] CryptoError),
    /// A mistake of our own.
    #[error(transparent)]
    Compute(#[from] JobLost),
}

/// Says whether a body has the checksums that it should have.
pub type Approve<'a> = &'a (dyn Fn(&HashResults) -> bool + Send + Sync);

impl Pipeline {
    /// Writes one blob from `source`, sealed under `key` as part `part` (0 if the object has one
    /// part). A body that is held whole is shown to `approve` before a shard of it is written; a
    /// stream's checksums are known too late for that, and whoever asks for the write compares
    /// them.
    ///
    /// # Errors
    /// See [`PutError`]; a stream is not touched before memory is reserved for its first bytes.
    pub async fn write_blob(
        &self,
        source: Source,
        key: &DataKey,
        part: u32,
        hashes: Hashes,
        approve: Approve<'_>,
    ) -> Result<WrittenBlob, PutError> {
        let plain_len = source.plain_len();
        if plain_len > PLAIN_BLOB_LEN_MAX {
            return Err(PutError::TooLarge(plain_len));
        }
        let sealed = sealed_len(plain_len);
        let order = Order {
            sealed_len: sealed,
            shape: Shape::for_len(sealed),
            part,
            hashes,
        };
        let paying = match &source {
            Source::Stream { paying, .. } => Some(*paying),
            // It has its own memory reserved.
            Source::Held(_) => None,
        };
        // What is not coded is written whole, so it is paid for whole.
        let at_once = match paying {
            Some(Paying::AsItComes(_)) if order.shape == Shape::Coded => None,
            Some(Paying::AsItComes(payer) | Paying::AtOnce(payer)) => Some(payer),
            None => None,
        };
        let _reserved = match at_once {
            Some(payer) => {
                let bytes = self.bytes_held(&order, plain_len);
                Some(self.shared.memory.try_reserve(payer, bytes)?)
            }
            None => None,
        };
        let paying = paying.filter(|_| at_once.is_none());
        self.write_order(source, key, order, (paying, approve))
            .await
    }

    async fn write_order(
        &self,
        source: Source,
        key: &DataKey,
        order: Order,
        (paying, approve): (Option<Paying>, Approve<'_>),
    ) -> Result<WrittenBlob, PutError> {
        let held = matches!(source, Source::Held(_));
        let id = self.shared.leases.next_id().await?;
        let blob = id.blob();
        let context = StreamContext {
            cluster: self.shared.cluster.0,
            blob: blob.0,
            part: order.part,
        };
        let (sealer, iv) = CellSealer::new(key, context)?;
        let hasher = Hasher::new(order.hashes);
        let sealing = Sealing { sealer, hasher };
        let compute = self.shared.compute.clone();
        let payer = source.payer();
        let parity = self.most(|profile| profile.shards() - profile.data());
        let memory = &self.shared.memory;
        let purse = paying.and_then(|paying| Purse::new(memory, paying, parity));
        let mut writer = Writer {
            shared: Arc::clone(&self.shared),
            feed: Feed::new(source, compute, sealing, purse),
            order,
            payer,
            parity,
            id,
        };
        if held {
            writer.feed.seal_rest().await?;
            if !writer.feed.hashes().is_some_and(|hashes| approve(&hashes)) {
                return Err(PutError::Refused);
            }
        }
        let (segments, inline) = match order.shape {
            Shape::Inline => (Vec::new(), writer.inline().await?),
            Shape::Copies | Shape::Coded => (writer.segments().await?, Vec::new()),
        };
        let hashes = writer.feed.hashes();
        let id = writer.id;
        Ok(WrittenBlob {
            blob: NewBlob {
                blob,
                len: order.sealed_len,
                shape: order.shape,
                leftovers: id.left_besides(&segments),
                segments,
                inline,
            },
            id,
            iv,
            hashes: hashes.ok_or(CryptoError::Misuse("a blob without its last cell"))?,
        })
    }

    /// Returns the most bytes that a write holds that pays for all of it at once.
    fn bytes_held(&self, order: &Order, plain_len: u64) -> u64 {
        if order.shape != Shape::Coded {
            return whole_write_bytes(plain_len);
        }
        let streaming = self.most(cells_held) as u64 * CELL_LEN;
        streaming.min(4 * order.sealed_len)
    }

    /// Returns the most of something that a volume may have on which the blob is written.
    pub(super) fn most(&self, of: impl Fn(Profile) -> usize) -> usize {
        let map = self.shared.map.borrow();
        let volumes = map.writable.iter().chain(&map.degraded);
        volumes.map(|volume| of(volume.profile)).max().unwrap_or(0)
    }
}

/// Returns how many cells one write's stripes hold: gathered, being sealed (plain and sealed),
/// left over by a segment whose last stripe was short, in flight.
fn cells_held(profile: Profile) -> usize {
    let k = profile.data();
    let left_over = match SEGMENT_CELLS_MAX % k as u64 {
        0 => 0,
        _ => k - 1,
    };
    3 * k + left_over + (STRIPES_IN_FLIGHT + 1) * profile.shards()
}

/// A write to be done.
#[derive(Clone, Copy)]
struct Order {
    sealed_len: u64,
    shape: Shape,
    part: u32,
    hashes: Hashes,
}

struct Writer {
    shared: Arc<Shared>,
    feed: Feed,
    order: Order,
    payer: Payer,
    /// The most parity cells of a stripe.
    parity: usize,
    id: LeasedId,
}

impl Writer {
    async fn inline(&mut self) -> Result<Vec<u8>, PutError> {
        let cells = self.order.sealed_len.div_ceil(CELL_LEN) as usize;
        let cells = self.feed.next(cells, 0).await?.cells;
        Ok(cells.iter().flat_map(unframed).copied().collect())
    }

    async fn segments(&mut self) -> Result<Vec<NewSegment>, PutError> {
        let mut segments = Vec::new();
        let mut left = self.order.sealed_len;
        while left > 0 {
            let number = segments.len() as u32;
            let segment = self.segment(number, left).await?;
            left -= segment.len;
            segments.push(segment);
        }
        Ok(segments)
    }

    /// Writes one segment, if need be on another volume. If all volumes of a map have failed, waits
    /// for the next map: the cluster needs about two seconds to make new volumes. If the map has
    /// none, waits only as long as that may change ([`Refusals`](super::refusals::Refusals)).
    async fn segment(&mut self, number: u32, left: u64) -> Result<NewSegment, PutError> {
        let wait = self.shared.settings.volume_wait;
        let deadline = Instant::now() + wait;
        let mut tried = Vec::new();
        let mut reason = String::new();
        let settings = &self.shared.settings;
        let tries = settings.volumes_tried_max;
        let mut kept = self.restart_cells();
        loop {
            let map = Arc::clone(&self.shared.map.borrow());
            let volume = match self.shared.chooser.choose(&map, &self.shared.nodes, &tried) {
                Ok(volume) if tried.len() < tries => volume,
                Err(NoVolume::Refused(reason)) => {
                    let until = self.shared.refusals.until(&map, Instant::now(), wait);
                    let until = until.min(deadline);
                    if !next_map(&self.shared.map, &map, until).await {
                        return Err(PutError::NoVolume { reason });
                    }
                    continue;
                }
                Ok(_) | Err(NoVolume::AllTried) => {
                    if !next_map(&self.shared.map, &map, deadline).await {
                        return Err(PutError::Unavailable { reason });
                    }
                    tried.clear();
                    continue;
                }
            };
            tried.push(volume.id);
            self.id.began(Leftover {
                volume: volume.id,
                segment: number,
            });
            let order = SegmentOrder {
                blob: self.id.blob(),
                number,
                shape: self.order.shape,
                len: self.segment_len(left),
                volume,
            };
            let result = match Segment::open(&self.shared, &map, order) {
                Ok(segment) => self.fill(segment, &mut kept).await?,
                Err(lost) => Err(lost),
            };
            match result {
                Ok(segment) => return Ok(segment),
                Err(SegmentLost::Compute(lost)) => return Err(lost.into()),
                Err(SegmentLost::LeaseClosed) => {
                    let blob = self.id.blob();
                    self.shared.leases.refused(blob.lease());
                    return Err(PutError::LeaseClosed { blob });
                }
                Err(SegmentLost::Elsewhere(why)) => reason = why,
            }
            match kept.take() {
                Some(cells) => self.feed.put_back(cells),
                None => return Err(PutError::Unavailable { reason }),
            }
        }
    }

    fn restart_cells(&self) -> RestartCells {
        let (allowed, parity) = match self.order.shape {
            Shape::Coded => (0, (STRIPES_IN_FLIGHT + 1) * self.parity),
            // All cells are in memory anyway.
            Shape::Copies | Shape::Inline => (u64::MAX, 0),
        };
        RestartCells {
            memory: self.shared.memory.clone(),
            payer: self.payer,
            cells: Vec::new(),
            bytes: 0,
            parity: parity as u64 * CELL_LEN,
            allowed,
            spare: Vec::new(),
            whole: true,
        }
    }

    /// Returns the length of the next segment if `left` bytes remain: the same on every volume.
    fn segment_len(&self, left: u64) -> u64 {
        match self.order.shape {
            Shape::Coded => {
                let cells_max = self.shared.settings.segment_cells_max.max(1);
                left.min(SEGMENT_LEN_MAX).min(cells_max * CELL_LEN)
            }
            Shape::Copies | Shape::Inline => left,
        }
    }

    /// Feeds cells to a segment. The outer error ends the blob, the inner one the segment.
    async fn fill(
        &mut self,
        mut segment: Segment,
        kept: &mut RestartCells,
    ) -> Result<Result<NewSegment, SegmentLost>, PutError> {
        let columns = segment.layout().columns();
        let mut left = segment.layout().cells() as usize;
        let batch = match self.order.shape {
            Shape::Coded => columns,
            Shape::Copies | Shape::Inline => left,
        };
        let mut fed = self.feed.next(batch.min(left), batch).await?;
        while !fed.cells.is_empty() {
            left -= fed.cells.len();
            kept.keep(&fed.cells);
            // After the last stripe comes the first one of the next segment.
            let ahead = self.feed.next(batch.min(left), after(batch, left));
            let (pushed, next) = tokio::join!(segment.push(fed), ahead);
            fed = next?;
            if let Err(lost) = pushed {
                kept.keep(&fed.cells);
                return Ok(Err(lost));
            }
        }
        Ok(segment.finish().await)
    }
}

/// How many cells are wanted after the next batch, if `left` cells of the segment are left.
fn after(batch: usize, left: usize) -> usize {
    match left.saturating_sub(batch) {
        0 => batch,
        then => batch.min(then),
    }
}

/// The sealed cells of the current segment, as long as there is room for them: with all of them the
/// segment can start again on another volume.
struct RestartCells {
    memory: Memory,
    payer: Payer,
    cells: Vec<Bytes>,
    bytes: u64,
    /// Bytes of the parity of stripes in flight, when the cells are written again.
    parity: u64,
    allowed: u64,
    spare: Vec<Reservation>,
    whole: bool,
}

impl RestartCells {
    fn keep(&mut self, cells: &[Bytes]) {
        if !self.whole {
            return;
        }
        self.bytes += cells.iter().map(|cell| cell.len() as u64).sum::<u64>();
        while self.bytes + self.parity > self.allowed {
            match self.memory.try_spare(self.payer, SPARE_STEP) {
                Some(reservation) => {
                    self.spare.push(reservation);
                    self.allowed += SPARE_STEP;
                }
                None => {
                    self.whole = false;
                    self.cells.clear();
                    self.spare.clear();
                    return;
                }
            }
        }
        self.cells.extend_from_slice(cells);
    }

    /// Returns all cells since the segment's start; None if some are gone.
    fn take(&mut self) -> Option<Vec<Bytes>> {
        self.bytes = 0;
        self.whole.then(|| std::mem::take(&mut self.cells))
    }
}

/// Waits for a map newer than `seen`; false if none comes by the deadline.
fn next_map(
    maps: &watch::Receiver<Arc<ClusterMap>>,
    seen: &Arc<ClusterMap>,
    deadline: Instant,
) -> impl Future<Output = bool> + Send + use<> {
    let (mut maps, seen) = (maps.clone(), Arc::clone(seen));
    async move {
        let newer = maps.wait_for(|map| !Arc::ptr_eq(map, &seen));
        timeout_at(deadline, newer)
            .await
            .is_ok_and(|newer| newer.is_ok())
    }
}
