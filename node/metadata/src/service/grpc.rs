//! The gRPC service `Metadata`.

#![deny(
    clippy::wildcard_enum_match_arm,
    reason = "a new variant must be judged, not waved through"
)]

use super::{MetaHandle, QueryError};
use crate::apply::ProposeError;
use crate::raft::NotLeader;
use crate::transport::SnapshotPieces;
use bytes::Bytes;
use futures::StreamExt;
use megalith_client::convert;
use megalith_identity::{PeerIdentity, Role};
use megalith_model::codec;
use megalith_model::command::{Command, Envelope, Proposer};
use megalith_model::ids::{GatewayId, NodeId};
use megalith_model::keys;
use megalith_model::kinds::Stored;
use megalith_model::member::ChangeStanding;
use megalith_model::query::Query;
use megalith_proto::v1;
use megalith_proto::v1::metadata_server::Metadata;
use megalith_serve::peer_of;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Serves `Metadata` on one member.
#[derive(Clone)]
pub struct MetadataService {
    handle: MetaHandle,
}

impl MetadataService {
    pub(super) fn new(handle: MetaHandle) -> Self {
        Self { handle }
    }

    /// As it is written at the cluster's level.
    fn encode<T: Stored>(&self, value: &T) -> Vec<u8> {
        codec::encode_at(value, self.handle.levels().level())
    }

    /// Whether this member's group holds the range that the caller means. A caller without a map
    /// (epoch 0) is told the first one by being served.
    fn wrong_range(&self, epoch: u32) -> Option<v1::WrongRange> {
        let (group, current) = keys::route(&[]);
        let right = group == self.handle.inner.identity.group && (epoch == 0 || epoch == current.0);
        (!right).then_some(v1::WrongRange {
            range_epoch: current.0,
            group: group.0,
        })
    }
}

fn is(peer: &PeerIdentity, proposer: Proposer) -> bool {
    match proposer {
        Proposer::Gateway => peer.has(Role::Gateway) || peer.has(Role::Operator),
        Proposer::Storage => peer.has(Role::Storage),
        Proposer::Operator => peer.has(Role::Operator),
        // The leader proposes by itself, never over the network.
        Proposer::Leader => false,
    }
}

/// Checks that a peer may ask a question. Returns the node that the question must concern, if the
/// peer may ask it only as a storage node.
fn check_asker(peer: &PeerIdentity, query: &Query) -> Result<Option<NodeId>, Status> {
    let askers = || query.askers().iter().copied();
    let at_large = askers().any(|one| one != Proposer::Storage && is(peer, one));
    if at_large {
        return Ok(None);
    }
    let node = peer.id_of(Role::Storage).map(NodeId);
    match node.filter(|_| askers().any(|one| one == Proposer::Storage)) {
        Some(node) => Ok(Some(node)),
        None => Err(Status::permission_denied("this role may not ask that")),
    }
}

/// Returns whether a peer may use a gateway's leases.
fn speaks_for(peer: &PeerIdentity, gateway: GatewayId) -> bool {
    peer.is(Role::Gateway, gateway.0) || peer.has(Role::Operator)
}

/// Checks that a peer may propose a command, and speaks only of itself.
fn check_proposer(peer: &PeerIdentity, envelope: &Envelope) -> Result<(), Status> {
    let Envelope { key, command } = envelope;
    let may = command.proposers().iter().any(|one| is(peer, *one));
    let itself = match command {
        Command::RegisterNode(node) => peer.is(Role::Storage, node.id.0),
        Command::AckDeletes { node, .. }
        | Command::MarkOwed { node, .. }
        | Command::FillOwed { node, .. }
        | Command::DenyDoubts { node, .. }
        | Command::JudgeDoubts { judge: node, .. } => peer.is(Role::Storage, node.0),
        Command::OpenLease { gateway, .. } | Command::CloseLease { gateway, .. } => {
            speaks_for(peer, *gateway)
        }
        // These don't name a node.
        Command::InitCluster { .. }
        | Command::CreateVolume { .. }
        | Command::CloseVolume { .. }
        | Command::PutKek { .. }
        | Command::RotateKek { .. }
        | Command::Reseal { .. }
        | Command::DropKeks { .. }
        | Command::CreateAccount { .. }
        | Command::SetAccountEnabled { .. }
        | Command::PutAccessKey { .. }
        | Command::CreateBucket { .. }
        | Command::DeleteBucket(_)
        | Command::PutObject(_)
        | Command::DeleteObject { .. }
        | Command::CreateUpload { .. }
        | Command::PutPart { .. }
        | Command::CompleteUpload { .. }
        | Command::AbortUpload { .. }
        | Command::DiscardBlob { .. }
        | Command::RaiseDoubts(_)
        | Command::Nothing
        | Command::ResetClock
        | Command::WorkOff
        | Command::RaiseLevel { .. }
        | Command::SetSettings(_)
        | Command::ExpireUploads { .. }
        | Command::ReleaseRestore
        | Command::SetDenyList(_)
        | Command::ResealKek { .. } => true,
    };
    let own_key = key.is_none_or(|key| speaks_for(peer, key.gateway));
    if may && itself && own_key {
        return Ok(());
    }
    Err(Status::permission_denied(
        "this role may not propose this command",
    ))
}

