//! The life of a read: range → windows of cells → shards' cells → opened plaintext, in order.
//!
//! A read goes through its range in windows that start small and double; none crosses a segment.
//! While one window is sent, the next is being fetched. A window's bytes count against the memory
//! budget until they are gone: they wait for their reader, and need no more memory for that. A
//! later window that finds no memory for too long ends the read. `window` and `stripes` say what is
//! fetched and how.

use super::budget::{Busy, Reservation};
use super::reads::Reading;
use super::shares::Payer;
use super::window::SegmentSource;
use super::{JobLost, Pipeline, Shared};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use megalith_crypto::cell::{PLAIN_CELL_LEN, SEALED_CELL_LEN};
use megalith_crypto::{BlobLayout, CellOpener, DataKey, StreamContext, StreamIv};
use megalith_model::ids::BlobId;
use megalith_model::query::BlobView;
use megalith_model::rows::SegmentRow;
use megalith_model::shape::{CELL_LEN, SegmentLayout, Shape};
use megalith_model::topology::Volume;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio_util::task::AbortOnDropHandle;

/// Windows being fetched at a time, including the one that is waited for.
const WINDOWS_AHEAD: usize = 2;

/// One blob of an object, as its manifest describes it.
#[derive(Clone, Debug)]
pub struct PartToRead {
    pub view: BlobView,
    /// Its IV, from the manifest.
    pub iv: StreamIv,
    /// Plaintext bytes, from the manifest.
    pub plain_len: u64,
    /// Its part number as it was sealed (0 if the object has one part).
    pub part: u32,
}

/// All that is needed to read an object's bytes.
#[derive(Clone)]
pub struct ReadPlan {
    /// Its parts, in order.
    pub parts: Vec<PartToRead>,
    /// The volumes that they name.
    pub volumes: Vec<Volume>,
    pub key: Arc<DataKey>,
    /// Who pays for the memory that the read needs.
    pub payer: Payer,
    /// That memory, if the bytes become another object's: then it is reserved before
    /// ([`Pipeline::reserve_copy`]).
    pub copied_in: Option<Arc<Reservation>>,
    /// Keeps what the rows name from being deleted; held until the last byte is read.
    pub reading: Arc<Reading>,
}

/// Why a read can't go on.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// No memory became free for too long: the client should slow down.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The range is not within the object.
    #[error("range {start}..{end} of an object of {len} bytes")]
    Range {
        start: u64,
        /// After the last byte.
        end: u64,
        /// The object's bytes.
        len: u64,
    },
    /// Too few good shards answered; trying again may help.
    #[error("{blob} segment {segment}: {good} good shards of the {needed} needed")]
    Unavailable {
        blob: BlobId,
        segment: u32,
        /// How many shards answered well.
        good: usize,
        needed: usize,
    },
    /// The bytes are not those that were sealed, and no shard can be blamed.
    #[error("{blob} does not open")]
    Unauthentic { blob: BlobId },
    /// Row, manifest and volumes contradict each other.
    #[error("{blob}: metadata is inconsistent: {what}")]
    Inconsistent { blob: BlobId, what: &'static str },
    /// A mistake of our own.
    #[error(transparent)]
    Compute(#[from] JobLost),
}

/// The plaintext, piece by piece. Ends after an error.
pub struct ReadStream {
    pieces: BoxStream<'static, Result<Bytes, GetError>>,
}

impl Stream for ReadStream {
    type Item = Result<Bytes, GetError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.as_mut().poll_next(cx)
    }
}

impl Pipeline {
    /// Reserves memory for the windows of a read whose bytes are written again. Their write has its
    /// memory as well, so such a read must not wait for more.
    ///
    /// # Errors
    /// [`Busy`] if there is none for too long.
    pub async fn reserve_copy(&self, payer: Payer) -> Result<Reservation, Busy> {
        let cells = self.most(|profile| profile.shards() + profile.data()) as u64;
        let window = cells * self.shared.settings.window_stripes_first.max(1) * CELL_LEN;
        let windows = (WINDOWS_AHEAD + 1) as u64;
        self.shared.memory.reserve(payer, windows * window).await
    }

