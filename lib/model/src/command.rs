//! Commands: the entries of the Raft log, and their answers.
//!
//! A command is judged when it is applied: conditions, leases, epochs and counters are checked
//! there and nowhere else. Applying is deterministic: time enters as the leader's stamp on the
//! entry ([`crate::entry`]).
//! Variants are never reordered or removed, because their numbers are stored (postcard).

mod refusal;

pub use refusal::Refusal;

use crate::claim::{NodeClaim, RefusedDisk};
use crate::denied::DenyList;
use crate::ids::{
    AccountId, BlobId, BucketId, ClusterId, DiskId, Epoch, GatewayId, LeaseId, NodeId, UploadId,
    VersionId, VolumeId,
};
use crate::level::Level;
use crate::profile::Profile;
use crate::rotation::Resealed;
use crate::rows::{AccountRow, BucketRow, Digest};
use crate::settings::Settings;
use crate::shape::Shape;
use crate::shard::ShardId;
use crate::topology::{Domain, Lease, Slot, Volume};
use serde::{Deserialize, Serialize};

/// A command on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Of a command that has one ([`Command::has_key`]); None for others, which do no harm if they
    /// are applied twice.
    pub key: Option<CommandKey>,
    pub command: Command,
}

/// What makes sure that a client's command is applied once, however often it arrives.
///
/// A success spends the key for good: the same command gets the same answer again, any other is
/// refused. A refusal binds all attempts up to its own; a later attempt, with another condition or
/// a segment written again, is judged afresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandKey {
    /// The id of the blob that the command brings, else one that no blob has.
    pub id: BlobId,
    /// From 1; rises whenever the gateway changes the command.
    pub attempt: u32,
    /// Whose lease the id is from.
    pub gateway: GatewayId,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Names the cluster; the first command of all. Repeating it is harmless.
    InitCluster {
        cluster: ClusterId,
        /// What a new cluster begins at: the highest level that all its first members run.
        level: Level,
    },
    /// Adds a node or replaces what is known of it. Judged disk by disk: those that are refused are
    /// named in the outcome, and the node is registered with the others.
    RegisterNode(NodeClaim),
    /// Adds an open volume; apply assigns its id and epoch.
    CreateVolume {
        profile: Profile,
        /// What the slots are spread over.
        domain: Domain,
        slots: Vec<Slot>,
        /// True if it is made with fewer data shards than wished.
        shrunk: bool,
    },
    /// Closes a volume to new blobs and raises its epoch.
    CloseVolume {
        volume: VolumeId,
        /// The volume's present epoch; the command is refused if it is another one.
        epoch: Epoch,
    },
    /// Adds a key-encryption key, if that version isn't there.
    PutKek {
        /// Version, from 1.
        version: u32,
        /// Sealed under the root key.
        #[serde(with = "serde_bytes")]
        sealed_kek: Vec<u8>,
    },
    /// Hands a range of blob ids to a gateway; the same one again, if it is open already.
    OpenLease {
        gateway: GatewayId,
        /// The gateway's number of this command, drawn at random.
        request: u64,
    },
    /// Closes a lease. Rows name no further blob ids of it from then on. Refused as malformed if
    /// it is another gateway's.
    CloseLease { gateway: GatewayId, lease: LeaseId },
    CreateAccount {
        name: String,
        /// The proposer's number of this command, drawn at random: it gets the account that it has
        /// made already.
        request: u64,
    },
    /// Enables or disables an account.
    SetAccountEnabled {
        account: AccountId,
        enabled: bool,
        /// The revision that it makes: one more than the present one.
        revision: u64,
    },
    /// Adds or replaces an access key.
    PutAccessKey {
        access_key: String,
        account: AccountId,
        enabled: bool,
        /// The revision that it makes: 1 for a new key, else one more than the present one.
        revision: u64,
        /// Secret, owner and flag, sealed.
        #[serde(with = "serde_bytes")]
        sealed_credential: Vec<u8>,
    },
    CreateBucket {
        /// Its id: the key of this command, because the sealed owner is bound to it.
        id: BucketId,
        name: String,
        account: AccountId,
        /// The owner again, sealed.
        #[serde(with = "serde_bytes")]
        sealed_owner: Vec<u8>,
    },
    /// Removes a bucket without objects, and ends its uploads in the same moment. Refused if it has
    /// more than [`ENDED_WITH_BUCKET_MAX`](crate::machine::ENDED_WITH_BUCKET_MAX) of them.
    DeleteBucket(BucketId),
    /// Makes a version of an object current.
    PutObject(Box<PutObject>),
    /// Deletes an object's current version (absent is fine).
    DeleteObject {
        bucket: BucketId,
        /// The key, ≤ 1,024 bytes of UTF-8.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        condition: Condition,
    },
    /// Begins a multipart upload.
    CreateUpload {
        bucket: BucketId,
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        upload: UploadId,
        /// Data key, wrapped with the upload as context.
        #[serde(with = "serde_bytes")]
        wrapped_key: Vec<u8>,
        /// Headers and user metadata.
        #[serde(with = "serde_bytes")]
        sealed_manifest: Vec<u8>,
    },
    /// Adds or replaces a part.
    PutPart {
        bucket: BucketId,
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        upload: UploadId,
        /// 1–10,000.
        part: u32,
        /// Plaintext bytes.
        size: u64,
        /// The time that is sealed in `sealed_part`, in milliseconds since 1970.
        written_ms: u64,
        /// Length, time, header, ETag, checksums.
        #[serde(with = "serde_bytes")]
        sealed_part: Vec<u8>,
        blob: NewBlob,
    },
    /// Links an upload's parts into an object; parts not named are deleted.
    CompleteUpload {
        upload: UploadId,
        /// (part number, its blob as the gateway read it), in order.
        parts: Vec<(u32, BlobId)>,
        /// The object that is made; its `blobs` is [`ObjectBlobs::Parts`].
        object: Box<PutObject>,
    },
    /// Drops an upload and its parts.
    AbortUpload {
        bucket: BucketId,
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        upload: UploadId,
    },
    /// Records that shards are missing on a disk, or damaged. Refused as malformed unless `node`
    /// serves the disk.
    MarkOwed {
        node: NodeId,
        disk: DiskId,
        /// At most [`crate::machine::OWED_MARKS_MAX`].
        marks: Vec<ShardMark>,
        /// True if the shards exist but are bad.
        damaged: bool,
    },
    /// Takes deletes off a disk's queue. Refused as malformed unless `node` serves the disk.
    AckDeletes {
        /// The node that did them.
        node: NodeId,
        disk: DiskId,
        /// The last sequence number that it has done, all before it included.
        through: u64,
    },
    /// Does nothing; shows that a leader can commit.
    Nothing,
    /// Sets the group's clock to the leader's own, also back: the repair after a wrong clock has
    /// moved it.
    ResetClock,
    /// Records that owed shards are whole on a disk. Refused as malformed unless `node` serves the
    /// disk.
    FillOwed {
        node: NodeId,
        disk: DiskId,
        /// At most [`crate::machine::OWED_MARKS_MAX`].
        fills: Vec<ShardFill>,
    },
    /// Asks that somebody looks at shards that a gateway could not read.
    RaiseDoubts(Vec<NewDoubt>),
    /// The disk's own node has read these shards, and they are whole. Refused as malformed unless
    /// `node` serves the disk.
    DenyDoubts {
        node: NodeId,
        disk: DiskId,
        shards: Vec<ShardId>,
    },
    /// What another node has read of a disk's shards. Refused as malformed if `judge` serves the
    /// disk, or has no slot in a shard's volume.
    JudgeDoubts {
        judge: NodeId,
        disk: DiskId,
        verdicts: Vec<Verdict>,
    },
    /// Works off a piece of what is doomed.
    WorkOff,
    /// Raises the cluster's level; a lower one changes nothing.
    RaiseLevel { level: Level },
    /// Deletes what a write that has ended, and was not done, left on disks. Its key is the blob's
    /// id, which it spends for good. Skips what a row names.
    DiscardBlob {
        /// At most [`crate::machine::LEFTOVERS_MAX`].
        leftovers: Vec<Leftover>,
    },
    /// Replaces the cluster's settings. Their revision is one more than the present one.
    SetSettings(Settings),
    /// Ends uploads that are older than the settings allow; skips those that are not, or are gone.
    ExpireUploads {
        /// At most [`crate::machine::EXPIRED_MAX`].
        uploads: Vec<UploadId>,
    },
    /// Lets nodes take shards that nothing names for orphans again, after a restore.
    ReleaseRestore,
    /// Replaces the list of denied certificates. Its revision is one more than the present one.
    SetDenyList(DenyList),
    /// Adds the next version of the key-encryption keys and begins to seal everything again under
    /// it. Refused while another rotation has rows to pass.
    RotateKek {
        /// One more than the newest version.
        version: u32,
        /// Sealed under the root key.
        #[serde(with = "serde_bytes")]
        sealed_kek: Vec<u8>,
        /// For how long older versions stay when no row is sealed under them any more: at most
        /// [`GRACE_MS_MAX`](crate::rotation::GRACE_MS_MAX).
        grace_ms: u64,
    },
    /// A step of the rotation to `to`: what the next rows become.
    Reseal {
        to: u32,
        /// At most [`STEP_ROWS_MAX`](crate::rotation::STEP_ROWS_MAX).
        rows: Vec<Resealed>,
    },
    /// Deletes all versions of the key-encryption keys before this one. Refused while a row is
    /// sealed under one of them, and during the grace after that.
    DropKeks { before: u32 },
    /// Seals a key-encryption key anew, under another root or a newer version of the same. The key
    /// itself stays as it is.
    ResealKek {
        version: u32,
        /// The present row's [`crate::sealed::mark`]; refused as [`Refusal::Changed`] if it is
        /// another.
        was: [u8; 16],
        /// The same key, sealed anew.
        #[serde(with = "serde_bytes")]
        sealed_kek: Vec<u8>,
    },
}

