//! Memory: what is held is bounded, whatever the object's size and whichever side stands still.

use super::fake::Conduct;
use super::rig::{Rig, bytes, settings};
use crate::{GetError, PipelineSettings, PutError, Source, SourceError};
use bytes::Bytes;
use futures::StreamExt;
use megalith_crypto::cell::PLAIN_CELL_LEN;
use megalith_model::shape::CELL_LEN;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CELL: usize = PLAIN_CELL_LEN;

/// A body that counts how many bytes were pulled from it.
fn counted(
    len: usize,
    piece: usize,
    pulled: &Arc<AtomicUsize>,
) -> impl futures::Stream<Item = Result<Bytes, SourceError>> + Send + use<> {
    let pulled = Arc::clone(pulled);
    let piece = Bytes::from(vec![7; piece]);
    futures::stream::unfold(len, move |left| {
        let piece = piece.slice(..piece.len().min(left));
        pulled.fetch_add(piece.len(), Ordering::SeqCst);
        async move { (left > 0).then(|| (Ok(piece.clone()), left - piece.len())) }
    })
}

#[tokio::test]
async fn stalled_slots_stop_the_source_within_the_bound() {
    let settings = PipelineSettings {
        slot_stall: Duration::from_secs(60),
        ..settings()
    };
    let rig = Rig::new((4, 2), 1, settings);
    // No node takes a byte: what is pulled is what is held.
    (0..6).for_each(|slot| rig.set(1, slot, Conduct::Frozen));
    let pulled = Arc::new(AtomicUsize::new(0));
    let source = counted(1000 * CELL, 10_000, &pulled);
    let len = 1000 * CELL as u64;
    let write = rig.write_stream(source, len);
    let stalled = tokio::time::timeout(Duration::from_secs(2), write).await;
    assert!(stalled.is_err(), "nobody took it, and it ended");
    // Two stripes in flight, one waiting, one sealed ahead, one gathered ahead.
    let stripes = pulled.load(Ordering::SeqCst) as f64 / (4 * CELL) as f64;
    assert!(
        (2.0..=5.1).contains(&stripes),
        "{stripes} stripes were pulled"
    );
}

#[tokio::test]
async fn slow_slot_sets_the_pace_and_all_is_given_back() {
    let rig = Rig::new((4, 2), 1, settings());
    let pulled = Arc::new(AtomicUsize::new(0));
    let source = counted(100 * CELL, 100_000, &pulled);
    let taken = Arc::clone(&rig.fake);
    let ahead = Arc::new(AtomicUsize::new(0));
    let most = Arc::clone(&ahead);
    let source = source.inspect(move |_| {
        let taken = taken.cells_taken.load(Ordering::SeqCst) * CELL * 4 / 6;
        let held = pulled.load(Ordering::SeqCst).saturating_sub(taken);
        most.fetch_max(held, Ordering::SeqCst);
    });
    let len = 100 * CELL as u64;
    let write = rig.write_stream(source, len);
    write.await.expect("writes");
    let stripes = ahead.load(Ordering::SeqCst) as f64 / (4 * CELL) as f64;
    assert!(stripes <= 6.1, "{stripes} stripes were held");
    assert_eq!(rig.pipeline.memory().used(), 0);
}

#[tokio::test]
async fn without_room_the_body_is_not_touched() {
    let settings = PipelineSettings {
        memory_bytes_max: 4 << 20,
        ..settings()
    };
    let rig = Rig::new((4, 2), 1, settings);
    let held = rig.pipeline.memory().try_reserve(3 << 20).expect("room");
    let pulled = Arc::new(AtomicUsize::new(0));
    let source = counted(100 * CELL, 100_000, &pulled);
    let len = 100 * CELL as u64;
    let busy = rig.write_stream(source, len).await;
    assert!(matches!(busy, Err(PutError::Busy(_))));
    assert_eq!(pulled.load(Ordering::SeqCst), 0);
    drop(held);
}

#[tokio::test]
async fn held_body_is_paid_for_once_and_given_back() {
    let rig = Rig::new((4, 2), 1, settings());
    let plain = bytes(100_000);
    let held = rig.hold(&plain);
    let room = rig.pipeline.memory().used();
    // Its plaintext and its cells.
    assert!((200_000..202_000).contains(&room), "{room} bytes");
    // What is left is only enough for what has already been reserved.
    let free = (1 << 30) - room;
    let rest = rig.pipeline.memory().try_reserve(free).expect("room");
    for _ in 0..2 {
        let source = Source::Held(held.clone());
        let written = rig.write_source(source).await.expect("writes");
        assert_eq!(written.blob.segments.len(), 1);
    }
    drop(rest);
    assert_eq!(rig.pipeline.memory().used(), room);
    drop(held);
    assert_eq!(rig.pipeline.memory().used(), 0);
}

#[tokio::test]
async fn reads_hold_a_bounded_number_of_windows() {
    let rig = Rig::new((4, 2), 1, settings());
    let plain = bytes(400 * CELL);
    let written = rig.write(&plain, 1 << 20).await.expect("writes");
    let plan = rig.plan(&[(&written, plain.len() as u64)]);
    let mut stream = rig
        .pipeline
        .read(plan, 0..plain.len() as u64)
        .await
        .expect("reads");
    let window = (6 + 4) * 16 * CELL_LEN;
    let mut read = Vec::new();
    while let Some(piece) = stream.next().await {
        read.extend_from_slice(&piece.expect("reads"));
        assert!(rig.pipeline.memory().used() <= 3 * window);
    }
    assert!(read == plain);
    drop(stream);
    assert_eq!(rig.pipeline.memory().used(), 0);
}

#[tokio::test]
async fn first_window_is_refused_and_later_ones_wait() {
    let settings = PipelineSettings {
        memory_bytes_max: 4 << 20,
        ..settings()
    };
    let rig = Rig::new((4, 2), 1, settings);
    let plain = bytes(100 * CELL);
    let written = rig.write(&plain, 1 << 20).await.expect("writes");
    let plan = || rig.plan(&[(&written, plain.len() as u64)]);
    let held = rig.pipeline.memory().try_reserve(4 << 20).expect("room");
    let refused = rig.pipeline.read(plan(), 0..100).await;
    assert!(matches!(refused, Err(GetError::Busy(_))));
    drop(held);
    // Many readers in a small budget all get through.
    let range = 0..plain.len() as u64;
    let deadline = Instant::now() + Duration::from_secs(60);
    let readers = (0..6).map(|_| async {
        loop {
            match rig.read_plan(plan(), range.clone()).await {
                Ok(read) => break assert!(read == plain),
                Err(GetError::Busy(_)) => {
                    assert!(Instant::now() < deadline, "starved");
                    // What a client does that is told to slow down.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    futures::future::join_all(readers).await;
    assert_eq!(rig.pipeline.memory().used(), 0);
}
