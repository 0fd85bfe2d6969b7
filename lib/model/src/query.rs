//! Questions to the metadata group and their answers. All are linearizable.

use crate::command::Proposer;
use crate::denied::DenyList;
use crate::ids::{BlobId, DiskId, Epoch, NodeId, VersionId, VolumeId};
use crate::machine::DOUBT_SETTLED_MS;
use crate::question;
use crate::rotation::{Rotation, SealedRow};
use crate::rows::{
    AccessKeyRow, AccountRow, BlobRow, BucketRow, Counters, Digest, DoubtRow, KekRow, PartRow,
    UploadPlace, UploadRow, VersionRow,
};
use crate::settings::Settings;
use crate::shard::ShardId;
use crate::topology::Volume;
use serde::{Deserialize, Serialize};

/// The most rows in one page of an answer.
pub const PAGE_ROWS_MAX: u32 = 1_000;

/// A question. Each variant holds the type of [`crate::question`] of the same name.
///
/// Variants are never reordered or removed: their numbers travel (postcard).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    Bucket(question::Bucket),
    Buckets(question::Buckets),
    Object(question::Object),
    Blobs(question::Blobs),
    List(question::List),
    Upload(question::Upload),
    Uploads(question::Uploads),
    Parts(question::Parts),
    AccessKey(question::AccessKey),
    Accounts(question::Accounts),
    AccessKeys(question::AccessKeys),
    Keks(question::Keks),
    Volumes(question::Volumes),
    Counters(question::Counters),
    Deletes(question::Deletes),
    Data(question::Data),
    DiskVolumes(question::DiskVolumes),
    Held(question::Held),
    Doubts(question::Doubts),
    OwedShards(question::OwedShards),
    Settings(question::Settings),
    Witnesses(question::Witnesses),
    DenyList(question::DenyList),
    Rotation(question::Rotation),
    ToReseal(question::ToReseal),
}

impl Query {
    /// Says who may ask this (an operator may ask what a gateway may). Of what concerns disks, a
    /// storage node may ask only what concerns itself ([`crate::answer::concerns`]).
    #[must_use]
    pub fn askers(&self) -> &'static [Proposer] {
        use Proposer::{Gateway, Operator, Storage};
        match self {
            Self::Bucket(_)
            | Self::Buckets(_)
            | Self::Object(_)
            | Self::Blobs(_)
            | Self::List(_)
            | Self::Upload(_)
            | Self::Uploads(_)
            | Self::Parts(_)
            | Self::AccessKey(_)
            | Self::Keks(_)
            | Self::Rotation(_)
            | Self::ToReseal(_)
            | Self::Counters(_) => &[Gateway],
            Self::Volumes(_) => &[Gateway, Storage],
            Self::Accounts(_)
            | Self::AccessKeys(_)
            | Self::Data(_)
            | Self::Settings(_)
            | Self::DenyList(_) => &[Operator],
            Self::Deletes(_)
            | Self::DiskVolumes(_)
            | Self::Held(_)
            | Self::Doubts(_)
            | Self::OwedShards(_)
            | Self::Witnesses(_) => &[Storage, Operator],
        }
    }
}

impl Query {
    /// Returns whether only the leader answers this: the reply depends on what gateways have told
    /// it.
    #[must_use]
    pub fn is_for_leader(&self) -> bool {
        matches!(self, Self::Deletes(_))
    }
}

/// A reply. The one who asked takes it apart with [`question::Question::from_reply`].
///
/// Variants are never reordered or removed: their numbers travel (postcard).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Query::Bucket`].
    Bucket(Option<BucketRow>),
    /// To [`Query::Buckets`].
    Buckets(Vec<BucketRow>),
    /// To [`Query::Object`]: None if there is no such version, or a delete marker is current.
    Object(Option<Box<ObjectView>>),
    /// To [`Query::Blobs`]: those that are there.
    Blobs(Vec<BlobView>),
    /// To [`Query::List`].
    Listing(Listing),
    /// To [`Query::Upload`].
    Upload(Option<UploadRow>),
    /// To [`Query::Uploads`].
    Uploads(UploadListing),
    /// To [`Query::Parts`]. Also empty if there is no such upload: [`Query::Upload`] tells the two
    /// apart.
    Parts(PartPage),
    /// To [`Query::AccessKey`], with its account.
    AccessKey(Option<(AccessKeyRow, AccountRow)>),
    /// To [`Query::Accounts`].
    Accounts(Vec<AccountRow>),
    /// To [`Query::AccessKeys`].
    AccessKeys(Vec<AccessKeyRow>),
    /// To [`Query::Keks`], by version.
    Keks(Vec<KekRow>),
    /// To [`Query::Volumes`] and [`Query::DiskVolumes`].
    Volumes(Vec<Volume>),
    /// To [`Query::Counters`].
    Counters(Counters),
    /// To [`Query::Deletes`]: (sequence, what), ascending.
    Deletes(Vec<(u64, ShardId)>),
    /// To [`Query::Data`].
    Data(Box<DataStatus>),
    /// To [`Query::Held`].
    Held(Vec<HeldSegment>),
    /// To [`Query::Doubts`].
    Doubts(Vec<DoubtView>),
    /// To [`Query::OwedShards`].
    OwedShards(OwedPage),
    /// To [`Query::Settings`].
    Settings(Settings),
    /// To [`Query::Witnesses`], in the order of the question's shards.
    Witnesses(Vec<Witness>),
    /// To [`Query::DenyList`].
    DenyList(DenyList),
    /// To [`Query::Rotation`]: None if there never was one.
    Rotation(Option<Rotation>),
    /// To [`Query::ToReseal`].
    ToReseal(ResealPage),
}

