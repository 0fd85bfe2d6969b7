//! The sending side: one stream for each peer, and how long it may last.

use super::still::Still;
use super::{PIECE_BYTES, Session, checksum};
use crate::log::Mark;
use crate::raft::ticket;
use crate::tables::Tables;
use megalith_proto::v1;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tonic::Status;

/// Under which number a backup's stream is kept; no node has it.
pub(crate) const BACKUP_PEER: u32 = u32::MAX;
/// The same for a check.
pub(crate) const CHECK_PEER: u32 = u32::MAX - 1;

/// Bytes of rows read at once from an engine without snapshots: writes wait while that lasts, a few
/// milliseconds.
const READ_BYTES: usize = 32 << 10;
/// Pieces made ahead of the peer.
const PIECES_AHEAD: usize = 2;

/// What one process may choose about sending snapshots.
#[derive(Clone, Copy, Debug)]
pub struct SourceSettings {
    /// A stream of which no piece is taken for this time is forgotten. Default 60 s.
    pub idle_max: Duration,
    /// A stream that is older is forgotten, however near its end: until then the engine keeps old
    /// rows for it, and the log its tail. Default 1 hour, enough for 225 GiB.
    pub age_max: Duration,
    /// Bytes of rows a second to one peer. Default 64 MiB.
    pub bytes_per_second: u64,
    /// Bytes of rows in one piece; a single longer row makes a longer piece. Default 1 MiB.
    pub piece_bytes: usize,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            idle_max: Duration::from_secs(60),
            age_max: Duration::from_secs(3_600),
            bytes_per_second: 64 << 20,
            piece_bytes: PIECE_BYTES,
        }
    }
}

/// Sends this member's rows. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotSource {
    shared: Arc<Shared>,
}

struct Shared {
    tables: Arc<Tables>,
    settings: SourceSettings,
    /// The newest stream of each peer.
    streams: Mutex<HashMap<u32, Held>>,
    last_number: AtomicU64,
}

struct Held {
    /// The peer names it to go on.
    number: u64,
    /// None while they are looked for.
    rows: Option<Rows>,
    /// What was applied before they were. None if they stand for the stream's end.
    log_needed_after: Option<u64>,
    begun: Instant,
    used: Instant,
}

/// Where a stream's rows come from.
#[derive(Clone)]
enum Rows {
    Still(Arc<Still>),
    /// Of an engine without snapshots.
    Changing(Arc<Session>),
}

/// How far one stream is.
enum Place {
    /// Behind this key.
    Still(Arc<Still>, Vec<u8>),
    /// As the session knows, if this turn is its newest.
    Changing(Arc<Session>, u64),
}

