//! What nodes and disks report of themselves, and what the leader says of the whole cluster.
//!
//! Soft: none of it is stored. A node fills a [`DiskReport`], the leader keeps the newest one, and
//! `megalith status` shows it.

use crate::ids::{ClusterId, DiskId, NodeId};
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
    /// Bytes that may still be taken, the reserve left out.
    pub free: u64,
    /// Why it takes no new shards; None if it takes some.
    pub closed: Option<String>,
    /// Shards found damaged.
    pub damaged_shards: u64,
    /// Failed writes and syncs.
    pub write_errors: u64,
    /// Pieces of chunk files found damaged, beyond the shards.
    pub damaged_regions: u64,
    /// Index files and other small files found bad and written anew.
    pub restored_files: u64,
    /// When the scrub last finished a pass, milliseconds since 1970; 0: not yet.
    pub scrubbed_ms: u64,
}

/// A storage node as the leader last heard it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    pub node: NodeId,
    /// The leader takes it for alive.
    pub alive: bool,
    /// Time since it was heard; None if this leader never heard it.
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
    /// The storage nodes that have ever registered.
    pub nodes: Vec<NodeStatus>,
    pub data: DataStatus,
    /// The map as the leader would push it now.
    pub map: ClusterMap,
}
