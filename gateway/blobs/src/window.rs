//! One segment during a read: fetches, decodes and opens windows of cells.
//!
//! A cell is returned only after it was opened under the data key at its own position. If a decoded
//! cell doesn't open, some slot lied with right checksums: the slots' whole shards are then checked
//! against the digests in the row, liars are left out, and the window is read again.

use super::Shared;
use super::alarms::{DoubtedShard, Fault};
use super::get::GetError;
use super::ports::ShardError;
use super::reads::Reading;
use super::stripes::{CellRequest, Mask, Stripes, slots};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use megalith_crypto::{BlobLayout, CellOpener};
use megalith_erasure::{Decoder, Encoder};
use megalith_model::ids::{BlobId, Epoch, NodeId};
use megalith_model::rows::SegmentRow;
use megalith_model::shape::{SegmentLayout, Shape};
use megalith_model::shard::{ShardId, ShardTarget, row_digest};
use megalith_model::topology::Volume;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a node whose speed isn't known is given before another is asked.
const HEDGE_UNKNOWN: Duration = Duration::from_millis(200);
/// Cells of a shard that are held at a time while its digest is checked.
const CHECK_CELLS: u64 = 4;

/// One segment of one blob, for the time of one read.
pub struct SegmentSource {
    pub shared: Arc<Shared>,
    pub blob: BlobId,
    /// The segment's number in the blob.
    pub number: u32,
    /// The segment's first cell, counted in the blob.
    pub first_cell: u64,
    pub shape: Shape,
    pub layout: SegmentLayout,
    pub row: SegmentRow,
    pub volume: Volume,
    /// Opens the blob's cells.
    pub opener: Arc<CellOpener>,
    pub cells: BlobLayout,
    /// Slots that were caught lying, or that can't be checked.
    pub excluded: AtomicU32,
    /// Slots whose shard was not there, and of which the rows are to be asked again (`again`).
    pub unjudged: AtomicU32,
    /// Those of which they were asked.
    pub judged: AtomicU32,
    /// Where the segment was found when they were asked, if it had moved.
    pub next: Mutex<Option<Arc<Self>>>,
    /// Keeps the shards from being deleted.
    pub reading: Arc<Reading>,
}

/// A slot's answer.
struct SlotAnswer {
    request: CellRequest,
    took: Duration,
    result: Result<Vec<Bytes>, ShardError>,
}

impl SegmentSource {
    /// Reads the plaintext of the segment's cells `cells` (not empty) where its row was.
    pub(super) async fn read_here(&self, cells: Range<u64>) -> Result<Vec<u8>, GetError> {
        loop {
            let stripes = self.fetch(cells.clone()).await?;
            let job = Opening {
                stripes,
                shape: self.shape,
                layout: self.layout,
                first_cell: self.first_cell,
                cells: cells.clone(),
                blob_cells: self.cells,
                opener: Arc::clone(&self.opener),
            };
            let (stripes, opened) = self.shared.compute.run(move || job.run()).await?;
            if let Some(plain) = opened {
                return Ok(plain);
            }
            let excluded = self.find_liars(&stripes).await?;
            if excluded == 0 {
                let (blob, segment) = (self.blob, self.number);
                tracing::error!(%blob, segment, "cells match their digests and do not open");
                return Err(GetError::Unauthentic { blob });
            }
            // Each round leaves out another slot, so this ends.
            self.excluded.fetch_or(excluded, Ordering::Relaxed);
        }
    }

    async fn fetch(&self, cells: Range<u64>) -> Result<Stripes, GetError> {
        let mut stripes = Stripes::new(self.shape, &self.layout, cells);
        let mut running = FuturesUnordered::new();
        let mut due: Vec<(Instant, usize)> = Vec::new();
        loop {
            let mut requests = stripes.next(&self.order(false));
            if requests.is_empty() && running.is_empty() && !stripes.is_settled() {
                requests = stripes.next(&self.order(true));
            }
            for request in requests {
                due.push((Instant::now() + self.patience(request.slot), request.slot));
                self.shared.hedges.earn();
                running.push(self.ask(request));
            }
            if stripes.is_settled() {
                return Ok(stripes);
            }
            if running.is_empty() {
                return Err(self.unavailable(&stripes));
            }
            let next_due = due.iter().map(|(at, _)| *at).min();
            let wake =
                next_due.unwrap_or_else(|| Instant::now() + self.shared.settings.read_timeout);
            tokio::select! {
                Some(answer) = running.next() => {
                    due.retain(|(_, slot)| *slot != answer.request.slot);
                    self.take(&mut stripes, answer);
                }
                () = sleep_until(wake) => self.give_up_waiting(&mut stripes, &mut due),
            }
        }
    }

