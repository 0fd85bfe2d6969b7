//! Which disks owe the shards that segments lack. Pure.

use crate::report::OwingDisk;
use megalith_model::ids::{DiskId, NodeId};
use megalith_model::query::DataStatus;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Disks that are named in a reason; the report has all.
const NAMED_MAX: usize = 3;

/// Returns the disks that owe shards, those that owe most first.
pub(super) fn by_disk(data: &DataStatus) -> Vec<OwingDisk> {
    let mut owing: BTreeMap<(NodeId, DiskId), u64> = BTreeMap::new();
    for of in &data.volumes {
        for (number, slot) in of.volume.slots.iter().enumerate() {
            let owes = |mask: u32| mask >> number & 1 == 1;
            let shards = of.owed.iter().filter(|(_, _, mask, _)| owes(*mask));
            let shards: u64 = shards.map(|(_, _, _, segments)| segments).sum();
            if shards > 0 {
                *owing.entry((slot.node, slot.disk)).or_default() += shards;
            }
        }
    }
    let mut owing: Vec<OwingDisk> = owing
        .into_iter()
        .map(|((node, disk), shards)| OwingDisk {
            disk: disk.to_string(),
            node: node.0,
            shards,
        })
        .collect();
    owing.sort_by_key(|disk| Reverse(disk.shards));
    owing
}

/// Says that segments lack shards, and on which disks.
pub(super) fn said(segments: u64, owing: &[OwingDisk]) -> String {
    let mut said = format!("{segments} segments lack shards that should exist (owed)");
    let named = owing.iter().take(NAMED_MAX).map(|disk| {
        let OwingDisk { disk, node, shards } = disk;
        format!("{shards} on disk {disk} of node {node}")
    });
    let mut named: Vec<String> = named.collect();
    match owing.len().saturating_sub(NAMED_MAX) {
        0 => {}
        1 => named.push("some on 1 more disk".to_owned()),
        more => named.push(format!("some on {more} more disks")),
    }
    if !named.is_empty() {
        said.push_str(": ");
        said.push_str(&named.join(", "));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::{Epoch, VolumeId};
    use megalith_model::profile::Profile;
    use megalith_model::query::VolumeStatus;
    use megalith_model::rows::VolumeCounts;
    use megalith_model::shape::Shape;
    use megalith_model::topology::{Domain, Slot, Volume, VolumeState};

    /// A volume on the disks of nodes 1 to 5, with owed masks and how many segments have each.
    fn volume(owed: &[(u32, u64)]) -> VolumeStatus {
        let slot = |node: u8| Slot {
            node: NodeId(node.into()),
            disk: DiskId([node; 16]),
        };
        VolumeStatus {
            volume: Volume {
                id: VolumeId(1),
                profile: Profile::new(3, 2).expect("a profile"),
                epoch: Epoch(1),
                state: VolumeState::Closed,
                domain: Domain::Node,
                slots: (1..=5).map(slot).collect(),
                bytes: 0,
                shrunk: false,
            },
            counts: VolumeCounts::default(),
            owed: owed
                .iter()
                .map(|(mask, segments)| (Shape::Coded, 3, *mask, *segments))
                .collect(),
        }
    }

    fn shards(volumes: Vec<VolumeStatus>) -> Vec<(u32, u64)> {
        let data = DataStatus {
            volumes,
            ..DataStatus::default()
        };
        let owing = by_disk(&data);
        owing.iter().map(|disk| (disk.node, disk.shards)).collect()
    }

    #[test]
    fn shards_are_counted_by_disk_over_all_volumes() {
        assert_eq!(shards(vec![volume(&[])]), []);
        // Two shards of one segment are owed by two disks.
        let volumes = vec![
            volume(&[(0b0_0110, 4), (0b0_0010, 1)]),
            volume(&[(0b1_0000, 9)]),
        ];
        assert_eq!(shards(volumes), [(5, 9), (2, 5), (3, 4)]);
    }

    #[test]
    fn few_disks_are_named_and_the_others_counted() {
        let owing = |disks: u32| -> Vec<OwingDisk> {
            let disk = |node| OwingDisk {
                disk: format!("d{node}"),
                node,
                shards: 7,
            };
            (1..=disks).map(disk).collect()
        };
        assert_eq!(
            said(2, &[]),
            "2 segments lack shards that should exist (owed)"
        );
        let ends = |disks: u32, end: &str| {
            let said = said(9, &owing(disks));
            assert!(said.ends_with(end), "{said}");
        };
        ends(1, "(owed): 7 on disk d1 of node 1");
        ends(3, ", 7 on disk d3 of node 3");
        ends(4, "7 on disk d3 of node 3, some on 1 more disk");
        ends(9, "7 on disk d3 of node 3, some on 6 more disks");
    }
}
