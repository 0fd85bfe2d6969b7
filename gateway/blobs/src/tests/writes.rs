//! Writes with slots that fail: never success below the quorum, an exact owed mask, another volume
//! if one is lost.

use super::fake::Conduct;
use super::rig::{CLIENT, Rig, bytes, settings, slot_at};
use crate::{PipelineSettings, PutError, Source, SourceError, WrittenBlob};
use bytes::Bytes;
use megalith_crypto::cell::PLAIN_CELL_LEN;
use megalith_model::ids::{BlobId, DiskId, NodeId, VolumeId};
use megalith_model::shape::{CELL_LEN, SegmentLayout};
use megalith_model::shard::{ShardId, ShardTarget};
use megalith_model::topology::{Disk, Node};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const CELL: usize = PLAIN_CELL_LEN;

/// Checks that every slot that isn't owed holds its shard.
fn check_held(rig: &Rig, written: &WrittenBlob) {
    let map = rig.map.borrow();
    for (number, segment) in written.blob.segments.iter().enumerate() {
        let volumes = map.writable.iter().chain(&map.degraded);
        let volume = volumes
            .into_iter()
            .find(|volume| volume.id == segment.volume);
        let volume = volume.expect("known");
        let (shape, blob) = (written.blob.shape, written.blob.blob);
        let layout = SegmentLayout::new(shape, volume.profile, blob, segment.len);
        let holders: Vec<usize> = layout.slots().collect();
        for &slot in holders.iter().filter(|slot| segment.owed >> *slot & 1 == 0) {
            let target = ShardTarget {
                at: volume.slots[slot],
                shard: ShardId {
                    volume: volume.id,
                    blob,
                    segment: number as u32,
                    slot: slot as u8,
                },
            };
            assert!(
                rig.fake.has(&target),
                "slot {slot} gave a receipt and holds nothing"
            );
        }
        let receipts = holders.len() - segment.owed.count_ones() as usize;
        assert!(receipts >= layout.write_quorum());
    }
}

#[tokio::test]
async fn one_bad_slot_is_owed_and_nothing_else() {
    let conducts = [
        Conduct::Dead,
        Conduct::Frozen,
        Conduct::BreaksAfter(0),
        Conduct::BreaksAfter(2),
        Conduct::WrongReceipt,
        Conduct::Slow(Duration::from_secs(60)),
    ];
    for conduct in conducts {
        for slot in [0, 2, 5] {
            let rig = Rig::new((4, 2), 1, settings());
            rig.set(1, slot, conduct);
            let plain = bytes(30 * CELL + 9);
            let written = rig.write(&plain, 200_000).await.expect("writes");
            let owed: Vec<u32> = written.blob.segments.iter().map(|s| s.owed).collect();
            assert_eq!(owed, [1 << slot], "{conduct:?}");
            check_held(&rig, &written);
            assert!(rig.read(&written, plain.len()).await.expect("reads") == plain);
        }
    }
}

#[tokio::test]
async fn short_segment_and_copies_owe_only_their_holders() {
    for (len, bad) in [(3 * CELL, 3), (3 * CELL, 4), (50_000, 0), (50_000, 4)] {
        let rig = Rig::new((4, 2), 1, settings());
        rig.set(1, bad, Conduct::Dead);
        let plain = bytes(len);
        let written = rig.write(&plain, 200_000).await.expect("writes");
        let segment = &written.blob.segments[0];
        let map = Arc::clone(&rig.map.borrow());
        let profile = map.writable[0].profile;
        let layout =
            SegmentLayout::new(written.blob.shape, profile, written.blob.blob, segment.len);
        let holds = layout.shard_cells(bad as usize) > 0;
        assert_eq!(segment.owed, u32::from(holds) << bad, "{len}");
        check_held(&rig, &written);
    }
}

