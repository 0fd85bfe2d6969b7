//! A shard that is not where it was looked up: before anybody is alarmed, the rows are asked again.
//!
//! A read may outlive its rows: the object was deleted or replaced and nobody waits for the read
//! any more, or the segment was moved. Then nothing is missing. If it was moved, the read goes on
//! at the new place; if it is gone and too few shards are left, the read ends with an error.

use super::alarms::Fault;
use super::get::GetError;
use super::lock::lock;
use super::stripes::{Mask, slots};
use super::window::SegmentSource;
use megalith_client::{ClientError, TypedCalls as _};
use megalith_model::ids::Epoch;
use megalith_model::question;
use megalith_model::rows::SegmentRow;
use megalith_model::shape::SegmentLayout;
use megalith_model::topology::Volume;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// How long a read that can't go on waits for the rows.
const LOOK_WAIT: Duration = Duration::from_secs(3);

/// What the rows say now.
enum Found {
    /// The segment is where it was. The volume's epoch now, and the slots that owe their shards.
    Same { epoch: Epoch, owed: Mask },
    /// It is elsewhere.
    Moved(SegmentRow, Volume),
    /// No row names it.
    Gone,
}

impl SegmentSource {
    /// Reads the plaintext of the segment's cells `cells` (not empty), wherever they are by now.
    pub async fn read(self: Arc<Self>, cells: Range<u64>) -> Result<Vec<u8>, GetError> {
        let mut source = self;
        loop {
            while let Some(moved) = source.moved() {
                source = moved;
            }
            let read = source.read_here(cells.clone()).await;
            let missing = source.unjudged.load(Ordering::Relaxed) != 0;
            match read {
                Err(GetError::Unavailable { .. }) if missing => {
                    // Without an answer the read ends as if nothing had been asked.
                    let _ = timeout(LOOK_WAIT, source.judge_missing()).await;
                    if source.moved().is_none() {
                        return read;
                    }
                }
                _ => {
                    if missing {
                        // Nobody waits for it.
                        let source = Arc::clone(&source);
                        tokio::spawn(async move { source.judge_missing().await });
                    }
                    return read;
                }
            }
        }
    }

    fn moved(&self) -> Option<Arc<Self>> {
        lock(&self.next).clone()
    }

    /// Asks the rows about the shards that were not there, and raises doubts if they should be.
    async fn judge_missing(&self) {
        let missing = self.unjudged.swap(0, Ordering::Relaxed);
        if missing == 0 {
            return;
        }
        let found = match self.look_again().await {
            Ok(found) => found,
            Err(error) => {
                // The next read that misses them asks again.
                tracing::debug!(%error, blob = %self.blob, "missing shards are not judged");
                return;
            }
        };
        self.judged.fetch_or(missing, Ordering::Relaxed);
        let told = match &found {
            Found::Same { .. } => "same",
            Found::Moved(..) => "moved",
            Found::Gone => "gone",
        };
        metrics::counter!("megalith_reads_looked_again_total", "found" => told).increment(1);
        match found {
            Found::Same { epoch, owed } => {
                for slot in slots(missing & !owed) {
                    self.doubt(slot, Fault::Missing, epoch);
                }
            }
            Found::Moved(row, volume) => {
                let moved = Arc::new(self.at(row, volume));
                lock(&self.next).get_or_insert(moved);
            }
            Found::Gone => {
                tracing::debug!(blob = %self.blob, "the blob of a read is gone");
            }
        }
    }

    async fn look_again(&self) -> Result<Found, ClientError> {
        let (meta, blobs) = (&self.shared.meta, vec![self.blob]);
        let mut views = meta.ask(question::Blobs { blobs }).await?;
        let Some(row) = views.pop().map(|view| view.row) else {
            return Ok(Found::Gone);
        };
        let segment = row.segments.into_iter().nth(self.number as usize);
        // A blob's shape and lengths never change: the read could not go on at a piece of another.
        let alike = |segment: &SegmentRow| {
            (row.shape, segment.len, segment.profile)
                == (self.shape, self.row.len, self.row.profile)
        };
        let Some(segment) = segment.filter(alike) else {
            return Ok(Found::Gone);
        };
        let volumes = vec![segment.volume];
        let mut volumes = meta.ask(question::Volumes { volumes }).await?;
        let Some(volume) = volumes.pop() else {
            return Ok(Found::Gone);
        };
        let same = |segment: &SegmentRow| (segment.volume, segment.filed);
        if same(&segment) == same(&self.row) && volume.slots == self.volume.slots {
            let (epoch, owed) = (volume.epoch, segment.owed);
            return Ok(Found::Same { epoch, owed });
        }
        if volume.slots.len() != segment.profile.shards() {
            return Ok(Found::Gone);
        }
        Ok(Found::Moved(segment, volume))
    }

    /// The same segment at another place.
    fn at(&self, row: SegmentRow, volume: Volume) -> Self {
        let filed = row.filed(self.blob);
        Self {
            shared: Arc::clone(&self.shared),
            blob: self.blob,
            number: self.number,
            first_cell: self.first_cell,
            shape: self.shape,
            layout: SegmentLayout::new(self.shape, row.profile, filed, row.len),
            row,
            volume,
            opener: Arc::clone(&self.opener),
            cells: self.cells,
            excluded: AtomicU32::new(0),
            unjudged: AtomicU32::new(0),
            judged: AtomicU32::new(0),
            next: None.into(),
            reading: Arc::clone(&self.reading),
        }
    }
}
