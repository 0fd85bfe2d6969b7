//! The disks of this node, by their id.

use crate::DiskHandle;
use megalith_model::ids::DiskId;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use tokio::sync::watch;

/// The disks that are open now: one that is away at the start may come later.
pub struct Disks {
    open: RwLock<BTreeMap<DiskId, DiskHandle>>,
    changes: watch::Sender<u64>,
}

impl Default for Disks {
    fn default() -> Self {
        Self::new([])
    }
}

impl Disks {
    /// Collects opened disks.
    #[must_use]
    pub fn new(disks: impl IntoIterator<Item = DiskHandle>) -> Self {
        let disks = disks.into_iter();
        let open = disks.map(|disk| (disk.superblock().disk, disk)).collect();
        Self {
            open: RwLock::new(open),
            changes: watch::Sender::new(0),
        }
    }

    /// Returns all of them, by id.
    #[must_use]
    pub fn all(&self) -> Vec<DiskHandle> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.values().cloned().collect()
    }

    /// Returns a disk, if it is here.
    #[must_use]
    pub fn get(&self, disk: DiskId) -> Option<DiskHandle> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&disk).cloned()
    }

    /// Adds an opened disk; false if one with its id is here.
    #[must_use]
    pub fn insert(&self, disk: DiskHandle) -> bool {
        let id = disk.superblock().disk;
        let fresh = {
            let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
            let fresh = !open.contains_key(&id);
            if fresh {
                open.insert(id, disk);
            }
            fresh
        };
        if fresh {
            self.changes.send_modify(|number| *number += 1);
        }
        fresh
    }

    /// Takes a disk out, which is then its caller's to stop.
    pub fn remove(&self, disk: DiskId) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let gone = open.remove(&disk).is_some();
        drop(open);
        if gone {
            self.changes.send_modify(|number| *number += 1);
        }
    }

    /// Counts the changes of which disks are here.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
