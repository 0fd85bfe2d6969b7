//! Reads return exactly what was written, whole and in ranges, at every boundary.

use super::rig::{CLIENT, Rig, bytes, settings};
use crate::{GetError, Hashes, Paying, PipelineSettings, Source};
use futures::StreamExt;
use megalith_crypto::cell::PLAIN_CELL_LEN;
use megalith_model::shape::{CELL_LEN, Shape};
use proptest::prelude::*;

const CELL: usize = PLAIN_CELL_LEN;

fn small_segments(stripes: u64, k: u64) -> PipelineSettings {
    PipelineSettings {
        segment_cells_max: stripes * k,
        ..settings()
    }
}

/// A boundary with its neighbours.
fn around(len: usize) -> impl Iterator<Item = usize> {
    (len.saturating_sub(1)..=len + 1).filter(|len| *len > 0)
}

async fn check(rig: &Rig, len: usize, piece: usize) {
    let plain = bytes(len);
    let written = rig.write(&plain, piece).await.expect("writes");
    assert!(
        written
            .blob
            .segments
            .iter()
            .all(|segment| segment.owed == 0),
        "{len}"
    );
    let read = rig.read(&written, len).await.expect("reads");
    assert!(read == plain, "{len} bytes in pieces of {piece}");
    for (start, end) in [
        (0, len.min(1)),
        (len / 3, len / 2),
        (len.saturating_sub(9), len),
    ] {
        let read = rig
            .read_range(&written, len, start..end)
            .await
            .expect("reads");
        assert!(read == plain[start..end], "{start}..{end} of {len}");
    }
}

#[tokio::test]
async fn every_size_around_a_boundary() {
    for (k, m) in [(1, 0), (1, 2), (4, 2), (8, 3)] {
        let rig = Rig::new((k, m), 2, small_segments(3, u64::from(k)));
        let stripe = usize::from(k) * CELL;
        let boundaries = [1, 4096, CELL, 2 * CELL, stripe, 2 * stripe, 3 * stripe];
        check(&rig, 0, 1).await;
        for len in boundaries.into_iter().flat_map(around) {
            check(&rig, len, 50_000).await;
        }
        check(&rig, 7 * stripe + 5, 1 << 20).await;
    }
}

#[tokio::test]
async fn shapes_follow_the_size() {
    let rig = Rig::new((4, 2), 1, settings());
    for (len, shape) in [
        (0, Shape::Inline),
        (4096, Shape::Inline),
        (4097, Shape::Copies),
        (131_072, Shape::Copies),
        (131_073, Shape::Coded),
    ] {
        let written = rig.write(&bytes(len), 4096).await.expect("writes");
        assert_eq!(written.blob.shape, shape, "{len}");
        assert_eq!(
            written.blob.segments.len(),
            usize::from(shape != Shape::Inline)
        );
    }
}

#[tokio::test]
async fn round_sizes_are_round_numbers_of_cells_and_segments() {
    // 1,024 cells are no whole number of stripes.
    let rig = Rig::new((3, 1), 1, settings());
    for (len, cells) in [
        (CELL, &[1][..]),
        (CELL + 1, &[2]),
        (1 << 20, &[16]),
        (64 << 20, &[1024]),
        ((64 << 20) + 1, &[1024, 1]),
    ] {
        let plain = bytes(len);
        let written = rig.write(&plain, 1 << 20).await.expect("writes");
        let sealed = written.blob.segments.iter().map(|segment| segment.len);
        let found: Vec<u64> = sealed.map(|len| len.div_ceil(CELL_LEN)).collect();
        assert_eq!(found, cells, "{len}");
        assert!(rig.read(&written, len).await.expect("reads") == plain);
        let end = len.saturating_sub(2 * CELL)..len;
        let read = rig.read_range(&written, len, end.clone()).await;
        assert!(read.expect("reads") == plain[end], "{len}");
    }
}

#[tokio::test]
async fn ranges_across_parts() {
    let rig = Rig::new((4, 2), 2, small_segments(2, 4));
    let lens = [0, 5, 300_000, 0, 1_500_000, 4000, 70_000];
    let mut plain = Vec::new();
    let mut written = Vec::new();
    for len in lens {
        let part = bytes(len);
        written.push((rig.write(&part, 9_999).await.expect("writes"), len as u64));
        plain.extend(part);
    }
    let parts: Vec<_> = written
        .iter()
        .map(|(written, len)| (written, *len))
        .collect();
    let end = plain.len() as u64;
    for range in [
        0..end,
        0..0,
        end..end,
        3..6,
        4..400_000,
        299_000..1_800_500,
        end - 1..end,
    ] {
        let read = rig
            .read_plan(rig.plan(&parts), range.clone())
            .await
            .expect("reads");
        assert!(
            read == plain[range.start as usize..range.end as usize],
            "{range:?}"
        );
    }
    let beyond = rig.read_plan(rig.plan(&parts), 0..end + 1).await;
    assert!(matches!(beyond, Err(GetError::Range { .. })));
}

