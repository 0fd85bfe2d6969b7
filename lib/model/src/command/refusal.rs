//! Why a command did nothing. Variants are never reordered or removed, because their numbers are
//! stored (postcard).

use crate::ids::{AccountId, BlobId, Epoch, VersionId, VolumeId};
use crate::level::Level;
use serde::{Deserialize, Serialize};

/// Why a command did nothing. It has changed nothing, except that its key, if it has one, is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("the metadata belongs to another cluster")]
    OtherCluster,
    #[error("no such bucket")]
    NoSuchBucket,
    /// No such key, or its current version is a delete marker.
    #[error("no such key")]
    NoSuchKey,
    #[error("no such upload")]
    NoSuchUpload,
    /// A part named in a completion doesn't exist, or has been replaced in the meantime.
    #[error("part {0} is not there or was replaced")]
    NoSuchPart(u32),
    /// The condition doesn't hold.
    #[error("the condition does not hold; current version: {current:?}")]
    Condition {
        /// What is current now.
        current: Option<VersionId>,
    },
    /// The bucket's name is taken, by `owner`.
    #[error("bucket name taken")]
    BucketExists { owner: AccountId },
    /// The bucket has versions or uploads in it.
    #[error("bucket not empty")]
    BucketNotEmpty,
    /// The account's name or the access key is taken by another.
    #[error("name taken")]
    NameTaken,
    #[error("no such account")]
    NoSuchAccount,
    /// The lease is closed, belongs to another gateway, or doesn't contain the blob id.
    #[error("{blob} is not in an open lease")]
    LeaseClosed { blob: BlobId },
    /// The key has been used for another command: a gateway's mistake, and an alarm.
    #[error("the key {blob} is that of another command")]
    KeyUsed { blob: BlobId },
    /// A later attempt with the key has been judged, or the key was given up: nobody waits for
    /// this answer any more.
    #[error("a later attempt with the key {blob} has been judged")]
    Superseded { blob: BlobId },
    /// The account, access key or sealed key has been changed by somebody else meanwhile.
    #[error("changed by somebody else meanwhile: look at it again")]
    Changed,
    /// The volume has moved on: write elsewhere.
    #[error("{volume} is not in {epoch} any more")]
    StaleVolume {
        volume: VolumeId,
        /// The epoch that was given.
        epoch: Epoch,
    },
    /// Too few receipts or too many digests: a gateway's mistake.
    #[error("malformed command: {0}")]
    Malformed(String),
    /// The source of a copy is gone.
    #[error("the source of the copy is gone")]
    SourceGone,
    /// The time that the proposer has sealed is too far from the group's: seal it anew.
    #[error("the sealed time is too far from the time of the group, {now_ms} ms since 1970")]
    SealedTime {
        /// The group's time.
        now_ms: u64,
    },
    /// The rows contradict each other. A defect of the program, or damage: an alarm.
    #[error("the metadata contradicts itself: {0}")]
    Internal(String),
    /// The command is of a level that the cluster has not reached.
    #[error(
        "this takes level {needs}, and the cluster is at level {level}: upgrade every process, then \
         `megalith meta raise-level`"
    )]
    Level {
        /// From which on the command may be used.
        needs: Level,
        /// The cluster's.
        level: Level,
    },
    /// A first key-encryption key is to be made, and there are records under an older one: the
    /// table was lost.
    #[error(
        "the key-encryption keys are lost: records name them, and their table is empty. Nothing was \
         changed; restore the metadata from a backup that has them"
    )]
    KeksLost,
    /// What is to be stored is sealed under a version of the key-encryption keys that has been
    /// replaced, or that isn't there: seal it anew.
    #[error("sealed under another key-encryption key than version {newest}, the newest")]
    KekReplaced {
        /// The version to seal under.
        newest: u32,
    },
    /// The older key-encryption keys are still needed, or a rotation is under way.
    #[error("the rotation to key-encryption key {to} goes on: {why}")]
    Rotating { to: u32, why: String },
}
