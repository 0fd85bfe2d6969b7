//! How a cluster is, as it is shown: what `megalith status -o json` prints.

use serde::Serialize;

/// How well the cluster is; the exit code of `megalith status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is as it should be (0).
    Healthy,
    /// Everything is served, something needs a look (1).
    Degraded,
    /// Reads or writes are refused, or objects can't be read (2).
    NotServing,
}

/// What `status -o json` prints; keys are stable.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub health: Health,
    /// Why it isn't healthy, worst first; empty where it is.
    pub reasons: Vec<String>,
    /// What an operator should know though nothing is wrong.
    pub notes: Vec<String>,
    /// The cluster's id; absent where nobody answered.
    pub cluster: Option<String>,
    pub metadata: MetadataReport,
    /// Storage nodes and their disks.
    pub nodes: Vec<NodeReport>,
    pub volumes: Vec<VolumeReport>,
    pub data: DataReport,
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
    /// It is heard from.
    pub alive: bool,
    /// Log entries that it lacks.
    pub behind: u64,
    /// It votes; a learner is on its way to that.
    pub voter: bool,
    /// Why its node lost an earlier log, where it did.
    pub lost: Option<String>,
    /// Where its node keeps the files of that log, where it does.
    pub kept: Option<String>,
    /// Why its tables were made again since its process began, where they were.
    pub tables: Option<String>,
}

/// A storage node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    pub node: u32,
    pub zone: String,
    /// It is heard from.
    pub alive: bool,
    /// Milliseconds since it was.
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
    /// Why it takes no new shards, where it doesn't.
    pub closed: Option<String>,
    /// Found damaged since its node started.
    pub damaged_shards: u64,
    /// Failed writes and syncs since its node started.
    pub write_errors: u64,
    /// Damaged pieces of chunk files, beyond the shards, found since its node started.
    pub damaged_regions: u64,
    /// Small files found bad and written anew since its node started.
    pub restored_files: u64,
    /// When its scrub last finished a pass, milliseconds since 1970; 0: not yet.
    pub scrubbed_ms: u64,
}

/// A volume.
#[derive(Clone, Debug, Serialize)]
pub struct VolumeReport {
    pub volume: u32,
    pub profile: String,
    /// `open` or `closed`.
    pub state: &'static str,
    pub epoch: u32,
    /// What its members are spread over: `node` or `disk`.
    pub domain: &'static str,
    /// Made with fewer data shards than the cluster's profile.
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
    /// Shards found damaged and not yet repaired.
    pub damaged_shards: u64,
    /// Shards that disks are still to remove.
    pub deletes_pending: u64,
    /// Segments by margin: how many more shards each may lose. Negative: can't be read now.
    pub segments_by_margin: Vec<MarginReport>,
}

/// Segments of one margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MarginReport {
    /// Live shards less those needed.
    pub margin: i32,
    pub segments: u64,
}
