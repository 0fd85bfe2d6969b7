//! The objects of the measurement: a megabyte each, coded 4+2, names in no order, rows as long as
//! a gateway makes them.

use super::Failed;
use megalith_metadata::MetaHandle;
use megalith_model::claim::{DiskProof, NodeClaim};
use megalith_model::command::{
    Command, CommandKey, Condition, Envelope, NewBlob, NewSegment, ObjectBlobs, Outcome, PutObject,
};
use megalith_model::ids::{
    AccountId, BlobId, BucketId, DiskId, Epoch, GatewayId, LeaseId, NodeId, VersionId, VolumeId,
};
use megalith_model::profile::Profile;
use megalith_model::query::Reply;
use megalith_model::question;
use megalith_model::shape::Shape;
use megalith_model::shard::row_digest;
use megalith_model::topology::{Disk, Domain, Node, Slot};
use std::sync::atomic::{AtomicU64, Ordering};

const OBJECT_LEN: u64 = 1 << 20;
const WRAPPED_KEY_LEN: usize = 118;
const MANIFEST_LEN: usize = 144;
const LISTING_LEN: usize = 108;
const SEALED_OWNER_LEN: usize = 48;
const BUCKET: BucketId = BucketId(1);
const VOLUMES: u64 = 64;
/// Objects and parts that are written after the load.
const MARGIN: u64 = 3_000_000;
/// Objects a second, by the member's clock.
const PER_SECOND: u64 = 60;
/// The member's clock, in milliseconds: moved on by the objects, not by real time.
pub static CLOCK_MS: AtomicU64 = AtomicU64::new(1_000_000);

/// Makes objects by number.
#[derive(Clone)]
pub struct Objects {
    epoch: Epoch,
}

/// A number without an order (splitmix64).
pub fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The key of an object.
pub fn key(number: u64) -> Vec<u8> {
    let random = mixed(number);
    let (account, name) = (random >> 42, random & 0x3ff_ffff_ffff);
    format!("account-{account:07}/files/{name:013}.bin").into_bytes()
}

/// So many bytes without a pattern.
pub fn bytes(number: u64, len: usize) -> Vec<u8> {
    let words = (0..).flat_map(|word| mixed(number ^ (word << 40)).to_le_bytes());
    words.take(len).collect()
}

const GATEWAY: GatewayId = GatewayId(1);

/// Proposes a command. Its key is the id that it gives, else `spare`, of the first lease, which no
/// object has.
async fn propose(handle: &MetaHandle, spare: u64, command: Command) -> Result<Outcome, Failed> {
    let key = CommandKey {
        id: command.brings().unwrap_or(BlobId(1 + spare)),
        attempt: 1,
        gateway: GATEWAY,
    };
    let envelope = Envelope {
        key: command.has_key().then_some(key),
        command,
    };
    Ok(handle.propose(&envelope).await??)
}

async fn done(handle: &MetaHandle, command: Command) -> Result<Outcome, Failed> {
    propose(handle, 0, command).await
}

