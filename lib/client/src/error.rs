//! What callers are told: a few kinds that say what to do.

use megalith_model::ids::{Epoch, NodeId};
use std::error::Error;
use std::fmt;

/// Why a call to the metadata group, or a small call to a node, brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A command may or may not have been applied. Proposing the very same again is safe and tells
    /// which.
    #[error(
        "no answer within the deadline, so it is not known whether the command was applied: {0}"
    )]
    Unknown(String),
    /// No member answered within the deadline. This call has changed nothing.
    #[error("no member answered within the deadline: {0}")]
    Unavailable(String),
    /// The call was refused and would be refused again: a wrong role, a malformed request.
    #[error("the call was refused: {0}")]
    Rejected(String),
    /// The cluster has denied this process's certificate. This call has changed nothing.
    #[error("the cluster has denied the certificate of this process: {0}")]
    Denied(String),
    /// The answer can't be read: the peer runs another version of the program, or there is a
    /// defect.
    #[error("the answer can't be read: {0}")]
    Malformed(String),
}

/// Why shard bytes were not written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{node}: {fault}: {message}")]
pub struct DataError {
    /// The node that was called.
    pub node: NodeId,
    /// What to do about it.
    pub fault: DataFault,
    /// The node's words, or ours.
    pub message: String,
}

/// The kinds of [`DataError`]; the first ones are the table in `docs/formats/data-plane.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFault {
    /// The request is wrong; don't repeat it.
    Malformed,
    /// Our role may not do that.
    Forbidden,
    /// The shard doesn't exist: treat it as an erasure.
    NotFound,
    /// The volume is in another epoch: fetch the map, place elsewhere.
    StaleEpoch {
        /// The present epoch, if the volume is known.
        present: Option<Epoch>,
    },
    /// Another shard exists under that name.
    Conflict,
    /// The blob id is in no open lease.
    LeaseClosed,
    /// Bytes changed on the way to the node: send again.
    Checksum,
    /// The shard is bad, on the disk or on its way to us: treat it as an erasure.
    Damaged,
    /// The disk failed: place elsewhere.
    Io,
    /// The node's queue is full: try again later.
    Busy,
    /// The disk is full: place elsewhere.
    Full,
    /// No connection, or it broke. A write may have happened.
    Unreachable,
    /// The node went silent. A write may have happened.
    Timeout,
    /// The caller ended the body before its length or without its digest.
    Abandoned,
    /// The node's answer can't be read.
    Protocol,
}

impl DataFault {
    /// Returns the kind's name; the one on the wire, if it has one there.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::StaleEpoch { .. } => "stale_epoch",
            Self::Conflict => "conflict",
            Self::LeaseClosed => "lease_closed",
            Self::Checksum => "checksum",
            Self::Damaged => "damaged",
            Self::Io => "io",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Abandoned => "abandoned",
            Self::Protocol => "protocol",
        }
    }

    /// Returns the fault for an answer's status; None if the table doesn't contain the status.
    #[must_use]
    pub(crate) fn of_status(status: u16, present: Option<Epoch>, kind: &str) -> Option<Self> {
        Some(match (status, kind) {
            (400, _) => Self::Malformed,
            (403, _) => Self::Forbidden,
            (404, _) => Self::NotFound,
            (409, "stale_epoch") => Self::StaleEpoch { present },
            (409, _) => Self::Conflict,
            (410, _) => Self::LeaseClosed,
            (422, _) => Self::Checksum,
            (424, _) => Self::Damaged,
            (408, _) => Self::Timeout,
            (500, _) => Self::Io,
            (503, _) => Self::Busy,
            (507, _) => Self::Full,
            _ => return None,
        })
    }
}

impl fmt::Display for DataFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Joins an error and its causes into one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let part = cause.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = cause.source();
    }
    text
}
