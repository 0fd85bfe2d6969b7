//! One segment on its way to the slots of one volume.
//!
//! At most [`STRIPES_IN_FLIGHT`] stripes are in flight: the slowest slot sets the pace, and a slot
//! that holds up the others for too long is left out. A segment ends either written (with at least
//! its quorum of receipts that agree with our own digests) or lost; fewer receipts never count as
//! written. Slots that are left out are owed their shard.

use super::Shared;
use super::compute::{Compute, JobLost};
use super::plain::{Fed, Room};
use super::ports::{ShardError, ShardWrite};
use bytes::Bytes;
use megalith_client::framing::{CRC_LEN, frame, unframed};
use megalith_erasure::Encoder;
use megalith_model::command::NewSegment;
use megalith_model::ids::BlobId;
use megalith_model::rows::Digest;
use megalith_model::shape::{SegmentLayout, Shape};
use megalith_model::shard::{Receipt, ShardId, ShardTarget};
use megalith_model::shard::{ShardDigest, row_digest};
use megalith_model::topology::{ClusterMap, Volume};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// How many stripes slots may hold up at a time.
pub const STRIPES_IN_FLIGHT: usize = 2;

/// Why a segment was not written here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentLost {
    /// Too few slots took it, or the volume has changed: another volume may work.
    Elsewhere(String),
    /// The blob id is no longer in an open lease: no volume will work.
    LeaseClosed,
    /// A compute job was lost.
    Compute(JobLost),
}

/// A segment to write.
pub struct SegmentOrder {
    pub blob: BlobId,
    /// The segment's number in the blob.
    pub number: u32,
    pub shape: Shape,
    /// Ciphertext bytes.
    pub len: u64,
    pub volume: Volume,
}

/// A segment being written.
pub struct Segment {
    shared: Arc<Shared>,
    volume: Volume,
    layout: SegmentLayout,
    coder: Option<Coder>,
    slots: Vec<SlotWriter>,
    results: JoinSet<(usize, Result<Receipt, ShardError>)>,
    in_flight: Arc<Semaphore>,
    /// Whether shards are sent when they are complete.
    whole: bool,
    /// Wakes when the map changes: a node that it no longer lists as alive is left out.
    map: watch::Receiver<Arc<ClusterMap>>,
    /// Bit i: slot i took the whole shard and confirmed it.
    done: u32,
    /// Bit i: slot i is left out.
    left_out: u32,
    last_error: String,
    /// The memory of cells that are sent when their shards are complete.
    rooms: Vec<Room>,
}

/// The writer of one slot's shard.
struct SlotWriter {
    write: ShardWrite,
    path: Path,
    /// The request under way.
    task: Option<AbortHandle>,
    /// Pieces handed over and not yet sent.
    pending: Arc<AtomicUsize>,
}

enum Path {
    /// The slot has no shard of this segment, or is left out.
    None,
    /// Cells are sent as they come.
    Stream {
        cells: mpsc::Sender<Bytes>,
        digest: oneshot::Sender<ShardDigest>,
    },
    /// The shard is one cell (or a copy): sent when it is complete.
    Whole(Vec<Bytes>),
}

impl Segment {
    /// Opens a segment on its volume. Leaves out slots whose nodes the map calls dead.
    pub fn open(
        shared: &Arc<Shared>,
        map: &ClusterMap,
        order: SegmentOrder,
    ) -> Result<Self, SegmentLost> {
        let SegmentOrder {
            blob,
            number,
            shape,
            len,
            volume,
        } = order;
        let layout = SegmentLayout::new(shape, volume.profile, blob, len);
        let whole = shape == Shape::Copies || layout.stripes() == 1;
        let mut segment = Self {
            shared: Arc::clone(shared),
            coder: Some(Coder::new(shape, &layout)),
            slots: Vec::with_capacity(volume.slots.len()),
            results: JoinSet::new(),
            in_flight: Arc::new(Semaphore::new(STRIPES_IN_FLIGHT)),
            whole,
            map: shared.map.clone(),
            done: 0,
            left_out: 0,
            last_error: "its nodes are not heard from".into(),
            rooms: Vec::new(),
            volume,
            layout,
        };
        for (slot, at) in segment.volume.slots.clone().into_iter().enumerate() {
            let write = ShardWrite {
                target: ShardTarget {
                    at,
                    shard: ShardId {
                        volume: segment.volume.id,
                        blob,
                        segment: number,
                        slot: slot as u8,
                    },
                },
                epoch: segment.volume.epoch,
                len: layout.shard_len(slot),
            };
            let holds = write.len > 0;
            let lives = map.is_alive(at.node);
            if holds && !lives {
                segment.left_out |= 1 << slot;
            }
            let (path, task) = match (holds && lives, whole) {
                (false, _) => (Path::None, None),
                (true, true) => (Path::Whole(Vec::new()), None),
                (true, false) => segment.start_stream(slot, write),
            };
            segment.slots.push(SlotWriter {
                write,
                path,
                task,
                pending: Arc::default(),
            });
        }
        segment.expect_quorum()?;
        Ok(segment)
    }

