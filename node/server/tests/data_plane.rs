//! Shard bytes over real connections onto a real disk: what is kept, what leaves nothing behind.

mod support;

use bytes::Bytes;
use megalith_client::{DataError, DataFault, ShardRoute};
use megalith_identity::Role;
use megalith_model::ids::{BlobId, DiskId, Epoch, GatewayId, VolumeId};
use megalith_model::shape::CELL_LEN;
use megalith_model::shard::Receipt;
use megalith_server::edge::DataEdgeSettings;
use std::time::Duration;
use support::{Edge, GATEWAY, changed, digest, framed, lease, map, shard, volume};
use tokio::sync::{mpsc, oneshot};

const CELL: usize = CELL_LEN as usize;

async fn small(edge: &Edge, target: &ShardRoute, bytes: &[u8]) -> Result<Receipt, DataError> {
    let client = edge.gateway();
    client
        .put_small(target, bytes.len() as u64, framed(bytes), digest(bytes))
        .await
}

fn fault<T: std::fmt::Debug>(answer: Result<T, DataError>) -> DataFault {
    answer.expect_err("a refusal").fault
}

#[tokio::test]
async fn a_shard_comes_back_as_it_was_written() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let client = edge.gateway();
    for (blob, len) in [(100, 1), (101, CELL), (102, CELL + 1), (103, 1_000_000)] {
        let (target, bytes) = (edge.target(blob), shard(len));
        let (pieces, body) = mpsc::channel(2);
        let (sum, wanted) = oneshot::channel();
        let put = client.put_shard(&target, len as u64, body, wanted);
        let feed = async {
            for piece in framed(&bytes) {
                // In odd pieces, as a sender may cut them.
                let half = piece.len() / 3;
                pieces.send(piece.slice(..half)).await.expect("taken");
                pieces.send(piece.slice(half..)).await.expect("taken");
            }
            sum.send(digest(&bytes)).expect("taken");
        };
        let (receipt, ()) = tokio::join!(put, feed);
        let expected = Receipt {
            len: len as u64,
            digest: digest(&bytes),
            epoch: Epoch(5),
        };
        assert_eq!(receipt.expect("a receipt"), expected);
        let cells = len.div_ceil(CELL) as u64;
        let all = client.get_cells(&target, len as u64, 0, cells).await;
        assert_eq!(all.expect("cells").concat(), bytes);
        let last = client.get_cells(&target, len as u64, cells - 1, 1).await;
        assert_eq!(
            last.expect("a cell").concat(),
            bytes[(cells as usize - 1) * CELL..]
        );
        // The same again is fine, another content isn't.
        assert_eq!(
            small(&edge, &target, &bytes).await.expect("a receipt"),
            expected
        );
        let mut other = bytes.clone();
        other[len - 1] ^= 1;
        assert_eq!(
            fault(small(&edge, &target, &other).await),
            DataFault::Conflict
        );
    }
    // A gateway that expects another length than the disk has sees it.
    let short = client.get_cells(&edge.target(103), 900_000, 0, 14).await;
    assert_eq!(fault(short), DataFault::Damaged);
    let none = client.get_cells(&edge.target(104), 10, 0, 1).await;
    assert_eq!(fault(none), DataFault::NotFound);
}

#[tokio::test]
async fn changed_bytes_are_refused_and_leave_nothing() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let client = edge.gateway();
    let bytes = shard(200_000);
    for at in [0, CELL - 1, CELL, 150_000, 200_011] {
        let mut all = framed(&bytes).concat();
        all[at] ^= 0x10;
        let target = edge.target(100);
        let put = client.put_small(&target, 200_000, vec![all.into()], digest(&bytes));
        assert_eq!(fault(put.await), DataFault::Checksum, "byte {at}");
        assert!(!edge.has(&target).await, "byte {at}");
    }
    let target = edge.target(100);
    let put = client.put_small(&target, 200_000, framed(&bytes), [9; 32]);
    assert_eq!(fault(put.await), DataFault::Checksum);
    assert!(!edge.has(&target).await);
    // The connection and the name are as good as before.
    small(&edge, &target, &bytes).await.expect("a receipt");
}

