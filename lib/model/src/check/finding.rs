//! What a check finds, in words that name ids and never an object's key or anybody's name.

use crate::ids::{AccountId, BlobId, BucketId, UploadId, VolumeId};
use std::fmt;

/// Makes the rules with their short names and what they say.
macro_rules! rules {
    ($($(#[$about:meta])* $rule:ident = $name:literal, $says:literal;)+) => {
        /// A rule between rows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[$about])* $rule,)+
        }

        impl Rule {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$rule),+];

            /// A short name for programs, which stays.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)+
                }
            }
        }

        impl fmt::Display for Rule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$rule => $says,)+
                })
            }
        }
    };
}

rules! {
    // Of these, one side is counted and the other one kept (`ledger`).
    /// A blob counts who names it.
    References = "references", "references to a blob";
    /// A segment is found by its volume.
    Filed = "filed", "rows that find a segment by its volume";
    /// A segment that owes shards has a row that says so.
    Owed = "owed", "rows of a segment that owes shards";
    /// An older version is found by its id.
    VersionIds = "version_ids", "rows that find a version by its id";
    /// A bucket counts its objects.
    Objects = "objects", "objects of a bucket";
    /// A bucket counts its versions.
    Versions = "versions", "versions of a bucket";
    /// A bucket counts its bytes.
    Bytes = "bytes", "bytes of a bucket";
    /// A bucket counts its uploads.
    Uploads = "uploads", "uploads of a bucket";
    /// Every bucket has counters, and nothing else has.
    BucketCounters = "bucket_counters", "counters of a bucket";
    /// An account counts the objects of its buckets.
    AccountObjects = "account_objects", "objects of an account";
    /// An account counts the versions of its buckets.
    AccountVersions = "account_versions", "versions of an account";
    /// An account counts the bytes of its buckets.
    AccountBytes = "account_bytes", "bytes of an account";
    /// An account counts the uploads of its buckets.
    AccountUploads = "account_uploads", "uploads of an account";
    /// A bucket is found by its name.
    BucketNames = "bucket_names", "rows that find a bucket by its name";
    /// A bucket is found by its owner.
    BucketOwners = "bucket_owners", "rows that find a bucket by its owner";
    /// An account is found by its name.
    AccountNames = "account_names", "rows that find an account by its name";
    /// An access key is found by its account.
    AccessKeys = "access_keys", "rows that find an access key by its account";
    /// Open volumes are listed.
    OpenVolumes = "open_volumes", "rows that list an open volume";
    /// An upload is found by its id.
    UploadTargets = "upload_targets", "rows that find an upload by its id";
    // Of these, one row or few are enough to see it.
    /// A row can be read.
    Row = "row", "a row can't be read";
    /// A key can be taken apart, and is the only one for what it says.
    Key = "key", "a key is malformed";
    /// What a blob's row says fits together.
    Blob = "blob", "a blob's row";
    /// What a segment's row says fits together, and fits its volume.
    Segment = "segment", "a segment's row";
    /// What an owed row says fits together.
    OwedRow = "owed_row", "an owed row";
    /// A volume's counts and sums are those of the segments in it.
    Volume = "volume", "a volume's counts and sums";
    /// A delete is in the queue of the disk that has the shard, under a number of that queue.
    Delete = "delete", "a queued delete";
    /// What is queued for deletion isn't named by a row.
    QueuedAndNamed = "queued_and_named", "a segment is named and queued for deletion";
    /// A part is that of an upload, or of one that has ended.
    Part = "part", "an upload's part";
    /// What is doomed is numbered, and not in use.
    Doomed = "doomed", "what is doomed";
    /// What is remembered of a command is that of an open lease.
    Spent = "spent", "what is remembered of a command";
    /// A disk is with the node that lists it, and counts its doubts.
    Disk = "disk", "a disk";
    /// The totals are the sums of everything.
    Totals = "totals", "the totals";
    /// A bucket with something in it is there.
    Bucket = "bucket", "a bucket";
    /// What seals a record is there, and a rotation counts what it has to seal again.
    Kek = "kek", "key-encryption keys";
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Bucket(BucketId),
    Account(AccountId),
    Blob(BlobId),
    Segment(VolumeId, BlobId, u32),
    Volume(VolumeId),
    Upload(UploadId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(bucket) => write!(f, "{bucket}"),
            Self::Account(account) => write!(f, "{account}"),
            Self::Blob(blob) => write!(f, "{blob}"),
            Self::Segment(volume, blob, segment) => write!(f, "{volume}/{blob}/{segment}"),
            Self::Volume(volume) => write!(f, "{volume}"),
            Self::Upload(upload) => write!(f, "upload {upload}"),
        }
    }
}

/// A contradiction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub rule: Rule,
    /// Where, and what is there.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// The most findings that are kept; the rest are counted.
pub const FINDINGS_MAX: usize = 10_000;

/// Findings, the first [`FINDINGS_MAX`] of them by name.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Findings {
    pub named: Vec<Finding>,
    /// How many there are besides.
    pub more: u64,
}

impl Findings {
    pub(super) fn add(&mut self, rule: Rule, what: impl Into<String>) {
        if self.named.len() < FINDINGS_MAX {
            let what = what.into();
            self.named.push(Finding { rule, what });
        } else {
            self.more += 1;
        }
    }
}
