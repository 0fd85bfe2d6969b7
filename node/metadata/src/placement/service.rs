//! The gRPC service `Cluster`: join, heartbeats, beats of gateways, the map, status.

use super::{Placement, PlacementGroup, levels};
use futures::Stream;
use megalith_client::convert;
use megalith_client::levels::range_from_wire;
use megalith_identity::Role;
use megalith_model::beat::BEAT_LEASES_MAX;
use megalith_model::claim::{NodeClaim, RefusedDisk};
use megalith_model::codec;
use megalith_model::command::{Command, Outcome};
use megalith_model::ids::{ClusterId, NodeId};
use megalith_model::level::{Level, LevelStatus, Process};
use megalith_model::status::ClusterStatus;
use megalith_proto::v1;
use megalith_proto::v1::cluster_server::Cluster;
use megalith_proto::v1::map_update::Update;
use megalith_serve::peer_of;
use std::pin::Pin;
use std::sync::Arc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

/// The most disks of one heartbeat.
const DISKS_MAX: usize = 1024;

/// Serves `Cluster` on one metadata member.
#[derive(Clone)]
pub struct ClusterService<G> {
    group: G,
    placement: Placement,
    cluster: ClusterId,
}

impl<G: PlacementGroup> ClusterService<G> {
    /// Makes the service of the replica `group` and the worker beside it.
    #[must_use]
    pub fn new(group: G, placement: Placement, cluster: ClusterId) -> Self {
        Self {
            group,
            placement,
            cluster,
        }
    }

    fn not_leader(&self) -> v1::NotLeader {
        let leadership = self.group.leadership();
        let leader = leadership.borrow().leader.clone();
        leader.map_or_else(v1::NotLeader::default, |(node, address)| v1::NotLeader {
            leader: node.0,
            address,
        })
    }

    /// What every process of the cluster can run, as this leader knows it.
    async fn level_status(&self) -> Result<LevelStatus, Status> {
        let topology = self.group.topology().await;
        let topology =
            topology.ok_or_else(|| Status::unavailable("the metadata can't be read now"))?;
        let members = self.group.members().await;
        let levels = self.group.levels();
        Ok(levels::status(
            &levels,
            &members,
            &topology.nodes,
            &topology.leases,
        ))
    }

    fn leads(&self) -> bool {
        self.group.leadership().borrow().term.is_some()
    }
}

/// Checks that a storage node speaks of itself.
fn check_node<T>(request: &Request<T>, node: NodeId) -> Result<(), Status> {
    let peer = peer_of(request)?;
    if peer.is(Role::Storage, node.0) {
        return Ok(());
    }
    Err(Status::permission_denied(
        "the certificate is another node's",
    ))
}

#[tonic::async_trait]
impl<G: PlacementGroup> Cluster for ClusterService<G> {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinReply>, Status> {
        let node: NodeClaim = codec::decode(&request.get_ref().node)
            .map_err(|error| Status::invalid_argument(format!("node: {error}")))?;
        check_node(&request, node.id)?;
        let levels = self.group.levels();
        let mut reply = v1::JoinReply {
            not_leader: None,
            level: levels.told(),
            refused: Vec::new(),
        };
        if !self.leads() {
            reply.not_leader = Some(self.not_leader());
            return Ok(Response::new(reply));
        }
        let known = range_from_wire(request.get_ref().levels.as_ref());
        levels.hear(Process::Storage(node.id.0), known);
        levels
            .check_process(known)
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let id = node.id;
        match self.group.propose(Command::RegisterNode(node)).await {
            Some(Ok(Outcome::Registered { refused, .. })) => {
                tracing::info!(node = %id, "storage node joined");
                for RefusedDisk { disk, why } in &refused {
                    tracing::warn!(node = %id, %disk, %why, "refused to register a disk");
                }
                reply.refused = refused.iter().map(convert::refused_to_wire).collect();
                Ok(Response::new(reply))
            }
            Some(Ok(_)) => Err(Status::internal("the outcome of another command")),
            Some(Err(refusal)) => Err(Status::failed_precondition(refusal.to_string())),
            None => Err(Status::unavailable(
                "the command's fate is not known: join again",
            )),
        }
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatReply>, Status> {
        let node = NodeId(request.get_ref().node);
        check_node(&request, node)?;
        let request = request.into_inner();
        let levels = self.group.levels();
        let known = range_from_wire(request.levels.as_ref());
        levels.hear(Process::Storage(node.0), known);
        let disks = request.disks;
        if disks.len() > DISKS_MAX {
            return Err(Status::invalid_argument("too many disks"));
        }
        let disks = disks.into_iter().map(convert::disk_from_wire);
        let disks = disks
            .collect::<Result<_, _>>()
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let reply = match self.placement.heartbeat(node, disks).await {
            Some(known) => v1::HeartbeatReply {
                not_leader: None,
                unknown_node: !known,
                level: levels.told(),
            },
            None => v1::HeartbeatReply {
                not_leader: Some(self.not_leader()),
                unknown_node: false,
                level: levels.told(),
            },
        };
        Ok(Response::new(reply))
    }

