//! Where each row of the metadata group is kept. A key is one byte for the table, then the key's
//! fields, encoded so that byte order is the order we scan in. Numbers are big-endian. In tables
//! with a row for each object (2 to 7, 26, 30) buckets, volumes, blobs and segments are **short**:
//! one byte for how many bytes follow, then the number without leading zeros.
//!
//! Table numbers are stored; they are never changed or reused.
//!
//! | no | table                  | key after the table byte          | value               |
//! |----|------------------------|-----------------------------------|---------------------|
//! | 1  | meta                   | item (one byte, see [`Meta`])     | by item             |
//! | 2  | names                  | bucket, key as it is              | `VersionRow`        |
//! | 3  | versions               | bucket, escaped key, inverted sequence | `VersionRow`        |
//! | 4  | blobs                  | blob                              | `BlobRow`           |
//! | 5  | version sequences      | bucket, escaped key, version      | `u64`               |
//! | 6  | blobs by volume        | volume, filed blob, segment       | `FiledRow`          |
//! | 7  | owed                   | volume, filed blob, segment       | `OwedRow`           |
//! | 8  | volumes                | volume                            | `VolumeRow`         |
//! | 9  | volume counts          | volume                            | `VolumeCounts`      |
//! | 10 | open volumes           | volume                            | nothing             |
//! | 11 | nodes                  | node                              | `Node`              |
//! | 12 | disks                  | disk                              | `DiskRow`           |
//! | 13 | deletes                | disk, sequence                    | `ShardId`         |
//! | 14 | uploads                | bucket, escaped key, upload       | `UploadRow`         |
//! | 15 | upload targets         | upload                            | `UploadTarget`      |
//! | 16 | parts                  | upload, part number               | `PartRow`           |
//! | 17 | buckets                | bucket                            | `BucketRow`         |
//! | 18 | buckets by name        | name                              | `BucketId`          |
//! | 19 | buckets by owner       | account, name                     | `BucketId`          |
//! | 20 | accounts               | account                           | `AccountRow`        |
//! | 21 | accounts by name       | name                              | `AccountId`         |
//! | 22 | access keys            | access key                        | `AccessKeyRow`      |
//! | 23 | access keys by account | account, access key               | nothing             |
//! | 24 | key-encryption keys    | version                           | `KekRow`            |
//! | 25 | leases                 | lease                             | `Lease`             |
//! | 26 | spent                  | blob                              | `SpentRow`          |
//! | 27 | chunks                 | disk, volume, slot                | `ChunkRow`          |
//! | 28 | bucket counters        | bucket                            | `Counters`          |
//! | 29 | account counters       | account                           | `Counters`          |
//! | 30 | doubts                 | disk, volume, blob, segment, slot | `DoubtRow`          |
//! | 31 | doomed                 | number                            | `DoomedRow`         |
//! | 32 | deletes of moves       | volume, slot, sequence            | `MoveDeleteRow`     |
//!
//! A variable field that others follow is escaped (`escape`); one that ends the key isn't.
//! Inverted sequences (every bit flipped) make the newest sort first. The current version's row is
//! that of its name; tables 3 and 5 are for the others. Nothing writes to them yet, nor to chunks
//! and deletes of moves.

mod escape;
mod parse;
#[cfg(test)]
mod tests;

use crate::ids::{
    AccountId, BlobId, BucketId, DiskId, Epoch, GroupId, LeaseId, NodeId, UploadId, VersionId,
    VolumeId,
};
use crate::shard::ShardId;
use std::borrow::Cow;

pub use parse::KeyError;

/// Makes an enum whose numbers are stored, with the list of all of them.
macro_rules! numbered {
    (
        $(#[$of:meta])*
        pub enum $name:ident {
            $($(#[$about:meta])* $variant:ident = $number:literal,)+
        }
    ) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$about])* $variant = $number,)+
        }

        impl $name {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the one with that number.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| *known as u8 == number)
            }
        }
    };
}

