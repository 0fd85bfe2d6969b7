//! Messages between the members of a group.
//!
//! Owns: one connection and one bounded queue for each peer; it drops what doesn't fit, as Raft
//! allows, and never blocks the driver. Must never: hand on a message whose sender is not the one
//! that its certificate names.
//!
//! `grpc` is the client's side, `server` the service. Tests put members of one process together by
//! a [`Transport`] of their own.

mod grpc;
mod server;

#[cfg(test)]
mod tests;

pub(super) use grpc::weight;
pub use grpc::{GrpcTransport, TransportSettings};
pub use server::{PeerNode, RaftService};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use megalith_model::ids::NodeId;
use megalith_proto::v1;
use tonic::Status;
use tonic::transport::Channel;

/// Pieces of a snapshot as they come.
pub type SnapshotPieces = BoxStream<'static, Result<v1::SnapshotPiece, Status>>;

/// The way to the other members.
pub trait Transport: Send + Sync + 'static {
    /// Hands a message on to `message.to`. It may be lost, also later. Never blocks. False if
    /// it was dropped at once.
    fn send(&self, message: v1::RaftMessage) -> bool;

    /// Asks a peer for its rows.
    fn snapshot(
        &self,
        peer: NodeId,
        request: v1::SnapshotRequest,
    ) -> BoxFuture<'static, Result<SnapshotPieces, Status>>;

    /// Asks a peer whether there is a group, or to be let in.
    fn knock(
        &self,
        peer: NodeId,
        request: v1::KnockRequest,
    ) -> BoxFuture<'static, Result<v1::KnockReply, Status>>;
}

/// Makes the connections, with whatever identifies this member to its peers.
pub trait Connector: Send + Sync + 'static {
    /// Connects to a peer, looking its name up again. Two calls give two connections: messages and
    /// snapshots don't share one. The peer's certificate must name it.
    fn connect(&self, peer: NodeId) -> BoxFuture<'static, Result<Channel, ConnectError>>;
}

/// A peer that can't be reached. The cause is in `source`.
#[derive(Debug, thiserror::Error)]
#[error("connect to {peer}")]
pub struct ConnectError {
    pub peer: NodeId,
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
