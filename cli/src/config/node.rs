//! The file of `megalith node`.

use super::defaults::{DATA_LISTEN, RPC_LISTEN};
use megalith_model::freeing::Grace;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A storage and/or metadata node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    pub node: NodeSection,
    /// Present on nodes that keep shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSection>,
    /// The metadata members; on a member also where it keeps its data.
    pub metadata: MetadataSection,
    #[serde(default)]
    pub log: LogSection,
}

impl NodeFile {
    /// Returns the directory of the metadata role's certificate.
    pub fn metadata_tls_dir(&self) -> &Path {
        let own = self.metadata.tls_dir.as_ref();
        own.unwrap_or(&self.node.tls_dir)
    }
}

/// The process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    /// The node's number, from 1; must be the certificate's. Required.
    pub id: u32,
    /// Directory with `ca.crt`, `node.crt`, `node.key`. Its certificate has the roles of the node,
    /// but for the metadata role if `metadata.tls_dir` is given. Required.
    pub tls_dir: PathBuf,
    /// `host:port` of the gRPC listener. Default `0.0.0.0:7001`.
    #[serde(default = "rpc_listen")]
    pub rpc_listen: String,
    /// `host:port` of the shard data listener. Default `0.0.0.0:7002`.
    #[serde(default = "data_listen")]
    pub data_listen: String,
    /// `host:port` under which others reach `rpc_listen`. Default: the listener's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpc_advertise: Option<String>,
    /// `host:port` under which others reach `data_listen`. Default: the listener's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_advertise: Option<String>,
    /// Failure domain above the node (rack, room, availability zone). Default: none.
    #[serde(default)]
    pub zone: String,
}

/// The storage role.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSection {
    /// Directories, one per disk, each formatted by `megalith node init`. Required.
    pub disks: Vec<PathBuf>,
    /// Bytes kept free on each disk, so that deletes work on a full one. Default 1 GiB, or a
    /// twentieth of the smallest disk if that is less than 20 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve_bytes: Option<u64>,
    /// Days within which every byte of every disk is checked against its checksums. Default 30.
    #[serde(default = "scrub_days")]
    pub scrub_days: u32,
    /// Hours within which new shards are checked for the first time. Default 24.
    #[serde(default = "scrub_new_hours")]
    pub scrub_new_hours: u32,
    /// The most bytes the scrub of a disk reads in a second. Default 32 MiB.
    #[serde(default = "scrub_bytes_per_s")]
    pub scrub_bytes_per_s: u64,
    /// Days that a shard which nothing names is kept before it is deleted. Default 7.
    #[serde(default = "trash_days")]
    pub trash_days: u32,
    /// Above so many percent of a disk in use, by whomever, such shards are deleted before their
    /// days are over. At 100 they never are. Default 90.
    #[serde(default = "trash_full_percent")]
    pub trash_full_percent: u32,
    /// Seconds between two looks for such shards; one that is found twice goes to the trash.
    /// Default 86,400.
    #[serde(default = "orphan_check_s")]
    pub orphan_check_s: u32,
    /// Seconds after which an open chunk file that took no record is finished. Default 600.
    #[serde(default = "finish_after_s")]
    pub finish_after_s: u32,
}

