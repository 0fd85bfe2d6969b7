//! The stream of all metadata rows, for an operator's backup.

use crate::connect::{ChannelSettings, MESSAGE_LEN_MAX, channel};
use crate::group::Endpoint;
use megalith_identity::{Role, TlsMaterial};
use megalith_proto::v1 as proto;
use proto::metadata_client::MetadataClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Status, Streaming};

/// A member that doesn't start to send within this time is skipped.
const BEGIN_DEADLINE: Duration = Duration::from_secs(10);

/// Asks members of the metadata group for all their rows.
#[derive(Clone)]
pub struct BackupClient {
    endpoints: Vec<Endpoint>,
    material: Arc<TlsMaterial>,
}

impl BackupClient {
    /// Builds a client of the group that `endpoints` are members of.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, material: Arc<TlsMaterial>) -> Self {
        Self {
            endpoints,
            material,
        }
    }

    /// Begins a stream of all rows, or continues the one that `request` names. The members take
    /// turns: the same `turn` asks the same member.
    pub async fn rows(
        &self,
        request: proto::SnapshotRequest,
        turn: usize,
    ) -> Result<Streaming<proto::SnapshotPiece>, Status> {
        let place = turn.checked_rem(self.endpoints.len());
        let Some(member) = place.map(|place| &self.endpoints[place]) else {
            return Err(Status::failed_precondition("no member is known"));
        };
        let role = (Role::Metadata, member.node.0);
        let channel = channel(
            &member.address,
            role,
            &self.material,
            &ChannelSettings::default(),
        );
        let mut client = MetadataClient::new(channel).max_decoding_message_size(MESSAGE_LEN_MAX);
        let begun = timeout(BEGIN_DEADLINE, Box::pin(client.backup(request))).await;
        match begun {
            Ok(reply) => Ok(reply?.into_inner()),
            Err(_late) => Err(Status::deadline_exceeded("no stream began in time")),
        }
    }
}

/// The checksum of a piece: crc32c over keys and values, each behind its length.
#[must_use]
pub fn rows_checksum(rows: &[proto::SnapshotRow]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for row in rows {
        for part in [&row.key, &row.value] {
            let len = u32::try_from(part.len()).expect("rows are below 4 GiB");
            digest.update(&len.to_le_bytes());
            digest.update(part);
        }
        digest.update(&[u8::from(row.deleted)]);
    }
    u32::try_from(digest.finalize()).expect("a 32-bit checksum")
}
