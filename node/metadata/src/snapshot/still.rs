//! A stream of rows that stand still: one snapshot of the engine, sent from its first row to its
//! last.

use super::{checksum, next_key, row};
use crate::engine::END_KEY;
use crate::log::{Conf, Mark};
use crate::raft::ticket;
use crate::tables::TablesSnapshot;
use megalith_model::table::RowsError;
use megalith_proto::v1;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// All rows at one place of the log, and the members as of then or later.
pub(super) struct Still {
    pub(super) rows: TablesSnapshot,
    pub(super) conf: Conf,
    pub(super) begun: Instant,
    /// It was idle for too long: nothing keeps the log for it any more.
    pub(super) forgotten: AtomicBool,
}

impl Still {
    /// The place of the log that the rows stand for.
    pub(super) fn mark(&self) -> Mark {
        self.rows.view().applied()
    }

    /// Makes the piece behind the row `after`; empty: the first.
    pub(super) fn piece(
        &self,
        after: &[u8],
        piece_bytes: usize,
    ) -> Result<v1::SnapshotPiece, RowsError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let visit = &mut |key: &[u8], value: &[u8]| {
            bytes += key.len() + value.len();
            rows.push(row(key, Some(value)));
            bytes < piece_bytes
        };
        self.rows.view().scan(&next_key(after), END_KEY, visit)?;
        let mut piece = v1::SnapshotPiece {
            crc: checksum(&rows),
            rows,
            last: bytes < piece_bytes,
            ..v1::SnapshotPiece::default()
        };
        if piece.last {
            let mark = self.mark();
            (piece.index, piece.term) = (mark.index, mark.term);
            piece.state = Some(ticket(mark, &self.conf));
        }
        Ok(piece)
    }
}
