//! What a write left behind is deleted, and nothing that a row names.

use super::{World, coded_len, put, put_command};
use crate::command::{Command, Leftover, ObjectBlobs, Refusal};
use crate::ids::{BlobId, LeaseId, VolumeId};
use crate::keys::{Meta, RowKey};
use crate::machine::LEFTOVERS_MAX;
use crate::rows::Totals;

fn left(volume: u64, segment: u32) -> Leftover {
    Leftover {
        volume: VolumeId(volume),
        segment,
    }
}

fn pending(world: &World) -> u64 {
    let totals: Totals = world.row(&RowKey::Meta(Meta::Totals)).expect("there");
    totals.deletes_pending
}

fn discard(world: &mut World, blob: u64, leftovers: Vec<Leftover>) -> super::Answer {
    let mut envelope = world.envelope(Command::DiscardBlob { leftovers });
    envelope.key.as_mut().expect("a client's").id = BlobId(blob);
    world.apply(envelope).0
}

#[test]
fn a_discarded_write_is_never_done_afterwards() {
    let mut world = World::ready();
    let blob = world.blob(7, coded_len(9), 1);
    let late = world.envelope(put_command(put("a", 1, ObjectBlobs::New(blob))));
    discard(&mut world, 7, vec![left(1, 0), left(1, 1)]).expect("discarded");
    // Each of six slots may hold a shard of either segment.
    assert_eq!(pending(&world), 12);
    world.audited();
    let superseded = Err(Refusal::Superseded { blob: BlobId(7) });
    assert_eq!(world.apply(late).0, superseded);
    world.audited();
}

#[test]
fn a_discard_spares_what_a_row_names() {
    let mut world = World::ready();
    let blob = world.blob(7, coded_len(9), 1);
    world.done(put_command(put("a", 1, ObjectBlobs::New(blob))));
    // Whoever says this has made a mistake: its write was done.
    let used = Err(Refusal::KeyUsed { blob: BlobId(7) });
    assert_eq!(discard(&mut world, 7, vec![left(1, 0)]), used);
    assert_eq!(pending(&world), 0);
    world.audited();
}

#[test]
fn a_blob_brings_its_leftovers_along() {
    let mut world = World::ready();
    world.volume(4, 2);
    let mut blob = world.blob(7, coded_len(9), 2);
    blob.leftovers = vec![left(1, 0), left(2, 0)];
    world.done(put_command(put("a", 1, ObjectBlobs::New(blob))));
    // The segment in volume 2 is the one that counts.
    assert_eq!(pending(&world), 6);
    world.audited();
}

#[test]
fn malformed_leftovers_are_refused() {
    let mut world = World::ready();
    let many = (0..=LEFTOVERS_MAX as u32).map(|segment| left(1, segment));
    for wrong in [
        vec![left(1, 1), left(1, 0)],
        vec![left(1, 0), left(1, 0)],
        vec![left(9, 0)],
        many.collect(),
    ] {
        let refused = discard(&mut world, 7, wrong);
        assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
    }
    assert_eq!(pending(&world), 0);
    let foreign = 3 * LeaseId::BLOBS;
    let closed = Err(Refusal::LeaseClosed {
        blob: BlobId(foreign),
    });
    assert_eq!(discard(&mut world, foreign, vec![left(1, 0)]), closed);
}
