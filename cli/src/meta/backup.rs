//! Backups of the metadata, and a new metadata group from one.

use super::bucket::{Bucket, BucketError, Place};
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
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Arguments of `megalith meta backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
    /// An empty or missing directory, or s3://bucket/prefix; endpoint and key of the bucket come
    /// from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_CA_BUNDLE.
    #[arg(long)]
    pub to: Place,
    /// Where a backup on its way to a bucket is kept meanwhile. Default: the system's directory
    /// for temporary files.
    #[arg(long)]
    pub spool: Option<PathBuf>,
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
    /// The backup's directory, or s3://bucket/prefix.
    #[arg(long)]
    pub from: Place,
    /// Where a backup from a bucket is kept meanwhile. Default: the system's directory for
    /// temporary files.
    #[arg(long)]
    pub spool: Option<PathBuf>,
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
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The directory for what is on its way.
    #[error("make a directory in {}", dir.display())]
    Spool {
        /// Where.
        dir: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Made for one backup; removed with whatever is in it.
fn spool(dir: Option<&Path>) -> Result<TempDir, BackupVerbError> {
    let dir = dir.map_or_else(std::env::temp_dir, Path::to_owned);
    let made = tempfile::Builder::new()
        .prefix("megalith-backup-")
        .tempdir_in(&dir);
    made.map_err(|source| BackupVerbError::Spool { dir, source })
}

/// Takes a backup.
pub async fn make(args: &BackupArgs) -> Result<(), BackupVerbError> {
    let reached = reach::open(&args.reach)?;
    let cluster = reached.tls.identity().cluster();
    let source = BackupClient::new(reached.members, reached.tls);
    let card = match &args.to {
        Place::Directory(dir) => backup::take(&source, cluster, GroupId(0), dir).await?,
        Place::Bucket { name, prefix } => {
            let bucket = Bucket::open(name, prefix)?;
            bucket.must_be_free().await?;
            let spool = spool(args.spool.as_deref())?;
            let card = backup::take(&source, cluster, GroupId(0), spool.path()).await?;
            bucket.put(spool.path()).await?;
            card
        }
    };
    println!(
        "backup of cluster {cluster} as of entry {}: {} records, {} bytes in {}",
        card.mark.index, card.records, card.len, args.to
    );
    Ok(())
}

/// Makes a member from a backup.
pub async fn restore(args: &RestoreArgs) -> Result<(), BackupVerbError> {
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
    let (from, _spool) = match &args.from {
        Place::Directory(from) => (from.clone(), None),
        Place::Bucket { name, prefix } => {
            let spool = spool(args.spool.as_deref())?;
            Bucket::open(name, prefix)?.get(spool.path()).await?;
            (spool.path().to_owned(), Some(spool))
        }
    };
    let restored = restore_metadata(&from, dir, (cluster, own), &voters, engine)?;
    println!(
        "member {} of cluster {cluster} is restored: {} records, its log begins at entry {} of \
         term {}",
        own.0, restored.records, restored.mark.index, restored.mark.term
    );
    println!("restore the same backup on every other member before starting any of them");
    Ok(())
}