    /// Returns the slots to ask, in order: those that hold a good shard as far as is known. With
    /// `doubtful`, also those that are not heard from or failed a moment ago, and last those that
    /// owe their shard: it may be there, and no cell is believed that does not open.
    fn order(&self, doubtful: bool) -> Vec<usize> {
        let excluded = self.excluded.load(Ordering::Relaxed);
        let barred = self.row.owed | excluded;
        let usable =
            |slot: &usize| barred >> slot & 1 == 0 && (doubtful || !self.is_doubtful(*slot));
        let mut order: Vec<usize> = self.layout.slots().filter(usable).collect();
        // Copies take turns, and so does parity; data slots come first.
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        let data = match self.shape {
            Shape::Coded => self.layout.profile().data(),
            Shape::Copies | Shape::Inline => 0,
        };
        let start = order.partition_point(|slot| *slot < data);
        let others = &mut order[start..];
        if !others.is_empty() {
            others.rotate_left(turn % others.len());
        }
        if doubtful {
            let owing = |slot: &usize| self.row.owed & !excluded & 1 << slot != 0;
            order.extend(self.layout.slots().filter(owing));
        }
        order
    }

    fn is_doubtful(&self, slot: usize) -> bool {
        let node = self.node(slot);
        self.shared.nodes.is_penalised(node) || !self.shared.map.borrow().is_alive(node)
    }

    fn node(&self, slot: usize) -> NodeId {
        self.volume.slots[slot].node
    }

    fn patience(&self, slot: usize) -> Duration {
        let settings = &self.shared.settings;
        let p95 = self
            .shared
            .nodes
            .p95(self.node(slot))
            .unwrap_or(HEDGE_UNKNOWN);
        p95.clamp(settings.hedge_after_min, settings.hedge_after_max)
    }

    fn target(&self, slot: usize) -> ShardTarget {
        ShardTarget {
            at: self.volume.slots[slot],
            shard: self.shard(slot),
        }
    }

    fn shard(&self, slot: usize) -> ShardId {
        ShardId {
            volume: self.volume.id,
            blob: self.row.filed(self.blob),
            segment: self.number,
            slot: slot as u8,
        }
    }

    fn ask(&self, request: CellRequest) -> impl Future<Output = SlotAnswer> + use<> {
        let len = self.layout.shard_len(request.slot);
        let target = self.target(request.slot);
        let get = self
            .shared
            .shards
            .get(target, len, request.first, request.count);
        let limit = self.shared.settings.read_timeout;
        async move {
            let start = Instant::now();
            let result = timeout(limit, get).await;
            SlotAnswer {
                request,
                took: start.elapsed(),
                result: result.unwrap_or_else(|_| Err(ShardError::Node("no answer".into()))),
            }
        }
    }

    fn take(&self, stripes: &mut Stripes, answer: SlotAnswer) {
        let slot = answer.request.slot;
        match answer.result {
            Ok(cells) => {
                self.shared.nodes.answered(self.node(slot), answer.took);
                if !stripes.arrived(&self.layout, answer.request, cells) {
                    self.alarm(slot, Fault::Damaged);
                }
            }
            Err(error) => {
                stripes.failed(slot);
                self.note(slot, &error);
            }
        }
    }

    /// Records why a slot didn't give its cells.
    fn note(&self, slot: usize, error: &ShardError) {
        match error {
            // An owed shard is asked for only because others are lacking.
            ShardError::NotFound if self.row.owed >> slot & 1 == 1 => {}
            ShardError::NotFound => self.miss(slot),
            ShardError::Damaged => self.alarm(slot, Fault::Damaged),
            ShardError::Node(why) => {
                let node = self.node(slot);
                tracing::warn!(%node, blob = %self.blob, why, "node failed a read");
                self.shared.nodes.failed(node);
            }
            ShardError::Busy => {}
            ShardError::StaleEpoch
            | ShardError::LeaseClosed
            | ShardError::Full
            | ShardError::Refused(_) => {
                let node = self.node(slot);
                tracing::error!(%node, blob = %self.blob, %error, "node refused a read");
            }
        }
    }

    /// Hedges the slots that are overdue, as the budget allows. Slots that the map or another read
    /// has meanwhile found to be bad cost nothing.
    fn give_up_waiting(&self, stripes: &mut Stripes, due: &mut Vec<(Instant, usize)>) {
        let now = Instant::now();
        due.retain_mut(|(at, slot)| {
            if *at > now {
                return true;
            }
            if self.is_doubtful(*slot) || self.shared.hedges.spend() {
                metrics::counter!("megalith_reads_hedged_total").increment(1);
                stripes.late(*slot);
                return false;
            }
            *at = now + self.shared.settings.hedge_after_max;
            true
        });
    }

    /// Notes that a shard was not there.
    fn miss(&self, slot: usize) {
        let slot = 1 << slot & !self.judged.load(Ordering::Relaxed);
        self.unjudged.fetch_or(slot, Ordering::Relaxed);
    }

    fn alarm(&self, slot: usize, fault: Fault) {
        self.doubt(slot, fault, self.volume.epoch);
    }

    /// Raises a doubt; `epoch` is the newest known of the volume.
    pub(super) fn doubt(&self, slot: usize, fault: Fault, epoch: Epoch) {
        let target = self.target(slot);
        let doubted = DoubtedShard {
            target,
            epoch,
            fault,
        };
        self.shared.alarms.raise(doubted);
    }

