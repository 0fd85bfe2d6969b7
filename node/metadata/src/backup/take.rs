//! Making a backup: a member's stream of rows becomes a directory.

use super::file::RowsWriter;
use super::{BackupCard, BackupError, io_error, is_free};
use crate::log::Mark;
use crate::snapshot::checksum;
use crate::transport::SnapshotPieces;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use megalith_client::BackupClient;
use megalith_model::ids::{ClusterId, GroupId};
use megalith_proto::v1;
use std::path::Path;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

/// Breaks in a row, without a piece between them, after which a backup is given up.
const BREAKS_MAX: u32 = 6;
/// The first pause after a break; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// A stream that brings nothing for this long is broken.
const PIECE_DEADLINE: Duration = Duration::from_secs(15);

/// The way to a group's rows.
pub trait BackupSource: Send + Sync {
    /// Begins a stream, or goes on with the one that `request` names. `broken` counts the streams
    /// that have broken in a row, so that another member may be asked.
    fn rows(
        &self,
        request: v1::SnapshotRequest,
        broken: u32,
    ) -> BoxFuture<'_, Result<SnapshotPieces, Status>>;
}

impl BackupSource for BackupClient {
    fn rows(
        &self,
        request: v1::SnapshotRequest,
        broken: u32,
    ) -> BoxFuture<'_, Result<SnapshotPieces, Status>> {
        // A member that breaks off is asked once more, to go on.
        let turn = (broken / 2) as usize;
        let begun = BackupClient::rows(self, request, turn);
        async move { Ok(begun.await?.boxed()) }.boxed()
    }
}

/// How far a backup is.
struct Progress {
    writer: RowsWriter,
    session: u64,
    after: Vec<u8>,
    broken: u32,
    /// How often it began again.
    begun: u32,
}

/// Writes a backup into `dir`, which must be empty or missing.
pub async fn take(
    source: &dyn BackupSource,
    cluster: ClusterId,
    group: GroupId,
    dir: &Path,
) -> Result<BackupCard, BackupError> {
    take_within(source, cluster, group, dir, PAUSE).await
}

/// Does it with another pause after a break.
pub(super) async fn take_within(
    source: &dyn BackupSource,
    cluster: ClusterId,
    group: GroupId,
    dir: &Path,
    pause: Duration,
) -> Result<BackupCard, BackupError> {
    if !is_free(dir)? {
        return Err(BackupError::NotEmpty {
            dir: dir.to_owned(),
        });
    }
    std::fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    let mut progress = Progress {
        writer: RowsWriter::create(dir)?,
        session: 0,
        after: Vec::new(),
        broken: 0,
        begun: 0,
    };
    let mark = loop {
        let request = v1::SnapshotRequest {
            group: group.0,
            index: 1,
            term: 0,
            after: progress.after.clone().into(),
            session: progress.session,
            still: false,
        };
        match source.rows(request, progress.broken).await {
            Ok(pieces) => {
                let (back, ended) = stream(progress, pieces).await?;
                progress = back;
                match ended {
                    Ok(mark) => break mark,
                    Err(status) => progress = progress.broke(status, dir, pause).await?,
                }
            }
            Err(status) => progress = progress.broke(status, dir, pause).await?,
        }
    };
    let written = blocking(move || progress.writer.finish()).await?;
    let card = BackupCard {
        cluster,
        group,
        mark,
        records: written.records,
        len: written.len,
        digest: written.digest,
    };
    card.write(dir)?;
    Ok(card)
}

/// Takes pieces until the last one or until the stream breaks.
async fn stream(
    mut progress: Progress,
    mut pieces: SnapshotPieces,
) -> Result<(Progress, Result<Mark, Status>), BackupError> {
    loop {
        let piece = match timeout(PIECE_DEADLINE, pieces.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(status))) => return Ok((progress, Err(status))),
            Ok(None) => {
                let status = Status::unavailable("the stream ended early");
                return Ok((progress, Err(status)));
            }
            Err(_late) => {
                let status = Status::unavailable("no piece came in time");
                return Ok((progress, Err(status)));
            }
        };
        if checksum(&piece.rows) != piece.crc {
            let status = Status::unavailable("a piece came with a wrong checksum");
            return Ok((progress, Err(status)));
        }
        if !piece
            .rows
            .iter()
            .all(|row| matches!(row.key.first(), Some(1..=254)))
        {
            return Err(BackupError::Malformed("a key that no row has"));
        }
        let mark = Mark {
            index: piece.index,
            term: piece.term,
        };
        let last = piece.last;
        progress = progress.append(piece).await?;
        match last {
            true if mark.index == 0 => {
                return Err(BackupError::Malformed("a last piece without its place"));
            }
            true => return Ok((progress, Ok(mark))),
            false => {}
        }
    }
}

impl Progress {
    async fn append(self, piece: v1::SnapshotPiece) -> Result<Self, BackupError> {
        let Self {
            mut writer,
            mut after,
            begun,
            ..
        } = self;
        let session = piece.session;
        let rows = piece.rows;
        if let Some(last) = rows.last().filter(|last| last.key[..] > after[..]) {
            after = last.key.to_vec();
        }
        let writer = blocking(move || {
            writer.append(&rows)?;
            Ok(writer)
        });
        Ok(Self {
            writer: writer.await?,
            session,
            after,
            broken: 0,
            begun,
        })
    }

    /// Waits a little; begins again if the member can't go on with the stream.
    async fn broke(
        mut self,
        status: Status,
        dir: &Path,
        pause: Duration,
    ) -> Result<Self, BackupError> {
        self.broken += 1;
        let refused = matches!(
            status.code(),
            Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument
        );
        if self.broken > BREAKS_MAX || self.begun > BREAKS_MAX || refused {
            return Err(BackupError::Stream(Box::new(status)));
        }
        tracing::warn!(%status, "the stream of the metadata broke");
        if matches!(status.code(), Code::NotFound | Code::Aborted) {
            self.begun += 1;
            self.writer = RowsWriter::create(dir)?;
            self.session = 0;
            self.after.clear();
        }
        sleep(pause * (1 << self.broken)).await;
        Ok(self)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    spawn_blocking(work)
        .await
        .map_err(|_| BackupError::Stopped)?
}
