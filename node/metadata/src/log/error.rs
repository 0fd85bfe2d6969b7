//! What can be wrong with a log.

use super::LogIdentity;
use std::path::PathBuf;

/// A log that can't be used. None of these may be retried: the member stops or doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system failed. After a failed write or sync the log takes no more appends.
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// An earlier write or sync failed.
    #[error("an earlier write of the raft log failed; the member must be started again")]
    Failed,
    /// The directory holds no log. A member whose log is gone must not vote as if it were new.
    #[error(
        "no raft log in {}: if its disk was lost, replace this member; it must not vote as if new",
        dir.display()
    )]
    Missing { dir: PathBuf },
    /// There is a log already.
    #[error("{} already holds a raft log", dir.display())]
    Exists { dir: PathBuf },
    /// The log is another member's.
    #[error("{} belongs to {found:?}, not to {expected:?}", path.display())]
    Foreign {
        path: PathBuf,
        found: Box<LogIdentity>,
        /// Whose it should be.
        expected: Box<LogIdentity>,
    },
    /// Written by a newer program.
    #[error("{} is of format {version}, which this program does not know", path.display())]
    Version { path: PathBuf, version: u32 },
    /// What was whole once is not any more. The member stays out of votes.
    #[error("raft log damaged at {}:{offset}: {reason}; the member must be rebuilt from its peers",
        path.display())]
    Damaged {
        path: PathBuf,
        /// Bytes from its start.
        offset: u64,
        reason: String,
    },
}
