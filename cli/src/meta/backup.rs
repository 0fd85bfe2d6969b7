//! Backups of the metadata, and a new metadata group from one.

use crate::args::Reach;
use crate::config::{self, ConfigError, NoFlags, NodeFile};
use crate::reach::{self, ReachError};
use crate::{metadata, up};
use clap::Args;
use megalith_client::BackupClient;
use megalith_identity::{IdentityError, TlsMaterial};
use megalith_model::ids::{GroupId, NodeId};
use megalith_node::meta::backup::{self, BackupError};
use megalith_node::run::restore_metadata;
use std::path::PathBuf;

/// Arguments of `megalith meta backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
    /// An empty or missing directory.
    #[arg(long)]
    pub to: PathBuf,
}

/// Arguments of `megalith meta restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The TOML file of the node, which is stopped and whose metadata directory is empty or gone.
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
    /// The backup's directory.
    #[arg(long)]
    pub from: PathBuf,
}

/// A backup could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupVerbError {
    /// The cluster isn't within reach.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The node's file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory of `megalith up`.
    #[error(transparent)]
    Up(#[from] crate::run::RunError),
    /// The node's certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node is no member.
    #[error("{0} names no `metadata.dir`: this node is no metadata member")]
    NoMember(PathBuf),
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
}

/// Takes a backup.
pub async fn make(args: &BackupArgs) -> Result<(), BackupVerbError> {
    let reached = reach::open(&args.reach)?;
    let cluster = reached.tls.identity().cluster();
    let source = BackupClient::new(reached.members, reached.tls);
    let card = backup::take(&source, cluster, GroupId(0), &args.to).await?;
    println!(
        "backup of cluster {cluster} as of entry {}: {} records, {} bytes in {}",
        card.mark.index,
        card.records,
        card.len,
        args.to.display()
    );
    Ok(())
}

/// Makes a member from a backup.
pub fn restore(args: &RestoreArgs) -> Result<(), BackupVerbError> {
    let (settings, origin): (NodeFile, PathBuf) = match (&args.config, &args.data) {
        (Some(file), _) => (config::load(Some(file), NoFlags {})?, file.clone()),
        (None, data) => {
            let data = data.clone().unwrap_or_default();
            (up::node_file(&data)?, data)
        }
    };
    let origin_text = origin.display().to_string();
    let members = config::parse_members(&origin_text, &settings.metadata.members)?;
    let voters: Vec<NodeId> = members.iter().map(|(id, _)| NodeId(*id)).collect();
    let own = NodeId(settings.node.id);
    let Some(dir) = settings
        .metadata
        .dir
        .as_ref()
        .filter(|_| voters.contains(&own))
    else {
        return Err(BackupVerbError::NoMember(origin));
    };
    let cluster = TlsMaterial::load(&settings.node.tls_dir)?
        .identity()
        .cluster();
    let engine = metadata::engine(&settings.metadata);
    let restored = restore_metadata(&args.from, dir, (cluster, own), &voters, engine)?;
    println!(
        "member {} of cluster {cluster} is restored: {} records, its log begins at entry {} of \
         term {}",
        own.0, restored.records, restored.mark.index, restored.mark.term
    );
    println!("restore the same backup on every other member before starting any of them");
    Ok(())
}
