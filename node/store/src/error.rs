//! Why the store refuses. The kinds tell the caller what to do; see each.

use megalith_model::ids::{ClusterId, DiskId, Epoch};
use megalith_model::shard::ShardId;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// An answer of the store that is not the wished one. Nothing is stored if one comes back from
/// a write, except after [`StoreError::Closed`], where the outcome is unknown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Place it elsewhere: writing it would eat the reserve.
    #[error("disk is full: {free} bytes free, {needed} needed above a reserve of {reserve}")]
    Full {
        /// Bytes free on the file system.
        free: u64,
        /// Bytes the reserve keeps for deletes.
        reserve: u64,
        /// Bytes asked for.
        needed: u64,
    },
    /// Fetch the volume map: the volume's membership has changed.
    #[error("epoch is stale: the volume is at {current}")]
    StaleEpoch {
        /// The epoch the volume is at on this disk.
        current: Epoch,
    },
    /// The disk has no such complete shard, or fewer cells.
    #[error("shard {shard} not found")]
    NotFound { shard: ShardId },
    /// Treat it as an erasure and rebuild it: the bytes on the disk are wrong or unreadable.
    #[error("shard {shard} damaged at cell {cell}")]
    Damaged {
        shard: ShardId,
        /// The first bad cell, counted within the shard.
        cell: u64,
    },
    /// Refuse: another content is stored under this name already.
    #[error("shard {shard} is stored with another content")]
    Conflict { shard: ShardId },
    /// Send it again: the bytes changed on their way here.
    #[error("shard {shard}: {what} does not match the bytes that arrived")]
    ChecksumMismatch {
        shard: ShardId,
        /// The checksum that failed.
        what: &'static str,
    },
    /// Refuse: the caller broke the form of a shard.
    #[error("shard {shard}: {what}")]
    Malformed { shard: ShardId, what: &'static str },
    /// Place it elsewhere: the disk failed. A failed write is never tried again on the same file.
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    /// Place it elsewhere: too many writes failed, the disk takes no more.
    #[error("disk is read-only after failed writes")]
    ReadOnly,
    /// Place it elsewhere: what was opened is not there any more. Nothing is written through to
    /// what is there instead.
    #[error("disk at {} is gone: unmounted, removed or replaced", path.display())]
    Gone { path: PathBuf },
    /// An operator must look: no disk of ours is mounted there.
    #[error("no superblock at {}: not a formatted disk, or not mounted", path.display())]
    NoSuperblock {
        /// Where it should be.
        path: PathBuf,
    },
    /// An operator must look: the superblock can't be read.
    #[error("superblock at {} is damaged: {what}", path.display())]
    BadSuperblock { path: PathBuf, what: &'static str },
    /// An operator must look: one of the two superblocks was put there by somebody else.
    #[error("the two superblocks in {} are of different disks: remove the wrong one", path.display())]
    TwoSuperblocks { path: PathBuf },
    /// An operator must look: it is the disk of another cluster.
    #[error("disk {disk} belongs to cluster {found}, not to {expected}")]
    ForeignCluster {
        disk: DiskId,
        found: ClusterId,
        expected: ClusterId,
    },
    /// An operator must look: another disk is mounted there.
    #[error("disk {found} is mounted where {expected} should be")]
    ForeignDisk {
        /// The disk that is there.
        found: DiskId,
        /// The one that should be.
        expected: DiskId,
    },
    /// An operator must look: the place to format is in use.
    #[error("refuse to format {}: it is not empty ({name})", path.display())]
    NotEmpty {
        path: PathBuf,
        /// A name in it.
        name: String,
    },
    /// An operator must look: another process has this disk open.
    #[error("disk at {} is open in another process", path.display())]
    Locked { path: PathBuf },
    /// An operator must look: another version of this program wrote it.
    #[error("{} has format version {found}, this program knows {known}", path.display())]
    OtherFormat {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    /// The disk was stopped. A write under way may or may not be stored.
    #[error("disk is closed")]
    Closed,
}

impl StoreError {
    /// Makes an `Io` of a failed call; `Full` where the file system itself is full.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            return Self::Full {
                free: 0,
                reserve: 0,
                needed: 0,
            };
        }
        Self::Io {
            action,
            path: path.into(),
            source: Arc::new(source),
        }
    }
}
