//! Reads with dead, late, damaged and lying slots: right bytes with up to m of them, a clean error
//! beyond, never a wrong byte.

use super::fake::Conduct;
use super::rig::{Rig, bytes, settings};
use crate::{GetError, PipelineSettings};
use megalith_crypto::cell::PLAIN_CELL_LEN;
use megalith_model::shape::SEGMENT_CELLS_MAX;
use megalith_model::shard::ShardId;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CELL: usize = PLAIN_CELL_LEN;

/// Checks every pattern of `conduct` over the slots, reading the whole object and a middle range.
async fn check_patterns(profile: (u8, u8), len: usize, conduct: Conduct) {
    check_patterns_in(SEGMENT_CELLS_MAX, profile, len, conduct).await;
}

/// As [`check_patterns`], in segments of so many cells.
async fn check_patterns_in(cells: u64, (k, m): (u8, u8), len: usize, conduct: Conduct) {
    let shards = u32::from(k + m);
    for pattern in 1..1_u32 << shards {
        let bad = pattern.count_ones();
        if bad > u32::from(m) + 1 {
            continue;
        }
        // A fresh cluster each time: what was learnt of the nodes must not help.
        let settings = PipelineSettings {
            hedge_percent: 0,
            segment_cells_max: cells,
            ..settings()
        };
        let rig = Rig::new((k, m), 1, settings);
        let plain = bytes(len);
        let written = rig.write(&plain, 100_000).await.expect("writes");
        for slot in (0..shards).filter(|slot| pattern >> slot & 1 == 1) {
            rig.set(1, slot, conduct);
        }
        for range in [0..len, len / 2..len / 2 + 10] {
            let read = rig.read_range(&written, len, range.clone()).await;
            match read {
                Ok(read) => assert!(read == plain[range], "{k}+{m} {pattern:b} {conduct:?}"),
                Err(error) => {
                    assert!(
                        bad > u32::from(m),
                        "{k}+{m} {pattern:b} {conduct:?}: {error}"
                    );
                    let clean = matches!(error, GetError::Unavailable { .. });
                    assert!(clean, "{k}+{m} {pattern:b} {conduct:?}: {error}");
                }
            }
        }
        if bad > u32::from(m) && len > usize::from(k) * CELL {
            let read = rig.read(&written, len).await;
            assert!(
                read.is_err(),
                "{k}+{m} {pattern:b} {conduct:?}: too few shards are good"
            );
        }
    }
}

#[tokio::test]
async fn dead_slots_in_every_pattern() {
    for profile in [(1, 1), (1, 2), (2, 2), (3, 2), (4, 2)] {
        check_patterns(profile, 9 * CELL + 77, Conduct::Dead).await;
        check_patterns(profile, 50_000, Conduct::Dead).await;
    }
}

#[tokio::test]
async fn slots_are_made_up_for_where_a_segment_ends_within_a_stripe() {
    for profile in [(2, 2), (3, 2), (4, 2), (5, 1)] {
        for conduct in [Conduct::Dead, Conduct::Lies] {
            check_patterns_in(7, profile, 17 * CELL + 77, conduct).await;
        }
    }
}

#[tokio::test]
async fn damaged_slots_in_every_pattern() {
    for profile in [(1, 2), (2, 2), (4, 2)] {
        check_patterns(profile, 9 * CELL + 77, Conduct::Damaged).await;
        check_patterns(profile, 9 * CELL + 77, Conduct::Shortens).await;
    }
}

#[tokio::test]
async fn missing_shards_in_every_pattern() {
    check_patterns((4, 2), 9 * CELL + 77, Conduct::Missing).await;
    check_patterns((4, 2), 3 * CELL + 77, Conduct::Missing).await;
}

#[tokio::test]
async fn liars_in_every_pattern() {
    for profile in [(1, 1), (1, 2), (2, 2), (4, 2)] {
        check_patterns(profile, 9 * CELL + 77, Conduct::Lies).await;
        check_patterns(profile, 50_000, Conduct::Lies).await;
    }
}

#[tokio::test]
async fn liars_that_serve_whole_shards_right() {
    // Ranges are answered with lies, the check of the whole shard with the truth.
    for profile in [(2, 2), (4, 2)] {
        check_patterns(profile, 9 * CELL + 77, Conduct::LiesUpTo(2)).await;
    }
}

