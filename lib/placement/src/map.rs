//! Makes the map that every process gets.

use super::domains::VolumeKind;
use super::state::View;
use megalith_model::topology::{ClusterMap, Volume};
use std::cmp::Reverse;

/// Makes the map of this moment, without its number.
pub(super) fn make(
    view: &View<'_>,
    wished: Option<VolumeKind>,
    refusal: Option<String>,
) -> ClusterMap {
    let mut writable = Vec::new();
    let mut degraded = Vec::new();
    for volume in &view.topology.open_volumes {
        let missing = volume.slots.iter().filter(|m| !view.takes(m)).count();
        if missing == 0 {
            writable.push(volume.clone());
        } else if volume.profile.shards() - missing >= volume.profile.write_quorum() {
            degraded.push(volume.clone());
        }
    }
    let rank = |volume: &Volume| {
        let kind = VolumeKind {
            profile: volume.profile,
            domain: volume.domain,
        };
        (
            view.full(volume),
            Some(kind) != wished,
            Reverse(volume.profile.data()),
            volume.id,
        )
    };
    writable.sort_by_key(rank);
    degraded.sort_by_key(rank);
    ClusterMap {
        term: 0,
        version: 0,
        nodes: view.topology.nodes.clone(),
        alive: view.alive.iter().copied().collect(),
        closed_disks: view.closed_disks(),
        writable,
        degraded,
        leases: view.topology.leases.clone(),
        refusal,
    }
}

/// Numbers the map if it says something new; a volume that only grew is nothing new.
pub(super) fn next(old: Option<&ClusterMap>, term: u64, mut map: ClusterMap) -> Option<ClusterMap> {
    map.term = term;
    map.version = old.map_or(1, |old| old.version + 1);
    match old {
        Some(old) if said(old) == said(&map) => None,
        Some(_) | None => Some(map),
    }
}

/// Returns what a map says, without bytes and number.
fn said(map: &ClusterMap) -> ClusterMap {
    let mut said = map.clone();
    said.version = 0;
    for volume in said.writable.iter_mut().chain(&mut said.degraded) {
        volume.bytes = 0;
    }
    said
}