    async fn beat(
        &self,
        request: Request<v1::BeatRequest>,
    ) -> Result<Response<v1::BeatReply>, Status> {
        let beat = convert::beat_from_wire(request.get_ref());
        if !peer_of(&request)?.is(Role::Gateway, beat.gateway.0) {
            let message = "the certificate is another gateway's";
            return Err(Status::permission_denied(message));
        }
        if beat.leases.len() > BEAT_LEASES_MAX {
            return Err(Status::invalid_argument("too many leases"));
        }
        let leads = self.placement.beat(beat).await;
        Ok(Response::new(v1::BeatReply {
            not_leader: (!leads).then(|| self.not_leader()),
            time_ms: self.group.now_ms(),
            level: self.group.levels().told(),
        }))
    }

    type WatchMapStream = Pin<Box<dyn Stream<Item = Result<v1::MapUpdate, Status>> + Send>>;

    async fn watch_map(
        &self,
        request: Request<v1::WatchMapRequest>,
    ) -> Result<Response<Self::WatchMapStream>, Status> {
        let levels = self.group.levels();
        let known = range_from_wire(request.get_ref().levels.as_ref());
        // Without a certificate's identity, as in tests, nobody listens.
        let gateway = peer_of(&request).ok().and_then(|peer| peer.gateway_id());
        let listening = gateway.map(|gateway| levels.listen(Process::Gateway(gateway.0), known));
        // The first map knows whatever was answered before the call: a gateway writes under a lease
        // as soon as it has one, and the node that doubts it asks here.
        if self.leads() && !(self.group.catch_up().await && self.placement.catch_up().await) {
            let message = "the newest map can't be made now";
            return Err(Status::unavailable(message));
        }
        let this = self.clone();
        // Ends after the first update that says that this replica doesn't lead.
        let mut over = false;
        let members = this.group.addresses();
        let denied = this.group.denied();
        let worker = WatchStream::new(self.placement.map()).map(|_| true);
        let changes = worker
            .chain(tokio_stream::once(false))
            .merge(WatchStream::from_changes(members.clone()).map(|_| true))
            .merge(WatchStream::from_changes(levels.watch()).map(|_| true))
            .merge(WatchStream::from_changes(denied.clone()).map(|_| true))
            .take_while(|&works| works);
        let updates = changes.filter_map(move |_| {
            let _while_it_lasts = &listening;
            if over {
                return None;
            }
            let map = this.placement.map().borrow().clone();
            let update = match map {
                Some(map) => Update::Map(codec::encode_at(map.as_ref(), levels.level()).into()),
                None if this.leads() => return None,
                None => {
                    over = true;
                    Update::NotLeader(this.not_leader())
                }
            };
            let denied = denied.borrow().clone();
            let members = members.borrow().clone();
            let members = members.iter().map(|(node, address)| v1::MemberAddress {
                node: node.0,
                address: address.clone(),
            });
            Some(Ok(v1::MapUpdate {
                update: Some(update),
                members: members.collect(),
                level: levels.told(),
                denied: codec::encode_at(denied.as_ref(), levels.level()).into(),
            }))
        });
        Ok(Response::new(Box::pin(updates)))
    }

    async fn raise_level(
        &self,
        request: Request<v1::RaiseLevelRequest>,
    ) -> Result<Response<v1::RaiseLevelReply>, Status> {
        use v1::raise_level_reply::Result as Said;
        let reply = |said| Ok(Response::new(v1::RaiseLevelReply { result: Some(said) }));
        let peer = peer_of(&request)?.to_string();
        let request = request.into_inner();
        if !self.leads() {
            return reply(Said::NotLeader(self.not_leader()));
        }
        let status = self.level_status().await?;
        let level = match request.level {
            0 => status.highest,
            level => Level(level),
        };
        tracing::info!(%level, now = %status.level, peer, "the level is to be raised");
        if let Err(why) = status.may_raise(level, request.without_silent) {
            return reply(Said::Refused(why));
        }
        match self.group.propose(Command::RaiseLevel { level }).await {
            Some(Ok(_)) => reply(Said::Level(level.0)),
            Some(Err(refusal)) => reply(Said::Refused(refusal.to_string())),
            None => Err(Status::unavailable(
                "the command's fate is not known: raise the level again",
            )),
        }
    }

    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        let not_leader = || v1::StatusReply {
            not_leader: Some(self.not_leader()),
            status: None,
        };
        if !self.leads() {
            return Ok(Response::new(not_leader()));
        }
        let Some(heard) = self.placement.heard().await else {
            return Ok(Response::new(not_leader()));
        };
        let Some(data) = self.group.data().await else {
            return Err(Status::unavailable("the metadata can't be read now"));
        };
        let map = self.placement.map().borrow().clone().unwrap_or_default();
        let status = ClusterStatus {
            cluster: self.cluster,
            members: self.group.members().await,
            nodes: heard,
            data,
            map: Arc::unwrap_or_clone(map),
            level: self.level_status().await?,
        };
        Ok(Response::new(v1::StatusReply {
            not_leader: None,
            status: Some(convert::status_to_wire(status)),
        }))
    }

    async fn health(
        &self,
        _request: Request<v1::HealthRequest>,
    ) -> Result<Response<v1::HealthReply>, Status> {
        let leadership = self.group.leadership();
        let serving = leadership.borrow().leader.is_some();
        let reason = if serving { "" } else { "no leader is known" };
        Ok(Response::new(v1::HealthReply {
            serving,
            reason: reason.to_owned(),
        }))
    }
}
