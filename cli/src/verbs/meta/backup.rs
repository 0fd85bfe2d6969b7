//! Backups of the metadata, and a new metadata group from one.

use super::bucket::{Bucket, BucketError, Place};
use super::node::{NodeError, StoppedNode};
use crate::args::Reach;
use crate::config::{self, ConfigError};
use crate::metadata;
use crate::reach::{self, ReachError};
use clap::Args;
use megalith_client::BackupClient;
use megalith_metadata::backup::{self, BackupError};
use megalith_model::ids::{GroupId, NodeId};
use megalith_server::restore_metadata;
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
    /// Which member; its metadata directory is empty or gone.
    #[command(flatten)]
    pub node: StoppedNode,
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
    /// The node's settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// It isn't among the first members.
    #[error("{file}: {node} is not among `metadata.members`")]
    NotNamed {
        /// The settings.
        file: PathBuf,
        /// The node.
        node: NodeId,
    },
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
    let member = args.node.member()?;
    let origin = member.origin.display().to_string();
    let members = config::parse_members(&origin, &member.settings.metadata.members)?;
    let voters: Vec<NodeId> = members.iter().map(|(id, _)| NodeId(*id)).collect();
    let (own, cluster) = (member.node, member.cluster);
    if !voters.contains(&own) {
        return Err(BackupVerbError::NotNamed {
            file: member.origin,
            node: own,
        });
    }
    let engine = metadata::engine(&member.settings.metadata);
    let (from, _spool) = match &args.from {
        Place::Directory(from) => (from.clone(), None),
        Place::Bucket { name, prefix } => {
            let spool = spool(args.spool.as_deref())?;
            Bucket::open(name, prefix)?.get(spool.path()).await?;
            (spool.path().to_owned(), Some(spool))
        }
    };
    let restored = restore_metadata(&from, &member.dir, (cluster, own), &voters, engine)?;
    println!(
        "member {} of cluster {cluster} is restored: {} records, its log begins at entry {} of \
         term {}",
        own.0, restored.records, restored.mark.index, restored.mark.term
    );
    println!("restore the same backup on every other member before starting any of them");
    Ok(())
}
