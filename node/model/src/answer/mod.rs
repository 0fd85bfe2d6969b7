//! Answers to queries, and the rows that the placement driver starts from.

use crate::ids::{ClusterId, VolumeId};
use crate::machine::MachineError;
use crate::query::{Query, Reply};
use crate::table::Rows;
use crate::topology::{Lease, Node, Volume};

/// Answers one query from rows at one point of the log.
pub fn answer(rows: &dyn Rows, query: &Query) -> Result<Reply, MachineError> {
    let _ = (rows, query);
    Err(MachineError::Contradiction("not yet built".into()))
}

/// The few rows that describe the cluster itself; cheap to read whole.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Topology {
    /// The cluster, once it is named.
    pub cluster: Option<ClusterId>,
    /// Every registered node.
    pub nodes: Vec<Node>,
    /// Volumes that take blobs (sealed ones are left out).
    pub open_volumes: Vec<Volume>,
    /// The number that the next volume will get.
    pub next_volume: VolumeId,
    /// Leases not yet closed.
    pub leases: Vec<Lease>,
}

/// Reads the topology.
pub fn topology(rows: &dyn Rows) -> Result<Topology, MachineError> {
    let _ = rows;
    Err(MachineError::Contradiction("not yet built".into()))
}
