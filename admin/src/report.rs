//! How a cluster is, in the form that `megalith status -o json` prints.

use serde::Serialize;

/// How well the cluster is; the exit code of `megalith status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Everything is as it should be (0).
    Healthy,
    /// Everything is served, but something needs attention (1).
    Degraded,
    /// Reads or writes are refused, or objects can't be read (2).
    NotServing,
}

/// What `status -o json` prints; its keys are stable.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub health: Health,
    /// Why it isn't healthy, worst first; empty if it is healthy.
    pub reasons: Vec<String>,
    /// What an operator should know although nothing is wrong.
    pub notes: Vec<String>,
    /// The cluster's id; absent if no member answered.
    pub cluster: Option<String>,
    /// The cluster's level; absent if no member answered.
    pub level: Option<LevelReport>,
    /// The key-encryption keys; absent if they were never rotated.
    pub keys: Option<KeysReport>,
    pub metadata: MetadataReport,
    /// Storage nodes and their disks.
    pub nodes: Vec<NodeReport>,
    pub volumes: Vec<VolumeReport>,
    pub data: DataReport,
    /// The leases of blob ids that gateways hold.
    pub leases: Vec<LeaseReport>,
}

/// A lease of blob ids.
#[derive(Clone, Debug, Serialize)]
pub struct LeaseReport {
    pub lease: u64,
    /// The gateway that holds it.
    pub gateway: u32,
}

/// The cluster's level, which says what its programs may use of each other.
#[derive(Clone, Debug, Serialize)]
pub struct LevelReport {
    pub level: u32,
    /// The highest one that the leader's program runs.
    pub highest: u32,
    /// The processes that can't run `highest` or aren't heard, in words.
    pub held_back_by: Vec<String>,
}

/// How far the last rotation of key-encryption keys is.
#[derive(Clone, Debug, Serialize)]
pub struct KeysReport {
    /// The version that seals everything from the rotation on.
    pub version: u32,
    /// When it began, milliseconds since 1970.
    pub begun_ms: u64,
    /// Rows that were sealed again.
    pub resealed: u64,
    /// Rows of objects, uploads and buckets that older versions seal; access keys are counted only
    /// if they don't open.
    pub left: u64,
    /// Those of them that don't open, and keep the older versions.
    pub closed: u64,
    /// Whether all rows have been passed, access keys included.
    pub passed_all: bool,
    /// When the older versions were deleted, milliseconds since 1970; absent while they are there.
    pub dropped_ms: Option<u64>,
}

/// The metadata group.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MetadataReport {
    pub members: Vec<MemberReport>,
}

/// A metadata member.
#[derive(Clone, Debug, Serialize)]
pub struct MemberReport {
    pub node: u32,
    /// `host:port`.
    pub address: String,
    pub leader: bool,
    /// Whether it is heard from.
    pub alive: bool,
    /// How many log entries it lacks.
    pub behind: u64,
    /// How far its clock is ahead of the leader's, in milliseconds; 0 if that isn't known.
    pub clock_ahead_ms: i64,
    /// Whether it votes; a learner will later.
    pub voter: bool,
    /// Why its node lost an earlier log; absent if it didn't.
    pub lost: Option<String>,
    /// Where its node keeps the files of that log; absent if it doesn't.
    pub kept: Option<String>,
    /// Why its tables have been rebuilt since its process began; absent if they weren't.
    pub tables: Option<String>,
}

/// A storage node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    pub node: u32,
    pub zone: String,
    /// Whether it is heard from.
    pub alive: bool,
    /// Milliseconds since it was last heard.
    pub silent_ms: u64,
    pub disks: Vec<DiskStatus>,
}

/// A disk.
#[derive(Clone, Debug, Serialize)]
pub struct DiskStatus {
    pub disk: String,
    /// Bytes.
    pub capacity: u64,
    /// Bytes.
    pub used: u64,
    /// Bytes that may still be taken.
    pub free: u64,
    /// Why it takes no new shards; absent if it does.
    pub closed: Option<String>,
    /// Shards found damaged since its node started.
    pub damaged_shards: u64,
    /// Failed writes and syncs since its node started.
    pub write_errors: u64,
    /// Damaged pieces of chunk files outside shards, found since its node started.
    pub damaged_regions: u64,
    /// Small files that were bad and have been rewritten since its node started.
    pub restored_files: u64,
    /// When its scrub last finished a pass, milliseconds since 1970; 0 if it has not finished one.
    pub scrubbed_ms: u64,
    /// Shards that nothing names, kept until they are deleted.
    pub trash_shards: u64,
    /// Bytes of their cells.
    pub trash_bytes: u64,
    /// Commits of the last three seconds.
    pub commits: u64,
    /// The time that these took, in microseconds.
    pub commit_us: u64,
    /// How long what it writes now has taken, in milliseconds; 0 if it writes nothing.
    pub turn_ms: u64,
}

/// A volume.
#[derive(Clone, Debug, Serialize)]
pub struct VolumeReport {
    pub volume: u64,
    pub profile: String,
    /// `open` or `closed`.
    pub state: &'static str,
    pub epoch: u32,
    /// What its slots are spread over: `node` or `disk`.
    pub domain: &'static str,
    /// Whether it was made with fewer data shards than the cluster's profile.
    pub shrunk: bool,
    /// Ciphertext bytes in it, parity not counted.
    pub bytes: u64,
    pub living: usize,
    pub members: usize,
}

/// The data.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DataReport {
    pub buckets: u64,
    pub objects: u64,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Multipart uploads in progress.
    pub uploads: u64,
    /// Small objects kept in the metadata group.
    pub inline_blobs: u64,
    /// Segments that lack shards.
    pub owed_segments: u64,
    /// The disks that owe these shards, those that owe most first.
    pub owed_by_disk: Vec<OwingDisk>,
    /// Shards found damaged and not repaired yet.
    pub damaged_shards: u64,
    /// Shards that disks have not removed yet.
    pub deletes_pending: u64,
    /// Whether the metadata was restored from a backup, and no operator has released that yet.
    pub restored: bool,
    /// Segments by margin, which says how many more shards each may lose. Negative: can't be read
    /// now.
    pub segments_by_margin: Vec<MarginReport>,
}

/// A disk that owes shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwingDisk {
    pub disk: String,
    pub node: u32,
    /// Shards that it owes.
    pub shards: u64,
}

/// Segments of one margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MarginReport {
    /// Living shards minus those needed to read.
    pub margin: i32,
    pub segments: u64,
}
