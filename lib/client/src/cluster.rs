//! Calls about the cluster itself: joining, heartbeats, status.

use crate::connect::MESSAGE_LEN_MAX;
use crate::convert;
use crate::error::{ClientError, chain};
use crate::group::{Ask, CallSettings, Group, Member, NoAnswer, Said};
use crate::levels::range_to_wire;
use crate::roster::Roster;
use megalith_identity::TlsMaterial;
use megalith_model::claim::NodeClaim;
use megalith_model::codec;
use megalith_model::ids::{DiskId, NodeId};
use megalith_model::level::{KNOWN, Level, OutOfRange};
use megalith_model::status::{ClusterStatus, DiskReport};
use megalith_model::topology::ClusterMap;
use megalith_proto::v1 as proto;
use proto::cluster_client::ClusterClient as WireClient;
use std::sync::Arc;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// The leader's answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatAnswer {
    Known,
    /// The node has to join (again).
    Unknown,
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
    if end.denied {
        ClientError::Denied(end.last)
    } else if end.refused {
        ClientError::Rejected(end.last)
    } else {
        ClientError::Unavailable(end.last)
    }
}

impl ClusterClient {
    /// Builds a client of the group whose members `roster` names; redirects teach it more.
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

    /// Registers a storage node, or replaces what is known of it. Repeating it is harmless. Returns
    /// which of its disks were refused, and why; the others are registered. Fails with
    /// [`ClientError::Unavailable`] if the query deadline passes.
    pub async fn join(&self, node: &NodeClaim) -> Result<Vec<(DiskId, String)>, ClientError> {
        let level = self.group.roster.level();
        let bytes = bytes::Bytes::from(codec::encode_at(node, level));
        let refused = self.call(|channel| {
            let request = proto::JoinRequest {
                node: bytes.clone(),
                levels: Some(range_to_wire(KNOWN)),
            };
            async move {
                let reply = wire(channel).join(request).await?.into_inner();
                self.hear_level(reply.level)?;
                Ok(match reply.not_leader {
                    Some(hint) => Said::NotLeader(hint),
                    None => Said::Answer(reply.refused),
                })
            }
        });
        Ok(convert::refused_from_wire(refused.await?)?)
    }

    /// Reports that a node is alive, and the state of its disks.
    pub async fn heartbeat(
        &self,
        node: NodeId,
        disks: &[DiskReport],
    ) -> Result<HeartbeatAnswer, ClientError> {
        let request = proto::HeartbeatRequest {
            node: node.0,
            disks: disks.iter().map(convert::disk_to_wire).collect(),
            levels: Some(range_to_wire(KNOWN)),
        };
        self.call(|channel| {
            let request = request.clone();
            async move {
                let reply = wire(channel).heartbeat(request).await?.into_inner();
                self.hear_level(reply.level)?;
                Ok(match reply.not_leader {
                    Some(hint) => Said::NotLeader(hint),
                    None if reply.unknown_node => Said::Answer(HeartbeatAnswer::Unknown),
                    None => Said::Answer(HeartbeatAnswer::Known),
                })
            }
        })
        .await
    }

    /// Asks the leader to raise the cluster's level, to its program's highest if None is given.
    /// Returns the level then. With `without_silent`, storage nodes and gateways that aren't heard
    /// don't count. Fails with [`ClientError::Rejected`] if a process holds the level back; the
    /// text names it.
    pub async fn raise_level(
        &self,
        level: Option<Level>,
        without_silent: bool,
    ) -> Result<Level, ClientError> {
        use proto::raise_level_reply::Result as Told;
        let request = proto::RaiseLevelRequest {
            level: level.map_or(0, |level| level.0),
            without_silent,
        };
        let answer = self.call(|channel| async move {
            let reply = wire(channel).raise_level(request).await?.into_inner();
            Ok(match reply.result {
                Some(Told::NotLeader(hint)) => Said::NotLeader(hint),
                Some(Told::Level(level)) => Said::Answer(Ok(Level(level))),
                Some(Told::Refused(why)) => Said::Answer(Err(why)),
                None => return Err(Status::internal("a reply without content")),
            })
        });
        answer.await?.map_err(ClientError::Rejected)
    }

    /// Waits until the cluster is at a level that this program can't run.
    pub async fn outgrown(&self) -> OutOfRange {
        self.group.roster.outgrown().await
    }

    /// Notes the level of a reply; an error if this program can't run it, which no other member can
    /// better.
    fn hear_level(&self, level: u32) -> Result<(), Status> {
        let roster = &self.group.roster;
        roster.hear_level(level);
        let checked = roster.check_level();
        checked.map_err(|outgrown| Status::failed_precondition(outgrown.to_string()))
    }

    /// Returns the cluster's status, as the leader knows it.
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
        let roster = &self.group.roster;
        roster.hear_level(status.level.as_ref().map_or(0, |status| status.level));
        convert::status_from_wire(status).map_err(|error| match roster.check_level() {
            Ok(()) => error.into(),
            // It may be readable for a newer program.
            Err(outgrown) => malformed(outgrown),
        })
    }

    /// Returns the leader's present map.
    pub async fn fetch_map(&self) -> Result<ClusterMap, ClientError> {
        let bytes = self
            .call(|channel| async move {
                let mut updates = open_updates(channel).await?;
                match updates.message().await? {
                    Some(update) => {
                        self.group.hear_denied(&update);
                        self.hear_level(update.level)?;
                        said_of_update(update)
                    }
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
        answer.map(|(answer, _)| answer).map_err(unavailable)
    }

    /// Chooses a member and opens its stream of maps; the caller waits for the first update.
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
    let request = proto::WatchMapRequest {
        levels: Some(range_to_wire(KNOWN)),
    };
    let reply = wire(channel).watch_map(request).await?;
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
