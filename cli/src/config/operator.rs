//! The file that the operator's verbs (`status`, `account`, `key`) read.

use super::gateway::MembersSection;
use super::vault::VaultSection;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What an operator's commands need in order to reach a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorFile {
    pub operator: OperatorSection,
    pub metadata: MembersSection,
    /// The key service. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultSection>,
}

/// The operator's identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorSection {
    /// Directory with `ca.crt`, `node.crt`, `node.key` of an operator. Required.
    pub tls_dir: PathBuf,
    /// File with the root key; only `account` and `key` need it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key_file: Option<PathBuf>,
}
