//! The cluster itself: joining, heartbeats, standing.

use crate::connect::MESSAGE_LEN_MAX;
use crate::error::{ClientError, chain};
use crate::group::{Ask, CallSettings, Group, Member, NoAnswer, Said};
use crate::roster::Roster;
use megalith_identity::TlsMaterial;
use megalith_model::codec::{self, DecodeError};
use megalith_model::ids::{ClusterId, DiskId, NodeId};
use megalith_model::query::DataStatus;
use megalith_model::topology::{ClusterMap, Node};
use megalith_proto::v1 as proto;
use proto::cluster_client::ClusterClient as WireClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// A disk as its node reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskReport {
    pub disk: DiskId,
    /// Usable bytes.
    pub capacity: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that may still be taken, the reserve left out.
    pub free: u64,
    /// Set where it takes no new shards, and why.
    pub closed: Option<String>,
    /// Shards found damaged since the node started.
    pub damaged_shards: u64,
    /// Failed writes and syncs since the node started.
    pub write_errors: u64,
    /// Pieces of chunk files found damaged since the node started, beyond the shards.
    pub damaged_regions: u64,
    /// Index files and other small files found bad and written anew since the node started.
    pub restored_files: u64,
    /// When the scrub last finished a pass, milliseconds since 1970; 0: not yet.
    pub scrubbed_ms: u64,
}

/// What the leader says to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatAnswer {
    Known,
    /// The node has to join (again).
    Unknown,
}

/// What `megalith status` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Which cluster it is.
    pub cluster: ClusterId,
    pub members: Vec<MemberStatus>,
    /// The storage nodes that have ever joined.
    pub nodes: Vec<NodeStatus>,
    pub data: DataStatus,
    /// The map as the leader would push it now.
    pub map: ClusterMap,
}

/// A member of the metadata group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    pub node: NodeId,
    /// `host:port` of its gRPC listener.
    pub address: String,
    pub leader: bool,
    /// It was heard from lately.
    pub alive: bool,
    /// Last log index known to be on it.
    pub matched: u64,
    /// Last log index known to be committed.
    pub committed: u64,
    /// It has no vote.
    pub learner: bool,
    /// Under which it speaks; another one in each life of its log.
    pub id: u64,
    /// Why its node lost the log of an earlier life; empty where it didn't.
    pub lost: String,
    /// Where its node keeps the files of that life; empty where there are none.
    pub kept: String,
    /// Why its tables were made again since its process began; empty where they weren't.
    pub tables: String,
}

/// A storage node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    pub node: NodeId,
    /// It is heard from.
    pub alive: bool,
    /// Since it was last heard from.
    pub silent: Duration,
    /// Its disks as it last reported them.
    pub disks: Vec<DiskReport>,
}

/// Whether a member serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    pub serving: bool,
    pub reason: String,
}

/// Calls the cluster service of the metadata members. Cheap to clone; has its own connections.
#[derive(Clone)]
pub struct ClusterClient {
    group: Arc<Group>,
}

fn wire(channel: Channel) -> WireClient<Channel> {
    WireClient::new(channel)
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(MESSAGE_LEN_MAX)
}

fn malformed(what: impl ToString) -> ClientError {
    ClientError::Malformed(what.to_string())
}

fn unavailable(end: NoAnswer) -> ClientError {
    if end.refused {
        ClientError::Rejected(end.last)
    } else {
        ClientError::Unavailable(end.last)
    }
}

impl ClusterClient {
    /// Builds a client of the group whose members `roster` names; more are learnt by redirects.
    #[must_use]
    pub fn new(
        roster: impl Into<Roster>,
        material: Arc<TlsMaterial>,
        settings: CallSettings,
    ) -> Self {
        Self {
            group: Arc::new(Group::new(roster.into(), material, settings)),
        }
    }

    /// Makes a storage node known, or replaces what is known of it. Repeating it is harmless.
    /// Fails with [`ClientError::Unavailable`] when the query deadline passes.
    pub async fn join(&self, node: &Node) -> Result<(), ClientError> {
        let bytes = bytes::Bytes::from(codec::encode(node));
        self.call(|channel| {
            let request = proto::JoinRequest {
                node: bytes.clone(),
            };
            async move {
                let reply = wire(channel).join(request).await?.into_inner();
                Ok(match reply.not_leader {
                    Some(hint) => Said::NotLeader(hint),
                    None => Said::Answer(()),
                })
            }
        })
        .await
    }

    /// Says that a node lives and how its disks are.
    pub async fn heartbeat(
        &self,
        node: NodeId,
        disks: &[DiskReport],
    ) -> Result<HeartbeatAnswer, ClientError> {
        let request = proto::HeartbeatRequest {
            node: node.0,
            disks: disks.iter().map(disk_to_wire).collect(),
        };
        self.call(|channel| {
            let request = request.clone();
            async move {
                let reply = wire(channel).heartbeat(request).await?.into_inner();
                Ok(match reply.not_leader {
                    Some(hint) => Said::NotLeader(hint),
                    None if reply.unknown_node => Said::Answer(HeartbeatAnswer::Unknown),
                    None => Said::Answer(HeartbeatAnswer::Known),
                })
            }
        })
        .await
    }