    /// Reads the plaintext bytes `range` of the object. Returns when the first piece is there, so
    /// that an immediate failure can still be answered as an error.
    ///
    /// # Errors
    /// See [`GetError`].
    pub async fn read(&self, plan: ReadPlan, range: Range<u64>) -> Result<ReadStream, GetError> {
        let len = plan.parts.iter().map(|part| part.plain_len).sum();
        if range.start > range.end || range.end > len {
            return Err(GetError::Range {
                start: range.start,
                end: range.end,
                len,
            });
        }
        let cursor = Cursor::new(Arc::clone(&self.shared), plan, range);
        let windows = futures::stream::unfold(cursor, |mut cursor| async move {
            let next = cursor.next()?;
            Some((next, cursor))
        });
        let mut pieces = windows
            .map(|window| async move {
                match window {
                    Ok(task) => task.await.unwrap_or(Err(GetError::Compute(JobLost))),
                    Err(error) => Err(error),
                }
            })
            .buffered(WINDOWS_AHEAD)
            .boxed();
        let pieces = match pieces.next().await {
            None => futures::stream::empty().boxed(),
            Some(first) => {
                let first = first?;
                // Ends at the first error: no byte may follow a gap.
                let rest = pieces.scan(false, |failed, piece| {
                    let over = std::mem::replace(failed, piece.is_err());
                    std::future::ready((!over).then_some(piece))
                });
                futures::stream::once(async { Ok(first) })
                    .chain(rest)
                    .boxed()
            }
        };
        Ok(ReadStream { pieces })
    }
}

/// Where a read is in its object.
struct Cursor {
    shared: Arc<Shared>,
    plan: ReadPlan,
    /// The next part, and its first byte in the object.
    part: usize,
    part_start: u64,
    /// What is left to read, in plaintext bytes of the object.
    left: Range<u64>,
    open: Option<OpenPart>,
    /// Stripes of the next window.
    stripes: u64,
    failed: bool,
}

/// A window being fetched.
type Task = AbortOnDropHandle<Result<Bytes, GetError>>;

impl Cursor {
    fn new(shared: Arc<Shared>, plan: ReadPlan, left: Range<u64>) -> Self {
        let stripes = shared.settings.window_stripes_first.max(1);
        Self {
            shared,
            plan,
            part: 0,
            part_start: 0,
            left,
            open: None,
            stripes,
            failed: false,
        }
    }

    /// Starts the next window.
    fn next(&mut self) -> Option<Result<Task, GetError>> {
        if self.left.is_empty() || self.failed {
            return None;
        }
        let next = self.start_window();
        self.failed = next.is_err();
        Some(next)
    }

    fn start_window(&mut self) -> Result<Task, GetError> {
        while self.part_start + self.plan.parts[self.part].plain_len <= self.left.start {
            self.part_start += self.plan.parts[self.part].plain_len;
            self.part += 1;
            self.open = None;
        }
        let part = &self.plan.parts[self.part];
        let open = match self.open.take() {
            Some(open) => open,
            None => OpenPart::new(&self.shared, &self.plan, part)?,
        };
        let part_end = self.part_start + part.plain_len;
        let start = self.left.start - self.part_start;
        let end = self.left.end.min(part_end) - self.part_start;
        let window = open.window(&self.shared, start, end, self.stripes);
        self.open = Some(open);
        self.left.start = self.part_start + window.end;
        self.grow();
        Ok(self.spawn(window))
    }

    fn grow(&mut self) {
        if self.plan.copied_in.is_some() {
            return;
        }
        let max = self.shared.settings.window_stripes_max;
        if self.stripes < max && self.shared.memory.is_ample() {
            self.stripes = (self.stripes * 2).min(max);
        } else if !self.shared.memory.is_ample() {
            self.stripes = self.shared.settings.window_stripes_first.max(1);
        }
    }

