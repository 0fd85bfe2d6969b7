//! The cluster itself: its name, nodes and disks, volumes, leases.
//!
//! A disk belongs to one node. Another node does not get it until the first node has registered
//! without it: two nodes with the same superblock have a copied disk, not a moved one. Nor does it
//! ever get it without the superblock that the disk was first registered with: whoever has only
//! heard of a disk can't take its slots, read its delete queue or mark its shards. A disk that did
//! move keeps its slots in volumes.

use super::context::{Machine, Step, malformed};
use super::{GATEWAY_LEASES_MAX, MachineError};
use crate::claim::{
    ADDRESS_LEN_MAX, DISKS_KNOWN_MAX, DiskClaim, DiskProof, DiskRefusal, NODE_DISKS_KNOWN_MAX,
    NODE_DISKS_MAX, NodeClaim, RefusedDisk, ZONE_LEN_MAX,
};
use crate::command::{Outcome, Refusal};
use crate::ids::{ClusterId, DiskId, Epoch, GatewayId, LeaseId, NodeId, VolumeId};
use crate::keys::{self, Meta, RowKey, Table};
use crate::level::Level;
use crate::lookup;
use crate::profile::Profile;
use crate::rows::{DiskRow, DiskStanding, DoomedRow, SlotRow, VolumeCounts, VolumeRow};
use crate::topology::{Domain, Lease, Node, Slot, VolumeState};
use std::collections::BTreeSet;

