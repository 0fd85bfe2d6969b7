//! The disks of this node, by their id.

use crate::DiskHandle;
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

    /// Returns a disk, if it is here.
    #[must_use]
    pub fn get(&self, disk: DiskId) -> Option<&DiskHandle> {
        self.disks.get(&disk)
    }
}
