//! The sending side: sessions, one for each peer, and their streams.

use super::{PIECE_BYTES, Session, checksum};
use crate::log::Mark;
use crate::raft::ticket;
use crate::tables::Tables;
use megalith_proto::v1;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tonic::Status;

/// Bytes of rows read at once: writes wait while that lasts, a few milliseconds.
const READ_BYTES: usize = 32 << 10;
/// Pieces made ahead of the peer.
const PIECES_AHEAD: usize = 2;

/// What one process may choose about sending snapshots.
#[derive(Clone, Copy, Debug)]
pub struct SourceSettings {
    /// A session that no peer reads is forgotten after this time. Default 60 s.
    pub idle_max: Duration,
    /// Bytes of rows a second to one peer. Default 64 MiB.
    pub bytes_per_second: u64,
    /// Bytes of rows in one piece; a single longer row makes a longer piece. Default 1 MiB.
    pub piece_bytes: usize,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            idle_max: Duration::from_secs(60),
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
    sessions: Mutex<HashMap<u32, Held>>,
    last_number: AtomicU64,
}

struct Held {
    session: Arc<Session>,
    used: Instant,
}

impl SnapshotSource {
    /// Sends the rows of `tables`. `life` must differ from that of every earlier process.
    #[must_use]
    pub fn new(tables: Arc<Tables>, settings: SourceSettings, life: u64) -> Self {
        let sessions = Mutex::new(HashMap::new());
        let last_number = AtomicU64::new(life);
        Self {
            shared: Arc::new(Shared {
                tables,
                settings,
                sessions,
                last_number,
            }),
        }
    }

    /// When a peer last took a piece.
    #[must_use]
    pub fn last_used(&self, peer: u32) -> Option<Instant> {
        self.shared.sessions().get(&peer).map(|held| held.used)
    }

    /// Begins or goes on with a stream to `peer`. Fails with NOT_FOUND if the session to go on
    /// with is forgotten, with UNAVAILABLE if this member isn't as far as asked for.
    pub fn stream(
        &self,
        peer: u32,
        request: &v1::SnapshotRequest,
    ) -> Result<mpsc::Receiver<Result<v1::SnapshotPiece, Status>>, Status> {
        let shared = self.shared.clone();
        let applied = shared.tables.read(|engine| engine.applied());
        if applied.is_none_or(|applied| applied.index < request.index || applied.index == 0) {
            return Err(Status::unavailable("this member has not applied as much"));
        }
        let (session, turn) = shared.session(peer, request)?;
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        tokio::spawn(async move {
            if let Err(status) = shared.send(peer, session, turn, &sender).await {
                // The peer is gone: it will ask again.
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(pieces)
    }
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, HashMap<u32, Held>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(
        &self,
        peer: u32,
        request: &v1::SnapshotRequest,
    ) -> Result<(Arc<Session>, u64), Status> {
        let mut sessions = self.sessions();
        sessions.retain(|_, held| held.used.elapsed() < self.settings.idle_max);
        if request.session != 0 {
            let held = sessions
                .get_mut(&peer)
                .filter(|held| held.session.number == request.session)
                .ok_or_else(|| Status::not_found("the snapshot stream is forgotten"))?;
            held.used = Instant::now();
            let turn = held.session.resume(&request.after);
            return Ok((held.session.clone(), turn));
        }
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let session = Arc::new(Session::new(
            number,
            READ_BYTES.min(self.settings.piece_bytes),
        ));
        self.tables.watch(&session);
        sessions.insert(
            peer,
            Held {
                session: session.clone(),
                used: Instant::now(),
            },
        );
        tracing::info!(peer, session = number, "sending a snapshot of the metadata");
        Ok((session, 0))
    }

    async fn send(
        self: &Arc<Self>,
        peer: u32,
        session: Arc<Session>,
        turn: u64,
        sender: &mpsc::Sender<Result<v1::SnapshotPiece, Status>>,
    ) -> Result<(), Status> {
        loop {
            let (shared, reader) = (self.clone(), session.clone());
            let piece = spawn_blocking(move || shared.piece(&reader, turn))
                .await
                .map_err(|error| Status::internal(format!("make a piece: {error}")))??;
            let last = piece.last;
            let bytes: usize = piece.rows.iter().map(row_bytes).sum();
            let pause = pause_after(bytes, self.settings.bytes_per_second);
            if sender.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
            if let Some(held) = self.sessions().get_mut(&peer) {
                held.used = Instant::now();
            }
            if last {
                // Nothing more to note. Should the piece get lost, the peer starts again.
                session.fail();
                return Ok(());
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Makes a piece in many short reads: writes wait for one of them at most.
    fn piece(&self, session: &Session, turn: u64) -> Result<v1::SnapshotPiece, Status> {
        let (mut piece, mut bytes) = (v1::SnapshotPiece::default(), 0);
        while bytes < self.settings.piece_bytes && !piece.last {
            let made = self.tables.read(|engine| {
                let part = session.next_piece(turn, engine);
                part.map(|part| part.map(|part| self.placed(part, engine.applied())))
            });
            let part = match made {
                Some(Ok(Some(part))) => part,
                Some(Ok(None)) | None => {
                    return Err(Status::aborted("the snapshot can't be made whole"));
                }
                Some(Err(error)) => return Err(Status::internal(format!("{error}"))),
            };
            let mut rows = std::mem::take(&mut piece.rows);
            bytes += part.rows.iter().map(row_bytes).sum::<usize>();
            rows.extend(part.rows);
            piece = v1::SnapshotPiece { rows, ..part };
        }
        piece.crc = checksum(&piece.rows);
        Ok(piece)
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
