//! The file of `megalith gateway`.

use super::defaults::{GATEWAY_LISTEN, REGION};
use super::node::LogSection;
use super::vault::VaultSection;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayFile {
    pub gateway: GatewaySection,
    /// Where the metadata members are.
    pub metadata: MembersSection,
    /// The key service. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultSection>,
    #[serde(default)]
    pub log: LogSection,
}

/// The process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySection {
    /// The gateway's number, from 1; must be the certificate's. Required.
    pub id: u32,
    /// Directory with `ca.crt`, `node.crt`, `node.key`. Required.
    pub tls_dir: PathBuf,
    /// File with the root key (64 hexadecimal digits); the same for every gateway. Required, unless
    /// there is a key service, or the variable `MEGALITH_ROOT_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key_file: Option<PathBuf>,
    /// `host:port` of the S3 listener without TLS. Default `0.0.0.0:9000`; empty: none.
    #[serde(default = "listen")]
    pub listen: String,
    /// `host:port` of the S3 listener with TLS. Default: none.
    #[serde(default)]
    pub https_listen: String,
    /// Certificate chain of the TLS listener, PEM. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_cert: Option<PathBuf>,
    /// Private key of the TLS listener, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_key: Option<PathBuf>,
    /// `host:port` of `/health/live`, `/health/ready` and `/metrics`. Default: none.
    #[serde(default)]
    pub health_listen: String,
    /// Domains under which `bucket.domain` names a bucket. Default: none (path style only).
    #[serde(default)]
    pub domains: Vec<String>,
    /// The region that signatures must name. Default `us-east-1`.
    #[serde(default = "region")]
    pub region: String,
    /// Bytes of memory for bodies in flight; past it requests are answered 503 SlowDown.
    /// Default 1 GiB, or a quarter of what the process's control group allows or the machine has,
    /// if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl GatewaySection {
    /// Returns the settings of a gateway with defaults for everything else.
    #[must_use]
    pub fn new(id: u32, tls_dir: PathBuf, root_key_file: Option<PathBuf>) -> Self {
        Self {
            id,
            tls_dir,
            root_key_file,
            listen: listen(),
            https_listen: String::new(),
            https_cert: None,
            https_key: None,
            health_listen: String::new(),
            domains: Vec::new(),
            region: region(),
            memory_bytes: None,
        }
    }
}

/// The metadata group, as other processes see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembersSection {
    /// Every member as `id=host:port` (gRPC). Required.
    pub members: Vec<String>,
}

fn listen() -> String {
    GATEWAY_LISTEN.to_owned()
}

fn region() -> String {
    REGION.to_owned()
}
