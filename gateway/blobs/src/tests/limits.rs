//! Memory: what is held is bounded, whatever the object's size and whichever side stands still.

use super::fake::Conduct;
use super::rig::{CLIENT, Rig, bytes, settings};
use crate::memory::INCOMING_STEP;
use crate::{GetError, Payer, Paying, PipelineSettings, PutError, Source, SourceError};
use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, stream};
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
    let memory = rig.pipeline.memory();
    let held = memory.try_incoming(CLIENT, 1 << 20).expect("room");
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
    let held = rig.hold(&plain).await;
    let room = rig.pipeline.memory().used();
    // Its plaintext and its cells.
    assert!((200_000..202_000).contains(&room), "{room} bytes");
    // What is left is only enough for what has already been reserved.
    let free = (3 << 28) - room;
    let rest = rig
        .pipeline
        .memory()
        .try_reserve(CLIENT, free)
        .expect("room");
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
        memory_wait: Duration::from_secs(2),
        ..settings()
    };
    let rig = Rig::new((4, 2), 1, settings);
    let plain = bytes(100 * CELL);
    let written = rig.write(&plain, 1 << 20).await.expect("writes");
    let plan = || rig.plan(&[(&written, plain.len() as u64)]);
    let memory = rig.pipeline.memory();
    let held = memory.try_reserve(CLIENT, 3 << 20).expect("room");
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

/// Another client.
const OTHER: Payer = Payer::Known(2);

/// A body that stops after so many bytes, and never ends.
fn stuck(bytes: usize) -> impl futures::Stream<Item = Result<Bytes, SourceError>> + Send + use<> {
    let came = stream::iter((bytes > 0).then(|| Ok(Bytes::from(vec![3; bytes]))));
    came.chain(stream::pending())
}