numbered! {
    /// A row of the meta table; the numbers are stored.
    pub enum Meta {
        /// The cluster's id: `ClusterId`.
        Cluster = 1,
        /// The group's time, the greatest stamp applied: `u64` milliseconds.
        Clock = 2,
        /// The next volume's number: `VolumeId`.
        NextVolume = 3,
        /// The next lease's number, and so the next blob ids: `LeaseId`.
        NextLease = 5,
        /// The next account's id: `AccountId`.
        NextAccount = 7,
        /// Counts of everything: `Totals`.
        Totals = 8,
        /// What is doomed: `DoomedQueue`.
        Doomed = 10,
        /// The cluster's level; 1 without this row: `Level`.
        Level = 11,
        /// The cluster's settings; their defaults without this row: `Settings`.
        Settings = 12,
        /// There after a restore until an operator releases it: nothing.
        Restored = 13,
        /// Which certificates are denied; none without this row: `DenyList`.
        DenyList = 14,
        /// How far the rotation of key-encryption keys is; there was none without this row:
        /// `Rotation`.
        Rotation = 15,
    }
}

/// The key of any row, taken apart. Text fields are bytes: stored text isn't trusted to be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowKey<'a> {
    Meta(Meta),
    Name {
        bucket: BucketId,
        key: Cow<'a, [u8]>,
    },
    Version {
        bucket: BucketId,
        key: Cow<'a, [u8]>,
        sequence: u64,
    },
    VersionSequence {
        bucket: BucketId,
        key: Cow<'a, [u8]>,
        version: VersionId,
    },
    Blob(BlobId),
    VolumeBlob {
        volume: VolumeId,
        blob: BlobId,
        segment: u32,
    },
    Owed {
        volume: VolumeId,
        blob: BlobId,
        segment: u32,
    },
    Volume(VolumeId),
    VolumeCounts(VolumeId),
    OpenVolume(VolumeId),
    Node(NodeId),
    Disk(DiskId),
    Delete {
        disk: DiskId,
        sequence: u64,
    },
    Upload {
        bucket: BucketId,
        key: Cow<'a, [u8]>,
        upload: UploadId,
    },
    UploadTarget(UploadId),
    Part {
        upload: UploadId,
        part: u32,
    },
    Bucket(BucketId),
    BucketName(Cow<'a, [u8]>),
    AccountBucket {
        account: AccountId,
        name: Cow<'a, [u8]>,
    },
    Account(AccountId),
    AccountName(Cow<'a, [u8]>),
    AccessKey(Cow<'a, [u8]>),
    AccountAccessKey {
        account: AccountId,
        access_key: Cow<'a, [u8]>,
    },
    Kek(u32),
    Lease(LeaseId),
    Spent(BlobId),
    Chunk {
        disk: DiskId,
        volume: VolumeId,
        slot: u8,
    },
    MoveDelete {
        volume: VolumeId,
        slot: u8,
        sequence: u64,
    },
    BucketCounters(BucketId),
    AccountCounters(AccountId),
    Doubt {
        disk: DiskId,
        shard: ShardId,
    },
    Doomed(u64),
}

numbered! {
    /// A table's number: the first byte of its rows' keys.
    pub enum Table {
        Meta = 1,
        Names = 2,
        Versions = 3,
        Blobs = 4,
        VersionSequences = 5,
        VolumeBlobs = 6,
        Owed = 7,
        Volumes = 8,
        VolumeCounts = 9,
        OpenVolumes = 10,
        Nodes = 11,
        Disks = 12,
        Deletes = 13,
        Uploads = 14,
        UploadTargets = 15,
        Parts = 16,
        Buckets = 17,
        BucketNames = 18,
        AccountBuckets = 19,
        Accounts = 20,
        AccountNames = 21,
        AccessKeys = 22,
        AccountAccessKeys = 23,
        Keks = 24,
        Leases = 25,
        Spent = 26,
        Chunks = 27,
        BucketCounters = 28,
        AccountCounters = 29,
        Doubts = 30,
        Doomed = 31,
        MoveDeletes = 32,
    }
}

/// Keys from `from` (inclusive) to `to` (exclusive).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub from: Vec<u8>,
    /// The first key after the range.
    pub to: Vec<u8>,
}

impl KeyRange {
    /// Covers all keys that begin with `prefix`, which is neither empty nor all 0xff.
    #[must_use]
    pub fn of_prefix(prefix: Vec<u8>) -> Self {
        let to = successor(&prefix);
        Self { from: prefix, to }
    }

    /// Returns what follows `key` in this range, without `key` itself.
    #[must_use]
    pub fn after(mut self, mut key: Vec<u8>) -> Self {
        key.push(0);
        if key > self.from {
            self.from = key;
        }
        self
    }
}

/// Returns the first byte string that sorts after everything that begins with `prefix`. Our
/// prefixes start with a table's number, so there always is one.
#[must_use]
pub fn successor(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|&byte| byte != 0xff);
    let mut next = prefix[..kept.map_or(0, |last| last + 1)].to_vec();
    *next.last_mut().expect("a table's number is not 0xff") += 1;
    next
}

