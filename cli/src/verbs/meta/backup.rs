//! Backs up the metadata, and makes a new metadata group from a backup.

use super::backup_bucket::{BackupBucket, BucketError};
use super::stopped_node::{self, StoppedNodeError};
use crate::args::{BackupArgs, BackupPlace, RestoreArgs};
use crate::config::{self, SettingsError};
use crate::reach::{self, ReachError};
use crate::verbs::node::metadata;
use megalith_client::BackupClient;
use megalith_metadata::backup::{self, BackupError};
use megalith_model::ids::{GroupId, NodeId};
use megalith_server::restore_metadata;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Why a backup could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupVerbError {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Node(#[from] StoppedNodeError),
    /// The node isn't among the first members.
    #[error("{file}: {node} is not among `metadata.members`")]
    NotNamed { file: PathBuf, node: NodeId },
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The directory for files on their way.
    #[error("make a directory in {}", dir.display())]
    Spool {
        dir: PathBuf,
        source: std::io::Error,
    },
}

/// Makes a directory for one backup; it is removed with everything in it.
fn spool(dir: Option<&Path>) -> Result<TempDir, BackupVerbError> {
    let dir = dir.map_or_else(std::env::temp_dir, Path::to_owned);
    let made = tempfile::Builder::new()
        .prefix("megalith-backup-")
        .tempdir_in(&dir);
    made.map_err(|source| BackupVerbError::Spool { dir, source })
}

/// Takes a backup.
pub async fn make(args: &BackupArgs) -> Result<String, BackupVerbError> {
    let reached = reach::open(&args.reach)?;
    let cluster = reached.tls.identity().cluster();
    let source = BackupClient::new(reached.members, reached.tls);
    let card = match &args.to {
        BackupPlace::Directory(dir) => backup::take(&source, cluster, GroupId(0), dir).await?,
        BackupPlace::Bucket { name, prefix } => {
            let bucket = BackupBucket::open(name, prefix)?;
            bucket.must_be_free().await?;
            let spool = spool(args.spool.as_deref())?;
            let card = backup::take(&source, cluster, GroupId(0), spool.path()).await?;
            bucket.put(spool.path()).await?;
            card
        }
    };
    Ok(format!(
        "backup of cluster {cluster} as of entry {}: {} records, {} bytes in {}\n",
        card.mark.index, card.records, card.len, args.to
    ))
}

/// Makes a member from a backup.
pub async fn restore(args: &RestoreArgs) -> Result<String, BackupVerbError> {
    let member = stopped_node::open(&args.node)?;
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
        BackupPlace::Directory(from) => (from.clone(), None),
        BackupPlace::Bucket { name, prefix } => {
            let spool = spool(args.spool.as_deref())?;
            BackupBucket::open(name, prefix)?.get(spool.path()).await?;
            (spool.path().to_owned(), Some(spool))
        }
    };
    let restored = restore_metadata(&from, &member.dir, cluster, own, &voters, engine)?;
    Ok(format!(
        "member {} of cluster {cluster} is restored: {} records, its log begins at entry {} of \
         term {}\nrestore the same backup on every other member before starting any of them\n",
        own.0, restored.records, restored.mark.index, restored.mark.term
    ))
}
