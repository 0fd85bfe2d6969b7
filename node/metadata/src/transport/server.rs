//! The service `RaftTransport`: messages and snapshots from and for other members.

use super::SnapshotPieces;
use crate::log::node_of;
use crate::service::MetaHandle;
use futures::StreamExt;
use megalith_identity::{PeerIdentity, Role};
use megalith_model::ids::NodeId;
use megalith_proto::v1;
use megalith_proto::v1::raft_transport_server::RaftTransport;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Which member is calling, for whoever authenticates in another way than the edge of this crate:
/// an extension of the request that goes before the certificate's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerNode(pub u32);

/// Serves `RaftTransport` on one member.
#[derive(Clone)]
pub struct RaftService {
    member: MetaHandle,
}

impl RaftService {
    /// Serves for `member`.
    #[must_use]
    pub(crate) fn new(member: MetaHandle) -> Self {
        Self { member }
    }

    fn group(&self) -> u32 {
        self.member.identity().group.0
    }
}

/// Finds the member that is calling.
fn caller<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let extensions = request.extensions();
    if let Some(peer) = extensions.get::<PeerNode>() {
        return Ok(NodeId(peer.0));
    }
    let identity = extensions.get::<Arc<PeerIdentity>>();
    identity
        .and_then(|identity| identity.id_of(Role::Metadata))
        .map(NodeId)
        .ok_or_else(|| Status::permission_denied("only metadata members speak raft"))
}

#[tonic::async_trait]
impl RaftTransport for RaftService {
    async fn messages(
        &self,
        request: Request<Streaming<v1::RaftMessage>>,
    ) -> Result<Response<v1::RaftMessagesReply>, Status> {
        let peer = caller(&request)?;
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            if node_of(message.from) != Some(peer) {
                return Err(Status::permission_denied(
                    "a message in another member's name",
                ));
            }
            if message.group != self.group() {
                return Err(Status::invalid_argument("another group's message"));
            }
            self.member.take_message(peer, message);
        }
        Ok(Response::new(v1::RaftMessagesReply {}))
    }

    type SnapshotStream = SnapshotPieces;

    async fn snapshot(
        &self,
        request: Request<v1::SnapshotRequest>,
    ) -> Result<Response<SnapshotPieces>, Status> {
        let peer = caller(&request)?;
        if request.get_ref().group != self.group() {
            return Err(Status::invalid_argument("another group's snapshot"));
        }
        let pieces = self.member.source().stream(peer.0, request.get_ref())?;
        Ok(Response::new(ReceiverStream::new(pieces).boxed()))
    }

    async fn knock(
        &self,
        request: Request<v1::KnockRequest>,
    ) -> Result<Response<v1::KnockReply>, Status> {
        let peer = caller(&request)?;
        let reply = self.member.knock(peer, request.into_inner()).await?;
        Ok(Response::new(reply))
    }
}
