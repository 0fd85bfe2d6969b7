//! What a storage node says of itself to be registered, and what becomes of it.
//!
//! Registration is judged disk by disk: a disk that is refused keeps none of the node's others out.
//! A disk is claimed with a proof, made from the secret in its superblock. The first claim of a
//! disk settles its proof; from then on only a node that has the superblock can claim it.
//!
//! A proof can be used by whoever sees it. So it stands in the disk's row and in the claim, and
//! nowhere else: not in [`Node`], which every process is told of, and in no answer to a question.

use crate::ids::{DiskId, NodeId};
use crate::topology::{Disk, Node};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most bytes of an address, `host:port`: the longest name of a host, and a port.
pub const ADDRESS_LEN_MAX: usize = 255 + 6;
/// The most bytes of a zone's name.
pub const ZONE_LEN_MAX: usize = 64;
/// The most disks that one node serves. Large machines have about a hundred bays, twice that with a
/// second shelf.
pub const NODE_DISKS_MAX: usize = 256;
/// The most disks that are remembered of one node, with those that were taken out of it. Whoever
/// has a storage certificate can make up disks, and each is a row for good.
pub const NODE_DISKS_KNOWN_MAX: usize = 4 * NODE_DISKS_MAX;
/// The most disks that are remembered of all nodes.
pub const DISKS_KNOWN_MAX: usize = 65_536;

/// Shows that somebody has the superblock of a disk: a hash of the secret in it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskProof(pub [u8; 32]);

impl fmt::Debug for DiskProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskProof(not shown)")
    }
}

/// A disk that a node wants to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskClaim {
    pub disk: Disk,
    pub proof: DiskProof,
}

/// A storage node that wants to be registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeClaim {
    /// The node's number, as in its certificate.
    pub id: NodeId,
    /// `host:port` of its gRPC listener, at most [`ADDRESS_LEN_MAX`] bytes.
    pub rpc_address: String,
    /// `host:port` of its shard data listener, at most [`ADDRESS_LEN_MAX`] bytes.
    pub data_address: String,
    /// Failure domain above the node; empty if none is given. At most [`ZONE_LEN_MAX`] bytes.
    pub zone: String,
    /// At most [`NODE_DISKS_MAX`], none twice.
    pub disks: Vec<DiskClaim>,
}

impl NodeClaim {
    /// Returns the claim of a whole node, each disk with its proof.
    #[must_use]
    pub fn new(node: Node, proof: impl Fn(DiskId) -> DiskProof) -> Self {
        let Node {
            id,
            rpc_address,
            data_address,
            zone,
            disks,
        } = node;
        let claim = |disk: Disk| DiskClaim {
            proof: proof(disk.id),
            disk,
        };
        Self {
            id,
            rpc_address,
            data_address,
            zone,
            disks: disks.into_iter().map(claim).collect(),
        }
    }

    /// Returns the node as it is registered with these of its disks.
    #[must_use]
    pub fn with(&self, disks: Vec<Disk>) -> Node {
        Node {
            id: self.id,
            rpc_address: self.rpc_address.clone(),
            data_address: self.data_address.clone(),
            zone: self.zone.clone(),
            disks,
        }
    }
}

/// Why a disk was not registered. Its row and its slots are as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DiskRefusal {
    /// Another node lists it: the disk was copied, or has moved and its old node still claims it.
    #[error("it is served by {0}, and moves only once that node has registered without it")]
    Served(NodeId),
    /// The claimant does not have the superblock that the disk was first registered with.
    #[error("its superblock is not the one that the cluster knows this disk by")]
    OtherSuperblock,
    /// It is new, and so many disks of the claimant, or of all nodes, are remembered already that
    /// there is no room for another ([`NODE_DISKS_KNOWN_MAX`], [`DISKS_KNOWN_MAX`]).
    #[error(
        "it is new, and the cluster remembers no more than {NODE_DISKS_KNOWN_MAX} disks of one node \
         and {DISKS_KNOWN_MAX} in all"
    )]
    NoRoom,
}

/// A disk that was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedDisk {
    pub disk: DiskId,
    pub why: DiskRefusal,
}
