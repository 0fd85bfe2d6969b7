//! Who is at the other end of a gRPC call.

use megalith_identity::PeerIdentity;
use std::sync::Arc;
use tonic::Status;

/// Returns who made a call. The edge has put that into the request; a call without it came another
/// way.
pub fn peer_of<T>(request: &tonic::Request<T>) -> Result<&Arc<PeerIdentity>, Status> {
    let peer = request.extensions().get::<Arc<PeerIdentity>>();
    peer.ok_or_else(|| Status::unauthenticated("the peer is not known"))
}
