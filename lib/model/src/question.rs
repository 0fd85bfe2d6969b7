//! One type for each question to the metadata group, and the type of its reply.
//!
//! [`Query`] and [`Reply`] are what travels. These types tie the two together: a caller gets either
//! the reply to its question or an error, and never has to match on other replies. The order of the
//! fields is fixed by the wire format (postcard) and must not change.
//!
//! A question is named by what it asks for, so rows and commands have some of the same names. Code
//! writes it with its module: `question::Object`.

use crate::denied;
use crate::ids::{AccountId, BlobId, BucketId, DiskId, UploadId, VersionId, VolumeId};
use crate::query::{
    BlobView, DataStatus, DoubtView, HeldSegment, Listing, ObjectView, OwedPage, PartPage, Query,
    Reply, ResealPage, UploadListing, Witness,
};
use crate::rotation;
use crate::rows::UploadRow;
use crate::rows::{self, AccessKeyRow, AccountRow, BucketRow, KekRow, UploadPlace};
use crate::settings;
use crate::shard::ShardId;
use crate::topology;
use serde::{Deserialize, Serialize};

/// A question with its own type of reply.
pub trait Question: Into<Query> + Send {
    /// What a good reply holds.
    type Reply: Send;

    /// Takes the reply apart; None if it answers another question.
    fn from_reply(reply: Reply) -> Option<Self::Reply>;
}

macro_rules! questions {
    ($($question:ident => $kind:ident($reply:ty),)*) => {$(
        impl From<$question> for Query {
            fn from(question: $question) -> Self {
                Self::$question(question)
            }
        }

        impl Question for $question {
            type Reply = $reply;

            fn from_reply(reply: Reply) -> Option<$reply> {
                let Reply::$kind(found) = reply else {
                    return None;
                };
                Some(found)
            }
        }
    )*};
}

questions! {
    Bucket => Bucket(Option<BucketRow>),
    Buckets => Buckets(Vec<BucketRow>),
    Object => Object(Option<Box<ObjectView>>),
    Blobs => Blobs(Vec<BlobView>),
    List => Listing(Listing),
    Upload => Upload(Option<UploadRow>),
    Uploads => Uploads(UploadListing),
    Parts => Parts(PartPage),
    AccessKey => AccessKey(Option<(AccessKeyRow, AccountRow)>),
    Accounts => Accounts(Vec<AccountRow>),
    AccessKeys => AccessKeys(Vec<AccessKeyRow>),
    Keks => Keks(Vec<KekRow>),
    Volumes => Volumes(Vec<topology::Volume>),
    Counters => Counters(rows::Counters),
    Deletes => Deletes(Vec<(u64, ShardId)>),
    Data => Data(Box<DataStatus>),
    DiskVolumes => Volumes(Vec<topology::Volume>),
    Held => Held(Vec<HeldSegment>),
    Doubts => Doubts(Vec<DoubtView>),
    OwedShards => OwedShards(OwedPage),
    Settings => Settings(settings::Settings),
    Witnesses => Witnesses(Vec<Witness>),
    DenyList => DenyList(denied::DenyList),
    Rotation => Rotation(Option<rotation::Rotation>),
    ToReseal => ToReseal(ResealPage),
}

/// A bucket by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    pub name: String,
}

/// A page of an account's buckets, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets {
    pub account: AccountId,
    /// Names after this one.
    pub after: String,
    pub max: u32,
}

/// An object's current version, with what is needed to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub bucket: BucketId,
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// This version instead of the current one.
    pub version: Option<VersionId>,
    /// Whether to add the rows of its first blobs (as many as fit a page), inline bytes and
    /// volumes.
    pub with_blobs: bool,
}

/// More blobs, for objects of many parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blobs {
    /// At most [`crate::query::PAGE_ROWS_MAX`].
    pub blobs: Vec<BlobId>,
}

/// A page of a bucket's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    pub bucket: BucketId,
    #[serde(with = "serde_bytes")]
    pub prefix: Vec<u8>,
    /// If not empty, keys are folded into common prefixes at this text.
    #[serde(with = "serde_bytes")]
    pub delimiter: Vec<u8>,
    /// Only keys (and common prefixes) strictly after this one. If it is a common prefix,
    /// everything under it is skipped.
    #[serde(with = "serde_bytes")]
    pub after: Vec<u8>,
    /// The most keys and common prefixes together (≤ [`crate::query::PAGE_ROWS_MAX`]).
    pub max: u32,
}

/// An upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    pub bucket: BucketId,
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    pub upload: UploadId,
}

/// A page of uploads in progress, by key, then upload id. Ids made by [`UploadId::new`] sort by
/// age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploads {
    pub bucket: BucketId,
    #[serde(with = "serde_bytes")]
    pub prefix: Vec<u8>,
    /// As [`List::delimiter`].
    #[serde(with = "serde_bytes")]
    pub delimiter: Vec<u8>,
    /// After this place; an upload id of all 0xff means "after all uploads of that key".
    pub after: Option<UploadPlace>,
    /// The most rows of the page.
    pub max: u32,
}

/// A page of an upload's parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    pub upload: UploadId,
    /// Parts with greater numbers.
    pub after: u32,
    pub max: u32,
}

/// An access key, with its account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    pub access_key: String,
}

/// All accounts, a page by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// Names after this one.
    pub after: String,
    pub max: u32,
}

/// All access keys, or one account's, a page by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeys {
    /// Only this account's.
    pub account: Option<AccountId>,
    /// Keys after this one.
    pub after: String,
    pub max: u32,
}

/// All key-encryption keys, by version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keks;

/// Volumes by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volumes {
    pub volumes: Vec<VolumeId>,
}

/// The counters of a bucket. No part of the program asks for them yet: meant for quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub bucket: BucketId,
}

/// A page of a disk's delete queue, by sequence number, as far as no read may want it any more
/// ([`crate::freeing`]). Only the leader answers; a storage node is shown nothing until the leader
/// has heard all gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletes {
    pub disk: DiskId,
    pub max: u32,
    /// Deletes with greater numbers; 0 for the head of the queue.
    pub after: u64,
    /// Wait for no read: the disk nears its reserve, or the whole queue is to be seen.
    pub urgent: bool,
}

/// What `status` shows of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data;

/// The volumes that have a slot on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskVolumes {
    pub disk: DiskId,
}

/// A page of what a volume's slots should hold, by blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub volume: VolumeId,
    /// After this blob and segment; None at the start.
    pub after: Option<(BlobId, u32)>,
    /// The most segments of the page; fewer come at the end.
    pub max: u32,
}

#[cfg(test)]
pub(crate) mod tests;

/// A page of doubts, by disk: all for an operator, and for a storage node those about its disks and
/// those that it may judge. There are few, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubts {
    /// After this shard of this disk; None at the start.
    pub after: Option<(DiskId, ShardId)>,
    pub max: u32,
}

/// A page of the shards that a disk should hold and owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedShards {
    pub disk: DiskId,
    /// [`OwedPage::next`] of the page before; None at the start.
    pub after: Option<(VolumeId, BlobId, u32)>,
}

/// The cluster's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings;

/// What speaks for shards that are on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witnesses {
    pub disk: DiskId,
    /// At most [`crate::query::PAGE_ROWS_MAX`]; further ones get no answer.
    pub shards: Vec<ShardId>,
}

/// The deny list of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyList;

/// How far the rotation of key-encryption keys is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation;

/// The next rows that a rotation has to seal again, as many as one step takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToReseal;