    fn spawn(&mut self, window: Window) -> Task {
        let (memory, payer) = (self.shared.memory.clone(), self.plan.payer);
        let copied_in = self.plan.copied_in.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let held = match copied_in {
                Some(all) => WindowMemory::Copy(all),
                None => WindowMemory::Own(memory.reserve(payer, window.bytes_held).await?),
            };
            window.read(held).await
        }))
    }
}

/// One blob of a read.
struct OpenPart {
    blob: BlobId,
    cells: BlobLayout,
    source: PartSource,
}

/// Where the bytes of a blob come from.
enum PartSource {
    Inline(Bytes, Arc<CellOpener>, Arc<Shared>),
    /// By their first cells, ascending.
    Segments(Vec<Arc<SegmentSource>>),
}

/// Some cells of one blob, and which of their bytes are wanted.
struct Window {
    blob: BlobId,
    source: WindowSource,
    skip: usize,
    take: usize,
    /// Where the window ends in the blob, in plaintext bytes.
    end: u64,
    bytes_held: u64,
}

enum WindowSource {
    Inline(Bytes, BlobLayout, Arc<CellOpener>, Arc<Shared>),
    Segment(Arc<SegmentSource>, Range<u64>),
}

impl OpenPart {
    fn new(shared: &Arc<Shared>, plan: &ReadPlan, part: &PartToRead) -> Result<Self, GetError> {
        let (blob, row) = (part.view.blob, &part.view.row);
        let inconsistent = |what| GetError::Inconsistent { blob, what };
        let cells = BlobLayout::new(part.plain_len);
        let cells = cells.map_err(|_| inconsistent("the part is longer than a blob can be"))?;
        if row.len != cells.sealed_len() {
            return Err(inconsistent("the row's length is not the manifest's"));
        }
        let context = StreamContext {
            cluster: shared.cluster.0,
            blob: blob.0,
            part: part.part,
        };
        let opener = CellOpener::new(&plan.key, context, &part.iv);
        let opener = Arc::new(opener.map_err(|_| GetError::Unauthentic { blob })?);
        if row.shape == Shape::Inline {
            if part.view.row.inline.len() as u64 != row.len {
                return Err(inconsistent(
                    "the inline bytes are not as long as the row says",
                ));
            }
            let sealed = Bytes::from(part.view.row.inline.clone());
            let source = PartSource::Inline(sealed, opener, Arc::clone(shared));
            return Ok(Self {
                blob,
                cells,
                source,
            });
        }
        let mut sources = Vec::with_capacity(row.segments.len());
        let mut at = 0;
        for (number, segment) in row.segments.iter().enumerate() {
            let volume = volume_of(plan, segment).map_err(inconsistent)?;
            if at % CELL_LEN != 0 || segment.len == 0 {
                return Err(inconsistent("a segment ends within a cell"));
            }
            let filed = segment.filed(blob);
            sources.push(Arc::new(SegmentSource {
                shared: Arc::clone(shared),
                blob,
                number: number as u32,
                first_cell: at / CELL_LEN,
                shape: row.shape,
                layout: SegmentLayout::new(row.shape, segment.profile, filed, segment.len),
                row: segment.clone(),
                volume: volume.clone(),
                opener: Arc::clone(&opener),
                cells,
                excluded: AtomicU32::new(0),
                unjudged: AtomicU32::new(0),
                judged: AtomicU32::new(0),
                next: Mutex::default(),
                reading: Arc::clone(&plan.reading),
            }));
            at = u64::checked_add(at, segment.len)
                .ok_or_else(|| inconsistent("the segments' lengths overflow"))?;
        }
        if at != row.len {
            return Err(inconsistent(
                "the segments don't add up to the row's length",
            ));
        }
        let source = PartSource::Segments(sources);
        Ok(Self {
            blob,
            cells,
            source,
        })
    }

