//! Which node a verb on a stopped member's directory means.

use crate::args::StoppedNode;
use crate::config::{self, NoFlags, NodeFile, SettingsError};
use crate::verbs::role::RoleError;
use crate::verbs::up;
use megalith_identity::{IdentityError, TlsMaterial};
use megalith_model::ids::{ClusterId, NodeId};
use std::path::PathBuf;

/// The node's settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StoppedNodeError {
    /// The node's file.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The directory of `megalith up`.
    #[error(transparent)]
    Up(#[from] RoleError),
    /// The node's certificate, which names the cluster.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node is no member.
    #[error("{0} names no `metadata.dir`: this node is no metadata member")]
    NoMember(PathBuf),
}

/// A metadata member that doesn't run.
pub struct Member {
    /// Its node's settings.
    pub settings: NodeFile,
    /// Where the settings are from.
    pub origin: PathBuf,
    /// Its directory.
    pub dir: PathBuf,
    /// Its cluster, as its certificate says.
    pub cluster: ClusterId,
    /// Its number.
    pub node: NodeId,
}

/// Reads the settings of a metadata member.
pub fn open(which: &StoppedNode) -> Result<Member, StoppedNodeError> {
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
    let tls = TlsMaterial::load(&settings.node.tls_dir)?;
    Ok(Member {
        dir,
        cluster: tls.identity().cluster(),
        node: NodeId(settings.node.id),
        settings,
        origin,
    })
}
