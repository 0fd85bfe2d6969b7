//! What the metadata group stores: one type per kind of row. `keys` says under which key.
//!
//! Sealed fields (`Vec<u8>` named `sealed_…` or `wrapped_…`) are opaque here: only a gateway can
//! open them. Every row is stored by [`crate::codec`], a version byte first.

use crate::claim::DiskProof;
use crate::command::Answer;
use crate::ids::{
    AccountId, BlobId, BucketId, DiskId, Epoch, LeaseId, NodeId, UploadId, VersionId, VolumeId,
};
use crate::profile::Profile;
use crate::shape::Shape;
use crate::shard::ShardId;
use crate::sum::ShardSum;
use crate::topology::{Domain, VolumeState};
use serde::{Deserialize, Serialize};

/// The digest of a whole shard: the first half of [`crate::shard::ShardDigest`]. It finds damage
/// and other shards than the one that was written; content is authenticated cell by cell.
pub type Digest = [u8; 16];

/// One version of an object: how to list it, how to open it, and which blobs hold it. The current
/// version is the row of its key's name; the others are rows of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    /// Tells when it was written, too.
    pub version: VersionId,
    /// Its place among the versions of its key, in the order of applying: 1 if there was none.
    pub sequence: u64,
    /// Plaintext bytes.
    pub size: u64,
    /// The data key, wrapped with its context.
    #[serde(with = "serde_bytes")]
    pub wrapped_key: Vec<u8>,
    /// Parts, lengths, headers, ETag, checksums, user metadata.
    #[serde(with = "serde_bytes")]
    pub sealed_manifest: Vec<u8>,
    /// ETag and other things shown in listings.
    #[serde(with = "serde_bytes")]
    pub sealed_listing: Vec<u8>,
    /// The parts' blobs, in order.
    pub blobs: Vec<BlobId>,
    /// What forbids to delete it, if anything does.
    pub lock: Option<LockRow>,
    /// True for a delete marker (versioned buckets only).
    pub delete_marker: bool,
}

/// What forbids to delete a version. In the clear, because apply must judge by it; the manifest
/// seals it, too. Nothing sets it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRow {
    pub retention: Option<Retention>,
    pub legal_hold: bool,
}

/// Until when a version may not be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// True if nobody may shorten it (S3's mode COMPLIANCE); false for GOVERNANCE.
    pub compliance: bool,
    /// Milliseconds since 1970.
    pub until_ms: u64,
}

/// Where a blob is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRow {
    /// The bucket that it was written for. Copies in other buckets may name the blob, too.
    pub bucket: BucketId,
    /// The command that brought it. While the row is there, this is what keeps that command from
    /// being applied again.
    pub proposal: Proposal,
    /// How many version and part rows name it.
    pub references: u32,
    /// Ciphertext bytes.
    pub len: u64,
    /// How it is kept.
    pub shape: Shape,
    /// Its segments, in order; none for an inline blob.
    pub segments: Vec<SegmentRow>,
    /// The ciphertext itself if the shape is inline, else empty.
    #[serde(with = "serde_bytes")]
    pub inline: Vec<u8>,
}

/// What is remembered of a client's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The attempt of its key ([`crate::command::CommandKey`]).
    pub attempt: u32,
    /// The first 8 bytes of blake3 of the encoded envelope.
    pub digest: [u8; 8],
}

/// What became of a command whose key has no blob row: it brought no blob, or the blob is gone, or
/// it was refused. Kept as long as the key's lease is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentRow {
    pub proposal: Proposal,
    pub answer: Answer,
}

/// Where one segment of a blob is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRow {
    /// The volume whose slots hold its shards.
    pub volume: VolumeId,
    /// The volume's profile, which never changes.
    pub profile: Profile,
    /// Ciphertext bytes.
    pub len: u64,
    /// Those of each slot's shard; for copies one digest, for coded one per slot.
    pub digests: Vec<Digest>,
    /// Bit i: slot i should hold a shard but does not.
    pub owed: u32,
    /// The id under which the shards are filed on disks, if it isn't the blob's own: a segment that
    /// is coded again gets a fresh one. Nothing sets it yet.
    pub filed: Option<BlobId>,
}

/// Says whose segment is filed under an id in a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiledRow {
    /// The blob, if it has another id than the one that its segment is filed under.
    pub owner: Option<BlobId>,
}

impl SegmentRow {
    /// Returns the id under which the shards of this segment of `blob` are filed.
    #[must_use]
    pub fn filed(&self, blob: BlobId) -> BlobId {
        self.filed.unwrap_or(blob)
    }