/// Waits until so much memory is in use.
async fn used(rig: &Rig, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while rig.pipeline.memory().used() != bytes {
        let found = rig.pipeline.memory().used();
        assert!(Instant::now() < deadline, "{found} bytes, not {bytes}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_slow_client_holds_what_it_has_sent() {
    let rig = Arc::new(Rig::new((4, 2), 1, settings()));
    let cases = [
        (0, 1),
        (1, 1),
        (2 * CELL + 1, 3),
        // The first stripe is on its way without waiting for the second one.
        (4 * CELL + 1, 1),
        (41 * CELL, 1),
    ];
    for (came, cells) in cases {
        let (writing, memory) = (Arc::clone(&rig), rig.pipeline.memory());
        let task = tokio::spawn(async move {
            let len = 1000 * CELL as u64;
            writing.write_stream(stuck(came), len).await.map(drop)
        });
        // Nothing of what is kept for a restart.
        let busy = memory.try_reserve(OTHER, (3 << 28) / 2).expect("room");
        let held = cells * INCOMING_STEP + (3 << 28) / 2;
        used(&rig, held).await;
        task.abort();
        assert!(task.await.is_err(), "it has not ended");
        drop(busy);
        used(&rig, 0).await;
    }
}

#[tokio::test]
async fn slow_clients_of_one_account_leave_room_for_others() {
    let settings = PipelineSettings {
        memory_bytes_max: 32 << 20,
        memory_wait: Duration::from_secs(20),
        ..settings()
    };
    let rig = Rig::new((4, 2), 1, settings);
    let plain = bytes(50 * CELL);
    let paying = Paying::AsItComes(OTHER);
    let write = || {
        let pieces = stream::iter([Ok(Bytes::from(plain.clone()))]);
        rig.write_paying(pieces, plain.len() as u64, paying)
    };
    write().await.expect("writes");
    let slow = (0..500).map(|at| rig.write_stream(stuck(at % 7 * CELL), 1 << 30));
    let others = async {
        for _ in 0..20 {
            let written = write().await.expect("there is room");
            let len = plain.len() as u64;
            let mut plan = rig.plan(&[(&written, len)]);
            plan.payer = OTHER;
            let read = rig.read_plan(plan, 0..len).await;
            assert!(read.expect("there is room") == plain);
        }
    };
    tokio::select! {
        biased;
        results = join_all(slow) => {
            // Refused for want of memory, but none of them ends otherwise.
            assert!(results.iter().all(|result| matches!(result, Err(PutError::Busy(_)))));
            panic!("all of them ended");
        }
        () = others => {}
    }
}

#[tokio::test]
async fn writers_and_readers_in_a_small_budget_all_come_to_their_end() {
    let settings = PipelineSettings {
        // Eight cells that came; four stripes, or two windows.
        memory_bytes_max: 2 << 20,
        memory_wait: Duration::from_secs(120),
        ..settings()
    };
    let rig = Rig::new((4, 2), 1, settings);
    let plain = bytes(30 * CELL + 17);
    let writers = (0..40).map(|number| {
        let pieces: Vec<_> = plain.chunks(10_000 * (1 + number % 9)).collect();
        let pieces: Vec<_> = pieces
            .into_iter()
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let paying = Paying::AsItComes(Payer::Known(number as u64 % 3));
        let (rig, plain) = (&rig, &plain);
        async move {
            let len = plain.len() as u64;
            let written = rig.write_paying(stream::iter(pieces), len, paying).await;
            let written = written.expect("memory comes free");
            assert!(
                &rig.read(&written, plain.len())
                    .await
                    .expect("memory comes free")
                    == plain
            );
        }
    });
    let all = tokio::time::timeout(Duration::from_secs(100), join_all(writers)).await;
    assert!(all.is_ok(), "they wait for each other");
    assert_eq!(rig.pipeline.memory().used(), 0);
}

#[tokio::test]
async fn a_copy_waits_for_no_memory_once_it_has_begun() {
    let settings = PipelineSettings {
        memory_bytes_max: 16 << 20,
        ..settings()
    };
    let rig = Rig::new((4, 2), 1, settings);
    let plain = bytes(100 * CELL);
    let written = rig.write(&plain, 1 << 20).await.expect("writes");
    let mut plan = rig.plan(&[(&written, plain.len() as u64)]);
    let windows = rig.pipeline.reserve_copy(CLIENT).await.expect("room");
    plan.copied_in = Some(Arc::new(windows));
    let source = rig
        .pipeline
        .read(plan, 0..plain.len() as u64)
        .await
        .expect("reads");
    let source = source.map(|piece| piece.map_err(|_| SourceError::SourceUnreadable));
    let memory = rig.pipeline.memory().clone();
    let mut held = Vec::new();
    let source = source.inspect(move |_| {
        // Whatever comes free is taken by others.
        while let Ok(more) = memory.try_reserve(OTHER, 64 << 10) {
            held.push(more);
        }
        while let Ok(more) = memory.try_incoming(OTHER, 64 << 10) {
            held.push(more);
        }
    });
    let len = plain.len() as u64;
    let copied = rig.write_paying(source, len, Paying::AtOnce(CLIENT)).await;
    let copied = copied.expect("it has all that it needs");
    assert!(rig.read(&copied, plain.len()).await.expect("reads") == plain);
}

#[tokio::test]
async fn a_read_that_finds_no_memory_for_too_long_ends() {
    let settings = PipelineSettings {
        memory_bytes_max: 8 << 20,
        ..settings()
    };
    let rig = Rig::new((4, 2), 1, settings);
    let plain = bytes(200 * CELL);
    let written = rig.write(&plain, 1 << 20).await.expect("writes");
    let plan = rig.plan(&[(&written, plain.len() as u64)]);
    let read = rig.pipeline.read(plan, 0..plain.len() as u64).await;
    let mut read = read.expect("there is memory for the first window");
    let mut held = Vec::new();
    let ended = loop {
        while let Ok(more) = rig.pipeline.memory().try_reserve(OTHER, 1 << 10) {
            held.push(more);
        }
        match read.next().await.expect("it is not at its end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, GetError::Busy(_)), "{ended}");
    assert!(read.next().await.is_none());
}
