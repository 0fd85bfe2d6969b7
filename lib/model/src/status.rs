//! What nodes and disks report about themselves, and what the leader says of the whole cluster.
//!
//! Soft state: none of it is stored. A node fills a [`DiskReport`], the leader keeps the newest
//! one, and `megalith status` shows it.

use crate::ids::{ClusterId, DiskId, NodeId};
use crate::level::LevelStatus;
use crate::member::MemberStatus;
use crate::query::DataStatus;
use crate::topology::ClusterMap;
use std::time::Duration;

/// A disk as its node reports it. Counts begin when the node starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskReport {
    pub disk: DiskId,
    /// Usable bytes.
    pub capacity: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that may still be taken, without the reserve.
    pub free: u64,
    /// Why it takes no new shards; None if it does take them.
    pub closed: Option<String>,
    /// Shards found damaged.
    pub damaged_shards: u64,
    /// Failed writes and syncs.
    pub write_errors: u64,
    /// Damaged pieces of chunk files outside shards.
    pub damaged_regions: u64,
    /// Index files and other small files that were bad and have been rewritten.
    pub restored_files: u64,
    /// When the scrub last finished a pass, milliseconds since 1970; 0 if it has not finished one.
    pub scrubbed_ms: u64,
    /// Shards that nothing names, kept until they are deleted.
    pub trash_shards: u64,
    /// Bytes of their cells.
    pub trash_bytes: u64,
    /// Commits of the last three seconds that made something durable.
    pub commits: u64,
    /// The time that these took, in microseconds.
    pub commit_us: u64,
    /// How long what the disk's writer does now has taken, in milliseconds; 0 if it does nothing.
    pub turn_ms: u64,
}

/// A storage node as the leader last heard from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    pub node: NodeId,
    /// Whether the leader takes it for alive.
    pub alive: bool,
    /// Time since it was last heard; None if this leader has never heard it.
    pub silent: Option<Duration>,
    /// Its disks as it last reported them.
    pub disks: Vec<DiskReport>,
}

/// What `megalith status` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    pub cluster: ClusterId,
    /// The members of the metadata group.
    pub members: Vec<MemberStatus>,
    pub nodes: Vec<NodeStatus>,
    pub data: DataStatus,
    /// The map as the leader would push it now.
    pub map: ClusterMap,
    pub level: LevelStatus,
}