    /// Returns the digest that `slot`'s shard must have.
    #[must_use]
    pub fn digest(&self, shape: Shape, slot: usize) -> Option<&Digest> {
        match shape {
            Shape::Coded => self.digests.get(slot),
            Shape::Copies => self.digests.first(),
            Shape::Inline => None,
        }
    }
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRow {
    pub id: BucketId,
    pub name: String,
    /// Its owner. The sealed copy decides.
    pub account: AccountId,
    pub created_ms: u64,
    /// The owner, bound to id and name. Without the root key, a writer of metadata can't give
    /// somebody's bucket to another account, which would then read it through the front door.
    #[serde(with = "serde_bytes")]
    pub sealed_owner: Vec<u8>,
}

/// Exact counts of a bucket or account, changed by the entry that changes the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Keys with a current version that isn't a delete marker.
    pub objects: u64,
    /// Versions, delete markers included.
    pub versions: u64,
    /// Plaintext bytes of all versions.
    pub bytes: u64,
    /// Multipart uploads in progress.
    pub uploads: u64,
}

/// A multipart upload in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRow {
    /// Its data key, wrapped with the upload as context.
    #[serde(with = "serde_bytes")]
    pub wrapped_key: Vec<u8>,
    /// Headers and user metadata of the future object.
    #[serde(with = "serde_bytes")]
    pub sealed_manifest: Vec<u8>,
}

/// One uploaded part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRow {
    /// Plaintext bytes.
    pub size: u64,
    /// Length, time, blob, the stream's IV, ETag, checksums.
    #[serde(with = "serde_bytes")]
    pub sealed_part: Vec<u8>,
    pub blob: BlobId,
}

/// An owner of buckets and keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    pub id: AccountId,
    pub name: String,
    /// Whether its keys work. Not sealed: whoever can write metadata can change it.
    pub enabled: bool,
    pub created_ms: u64,
    /// The proposer's number of the command that made it.
    pub request: u64,
    /// How often it was changed.
    pub revision: u64,
}

/// An access key. The secret, the owner and the enabled flag are sealed: without the root key, a
/// writer of metadata can't forge them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeyRow {
    /// The public half, unique.
    pub access_key: String,
    /// The account it belongs to. The sealed copy decides.
    pub account: AccountId,
    /// Shown in lists. The sealed copy decides.
    pub enabled: bool,
    pub created_ms: u64,
    #[serde(with = "serde_bytes")]
    pub sealed_credential: Vec<u8>,
    /// How often it was changed.
    pub revision: u64,
}

/// A key-encryption key, sealed under the root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KekRow {
    /// Its version, from 1.
    pub version: u32,
    #[serde(with = "serde_bytes")]
    pub sealed_kek: Vec<u8>,
}

/// A placement unit. [`crate::topology::Volume`] is what others see of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRow {
    pub id: VolumeId,
    /// k+m of every blob in it.
    pub profile: Profile,
    /// Raised by closing and by every change of slots.
    pub epoch: Epoch,
    /// The last epoch in which it was open. Writes of later epochs are refused, and so is every
    /// write once a backup was restored: then it is 0.
    pub open_until: Epoch,
    /// The number of the next lease at the time when it was closed: writes that began before come
    /// under lower ones. None while it is open.
    pub closed_before: Option<LeaseId>,
    pub domain: Domain,
    /// n = k+m slots: shard number `i` of its blobs is on `slots[i]`.
    pub slots: Vec<SlotRow>,
    /// Slots on their way to other disks. Nothing sets it yet.
    pub moves: Vec<MoveRow>,
    /// True if it was made with fewer data shards than the cluster's profile, because too few
    /// domains were alive.
    pub shrunk: bool,
}

/// A slot of a volume. Which node serves the disk is the affair of the disk's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRow {
    pub disk: DiskId,
    /// The epoch in which the disk got the slot. Writes of earlier epochs went to another disk.
    pub since: Epoch,
}

/// A slot on its way to another disk, which pulls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRow {
    pub slot: u8,
    pub to: DiskId,
    /// The epoch in which it began; names the move.
    pub epoch: Epoch,
}

impl VolumeRow {
    /// Returns whether it takes new blobs.
    #[must_use]
    pub fn state(&self) -> VolumeState {
        match self.closed_before {
            None => VolumeState::Open,
            Some(_) => VolumeState::Closed,
        }
    }

    /// Returns the slot's disk, if there is such a slot.
    #[must_use]
    pub fn disk(&self, slot: u8) -> Option<DiskId> {
        self.slots.get(usize::from(slot)).map(|slot| slot.disk)
    }
}