impl Machine<'_, '_> {
    pub(super) fn init_cluster(&mut self, cluster: ClusterId, level: Level) -> Step<Outcome> {
        let key = RowKey::Meta(Meta::Cluster);
        match self.read::<ClusterId>(&key)? {
            Some(known) if known != cluster => return Err(Refusal::OtherCluster.into()),
            Some(_) => {}
            None => {
                self.write(&key, &cluster);
                self.raise_level(level)?;
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn raise_level(&mut self, level: Level) -> Step<Outcome> {
        if level > self.level {
            self.write(&RowKey::Meta(Meta::Level), &level);
        }
        Ok(Outcome::Done)
    }

    /// Ends the time after a restore in which no shard is taken for an orphan.
    pub(super) fn release_restore(&mut self) -> Step<Outcome> {
        let key = RowKey::Meta(Meta::Restored);
        if self.read::<()>(&key)?.is_some() {
            self.delete(&key);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn register_node(&mut self, claim: &NodeClaim) -> Step<Outcome> {
        check_form(claim)?;
        let (mut disks, mut refused) = (Vec::new(), Vec::new());
        let mut room = None;
        for DiskClaim { disk, proof } in &claim.disks {
            let why = match self.read::<DiskRow>(&RowKey::Disk(disk.id))? {
                Some(row) => judge_disk(&row, *proof, claim.id),
                None => {
                    let left = match room {
                        Some(left) => left,
                        None => self.room(claim.id)?,
                    };
                    room = Some(left.saturating_sub(1));
                    (left == 0).then_some(DiskRefusal::NoRoom)
                }
            };
            match why {
                None => disks.push(disk.clone()),
                Some(why) => refused.push(RefusedDisk { disk: disk.id, why }),
            }
        }
        let accepted: BTreeSet<DiskId> = disks.iter().map(|disk| disk.id).collect();
        let node = claim.with(disks);
        let key = RowKey::Node(node.id);
        let known: Option<Node> = self.read(&key)?;
        if known.as_ref() != Some(&node) {
            for disk in known.iter().flat_map(|known| &known.disks) {
                if !accepted.contains(&disk.id) {
                    let mut row: DiskRow = self.require(&RowKey::Disk(disk.id))?;
                    row.listed = false;
                    self.write(&RowKey::Disk(disk.id), &row);
                }
            }
            for DiskClaim { disk, proof } in &claim.disks {
                if accepted.contains(&disk.id) {
                    self.take_disk(disk.id, *proof, node.id)?;
                }
            }
            self.write(&key, &node);
        }
        let node = node.id;
        Ok(Outcome::Registered { node, refused })
    }

    /// Returns how many disks that nobody knows may still be registered with a node. Reads all rows
    /// of disks. One that is known is never refused for lack of room: it may hold shards.
    fn room(&self, node: NodeId) -> Result<usize, MachineError> {
        let all = self.page::<DiskRow>(&keys::table(Table::Disks), usize::MAX)?;
        let own = all.iter().filter(|(_, row)| row.node == node).count();
        let left = NODE_DISKS_KNOWN_MAX.saturating_sub(own);
        Ok(left.min(DISKS_KNOWN_MAX.saturating_sub(all.len())))
    }

    /// Gives the disk, which the node may have, to the node.
    fn take_disk(&mut self, disk: DiskId, proof: DiskProof, node: NodeId) -> Step<()> {
        let key = RowKey::Disk(disk);
        let row = match self.read::<DiskRow>(&key)? {
            None => DiskRow {
                id: disk,
                node,
                listed: true,
                standing: DiskStanding::In,
                first_delete: 1,
                last_delete: 0,
                doubts: 0,
                proof,
            },
            Some(row) if row.listed && row.node == node => return Ok(()),
            Some(row) => DiskRow {
                node,
                listed: true,
                ..row
            },
        };
        self.write(&key, &row);
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
            if row.is_none_or(|row| row.node != slot.node || !row.listed) {
                return malformed(format!("{} has no disk {}", slot.node, slot.disk));
            }
        }
        let next_key = RowKey::Meta(Meta::NextVolume);
        let id = self.read::<VolumeId>(&next_key)?.unwrap_or(VolumeId(1));
        if id > VolumeId::MAX {
            return malformed("volume numbers are used up");
        }
        self.write(&next_key, &id.next());
        let since = Epoch(1);
        let slots = slots.iter().map(|slot| SlotRow {
            disk: slot.disk,
            since,
        });
        let volume = VolumeRow {
            id,
            profile,
            epoch: since,
            open_until: since,
            closed_before: None,
            domain,
            slots: slots.collect(),
            moves: Vec::new(),
            shrunk,
        };
        self.write(&RowKey::Volume(id), &volume);
        self.write(&RowKey::VolumeCounts(id), &VolumeCounts::empty(profile));
        self.write(&RowKey::OpenVolume(id), &());
        self.volume_outcome(id)
    }

    fn volume_outcome(&self, id: VolumeId) -> Step<Outcome> {
        let volume = lookup::volume(self.rows, id)?;
        let gone = || MachineError::Contradiction(format!("{id} is not there"));
        Ok(Outcome::Volume(volume.ok_or_else(gone)?))
    }

    fn next_lease(&self) -> Result<LeaseId, MachineError> {
        let next: Option<LeaseId> = self.read(&RowKey::Meta(Meta::NextLease))?;
        Ok(next.unwrap_or(LeaseId(0)))
    }

    /// Closes a volume. If that epoch of it is already closed, returns it as it is.
    pub(super) fn close_volume(&mut self, id: VolumeId, epoch: Epoch) -> Step<Outcome> {
        let key = RowKey::Volume(id);
        let mut volume = match self.read::<VolumeRow>(&key)? {
            Some(volume) if volume.epoch == epoch => volume,
            Some(_) | None => return Err(Refusal::StaleVolume { volume: id, epoch }.into()),
        };
        if volume.state() == VolumeState::Open {
            volume.closed_before = Some(self.next_lease()?);
            volume.epoch = epoch.next();
            self.write(&key, &volume);
            self.delete(&RowKey::OpenVolume(id));
        }
        self.volume_outcome(id)
    }

    pub(super) fn open_lease(&mut self, gateway: GatewayId, request: u64) -> Step<Outcome> {
        let all = self.page::<Lease>(&keys::table(Table::Leases), usize::MAX)?;
        let open = all.into_iter().map(|(_, lease)| lease);
        let own: Vec<Lease> = open.filter(|lease| lease.gateway == gateway).collect();
        if let Some(lease) = own.iter().find(|lease| lease.request == request) {
            return Ok(Outcome::Lease(*lease));
        }
        if own.len() >= GATEWAY_LEASES_MAX {
            return malformed(format!("{gateway} has {} open leases", own.len()));
        }
        let id = self.next_lease()?;
        if id > LeaseId::MAX {
            return malformed("blob ids are used up");
        }
        let lease = Lease {
            id,
            gateway,
            request,
        };
        self.write(&RowKey::Meta(Meta::NextLease), &id.next());
        self.write(&RowKey::Lease(id), &lease);
        Ok(Outcome::Lease(lease))
    }

    /// Closes a lease by forgetting it: if an id is below the next one and in no lease row, its
    /// lease is closed. Closing twice is harmless.
    pub(super) fn close_lease(&mut self, gateway: GatewayId, id: LeaseId) -> Step<Outcome> {
        let key = RowKey::Lease(id);
        let Some(lease) = self.read::<Lease>(&key)? else {
            return Ok(Outcome::Done);
        };
        if lease.gateway != gateway {
            return malformed(format!("{id} is not a lease of {gateway}"));
        }
        self.delete(&key);
        let (from, _) = id.blobs();
        self.doom(&DoomedRow::Spent { lease: id, from })?;
        Ok(Outcome::Done)
    }
}

/// Says why `node` may not have a disk that is known; None if it may.
fn judge_disk(row: &DiskRow, proof: DiskProof, node: NodeId) -> Option<DiskRefusal> {
    // First, so that a stranger does not learn whose the disk is.
    if row.proof != proof {
        return Some(DiskRefusal::OtherSuperblock);
    }
    let served = row.listed && row.node != node;
    served.then_some(DiskRefusal::Served(row.node))
}

/// Checks what does not depend on rows.
fn check_form(claim: &NodeClaim) -> Step<()> {
    let listed: BTreeSet<DiskId> = claim.disks.iter().map(|claim| claim.disk.id).collect();
    let disks = claim.disks.len();
    if disks > NODE_DISKS_MAX {
        return malformed(format!(
            "a node has {NODE_DISKS_MAX} disks at most, not {disks}"
        ));
    }
    if listed.len() != disks {
        return malformed("a disk is listed twice");
    }
    let texts = [
        ("address", &claim.rpc_address, ADDRESS_LEN_MAX),
        ("address", &claim.data_address, ADDRESS_LEN_MAX),
        ("zone", &claim.zone, ZONE_LEN_MAX),
    ];
    for (what, text, len_max) in texts {
        if text.len() > len_max || text.chars().any(char::is_control) {
            return malformed(format!(
                "its {what} is longer than {len_max} bytes, or holds control characters"
            ));
        }
    }
    Ok(())
}
