//! The receiving side: takes a peer's rows into an engine of their own and stages it.

use super::checksum;
use crate::engine::{EngineError, Engines, MetaEngine, partial_name, staged_name};
use crate::log::{Conf, Mark};
use crate::raft::ticket_parts;
use crate::transport::Transport;
use futures::StreamExt;
use megalith_model::codec;
use megalith_model::ids::{GroupId, NodeId};
use megalith_model::keys::{Meta, RowKey};
use megalith_model::level::{LevelRange, OutOfRange};
use megalith_model::table::{Batch, MemRows, Overlay};
use megalith_proto::v1;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tonic::{Code, Status};

/// How often a broken stream is taken up again without a piece between, before the fetch as a
/// whole fails.
const RESUMES_MAX: u32 = 5;
/// A stream that brings nothing for this long is broken.
const PIECE_DEADLINE: Duration = Duration::from_secs(10);

/// A peer's rows, whole, in an engine that is not open.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub name: String,
    /// The place of the log that the rows stand for.
    pub mark: Mark,
    /// The members as of then or later.
    pub conf: Conf,
}

/// Why there are no rows.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The peer or the way to it.
    #[error("stream a snapshot from {peer}")]
    Peer { peer: NodeId, source: Box<Status> },
    /// What the peer sent is not a snapshot.
    #[error("{peer} sent {what}")]
    Malformed { peer: NodeId, what: &'static str },
    /// The rows are of a level that this program can't run. None of them is used.
    #[error(transparent)]
    Level(#[from] OutOfRange),
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The runtime is going down.
    #[error("the fetch was given up")]
    Stopped,
}

/// One fetch with what it has so far.
struct Fetch {
    engines: Arc<dyn Engines>,
    transport: Arc<dyn Transport>,
    group: GroupId,
    peer: NodeId,
    /// The rows must stand for at least this entry.
    index_min: u64,
    /// The levels that this program can run.
    known: LevelRange,
    /// None only while it is made again.
    engine: Option<Arc<dyn MetaEngine>>,
    session: u64,
    after: Vec<u8>,
    /// Taken since the last break.
    pieces: u64,
}

/// Fetches all rows of `peer`, at entry `index_min` or later, and stages them.
pub async fn fetch(
    engines: Arc<dyn Engines>,
    transport: Arc<dyn Transport>,
    group: GroupId,
    peer: NodeId,
    index_min: u64,
    known: LevelRange,
) -> Result<Fetched, FetchError> {
    let name = partial_name(u64::from(peer.0));
    let (opener, partial) = (engines.clone(), name.clone());
    let fresh = move || {
        opener.wipe(&partial)?;
        opener.open(&partial)
    };
    let engine = Some(blocking(fresh).await?);
    let (session, after) = (0, Vec::new());
    let mut fetch = Fetch {
        engines,
        transport,
        group,
        peer,
        index_min,
        known,
        engine,
        session,
        after,
        pieces: 0,
    };
    let mut resumes = 0;
    let (mark, conf) = loop {
        match fetch.stream().await {
            Ok(done) => break done,
            Err(FetchError::Peer { peer, source }) if fetch.may_resume(&mut resumes, &source) => {
                tracing::warn!(%peer, status = %source, "the snapshot stream broke");
                if is_forgotten(&source) {
                    fetch.start_again().await?;
                }
                tokio::time::sleep(Duration::from_millis(100 << resumes)).await;
            }
            Err(error) => return Err(error),
        }
    };
    fetch.stage(name, mark, conf).await
}

/// True if a stream can't be gone on with.
fn is_forgotten(status: &Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::Aborted)
}

impl Fetch {
    /// Counts a break. Pieces that came since the last one make up for it, unless they are lost.
    fn may_resume(&mut self, resumes: &mut u32, status: &Status) -> bool {
        if std::mem::take(&mut self.pieces) > 0 && !is_forgotten(status) {
            *resumes = 0;
        }
        *resumes += 1;
        *resumes <= RESUMES_MAX
    }

    /// Takes pieces until the last one.
    async fn stream(&mut self) -> Result<(Mark, Conf), FetchError> {
        let request = v1::SnapshotRequest {
            group: self.group.0,
            index: self.index_min,
            term: 0,
            after: self.after.clone().into(),
            session: self.session,
            still: false,
        };
        let peer = self.peer;
        let broken = |status| FetchError::Peer {
            peer,
            source: Box::new(status),
        };
        let mut pieces = self
            .transport
            .snapshot(peer, request)
            .await
            .map_err(broken)?;
        loop {
            let piece = tokio::time::timeout(PIECE_DEADLINE, pieces.next())
                .await
                .map_err(|_| broken(Status::unavailable("no piece came in time")))?
                .ok_or_else(|| broken(Status::unavailable("the stream ended early")))?
                .map_err(broken)?;
            if let Some(done) = self.take(piece).await? {
                return Ok(done);
            }
        }
    }

