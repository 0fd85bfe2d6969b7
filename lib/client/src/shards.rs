//! Small calls about shards, by gRPC: what a disk has, how far its scrub is.

use crate::connect::{ChannelSettings, MESSAGE_LEN_MAX, channel};
use crate::convert::{shard_from_wire, shard_to_wire};
use crate::error::{ClientError, chain};
use crate::group::is_final;
use bytes::Bytes;
use megalith_identity::{Role, TlsMaterial};
use megalith_model::ids::{BlobId, DiskId, Epoch, NodeId, VolumeId};
use megalith_model::shard::{ShardId, ShardStat};
use megalith_proto::v1 as proto;
use proto::shard_control_client::ShardControlClient;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// A page of a volume's shards on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPage {
    pub shards: Vec<ShardId>,
    pub truncated: bool,
}

/// How far the scrub of a disk is. Times are in milliseconds since 1970; 0 if it hasn't happened
/// yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubReport {
    pub disk: DiskId,
    /// Whether an operator asked for the current pass.
    pub demanded: bool,
    /// When the current pass, or the last one, began.
    pub began_ms: u64,
    /// How much of it is done, in thousandths.
    pub done_permille: u32,
    pub passes: u64,
    /// When the last pass was finished.
    pub finished_ms: u64,
    /// Everything written before this time has been checked at least once.
    pub fresh_ms: u64,
    /// Bytes read in all passes.
    pub checked_bytes: u64,
    /// Damaged shards that the scrub found in all passes.
    pub found_shards: u64,
    /// Whether the disk holds more than the scrub's rate allows for.
    pub late: bool,
    /// Shards known to be damaged now.
    pub damaged_shards: u64,
    /// Damaged pieces of chunk files since the node started.
    pub damaged_regions: u64,
    /// Index files rebuilt since the node started.
    pub indexes_rebuilt: u64,
}

/// Calls the shard service of storage nodes. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct ShardClient {
    shared: Arc<Shared>,
}

struct Shared {
    material: Arc<TlsMaterial>,
    settings: ChannelSettings,
    deadline: Duration,
    /// The last address of each node, with its connection.
    channels: Mutex<HashMap<NodeId, (String, Channel)>>,
}

impl ShardClient {
    /// Builds a client; each call has `deadline`.
    #[must_use]
    pub fn new(material: Arc<TlsMaterial>, settings: ChannelSettings, deadline: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                material,
                settings,
                deadline,
                channels: Mutex::new(HashMap::new()),
            }),
        }
    }

    // For repair.
    /// Returns what a disk knows of up to 1,000 shards, in their order; None for each it doesn't
    /// have. `address` is the node's gRPC listener.
    pub async fn stat(
        &self,
        node: NodeId,
        address: &str,
        disk: DiskId,
        shards: &[ShardId],
    ) -> Result<Vec<Option<ShardStat>>, ClientError> {
        let request = proto::StatShardsRequest {
            disk: Bytes::copy_from_slice(&disk.0),
            shards: shards.iter().map(shard_to_wire).collect(),
        };
        let mut client = self.client(node, address);
        let reply = self.within(client.stat(request)).await?;
        if reply.shards.len() != shards.len() {
            let message = format!(
                "{} answers to {} questions",
                reply.shards.len(),
                shards.len()
            );
            return Err(ClientError::Malformed(message));
        }
        let told = shards.iter().zip(&reply.shards);
        told.map(|(shard, stat)| stat_from_wire(shard, stat))
            .collect()
    }

    // For repair.
    /// Returns up to `max` (≤ 1,000) of a volume's shards on a disk, after a blob and segment.
    pub async fn list(
        &self,
        node: NodeId,
        address: &str,
        disk: DiskId,
        volume: VolumeId,
        after: Option<(BlobId, u32)>,
        max: u32,
    ) -> Result<ShardPage, ClientError> {
        let request = proto::ListShardsRequest {
            disk: Bytes::copy_from_slice(&disk.0),
            volume: volume.0,
            after: after.map(|(blob, segment)| proto::ShardPosition {
                blob: blob.0,
                segment,
            }),
            max,
        };
        let mut client = self.client(node, address);
        let reply = self.within(client.list(request)).await?;
        let shards = reply.shards.iter().map(shard_from_wire);
        Ok(ShardPage {
            shards: shards.collect::<Result<_, _>>()?,
            truncated: reply.truncated,
        })
    }

    /// Reports how far the scrub of a node's disks is, or of one of them. With `start`, a check of
    /// everything begins now.
    pub async fn scrub(
        &self,
        node: NodeId,
        address: &str,
        disk: Option<DiskId>,
        start: bool,
    ) -> Result<Vec<ScrubReport>, ClientError> {
        let disk = disk.map(|disk| Bytes::copy_from_slice(&disk.0));
        let request = proto::ScrubRequest {
            disk: disk.unwrap_or_default(),
            start,
        };
        let mut client = self.client(node, address);
        let reply = self.within(client.scrub(request)).await?;
        reply.disks.into_iter().map(scrub_from_wire).collect()
    }

    fn client(&self, node: NodeId, address: &str) -> ShardControlClient<Channel> {
        let shared = &*self.shared;
        let mut channels = shared
            .channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let expected = (Role::Storage, node.0);
            let channel = channel(address, expected, &shared.material, &shared.settings);
            (address.to_owned(), channel)
        };
        let held = channels.entry(node).or_insert_with(make);
        if held.0 != address {
            *held = make();
        }
        ShardControlClient::new(held.1.clone())
            .max_decoding_message_size(MESSAGE_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX)
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ClientError> {
        let limit = self.shared.deadline;
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) if is_final(&status) => Err(ClientError::Rejected(chain(&status))),
            Ok(Err(status)) => Err(ClientError::Unavailable(chain(&status))),
            Err(_) => Err(ClientError::Unavailable(format!("silent for {limit:?}"))),
        }
    }
}

/// Reads the answer about `shard`. No shard has a digest of zeros: zeros stand for None.
fn stat_from_wire(
    shard: &ShardId,
    stat: &proto::ShardStat,
) -> Result<Option<ShardStat>, ClientError> {
    if !stat.present {
        return Ok(None);
    }
    let digest = <[u8; 32]>::try_from(stat.digest.as_ref());
    let digest = digest.map_err(|_| ClientError::Malformed("a digest's length".into()))?;
    Ok(Some(ShardStat {
        shard: *shard,
        len: stat.length,
        digest: Some(digest).filter(|digest| *digest != [0; 32]),
        epoch: Epoch(stat.epoch),
        damaged: stat.damaged,
    }))
}

fn scrub_from_wire(state: proto::ScrubState) -> Result<ScrubReport, ClientError> {
    let disk = state.disk.as_ref().try_into();
    let disk = disk.map_err(|_| ClientError::Malformed("a disk's id".into()))?;
    Ok(ScrubReport {
        disk: DiskId(disk),
        demanded: state.demanded,
        began_ms: state.began_ms,
        done_permille: state.done_permille,
        passes: state.passes,
        finished_ms: state.finished_ms,
        fresh_ms: state.fresh_ms,
        checked_bytes: state.checked_bytes,
        found_shards: state.found_shards,
        late: state.late,
        damaged_shards: state.damaged_shards,
        damaged_regions: state.damaged_regions,
        indexes_rebuilt: state.indexes_rebuilt,
    })
}