#[tokio::test]
async fn a_body_that_ends_early_leaves_nothing() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let client = edge.gateway();
    let (target, bytes) = (edge.target(100), shard(3_000_000));
    for (sent, with_digest) in [(0, false), (1, false), (20, true), (46, false)] {
        let (pieces, body) = mpsc::channel(64);
        let (sum, wanted) = oneshot::channel();
        for piece in framed(&bytes).into_iter().take(sent) {
            pieces.send(piece).await.expect("taken");
        }
        drop(pieces);
        if with_digest {
            sum.send(digest(&bytes)).expect("taken");
        } else {
            drop(sum);
        }
        let put = client.put_shard(&target, 3_000_000, body, wanted);
        assert_eq!(fault(put.await), DataFault::Abandoned, "{sent} pieces");
        assert!(!edge.has(&target).await, "{sent} pieces");
    }
    small(&edge, &target, &bytes).await.expect("a receipt");
}

#[tokio::test]
async fn a_sender_that_stalls_is_dropped() {
    let settings = DataEdgeSettings {
        body_deadline: Duration::from_millis(300),
        ..DataEdgeSettings::default()
    };
    let edge = Edge::start(settings).await;
    let (target, bytes) = (edge.target(100), shard(300_000));
    let (pieces, body) = mpsc::channel(64);
    let (_sum, wanted) = oneshot::channel();
    pieces.send(framed(&bytes)[0].clone()).await.expect("taken");
    let put = edge
        .gateway()
        .put_shard(&target, 300_000, body, wanted)
        .await;
    assert_eq!(fault(put), DataFault::Timeout);
    // Whoever feeds the body learns of it.
    pieces.closed().await;
    assert!(!edge.has(&target).await);
}

#[tokio::test]
async fn writes_that_are_not_wanted_any_more_are_refused() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let bytes = shard(100);
    let right = edge.target(100);
    let present = Some(Epoch(5));
    let cases = [
        (
            changed(&right, |route| route.epoch = Epoch(4)),
            DataFault::StaleEpoch { present },
        ),
        (
            changed(&right, |route| route.epoch = Epoch(6)),
            DataFault::StaleEpoch { present },
        ),
        (
            changed(&right, |route| route.target.shard.slot = 1),
            DataFault::StaleEpoch { present },
        ),
        (
            changed(&right, |route| route.target.shard.volume = VolumeId(2)),
            DataFault::StaleEpoch { present: None },
        ),
        (
            changed(&right, |route| route.target.shard.blob = BlobId(65_536)),
            DataFault::LeaseClosed,
        ),
        (
            changed(&right, |route| route.target.at.disk = DiskId([1; 16])),
            DataFault::Io,
        ),
    ];
    for (target, expected) in cases {
        assert_eq!(fault(small(&edge, &target, &bytes).await), expected);
        assert!(!edge.has(&target).await);
    }
    // Another gateway has no lease for these ids.
    let stranger = edge.client(Role::Gateway, 9);
    let put = stranger.put_small(&right, 100, framed(&bytes), digest(&bytes));
    assert_eq!(fault(put.await), DataFault::LeaseClosed);
    small(&edge, &right, &bytes).await.expect("a receipt");
}

#[tokio::test]
async fn a_refusal_comes_before_the_body_and_the_sender_stops() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let stale = changed(&edge.target(100), |route| route.epoch = Epoch(4));
    let (pieces, body) = mpsc::channel(1);
    let (_sum, wanted) = oneshot::channel();
    let put = edge.gateway();
    let put = put.put_shard(&stale, 60_000_000, body, wanted);
    let cell = Bytes::from(vec![1; 65_540]);
    let feed = async {
        let mut sent = 0;
        while pieces.send(cell.clone()).await.is_ok() {
            sent += 1;
        }
        sent
    };
    let (end, sent) = tokio::join!(put, feed);
    let present = Some(Epoch(5));
    assert_eq!(fault(end), DataFault::StaleEpoch { present });
    assert!(sent < 900, "all of the body was sent");
}