#[tonic::async_trait]
impl Metadata for MetadataService {
    async fn propose(
        &self,
        request: Request<v1::ProposeRequest>,
    ) -> Result<Response<v1::ProposeReply>, Status> {
        use v1::propose_reply::Result as Said;
        let reply = |said| {
            Ok(Response::new(v1::ProposeReply {
                time_ms: self.handle.now_ms(),
                level: self.handle.levels().told(),
                result: Some(said),
            }))
        };
        let envelope: Envelope = codec::decode(&request.get_ref().envelope)
            .map_err(|error| Status::invalid_argument(format!("envelope: {error}")))?;
        let peer = peer_of(&request)?;
        check_proposer(peer, &envelope)?;
        if let Command::SetDenyList(list) = &envelope.command {
            self.handle.check_deny_list(peer, list)?;
            let (revision, denied) = (list.revision, list.denied.as_slice());
            tracing::info!(%peer, revision, ?denied, "a new deny list is asked for");
        }
        if let Some(wrong) = self.wrong_range(request.get_ref().range_epoch) {
            return reply(Said::WrongRange(wrong));
        }
        let bytes = &request.get_ref().envelope;
        match self.handle.propose_encoded(&envelope, bytes).await {
            Ok(answer) => reply(Said::Answer(Bytes::from(self.encode(&answer)))),
            Err(ProposeError::NotLeader { hint }) => {
                reply(Said::NotLeader(self.handle.not_leader(hint)))
            }
            Err(error @ ProposeError::TooLarge) => Err(Status::out_of_range(error.to_string())),
            Err(error @ ProposeError::Busy) => Err(Status::resource_exhausted(error.to_string())),
            Err(error @ ProposeError::Unknown) => Err(Status::unknown(error.to_string())),
            Err(error @ ProposeError::Stopped) => Err(Status::unavailable(error.to_string())),
        }
    }

    type BackupStream = SnapshotPieces;

    async fn backup(
        &self,
        request: Request<v1::SnapshotRequest>,
    ) -> Result<Response<SnapshotPieces>, Status> {
        let request = request.into_inner();
        if request.group != self.handle.inner.identity.group.0 {
            return Err(Status::invalid_argument("another group's rows"));
        }
        let pieces = match self.handle.export(request).await {
            Ok(pieces) => pieces?,
            Err(error) => return Err(Status::unavailable(error.to_string())),
        };
        Ok(Response::new(ReceiverStream::new(pieces).boxed()))
    }

    async fn query(
        &self,
        request: Request<v1::QueryRequest>,
    ) -> Result<Response<v1::QueryReply>, Status> {
        use v1::query_reply::Result as Said;
        let reply = |said, index| {
            Ok(Response::new(v1::QueryReply {
                time_ms: self.handle.now_ms(),
                level: self.handle.levels().told(),
                index,
                result: Some(said),
            }))
        };
        let query: Query = codec::decode(&request.get_ref().query)
            .map_err(|error| Status::invalid_argument(format!("query: {error}")))?;
        let concerned = check_asker(peer_of(&request)?, &query)?;
        let request = request.into_inner();
        if let Some(wrong) = self.wrong_range(request.range_epoch) {
            return reply(Said::WrongRange(wrong), 0);
        }
        match self.handle.query_of(query, concerned).await {
            Ok((answer, index)) => reply(Said::Reply(Bytes::from(self.encode(&answer))), index),
            Err(QueryError::NotLeader) => reply(Said::NotLeader(self.handle.not_leader(None)), 0),
            Err(error @ (QueryError::Unavailable | QueryError::Stopped)) => {
                Err(Status::unavailable(error.to_string()))
            }
            Err(error @ QueryError::Foreign) => Err(Status::permission_denied(error.to_string())),
            Err(QueryError::Machine(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "a question can't be answered");
                Err(Status::data_loss("the metadata can't be read here"))
            }
        }
    }

    async fn change_members(
        &self,
        request: Request<v1::ChangeMembersRequest>,
    ) -> Result<Response<v1::ChangeMembersReply>, Status> {
        use v1::change_members_reply::Result as Said;
        let peer = peer_of(&request)?.to_string();
        let change = convert::change_from_wire(request.get_ref())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let standing = self.handle.change_members(change).await;
        tracing::info!(?change, ?standing, peer, "a change of members is asked for");
        let said = match standing {
            Ok(ChangeStanding::Done(how)) => Said::Done(how),
            Ok(ChangeStanding::UnderWay(how)) => Said::UnderWay(how),
            Ok(ChangeStanding::Refused(why)) => Said::Refused(why),
            Err(NotLeader { hint }) => Said::NotLeader(self.handle.not_leader(hint)),
        };
        Ok(Response::new(v1::ChangeMembersReply { result: Some(said) }))
    }
}