/// A segment of which a write may have left shards on disks, and that no row will name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Leftover {
    /// The volume that it was written to.
    pub volume: VolumeId,
    /// The segment's number within the blob.
    pub segment: u32,
}

/// A shard that is not where it should be, or not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMark {
    pub shard: ShardId,
    /// The volume's epoch in which the disk's node looked for it.
    pub epoch: Epoch,
}

/// An owed shard that is there and whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFill {
    pub shard: ShardId,
    /// The volume's epoch in which the disk's node looked for it.
    pub epoch: Epoch,
    /// Of the bytes that the node has read.
    pub digest: Digest,
}

/// A shard that a gateway could not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDoubt {
    pub shard: ShardId,
    /// Where it should be.
    pub disk: DiskId,
    /// The volume's epoch, as the gateway knows it.
    pub epoch: Epoch,
    /// True if it is there, but its bytes are bad.
    pub damaged: bool,
}

/// What a judge found of a shard in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub shard: ShardId,
    /// True if its bytes have the digest of the blob's row.
    pub whole: bool,
}

/// An object's new current version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutObject {
    pub bucket: BucketId,
    /// The key, 1–1,024 bytes of UTF-8.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// Names the time of writing, too ([`VersionId::time_ms`]): everything that is sealed of the
    /// version is bound to it.
    pub version: VersionId,
    /// Plaintext bytes.
    pub size: u64,
    pub condition: Condition,
    /// Data key, wrapped with its context.
    #[serde(with = "serde_bytes")]
    pub wrapped_key: Vec<u8>,
    /// Parts, headers, ETag, checksums, user metadata.
    #[serde(with = "serde_bytes")]
    pub sealed_manifest: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub sealed_listing: Vec<u8>,
    /// Where the bytes are.
    pub blobs: ObjectBlobs,
}

