//! What the metadata group stores: one type per kind of row. `keys` says under which key.
//!
//! Sealed fields (`Vec<u8>` named `sealed_…` or `wrapped_…`) are opaque here: only a gateway can
//! open them. Every row is stored by [`crate::codec`], a version byte first.

use crate::ids::{
    AccountId, BlobId, BucketId, DiskId, Epoch, NodeId, UploadId, VersionId, VolumeId,
};
use crate::profile::Profile;
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// The digest of a whole shard: blake3 of its cells without checksums.
pub type Digest = [u8; 32];

/// The current version of a key: all that a listing needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    /// Tells when it was written, too.
    pub version: VersionId,
    /// Plaintext bytes.
    pub size: u64,
    /// ETag and other things shown in listings.
    pub sealed_listing: Vec<u8>,
    /// True for a delete marker (versioned buckets only).
    pub delete_marker: bool,
}

/// One version of an object: how to open it and which blobs hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    /// Plaintext bytes.
    pub size: u64,
    /// The data key, wrapped with its context.
    pub wrapped_key: Vec<u8>,
    /// Parts, lengths, headers, ETag, checksums, user metadata.
    pub sealed_manifest: Vec<u8>,
    pub sealed_listing: Vec<u8>,
    /// The parts' blobs, in order.
    pub blobs: Vec<BlobId>,
    /// True for a delete marker.
    pub delete_marker: bool,
}

/// Where a blob is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRow {
    /// How many version and part rows name it.
    pub references: u32,
    /// Ciphertext bytes.
    pub len: u64,
    /// How it is kept.
    pub shape: Shape,
    /// Its segments, in order; none for an inline blob.
    pub segments: Vec<SegmentRow>,
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
    /// blake3 of each slot's shard; for copies one digest, for coded one per slot.
    pub digests: Vec<Digest>,
    /// Bit i: slot i should hold a shard but does not.
    pub owed: u32,
}

impl SegmentRow {
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
    pub wrapped_key: Vec<u8>,
    /// Headers and user metadata of the future object.
    pub sealed_manifest: Vec<u8>,
}

/// One uploaded part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRow {
    /// Plaintext bytes.
    pub size: u64,
    /// Length, time, stream header, ETag, checksums.
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
    pub sealed_credential: Vec<u8>,
}

/// A key-encryption key, sealed under the root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KekRow {
    /// Its version, from 1.
    pub version: u32,
    pub sealed_kek: Vec<u8>,
}

/// How a volume's blobs are kept, in numbers, so that objects by margin are counted without a scan.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumeCounts {
    /// Coded segments without an owed shard.
    pub coded: u64,
    /// How many of `coded` fill only the first i+1 data columns (k−1 numbers): their other data
    /// slots hold no shard and can't lose one.
    pub short: Vec<u64>,
    /// Copied segments without an owed shard, by their first slot (blob id modulo n).
    pub copies: Vec<u64>,
    /// Segments with owed shards; each has an owed row of its own.
    pub owed: u64,
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
    /// The node that lists it; None once that node has registered without it.
    pub node: Option<NodeId>,
    /// Number of the first delete that it has not done, or of the next one to come: where a look
    /// at the queue begins. An engine keeps traces of removed rows for a while.
    pub first_delete: u64,
    /// Number of the last delete queued for it.
    pub last_delete: u64,
    /// How many doubt rows it has.
    pub doubts: u32,
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
}

/// The numbers of the doomed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DoomedQueue {
    /// The oldest one that is there; `next` if there is none.
    pub first: u64,
    /// The number of the next one.
    pub next: u64,
}

/// The remembered answer of a command with a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// When the command was applied.
    pub applied_ms: u64,
    /// Its answer, as encoded.
    pub answer: Vec<u8>,
    /// For a refusal: blake3 of the encoded command. The refusal is repeated for that very command;
    /// another command with the same token is judged afresh.
    pub refused: Option<Digest>,
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
    pub key: Vec<u8>,
}

/// A listing's or upload's place: key, then upload id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadPlace {
    pub key: Vec<u8>,
    pub upload: UploadId,
}
