//! Shows how far the scrub of each disk is, and begins a pass.
//!
//! Asks every storage node itself. A node that doesn't answer is named; the others are still shown.

use megalith_client::{ClientError, ClusterClient, ScrubReport, ShardClient, chain};
use megalith_model::topology::Node;
use serde::Serialize;

/// Why the nodes can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// The cluster did not say where its nodes are.
    #[error("ask the metadata group where the nodes are")]
    Status(#[source] ClientError),
    /// No node has that number.
    #[error("no node {0} in this cluster")]
    NoNode(u32),
}

/// A node's answer; its keys are stable.
#[derive(Debug, Serialize)]
pub struct NodeScrub {
    pub node: u32,
    /// Why it did not answer; absent if it did.
    pub error: Option<String>,
    pub disks: Vec<DiskScrub>,
}

/// The scrub of one disk.
#[derive(Debug, Serialize)]
pub struct DiskScrub {
    pub disk: String,
    pub demanded: bool,
    pub began_ms: u64,
    pub done_permille: u32,
    pub passes: u64,
    pub finished_ms: u64,
    pub fresh_ms: u64,
    pub checked_bytes: u64,
    pub found_shards: u64,
    pub late: bool,
    pub damaged_shards: u64,
    pub damaged_regions: u64,
    pub indexes_rebuilt: u64,
}

/// Asks the nodes of a cluster, or only the given one; `start` begins a pass on them.
///
/// # Errors
/// [`ScrubError::Status`], [`ScrubError::NoNode`]. A node's silence is part of the answer.
pub async fn ask(
    cluster: &ClusterClient,
    shards: &ShardClient,
    node: Option<u32>,
    start: bool,
) -> Result<Vec<NodeScrub>, ScrubError> {
    let status = cluster.status().await.map_err(ScrubError::Status)?;
    let mut answers = Vec::new();
    for node in asked(&status.map.nodes, node)? {
        let answer = shards.scrub(node.id, &node.rpc_address, None, start).await;
        answers.push(NodeScrub::new(node.id.0, answer));
    }
    Ok(answers)
}

/// Returns the nodes to ask.
fn asked(nodes: &[Node], wanted: Option<u32>) -> Result<Vec<&Node>, ScrubError> {
    let Some(number) = wanted else {
        return Ok(nodes.iter().collect());
    };
    match nodes.iter().find(|node| node.id.0 == number) {
        Some(node) => Ok(vec![node]),
        None => Err(ScrubError::NoNode(number)),
    }
}

impl NodeScrub {
    fn new(node: u32, answer: Result<Vec<ScrubReport>, ClientError>) -> Self {
        let (disks, error) = match answer {
            Ok(disks) => (disks, None),
            Err(error) => (Vec::new(), Some(chain(&error))),
        };
        Self {
            node,
            error,
            disks: disks.into_iter().map(DiskScrub::from).collect(),
        }
    }
}

impl From<ScrubReport> for DiskScrub {
    fn from(report: ScrubReport) -> Self {
        Self {
            disk: report.disk.to_string(),
            demanded: report.demanded,
            began_ms: report.began_ms,
            done_permille: report.done_permille,
            passes: report.passes,
            finished_ms: report.finished_ms,
            fresh_ms: report.fresh_ms,
            checked_bytes: report.checked_bytes,
            found_shards: report.found_shards,
            late: report.late,
            damaged_shards: report.damaged_shards,
            damaged_regions: report.damaged_regions,
            indexes_rebuilt: report.indexes_rebuilt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::NodeId;

    fn nodes() -> Vec<Node> {
        let node = |id| Node {
            id: NodeId(id),
            rpc_address: format!("store-{id}:7001"),
            data_address: format!("store-{id}:7002"),
            zone: String::new(),
            disks: Vec::new(),
        };
        vec![node(11), node(12)]
    }

    #[test]
    fn all_nodes_are_asked_or_the_one_that_is_named() {
        let nodes = nodes();
        let ids = |wanted| -> Vec<u32> {
            let asked = asked(&nodes, wanted).expect("known");
            asked.iter().map(|node| node.id.0).collect()
        };
        assert_eq!(ids(None), [11, 12]);
        assert_eq!(ids(Some(12)), [12]);
        let error = asked(&nodes, Some(1)).expect_err("a member, not a storage node");
        assert_eq!(error.to_string(), "no node 1 in this cluster");
    }

    #[test]
    fn a_silent_node_is_named_with_the_reason() {
        let silent = Err(ClientError::Unavailable("timed out".to_owned()));
        let told = NodeScrub::new(12, silent);
        assert_eq!((told.node, told.disks.len()), (12, 0));
        let why = "no member answered within the deadline: timed out";
        assert_eq!(told.error.as_deref(), Some(why));
        assert_eq!(NodeScrub::new(11, Ok(Vec::new())).error, None);
    }
}
