//! Finds the node that a verb on a stopped member's directory means.

use crate::args::StoppedNode;
use crate::config::{self, NoFlags, NodeFile, SettingsError};
use crate::verbs::role::RoleError;
use crate::verbs::up;
use megalith_identity::{IdentityError, TlsMaterial};
use megalith_model::ids::{ClusterId, NodeId};
use std::path::PathBuf;

/// Why the node's settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StoppedNodeError {
    /// The node's file can't be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The directory of `megalith up` can't be used.
    #[error(transparent)]
    Up(#[from] RoleError),
    /// The node's certificate, which names the cluster, can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node is not a member.
    #[error("{0} names no `metadata.dir`: this node is no metadata member")]
    NoMember(PathBuf),
}

/// A metadata member that isn't running.
pub struct StoppedMember {
    /// Its node's settings.
    pub settings: NodeFile,
    /// The file that the settings come from.
    pub origin: PathBuf,
    /// Its directory.
    pub dir: PathBuf,
    /// Its cluster, according to its certificate.
    pub cluster: ClusterId,
    /// Its number.
    pub node: NodeId,
}

/// Reads the settings of a metadata member.
pub fn open(which: &StoppedNode) -> Result<StoppedMember, StoppedNodeError> {
    let (settings, origin): (NodeFile, PathBuf) = match (&which.config, &which.data) {
        (Some(file), _) => (config::load(Some(file), NoFlags {})?, file.clone()),
        (None, data) => {
            let data = data.clone().unwrap_or_default();
            (up::node_file(&data)?, data)
        }
    };
    let Some(dir) = settings.metadata.dir.clone() else {
        return Err(StoppedNodeError::NoMember(origin));
    };
    let tls = TlsMaterial::load(settings.metadata_tls_dir())?;
    Ok(StoppedMember {
        dir,
        cluster: tls.identity().cluster(),
        node: NodeId(settings.node.id),
        settings,
        origin,
    })
}