/// A key under construction.
struct Build(Vec<u8>);

impl Build {
    fn new(table: Table) -> Self {
        Self(vec![table as u8])
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// A number of a row that objects have: mostly small, so how many bytes it has, and those. It
    /// sorts as the number does, and none is the beginning of another.
    fn short(self, number: u64) -> Self {
        let bytes = number.to_be_bytes();
        let zeros = number.leading_zeros() as usize / 8;
        self.bytes(&[(bytes.len() - zeros) as u8])
            .bytes(&bytes[zeros..])
    }

    fn segment(self, volume: VolumeId, blob: BlobId, segment: u32) -> Self {
        self.short(volume.0).short(blob.0).short(segment.into())
    }

    fn escaped(mut self, bytes: &[u8]) -> Self {
        escape::append(&mut self.0, bytes);
        escape::terminate(&mut self.0);
        self
    }

    /// As `escaped`, but without the end mark: a prefix of every string that begins with `bytes`.
    fn escaped_prefix(mut self, bytes: &[u8]) -> Self {
        escape::append(&mut self.0, bytes);
        self
    }
}

impl RowKey<'_> {
    /// The key's bytes.
    #[must_use]
    #[expect(
        clippy::too_many_lines,
        reason = "the keys of all tables, side by side"
    )]
    pub fn encode(&self) -> Vec<u8> {
        let new = Build::new;
        match self {
            Self::Meta(item) => new(Table::Meta).bytes(&[*item as u8]),
            Self::Name { bucket, key } => new(Table::Names).short(bucket.0).bytes(key),
            Self::Version {
                bucket,
                key,
                sequence,
            } => new(Table::Versions)
                .short(bucket.0)
                .escaped(key)
                .u64(!sequence),
            Self::VersionSequence {
                bucket,
                key,
                version,
            } => new(Table::VersionSequences)
                .short(bucket.0)
                .escaped(key)
                .bytes(&version.0),
            Self::Blob(blob) => new(Table::Blobs).short(blob.0),
            Self::VolumeBlob {
                volume,
                blob,
                segment,
            } => new(Table::VolumeBlobs).segment(*volume, *blob, *segment),
            Self::Owed {
                volume,
                blob,
                segment,
            } => new(Table::Owed).segment(*volume, *blob, *segment),
            Self::Volume(volume) => new(Table::Volumes).u64(volume.0),
            Self::VolumeCounts(volume) => new(Table::VolumeCounts).u64(volume.0),
            Self::OpenVolume(volume) => new(Table::OpenVolumes).u64(volume.0),
            Self::Node(node) => new(Table::Nodes).u32(node.0),
            Self::Disk(disk) => new(Table::Disks).bytes(&disk.0),
            Self::Delete { disk, sequence } => new(Table::Deletes).bytes(&disk.0).u64(*sequence),
            Self::Upload {
                bucket,
                key,
                upload,
            } => new(Table::Uploads)
                .u64(bucket.0)
                .escaped(key)
                .bytes(&upload.0),
            Self::UploadTarget(upload) => new(Table::UploadTargets).bytes(&upload.0),
            Self::Part { upload, part } => new(Table::Parts).bytes(&upload.0).u32(*part),
            Self::Bucket(bucket) => new(Table::Buckets).u64(bucket.0),
            Self::BucketName(name) => new(Table::BucketNames).bytes(name),
            Self::AccountBucket { account, name } => {
                new(Table::AccountBuckets).u64(account.0).bytes(name)
            }
            Self::Account(account) => new(Table::Accounts).u64(account.0),
            Self::AccountName(name) => new(Table::AccountNames).bytes(name),
            Self::AccessKey(access_key) => new(Table::AccessKeys).bytes(access_key),
            Self::AccountAccessKey {
                account,
                access_key,
            } => new(Table::AccountAccessKeys)
                .u64(account.0)
                .bytes(access_key),
            Self::Kek(version) => new(Table::Keks).u32(*version),
            Self::Lease(lease) => new(Table::Leases).u64(lease.0),
            Self::Spent(blob) => new(Table::Spent).short(blob.0),
            Self::Chunk { disk, volume, slot } => new(Table::Chunks)
                .bytes(&disk.0)
                .u64(volume.0)
                .bytes(&[*slot]),
            Self::MoveDelete {
                volume,
                slot,
                sequence,
            } => new(Table::MoveDeletes)
                .u64(volume.0)
                .bytes(&[*slot])
                .u64(*sequence),
            Self::BucketCounters(bucket) => new(Table::BucketCounters).u64(bucket.0),
            Self::AccountCounters(account) => new(Table::AccountCounters).u64(account.0),
            Self::Doubt { disk, shard } => new(Table::Doubts)
                .bytes(&disk.0)
                .segment(shard.volume, shard.blob, shard.segment)
                .bytes(&[shard.slot]),
            Self::Doomed(number) => new(Table::Doomed).u64(*number),
        }
        .0
    }
}

