//! Questions to the metadata group and their answers. All are linearizable.

use crate::ids::{AccountId, BlobId, BucketId, DiskId, UploadId, VersionId, VolumeId};
use crate::rows::{
    AccessKeyRow, AccountRow, BlobRow, BucketRow, Counters, KekRow, NameRow, PartRow, UploadPlace,
    UploadRow, VersionRow,
};
use crate::shard::ShardId;
use crate::topology::Volume;
use serde::{Deserialize, Serialize};

/// The most rows in one page of an answer.
pub const PAGE_ROWS_MAX: u32 = 1_000;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// A bucket by name. → [`Reply::Bucket`]
    Bucket { name: String },
    /// Buckets of an account, by name. → [`Reply::Buckets`]
    Buckets {
        account: AccountId,
        /// Names after this one.
        after: String,
        /// At most so many.
        max: u32,
    },
    /// An object's current version, with what it takes to read it. → [`Reply::Object`]
    Object {
        bucket: BucketId,
        key: Vec<u8>,
        /// This version instead of the current one.
        version: Option<VersionId>,
        /// Also the rows of its first blobs (as many as fit a page), inline bytes and volumes.
        with_blobs: bool,
    },
    /// More blobs, for objects of many parts. → [`Reply::Blobs`]
    Blobs {
        /// At most [`PAGE_ROWS_MAX`].
        blobs: Vec<BlobId>,
    },
    /// A page of a bucket's keys. → [`Reply::Listing`]
    List(ListQuery),
    /// An upload. → [`Reply::Upload`]
    Upload {
        bucket: BucketId,
        key: Vec<u8>,
        upload: UploadId,
    },
    /// A page of uploads in progress, by key, then upload id (which sorts by age where made by
    /// [`UploadId::new`]). → [`Reply::Uploads`]
    Uploads {
        bucket: BucketId,
        /// Keys that begin so.
        prefix: Vec<u8>,
        /// Folds keys at this text.
        delimiter: Vec<u8>,
        /// After this place; an upload id of all 0xff means: after all uploads of that key.
        after: Option<UploadPlace>,
        /// At most so many.
        max: u32,
    },
    /// A page of an upload's parts. → [`Reply::Parts`]
    Parts {
        upload: UploadId,
        /// Parts with greater numbers.
        after: u32,
        /// At most so many.
        max: u32,
    },
    /// An access key. → [`Reply::AccessKey`]
    AccessKey { access_key: String },
    /// All accounts (a page by name). → [`Reply::Accounts`]
    Accounts {
        /// Names after this one.
        after: String,
        /// At most so many.
        max: u32,
    },
    /// All access keys, or one account's. → [`Reply::AccessKeys`]
    AccessKeys {
        /// Only this account's.
        account: Option<AccountId>,
        /// Keys after this one.
        after: String,
        /// At most so many.
        max: u32,
    },
    /// All key-encryption keys. → [`Reply::Keks`]
    Keks,
    /// Volumes by number. → [`Reply::Volumes`]
    Volumes { volumes: Vec<VolumeId> },
    /// Counters of a bucket. → [`Reply::Counters`]
    Counters { bucket: BucketId },
    /// The head of a disk's delete queue. → [`Reply::Deletes`]
    Deletes {
        disk: DiskId,
        /// At most so many.
        max: u32,
    },
    /// What `status` shows of the data. → [`Reply::Data`]
    Data,
    /// Volumes with a slot on a disk. → [`Reply::Volumes`]
    DiskVolumes { disk: DiskId },
    /// A page of what a volume's slots should hold, by blob. → [`Reply::Held`]
    Held {
        volume: VolumeId,
        /// After this blob and segment; None at the start.
        after: Option<(BlobId, u32)>,
        /// At most so many; fewer come at the end.
        max: u32,
    },
}

/// A page of a bucket's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListQuery {
    pub bucket: BucketId,
    /// Keys that begin so.
    pub prefix: Vec<u8>,
    /// Folds keys into common prefixes at this text, where not empty.
    pub delimiter: Vec<u8>,
    /// Keys (and common prefixes) strictly after this one. A common prefix given here is skipped
    /// whole.
    pub after: Vec<u8>,
    /// At most so many keys and common prefixes together (≤ [`PAGE_ROWS_MAX`]).
    pub max: u32,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Query::Bucket`].
    Bucket(Option<BucketRow>),
    /// To [`Query::Buckets`].
    Buckets(Vec<BucketRow>),
    /// To [`Query::Object`]: None where there is no such version, or a delete marker is current.
    Object(Option<Box<ObjectView>>),
    /// To [`Query::Blobs`]: those that are there.
    Blobs(Vec<BlobView>),
    /// To [`Query::List`].
    Listing(Listing),
    /// To [`Query::Upload`].
    Upload(Option<UploadRow>),
    /// To [`Query::Uploads`].
    Uploads(UploadListing),
    /// To [`Query::Parts`]. Empty also where there is no such upload: [`Query::Upload`] tells.
    Parts {
        /// (number, row), ascending.
        parts: Vec<(u32, PartRow)>,
        truncated: bool,
    },
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
}

/// A segment, and the slots of its volume that hold a shard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSegment {
    pub blob: BlobId,
    /// The segment's number within it.
    pub segment: u32,
    /// Bit i: slot i holds a shard and does not owe it.
    pub slots: u32,
}

/// All that a read of an object needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectView {
    /// Which version it is.
    pub version: VersionId,
    pub row: VersionRow,
    /// Its first blobs, in order, if they were asked for.
    pub blobs: Vec<BlobView>,
    /// The volumes that `blobs` name.
    pub volumes: Vec<Volume>,
}

/// A blob and, where inline, its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobView {
    pub blob: BlobId,
    pub row: BlobRow,
    /// Ciphertext of an inline blob.
    pub inline: Vec<u8>,
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listing {
    /// (key, row), ascending.
    pub entries: Vec<(Vec<u8>, NameRow)>,
    /// Common prefixes, ascending.
    pub common_prefixes: Vec<Vec<u8>>,
    /// Where the next page starts ([`ListQuery::after`]); None at the end.
    pub next: Option<Vec<u8>>,
}

/// A page of uploads.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UploadListing {
    pub uploads: Vec<(UploadPlace, u64)>,
    /// Common prefixes, ascending.
    pub common_prefixes: Vec<Vec<u8>>,
    pub next: Option<UploadPlace>,
}

/// The data's standing, exact at one point of the log.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DataStatus {
    pub counters: Counters,
    pub buckets: u64,
    pub inline_blobs: u64,
    /// Every volume with its counts and the owed segments in it, for objects by margin.
    pub volumes: Vec<VolumeStatus>,
    /// Segments that lack shards.
    pub owed_segments: u64,
    /// Shards found damaged and not yet repaired.
    pub damaged_shards: u64,
    /// Deletes that disks still owe.
    pub deletes_pending: u64,
}

/// One volume's share of [`DataStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    pub volume: Volume,
    pub counts: crate::rows::VolumeCounts,
    /// For owed segments: (shape, first copy's slot or, where coded, how many data columns have
    /// cells, owed mask) → how many.
    pub owed: Vec<(crate::shape::Shape, u8, u32, u64)>,
}
