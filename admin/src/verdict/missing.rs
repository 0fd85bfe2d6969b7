//! Disks that volumes name and that no node serves: lost, wiped, or left out by their node.
//!
//! A node that is alive without one of its disks looks well, so these are judged by what the
//! volumes name. The disks of a silent node are its node's reason and not named again.

use super::Verdict;
use megalith_model::ids::{DiskId, NodeId};
use megalith_model::margin;
use megalith_model::status::ClusterStatus;
use megalith_model::topology::VolumeState;
use std::collections::BTreeMap;

/// What a missing disk was part of.
#[derive(Default)]
struct Part {
    volumes: u64,
    /// Whether one of them is open.
    open: bool,
}

pub(super) fn judge(status: &ClusterStatus, verdict: &mut Verdict, notes: &mut Vec<String>) {
    let mut missing: BTreeMap<(NodeId, DiskId), Part> = BTreeMap::new();
    for of in &status.data.volumes {
        for slot in &of.volume.slots {
            if !margin::is_listed(&status.map, slot) {
                let part = missing.entry((slot.node, slot.disk)).or_default();
                part.volumes += 1;
                part.open |= of.volume.state == VolumeState::Open;
            }
        }
    }
    for ((node, disk), part) in missing {
        let (node, volumes) = (node.0, part.volumes);
        let held = margin::held_by(&status.data, disk);
        let said = format!(
            "disk {disk} of node {node} is missing: {volumes} volumes count on it, for a shard each \
             of {held} segments"
        );
        if held > 0 || part.open {
            verdict.degraded(said);
        } else {
            notes.push(said);
        }
    }
}
