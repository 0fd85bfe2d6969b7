//! Which processes belong to the cluster, and what each can run.

use crate::levels::Levels;
use megalith_model::level::{LevelStatus, Process, ProcessLevels};
use megalith_model::member::MemberStatus;
use megalith_model::topology::{Lease, Node};
use std::collections::BTreeSet;

/// The level's standing: members, storage nodes with disks, and gateways that hold a lease or
/// listen. What is known of them is what they said to this leader.
pub(super) fn status(
    levels: &Levels,
    members: &[MemberStatus],
    nodes: &[Node],
    leases: &[Lease],
) -> LevelStatus {
    let own = members.iter().find(|member| member.leader);
    let own = own.map(|member| Process::Member(member.node.0));
    let mut processes: BTreeSet<Process> = levels.gateways().into_iter().collect();
    processes.extend(members.iter().map(|member| Process::Member(member.node.0)));
    let storage = nodes.iter().filter(|node| !node.disks.is_empty());
    processes.extend(storage.map(|node| Process::Storage(node.id.0)));
    processes.extend(leases.iter().map(|lease| Process::Gateway(lease.gateway.0)));
    let known = |process| {
        if Some(process) == own {
            Some(levels.known())
        } else {
            levels.of(process)
        }
    };
    let of = |process| ProcessLevels {
        process,
        known: known(process),
    };
    LevelStatus {
        level: levels.level(),
        highest: levels.known().highest,
        processes: processes.into_iter().map(of).collect(),
    }
}
