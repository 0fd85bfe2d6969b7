//! A backup of the metadata becomes the directory of a new member.

use super::metadata::{ENGINE_DIR, identity, init_metadata};
use megalith_disk::RealFs;
use megalith_metadata::LOG_DIR;
use megalith_metadata::backup::{BackupError, Restored, restore};
use megalith_metadata::engine::{DiskHome, EngineHome, EngineSettings};
use megalith_model::ids::{ClusterId, NodeId};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Restores the backup in `from` into `dir`, which must be missing or empty. `voters` are the first
/// members of the new group, the same for all of them; every one of them must restore this backup.
pub fn restore_metadata(
    from: &Path,
    dir: &Path,
    (cluster, member): (ClusterId, NodeId),
    voters: &[NodeId],
    engine: EngineSettings,
) -> Result<Restored, BackupError> {
    let identity = identity(cluster, member);
    let make = || -> Result<Arc<dyn EngineHome>, BackupError> {
        init_metadata(dir, cluster, member, voters).map_err(|error| BackupError::Io {
            action: "set up",
            path: dir.to_owned(),
            source: io::Error::other(error),
        })?;
        Ok(Arc::new(DiskHome::new(dir.join(ENGINE_DIR), engine)))
    };
    let place = (dir, dir.join(LOG_DIR));
    restore(from, place, identity, voters, Arc::new(RealFs), make)
}