/// The next rows of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResealPage {
    /// The rotation, if there is one with rows to pass.
    pub rotation: Option<Rotation>,
    /// (row key, row): those that an older version seals. May be empty while there are rows to
    /// pass: then a step without rows passes the next ones.
    pub rows: Vec<(Vec<u8>, SealedRow)>,
}

/// What speaks for a shard that is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Witness {
    /// A row names its segment.
    Row,
    /// Its id is of a lease that is open, or was not given out yet: a row may name it later.
    Lease,
    /// It is in the disk's delete queue, or may be: the queue is too long to look through.
    Delete,
    /// The metadata was restored from a backup, and no operator has released that yet.
    Restore,
    /// Nothing. No row names it, and none will: its lease is closed.
    Nobody,
}

/// A shard in doubt, with what is needed to settle it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtView {
    pub disk: DiskId,
    pub shard: ShardId,
    pub row: DoubtRow,
    /// Who may judge it, in turn, once the disk's own node has denied it or has had its time
    /// ([`DoubtView::judge`]).
    pub judges: Vec<NodeId>,
    /// The shard, if a row still names it there.
    pub wanted: Option<WantedShard>,
}

impl DoubtView {
    /// Returns whose turn it is to judge at `now_ms`: the judges one after the other, each for as
    /// long as the disk's own node had; None while that one has time.
    #[must_use]
    pub fn judge(&self, now_ms: u64) -> Option<NodeId> {
        let age_ms = now_ms.saturating_sub(self.row.since_ms);
        if !self.row.denied && age_ms < DOUBT_SETTLED_MS {
            return None;
        }
        let turn = usize::try_from(age_ms / DOUBT_SETTLED_MS).unwrap_or(0);
        self.judges.get(turn % self.judges.len().max(1)).copied()
    }
}

/// What a shard must be like, according to its blob's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedShard {
    /// Bytes of its cells.
    pub len: u64,
    pub digest: Digest,
    /// The volume's epoch now.
    pub epoch: Epoch,
}

/// A page of owed shards of one disk.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OwedPage {
    pub shards: Vec<(ShardId, WantedShard)>,
    /// Where the next page begins; None at the end.
    pub next: Option<(VolumeId, BlobId, u32)>,
}

/// A segment, and the slots of its volume that hold a shard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSegment {
    /// The id under which its shards are filed.
    pub blob: BlobId,
    /// The segment's number within the blob.
    pub segment: u32,
    /// Bit i: slot i holds a shard and does not owe it.
    pub slots: u32,
}

/// All that a read of an object needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectView {
    pub row: VersionRow,
    /// Its first blobs, in order, if the question wanted them.
    pub blobs: Vec<BlobView>,
    /// The volumes that `blobs` name.
    pub volumes: Vec<Volume>,
}

/// A blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobView {
    pub blob: BlobId,
    pub row: BlobRow,
}

/// A key's current version, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedVersion {
    /// Tells when it was written, too.
    pub version: VersionId,
    /// Plaintext bytes.
    pub size: u64,
    /// ETag and other things shown in listings.
    #[serde(with = "serde_bytes")]
    pub sealed_listing: Vec<u8>,
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listing {
    /// (key, version), ascending.
    pub entries: Vec<(Vec<u8>, ListedVersion)>,
    /// Common prefixes, ascending.
    pub common_prefixes: Vec<Vec<u8>>,
    /// The place after which the next page starts ([`question::List::after`]); None at the end.
    pub next: Option<Vec<u8>>,
}

/// A page of an upload's parts.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartPage {
    /// (number, row), ascending.
    pub parts: Vec<(u32, PartRow)>,
    pub truncated: bool,
}

/// A page of uploads.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UploadListing {
    pub uploads: Vec<UploadPlace>,
    /// Common prefixes, ascending.
    pub common_prefixes: Vec<Vec<u8>>,
    pub next: Option<UploadPlace>,
}

/// The state of the data, exact at one point of the log.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DataStatus {
    pub counters: Counters,
    pub buckets: u64,
    pub inline_blobs: u64,
    /// Every volume with its counts and the owed segments in it, for objects by margin.
    pub volumes: Vec<VolumeStatus>,
    /// Segments that lack shards.
    pub owed_segments: u64,
    /// Shards found damaged and not repaired yet.
    pub damaged_shards: u64,
    /// Deletes that disks have not done yet.
    pub deletes_pending: u64,
    /// The metadata was restored from a backup, and no operator has released that yet.
    pub restored: bool,
}

/// One volume's share of [`DataStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    pub volume: Volume,
    pub counts: crate::rows::VolumeCounts,
    /// For owed segments: (shape, slot of the first copy or, if coded, how many data columns have
    /// cells, owed mask) → how many.
    pub owed: Vec<(crate::shape::Shape, u8, u32, u64)>,
}
