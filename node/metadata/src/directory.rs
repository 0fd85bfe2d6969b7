//! A member's directory on a real disk: its layout, and how it is made, looked at and restored.
//!
//! Owns the layout of the directory and which identity it begins with; the server only knows the
//! path. Everything here is done while the member doesn't run.

use crate::backup::{BackupError, Restored, restore};
use crate::engine::{DiskEngines, EngineSettings, Engines};
use crate::log::LogIdentity;
use crate::member::{MetaStore, RepairError, Repairs, StartError, examine};
use megalith_disk::{FileSystem, RealFs};
use megalith_model::ids::{ClusterId, GroupId, NodeId};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Where the tables are, below the member's directory.
const ENGINE_DIR: &str = "state";

/// The identity of the life that a directory begins with.
#[must_use]
pub fn identity(cluster: ClusterId, member: NodeId) -> LogIdentity {
    LogIdentity {
        cluster,
        member,
        group: GroupId(0),
        incarnation: 0,
    }
}

/// The engines of the member in `dir`.
#[must_use]
pub fn engines(dir: &Path, engine: EngineSettings) -> DiskEngines {
    DiskEngines::new(dir.join(ENGINE_DIR), engine)
}

/// Makes the directory of a member that has never voted. `voters` are the first members, the same
/// for all of them.
pub fn init_metadata(
    dir: &Path,
    cluster: ClusterId,
    member: NodeId,
    voters: &[NodeId],
) -> Result<(), StartError> {
    let engines = dir.join(ENGINE_DIR);
    let made = match RealFs.create_dir(&engines) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _there => Ok(()),
    };
    made.map_err(|source| StartError::Io {
        action: "create",
        path: engines,
        source,
    })?;
    MetaStore::init(Arc::new(RealFs), dir, identity(cluster, member), voters)
}

/// Looks at a member's directory, for a repair.
pub fn examine_metadata(
    dir: &Path,
    cluster: ClusterId,
    member: NodeId,
    engine: EngineSettings,
) -> Result<Repairs, RepairError> {
    let engines = engines(dir, engine);
    examine(Arc::new(RealFs), dir, identity(cluster, member), &engines)
}

/// Restores the backup in `from` into `dir`, which must be missing or empty. `voters` are the first
/// members of the new group, the same for all of them; every one of them must restore this backup.
pub fn restore_metadata(
    from: &Path,
    dir: &Path,
    cluster: ClusterId,
    member: NodeId,
    voters: &[NodeId],
    engine: EngineSettings,
) -> Result<Restored, BackupError> {
    let make = || -> Result<Arc<dyn Engines>, BackupError> {
        init_metadata(dir, cluster, member, voters).map_err(|error| BackupError::Io {
            action: "set up",
            path: dir.to_owned(),
            source: io::Error::other(error),
        })?;
        Ok(Arc::new(engines(dir, engine)))
    };
    let identity = identity(cluster, member);
    restore(from, dir, identity, voters, Arc::new(RealFs), make)
}