#[tokio::test]
async fn a_lease_or_volume_that_the_node_has_not_heard_of_yet_is_asked_for() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let bytes = shard(100);
    let target = changed(&edge.target(70_000), |route| {
        route.target.shard.volume = VolumeId(4);
        route.epoch = Epoch(1);
    });
    assert!(small(&edge, &target, &bytes).await.is_err());
    // Nothing is pushed, but who asks is told.
    let mut newer = map(2);
    newer.writable.push(volume(4, 1));
    newer.leases.push(lease(GATEWAY, 1));
    edge.truth.asked.send_replace(Some(newer));
    small(&edge, &target, &bytes).await.expect("a receipt");
    assert_eq!(edge.maps.current().version, 2);
    // A closed lease is believed as soon as the map says so.
    let mut closed = map(3);
    closed.leases = vec![lease(GatewayId(9), 0)];
    edge.truth.asked.send_replace(None);
    edge.truth.pushed.send_replace(closed);
    edge.maps.wait_for(|map| map.version == 3).await;
    let target = edge.target(101);
    assert_eq!(
        fault(small(&edge, &target, &bytes).await),
        DataFault::LeaseClosed
    );
}

#[tokio::test]
async fn a_repair_writes_to_closed_volumes_without_a_lease() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let repair = edge.client(Role::Storage, 2);
    let bytes = shard(70_000);
    let target = changed(&edge.target(7), |route| {
        route.target.shard.volume = VolumeId(3);
        route.epoch = Epoch(9);
    });
    let put = |target: ShardRoute| {
        let (repair, bytes) = (repair.clone(), bytes.clone());
        async move {
            let put = repair.put_small(&target, 70_000, framed(&bytes), digest(&bytes));
            put.await
        }
    };
    assert_eq!(
        fault(put(target.clone()).await),
        DataFault::StaleEpoch { present: None }
    );
    edge.truth.volumes.send_replace(vec![volume(3, 9)]);
    put(target.clone()).await.expect("a receipt");
    let old = changed(&target, |route| {
        route.epoch = Epoch(8);
        route.target.shard.segment = 1;
    });
    let present = Some(Epoch(9));
    assert_eq!(fault(put(old).await), DataFault::StaleEpoch { present });
    let cells = repair.get_cells(&target, 70_000, 0, 2).await;
    assert_eq!(cells.expect("cells").concat(), bytes);
}

#[tokio::test]
async fn a_stop_lets_a_write_in_flight_end_and_takes_no_new_one() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let (target, bytes) = (edge.target(100), shard(200_000));
    let (pieces, body) = mpsc::channel(1);
    let (sum, wanted) = oneshot::channel();
    let client = edge.gateway();
    let put = client.put_shard(&target, 200_000, body, wanted);
    let shutdown = edge.shutdown.clone();
    let (stopping, stopped) = oneshot::channel();
    let feed = async {
        let framed = framed(&bytes);
        pieces.send(framed[0].clone()).await.expect("taken");
        // Taken from the channel once the next one finds room: the write is under way.
        pieces.send(framed[1].clone()).await.expect("taken");
        pieces.send(framed[2].clone()).await.expect("taken");
        tokio::spawn(async move {
            shutdown.stop(Duration::from_secs(10)).await;
            stopping.send(()).expect("awaited");
        });
        for piece in &framed[3..] {
            pieces.send(piece.clone()).await.expect("taken");
        }
        sum.send(digest(&bytes)).expect("taken");
    };
    let (receipt, ()) = tokio::join!(put, feed);
    receipt.expect("a receipt");
    stopped.await.expect("stopped");
    let put = small(&edge, &edge.target(101), &bytes).await;
    assert_eq!(fault(put), DataFault::Unreachable);
}