async fn wait_for_doubt(rig: &Rig, shard: ShardId, damaged: bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !rig
        .meta
        .doubted
        .lock()
        .expect("no panic")
        .contains(&(shard, damaged))
    {
        assert!(Instant::now() < deadline, "no doubt about {shard:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_doubt_is_raised_once_and_exactly() {
    for (conduct, damaged) in [
        (Conduct::Lies, true),
        (Conduct::Damaged, true),
        (Conduct::Missing, false),
    ] {
        let rig = Rig::new((4, 2), 1, settings());
        let plain = bytes(30 * CELL);
        let written = rig.write(&plain, 1 << 20).await.expect("writes");
        rig.set(1, 2, conduct);
        for _ in 0..3 {
            assert!(rig.read(&written, plain.len()).await.expect("reads") == plain);
        }
        let shard = ShardId {
            volume: written.blob.segments[0].volume,
            blob: written.blob.blob,
            segment: 0,
            slot: 2,
        };
        wait_for_doubt(&rig, shard, damaged).await;
        assert_eq!(
            *rig.meta.doubted.lock().expect("no panic"),
            [(shard, damaged)],
            "{conduct:?}"
        );
    }
}

#[tokio::test]
async fn owed_and_dead_slots_are_not_asked() {
    let rig = Rig::new((4, 2), 1, settings());
    let plain = bytes(30 * CELL);
    let mut written = rig.write(&plain, 1 << 20).await.expect("writes");
    written.blob.segments[0].owed = 0b00_0010;
    rig.map.send_modify(|map| {
        let map = Arc::make_mut(map);
        map.alive.retain(|node| node.0 != 103);
    });
    assert!(rig.read(&written, plain.len()).await.expect("reads") == plain);
    let node = |slot| super::rig::slot_at(1, slot).node;
    assert_eq!(rig.fake.reads_of(node(1)), 0);
    assert_eq!(rig.fake.reads_of(node(3)), 0);
    assert!(rig.fake.reads_of(node(5)) > 0);
}

#[tokio::test]
async fn node_dead_only_by_the_map_is_the_last_resort() {
    let rig = Rig::new((2, 1), 1, settings());
    let plain = bytes(9 * CELL);
    let written = rig.write(&plain, 1 << 20).await.expect("writes");
    rig.map.send_modify(|map| Arc::make_mut(map).alive.clear());
    assert!(rig.read(&written, plain.len()).await.expect("reads") == plain);
}

#[tokio::test]
async fn frozen_slots_are_hedged() {
    let rig = Rig::new((4, 2), 1, settings());
    let plain = bytes(30 * CELL);
    let written = rig.write(&plain, 1 << 20).await.expect("writes");
    rig.set(1, 0, Conduct::Frozen);
    rig.set(1, 3, Conduct::Frozen);
    let start = Instant::now();
    assert!(rig.read(&written, plain.len()).await.expect("reads") == plain);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "waited for the timeout"
    );
}

#[tokio::test]
async fn frozen_slots_without_budget_cost_one_timeout() {
    let settings = PipelineSettings {
        hedge_percent: 0,
        penalty: Duration::from_secs(60),
        ..settings()
    };
    let rig = Rig::new((4, 2), 1, settings);
    let plain = bytes(60 * CELL);
    let written = rig.write(&plain, 1 << 20).await.expect("writes");
    rig.set(1, 1, Conduct::Frozen);
    rig.set(1, 4, Conduct::Frozen);
    let start = Instant::now();
    assert!(rig.read(&written, plain.len()).await.expect("reads") == plain);
    assert!(
        start.elapsed() < Duration::from_secs(9),
        "waited for a timeout in each window"
    );
}

#[tokio::test]
async fn frozen_beyond_parity_is_a_clean_error_in_bounded_time() {
    let settings = PipelineSettings {
        read_timeout: Duration::from_millis(300),
        ..settings()
    };
    let rig = Rig::new((4, 2), 1, settings);
    let plain = bytes(9 * CELL);
    let written = rig.write(&plain, 1 << 20).await.expect("writes");
    (0..3).for_each(|slot| rig.set(1, slot, Conduct::Frozen));
    let read = rig.read(&written, plain.len()).await;
    assert!(
        matches!(read, Err(GetError::Unavailable { .. })),
        "{read:?}"
    );
}
