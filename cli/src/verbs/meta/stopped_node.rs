//! Which node a verb on a stopped member's directory means.

use crate::config::{self, ConfigError, NoFlags, NodeFile};
use crate::run::RunError;
use crate::up;
use clap::Args;
use megalith_identity::{IdentityError, TlsMaterial};
use megalith_model::ids::{ClusterId, NodeId};
use std::path::PathBuf;

/// A node's settings, from its file or from the directory of `megalith up`.
#[derive(Debug, Args)]
pub struct StoppedNode {
    /// The TOML file of the node, which must not run.
    #[arg(
        long,
        env = "MEGALITH_CONFIG",
        conflicts_with = "data",
        required_unless_present = "data"
    )]
    pub config: Option<PathBuf>,
    /// The directory of `megalith up`, in place of --config.
    #[arg(long)]
    pub data: Option<PathBuf>,
}

/// The node's settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The node's file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory of `megalith up`.
    #[error(transparent)]
    Up(#[from] RunError),
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

impl StoppedNode {
    /// Reads the settings of a metadata member.
    pub fn member(&self) -> Result<Member, NodeError> {
        let (settings, origin): (NodeFile, PathBuf) = match (&self.config, &self.data) {
            (Some(file), _) => (config::load(Some(file), NoFlags {})?, file.clone()),
            (None, data) => {
                let data = data.clone().unwrap_or_default();
                (up::node_file(&data)?, data)
            }
        };
        let Some(dir) = settings.metadata.dir.clone() else {
            return Err(NodeError::NoMember(origin));
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
}