/// Where an object's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectBlobs {
    /// One blob that this command brings.
    New(NewBlob),
    /// Blobs of another version, which is still there: a copy without bytes.
    Shared {
        bucket: BucketId,
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        version: VersionId,
    },
    /// The named parts of the upload that is being completed.
    Parts,
}

/// A blob that a gateway has just written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewBlob {
    /// Its id, from an open lease; the id of the command's key, too.
    pub blob: BlobId,
    /// Ciphertext bytes.
    pub len: u64,
    /// How it is kept.
    pub shape: Shape,
    /// Its segments, in order.
    pub segments: Vec<NewSegment>,
    /// The ciphertext itself if the shape is inline, else empty.
    #[serde(with = "serde_bytes")]
    pub inline: Vec<u8>,
    /// Segments that were begun and then written elsewhere: their shards are deleted. At most
    /// [`crate::machine::LEFTOVERS_MAX`].
    pub leftovers: Vec<Leftover>,
}

/// A segment that a gateway has just written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSegment {
    pub volume: VolumeId,
    /// The volume's epoch in which the shards were written.
    pub epoch: Epoch,
    /// Ciphertext bytes.
    pub len: u64,
    /// As in [`crate::rows::SegmentRow`].
    pub digests: Vec<Digest>,
    /// Bit i: slot i gave no receipt.
    pub owed: u32,
}