    async fn take(&mut self, piece: v1::SnapshotPiece) -> Result<Option<(Mark, Conf)>, FetchError> {
        let malformed = |what| FetchError::Malformed {
            peer: self.peer,
            what,
        };
        if checksum(&piece.rows) != piece.crc {
            // Sent again from the last good piece on.
            return Err(FetchError::Peer {
                peer: self.peer,
                source: Box::new(Status::unavailable("a piece came with a wrong checksum")),
            });
        }
        let engine_key = |row: &v1::SnapshotRow| matches!(row.key.first(), Some(1..=254));
        if !piece.rows.iter().all(engine_key) {
            return Err(malformed("a key that no row has"));
        }
        self.check_level(&piece.rows)?;
        self.session = piece.session;
        let done = piece.last.then_some(piece.state).map(|state| {
            let (mark, conf) = ticket_parts(state.unwrap_or_default());
            let fits = mark.index == piece.index && mark.term == piece.term && mark.index > 0;
            let whole = fits && mark.index >= self.index_min && !conf.voters.is_empty();
            whole.then_some((mark, conf))
        });
        // Rows sent again because they changed come after greater keys.
        if let Some(last) = piece
            .rows
            .last()
            .filter(|last| last.key[..] > self.after[..])
        {
            self.after = last.key.to_vec();
        }
        self.pieces += 1;
        let engine = self.engine.clone().ok_or(FetchError::Stopped)?;
        blocking(move || engine.write(&batch(piece.rows), Mark::default())).await?;
        match done {
            None => Ok(None),
            Some(Some(done)) => Ok(Some(done)),
            Some(None) => Err(malformed("a last piece without its place")),
        }
    }

    /// Looks for the row of the cluster's level, which is among the first that come.
    fn check_level(&self, rows: &[v1::SnapshotRow]) -> Result<(), FetchError> {
        let key = RowKey::Meta(Meta::Level).encode();
        for row in rows.iter().filter(|row| row.key == key && !row.deleted) {
            let level = codec::decode(&row.value).map_err(|_| FetchError::Malformed {
                peer: self.peer,
                what: "a level that can't be read",
            })?;
            self.known.check(level)?;
        }
        Ok(())
    }

    /// Forgets all rows: the source has forgotten the stream, or can't make it whole.
    async fn start_again(&mut self) -> Result<(), FetchError> {
        self.session = 0;
        self.after.clear();
        let (engines, name) = (self.engines.clone(), partial_name(u64::from(self.peer.0)));
        let old = self.engine.take();
        let fresh = move || {
            drop(old);
            engines.wipe(&name)?;
            engines.open(&name)
        };
        self.engine = Some(blocking(fresh).await?);
        Ok(())
    }

    /// Makes the rows durable with their place, closes the engine and gives it its staged name.
    async fn stage(self, partial: String, mark: Mark, conf: Conf) -> Result<Fetched, FetchError> {
        let Self {
            engines,
            engine,
            peer,
            ..
        } = self;
        let engine = engine.ok_or(FetchError::Stopped)?;
        let name = staged_name(mark);
        let staged = name.clone();
        blocking(move || {
            engine.write(&Batch::default(), mark)?;
            engine.checkpoint()?;
            drop(engine);
            engines.wipe(&staged)?;
            engines.rename(&partial, &staged)
        })
        .await?;
        tracing::info!(%peer, index = mark.index, "a snapshot of the metadata is fetched");
        Ok(Fetched { name, mark, conf })
    }
}

fn batch(rows: Vec<v1::SnapshotRow>) -> Batch {
    let nothing = MemRows::default();
    let mut overlay = Overlay::new(&nothing);
    for row in rows {
        if row.deleted {
            overlay.delete(row.key.to_vec());
        } else {
            overlay.put(row.key.to_vec(), row.value.to_vec());
        }
    }
    overlay.into_batch()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, FetchError> {
    let done = spawn_blocking(work)
        .await
        .map_err(|_| FetchError::Stopped)?;
    Ok(done?)
}