/// A whole table.
#[must_use]
pub fn table(table: Table) -> KeyRange {
    KeyRange::of_prefix(vec![table as u8])
}

/// A bucket's name rows whose keys begin with `prefix`.
#[must_use]
pub fn names(bucket: BucketId, prefix: &[u8]) -> KeyRange {
    KeyRange::of_prefix(Build::new(Table::Names).short(bucket.0).bytes(prefix).0)
}

/// What is remembered of a lease's commands, from the blob id `from` on.
#[must_use]
pub fn spent(lease: LeaseId, from: BlobId) -> KeyRange {
    let (first, last) = lease.blobs();
    KeyRange {
        from: RowKey::Spent(from.max(first)).encode(),
        to: successor(&RowKey::Spent(last).encode()),
    }
}

/// All versions in a bucket that are not current.
#[must_use]
pub fn versions(bucket: BucketId) -> KeyRange {
    KeyRange::of_prefix(Build::new(Table::Versions).short(bucket.0).0)
}

/// A bucket's uploads whose keys begin with `prefix`.
#[must_use]
pub fn uploads(bucket: BucketId, prefix: &[u8]) -> KeyRange {
    let build = Build::new(Table::Uploads).u64(bucket.0);
    KeyRange::of_prefix(build.escaped_prefix(prefix).0)
}

/// An upload's parts.
#[must_use]
pub fn parts(upload: UploadId) -> KeyRange {
    KeyRange::of_prefix(Build::new(Table::Parts).bytes(&upload.0).0)
}

/// A volume's owed segments.
#[must_use]
pub fn owed(volume: VolumeId) -> KeyRange {
    KeyRange::of_prefix(Build::new(Table::Owed).short(volume.0).0)
}

/// A volume's segments, by blob.
#[must_use]
pub fn volume_blobs(volume: VolumeId) -> KeyRange {
    KeyRange::of_prefix(Build::new(Table::VolumeBlobs).short(volume.0).0)
}

/// A disk's delete queue, from a number on.
#[must_use]
pub fn deletes(disk: DiskId, first: u64) -> KeyRange {
    let mut range = KeyRange::of_prefix(Build::new(Table::Deletes).bytes(&disk.0).0);
    let sequence = first;
    range.from = RowKey::Delete { disk, sequence }.encode();
    range
}

/// An account's buckets, by name.
#[must_use]
pub fn account_buckets(account: AccountId) -> KeyRange {
    KeyRange::of_prefix(Build::new(Table::AccountBuckets).u64(account.0).0)
}

/// An account's access keys.
#[must_use]
pub fn account_access_keys(account: AccountId) -> KeyRange {
    KeyRange::of_prefix(Build::new(Table::AccountAccessKeys).u64(account.0).0)
}

/// Returns the group that holds a key, and the epoch of that knowledge. Everything is in group 0
/// until ranges split, so the one caller passes no key yet.
#[must_use]
pub fn route(_key: &[u8]) -> (GroupId, Epoch) {
    (GroupId(0), Epoch(1))
}