/// A condition on the current version, judged at apply.
///
/// ETags are sealed, so a gateway turns `If-Match` into the version that it saw carry that ETag. If
/// that version is no longer current, the gateway looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    None,
    /// Nothing is there (a delete marker counts as nothing).
    Absent,
    /// This version is current.
    Version(VersionId),
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done; there is nothing to report.
    Done,
    /// The volume as created or closed.
    Volume(Volume),
    Lease(Lease),
    Account(AccountRow),
    Bucket(BucketRow),
    /// The node's register is unchanged or changed.
    Registered {
        node: NodeId,
        /// Its disks that are not registered with it.
        refused: Vec<RefusedDisk>,
    },
    /// A piece of what was doomed is gone.
    WorkedOff {
        /// True if there is more.
        left: bool,
    },
}

/// A command's answer, as it is kept and sent.
pub type Answer = Result<Outcome, Refusal>;

/// Which certificate role may propose a command, or ask a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposer {
    Gateway,
    Storage,
    /// Operators only.
    Operator,
    /// The metadata leader itself.
    Leader,
}

impl Command {
    /// The number of the last variant.
    pub const LAST: u32 = 36;

    /// Returns true if applying it may change what [`crate::answer::topology`] returns, apart from
    /// volumes' bytes, or the deny list.
    #[must_use]
    pub fn changes_topology(&self) -> bool {
        match self {
            Self::InitCluster { .. }
            | Self::RegisterNode(_)
            | Self::CreateVolume { .. }
            | Self::CloseVolume { .. }
            | Self::OpenLease { .. }
            | Self::CloseLease { .. }
            | Self::SetSettings(_)
            | Self::SetDenyList(_) => true,
            Self::PutKek { .. }
            | Self::CreateAccount { .. }
            | Self::SetAccountEnabled { .. }
            | Self::PutAccessKey { .. }
            | Self::CreateBucket { .. }
            | Self::DeleteBucket(_)
            | Self::PutObject(_)
            | Self::DeleteObject { .. }
            | Self::CreateUpload { .. }
            | Self::PutPart { .. }
            | Self::CompleteUpload { .. }
            | Self::AbortUpload { .. }
            | Self::MarkOwed { .. }
            | Self::AckDeletes { .. }
            | Self::Nothing
            | Self::ResetClock
            | Self::FillOwed { .. }
            | Self::RaiseDoubts(_)
            | Self::DenyDoubts { .. }
            | Self::JudgeDoubts { .. }
            | Self::WorkOff
            | Self::RaiseLevel { .. }
            | Self::DiscardBlob { .. }
            | Self::ExpireUploads { .. }
            | Self::ReleaseRestore
            | Self::RotateKek { .. }
            | Self::Reseal { .. }
            | Self::DropKeks { .. }
            | Self::ResealKek { .. } => false,
        }
    }