    fn unavailable(&self, stripes: &Stripes) -> GetError {
        GetError::Unavailable {
            blob: self.blob,
            segment: self.number,
            good: stripes.fewest(),
            needed: self.layout.shards_needed(),
        }
    }

    /// Checks the shards of all slots that contributed against the row's digests. Returns the slots
    /// to leave out: liars, and those that can't be checked.
    async fn find_liars(&self, stripes: &Stripes) -> Result<Mask, GetError> {
        let mut excluded = 0;
        for slot in slots(stripes.contributors()) {
            match self.check_shard(slot, stripes).await {
                Ok(true) => {}
                Ok(false) => {
                    self.alarm(slot, Fault::Damaged);
                    excluded |= 1 << slot;
                }
                Err(ShardError::Damaged) => {
                    self.alarm(slot, Fault::Damaged);
                    excluded |= 1 << slot;
                }
                Err(error) => {
                    self.note(slot, &error);
                    excluded |= 1 << slot;
                }
            }
        }
        Ok(excluded)
    }

    /// Returns true if the slot's shard has the digest in the row, and the cells that it gave
    /// before are those of the shard.
    async fn check_shard(&self, slot: usize, stripes: &Stripes) -> Result<bool, ShardError> {
        let cells = self.layout.shard_cells(slot);
        let mut hasher = blake3::Hasher::new();
        let mut same = true;
        for first in (0..cells).step_by(CHECK_CELLS as usize) {
            let count = CHECK_CELLS.min(cells - first);
            let answer = self.ask(CellRequest { slot, first, count }).await;
            let got = answer.result?;
            for (at, cell) in (first..).zip(&got) {
                let before = stripes
                    .range()
                    .contains(&at)
                    .then(|| stripes.cell(at, slot))
                    .flatten();
                same &= before.is_none_or(|before| before == cell);
            }
            let job = self.shared.compute.run(move || {
                got.iter().for_each(|cell| {
                    hasher.update(cell);
                });
                hasher
            });
            hasher = job
                .await
                .map_err(|lost| ShardError::Node(lost.to_string()))?;
        }
        let digest: [u8; 32] = hasher.finalize().into();
        Ok(same && self.row.digest(self.shape, slot) == Some(&row_digest(&digest)))
    }
}

/// A window on the compute pool.
struct Opening {
    stripes: Stripes,
    shape: Shape,
    layout: SegmentLayout,
    first_cell: u64,
    cells: Range<u64>,
    blob_cells: BlobLayout,
    opener: Arc<CellOpener>,
}

impl Opening {
    /// Returns the plaintext, or None if a cell does not open.
    fn run(self) -> (Stripes, Option<Vec<u8>>) {
        let plain = self.open();
        (self.stripes, plain)
    }

    fn open(&self) -> Option<Vec<u8>> {
        let decoded = self.decode()?;
        let sealed: u64 = self
            .cells
            .clone()
            .map(|cell| self.layout.cell_len(cell))
            .sum();
        let mut plain = Vec::with_capacity(sealed as usize);
        let columns = self.layout.columns() as u64;
        for cell in self.cells.clone() {
            let (stripe, column) = (cell / columns, (cell % columns) as usize);
            let direct = match self.shape {
                Shape::Coded => self.stripes.cell(stripe, column),
                Shape::Copies | Shape::Inline => {
                    let held = slots(self.stripes.present(stripe)).next();
                    held.and_then(|slot| self.stripes.cell(stripe, slot))
                }
            };
            let bytes = match direct {
                Some(bytes) => &bytes[..],
                None => decoded.get(&(stripe, column))?,
            };
            let index = self.first_cell + cell;
            let last = self.blob_cells.is_last(index);
            self.opener.open(index, last, bytes, &mut plain).ok()?;
        }
        Some(plain)
    }

    /// Computes the wanted cells that have not arrived.
    fn decode(&self) -> Option<HashMap<(u64, usize), Vec<u8>>> {
        let mut decoded = HashMap::new();
        if self.shape != Shape::Coded {
            return Some(decoded);
        }
        let encoder = Encoder::new(self.layout.profile());
        let mut decoders: HashMap<(Mask, Mask), Decoder> = HashMap::new();
        for stripe in self.stripes.range() {
            let (present, missing) = (self.stripes.present(stripe), self.stripes.missing(stripe));
            if missing == 0 {
                continue;
            }
            let decoder = match decoders.get(&(present, missing)) {
                Some(decoder) => decoder,
                None => {
                    let made = encoder.decoder(present, missing).ok()?;
                    decoders.entry((present, missing)).or_insert(made)
                }
            };
            let source = |slot: &usize| self.stripes.cell(stripe, *slot).map_or(&[][..], |c| c);
            let sources: Vec<&[u8]> = decoder.sources().iter().map(source).collect();
            let len = |slot: &usize| self.layout.shard_cell_len(*slot, stripe) as usize;
            let lens: Vec<usize> = decoder.wanted().iter().map(len).collect();
            let cells = decoder.decode(&sources, &lens).ok()?;
            for (slot, cell) in decoder.wanted().iter().zip(cells) {
                decoded.insert((stripe, *slot), cell);
            }
        }
        Some(decoded)
    }
}