/// The metadata group.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetadataSection {
    /// Every member as `id=host:port` (gRPC). Required.
    pub members: Vec<String>,
    /// Where this node keeps metadata, if it is a member. Default: it is not a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Directory with the files of the metadata role's own certificate, so that a stolen storage
    /// certificate is not a member's. Default: `node.tls_dir`, whose certificate then has all roles
    /// of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_dir: Option<PathBuf>,
    /// Storage nodes to wait for before the first volume is made, so that a cluster that is being
    /// started doesn't begin with too weak a profile. Default 0: wait until no node has joined for
    /// three seconds.
    #[serde(default)]
    pub expected_nodes: u32,
    /// The embedded database for new tables: `fjall` or `sled`. Default `fjall`. Existing tables
    /// keep their database until they are rebuilt.
    #[serde(default)]
    pub engine: Engine,
    /// Bytes of memory for the caches and queues of this member. Default 512 MiB, or a quarter of
    /// what the process's control group allows or the machine has, if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Bytes of memory for the cache of the tables, if it is to differ from what follows from
    /// `memory_bytes`: a half of that, and all beyond 512 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
    /// Seconds after which a gateway that says nothing has lost its leases and its reads are waited
    /// for no more. Until a leader has been in office for that long, no shard is deleted. Default
    /// 60; the leader's value counts.
    #[serde(default = "gateway_life_s")]
    pub gateway_life_s: u32,
    /// Seconds that the shards of a deleted object stay at least, so that reads that have begun end
    /// well. Default 900; the leader's value counts.
    #[serde(default = "delete_after_s")]
    pub delete_after_s: u32,
    /// Seconds after which they go even if they are still being read. Default 86,400; the leader's
    /// value counts.
    #[serde(default = "delete_at_last_s")]
    pub delete_at_last_s: u32,
    /// The most shards of one disk that wait to be deleted; the oldest go sooner. Default
    /// 1,000,000; the leader's value counts.
    #[serde(default = "deletes_waiting_max")]
    pub deletes_waiting_max: u64,
}

impl MetadataSection {
    /// Returns a group of `members`, with defaults for everything else, also for the certificate.
    #[must_use]
    pub fn new(members: Vec<String>, dir: Option<PathBuf>, expected_nodes: u32) -> Self {
        Self {
            members,
            dir,
            tls_dir: None,
            expected_nodes,
            engine: Engine::default(),
            memory_bytes: None,
            cache_bytes: None,
            gateway_life_s: gateway_life_s(),
            delete_after_s: delete_after_s(),
            delete_at_last_s: delete_at_last_s(),
            deletes_waiting_max: deletes_waiting_max(),
        }
    }
}

impl StorageSection {
    /// Returns disks with defaults for everything else.
    #[must_use]
    pub fn new(disks: Vec<PathBuf>) -> Self {
        Self {
            disks,
            reserve_bytes: None,
            scrub_days: scrub_days(),
            scrub_new_hours: scrub_new_hours(),
            scrub_bytes_per_s: scrub_bytes_per_s(),
            trash_days: trash_days(),
            trash_full_percent: trash_full_percent(),
            orphan_check_s: orphan_check_s(),
            finish_after_s: finish_after_s(),
        }
    }
}

/// The embedded database of the metadata role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// fjall 3.
    #[default]
    Fjall,
    /// sled 0.34.
    Sled,
}

/// Logging.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSection {
    /// `error`, `warn`, `info`, `debug`, `trace`, or per module (`info,megalith_node=debug`).
    /// Default `info`.
    #[serde(default = "level")]
    pub level: String,
    /// `text` or `json`. Default `text`.
    #[serde(default)]
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            level: level(),
            format: LogFormat::Text,
        }
    }
}

fn rpc_listen() -> String {
    RPC_LISTEN.to_owned()
}

fn data_listen() -> String {
    DATA_LISTEN.to_owned()
}

fn scrub_days() -> u32 {
    30
}

fn scrub_new_hours() -> u32 {
    24
}

fn scrub_bytes_per_s() -> u64 {
    32 << 20
}

fn trash_days() -> u32 {
    7
}

fn trash_full_percent() -> u32 {
    90
}

fn orphan_check_s() -> u32 {
    24 * 3600
}

fn finish_after_s() -> u32 {
    600
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1_000).expect("the defaults are short")
}

fn gateway_life_s() -> u32 {
    seconds(megalith_placement::PlannerSettings::default().gateway_life_ms)
}

fn delete_after_s() -> u32 {
    seconds(Grace::default().min_ms)
}

fn delete_at_last_s() -> u32 {
    seconds(Grace::default().max_ms)
}

fn deletes_waiting_max() -> u64 {
    Grace::default().queue_max
}

fn level() -> String {
    "info".to_owned()
}
