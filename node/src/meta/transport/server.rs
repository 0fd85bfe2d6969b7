//! The service `RaftTransport`: messages and snapshots from and for other members.

use super::Pieces;
use crate::meta::raft::{Input, RaftHandle};
use crate::meta::snapshot::Source;
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
    raft: RaftHandle,
    source: Source,
    group: u32,
}

impl RaftService {
    /// Steps messages of group `group` into `raft`; sends the rows of `source`.
    #[must_use]
    pub fn new(raft: RaftHandle, source: Source, group: u32) -> Self {
        Self {
            raft,
            source,
            group,
        }
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
            if message.from != u64::from(peer.0) {
                return Err(Status::permission_denied(
                    "a message in another member's name",
                ));
            }
            if message.group != self.group {
                return Err(Status::invalid_argument("another group's message"));
            }
            // Dropped where the driver has too much to do; raft sends again.
            let _ = self.raft.send(Input::Message(message));
        }
        Ok(Response::new(v1::RaftMessagesReply {}))
    }

    type SnapshotStream = Pieces;

    async fn snapshot(
        &self,
        request: Request<v1::SnapshotRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let peer = caller(&request)?;
        if request.get_ref().group != self.group {
            return Err(Status::invalid_argument("another group's snapshot"));
        }
        let pieces = self.source.stream(peer.0, request.get_ref())?;
        Ok(Response::new(ReceiverStream::new(pieces).boxed()))
    }
}
