//! Reading cells of a shard.

use super::DataEdge;
use super::answer::{self, DataAnswer, Refused};
use super::request::WantedGet;
use super::request::disk;
use http::Response;
use megalith_client::framing::frame_tail;
use std::collections::VecDeque;

pub(super) async fn get(edge: &DataEdge, wanted: WantedGet) -> Response<DataAnswer> {
    match read(edge, &wanted).await {
        Ok(body) => Response::new(body),
        Err(refused) => answer::refusal(&refused),
    }
}

/// Reads the cells, each checked against its checksum by the store just now.
async fn read(edge: &DataEdge, wanted: &WantedGet) -> Result<DataAnswer, Refused> {
    // A disk that is not here says nothing of its shards: they are not missing.
    let disk = disk(&edge.disks, wanted.path.disk)?;
    let shard = wanted.path.shard;
    let cells = disk.read(shard, wanted.first, wanted.count).await?;
    let mut pieces = VecDeque::with_capacity(2 * cells.len());
    for (bytes, crc) in cells {
        pieces.push_back(bytes);
        pieces.push_back(frame_tail(crc));
    }
    Ok(DataAnswer::new(pieces))
}
