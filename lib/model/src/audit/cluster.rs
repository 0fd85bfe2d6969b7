//! Volumes, nodes, disks and their doubts, leases and what is remembered of their commands.

use super::Audit;
use crate::ids::{DiskId, NodeId};
use crate::keys::{RowKey, Table};
use crate::machine::{MachineError, read};
use crate::rows::{BlobRow, DiskRow, DoubtRow, SpentRow, VolumeRow};
use crate::topology::{Lease, Node, VolumeState};
use std::collections::{BTreeMap, BTreeSet};

impl Audit<'_> {
    pub(super) fn topology(&mut self) -> Result<(), MachineError> {
        let mut open: BTreeSet<Vec<u8>> = self
            .all::<()>(Table::OpenVolumes)?
            .into_iter()
            .map(|(key, ())| key)
            .collect();
        for (_, volume) in self.all::<VolumeRow>(Table::Volumes)? {
            let listed = open.remove(&RowKey::OpenVolume(volume.id).encode());
            self.check(listed == (volume.state() == VolumeState::Open), || {
                format!("{} is in the wrong list", volume.id)
            });
        }
        self.check(open.is_empty(), || "open volumes that aren't there".into());
        let mut listed: BTreeMap<DiskId, NodeId> = BTreeMap::new();
        for (_, node) in self.all::<Node>(Table::Nodes)? {
            for disk in node.disks {
                let twice = listed.insert(disk.id, node.id).is_some();
                self.check(!twice, || format!("disk {} is on two nodes", disk.id));
            }
        }
        let mut doubts: BTreeMap<DiskId, u32> = BTreeMap::new();
        for (key, _) in self.all::<DoubtRow>(Table::Doubts)? {
            if let Ok(RowKey::Doubt { disk, .. }) = RowKey::decode(&key) {
                *doubts.entry(disk).or_default() += 1;
            }
        }
        for (_, disk) in self.all::<DiskRow>(Table::Disks)? {
            let counted = doubts.remove(&disk.id).unwrap_or(0);
            self.check(counted == disk.doubts, || {
                format!("disk {} counts its doubts wrongly", disk.id)
            });
            let node = listed.remove(&disk.id);
            let own = disk.listed.then_some(disk.node);
            self.check(node == own, || format!("disk {} is elsewhere", disk.id));
        }
        self.check(listed.is_empty(), || "disks without rows".into());
        self.check(doubts.is_empty(), || "doubts about no disk".into());
        Ok(())
    }

    /// Checks that a command is remembered once, and only while its lease is open.
    pub(super) fn spent(&mut self) -> Result<(), MachineError> {
        for (key, _) in self.all::<SpentRow>(Table::Spent)? {
            let Ok(RowKey::Spent(blob)) = RowKey::decode(&key) else {
                continue;
            };
            let lease = blob.lease();
            let open: Option<Lease> = read(self.rows, &RowKey::Lease(lease))?;
            let goes = self
                .forgetting
                .get(&lease)
                .is_some_and(|from| *from <= blob);
            self.check(open.is_some() != goes, || {
                format!("the command of {blob} is remembered for ever")
            });
            let row: Option<BlobRow> = read(self.rows, &RowKey::Blob(blob))?;
            self.check(row.is_none(), || {
                format!("the command of {blob} is kept twice")
            });
        }
        Ok(())
    }
}
