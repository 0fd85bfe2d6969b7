//! A stream of rows under random writes is, when it ends, what the rows are then.

use super::*;
use crate::engine::{END_KEY, Engines, FIRST_KEY, MemEngines};
use crate::log::{Conf, Mark};
use crate::tables::Tables;
use crate::testing::{Rng, seeds};
use megalith_model::ids::NodeId;
use megalith_model::table::{Batch, MemRows, Overlay};
use std::collections::BTreeMap;
use std::sync::Arc;

fn random_batch(rng: &mut Rng) -> Batch {
    let nothing = MemRows::default();
    let mut overlay = Overlay::new(&nothing);
    for _ in 0..1 + rng.below(5) {
        let key = vec![
            1 + rng.below(3) as u8,
            rng.below(12) as u8,
            rng.below(12) as u8,
        ];
        if rng.below(3) == 0 {
            overlay.delete(key);
        } else {
            overlay.put(key, vec![rng.next() as u8; rng.below(40) as usize]);
        }
    }
    overlay.into_batch()
}

fn all(tables: &Tables) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rows = BTreeMap::new();
    let read = tables.read(|engine| {
        engine.scan(FIRST_KEY, END_KEY, &mut |key, value| {
            rows.insert(key.to_vec(), value.to_vec());
            true
        })
    });
    read.expect("whole").expect("scan");
    rows
}

/// Streams under writes; some pieces get lost, and the stream goes on from the last one that came.
fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let engine = MemEngines::default().open("engine-0").expect("open");
    let conf = Conf::of_voters([NodeId(1)]);
    let tables = Tables::new("engine-0".into(), engine, true, conf);
    let mut index = 0;
    let mut write = |rng: &mut Rng| {
        index += 1;
        tables
            .write(&random_batch(rng), Mark { index, term: 1 })
            .expect("write");
    };
    for _ in 0..60 {
        write(&mut rng);
    }
    let session = Arc::new(Session::new(1, 200));
    tables.watch(&session);
    let mut received = BTreeMap::new();
    let mut after: Vec<u8> = Vec::new();
    let mut turn = 0;
    for round in 0.. {
        assert!(round < 10_000, "seed {seed}: it never ends");
        // In the end the writes are slower than the stream.
        for _ in 0..rng.below(if round < 200 { 4 } else { 1 } + 1) {
            write(&mut rng);
        }
        let piece = tables
            .read(|engine| session.next_piece(turn, engine))
            .expect("whole");
        let piece = piece.expect("read").expect("not failed");
        assert_eq!(checksum(&piece.rows), piece.crc);
        if rng.below(8) == 0 {
            turn = session.resume(&after);
            // The stream that was cut off is still at work: it takes nothing from this one.
            let stale = tables.read(|engine| session.next_piece(turn - 1, engine));
            assert!(stale.expect("whole").expect("read").is_none());
            continue;
        }
        for row in piece.rows {
            if row.key[..] > after[..] {
                after = row.key.to_vec();
            }
            if row.deleted {
                received.remove(&row.key[..]);
            } else {
                received.insert(row.key.to_vec(), row.value.to_vec());
            }
        }
        if piece.last {
            break;
        }
    }
    assert_eq!(received, all(&tables), "seed {seed}");
}

#[test]
fn a_stream_under_writes_ends_whole() {
    seeds(300).for_each(run);
}

#[test]
fn a_checksum_sees_every_part_of_a_row() {
    let row = |key: &[u8], value: &[u8], deleted| v1::SnapshotRow {
        key: key.to_vec().into(),
        value: value.to_vec().into(),
        deleted,
    };
    let sums = [
        checksum(&[row(b"ab", b"c", false)]),
        checksum(&[row(b"a", b"bc", false)]),
        checksum(&[row(b"ab", b"c", true)]),
        checksum(&[row(b"ab", b"d", false)]),
        checksum(&[row(b"ab", b"", false), row(b"c", b"", false)]),
        checksum(&[]),
    ];
    let distinct: std::collections::BTreeSet<_> = sums.iter().collect();
    assert_eq!(distinct.len(), sums.len());
}

#[test]
fn a_replaced_engine_ends_its_streams() {
    let engines = MemEngines::default();
    let open = |name: &str| engines.open(name).expect("open");
    let tables = Tables::new(
        "engine-0".into(),
        open("engine-0"),
        true,
        Conf::of_voters([NodeId(1)]),
    );
    let session = Arc::new(Session::new(1, 200));
    tables.watch(&session);
    assert_eq!(
        tables.replace("engine-1".into(), open("engine-1")),
        "engine-0"
    );
    let piece = tables
        .read(|engine| session.next_piece(0, engine))
        .expect("whole");
    assert!(piece.expect("read").is_none());
}