#[tokio::test]
async fn lost_quorum_moves_the_segment_to_another_volume() {
    let conducts = [
        Conduct::Dead,
        Conduct::Frozen,
        Conduct::BreaksAfter(1),
        Conduct::StaleEpoch,
        Conduct::WrongReceipt,
    ];
    for conduct in conducts {
        for len in [20_000, 3 * CELL, 30 * CELL + 1] {
            // One cell per slot is not enough to break there.
            if conduct == Conduct::BreaksAfter(1) && len <= 4 * CELL {
                continue;
            }
            let rig = Rig::new((4, 2), 2, settings());
            (0..6).for_each(|slot| rig.set(1, slot, conduct));
            let plain = bytes(len);
            for _ in 0..2 {
                let written = rig.write(&plain, 200_000).await.expect("writes elsewhere");
                let segments = &written.blob.segments;
                assert!(
                    segments
                        .iter()
                        .all(|s| s.volume == VolumeId(2) && s.owed == 0)
                );
                assert!(rig.read(&written, len).await.expect("reads") == plain);
            }
        }
    }
}

#[tokio::test]
async fn loss_in_a_later_segment_keeps_the_earlier_ones() {
    let settings = PipelineSettings {
        segment_cells_max: 8,
        ..settings()
    };
    let rig = Rig::new((4, 2), 2, settings);
    // It breaks in the second stripe of any segment that comes to it.
    (0..2).for_each(|slot| rig.set(2, slot, Conduct::BreaksAfter(1)));
    let plain = bytes(40 * CELL + 5);
    let written = rig.write(&plain, 77_777).await.expect("writes");
    assert_eq!(written.blob.segments.len(), 6);
    assert!(rig.read(&written, plain.len()).await.expect("reads") == plain);
    check_held(&rig, &written);
}

#[tokio::test]
async fn restart_on_a_volume_of_another_profile() {
    // Segments of 7 and 10 cells end within a stripe of both profiles.
    for (cells, broken_after) in [(1024, 3), (7, 1), (10, 2)] {
        let settings = PipelineSettings {
            segment_cells_max: cells,
            ..settings()
        };
        let rig = Rig::new((4, 2), 2, settings);
        rig.map.send_modify(|map| {
            let volume = &mut Arc::make_mut(map).writable[1];
            volume.profile = megalith_model::profile::Profile::new(3, 2).expect("valid");
            volume.slots.pop();
        });
        (0..6).for_each(|slot| rig.set(1, slot, Conduct::BreaksAfter(broken_after)));
        let plain = bytes(29 * CELL + 1);
        for _ in 0..2 {
            let written = rig.write(&plain, 123_456).await.expect("writes");
            let cells_of = |len: u64| len.div_ceil(CELL_LEN);
            let mut segments = written.blob.segments.iter().rev();
            segments.next();
            assert!(segments.all(|segment| cells_of(segment.len) == cells));
            assert!(rig.read(&written, plain.len()).await.expect("reads") == plain);
        }
    }
}

#[tokio::test]
async fn below_the_quorum_is_never_success() {
    for (profile, bad) in [
        ((4, 2), 2),
        ((1, 1), 1),
        ((1, 2), 2),
        ((2, 2), 2),
        ((1, 0), 1),
    ] {
        for conduct in [
            Conduct::Dead,
            Conduct::BreaksAfter(0),
            Conduct::WrongReceipt,
        ] {
            let rig = Rig::new(profile, 1, settings());
            (0..bad).for_each(|slot| rig.set(1, slot, conduct));
            for len in [3 * CELL, 30 * CELL] {
                let result = rig.write(&bytes(len), 200_000).await;
                let lost = matches!(result, Err(PutError::Unavailable { .. }));
                assert!(lost, "{profile:?} {conduct:?}");
            }
        }
    }
}