#[tokio::test]
async fn small_range_asks_one_node_for_one_cell() {
    let rig = Rig::new((4, 2), 1, settings());
    let plain = bytes(40 * CELL);
    let written = rig.write(&plain, 1 << 18).await.expect("writes");
    let range = 17 * CELL + 100..17 * CELL + 200;
    let read = rig
        .read_range(&written, plain.len(), range.clone())
        .await
        .expect("reads");
    assert_eq!(read, plain[range]);
    let reads = rig.fake.reads.lock().expect("no panic");
    assert_eq!(
        reads.iter().map(|(_, cells)| *cells).collect::<Vec<_>>(),
        [1]
    );
}

#[tokio::test]
async fn checksums_are_those_of_the_plaintext() {
    let rig = Rig::new((4, 2), 1, settings());
    let plain = bytes(900_000);
    let hashes = Hashes {
        sha256: true,
        crc32: true,
        ..Hashes::default()
    };
    let pieces = plain
        .chunks(7777)
        .map(|piece| Ok(bytes::Bytes::copy_from_slice(piece)));
    let source = Source::Stream {
        pieces: futures::stream::iter(pieces.collect::<Vec<_>>()).boxed(),
        plain_len: plain.len() as u64,
        paying: Paying::AsItComes(CLIENT),
    };
    let written = rig
        .pipeline
        .write_blob(source, &rig.key, 0, hashes, &|_| true)
        .await;
    let found = written.expect("writes").hashes;
    let mut whole = crate::Hasher::new(hashes);
    whole.update(&plain);
    assert_eq!(found, whole.finish());
    assert!(found.sha256.is_some() && found.sha1.is_none());
}

#[tokio::test]
async fn nodes_hold_no_plaintext() {
    let rig = Rig::new((2, 1), 1, settings());
    for len in [5000, 400_000] {
        let plain: Vec<u8> = b"canary in the coal mine. "
            .iter()
            .copied()
            .cycle()
            .take(len)
            .collect();
        rig.write(&plain, 10_000).await.expect("writes");
    }
    let stored = rig.fake.all_bytes();
    assert!(!stored.is_empty());
    let canary = b"canary in the";
    assert!(
        stored
            .iter()
            .all(|shard| !shard.windows(canary.len()).any(|part| part == canary))
    );
}

#[tokio::test]
async fn wrong_key_part_or_iv_opens_nothing() {
    let rig = Rig::new((4, 2), 1, settings());
    for len in [100, 50_000, 400_000] {
        let one = rig.write(&bytes(len), 10_000).await.expect("writes");
        let two = rig.write(&bytes(len), 10_000).await.expect("writes");
        let mut plan = rig.plan(&[(&one, len as u64)]);
        plan.parts[0].part = 1;
        let mut other_iv = rig.plan(&[(&one, len as u64)]);
        other_iv.parts[0].iv = two.iv;
        let mut other_key = rig.plan(&[(&one, len as u64)]);
        other_key.key = std::sync::Arc::new(megalith_crypto::DataKey::generate().expect("random"));
        for plan in [plan, other_iv, other_key] {
            let read = rig.read_plan(plan, 0..len as u64).await;
            assert!(matches!(read, Err(GetError::Unauthentic { .. })), "{len}");
        }
    }
}

#[tokio::test]
async fn dropped_stream_ends_its_work() {
    let rig = Rig::new((4, 2), 1, settings());
    let plain = bytes(60 * CELL);
    let written = rig.write(&plain, 1 << 18).await.expect("writes");
    let plan = rig.plan(&[(&written, plain.len() as u64)]);
    let mut stream = rig
        .pipeline
        .read(plan, 0..plain.len() as u64)
        .await
        .expect("reads");
    assert!(stream.next().await.is_some());
    drop(stream);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while rig.pipeline.memory().used() > 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "memory is not given back"
        );
        tokio::task::yield_now().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_range_of_any_size(
        len in 1_usize..30 * CELL,
        piece in 1000_usize..300_000,
        cut in (0.0..1.0_f64, 0.0..1.0_f64),
        profile in prop_oneof![Just((1_u8, 1_u8)), Just((2, 2)), Just((3, 2)), Just((8, 3))],
        cells in 1_u64..30,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .expect("starts");
        runtime.block_on(async {
            let rig = Rig::new(profile, 3, small_segments(cells, 1));
            let plain = bytes(len);
            let written = rig.write(&plain, piece).await.expect("writes");
            let at = |part: f64| (len as f64 * part) as usize;
            let range = at(cut.0.min(cut.1))..at(cut.0.max(cut.1));
            let read = rig.read_range(&written, len, range.clone()).await.expect("reads");
            prop_assert!(read == plain[range]);
            Ok(())
        })?;
    }
}