/// A volume's content in numbers, so that objects by margin are counted without a scan, and disks
/// can show what they hold without a list.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumeCounts {
    /// Ciphertext bytes of the blobs in it, parity not counted.
    pub bytes: u64,
    /// Coded segments without an owed shard.
    pub coded: u64,
    /// How many of `coded` fill only the first i+1 data columns (k−1 numbers): their other data
    /// slots hold no shard and can't lose one.
    pub short: Vec<u64>,
    /// Copied segments without an owed shard, by their first slot (blob id modulo n).
    pub copies: Vec<u64>,
    /// Segments with owed shards; each has an owed row of its own.
    pub owed: u64,
    /// What each slot holds, owed shards left out.
    pub sums: Vec<ShardSum>,
}

impl VolumeCounts {
    /// Returns the counts of an empty volume.
    #[must_use]
    pub fn empty(profile: Profile) -> Self {
        Self {
            bytes: 0,
            coded: 0,
            short: vec![0; profile.data() - 1],
            copies: vec![0; profile.shards()],
            owed: 0,
            sums: vec![ShardSum::default(); profile.shards()],
        }
    }
}

/// Named by an owed row's key: a segment that lacks shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedRow {
    /// How the blob is kept.
    pub shape: Shape,
    /// For coded segments: how many data columns have cells; for copies 1.
    pub columns: u8,
    /// Bit i: slot i lacks its shard.
    pub owed: u32,
    /// Bit i: slot i's shard was found damaged (a subset of `owed`).
    pub damaged: u32,
    /// When the first bit was set.
    pub since_ms: u64,
}

/// The state of a disk, kept up to date by the command that registers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRow {
    pub id: DiskId,
    /// The node that lists it, or that listed it last.
    pub node: NodeId,
    /// False once that node has registered without it.
    pub listed: bool,
    pub standing: DiskStanding,
    /// Number of the first delete that it has not done, or of the next one to come: where a look
    /// at the queue begins. An engine keeps traces of removed rows for a while.
    pub first_delete: u64,
    /// Number of the last delete queued for it.
    pub last_delete: u64,
    /// How many doubt rows it has.
    pub doubts: u32,
    /// What shows that a node has the disk's superblock, from the first registration on.
    pub proof: DiskProof,
}

/// What the cluster expects of a disk. Nothing but `In` is set yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskStanding {
    /// It serves.
    In,
    /// Its slots move elsewhere; it serves meanwhile.
    Draining,
    /// It is away, and nothing is done about it until then (milliseconds since 1970).
    Maintenance { until_ms: u64 },
    /// It is away, and its slots are made again elsewhere.
    Lost,
    /// It never serves again under this id.
    Gone,
}

/// An order to remove what a disk holds of a slot that has left it. Its key names disk, volume and
/// slot. Nothing queues one yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRow {
    /// Shards written in this epoch or later stay.
    pub below: Epoch,
    /// When it was queued, in milliseconds since 1970.
    pub since_ms: u64,
}

/// A delete that the target of a move has to do. Nothing queues one yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveDeleteRow {
    /// The id under which the shard is filed.
    pub filed: BlobId,
    pub segment: u32,
    /// What the delete took off the slot's sum; nothing if the shard was owed.
    pub taken: ShardSum,
}

/// A shard that a gateway could not read, and that nobody has looked at since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtRow {
    pub since_ms: u64,
    /// The volume's epoch, as the gateway knew it.
    pub epoch: Epoch,
    /// True if the shard is there, but its bytes are bad, according to the gateway.
    pub damaged: bool,
    /// True if the disk's own node finds it whole.
    pub denied: bool,
}

/// A shard that is to be deleted, in its disk's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRow {
    pub shard: ShardId,
    /// The log index of the entry that queued it: a read that was looked up before may want it.
    pub index: u64,
    /// The group's time then, in milliseconds since 1970.
    pub queued_ms: u64,
}

/// Something that no reader finds any more and that still has rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DoomedRow {
    /// Blobs of a version that is gone: each has one reference too many.
    Blobs(Vec<BlobId>),
    /// The parts of an upload that has ended.
    Parts {
        upload: UploadId,
        /// Numbers of the parts whose references went to a version, ascending.
        linked: Vec<u32>,
    },
    /// What is remembered of a closed lease's commands.
    Spent {
        lease: LeaseId,
        /// The first blob id that may have a row yet. An engine keeps traces of removed rows.
        from: BlobId,
    },
}

/// The numbers of the doomed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DoomedQueue {
    /// The oldest one that is there; `next` if there is none.
    pub first: u64,
    /// The number of the next one.
    pub next: u64,
}

/// Counts of everything, changed by the same log entry that changes the things counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// All buckets' counters together.
    pub counters: Counters,
    pub buckets: u64,
    /// Blobs of the shape inline.
    pub inline_blobs: u64,
    /// Rows in the disks' delete queues.
    pub deletes_pending: u64,
}

/// Which object an upload is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadTarget {
    pub bucket: BucketId,
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
}

/// A listing's or upload's place: key, then upload id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadPlace {
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    pub upload: UploadId,
}