#[tokio::test]
async fn cells_no_longer_held_end_the_write() {
    let settings = PipelineSettings {
        // Too little for any spare memory.
        memory_bytes_max: 5 << 20,
        ..settings()
    };
    let rig = Rig::new((4, 2), 2, settings);
    for volume in 1..=2 {
        (0..2).for_each(|slot| rig.set(volume, slot, Conduct::BreaksAfter(12)));
    }
    let result = rig.write(&bytes(100 * CELL), 200_000).await;
    assert!(
        matches!(result, Err(PutError::Unavailable { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_small_body_is_written_elsewhere_though_memory_is_short() {
    let settings = PipelineSettings {
        memory_bytes_max: 4 << 20,
        ..settings()
    };
    let rig = Rig::new((4, 2), 2, settings);
    (0..6).for_each(|slot| rig.set(1, slot, Conduct::Dead));
    let plain = bytes(100_000);
    let held = rig.hold(&plain).await;
    let memory = rig.pipeline.memory();
    let rest = memory.try_reserve(CLIENT, 5 << 19).expect("room");
    assert!(memory.try_spare(CLIENT, 1).is_none());
    for _ in 0..8 {
        let written = rig.write_source(Source::Held(held.clone())).await;
        let written = written.expect("its cells are in memory anyway");
        assert_eq!(written.blob.segments[0].volume, VolumeId(2));
    }
    drop(rest);
}

#[tokio::test]
async fn no_volume_says_why() {
    let rig = Rig::new((4, 2), 0, settings());
    rig.map.send_modify(|map| {
        Arc::make_mut(map).refusal = Some("3 of 6 nodes live, 4 are needed".into());
    });
    let result = rig.write(&bytes(300_000), 200_000).await;
    match result {
        Err(PutError::NoVolume { reason }) => assert!(reason.contains("3 of 6")),
        other => panic!("{other:?}"),
    }
    rig.write(&bytes(100), 200_000)
        .await
        .expect("inline needs no volume");
}

#[tokio::test]
async fn write_that_no_volume_takes_waits_for_the_next_map() {
    let patient = PipelineSettings {
        volume_wait: Duration::from_secs(30),
        ..settings()
    };
    let rig = Rig::new((2, 2), 2, patient);
    let whole = Arc::clone(&rig.map.borrow());
    for lost in [true, false] {
        rig.map.send_modify(|map| {
            let map = Arc::make_mut(map);
            map.writable.truncate(usize::from(lost));
        });
        (0..2).for_each(|slot| rig.set(1, slot, Conduct::Dead));
        let plain = bytes(3 * CELL);
        let write = rig.write(&plain, 200_000);
        let mut write = std::pin::pin!(write);
        // Without another volume the write doesn't end; with one it does.
        let early = tokio::time::timeout(Duration::from_millis(100), &mut write).await;
        assert!(early.is_err(), "{early:?}");
        rig.map.send_replace(Arc::clone(&whole));
        let written = write.await;
        let written = written.expect("goes to the volume of the new map");
        assert_eq!(written.blob.segments[0].volume, VolumeId(2));
    }
}

#[tokio::test]
async fn a_map_without_volumes_is_waited_on_once_and_full_disks_not_at_all() {
    let patient = PipelineSettings {
        volume_wait: Duration::from_secs(2),
        ..settings()
    };
    let rig = Rig::new((2, 2), 1, patient);
    let whole = Arc::clone(&rig.map.borrow());
    let node = |id: u32| Node {
        id: NodeId(id),
        rpc_address: String::new(),
        data_address: String::new(),
        zone: String::new(),
        disks: vec![Disk {
            id: DiskId([7; 16]),
            capacity: 1,
        }],
    };
    let refused = async |waits: bool| {
        let begun = std::time::Instant::now();
        let result = rig.write(&bytes(300_000), 200_000).await;
        assert!(
            matches!(result, Err(PutError::NoVolume { .. })),
            "{result:?}"
        );
        assert_eq!(begun.elapsed() >= Duration::from_secs(1), waits);
    };
    rig.map.send_modify(|map| {
        let map = Arc::make_mut(map);
        map.writable.clear();
        map.version += 1;
        (map.nodes, map.alive) = (vec![node(1)], vec![NodeId(1)]);
    });
    refused(true).await;
    refused(false).await;
    rig.map.send_modify(|map| Arc::make_mut(map).version += 1);
    refused(true).await;
    rig.map.send_modify(|map| {
        let map = Arc::make_mut(map);
        map.version += 1;
        map.closed_disks = vec![DiskId([7; 16])];
    });
    refused(false).await;
    rig.map.send_replace(whole);
    rig.write(&bytes(300_000), 200_000)
        .await
        .expect("there is a volume");
}

#[tokio::test]
async fn closed_lease_is_not_used_for_the_next_attempt() {
    let rig = Rig::new((1, 0), 1, settings());
    rig.write(&bytes(50_000), 10_000).await.expect("writes");
    rig.set(1, 0, Conduct::LeaseClosed);
    let plain = bytes(50_000);
    let held = rig.hold(&plain).await;
    let refused = rig.write_source(Source::Held(held.clone())).await;
    assert!(
        matches!(refused, Err(PutError::LeaseClosed { .. })),
        "{refused:?}"
    );
    let streamed = rig.write(&bytes(30 * CELL), 10_000).await;
    assert!(
        matches!(streamed, Err(PutError::LeaseClosed { .. })),
        "{streamed:?}"
    );
    assert_eq!(rig.meta.opened.load(Ordering::Relaxed), 2);
    rig.set(1, 0, Conduct::Good);
    let written = rig.write_source(Source::Held(held)).await;
    let written = written.expect("the held body is written again");
    assert_eq!(rig.meta.opened.load(Ordering::Relaxed), 3);
    assert!(rig.read(&written, plain.len()).await.expect("reads") == plain);
}

#[tokio::test]
async fn body_of_another_length_is_an_error() {
    let rig = Rig::new((4, 2), 1, settings());
    for len in [10_usize, 100_000, 20 * CELL] {
        let plain = bytes(len);
        for said in [len - 1, len + 1, len / 2, 2 * len, len + 5 * CELL] {
            let pieces: Vec<Result<Bytes, SourceError>> = plain
                .chunks(3000)
                .map(|piece| Ok(Bytes::copy_from_slice(piece)))
                .collect();
            let source = futures::stream::iter(pieces);
            let result = rig.write_stream(source, said as u64).await;
            match result {
                Err(PutError::Length { expected, .. }) => assert_eq!(expected, said as u64),
                other => panic!("{said} of {len}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn failing_body_is_the_callers_error() {
    let rig = Rig::new((4, 2), 1, settings());
    for len in [1000, 100_000, 20 * CELL] {
        let pieces: Vec<Result<Bytes, SourceError>> = vec![
            Ok(Bytes::from(bytes(len / 2))),
            Err(SourceError::Incomplete),
        ];
        let source = futures::stream::iter(pieces);
        let result = rig.write_stream(source, len as u64).await;
        assert!(matches!(result, Err(PutError::Source(_))), "{len}");
    }
}

#[tokio::test]
async fn degraded_volume_owes_the_dead_slot() {
    let rig = Rig::new((4, 2), 1, settings());
    let dead = slot_at(1, 3).node;
    rig.map.send_modify(|map| {
        let map = Arc::make_mut(map);
        map.alive.retain(|node| *node != dead);
        map.degraded = std::mem::take(&mut map.writable);
    });
    let plain = bytes(10 * CELL);
    let written = rig.write(&plain, 100_000).await.expect("writes");
    assert_eq!(written.blob.segments[0].owed, 1 << 3);
    assert!(rig.read(&written, plain.len()).await.expect("reads") == plain);
}

#[tokio::test]
async fn blob_ids_are_never_repeated() {
    let rig = Rig::new((4, 2), 1, settings());
    let mut seen = std::collections::HashSet::<BlobId>::new();
    for _ in 0..50 {
        let written = rig.write(b"x", 1).await.expect("writes");
        assert!(seen.insert(written.blob.blob));
    }
}

#[tokio::test]
async fn slot_that_the_map_calls_dead_is_not_waited_for() {
    for len in [3 * CELL, 30 * CELL] {
        let settings = PipelineSettings {
            slot_stall: Duration::from_secs(60),
            receipts_timeout: Duration::from_secs(60),
            ..settings()
        };
        let rig = Rig::new((4, 2), 2, settings);
        for volume in 1..=2 {
            (0..2).for_each(|slot| rig.set(volume, slot, Conduct::Frozen));
        }
        let plain = bytes(len);
        let write = rig.write(&plain, 100_000);
        let tell = async {
            let mut frozen = rig.fake.frozen.subscribe();
            let both = tokio::time::timeout(Duration::from_secs(30), frozen.wait_for(|n| *n >= 2));
            both.await.expect("in time").expect("the rig is there");
            rig.map.send_modify(|map| {
                let map = Arc::make_mut(map);
                map.alive.retain(|node| node.0 % 100 >= 2);
                map.writable.clear();
                map.refusal = Some("on purpose".into());
            });
        };
        let (result, ()) = tokio::join!(write, tell);
        assert!(
            matches!(result, Err(PutError::NoVolume { .. })),
            "{result:?}"
        );
    }
}
