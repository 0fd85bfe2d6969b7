//! The choice of a volume for a segment.
//!
//! Takes writable volumes in rotation, first those without a node that failed just now. Takes a
//! degraded one only if the map has no writable one at all.

use super::nodes::Nodes;
use megalith_model::ids::VolumeId;
use megalith_model::topology::{ClusterMap, Volume};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why no volume is left to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoVolume {
    /// The cluster has none, for this reason.
    Refused(String),
    /// All volumes have been tried.
    AllTried,
}

/// Chooses volumes in rotation.
#[derive(Default)]
pub struct Chooser {
    turn: AtomicUsize,
}

impl Chooser {
    /// Chooses a volume that isn't among `tried`.
    pub fn choose(
        &self,
        map: &ClusterMap,
        nodes: &Nodes,
        tried: &[VolumeId],
    ) -> Result<Volume, NoVolume> {
        let volumes = match map.writable.is_empty() {
            false => &map.writable,
            true => &map.degraded,
        };
        if volumes.is_empty() {
            let reason = map.refusal.clone();
            let reason = reason.unwrap_or_else(|| "no volume is open yet".into());
            return Err(NoVolume::Refused(reason));
        }
        let doubtful = |volume: &Volume| {
            let slots = volume.slots.iter();
            slots
                .filter(|slot| !map.is_alive(slot.node) || nodes.is_penalised(slot.node))
                .count()
        };
        let left: Vec<(usize, &Volume)> = volumes
            .iter()
            .filter(|volume| !tried.contains(&volume.id))
            .map(|volume| (doubtful(volume), volume))
            .collect();
        let fewest = left.iter().map(|(doubtful, _)| *doubtful).min();
        let best = left
            .iter()
            .filter(|(doubtful, _)| Some(*doubtful) == fewest);
        let best: Vec<&Volume> = best.map(|(_, volume)| *volume).collect();
        if best.is_empty() {
            return Err(NoVolume::AllTried);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Ok(best[turn % best.len()].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::{DiskId, Epoch, NodeId};
    use megalith_model::profile::Profile;
    use megalith_model::topology::{Domain, Slot, VolumeState};
    use std::time::Duration;

    fn volume(id: u64, nodes: [u32; 3]) -> Volume {
        let slot = |node| Slot {
            node: NodeId(node),
            disk: DiskId([node as u8; 16]),
        };
        Volume {
            id: VolumeId(id),
            profile: Profile::new(1, 2).expect("valid"),
            epoch: Epoch(1),
            state: VolumeState::Open,
            domain: Domain::Node,
            slots: nodes.map(slot).to_vec(),
            bytes: 0,
            shrunk: false,
        }
    }

    fn map() -> ClusterMap {
        ClusterMap {
            alive: (1..=6).map(NodeId).collect(),
            writable: vec![
                volume(1, [1, 2, 3]),
                volume(2, [4, 5, 6]),
                volume(3, [2, 3, 4]),
            ],
            degraded: vec![volume(9, [1, 2, 7])],
            ..ClusterMap::default()
        }
    }

    #[test]
    fn rotates_and_avoids_nodes_that_failed() {
        let (chooser, nodes) = (Chooser::default(), Nodes::new(Duration::from_secs(9)));
        let choose = |tried: &[VolumeId]| chooser.choose(&map(), &nodes, tried).map(|v| v.id.0);
        let mut seen: Vec<u64> = (0..3).map(|_| choose(&[]).expect("some")).collect();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
        nodes.failed(NodeId(4));
        assert!((0..6).all(|_| choose(&[]) == Ok(1)));
        let rest = choose(&[VolumeId(1), VolumeId(2)]);
        assert_eq!(rest, Ok(3));
        let all = [VolumeId(1), VolumeId(2), VolumeId(3)];
        assert_eq!(choose(&all), Err(NoVolume::AllTried));
    }

    #[test]
    fn degraded_only_where_nothing_is_writable() {
        let (chooser, nodes) = (Chooser::default(), Nodes::new(Duration::from_secs(9)));
        let mut map = map();
        map.writable.clear();
        let chosen = chooser.choose(&map, &nodes, &[]).map(|v| v.id.0);
        assert_eq!(chosen, Ok(9));
        map.degraded.clear();
        map.refusal = Some("2 of 3 nodes live".into());
        let refused = chooser.choose(&map, &nodes, &[]);
        assert_eq!(refused, Err(NoVolume::Refused("2 of 3 nodes live".into())));
    }
}