    /// Returns true for a command that has a key: a client's, because nobody knows what else
    /// happened between its first arrival and its second; and a step of a rotation, because a
    /// gateway that has outlived a restore must not take it with keys that are gone.
    #[must_use]
    pub fn has_key(&self) -> bool {
        match self {
            Self::CreateBucket { .. }
            | Self::DeleteBucket(_)
            | Self::PutObject(_)
            | Self::DeleteObject { .. }
            | Self::CreateUpload { .. }
            | Self::PutPart { .. }
            | Self::CompleteUpload { .. }
            | Self::AbortUpload { .. }
            | Self::DiscardBlob { .. }
            | Self::Reseal { .. } => true,
            Self::InitCluster { .. }
            | Self::RegisterNode(_)
            | Self::CreateVolume { .. }
            | Self::CloseVolume { .. }
            | Self::PutKek { .. }
            | Self::OpenLease { .. }
            | Self::CloseLease { .. }
            | Self::CreateAccount { .. }
            | Self::SetAccountEnabled { .. }
            | Self::PutAccessKey { .. }
            | Self::MarkOwed { .. }
            | Self::AckDeletes { .. }
            | Self::Nothing
            | Self::ResetClock
            | Self::FillOwed { .. }
            | Self::RaiseDoubts(_)
            | Self::DenyDoubts { .. }
            | Self::JudgeDoubts { .. }
            | Self::WorkOff
            | Self::RaiseLevel { .. }
            | Self::SetSettings(_)
            | Self::ExpireUploads { .. }
            | Self::ReleaseRestore
            | Self::SetDenyList(_)
            | Self::RotateKek { .. }
            | Self::DropKeks { .. }
            | Self::ResealKek { .. } => false,
        }
    }

    /// Returns the blob that the command brings, if it brings one.
    #[must_use]
    pub fn new_blob(&self) -> Option<&NewBlob> {
        match self {
            Self::PutObject(put) => match &put.blobs {
                ObjectBlobs::New(blob) => Some(blob),
                ObjectBlobs::Shared { .. } | ObjectBlobs::Parts => None,
            },
            Self::PutPart { blob, .. } => Some(blob),
            _ => None,
        }
    }

    /// Returns what the command stores that is sealed under a key-encryption key.
    #[must_use]
    pub fn sealed_records(&self) -> Vec<&[u8]> {
        match self {
            Self::PutObject(put) | Self::CompleteUpload { object: put, .. } => {
                vec![&put.wrapped_key, &put.sealed_listing]
            }
            Self::CreateUpload { wrapped_key, .. } => vec![wrapped_key],
            Self::CreateBucket { sealed_owner, .. } => vec![sealed_owner],
            Self::PutAccessKey {
                sealed_credential, ..
            } => vec![sealed_credential],
            _ => Vec::new(),
        }
    }

    /// Returns the id that the command gives to something new, if it does: a blob's or a bucket's.
    /// The command's key must be the same, so no id is given twice.
    #[must_use]
    pub fn brings(&self) -> Option<BlobId> {
        match self {
            Self::CreateBucket { id, .. } => Some(BlobId(id.0)),
            _ => self.new_blob().map(|new| new.blob),
        }
    }

    /// Says who may propose this command (an operator may propose what a gateway may).
    #[must_use]
    pub fn proposers(&self) -> &'static [Proposer] {
        use Proposer::{Gateway, Leader, Operator, Storage};
        match self {
            Self::InitCluster { .. }
            | Self::CreateVolume { .. }
            | Self::CloseVolume { .. }
            | Self::Nothing
            | Self::WorkOff
            | Self::RaiseLevel { .. }
            | Self::ExpireUploads { .. } => &[Leader],
            Self::RegisterNode(_)
            | Self::AckDeletes { .. }
            | Self::MarkOwed { .. }
            | Self::FillOwed { .. }
            | Self::DenyDoubts { .. }
            | Self::JudgeDoubts { .. } => &[Storage],
            Self::PutKek { .. } | Self::DropKeks { .. } => &[Gateway, Operator],
            Self::CloseLease { .. } => &[Gateway, Leader],
            Self::OpenLease { .. }
            | Self::CreateBucket { .. }
            | Self::DeleteBucket(_)
            | Self::PutObject(_)
            | Self::DeleteObject { .. }
            | Self::CreateUpload { .. }
            | Self::PutPart { .. }
            | Self::CompleteUpload { .. }
            | Self::AbortUpload { .. }
            | Self::DiscardBlob { .. }
            | Self::RaiseDoubts(_)
            | Self::Reseal { .. } => &[Gateway],
            Self::CreateAccount { .. }
            | Self::SetAccountEnabled { .. }
            | Self::PutAccessKey { .. }
            | Self::ResetClock
            | Self::SetSettings(_)
            | Self::ReleaseRestore
            | Self::SetDenyList(_)
            | Self::RotateKek { .. }
            | Self::ResealKek { .. } => &[Operator],
        }
    }
}

#[cfg(test)]
mod tests;
