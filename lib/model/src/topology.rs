//! Nodes, disks and volumes as the metadata group knows them, and the map pushed to every process.

use crate::ids::{DiskId, Epoch, GatewayId, LeaseId, NodeId, VolumeId};
use crate::profile::Profile;
use serde::{Deserialize, Serialize};

/// A storage node as it registered itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The node's number, as in its certificate.
    pub id: NodeId,
    /// `host:port` of its gRPC listener.
    pub rpc_address: String,
    /// `host:port` of its shard data listener.
    pub data_address: String,
    /// Failure domain above the node; empty if none is given.
    pub zone: String,
    pub disks: Vec<Disk>,
}

/// A formatted disk of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// From the disk's superblock.
    pub id: DiskId,
    /// Usable bytes.
    pub capacity: u64,
}

/// What a volume's slots are spread over, so that one failure hits one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Domain {
    /// One slot per node.
    Node,
    /// One slot per disk; several may share a node, and its loss isn't covered.
    Disk,
}

/// Whether a volume takes new blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VolumeState {
    /// Takes new blobs while all its slots live.
    Open,
    Closed,
}

/// One of a volume's n slots: shard number `i` of its blobs is on `slots[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// The node that serves the disk, or served it last.
    pub node: NodeId,
    pub disk: DiskId,
}

/// A placement unit, as gateways, nodes and the planner see it: [`crate::rows::VolumeRow`] with
/// what other rows say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub id: VolumeId,
    /// k+m of every blob in it.
    pub profile: Profile,
    /// Raised by closing and by every change of slots.
    pub epoch: Epoch,
    pub state: VolumeState,
    pub domain: Domain,
    /// n = k+m slots.
    pub slots: Vec<Slot>,
    /// Ciphertext bytes of the blobs in it, parity not counted.
    pub bytes: u64,
    /// True if it was made with fewer data shards than the cluster's profile, because too few
    /// domains were alive. Its blobs should be coded again when they return.
    pub shrunk: bool,
}

/// A range of blob ids handed to a gateway ([`LeaseId::blobs`]). Once closed it has no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub id: LeaseId,
    /// Who may use it.
    pub gateway: GatewayId,
    /// The gateway's number of the command that opened it.
    pub request: u64,
}

/// What gateways and nodes need to know of the cluster at any time. The leader pushes it on every
/// change.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClusterMap {
    /// Rises with every push of one leader; `(term, version)` orders maps.
    pub term: u64,
    /// See `term`.
    pub version: u64,
    pub nodes: Vec<Node>,
    /// The nodes that are heard from; a node silent for 2 s is not listed.
    pub alive: Vec<NodeId>,
    // For repair.
    /// Disks that take no new shards (full, failing, read-only).
    pub closed_disks: Vec<DiskId>,
    /// Open volumes whose slots all live and take shards, best first.
    pub writable: Vec<Volume>,
    /// Open volumes with a slot missing; used only if no writable one is left.
    pub degraded: Vec<Volume>,
    /// Leases not yet closed.
    pub leases: Vec<Lease>,
    /// Why no volume can be made now, in words for the operator.
    pub refusal: Option<String>,
}

impl ClusterMap {
    /// Returns the node with that number.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Returns true if the node is heard from.
    #[must_use]
    pub fn is_alive(&self, id: NodeId) -> bool {
        self.alive.contains(&id)
    }

    /// Returns true if this map should replace `other`.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.term, self.version) > (other.term, other.version)
    }
}
