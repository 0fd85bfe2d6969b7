//! The cluster itself: its name, nodes and disks, volumes, leases.
//!
//! A disk belongs to one node. Another node that lists it is refused until the first node has
//! registered without it: two nodes with the same superblock have a copied disk, not a moved one. A
//! disk that did move keeps its slots in volumes; their epochs are raised.

use super::context::{Machine, Step, malformed};
use super::segments::empty_counts;
use super::{LEASE_COUNT_MAX, MachineError, NODE_DISKS_MAX};
use crate::command::{Outcome, Refusal};
use crate::ids::{BlobId, ClusterId, DiskId, Epoch, GatewayId, LeaseId, NodeId, VolumeId};
use crate::keys::{self, Meta, RowKey, Table};
use crate::profile::Profile;
use crate::rows::DiskRow;
use crate::topology::{Domain, Lease, Node, Slot, Volume, VolumeState};
use std::collections::BTreeSet;

impl Machine<'_, '_> {
    pub(super) fn init_cluster(&mut self, cluster: ClusterId) -> Step<Outcome> {
        let key = RowKey::Meta(Meta::Cluster);
        match self.read::<ClusterId>(&key)? {
            Some(known) if known != cluster => return Err(Refusal::OtherCluster.into()),
            Some(_) => {}
            None => self.write(&key, &cluster),
        }
        Ok(Outcome::Done)
    }

    pub(super) fn register_node(&mut self, node: &Node) -> Step<Outcome> {
        let listed: BTreeSet<DiskId> = node.disks.iter().map(|disk| disk.id).collect();
        if listed.len() != node.disks.len() || listed.len() > NODE_DISKS_MAX {
            return malformed("a disk is listed twice, or there are too many");
        }
        let key = RowKey::Node(node.id);
        let known: Option<Node> = self.read(&key)?;
        if known.as_ref() != Some(node) {
            for disk in known.iter().flat_map(|known| &known.disks) {
                if !listed.contains(&disk.id) {
                    let mut row: DiskRow = self.require(&RowKey::Disk(disk.id))?;
                    row.node = None;
                    self.write(&RowKey::Disk(disk.id), &row);
                }
            }
            for disk in &listed {
                self.claim_disk(*disk, node.id)?;
            }
            self.write(&key, node);
        }
        Ok(Outcome::Registered { node: node.id })
    }

    fn claim_disk(&mut self, disk: DiskId, node: NodeId) -> Step<()> {
        let key = RowKey::Disk(disk);
        let row = match self.read::<DiskRow>(&key)? {
            None => DiskRow {
                id: disk,
                node: Some(node),
                first_delete: 1,
                last_delete: 0,
                doubts: 0,
            },
            Some(row) => match row.node {
                Some(owner) if owner == node => return Ok(()),
                Some(owner) => return malformed(format!("disk {disk} belongs to {owner}")),
                None => {
                    self.move_slots(disk, node)?;
                    DiskRow {
                        node: Some(node),
                        ..row
                    }
                }
            },
        };
        self.write(&key, &row);
        Ok(())
    }

    /// Tells every volume with a slot on `disk` which node serves it now. It is rare, so it may
    /// read all volumes.
    fn move_slots(&mut self, disk: DiskId, node: NodeId) -> Result<(), MachineError> {
        let all = self.page::<Volume>(&keys::table(Table::Volumes), usize::MAX)?;
        for (_, mut volume) in all {
            let mut moved = false;
            for slot in &mut volume.slots {
                if slot.disk == disk && slot.node != node {
                    slot.node = node;
                    moved = true;
                }
            }
            if moved {
                volume.epoch = volume.epoch.next();
                self.write(&RowKey::Volume(volume.id), &volume);
            }
        }
        Ok(())
    }

    pub(super) fn create_volume(
        &mut self,
        profile: Profile,
        domain: Domain,
        slots: &[Slot],
        shrunk: bool,
    ) -> Step<Outcome> {
        if slots.len() != profile.shards() {
            return malformed(format!("{} slots for {profile}", slots.len()));
        }
        let disks: BTreeSet<DiskId> = slots.iter().map(|slot| slot.disk).collect();
        let nodes: BTreeSet<NodeId> = slots.iter().map(|slot| slot.node).collect();
        if disks.len() != slots.len() {
            return malformed("two slots on one disk");
        }
        if domain == Domain::Node && nodes.len() != slots.len() {
            return malformed("two slots on one node");
        }
        for slot in slots {
            let row: Option<DiskRow> = self.read(&RowKey::Disk(slot.disk))?;
            if row.and_then(|row| row.node) != Some(slot.node) {
                return malformed(format!("{} has no disk {}", slot.node, slot.disk));
            }
        }
        let next_key = RowKey::Meta(Meta::NextVolume);
        let id = self.read::<VolumeId>(&next_key)?.unwrap_or(VolumeId(1));
        if id.0 == u32::MAX {
            return malformed("volume numbers are used up");
        }
        self.write(&next_key, &id.next());
        let volume = Volume {
            id,
            profile,
            epoch: Epoch(1),
            state: VolumeState::Open,
            domain,
            slots: slots.to_vec(),
            bytes: 0,
            shrunk,
        };
        self.write(&RowKey::Volume(id), &volume);
        self.write(&RowKey::VolumeCounts(id), &empty_counts(profile));
        self.write(&RowKey::OpenVolume(id), &());
        Ok(Outcome::Volume(volume))
    }

    /// Closes a volume. If that epoch of it is already closed, returns it as it is.
    pub(super) fn close_volume(&mut self, id: VolumeId, epoch: Epoch) -> Step<Outcome> {
        let key = RowKey::Volume(id);
        let mut volume: Volume = match self.read::<Volume>(&key)? {
            Some(volume) if volume.epoch == epoch => volume,
            Some(_) | None => return Err(Refusal::StaleVolume { volume: id, epoch }.into()),
        };
        if volume.state == VolumeState::Open {
            volume.state = VolumeState::Closed;
            volume.epoch = epoch.next();
            self.write(&key, &volume);
            self.delete(&RowKey::OpenVolume(id));
        }
        Ok(Outcome::Volume(volume))
    }

    pub(super) fn open_lease(&mut self, gateway: GatewayId, count: u64) -> Step<Outcome> {
        if count == 0 || count > LEASE_COUNT_MAX {
            return malformed(format!("a lease of {count} blob ids"));
        }
        let lease_key = RowKey::Meta(Meta::NextLease);
        let blob_key = RowKey::Meta(Meta::NextBlob);
        let id = self.read::<LeaseId>(&lease_key)?.unwrap_or(LeaseId(1));
        let first = self.read::<BlobId>(&blob_key)?.unwrap_or(BlobId(1));
        let Some(end) = first.0.checked_add(count) else {
            return malformed("blob ids are used up");
        };
        let lease = Lease {
            id,
            gateway,
            first,
            count,
        };
        self.write(&lease_key, &id.next());
        self.write(&blob_key, &BlobId(end));
        self.write(&RowKey::Lease(id), &lease);
        Ok(Outcome::Lease(lease))
    }

    /// Closes a lease by forgetting it: if an id is below the next one and in no lease row, its
    /// lease is closed. Closing twice is harmless.
    pub(super) fn close_lease(&mut self, lease: LeaseId) -> Step<Outcome> {
        self.delete(&RowKey::Lease(lease));
        Ok(Outcome::Done)
    }
}
