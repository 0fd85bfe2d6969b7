//! Shards that are not where they were looked up: no doubt about what is gone or was moved.

use super::fake::Conduct;
use super::rig::{Rig, bytes, settings};
use crate::{GetError, WrittenBlob};
use megalith_crypto::cell::PLAIN_CELL_LEN;
use megalith_model::shard::ShardId;
use std::time::{Duration, Instant};

const LEN: usize = 30 * PLAIN_CELL_LEN;

fn shard(written: &WrittenBlob, slot: u8) -> ShardId {
    ShardId {
        volume: written.blob.segments[0].volume,
        blob: written.blob.blob,
        segment: 0,
        slot,
    }
}

/// Waits until a doubt about `last` was raised, and returns all. Doubts are raised in order.
async fn doubts_until(rig: &Rig, last: ShardId) -> Vec<ShardId> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let doubted = rig.meta.doubted.lock().expect("no panic").clone();
        let doubted: Vec<ShardId> = doubted.into_iter().map(|(shard, _)| shard).collect();
        if doubted.contains(&last) {
            return doubted;
        }
        assert!(Instant::now() < deadline, "no doubt about {last:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_read_goes_on_where_its_segment_was_moved_to() {
    let rig = Rig::new((4, 2), 2, settings());
    let plain = bytes(LEN);
    let written = rig.write(&plain, 1 << 20).await.expect("writes");
    let plan = rig.plan(&[(&written, LEN as u64)]);
    let from = written.blob.segments[0].volume;
    let other = plan.volumes.iter().find(|volume| volume.id != from);
    let other = other.expect("two volumes").clone();
    rig.fake.move_shards(from, &other);
    rig.meta.rows.lock().expect("no panic").0[0].row.segments[0].volume = other.id;
    for _ in 0..2 {
        let read = rig.read_plan(plan.clone(), 0..LEN as u64).await;
        assert!(read.expect("reads") == plain);
    }
    // Nor is anything said to be missing at the old place.
    let last = rig.write(&plain, 1 << 20).await.expect("writes");
    let node = super::rig::slot_at(last.blob.segments[0].volume.0, 1);
    rig.set(last.blob.segments[0].volume.0, 1, Conduct::Missing);
    assert!(
        rig.read(&last, LEN).await.expect("reads") == plain,
        "{node:?}"
    );
    let doubted = doubts_until(&rig, shard(&last, 1)).await;
    assert_eq!(doubted, [shard(&last, 1)]);
}

#[tokio::test]
async fn a_read_of_what_is_gone_ends_and_alarms_nobody() {
    let rig = Rig::new((4, 2), 1, settings());
    let plain = bytes(LEN);
    let written = rig.write(&plain, 1 << 20).await.expect("writes");
    let kept = rig.write(&plain, 1 << 20).await.expect("writes");
    let plan = rig.plan(&[(&written, LEN as u64)]);
    rig.meta.rows.lock().expect("no panic").0.clear();
    (0..6).for_each(|slot| rig.set(1, slot, Conduct::Missing));
    let read = rig.read_plan(plan, 0..LEN as u64).await;
    assert!(
        matches!(read, Err(GetError::Unavailable { .. })),
        "{read:?}"
    );
    (0..5).for_each(|slot| rig.set(1, slot, Conduct::Good));
    rig.set(1, 0, Conduct::Missing);
    rig.set(1, 5, Conduct::Good);
    assert!(rig.read(&kept, LEN).await.expect("reads") == plain);
    assert_eq!(doubts_until(&rig, shard(&kept, 0)).await, [shard(&kept, 0)]);
}
