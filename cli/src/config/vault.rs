//! The table `[vault]` of a gateway's and an operator's file.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A key in the Transit engine of HashiCorp Vault or OpenBao, which seals the cluster's keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultSection {
    /// `https://host:port`; `http` for this machine only. Required.
    pub address: String,
    /// The key's name. Required; the same for every gateway. It must be of type `aes256-gcm96`.
    pub key: String,
    /// File with the token; only its owner may read it. Read for each call. Required.
    pub token_file: PathBuf,
    /// Where the Transit engine is mounted. Default `transit`.
    #[serde(default = "mount")]
    pub mount: String,
    /// PEM file with the certificates to trust, instead of the system's. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The namespace. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Milliseconds for one call, from its start to the end of its answer. Default 5,000.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// Seconds for which a gateway keeps opened keys; 0: one call for each request that needs them.
    /// Default 300.
    #[serde(default = "hold_s")]
    pub hold_s: u64,
}

fn mount() -> String {
    "transit".to_owned()
}

fn timeout_ms() -> u64 {
    5_000
}

fn hold_s() -> u64 {
    300
}
