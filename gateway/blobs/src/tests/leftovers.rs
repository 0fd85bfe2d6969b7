//! What a write leaves behind is named once, when it is certain that no row names it.

use super::fake::Conduct;
use super::rig::{Rig, bytes, settings};
use crate::{Hashes, PutError, Source, SourceError, WrittenBlob};
use megalith_model::command::Leftover;
use megalith_model::ids::{BlobId, VolumeId};
use std::sync::atomic::Ordering;

const CELL: usize = megalith_crypto::cell::PLAIN_CELL_LEN;

fn left(volume: u64, segment: u32) -> Leftover {
    Leftover {
        volume: VolumeId(volume),
        segment,
    }
}

/// Waits for the next blob that is discarded.
async fn discarded(rig: &Rig) -> (BlobId, Vec<Leftover>) {
    let mut discards = rig.meta.discarded.subscribe();
    let mut all = discards
        .wait_for(|all| !all.is_empty())
        .await
        .expect("open")
        .clone();
    assert_eq!(all.len(), 1, "{all:?}");
    rig.meta.discarded.send_modify(Vec::clear);
    all.remove(0)
}

/// Writes another blob that is certainly discarded: whatever was to be discarded before it, is.
async fn nothing_discarded_before_this(rig: &Rig) {
    let marker = rig.write(&bytes(5 * CELL), CELL).await.expect("writes");
    let id = marker.blob.blob;
    drop(marker);
    assert_eq!(discarded(rig).await.0, id);
}

#[tokio::test]
async fn a_blob_that_nobody_proposes_is_discarded() {
    let rig = Rig::new((4, 2), 1, settings());
    for len in [30 * CELL, 20_000] {
        let written = rig.write(&bytes(len), CELL).await.expect("writes");
        let id = written.blob.blob;
        assert!(written.blob.leftovers.is_empty());
        drop(written);
        assert_eq!(discarded(&rig).await, (id, vec![left(1, 0)]));
    }
    // An inline blob is on no disk.
    drop(rig.write(&bytes(100), CELL).await.expect("writes"));
    nothing_discarded_before_this(&rig).await;
}

#[tokio::test]
async fn a_proposed_blob_is_discarded_only_after_a_refusal() {
    let rig = Rig::new((4, 2), 1, settings());
    let write =
        async || -> WrittenBlob { rig.write(&bytes(3 * CELL), CELL).await.expect("writes") };
    let unknown = write().await;
    let _ = unknown.id.next_attempt();
    drop(unknown);
    nothing_discarded_before_this(&rig).await;
    let refused = write().await;
    let first = refused.id.next_attempt();
    refused.id.refused();
    let id = refused.blob.blob;
    drop(refused);
    assert_eq!(discarded(&rig).await.0, id);
    assert_eq!(first.attempt, 1);
    // Refused, and then tried again.
    let again = write().await;
    let _ = again.id.next_attempt();
    again.id.refused();
    let _ = again.id.next_attempt();
    drop(again);
    nothing_discarded_before_this(&rig).await;
}

#[tokio::test]
async fn a_failed_write_names_all_that_it_began() {
    let rig = Rig::new((4, 2), 1, settings());
    (0..2).for_each(|slot| rig.set(1, slot, Conduct::BreaksAfter(0)));
    let result = rig.write(&bytes(30 * CELL), CELL).await;
    assert!(matches!(result, Err(PutError::Unavailable { .. })));
    assert_eq!(discarded(&rig).await.1, [left(1, 0)]);
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let mut settings = settings();
    settings.segment_cells_max = 8;
    let rig = Rig::new((4, 2), 1, settings);
    let mut pieces: Vec<_> = bytes(20 * CELL)
        .chunks(CELL)
        .map(|piece| Ok(bytes::Bytes::copy_from_slice(piece)))
        .collect();
    pieces.push(Err(SourceError::Incomplete));
    let stream = futures::stream::iter(pieces);
    let result = rig.write_stream(stream, 40 * CELL as u64).await;
    assert!(matches!(result, Err(PutError::Source(_))), "{result:?}");
    let all: Vec<Leftover> = (0..3).map(|segment| left(1, segment)).collect();
    let (_, named) = discarded(&rig).await;
    assert!(!named.is_empty() && all.starts_with(&named), "{named:?}");
}

#[tokio::test]
async fn a_segment_that_went_elsewhere_is_named_with_the_blob() {
    let rig = Rig::new((4, 2), 2, settings());
    (0..6).for_each(|slot| rig.set(1, slot, Conduct::BreaksAfter(1)));
    // Volumes take turns: one of two begins on the broken one.
    let mut left_behind = Vec::new();
    for _ in 0..2 {
        let written = rig.write(&bytes(30 * CELL), CELL).await.expect("elsewhere");
        let _ = written.id.next_attempt();
        assert_eq!(written.blob.segments[0].volume, VolumeId(2));
        left_behind.extend(written.blob.leftovers);
    }
    assert_eq!(left_behind, [left(1, 0)]);
}

#[tokio::test]
async fn a_held_body_that_is_not_approved_is_never_written() {
    let rig = Rig::new((4, 2), 1, settings());
    let source = Source::Held(rig.hold(&bytes(20_000)).await);
    let hashes = Hashes::default();
    let pipeline = &rig.pipeline;
    let result = pipeline
        .write_blob(source, &rig.key, 0, hashes, &|_| false)
        .await;
    assert!(matches!(result, Err(PutError::Refused)), "{result:?}");
    assert_eq!(rig.fake.cells_taken.load(Ordering::Relaxed), 0);
    nothing_discarded_before_this(&rig).await;
}