impl Objects {
    /// Makes nodes, an account, a bucket, volumes, and leases for `count` objects and some more.
    pub async fn prepare(handle: &MetaHandle, count: u64) -> Result<Self, Failed> {
        let disk = |node| DiskId([node as u8; 16]);
        for node in 1..=6 {
            let described = Node {
                id: NodeId(node),
                rpc_address: format!("10.0.0.{node}:7001"),
                data_address: format!("10.0.0.{node}:7002"),
                zone: String::new(),
                disks: vec![Disk {
                    id: disk(node),
                    capacity: 1 << 44,
                }],
            };
            let claim = NodeClaim::new(described, |_| DiskProof([1; 32]));
            let command = Command::RegisterNode(claim);
            done(handle, command).await?;
        }
        let name = "bench".to_owned();
        let account = Command::CreateAccount {
            name: name.clone(),
            request: 0,
        };
        done(handle, account).await?;
        // The first lease is for commands without blobs.
        for request in 0..=1 + (count + MARGIN) / LeaseId::BLOBS {
            let gateway = GATEWAY;
            done(handle, Command::OpenLease { gateway, request }).await?;
        }
        let account = AccountId(1);
        let bucket = Command::CreateBucket {
            id: BUCKET,
            name,
            account,
            sealed_owner: bytes(0, SEALED_OWNER_LEN),
        };
        done(handle, bucket).await?;
        let slots = (1..=6).map(|node| Slot {
            node: NodeId(node),
            disk: disk(node),
        });
        let mut objects = Self::found();
        for _ in 0..VOLUMES {
            let command = Command::CreateVolume {
                profile: Profile::new(4, 2)?,
                domain: Domain::Node,
                slots: slots.clone().collect(),
                shrunk: false,
            };
            if let Outcome::Volume(volume) = done(handle, command).await? {
                objects.epoch = volume.epoch;
            }
        }
        Ok(objects)
    }

    /// The objects of a directory that [`Objects::prepare`] made.
    pub fn found() -> Self {
        Self { epoch: Epoch(1) }
    }

    pub fn bucket(&self) -> BucketId {
        BUCKET
    }

    /// Returns when a number is written, and moves the clock to it.
    pub fn moment(&self, number: u64) -> u64 {
        let time_ms = 1_000_000 + number * 1_000 / PER_SECOND;
        CLOCK_MS.fetch_max(time_ms, Ordering::Relaxed);
        time_ms
    }

    /// A blob of one megabyte.
    pub fn blob(&self, number: u64) -> NewBlob {
        let segment = NewSegment {
            volume: VolumeId(1 + number % VOLUMES),
            epoch: self.epoch,
            len: OBJECT_LEN,
            digests: (0..6)
                .map(|slot| row_digest(blake3::hash(&(number * 6 + slot).to_le_bytes()).as_bytes()))
                .collect(),
            owed: 0,
        };
        NewBlob {
            blob: BlobId(LeaseId::BLOBS + number),
            len: OBJECT_LEN,
            shape: Shape::Coded,
            segments: vec![segment],
            inline: Vec::new(),
            leftovers: Vec::new(),
        }
    }

    /// Proposes a command that brings no blob, or one that isn't a client's; `spare` is a number
    /// that no other command of a client has.
    pub async fn without_blob(
        &self,
        handle: &MetaHandle,
        spare: u64,
        command: Command,
    ) -> Result<Outcome, Failed> {
        propose(handle, 1 + spare, command).await
    }

    /// Proposes a command that brings a blob.
    pub async fn with_blob(
        &self,
        handle: &MetaHandle,
        command: Command,
    ) -> Result<Outcome, Failed> {
        done(handle, command).await
    }

    /// Writes one.
    pub async fn put(&self, handle: &MetaHandle, number: u64) -> Result<(), Failed> {
        let time_ms = self.moment(number);
        let object = PutObject {
            bucket: self.bucket(),
            key: key(number),
            version: VersionId::new(time_ms, mixed(number).to_be_bytes()),
            size: OBJECT_LEN,
            condition: Condition::None,
            wrapped_key: bytes(number, WRAPPED_KEY_LEN),
            sealed_manifest: bytes(number ^ 1 << 62, MANIFEST_LEN),
            sealed_listing: bytes(number ^ 1 << 63, LISTING_LEN),
            blobs: ObjectBlobs::New(self.blob(number)),
        };
        done(handle, Command::PutObject(Box::new(object))).await?;
        Ok(())
    }

    /// Reads one.
    pub async fn get(&self, handle: &MetaHandle, number: u64) -> Result<(), Failed> {
        let query = question::Object {
            bucket: self.bucket(),
            key: key(number),
            version: None,
            with_blobs: true,
        };
        match handle.query(query.into()).await? {
            Reply::Object(Some(_)) => Ok(()),
            _other => Err(format!("object {number} is not there").into()),
        }
    }
}
