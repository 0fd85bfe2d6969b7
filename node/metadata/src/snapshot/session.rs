//! A stream of rows that change, over an engine without snapshots: how far its scan is, and which
//! rows behind it have changed since.

use super::{checksum, next_key, row};
use crate::engine::{END_KEY, EngineView};
use megalith_model::table::{Batch, RowsError};
use megalith_proto::v1;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keys that one session may remember, in bytes; past it the stream ends and starts again.
const NOTED_BYTES_MAX: usize = 256 << 20;

/// A stream of rows to one peer.
pub struct Session {
    /// Its number; the peer names it to go on.
    pub(super) number: u64,
    piece_bytes: usize,
    state: Mutex<State>,
}

struct State {
    /// Of the stream that may take pieces; one that was cut off may still be at work.
    turn: u64,
    /// Rows up to this key are sent. Empty before the first.
    cursor: Vec<u8>,
    scanned: bool,
    /// Rows at or before the cursor that have changed since they were sent.
    changed: BTreeSet<Vec<u8>>,
    /// Changed rows that were sent again: a piece may be lost on the way.
    resent: BTreeSet<Vec<u8>>,
    noted_bytes: usize,
    failed: bool,
}

impl Session {
    pub(super) fn new(number: u64, piece_bytes: usize) -> Self {
        let state = State {
            turn: 0,
            cursor: Vec::new(),
            scanned: false,
            changed: BTreeSet::new(),
            resent: BTreeSet::new(),
            noted_bytes: 0,
            failed: false,
        };
        Self {
            number,
            piece_bytes,
            state: Mutex::new(state),
        }
    }

    /// Notes a batch that is being written. The gate of the tables is closed meanwhile.
    pub(crate) fn note(&self, batch: &Batch) {
        let mut state = self.state();
        if state.failed {
            return;
        }
        for (key, _) in batch.iter() {
            let sent = state.scanned || key <= state.cursor.as_slice();
            if sent && state.changed.insert(key.to_vec()) {
                state.noted_bytes += key.len() + 64;
            }
        }
        if state.noted_bytes > NOTED_BYTES_MAX {
            tracing::warn!(
                session = self.number,
                "rows change faster than they can be sent"
            );
            state.fail();
        }
    }

    /// Ends the stream: its rows can't be made whole any more.
    pub(crate) fn fail(&self) {
        self.state().fail();
    }

    /// Goes back to the last row that the peer has. Returns the new stream's turn: from here on,
    /// an earlier stream gets nothing, or what it took would be missing in this one.
    pub(super) fn resume(&self, after: &[u8]) -> u64 {
        let mut state = self.state();
        state.turn += 1;
        let turn = state.turn;
        let State {
            changed, resent, ..
        } = &mut *state;
        changed.append(resent);
        if after < state.cursor.as_slice() {
            state.cursor = after.to_vec();
            state.scanned = false;
        }
        turn
    }

    /// Makes the next piece; `engine` doesn't change meanwhile. None if the session has failed
    /// or gone on with another stream. The last piece lacks only its place in the log.
    pub(super) fn next_piece(
        &self,
        turn: u64,
        engine: &dyn EngineView,
    ) -> Result<Option<v1::SnapshotPiece>, RowsError> {
        let mut state = self.state();
        if state.failed || state.turn != turn {
            return Ok(None);
        }
        let rows = if state.scanned {
            state.changed_rows(engine, self.piece_bytes)?
        } else {
            state.scan(engine, self.piece_bytes)?
        };
        let last = state.scanned && state.changed.is_empty();
        let crc = checksum(&rows);
        let mut piece = v1::SnapshotPiece {
            rows,
            crc,
            last,
            ..v1::SnapshotPiece::default()
        };
        piece.session = self.number;
        Ok(Some(piece))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fail(&mut self) {
        self.failed = true;
        self.changed.clear();
        self.resent.clear();
    }

    fn scan(
        &mut self,
        engine: &dyn EngineView,
        piece_bytes: usize,
    ) -> Result<Vec<v1::SnapshotRow>, RowsError> {
        let from = next_key(&self.cursor);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        engine.scan(&from, END_KEY, &mut |key, value| {
            bytes += key.len() + value.len();
            rows.push(row(key, Some(value)));
            bytes < piece_bytes
        })?;
        if let Some(last) = rows.last() {
            self.cursor = last.key.to_vec();
        }
        self.scanned = bytes < piece_bytes;
        Ok(rows)
    }

    fn changed_rows(
        &mut self,
        engine: &dyn EngineView,
        piece_bytes: usize,
    ) -> Result<Vec<v1::SnapshotRow>, RowsError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while bytes < piece_bytes {
            let Some(key) = self.changed.pop_first() else {
                break;
            };
            let value = engine.get(&key)?;
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            rows.push(row(&key, value.as_deref()));
            self.resent.insert(key);
        }
        Ok(rows)
    }
}
