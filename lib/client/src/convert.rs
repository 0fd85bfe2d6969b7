//! Converts control messages to our own types and back, once for both ends of the wire.

use crate::error::ClientError;
use crate::levels;
use megalith_model::beat::Beat;
use megalith_model::claim::RefusedDisk;
use megalith_model::codec;
use megalith_model::ids::{BlobId, ClusterId, DiskId, GatewayId, LeaseId, NodeId, VolumeId};
use megalith_model::member::{Losses, MemberChange, MemberStatus};
use megalith_model::shard::ShardId;
use megalith_model::status::{ClusterStatus, DiskReport, NodeStatus};
use megalith_proto::v1 as proto;
use std::time::Duration;

/// A message with a field that can't hold its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedMessage(String);

impl MalformedMessage {
    pub(crate) fn new(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl From<MalformedMessage> for ClientError {
    fn from(error: MalformedMessage) -> Self {
        Self::Malformed(error.0)
    }
}

fn malformed(what: impl ToString) -> MalformedMessage {
    MalformedMessage(what.to_string())
}

/// Reads an id of 16 bytes.
fn bytes16(bytes: &[u8]) -> Result<[u8; 16], MalformedMessage> {
    bytes
        .try_into()
        .map_err(|_| malformed(format!("an id of {} bytes", bytes.len())))
}

/// The most bytes of a text that a node tells of its disks.
const REASON_LEN_MAX: usize = 256;

/// Takes a text that is to be shown: what is too long is cut off, and control characters, which
/// could change a terminal, are replaced.
fn text(told: &str) -> String {
    let shown = told.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut text = String::new();
    for c in shown {
        if text.len() + c.len_utf8() > REASON_LEN_MAX {
            break;
        }
        text.push(c);
    }
    text
}

/// Writes a shard's name.
#[must_use]
pub fn shard_to_wire(shard: &ShardId) -> proto::ShardRef {
    proto::ShardRef {
        volume: shard.volume.0,
        blob: shard.blob.0,
        segment: shard.segment,
        slot: u32::from(shard.slot),
    }
}

/// Reads a shard's name.
pub fn shard_from_wire(shard: &proto::ShardRef) -> Result<ShardId, MalformedMessage> {
    let slot = u8::try_from(shard.slot);
    Ok(ShardId {
        volume: VolumeId(shard.volume),
        blob: BlobId(shard.blob),
        segment: shard.segment,
        slot: slot.map_err(|_| malformed(format!("slot {}: above 255", shard.slot)))?,
    })
}

/// Writes a disk's report.
#[must_use]
pub fn disk_to_wire(report: &DiskReport) -> proto::DiskState {
    proto::DiskState {
        disk: bytes::Bytes::copy_from_slice(&report.disk.0),
        capacity: report.capacity,
        used: report.used,
        free: report.free,
        closed: report.closed.is_some(),
        reason: report.closed.clone().unwrap_or_default(),
        damaged_shards: report.damaged_shards,
        write_errors: report.write_errors,
        damaged_regions: report.damaged_regions,
        restored_files: report.restored_files,
        scrubbed_ms: report.scrubbed_ms,
        trash_shards: report.trash_shards,
        trash_bytes: report.trash_bytes,
        commits: report.commits,
        commit_us: report.commit_us,
        turn_ms: report.turn_ms,
    }
}

/// Reads a disk's report.
pub fn disk_from_wire(state: proto::DiskState) -> Result<DiskReport, MalformedMessage> {
    Ok(DiskReport {
        disk: DiskId(bytes16(&state.disk)?),
        capacity: state.capacity,
        used: state.used,
        free: state.free,
        closed: state.closed.then(|| text(&state.reason)),
        damaged_shards: state.damaged_shards,
        write_errors: state.write_errors,
        damaged_regions: state.damaged_regions,
        restored_files: state.restored_files,
        scrubbed_ms: state.scrubbed_ms,
        trash_shards: state.trash_shards,
        trash_bytes: state.trash_bytes,
        commits: state.commits,
        commit_us: state.commit_us,
        turn_ms: state.turn_ms,
    })
}

/// Writes a disk that was not registered.
#[must_use]
pub fn refused_to_wire(refused: &RefusedDisk) -> proto::RefusedDisk {
    proto::RefusedDisk {
        disk: bytes::Bytes::copy_from_slice(&refused.disk.0),
        why: refused.why.to_string(),
    }
}

/// Reads which disks were not registered, each with the reason in words.
pub fn refused_from_wire(
    refused: Vec<proto::RefusedDisk>,
) -> Result<Vec<(DiskId, String)>, MalformedMessage> {
    let read = |one: proto::RefusedDisk| Ok((DiskId(bytes16(&one.disk)?), text(&one.why)));
    refused.into_iter().map(read).collect()
}

/// Writes the cluster's status.
#[must_use]
pub fn status_to_wire(status: ClusterStatus) -> proto::ClusterStatus {
    proto::ClusterStatus {
        cluster: status.cluster.0.to_vec().into(),
        members: status.members.into_iter().map(member_to_wire).collect(),
        nodes: status.nodes.iter().map(node_to_wire).collect(),
        data: codec::encode_at(&status.data, status.level.level).into(),
        map: codec::encode_at(&status.map, status.level.level).into(),
        level: Some(levels::status_to_wire(&status.level)),
    }
}

/// Reads the cluster's status.
pub fn status_from_wire(status: proto::ClusterStatus) -> Result<ClusterStatus, MalformedMessage> {
    let nodes = status.nodes.into_iter().map(node_from_wire);
    Ok(ClusterStatus {
        cluster: ClusterId(bytes16(&status.cluster)?),
        members: status.members.into_iter().map(member_from_wire).collect(),
        nodes: nodes.collect::<Result<_, _>>()?,
        data: codec::decode(&status.data).map_err(malformed)?,
        map: codec::decode(&status.map).map_err(malformed)?,
        level: levels::status_from_wire(status.level.unwrap_or_default())?,
    })
}

/// A node that was never heard counts as silent for the longest time there is.
fn node_to_wire(node: &NodeStatus) -> proto::NodeStatus {
    let silent = node.silent.map(|silent| silent.as_millis());
    proto::NodeStatus {
        node: node.node.0,
        alive: node.alive,
        silent_ms: silent.map_or(u64::MAX, |ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        disks: node.disks.iter().map(disk_to_wire).collect(),
    }
}

fn node_from_wire(node: proto::NodeStatus) -> Result<NodeStatus, MalformedMessage> {
    let disks = node.disks.into_iter().map(disk_from_wire);
    Ok(NodeStatus {
        node: NodeId(node.node),
        alive: node.alive,
        silent: (node.silent_ms != u64::MAX).then(|| Duration::from_millis(node.silent_ms)),
        disks: disks.collect::<Result<_, _>>()?,
    })
}

fn member_to_wire(member: MemberStatus) -> proto::MetadataMember {
    proto::MetadataMember {
        node: member.node.0,
        address: member.address,
        leader: member.leader,
        alive: member.alive,
        matched: member.matched,
        committed: member.committed,
        learner: member.learner,
        id: member.id,
        clock_ahead_ms: member.clock_ahead_ms,
        lost: member.losses.lost,
        kept: member.losses.kept,
        tables: member.losses.tables,
    }
}

fn member_from_wire(member: proto::MetadataMember) -> MemberStatus {
    MemberStatus {
        node: NodeId(member.node),
        id: member.id,
        address: member.address,
        leader: member.leader,
        alive: member.alive,
        learner: member.learner,
        matched: member.matched,
        committed: member.committed,
        clock_ahead_ms: member.clock_ahead_ms,
        losses: Losses {
            lost: member.lost,
            kept: member.kept,
            tables: member.tables,
        },
    }
}

/// Writes a beat of a gateway.
#[must_use]
pub fn beat_to_wire(beat: &Beat) -> proto::BeatRequest {
    proto::BeatRequest {
        gateway: beat.gateway.0,
        life: beat.life,
        leases: beat.leases.iter().map(|lease| lease.0).collect(),
        reading: beat.reading.unwrap_or(0),
    }
}

/// Reads a beat of a gateway.
#[must_use]
pub fn beat_from_wire(request: &proto::BeatRequest) -> Beat {
    Beat {
        gateway: GatewayId(request.gateway),
        life: request.life,
        leases: request.leases.iter().copied().map(LeaseId).collect(),
        reading: Some(request.reading).filter(|index| *index > 0),
    }
}

/// Writes a change of members.
#[must_use]
pub fn change_to_wire(change: MemberChange) -> proto::ChangeMembersRequest {
    use proto::change_members_request::Change;
    let change = match change {
        MemberChange::Add(node) => Change::Add(node.0),
        MemberChange::Remove(node) => Change::Remove(node.0),
        MemberChange::Replace { old, new } => Change::Replace(proto::ReplaceMember {
            old: old.0,
            new: new.0,
        }),
    };
    proto::ChangeMembersRequest {
        change: Some(change),
    }
}

/// Reads a change of members.
pub fn change_from_wire(
    request: &proto::ChangeMembersRequest,
) -> Result<MemberChange, MalformedMessage> {
    use proto::change_members_request::Change;
    match &request.change {
        Some(Change::Add(node)) => Ok(MemberChange::Add(NodeId(*node))),
        Some(Change::Remove(node)) => Ok(MemberChange::Remove(NodeId(*node))),
        Some(Change::Replace(both)) => Ok(MemberChange::Replace {
            old: NodeId(both.old),
            new: NodeId(both.new),
        }),
        None => Err(malformed("no change is named")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::level::{KNOWN, Level, LevelStatus, Process, ProcessLevels};

    #[test]
    fn what_is_told_of_a_cluster_arrives_as_it_was_sent() {
        let report = DiskReport {
            disk: DiskId([7; 16]),
            capacity: 1,
            used: 2,
            free: 3,
            closed: Some("full".into()),
            damaged_shards: 4,
            write_errors: 5,
            damaged_regions: 6,
            restored_files: 7,
            scrubbed_ms: 8,
            trash_shards: 9,
            trash_bytes: 10,
            commits: 11,
            commit_us: 12,
            turn_ms: 13,
        };
        let node = |silent, disks| NodeStatus {
            node: NodeId(3),
            alive: true,
            silent,
            disks,
        };
        let status = ClusterStatus {
            cluster: ClusterId([1; 16]),
            members: vec![MemberStatus {
                node: NodeId(2),
                id: 9,
                address: "there:1".into(),
                leader: true,
                alive: true,
                learner: true,
                matched: 10,
                committed: 11,
                clock_ahead_ms: -12,
                losses: Losses {
                    lost: "lost".into(),
                    kept: "kept".into(),
                    tables: "tables".into(),
                },
            }],
            nodes: vec![
                node(None, vec![]),
                node(Some(Duration::from_millis(20)), vec![report]),
            ],
            data: Default::default(),
            map: Default::default(),
            level: LevelStatus {
                level: Level(2),
                highest: Level(3),
                processes: [Process::Member(1), Process::Storage(2), Process::Gateway(3)]
                    .map(|process| ProcessLevels {
                        process,
                        known: (process != Process::Storage(2)).then_some(KNOWN),
                    })
                    .to_vec(),
            },
        };
        assert_eq!(status_from_wire(status_to_wire(status.clone())), Ok(status));
    }

    #[test]
    fn what_a_node_tells_of_a_disk_is_short_and_harmless() {
        let told = |reason: &str| {
            let state = proto::DiskState {
                disk: vec![7; 16].into(),
                closed: true,
                reason: reason.to_owned(),
                ..proto::DiskState::default()
            };
            let report = disk_from_wire(state).expect("a report");
            report.closed.expect("closed")
        };
        assert_eq!(told("full"), "full");
        assert_eq!(told("a\u{1b}[2Jb\nc"), "a [2Jb c");
        assert_eq!(told(&"é".repeat(1 << 20)), "é".repeat(128));
        let refused = proto::RefusedDisk {
            disk: vec![7; 16].into(),
            why: "x".repeat(1 << 20),
        };
        let read = refused_from_wire(vec![refused]).expect("read");
        assert_eq!(read[0].1.len(), 256);
    }

    #[test]
    fn a_name_or_change_that_can_not_be_is_refused() {
        let mut shard = shard_to_wire(&ShardId {
            volume: VolumeId(1),
            blob: BlobId(2),
            segment: 3,
            slot: 255,
        });
        assert_eq!(shard_from_wire(&shard).map(|shard| shard.slot), Ok(255));
        shard.slot += 1;
        assert!(shard_from_wire(&shard).is_err());
        let (old, new) = (NodeId(1), NodeId(2));
        for change in [
            MemberChange::Add(new),
            MemberChange::Remove(old),
            MemberChange::Replace { old, new },
        ] {
            assert_eq!(change_from_wire(&change_to_wire(change)), Ok(change));
        }
        assert!(change_from_wire(&proto::ChangeMembersRequest::default()).is_err());
    }
}
