//! Since when the map has had no volume to write to, and whether waiting for the next one helps.
//!
//! Never waits and reads no clock. A write waits for a map with a volume, since one is made within
//! about two seconds of a change. A map that has refused for that long already is not news, and
//! the next write needn't wait for what the last one waited for in vain.

use crate::lock::lock;
use megalith_model::topology::ClusterMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// The newest map that refused a write, by term and version, and when it first did.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<Option<((u64, u64), Instant)>>);

impl Refusals {
    /// A write at `now` found no volume in `map`. Returns until when a newer map is worth waiting
    /// for if one may be waited for as long as `wait`; not after `now` if it is not.
    pub(crate) fn until(&self, map: &ClusterMap, now: Instant, wait: Duration) -> Instant {
        if takes_nothing(map) {
            return now;
        }
        let number = (map.term, map.version);
        let mut newest = lock(&self.0);
        let since = match *newest {
            Some((known, since)) if known == number => since,
            Some(_) | None => now,
        };
        *newest = Some((number, since));
        since + wait
    }
}

/// Returns true if every disk is there, with its node alive, and takes no new shards: what is out
/// is no node that may be back in a moment, and no volume can be on its way.
fn takes_nothing(map: &ClusterMap) -> bool {
    let mut storage = map.nodes.iter().filter(|node| !node.disks.is_empty());
    let closed = |id| map.closed_disks.contains(&id);
    storage.clone().next().is_some()
        && storage
            .all(|node| map.is_alive(node.id) && node.disks.iter().all(|disk| closed(disk.id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::{DiskId, NodeId};
    use megalith_model::topology::{Disk, Node};

    const WAIT: Duration = Duration::from_secs(5);

    fn disk(id: u8) -> DiskId {
        DiskId([id; 16])
    }

    /// Two nodes with two disks each, all open.
    fn map() -> ClusterMap {
        let node = |id: u8| Node {
            id: NodeId(id.into()),
            rpc_address: String::new(),
            data_address: String::new(),
            zone: String::new(),
            disks: [id * 2, id * 2 + 1]
                .map(|id| Disk {
                    id: disk(id),
                    capacity: 1,
                })
                .to_vec(),
        };
        ClusterMap {
            term: 3,
            version: 1,
            nodes: vec![node(1), node(2)],
            alive: vec![NodeId(1), NodeId(2)],
            refusal: Some("none".into()),
            ..ClusterMap::default()
        }
    }

    #[test]
    fn a_map_that_refuses_is_waited_on_once_and_a_newer_one_anew() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let mut map = map();
        assert_eq!(refusals.until(&map, start, WAIT), start + WAIT);
        let later = start + WAIT * 3;
        assert_eq!(refusals.until(&map, later, WAIT), start + WAIT);
        map.version += 1;
        assert_eq!(refusals.until(&map, later, WAIT), later + WAIT);
        map.term += 1;
        assert_eq!(refusals.until(&map, later + WAIT, WAIT), later + WAIT * 2);
    }

    #[test]
    fn nothing_is_waited_for_when_all_disks_are_there_and_closed() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let waits = |map: &ClusterMap| refusals.until(map, now, WAIT) > now;
        let mut map = map();
        assert!(waits(&map));
        map.closed_disks = vec![disk(2), disk(3), disk(4)];
        assert!(
            waits(&map),
            "a disk takes shards: a volume may be on its way"
        );
        map.closed_disks.push(disk(5));
        assert!(!waits(&map));
        // A silent node may have room when it is back.
        map.alive.pop();
        assert!(waits(&map));
        assert!(waits(&ClusterMap::default()), "no node is known yet");
    }
}