    /// Returns the segment's layout on its volume.
    pub fn layout(&self) -> &SegmentLayout {
        &self.layout
    }

    /// Hands over the next stripes: framed data cells, in whole stripes except at the segment's
    /// end. Their memory is free when the last of their cells, or of their parity, is sent.
    pub async fn push(&mut self, fed: Fed) -> Result<(), SegmentLost> {
        let Fed { cells, rooms } = fed;
        self.note_ended()?;
        let permit = self.pace().await?;
        let lost = SegmentLost::Compute;
        let coder = self.coder.take().ok_or(lost(JobLost))?;
        let (coder, shards) = code(&self.shared.compute, coder, cells)
            .await
            .map_err(lost)?;
        self.coder = Some(coder);
        if self.whole {
            self.rooms.extend(rooms.iter().cloned());
        }
        let stripe = Arc::new((permit, rooms));
        for (slot, shard) in self.slots.iter_mut().zip(shards) {
            match &mut slot.path {
                Path::None => {}
                Path::Whole(cells) => cells.extend(shard),
                Path::Stream { cells, .. } => {
                    for bytes in shard {
                        slot.pending.fetch_add(1, Ordering::Relaxed);
                        let piece = Bytes::from_owner(InFlight {
                            bytes,
                            pending: Arc::clone(&slot.pending),
                            _stripe: Arc::clone(&stripe),
                        });
                        // Fails only if the slot's task has ended: its result says why.
                        let _ = cells.try_send(piece);
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits for the receipts.
    pub async fn finish(mut self) -> Result<NewSegment, SegmentLost> {
        let coder = self.coder.take().ok_or(SegmentLost::Compute(JobLost))?;
        let digests = coder.digests();
        self.end_bodies(&digests);
        let settings = &self.shared.settings;
        let (receipts, straggler) = (settings.receipts_timeout, settings.straggler_wait);
        let mut deadline = Instant::now() + receipts;
        let quorum = self.layout.write_quorum();
        let mut reached = false;
        while !self.results.is_empty() {
            tokio::select! {
                Some(ended) = self.results.join_next() => {
                    self.note(ended, Some(&digests))?;
                }
                // A closed channel of maps never wakes this; the deadline still holds.
                Ok(()) = self.map.changed() => self.leave_out_dead()?,
                () = sleep_until(deadline) => break,
            }
            if !reached && self.done.count_ones() as usize >= quorum {
                reached = true;
                deadline = Instant::now() + straggler;
            }
        }
        self.leave_out_where(|_| true, "gave no receipt in time");
        self.expect_quorum()?;
        assert!(
            self.done.count_ones() as usize >= quorum,
            "every slot has a receipt or is left out"
        );
        Ok(NewSegment {
            volume: self.volume.id,
            epoch: self.volume.epoch,
            len: self.layout.len(),
            digests: coder.row_digests(&digests),
            owed: self.left_out,
        })
    }

    fn start_stream(&mut self, slot: usize, write: ShardWrite) -> (Path, Option<AbortHandle>) {
        // There is room for all stripes that may be in flight: sending never waits here.
        let (cells, body) = mpsc::channel(STRIPES_IN_FLIGHT);
        let (digest, promised) = oneshot::channel();
        let answer = self.shared.shards.put_stream(write, body, promised);
        let task = self.results.spawn(async move { (slot, answer.await) });
        (Path::Stream { cells, digest }, Some(task))
    }

    /// Waits until another stripe may be sent. Leaves out slots that hold it up for too long.
    async fn pace(&mut self) -> Result<OwnedSemaphorePermit, SegmentLost> {
        let stall = self.shared.settings.slot_stall;
        let mut deadline = Instant::now() + stall;
        loop {
            let permit = Arc::clone(&self.in_flight).acquire_owned();
            tokio::select! {
                permit = permit => return permit.map_err(|_| SegmentLost::Compute(JobLost)),
                Ok(()) = self.map.changed() => self.leave_out_dead()?,
                () = sleep_until(deadline) => {
                    deadline += stall;
                    let stalled = |slot: &SlotWriter| {
                        slot.pending.load(Ordering::Relaxed) > 0
                    };
                    self.leave_out_where(stalled, "stalled");
                }
            }
            self.note_ended()?;
        }
    }

    fn end_bodies(&mut self, digests: &[ShardDigest]) {
        for (number, (slot, own)) in self.slots.iter_mut().zip(digests).enumerate() {
            match std::mem::replace(&mut slot.path, Path::None) {
                Path::None => {}
                Path::Stream { digest, .. } => {
                    // Fails only if the slot's task has ended: its result says why.
                    let _ = digest.send(*own);
                }
                Path::Whole(cells) => {
                    let answer = self.shared.shards.put_whole(slot.write, cells, *own);
                    let task = self.results.spawn(async move { (number, answer.await) });
                    slot.task = Some(task);
                }
            }
        }
    }

    /// Looks at the slots that ended while cells were still being sent.
    fn note_ended(&mut self) -> Result<(), SegmentLost> {
        while let Some(ended) = self.results.try_join_next() {
            self.note(ended, None)?;
        }
        self.expect_quorum()
    }

    /// Takes one slot's result; before the digests are known, any end is a failure.
    fn note(
        &mut self,
        ended: Result<(usize, Result<Receipt, ShardError>), tokio::task::JoinError>,
        digests: Option<&[ShardDigest]>,
    ) -> Result<(), SegmentLost> {
        // Already left out and aborted.
        let Ok((slot, result)) = ended else {
            return Ok(());
        };
        let bit = 1 << slot;
        let write = self.slots[slot].write;
        let node = write.target.at.node;
        match (result, digests) {
            (Ok(receipt), Some(digests)) if receipt == expected(&write, digests[slot]) => {
                self.done |= bit;
                return Ok(());
            }
            (Ok(_), _) => self.last_error = format!("{node}: receipt does not fit the shard"),
            (Err(ShardError::LeaseClosed), _) => return Err(SegmentLost::LeaseClosed),
            (Err(ShardError::StaleEpoch), _) => {
                let volume = self.volume.id;
                return Err(SegmentLost::Elsewhere(format!("{volume} has moved on")));
            }
            (Err(error), _) => {
                self.last_error = format!("{node}: {error}");
            }
        }
        tracing::warn!(
            blob = %write.target.shard.blob,
            volume = %write.target.shard.volume,
            slot,
            error = self.last_error,
            "slot left out of a write"
        );
        self.shared.nodes.failed(node);
        self.left_out |= bit;
        self.slots[slot].path = Path::None;
        Ok(())
    }

    /// Leaves out the slots whose nodes the map no longer lists as alive.
    fn leave_out_dead(&mut self) -> Result<(), SegmentLost> {
        let map = Arc::clone(&self.map.borrow_and_update());
        let dead = |slot: &SlotWriter| !map.is_alive(slot.write.target.at.node);
        self.leave_out_where(dead, "not heard from any more");
        self.expect_quorum()
    }

    /// Leaves out the slots with a shard but no receipt for which the test holds.
    fn leave_out_where(&mut self, test: impl Fn(&SlotWriter) -> bool, why: &str) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            let bit = 1 << number;
            let waited_for = slot.write.len > 0 && (self.done | self.left_out) & bit == 0;
            if !waited_for || !test(slot) {
                continue;
            }
            if let Some(task) = slot.task.take() {
                task.abort();
            }
            slot.path = Path::None;
            let node = slot.write.target.at.node;
            self.shared.nodes.failed(node);
            self.left_out |= bit;
            self.last_error = format!("{node}: {why}");
            let volume = self.volume.id;
            tracing::warn!(%node, %volume, slot = number, why, "slot left out of a write");
        }
    }

    fn expect_quorum(&self) -> Result<(), SegmentLost> {
        let holders = self.layout.slots().count();
        if holders - self.left_out.count_ones() as usize >= self.layout.write_quorum() {
            return Ok(());
        }
        Err(SegmentLost::Elsewhere(self.last_error.clone()))
    }
}

fn expected(write: &ShardWrite, digest: ShardDigest) -> Receipt {
    Receipt {
        len: write.len,
        digest,
        epoch: write.epoch,
    }
}

/// A cell on its way to one slot; when the last cell of a stripe is dropped, its memory is free and
/// the next stripe may go.
struct InFlight {
    bytes: Bytes,
    pending: Arc<AtomicUsize>,
    _stripe: Arc<(OwnedSemaphorePermit, Vec<Room>)>,
}

impl AsRef<[u8]> for InFlight {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Turns data cells into the slots' cells and keeps their digests. Runs on the compute pool.
struct Coder {
    shape: Shape,
    layout: SegmentLayout,
    encoder: Encoder,
    /// One per slot; for copies only the first is used.
    hashers: Vec<blake3::Hasher>,
}

impl Coder {
    fn new(shape: Shape, layout: &SegmentLayout) -> Self {
        Self {
            shape,
            layout: *layout,
            encoder: Encoder::new(layout.profile()),
            hashers: vec![blake3::Hasher::new(); layout.profile().shards()],
        }
    }

    /// Returns each slot's framed cells of these stripes.
    fn code(&mut self, cells: &[Bytes]) -> Vec<Vec<Bytes>> {
        let shards = self.layout.profile().shards();
        if self.shape == Shape::Copies {
            cells.iter().for_each(|cell| {
                self.hashers[0].update(unframed(cell));
            });
            let copy = |slot| match self.layout.shard_cells(slot) {
                0 => Vec::new(),
                _ => cells.to_vec(),
            };
            return (0..shards).map(copy).collect();
        }
        let data = self.layout.profile().data();
        let mut out = vec![Vec::new(); shards];
        for stripe in cells.chunks(data) {
            let plain: Vec<&[u8]> = stripe.iter().map(unframed).collect();
            let mut parity: Vec<Vec<u8>> = (data..shards)
                .map(|_| Vec::with_capacity(plain[0].len() + CRC_LEN as usize))
                .collect();
            self.encoder
                .encode_stripe(&plain, &mut parity)
                .expect("a chunk has at most k cells");
            let parity = parity.into_iter().map(frame).enumerate();
            let parity = parity.map(|(number, cell)| (data + number, cell));
            for (slot, cell) in stripe.iter().cloned().enumerate().chain(parity) {
                self.hashers[slot].update(unframed(&cell));
                out[slot].push(cell);
            }
        }
        out
    }

    /// Returns the digest of each slot's shard.
    fn digests(&self) -> Vec<ShardDigest> {
        let digest = |slot: usize| match self.shape {
            Shape::Copies => self.hashers[0].finalize().into(),
            Shape::Coded | Shape::Inline => self.hashers[slot].finalize().into(),
        };
        (0..self.hashers.len()).map(digest).collect()
    }

    /// Returns the digests in the form of the row: only one for copies.
    fn row_digests(&self, digests: &[ShardDigest]) -> Vec<Digest> {
        let kept = match self.shape {
            Shape::Copies => 1,
            Shape::Coded | Shape::Inline => digests.len(),
        };
        digests[..kept].iter().map(row_digest).collect()
    }
}

async fn code(
    compute: &Compute,
    mut coder: Coder,
    cells: Vec<Bytes>,
) -> Result<(Coder, Vec<Vec<Bytes>>), JobLost> {
    compute
        .run(move || {
            let shards = coder.code(&cells);
            (coder, shards)
        })
        .await
}