impl SnapshotSource {
    /// Sends the rows of `tables`. `life` must differ from that of every earlier process.
    #[must_use]
    pub fn new(tables: Arc<Tables>, settings: SourceSettings, life: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                tables,
                settings,
                streams: Mutex::default(),
                last_number: AtomicU64::new(life),
            }),
        }
    }

    /// When a peer last took a piece.
    #[must_use]
    pub fn last_used(&self, peer: u32) -> Option<Instant> {
        self.shared.streams().get(&peer).map(|held| held.used)
    }

    /// The entry behind which the log must stay: a member that takes these rows needs what comes
    /// after them.
    #[must_use]
    pub fn log_needed_after(&self) -> Option<u64> {
        let streams = self.shared.streams();
        let members = streams.iter().filter(|(peer, _)| **peer < CHECK_PEER);
        members.filter_map(|(_, held)| held.log_needed_after).min()
    }

    /// Begins or goes on with a stream to `peer`. Fails with NOT_FOUND if the one to go on with is
    /// forgotten, with UNAVAILABLE if this member isn't as far as asked for, with
    /// FAILED_PRECONDITION if it has no rows that stand still and is asked for such.
    pub fn stream(
        &self,
        peer: u32,
        request: &v1::SnapshotRequest,
    ) -> Result<mpsc::Receiver<Result<v1::SnapshotPiece, Status>>, Status> {
        let shared = self.shared.clone();
        let applied = shared.tables.read(|rows| rows.applied());
        if applied.is_none_or(|applied| applied.index < request.index || applied.index == 0) {
            return Err(Status::unavailable("this member has not applied as much"));
        }
        let (number, place) = match request.session {
            0 => shared.begin(peer, request)?,
            number => (number, shared.resume(peer, number, &request.after)?),
        };
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        tokio::spawn(async move {
            if let Err(status) = shared.send(peer, number, place, &sender).await {
                // The peer is gone: it will ask again.
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(pieces)
    }
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, HashMap<u32, Held>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a stream; the peer's last one can't be gone on with any more.
    fn begin(
        self: &Arc<Self>,
        peer: u32,
        request: &v1::SnapshotRequest,
    ) -> Result<(u64, Place), Status> {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let held = Held {
            number,
            rows: None,
            // Noted before there are rows: not even for a moment may the log go that they need.
            log_needed_after: Some(self.tables.applied().borrow().index),
            begun: now,
            used: now,
        };
        let last = self.streams().insert(peer, held);
        drop(last);
        self.forget_in_time(peer, number);
        let (rows, mut place) = self.rows(number);
        if request.still {
            let Place::Still(_, after) = &mut place else {
                drop(self.streams().remove(&peer));
                return Err(Status::failed_precondition(
                    "this member's engine has no snapshots",
                ));
            };
            *after = request.after.to_vec();
        }
        let mut streams = self.streams();
        let held = streams.get_mut(&peer).filter(|held| held.number == number);
        // Another stream to the same peer has begun meanwhile.
        let held = held.ok_or_else(|| Status::aborted("the snapshot stream is not wanted"))?;
        if let Rows::Changing(_) = rows {
            held.log_needed_after = None;
        }
        held.rows = Some(rows);
        drop(streams);
        tracing::info!(peer, session = number, "sending a snapshot of the metadata");
        Ok((number, place))
    }

    /// Finds the rows for a new stream.
    fn rows(&self, number: u64) -> (Rows, Place) {
        if let Some(rows) = self.tables.snapshot() {
            // Read after the rows: the members as of then or later.
            let conf = self.tables.conf();
            let begun = Instant::now();
            let still = Arc::new(Still {
                rows,
                conf,
                begun,
                forgotten: AtomicBool::new(false),
            });
            return (Rows::Still(still.clone()), Place::Still(still, Vec::new()));
        }
        let piece_bytes = READ_BYTES.min(self.settings.piece_bytes);
        let session = Arc::new(Session::new(number, piece_bytes));
        self.tables.watch(&session);
        (Rows::Changing(session.clone()), Place::Changing(session, 0))
    }

    fn resume(&self, peer: u32, number: u64, after: &[u8]) -> Result<Place, Status> {
        let mut streams = self.streams();
        let held = streams.get_mut(&peer).filter(|held| held.number == number);
        let forgotten = || Status::not_found("the snapshot stream is forgotten");
        let held = held.ok_or_else(forgotten)?;
        held.used = Instant::now();
        match &held.rows {
            Some(Rows::Still(still)) => Ok(Place::Still(still.clone(), after.to_vec())),
            Some(Rows::Changing(session)) => {
                let turn = session.resume(after);
                Ok(Place::Changing(session.clone(), turn))
            }
            None => Err(forgotten()),
        }
    }

    /// Forgets a stream once it is idle or too old.
    fn forget_in_time(self: &Arc<Self>, peer: u32, number: u64) {
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(left) = shared.upgrade().and_then(|it| it.left(peer, number)) {
                tokio::time::sleep(left).await;
            }
        });
    }

    /// How long a stream may still last at most. None if it is forgotten, now or before.
    fn left(&self, peer: u32, number: u64) -> Option<Duration> {
        let mut streams = self.streams();
        let held = streams.get(&peer).filter(|held| held.number == number)?;
        let idle = self.settings.idle_max.checked_sub(held.used.elapsed());
        let old = self.settings.age_max.checked_sub(held.begun.elapsed());
        let left = idle.zip(old).map(|(idle, old)| idle.min(old));
        let left = left.filter(|left| !left.is_zero());
        let gone = left.is_none().then(|| streams.remove(&peer));
        drop(streams);
        // What the engine kept for it may take a moment to be let go.
        if let Some(Rows::Still(still)) = gone.flatten().and_then(|held| held.rows) {
            still.forgotten.store(true, Ordering::Relaxed);
        }
        left
    }

    fn note_used(&self, peer: u32, number: u64) {
        let mut streams = self.streams();
        if let Some(held) = streams.get_mut(&peer).filter(|held| held.number == number) {
            held.used = Instant::now();
        }
    }

    async fn send(
        self: &Arc<Self>,
        peer: u32,
        number: u64,
        mut place: Place,
        sender: &mpsc::Sender<Result<v1::SnapshotPiece, Status>>,
    ) -> Result<(), Status> {
        loop {
            let shared = self.clone();
            let making = spawn_blocking(move || shared.piece(number, place));
            let made = making.await;
            let (piece, next) =
                made.map_err(|error| Status::internal(format!("make a piece: {error}")))??;
            let last = piece.last;
            let bytes: usize = piece.rows.iter().map(row_bytes).sum();
            let pause = pause_after(bytes, self.settings.bytes_per_second);
            // One that takes nothing holds nothing either.
            let sent = tokio::time::timeout(self.settings.idle_max, sender.send(Ok(piece))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return Ok(());
            }
            self.note_used(peer, number);
            place = next;
            if last {
                if let Place::Changing(session, _) = &place {
                    // Nothing more to note. Should the piece get lost, the peer starts again.
                    session.fail();
                }
                return Ok(());
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Makes the piece at `place`; returns it with the place behind it.
    fn piece(&self, number: u64, place: Place) -> Result<(v1::SnapshotPiece, Place), Status> {
        let over = || Status::aborted("the snapshot can't be made whole");
        let (mut piece, place) = match place {
            Place::Still(still, after) => {
                let old = still.begun.elapsed() >= self.settings.age_max;
                let forgotten = still.forgotten.load(Ordering::Relaxed);
                if old || forgotten || !self.tables.is_current(&still.rows) {
                    return Err(over());
                }
                let made = still.piece(&after, self.settings.piece_bytes);
                let piece = made.map_err(|error| Status::internal(error.to_string()))?;
                let after = piece.rows.last().map_or(after, |row| row.key.to_vec());
                (piece, Place::Still(still, after))
            }
            Place::Changing(session, turn) => {
                let piece = self.changing_piece(&session, turn)?;
                (piece.ok_or_else(over)?, Place::Changing(session, turn))
            }
        };
        piece.session = number;
        Ok((piece, place))
    }

    /// Makes a piece in many short reads: writes wait for one of them at most.
    fn changing_piece(
        &self,
        session: &Session,
        turn: u64,
    ) -> Result<Option<v1::SnapshotPiece>, Status> {
        let (mut piece, mut bytes) = (v1::SnapshotPiece::default(), 0);
        while bytes < self.settings.piece_bytes && !piece.last {
            let made = self.tables.read(|engine| {
                let part = session.next_piece(turn, engine);
                part.map(|part| part.map(|part| self.placed(part, engine.applied())))
            });
            let part = match made {
                Some(Ok(Some(part))) => part,
                Some(Ok(None)) | None => return Ok(None),
                Some(Err(error)) => return Err(Status::internal(error.to_string())),
            };
            let mut rows = std::mem::take(&mut piece.rows);
            bytes += part.rows.iter().map(row_bytes).sum::<usize>();
            rows.extend(part.rows);
            piece = v1::SnapshotPiece { rows, ..part };
        }
        piece.crc = checksum(&piece.rows);
        Ok(Some(piece))
    }

    /// Says in the last piece what all rows stand for.
    fn placed(&self, mut piece: v1::SnapshotPiece, applied: Mark) -> v1::SnapshotPiece {
        if piece.last {
            piece.index = applied.index;
            piece.term = applied.term;
            piece.state = Some(ticket(applied, &self.tables.conf()));
        }
        piece
    }
}

fn row_bytes(row: &v1::SnapshotRow) -> usize {
    row.key.len() + row.value.len()
}

fn pause_after(bytes: usize, bytes_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64)
}
