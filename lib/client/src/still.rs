//! One view of all metadata rows, read in stretches, each as often as it is wanted.

use crate::backup::{BackupClient, rows_checksum};
use crate::error::{ClientError, chain};
use megalith_proto::v1 as proto;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

/// Breaks in a row, without a piece between them, after which a stretch is given up.
const BREAKS_MAX: u32 = 6;
/// The first pause after a break; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// A stream that brings nothing for this long is broken.
const PIECE_DEADLINE: Duration = Duration::from_secs(15);

/// Why a stretch of rows was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum StillError {
    /// The member has forgotten the view, and nothing else is like it: begin again with a new one.
    #[error("the member has let the view of the rows go")]
    Forgotten,
    #[error(transparent)]
    Client(ClientError),
}

/// A view of the rows as of one place of the log, kept by one member for up to an hour, and for a
/// minute after its last use. Members keep one such view at a time: a second one ends the first.
pub struct StillRows {
    client: BackupClient,
    members: usize,
    session: u64,
    /// Which member has it.
    turn: usize,
}

impl StillRows {
    /// A view that begins with the first read. `members` is how many members the client knows.
    #[must_use]
    pub fn new(client: BackupClient, members: usize) -> Self {
        Self {
            client,
            members,
            session: 0,
            turn: 0,
        }
    }

    /// Reads rows in the order of their keys, from the first one behind the key `after`, until
    /// `visit` returns false or no row is left. Returns the entry of the log that the rows stand
    /// for if it has read the last one.
    pub async fn read(
        &mut self,
        after: &[u8],
        visit: &mut (dyn FnMut(&[u8], &[u8]) -> bool + Send),
    ) -> Result<Option<u64>, StillError> {
        let (mut after, mut breaks) = (after.to_vec(), 0);
        loop {
            let error = match self.stretch(&mut after, &mut breaks, visit).await {
                Ok(end) => return Ok(end),
                Err(error) => error,
            };
            breaks += 1;
            let lost = matches!(error.code(), Code::NotFound | Code::Aborted);
            if self.session != 0 && (lost || breaks > 2) {
                self.session = 0;
                return Err(StillError::Forgotten);
            }
            let refused = matches!(
                error.code(),
                Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument
            );
            let out_of =
                matches!(error.code(), Code::FailedPrecondition) && breaks as usize >= self.members;
            if refused || out_of {
                return Err(StillError::Client(ClientError::Rejected(chain(&error))));
            }
            if breaks > BREAKS_MAX {
                return Err(StillError::Client(ClientError::Unavailable(chain(&error))));
            }
            if self.session == 0 {
                self.turn += 1;
            }
            sleep(PAUSE * (1 << breaks.min(4))).await;
        }
    }

    async fn stretch(
        &mut self,
        after: &mut Vec<u8>,
        breaks: &mut u32,
        visit: &mut (dyn FnMut(&[u8], &[u8]) -> bool + Send),
    ) -> Result<Option<u64>, Status> {
        let request = proto::SnapshotRequest {
            index: 1,
            after: after.clone().into(),
            session: self.session,
            still: true,
            ..proto::SnapshotRequest::default()
        };
        let mut pieces = self.client.rows(request, self.turn).await?;
        loop {
            let late = || Status::unavailable("no piece came in time");
            let piece = timeout(PIECE_DEADLINE, pieces.message()).await;
            let Some(piece) = piece.map_err(|_late| late())?? else {
                return Err(Status::unavailable("the stream ended early"));
            };
            if rows_checksum(&piece.rows) != piece.crc {
                return Err(Status::unavailable("a piece came with a wrong checksum"));
            }
            (self.session, *breaks) = (piece.session, 0);
            for row in &piece.rows {
                if row.deleted {
                    return Err(Status::invalid_argument("a view that stands still changes"));
                }
                if !visit(&row.key, &row.value) {
                    return Ok(None);
                }
            }
            if let Some(row) = piece.rows.last() {
                *after = row.key.to_vec();
            }
            if piece.last {
                return Ok(Some(piece.index));
            }
        }
    }
}
