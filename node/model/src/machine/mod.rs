//! The metadata state machine: what a command changes, judged when it is applied.

use crate::codec::DecodeError;
use crate::command::{Answer, Envelope};
use crate::table::{Overlay, RowsError};

/// Rows that can't be worked with. Never a user's mistake: the replica must stop applying.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The engine failed.
    #[error("metadata engine")]
    Rows(#[from] RowsError),
    /// A row's bytes are none of its kind.
    #[error("row {key} is damaged")]
    Damaged {
        /// The row's key, readable.
        key: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A row that another one promises isn't there, or a count fell below zero.
    #[error("rows contradict each other: {0}")]
    Contradiction(String),
}

/// Applies one command to `rows`. Deterministic. A refused command leaves no change but the memory
/// of its token. On an error nothing has changed and the replica must not go on.
pub fn apply(rows: &mut Overlay<'_>, envelope: &Envelope) -> Result<Answer, MachineError> {
    let _ = (rows, envelope);
    Err(MachineError::Contradiction("not yet built".into()))
}
