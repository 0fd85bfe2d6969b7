//! The shard service: small things about the shards of this node's disks.

use super::data::Refused;
use bytes::Bytes;
use megalith_client::DataFault;
use megalith_client::convert::{shard_from_wire, shard_to_wire};
use megalith_model::ids::{BlobId, DiskId, VolumeId};
use megalith_model::shard::{ShardId, ShardStat};
use megalith_proto::v1 as proto;
use megalith_store::Disks;
use megalith_store::{DiskHandle, StoreError};
use proto::shard_control_server::ShardControl;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The most shards of one call.
const SHARDS_MAX: usize = 1_000;

/// Answers for all disks of a node. Who may call what is judged before it, at the edge.
pub struct ShardService {
    disks: Arc<Disks>,
}

impl ShardService {
    /// Builds the service of these disks.
    #[must_use]
    pub fn new(disks: Arc<Disks>) -> Self {
        Self { disks }
    }

    fn disk(&self, bytes: &[u8]) -> Result<DiskHandle, Status> {
        let id = <[u8; 16]>::try_from(bytes);
        let id = id.map_err(|_| Status::invalid_argument("disk: not 16 bytes"))?;
        let id = DiskId(id);
        let disk = self.disks.get(id);
        disk.ok_or_else(|| Status::not_found(format!("no disk {id} here")))
    }
}

#[tonic::async_trait]
impl ShardControl for ShardService {
    async fn stat(
        &self,
        request: Request<proto::StatShardsRequest>,
    ) -> Result<Response<proto::StatShardsReply>, Status> {
        let request = request.into_inner();
        let disk = self.disk(&request.disk)?;
        let mut shards = Vec::with_capacity(request.shards.len().min(SHARDS_MAX));
        for shard in names(&request.shards)? {
            let stat = disk.stat(shard).await.map_err(status)?;
            shards.push(stat.map(|stat| stat_to_wire(&stat)).unwrap_or_default());
        }
        Ok(Response::new(proto::StatShardsReply { shards }))
    }

    async fn list(
        &self,
        request: Request<proto::ListShardsRequest>,
    ) -> Result<Response<proto::ListShardsReply>, Status> {
        let request = request.into_inner();
        let disk = self.disk(&request.disk)?;
        let max = request.max as usize;
        if max == 0 || max > SHARDS_MAX {
            return Err(Status::invalid_argument(format!(
                "max: not 1 to {SHARDS_MAX}"
            )));
        }
        let after = request
            .after
            .map(|after| (BlobId(after.blob), after.segment));
        let volume = VolumeId(request.volume);
        let found = disk.list(volume, after, max).await.map_err(status)?;
        Ok(Response::new(proto::ListShardsReply {
            truncated: found.len() >= max,
            shards: found
                .iter()
                .map(|stat| shard_to_wire(&stat.shard))
                .collect(),
        }))
    }

    async fn scrub(
        &self,
        request: Request<proto::ScrubRequest>,
    ) -> Result<Response<proto::ScrubReply>, Status> {
        let request = request.into_inner();
        let disks = match request.disk.is_empty() {
            true => self.disks.all(),
            false => vec![self.disk(&request.disk)?],
        };
        if request.start {
            for disk in &disks {
                disk.demand_scrub().map_err(status)?;
            }
        }
        Ok(Response::new(proto::ScrubReply {
            disks: disks.iter().map(scrub_to_wire).collect(),
        }))
    }
}

fn scrub_to_wire(disk: &DiskHandle) -> proto::ScrubState {
    let (status, health) = (disk.scrub_status(), disk.health());
    proto::ScrubState {
        disk: Bytes::copy_from_slice(&disk.superblock().disk.0),
        demanded: status.demanded,
        began_ms: status.began_ms,
        done_permille: u32::try_from(status.done_permille).unwrap_or(1000),
        passes: status.passes,
        finished_ms: status.finished_ms,
        fresh_ms: status.fresh_ms,
        checked_bytes: status.checked_bytes,
        found_shards: status.found_shards,
        late: status.late,
        damaged_shards: health.damaged_shards,
        damaged_regions: health.damaged_regions,
        indexes_rebuilt: health.indexes_rebuilt,
    }
}

fn names(shards: &[proto::ShardRef]) -> Result<Vec<ShardId>, Status> {
    if shards.len() > SHARDS_MAX {
        return Err(Status::invalid_argument(format!(
            "more than {SHARDS_MAX} shards"
        )));
    }
    let name =
        |shard| shard_from_wire(shard).map_err(|error| Status::invalid_argument(error.to_string()));
    shards.iter().map(name).collect()
}

/// A shard without a readable digest is damaged, whatever else is known.
fn stat_to_wire(stat: &ShardStat) -> proto::ShardStat {
    proto::ShardStat {
        present: true,
        length: stat.len,
        digest: Bytes::copy_from_slice(&stat.digest.unwrap_or_default()),
        epoch: stat.epoch.0,
        damaged: stat.damaged || stat.digest.is_none(),
    }
}

fn status(error: StoreError) -> Status {
    let refused = Refused::from(error);
    match refused.fault {
        DataFault::Malformed => Status::invalid_argument(refused.message),
        DataFault::NotFound => Status::not_found(refused.message),
        DataFault::Busy => Status::unavailable(refused.message),
        _ => Status::internal(refused.message),
    }
}
