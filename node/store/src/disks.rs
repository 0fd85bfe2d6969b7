//! The disks of this node, by their id.

use super::data::Refused;
use crate::store::{DiskHandle, ShardId};
use megalith_client::DataFault;
use megalith_client::wire::ShardPath;
use megalith_model::ids::DiskId;
use std::collections::BTreeMap;

/// The opened disks. Never changes while the node runs.
#[derive(Clone, Default)]
pub struct Disks {
    disks: BTreeMap<DiskId, DiskHandle>,
}

impl Disks {
    /// Collects opened disks.
    #[must_use]
    pub fn new(disks: impl IntoIterator<Item = DiskHandle>) -> Self {
        let disks = disks
            .into_iter()
            .map(|disk| (disk.superblock().disk, disk))
            .collect();
        Self { disks }
    }

    /// Returns all of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &DiskHandle> {
        self.disks.values()
    }

    /// Returns a disk; where it isn't here, that is `missing`.
    pub(super) fn get(&self, disk: DiskId, missing: DataFault) -> Result<&DiskHandle, Refused> {
        let missing = || Refused::new(missing, format!("no disk {disk} here"));
        self.disks.get(&disk).ok_or_else(missing)
    }
}

/// Returns a shard's name on its disk.
pub(super) fn shard_id(path: &ShardPath) -> ShardId {
    ShardId {
        volume: path.volume,
        blob: path.blob,
        segment: path.segment,
        member: path.member,
    }
}
