//! Whether a question concerns a storage node: its own disks, and volumes that it takes part in.

use crate::ids::{DiskId, NodeId};
use crate::keys::RowKey;
use crate::lookup;
use crate::machine::{MachineError, read};
use crate::query::Query;
use crate::question;
use crate::rows::DiskRow;
use crate::table::Rows;

/// Returns false if the question is about another node's disk, or about a volume without a slot on
/// the node. A disk or volume without a row concerns everybody: there is nothing to tell.
pub fn concerns(rows: &dyn Rows, query: &Query, node: NodeId) -> Result<bool, MachineError> {
    match query {
        Query::Deletes(question::Deletes { disk, .. })
        | Query::DiskVolumes(question::DiskVolumes { disk })
        | Query::OwedShards(question::OwedShards { disk, .. })
        | Query::Witnesses(question::Witnesses { disk, .. }) => of_disk(rows, *disk, node),
        Query::Held(question::Held { volume, .. }) => {
            let volume = lookup::volume(rows, *volume)?;
            Ok(volume.is_none_or(|volume| volume.slots.iter().any(|slot| slot.node == node)))
        }
        // Which volumes there are is about nobody's objects. Of the doubts a node is shown its own.
        Query::Volumes(_) | Query::Doubts(_) => Ok(true),
        Query::Bucket(_)
        | Query::Buckets(_)
        | Query::Object(_)
        | Query::Blobs(_)
        | Query::List(_)
        | Query::Upload(_)
        | Query::Uploads(_)
        | Query::Parts(_)
        | Query::AccessKey(_)
        | Query::Accounts(_)
        | Query::AccessKeys(_)
        | Query::Keks(_)
        | Query::Counters(_)
        | Query::Data(_)
        | Query::Settings(_)
        | Query::DenyList(_)
        | Query::Rotation(_)
        | Query::ToReseal(_) => Ok(false),
    }
}

/// Returns whether the node serves the disk, or nobody knows it.
pub(super) fn of_disk(rows: &dyn Rows, disk: DiskId, node: NodeId) -> Result<bool, MachineError> {
    let row: Option<DiskRow> = read(rows, &RowKey::Disk(disk))?;
    Ok(row.is_none_or(|row| row.node == node && row.listed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::VolumeId;
    use crate::machine::tests::{World, disk_id, node};

    #[test]
    fn a_node_asks_of_its_own_disks_and_volumes() {
        let mut world = World::ready();
        world.register(node(7));
        let asks = |query: Query, node| {
            concerns(&world.rows, &query, NodeId(node)).expect("rows in memory")
        };
        let max = 1;
        for disk in [1, 9] {
            let disk = disk_id(disk);
            let unknown = disk == disk_id(9);
            for query in [
                question::Deletes {
                    disk,
                    max,
                    after: 0,
                    urgent: false,
                }
                .into(),
                question::DiskVolumes { disk }.into(),
                Query::from(question::OwedShards { disk, after: None }),
                question::Witnesses {
                    disk,
                    shards: Vec::new(),
                }
                .into(),
            ] {
                assert!(asks(query.clone(), 1), "{query:?}");
                assert_eq!(asks(query.clone(), 2), unknown, "{query:?}");
            }
        }
        let volume = VolumeId(1);
        let held = question::Held {
            volume,
            after: None,
            max,
        };
        assert!(asks(held.into(), 6));
        assert!(!asks(held.into(), 7));
        assert!(!asks(question::Keks.into(), 1));
        assert!(!asks(question::Data.into(), 1));
    }
}