    /// Returns the cluster's standing, as the leader knows it.
    pub async fn status(&self) -> Result<ClusterStatus, ClientError> {
        let status = self
            .call(|channel| async move {
                let request = proto::StatusRequest {};
                let reply = wire(channel).status(request).await?.into_inner();
                Ok(match (reply.not_leader, reply.status) {
                    (Some(hint), _) => Said::NotLeader(hint),
                    (None, Some(status)) => Said::Answer(status),
                    (None, None) => return Err(Status::internal("a reply without content")),
                })
            })
            .await?;
        status_from_wire(status)
    }

    /// Returns whether a member serves, whichever answers first in turn.
    pub async fn health(&self) -> Result<HealthReport, ClientError> {
        self.call(|channel| async move {
            let request = proto::HealthRequest {};
            let reply = wire(channel).health(request).await?.into_inner();
            Ok(Said::Answer(HealthReport {
                serving: reply.serving,
                reason: reply.reason,
            }))
        })
        .await
    }

    /// Returns the leader's present map.
    pub async fn fetch_map(&self) -> Result<ClusterMap, ClientError> {
        let bytes = self
            .call(|channel| async move {
                let mut updates = open_updates(channel).await?;
                match updates.message().await? {
                    Some(update) => said_of_update(update),
                    None => Err(Status::unavailable("the map's stream ended")),
                }
            })
            .await?;
        codec::decode(&bytes).map_err(malformed)
    }

    async fn call<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Said<T>, Status>>,
    {
        let deadline = Instant::now() + self.group.settings.query_deadline;
        let answer = self.group.call_leader(deadline, call).await;
        answer.map_err(unavailable)
    }

    /// Chooses a member and opens its stream of maps; the first update is awaited by the caller.
    pub(crate) async fn watch_once(&self, avoid: &[NodeId]) -> Option<(Arc<Member>, MapStream)> {
        let member = self.group.pick(Ask::Leader, avoid)?;
        let limit = self.group.settings.attempt_deadline;
        let opened = timeout(limit, open_updates(self.group.channel(&member))).await;
        let stream = match opened {
            Ok(Ok(stream)) => MapStream::Open(Box::new(stream)),
            Ok(Err(status)) => MapStream::Failed(chain(&status)),
            Err(_) => MapStream::Failed(format!("silent for {limit:?}")),
        };
        Some((member, stream))
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }
}

/// A member's stream of maps, or why there is none.
pub(crate) enum MapStream {
    Open(Box<Streaming<proto::MapUpdate>>),
    Failed(String),
}

async fn open_updates(channel: Channel) -> Result<Streaming<proto::MapUpdate>, Status> {
    let reply = wire(channel).watch_map(proto::WatchMapRequest {}).await?;
    Ok(reply.into_inner())
}

/// Reads an update: a map's bytes or a redirect.
pub(crate) fn said_of_update(update: proto::MapUpdate) -> Result<Said<bytes::Bytes>, Status> {
    use proto::map_update::Update;
    match update.update {
        Some(Update::Map(map)) => Ok(Said::Answer(map)),
        Some(Update::NotLeader(hint)) => Ok(Said::NotLeader(hint)),
        None => Err(Status::internal("an update without content")),
    }
}

fn disk_to_wire(report: &DiskReport) -> proto::DiskState {
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
    }
}

fn disk_from_wire(state: proto::DiskState) -> Result<DiskReport, ClientError> {
    Ok(DiskReport {
        disk: DiskId(bytes16(&state.disk)?),
        capacity: state.capacity,
        used: state.used,
        free: state.free,
        closed: state.closed.then_some(state.reason),
        damaged_shards: state.damaged_shards,
        write_errors: state.write_errors,
        damaged_regions: state.damaged_regions,
        restored_files: state.restored_files,
        scrubbed_ms: state.scrubbed_ms,
    })
}

fn status_from_wire(status: proto::ClusterStatus) -> Result<ClusterStatus, ClientError> {
    let node = |node: proto::NodeStatus| {
        let disks = node.disks.into_iter().map(disk_from_wire);
        Ok(NodeStatus {
            node: NodeId(node.node),
            alive: node.alive,
            silent: Duration::from_millis(node.silent_ms),
            disks: disks.collect::<Result<_, ClientError>>()?,
        })
    };
    let member = |member: proto::MetadataMember| MemberStatus {
        node: NodeId(member.node),
        address: member.address,
        leader: member.leader,
        alive: member.alive,
        matched: member.matched,
        committed: member.committed,
        learner: member.learner,
        id: member.id,
        lost: member.lost,
        kept: member.kept,
        tables: member.tables,
    };
    let unreadable = |error: DecodeError| malformed(error);
    Ok(ClusterStatus {
        cluster: ClusterId(bytes16(&status.cluster)?),
        members: status.members.into_iter().map(member).collect(),
        nodes: status
            .nodes
            .into_iter()
            .map(node)
            .collect::<Result<_, ClientError>>()?,
        data: codec::decode(&status.data).map_err(unreadable)?,
        map: codec::decode(&status.map).map_err(unreadable)?,
    })
}

fn bytes16(bytes: &[u8]) -> Result<[u8; 16], ClientError> {
    bytes
        .try_into()
        .map_err(|_| malformed(format!("an id of {} bytes", bytes.len())))
}
