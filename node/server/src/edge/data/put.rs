//! Writing a shard as its bytes come.
//!
//! One cell at most is held here; the store takes each as it is complete, and its writer's pace is
//! the sender's. A write that ends in any way but a receipt drops its writer, which leaves nothing.

use super::DataEdge;
use super::answer::{self, DataAnswer, Refused};
use super::request::disk;
use super::request::{WantedPut, malformed, trailer_digest};
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use megalith_client::DataFault;
use megalith_client::framing::{Deframer, cells};
use megalith_identity::PeerIdentity;
use megalith_model::shard::Receipt;
use tokio::time::timeout;

pub(super) async fn put(
    edge: &DataEdge,
    peer: &PeerIdentity,
    wanted: WantedPut,
    mut body: Incoming,
) -> Response<DataAnswer> {
    match write(edge, peer, &wanted, &mut body).await {
        Ok(receipt) => answer::receipt(&receipt),
        Err(refused) => {
            let shard = &wanted.path;
            tracing::info!(%peer, %shard, kind = %refused.fault, why = refused.message, "refused");
            if refused.fault != DataFault::Timeout {
                edge.linger(body);
            }
            answer::refusal(&refused)
        }
    }
}

async fn write(
    edge: &DataEdge,
    peer: &PeerIdentity,
    wanted: &WantedPut,
    body: &mut Incoming,
) -> Result<Receipt, Refused> {
    let disk = disk(&edge.disks, wanted.path.disk)?;
    edge.admission
        .check(peer, &wanted.path, wanted.epoch)
        .await?;
    let shard = wanted.path.shard;
    let mut writer = disk.begin(shard, wanted.epoch, wanted.length).await?;
    let mut deframer = Deframer::new(wanted.length, 0, cells(wanted.length));
    let mut complete = Vec::new();
    let trailers = loop {
        match piece(edge, body).await? {
            Piece::Data(data) => {
                let pushed = deframer.push(data, |cell| complete.push(cell));
                pushed.map_err(|error| malformed(error.to_string()))?;
                for cell in complete.drain(..) {
                    writer.push_cell(cell.bytes, cell.crc).await?;
                }
            }
            Piece::Trailers(trailers) => break Some(trailers),
            Piece::End => break None,
        }
    };
    if !deframer.is_complete() {
        return Err(malformed("the body ended before its length"));
    }
    let digest = match wanted.digest {
        Some(digest) => digest,
        None => trailer_digest(trailers.as_ref())?,
    };
    Ok(writer.finish(digest).await?)
}

enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

async fn piece(edge: &DataEdge, body: &mut Incoming) -> Result<Piece, Refused> {
    let limit = edge.settings.body_deadline;
    match timeout(limit, body.frame()).await {
        Err(_) => {
            let message = format!("no bytes for {limit:?}");
            Err(Refused::new(DataFault::Timeout, message))
        }
        Ok(None) => Ok(Piece::End),
        Ok(Some(Err(error))) => Err(malformed(format!("the body broke off: {error}"))),
        Ok(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) => Ok(Piece::Data(data)),
            Err(frame) => Ok(frame.into_trailers().map_or(Piece::End, Piece::Trailers)),
        },
    }
}

/// Reads and forgets a body's rest.
pub(super) async fn discard(mut body: Incoming, limit: u64) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len) as u64;
        if read > limit {
            return;
        }
    }
}
