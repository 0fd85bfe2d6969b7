//! Whether a write is still admitted: the volume's epoch, the slot's disk, the blob's lease.
//!
//! Judged by the newest map this node has; a "no" is only said after the metadata group was asked
//! once, because a gateway may know a new volume or lease before this node does.

use super::data::Refused;
use megalith_client::wire::ShardPath;
use megalith_client::{DataFault, MapWatch, MetaClient, TypedCalls as _};
use megalith_identity::{PeerIdentity, Role};
use megalith_model::ids::{Epoch, GatewayId, NodeId};
use megalith_model::question;
use megalith_model::topology::{ClusterMap, Slot, Volume};

/// Judges writes to this node.
pub struct Admission {
    node: NodeId,
    maps: MapWatch,
    meta: MetaClient,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// A new blob, under a lease of its own.
    Gateway(GatewayId),
    /// A shard that was lost, of a blob that has a row.
    Repair,
}

impl Admission {
    /// Builds the admission of a node.
    #[must_use]
    pub fn new(node: NodeId, maps: MapWatch, meta: MetaClient) -> Self {
        Self { node, maps, meta }
    }

    /// Lets a write pass or says why not.
    pub(super) async fn check(
        &self,
        peer: &PeerIdentity,
        path: &ShardPath,
        epoch: Epoch,
    ) -> Result<(), Refused> {
        // One that has both roles may write as either; its certificate can't tell which it means.
        let writer = match peer.gateway_id() {
            _ if peer.has(Role::Storage) => Writer::Repair,
            Some(gateway) => Writer::Gateway(gateway),
            None => {
                let message = "this role writes no shards";
                return Err(Refused::new(DataFault::Forbidden, message));
            }
        };
        let map = self.maps.current();
        if judge(self.node, &map, &[], writer, path, epoch).is_ok() {
            return Ok(());
        }
        let unsure = |error: megalith_client::ClientError| {
            let message = format!("the metadata group does not answer: {error}");
            Refused::new(DataFault::Busy, message)
        };
        let map = self.maps.refresh().await.map_err(unsure)?;
        let closed = match writer {
            Writer::Gateway(_) => Vec::new(),
            // Maps hold open volumes only.
            Writer::Repair => {
                let volumes = vec![path.shard.volume];
                let asked = question::Volumes { volumes };
                self.meta.ask(asked).await.map_err(unsure)?
            }
        };
        judge(self.node, &map, &closed, writer, path, epoch)
    }
}

/// Judges by a map, and for repairs by the volumes that were asked for, which are newer.
fn judge(
    node: NodeId,
    map: &ClusterMap,
    closed: &[Volume],
    writer: Writer,
    path: &ShardPath,
    epoch: Epoch,
) -> Result<(), Refused> {
    let volumes = closed.iter().chain(&map.writable).chain(&map.degraded);
    let stale = |present: Option<Epoch>, message: String| {
        Err(Refused::new(DataFault::StaleEpoch { present }, message))
    };
    let Some(volume) = volumes
        .into_iter()
        .find(|volume| volume.id == path.shard.volume)
    else {
        return stale(None, format!("{} takes no new shards", path.shard.volume));
    };
    if volume.epoch != epoch {
        let message = format!("{} is in {}, not in {epoch}", volume.id, volume.epoch);
        return stale(Some(volume.epoch), message);
    }
    let here = Slot {
        node,
        disk: path.disk,
    };
    if volume.slots.get(usize::from(path.shard.slot)) != Some(&here) {
        let message = format!("this disk is not slot {} of {}", path.shard.slot, volume.id);
        return stale(Some(volume.epoch), message);
    }
    let leased = match writer {
        Writer::Repair => true,
        Writer::Gateway(gateway) => map
            .leases
            .iter()
            .any(|lease| lease.gateway == gateway && lease.id == path.shard.blob.lease()),
    };
    if leased {
        Ok(())
    } else {
        let message = format!("{} is in no open lease of this gateway", path.shard.blob);
        Err(Refused::new(DataFault::LeaseClosed, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::{BlobId, DiskId, LeaseId, VolumeId};
    use megalith_model::profile::Profile;
    use megalith_model::shard::ShardId;
    use megalith_model::topology::{Domain, Lease, VolumeState};

    const NODE: NodeId = NodeId(4);
    const DISK: DiskId = DiskId([7; 16]);

    fn volume(id: u64, epoch: u32) -> Volume {
        let other = Slot {
            node: NodeId(9),
            disk: DiskId([9; 16]),
        };
        let here = Slot {
            node: NODE,
            disk: DISK,
        };
        Volume {
            id: VolumeId(id),
            profile: Profile::new(1, 1).expect("valid"),
            epoch: Epoch(epoch),
            state: VolumeState::Open,
            domain: Domain::Node,
            slots: vec![other, here],
            bytes: 0,
            shrunk: false,
        }
    }

    fn map() -> ClusterMap {
        ClusterMap {
            writable: vec![volume(1, 5)],
            degraded: vec![volume(2, 3)],
            leases: vec![Lease {
                id: LeaseId(1),
                gateway: GatewayId(8),
                request: 0,
            }],
            ..ClusterMap::default()
        }
    }

    fn verdict(writer: Writer, volume: u64, slot: u8, blob: u64, epoch: u32) -> &'static str {
        let closed = match writer {
            Writer::Repair => vec![self::volume(3, 6)],
            Writer::Gateway(_) => vec![],
        };
        let path = ShardPath {
            disk: DISK,
            shard: ShardId {
                volume: VolumeId(volume),
                blob: BlobId(blob),
                segment: 0,
                slot,
            },
        };
        match judge(NODE, &map(), &closed, writer, &path, Epoch(epoch)) {
            Ok(()) => "ok",
            Err(refused) => refused.fault.name(),
        }
    }

    #[test]
    fn a_gateway_writes_only_what_its_lease_and_the_volume_allow() {
        let gateway = Writer::Gateway(GatewayId(8));
        assert_eq!(verdict(gateway, 1, 1, 65_536, 5), "ok");
        assert_eq!(verdict(gateway, 2, 1, 131_071, 3), "ok");
        assert_eq!(verdict(gateway, 1, 1, 65_535, 5), "lease_closed");
        assert_eq!(verdict(gateway, 1, 1, 131_072, 5), "lease_closed");
        assert_eq!(
            verdict(Writer::Gateway(GatewayId(7)), 1, 1, 65_536, 5),
            "lease_closed"
        );
        assert_eq!(verdict(gateway, 1, 1, 65_536, 4), "stale_epoch");
        assert_eq!(verdict(gateway, 1, 1, 65_536, 6), "stale_epoch");
        assert_eq!(verdict(gateway, 1, 0, 65_536, 5), "stale_epoch");
        assert_eq!(verdict(gateway, 1, 2, 65_536, 5), "stale_epoch");
        assert_eq!(verdict(gateway, 3, 1, 65_536, 6), "stale_epoch");
    }

    #[test]
    fn a_repair_needs_no_lease_but_the_right_place() {
        assert_eq!(verdict(Writer::Repair, 3, 1, 5000, 6), "ok");
        assert_eq!(verdict(Writer::Repair, 1, 1, 5000, 5), "ok");
        assert_eq!(verdict(Writer::Repair, 3, 1, 5000, 5), "stale_epoch");
        assert_eq!(verdict(Writer::Repair, 3, 0, 5000, 6), "stale_epoch");
        assert_eq!(verdict(Writer::Repair, 4, 1, 5000, 6), "stale_epoch");
    }
}
