//! Chooses the disks of a new volume.

use super::domains::{Aim, VolumeKind};
use super::state::View;
use megalith_model::command::Command;
use megalith_model::ids::{DiskId, NodeId, VolumeId};
use megalith_model::profile::Profile;
use megalith_model::topology::Slot;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

/// The failure domain above the one that gets a slot; slots are spread over these evenly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OuterDomain {
    /// The zone of a node; empty if none is given.
    Zone(String),
    /// The node of a disk.
    Node(NodeId),
}

impl fmt::Display for OuterDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zone(zone) if zone.is_empty() => f.write_str("(none)"),
            Self::Zone(zone) => f.write_str(zone),
            Self::Node(node) => node.fmt(f),
        }
    }
}

/// A possible place for a slot: one for each failure domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) outer: OuterDomain,
    pub(super) node: NodeId,
    pub(super) disk: DiskId,
    pub(super) free: u64,
}

/// Returns what a candidate's disk has free once the open volumes on it are full. May be negative.
pub(super) fn unclaimed(view: &View<'_>, candidate: &Candidate) -> i128 {
    let claimed: u64 = view
        .topology
        .open_volumes
        .iter()
        .filter(|volume| volume.slots.iter().any(|m| m.disk == candidate.disk))
        .map(|volume| growth(view, volume.profile, volume.bytes))
        .sum();
    i128::from(candidate.free) - i128::from(claimed)
}

/// Returns what a volume will still take of each slot's disk.
fn growth(view: &View<'_>, profile: Profile, bytes: u64) -> u64 {
    view.topology.settings.volume_bytes.saturating_sub(bytes) / profile.data() as u64
}

/// Returns what each candidate's disk has free once the open and the proposed volumes are full.
fn free_after(view: &View<'_>, aim: &Aim, proposed: &[Command]) -> BTreeMap<DiskId, i128> {
    let mut free: BTreeMap<DiskId, i128> = aim
        .candidates
        .iter()
        .map(|candidate| (candidate.disk, unclaimed(view, candidate)))
        .collect();
    for command in proposed {
        if let Command::CreateVolume { profile, slots, .. } = command {
            for slot in slots {
                if let Some(free) = free.get_mut(&slot.disk) {
                    *free -= i128::from(growth(view, *profile, 0));
                }
            }
        }
    }
    free
}

/// Picks the slots of the next volume: evenly over the outer domains, at most `outer_max` in each,
/// the disks with the most free space first. `proposed` are volumes not yet made. None if there is
/// no room.
pub(super) fn choose(
    view: &View<'_>,
    aim: &Aim,
    kind: VolumeKind,
    number: VolumeId,
    proposed: &[Command],
) -> Option<Vec<Slot>> {
    let free = free_after(view, aim, proposed);
    let mut taken: BTreeMap<&OuterDomain, usize> = BTreeMap::new();
    let mut left: Vec<&Candidate> = aim.candidates.iter().collect();
    let mut slots = Vec::with_capacity(kind.profile.shards());
    while slots.len() < kind.profile.shards() {
        let in_outer = |candidate: &Candidate| taken.get(&candidate.outer).copied().unwrap_or(0);
        let (at, _) = left
            .iter()
            .enumerate()
            .filter(|(_, candidate)| in_outer(candidate) < aim.outer_max)
            .min_by_key(|(_, c)| (in_outer(c), Reverse(free[&c.disk]), c.node, c.disk))?;
        let chosen = left.swap_remove(at);
        *taken.entry(&chosen.outer).or_default() += 1;
        slots.push(Slot {
            node: chosen.node,
            disk: chosen.disk,
        });
    }
    // Data and parity slots bear different loads, so their order varies from volume to volume.
    slots.sort_by_cached_key(|slot| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&number.0.to_be_bytes());
        hasher.update(&slot.disk.0);
        *hasher.finalize().as_bytes()
    });
    Some(slots)
}