    /// Returns the window that begins at plaintext byte `start` and ends at `end` at the latest.
    fn window(&self, shared: &Shared, start: u64, end: u64, stripes: u64) -> Window {
        let plain = PLAIN_CELL_LEN as u64;
        let first = start / plain;
        let wanted = end.div_ceil(plain);
        let (source, last, bytes_held) = match &self.source {
            PartSource::Inline(sealed, opener, shared) => {
                let (sealed, opener) = (sealed.clone(), Arc::clone(opener));
                let held = 2 * self.cells.sealed_len();
                let source = WindowSource::Inline(sealed, self.cells, opener, Arc::clone(shared));
                (source, self.cells.cells(), held)
            }
            PartSource::Segments(sources) => {
                let index = sources.partition_point(|source| source.first_cell <= first) - 1;
                let source = &sources[index];
                let (columns, begin) = (source.layout.columns() as u64, source.first_cell);
                let stripe = (first - begin) / columns;
                let stripes = stripes.min(shared.settings.window_stripes_max);
                let stop = ((stripe + stripes) * columns).min(source.layout.cells());
                let last = wanted.min(begin + stop);
                let cells = first - begin..last - begin;
                // Fetched cells (in the worst case all that any k slots give) and plaintext.
                let fetched = cells.end.div_ceil(columns) - stripe;
                let worst = fetched * source.layout.profile().shards() as u64;
                let held = (worst + (last - first)) * SEALED_CELL_LEN as u64;
                (WindowSource::Segment(Arc::clone(source), cells), last, held)
            }
        };
        let end = end.min(last * plain);
        let first = match &source {
            WindowSource::Inline(..) => 0,
            WindowSource::Segment(..) => first,
        };
        Window {
            blob: self.blob,
            source,
            skip: (start - first * plain) as usize,
            take: (end - start) as usize,
            end,
            bytes_held,
        }
    }
}

/// Finds a segment's volume, and checks that the two agree.
fn volume_of<'p>(plan: &'p ReadPlan, segment: &SegmentRow) -> Result<&'p Volume, &'static str> {
    let mut volumes = plan.volumes.iter();
    let volume = volumes.find(|volume| volume.id == segment.volume);
    let volume = volume.ok_or("a volume is not known")?;
    if volume.profile != segment.profile || volume.slots.len() != segment.profile.shards() {
        return Err("a segment's profile is not its volume's");
    }
    Ok(volume)
}

impl Window {
    async fn read(self, mut held: WindowMemory) -> Result<Bytes, GetError> {
        let plain = match self.source {
            WindowSource::Inline(sealed, cells, opener, shared) => {
                let opened = shared.compute.run_on(sealed.len() as u64, move || {
                    open_inline(&sealed, &cells, &opener)
                });
                let blob = self.blob;
                opened.await?.ok_or(GetError::Unauthentic { blob })?
            }
            WindowSource::Segment(source, cells) => source.read(cells).await?,
        };
        if let WindowMemory::Own(own) = &mut held {
            own.shrink_to(plain.capacity() as u64);
        }
        let piece = Bytes::from_owner(Held { plain, _held: held });
        let end = self.skip + self.take;
        match end <= piece.len() {
            true => Ok(piece.slice(self.skip..end)),
            false => Err(GetError::Unauthentic { blob: self.blob }),
        }
    }
}

fn open_inline(sealed: &[u8], cells: &BlobLayout, opener: &CellOpener) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(sealed.len());
    for (index, cell) in (0..).zip(sealed.chunks(SEALED_CELL_LEN)) {
        opener
            .open(index, cells.is_last(index), cell, &mut plain)
            .ok()?;
    }
    Some(plain)
}

/// Plaintext on its way to the client, with the memory reserved for it.
struct Held {
    plain: Vec<u8>,
    _held: WindowMemory,
}

/// The memory of a window.
enum WindowMemory {
    Own(Reservation),
    /// That of all windows of a copy.
    Copy(#[expect(dead_code, reason = "held, not read")] Arc<Reservation>),
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.plain
    }
}
