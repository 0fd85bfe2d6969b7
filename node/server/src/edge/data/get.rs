//! Reading cells of a shard.
//!
//! What is read is in memory until the peer has taken it, so each peer may have only so much read.

use super::DataEdge;
use super::answer::{self, DataAnswer, Refused};
use super::request::WantedGet;
use super::request::disk;
use http::Response;
use megalith_client::DataFault;
use megalith_client::framing::frame_tail;
use megalith_identity::{PeerIdentity, Role};
use megalith_model::shape::CELL_LEN;
use std::collections::VecDeque;

pub(super) async fn get(
    edge: &DataEdge,
    peer: &PeerIdentity,
    wanted: WantedGet,
) -> Response<DataAnswer> {
    match read(edge, peer, &wanted).await {
        Ok(body) => Response::new(body),
        Err(refused) => answer::refusal(&refused),
    }
}

/// Reads the cells, each checked against its checksum by the store just now.
async fn read(
    edge: &DataEdge,
    peer: &PeerIdentity,
    wanted: &WantedGet,
) -> Result<DataAnswer, Refused> {
    // A disk that is not here says nothing of its shards: they are not missing.
    let disk = disk(&edge.disks, wanted.path.disk)?;
    let shard = wanted.path.shard;
    let max = match peer.has(Role::Gateway) {
        true => edge.settings.read_bytes_per_gateway_max,
        false => edge.settings.read_bytes_per_peer_max,
    };
    let len = wanted.count.saturating_mul(CELL_LEN);
    let share = edge.reads.take(peer, len, max).ok_or_else(|| {
        tracing::warn!(%peer, "too many bytes are read for this peer");
        Refused::new(DataFault::Busy, "too many bytes are read for this peer")
    })?;
    let cells = disk.read(shard, wanted.first, wanted.count).await?;
    let mut pieces = VecDeque::with_capacity(2 * cells.len());
    for (bytes, crc) in cells {
        pieces.push_back(bytes);
        pieces.push_back(frame_tail(crc));
    }
    Ok(DataAnswer::new(pieces).holding(share))
}
