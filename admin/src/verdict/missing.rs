//! Disks that volumes name and that no node serves: lost, wiped, or left out by their node.
//!
//! A node that is alive without one of its disks looks well, so these are judged by what the
//! volumes name. The disks of a silent node are its node's reason and not named again.

use super::Verdict;
use megalith_model::ids::{DiskId, NodeId};
use megalith_model::margin;
use megalith_model::status::ClusterStatus;
use megalith_model::topology::VolumeState;
use std::collections::BTreeMap;

/// What a missing disk was part of.
#[derive(Default)]
struct Part {
    volumes: u64,
    /// Whether one of them is open.
    open: bool,
}

pub(super) fn judge(status: &ClusterStatus, verdict: &mut Verdict, notes: &mut Vec<String>) {
    let mut missing: BTreeMap<(NodeId, DiskId), Part> = BTreeMap::new();
    for of in &status.data.volumes {
        for slot in &of.volume.slots {
            if !margin::is_listed(&status.map, slot) {
                let part = missing.entry((slot.node, slot.disk)).or_default();
                part.volumes += 1;
                part.open |= of.volume.state == VolumeState::Open;
            }
        }
    }
    for ((node, disk), part) in missing {
        let node = node.0;
        let held = margin::held_by(&status.data, disk);
        let volumes = counted(part.volumes, "volume");
        let lost = match held {
            0 => format!("{volumes} without shards"),
            _ => format!("shards of {} in {volumes}", counted(held, "segment")),
        };
        let said = format!("disk {disk} of node {node} is missing, and with it {lost}");
        if held > 0 || part.open {
            verdict.degraded(said);
        } else {
            notes.push(said);
        }
    }
}

fn counted(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Health;
    use megalith_model::ids::{ClusterId, Epoch, VolumeId};
    use megalith_model::level::{Level, LevelStatus};
    use megalith_model::profile::Profile;
    use megalith_model::query::{DataStatus, VolumeStatus};
    use megalith_model::rows::VolumeCounts;
    use megalith_model::shape::Shape;
    use megalith_model::topology::{ClusterMap, Disk, Domain, Node, Slot, Volume};

    const NODES: u32 = 3;

    fn disk(node: u32) -> DiskId {
        DiskId([u8::try_from(node).expect("few nodes"); 16])
    }

    fn volume(number: u64, coded: u64) -> VolumeStatus {
        let slot = |node| Slot {
            node: NodeId(node),
            disk: disk(node),
        };
        VolumeStatus {
            volume: Volume {
                id: VolumeId(number),
                profile: Profile::new(2, 1).expect("a profile"),
                epoch: Epoch(1),
                state: VolumeState::Closed,
                domain: Domain::Node,
                slots: (1..=NODES).map(slot).collect(),
                bytes: 0,
                shrunk: false,
            },
            counts: VolumeCounts {
                coded,
                ..VolumeCounts::default()
            },
            owed: Vec::new(),
        }
    }

    /// Three nodes that serve a disk each, which these volumes are on.
    fn well(volumes: Vec<VolumeStatus>) -> ClusterStatus {
        let node = |node| Node {
            id: NodeId(node),
            rpc_address: String::new(),
            data_address: String::new(),
            zone: String::new(),
            disks: vec![Disk {
                id: disk(node),
                capacity: 1,
            }],
        };
        ClusterStatus {
            cluster: ClusterId::default(),
            members: Vec::new(),
            nodes: Vec::new(),
            data: DataStatus {
                volumes,
                ..DataStatus::default()
            },
            map: ClusterMap {
                nodes: (1..=NODES).map(node).collect(),
                alive: (1..=NODES).map(NodeId).collect(),
                ..ClusterMap::default()
            },
            level: LevelStatus {
                level: Level(1),
                highest: Level(1),
                processes: Vec::new(),
            },
        }
    }

    /// Returns the health, the reasons and the notes, ids cut short.
    fn judged(status: &ClusterStatus) -> (Health, Vec<String>, Vec<String>) {
        let (mut verdict, mut notes) = (Verdict::default(), Vec::new());
        judge(status, &mut verdict, &mut notes);
        let (health, reasons) = verdict.close();
        let short = |said: Vec<String>| {
            let short = said.iter().map(|said| said.replace("0202", ""));
            short.collect::<Vec<_>>()
        };
        (health, short(reasons), short(notes))
    }

    #[test]
    fn all_served_says_nothing_and_a_silent_node_is_not_a_missing_disk() {
        let mut status = well(vec![volume(1, 40)]);
        let nothing = (Health::Healthy, Vec::new(), Vec::new());
        assert_eq!(judged(&status), nothing);
        status.map.alive.clear();
        assert_eq!(judged(&status), nothing);
    }

    #[test]
    fn each_missing_disk_is_named_once_with_all_that_it_held() {
        let mut status = well(vec![volume(1, 40), volume(2, 2), volume(3, 0)]);
        status.map.nodes[1].disks.clear();
        let said = "disk  of node 2 is missing, and with it shards of 42 segments in 3 volumes";
        let named = (Health::Degraded, vec![said.to_owned()], Vec::new());
        assert_eq!(judged(&status), named);
        // The cluster doesn't know the node any more.
        status.map.nodes.remove(1);
        assert_eq!(judged(&status), named);
    }

    #[test]
    fn another_disk_in_its_place_or_at_another_node_does_not_count() {
        for (node, id) in [(1, disk(9)), (0, disk(2))] {
            let mut status = well(vec![volume(1, 1)]);
            status.map.nodes[1].disks.clear();
            status.map.nodes[node].disks.push(Disk { id, capacity: 1 });
            let said = "disk  of node 2 is missing, and with it shards of 1 segment in 1 volume";
            assert_eq!(judged(&status).1, vec![said.to_owned()]);
        }
    }

    #[test]
    fn what_the_disk_owes_was_not_lost_with_it() {
        let mut owing = volume(1, 0);
        owing.owed = vec![(Shape::Coded, 2, 0b010, 5), (Shape::Coded, 2, 0b001, 3)];
        let mut status = well(vec![owing]);
        status.map.nodes[1].disks.clear();
        let (health, said, _) = judged(&status);
        assert_eq!(health, Health::Degraded);
        assert!(said[0].contains("shards of 3 segments"), "{said:?}");
    }

    #[test]
    fn without_shards_it_matters_only_to_an_open_volume() {
        let mut status = well(vec![volume(1, 0)]);
        status.map.nodes[1].disks.clear();
        let said = "disk  of node 2 is missing, and with it 1 volume without shards".to_owned();
        let note = (Health::Healthy, Vec::new(), vec![said.clone()]);
        assert_eq!(judged(&status), note);
        status.data.volumes[0].volume.state = VolumeState::Open;
        assert_eq!(judged(&status), (Health::Degraded, vec![said], Vec::new()));
    }
}
