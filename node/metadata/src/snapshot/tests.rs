//! A stream of rows under random writes is what the rows were when it began, or what they are when
//! it ends; and no stream lasts for ever.

use super::*;
use crate::engine::{END_KEY, Engines, FIRST_KEY, MemEngines};
use crate::log::{Conf, Mark};
use crate::tables::Tables;
use crate::testing::{Rng, seeds};
use megalith_model::ids::NodeId;
use megalith_model::table::{Batch, MemRows, Overlay};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tonic::Code;

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
    let engines = MemEngines::without_snapshots();
    let engine = engines.open("engine-0").expect("open");
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
    let engines = MemEngines::without_snapshots();
    let open = |name: &str| engines.open(name).expect("open");
    let tables = Tables::new(
        "engine-0".into(),
        open("engine-0"),
        true,
        Conf::of_voters([NodeId(1)]),
    );
    let session = Arc::new(Session::new(1, 200));
    tables.watch(&session);
    let (old, _engine) = tables.replace("engine-1".into(), open("engine-1"));
    assert_eq!(old, "engine-0");
    let piece = tables
        .read(|engine| session.next_piece(0, engine))
        .expect("whole");
    assert!(piece.expect("read").is_none());
}

/// Tables of an engine with snapshots, at entry 60.
fn written() -> Arc<Tables> {
    let engine = MemEngines::default().open("engine-0").expect("open");
    let conf = Conf::of_voters([NodeId(1)]);
    let tables = Arc::new(Tables::new("engine-0".into(), engine, true, conf));
    let mut rng = Rng::new(1);
    for index in 1..=60 {
        let mark = Mark { index, term: 1 };
        tables.write(&random_batch(&mut rng), mark).expect("write");
    }
    tables
}

fn source(tables: &Arc<Tables>, settings: SourceSettings) -> SnapshotSource {
    let piece_bytes = 200;
    let settings = SourceSettings {
        piece_bytes,
        ..settings
    };
    SnapshotSource::new(tables.clone(), settings, 0)
}

fn request(session: u64, after: &[u8]) -> v1::SnapshotRequest {
    v1::SnapshotRequest {
        session,
        after: after.to_vec().into(),
        ..v1::SnapshotRequest::default()
    }
}

#[tokio::test]
async fn a_stream_is_what_the_rows_were_when_it_began() {
    let tables = written();
    let before = all(&tables);
    let source = source(&tables, SourceSettings::default());
    let mut pieces = source.stream(3, &request(0, &[])).expect("a stream");
    assert_eq!(source.log_needed_after(), Some(60));
    let mut backup = source.stream(BACKUP_PEER, &request(0, &[])).expect("too");
    let (mut received, mut rng) = (BTreeMap::new(), Rng::new(2));
    for index in 61.. {
        let mark = Mark { index, term: 1 };
        tables.write(&random_batch(&mut rng), mark).expect("write");
        let piece = pieces.recv().await.expect("a piece").expect("no error");
        let (session, last, index) = (piece.session, piece.last, piece.index);
        let after = piece.rows.last().map(|row| row.key.clone());
        received.extend(piece.rows.into_iter().map(|row| (row.key, row.value)));
        if last {
            assert_eq!(index, 60);
            break;
        }
        if rng.below(3) == 0 {
            let after = after.expect("rows");
            pieces = source
                .stream(3, &request(session, &after))
                .expect("goes on");
        }
    }
    let received: BTreeMap<_, _> = received
        .into_iter()
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect();
    assert_eq!(received, before);
    assert_ne!(all(&tables), before);
    // Its member asks for what comes behind it next.
    assert_eq!(source.log_needed_after(), Some(60));
    // A backup needs no log.
    drop(pieces);
    assert!(backup.recv().await.expect("a piece").is_ok());
}

#[tokio::test]
async fn a_stream_that_is_idle_is_forgotten() {
    let tables = written();
    let settings = SourceSettings {
        idle_max: Duration::from_millis(50),
        ..SourceSettings::default()
    };
    let source = source(&tables, settings);
    let mut pieces = source.stream(3, &request(0, &[])).expect("a stream");
    let first = pieces.recv().await.expect("a piece").expect("no error");
    while source.log_needed_after().is_some() {
        sleep(Duration::from_millis(5)).await;
    }
    // Some were made before.
    while let Some(piece) = pieces.recv().await {
        match piece {
            Ok(piece) => assert!(!piece.last),
            Err(error) => assert_eq!(error.code(), Code::Aborted),
        }
    }
    let error = source.stream(3, &request(first.session, &[]));
    assert_eq!(error.expect_err("gone").code(), Code::NotFound);
}

#[tokio::test]
async fn a_stream_that_is_old_or_whose_rows_were_replaced_begins_again() {
    let tables = written();
    let slow = SourceSettings {
        age_max: Duration::from_millis(100),
        bytes_per_second: 10_000,
        ..SourceSettings::default()
    };
    let replaced = SourceSettings {
        age_max: Duration::from_secs(3_600),
        ..slow
    };
    for (settings, replaces) in [(slow, false), (replaced, true)] {
        let source = source(&tables, settings);
        let mut pieces = source.stream(3, &request(0, &[])).expect("a stream");
        let mut taken = 0;
        let error = loop {
            match pieces.recv().await.expect("no end") {
                Ok(piece) => assert!(!piece.last),
                Err(error) => break error,
            }
            taken += 1;
            if replaces && taken == 1 {
                let engine = MemEngines::default().open("engine-1").expect("open");
                tables.replace("engine-1".into(), engine);
            }
        };
        assert_eq!(error.code(), Code::Aborted);
        assert!(taken >= 1);
    }
}

/// Takes a stream of a check to its end.
async fn stretch(source: &SnapshotSource, session: u64, after: &[u8]) -> (u64, Vec<Vec<u8>>) {
    let request = v1::SnapshotRequest {
        still: true,
        ..request(session, after)
    };
    let mut pieces = source.stream(CHECK_PEER, &request).expect("a stream");
    let mut keys = Vec::new();
    loop {
        let piece = pieces.recv().await.expect("a piece").expect("no error");
        keys.extend(piece.rows.iter().map(|row| row.key.to_vec()));
        if piece.last {
            return (piece.session, keys);
        }
    }
}

#[tokio::test]
async fn a_check_reads_any_stretch_of_one_view_and_holds_no_log() {
    let tables = written();
    let before: Vec<Vec<u8>> = all(&tables).into_keys().collect();
    let middle = before[before.len() / 2].clone();
    let source = source(&tables, SourceSettings::default());
    let (session, behind) = stretch(&source, 0, &middle).await;
    assert_eq!(behind, before[before.len() / 2 + 1..]);
    assert_eq!(source.log_needed_after(), None);
    let mark = Mark { index: 61, term: 1 };
    tables
        .write(&random_batch(&mut Rng::new(3)), mark)
        .expect("write");
    assert_eq!(stretch(&source, session, &[]).await.1, before);
    assert_ne!(all(&tables).into_keys().collect::<Vec<_>>(), before);
}

#[tokio::test]
async fn a_check_is_refused_where_rows_do_not_stand_still() {
    let engine = MemEngines::without_snapshots()
        .open("engine-0")
        .expect("open");
    let conf = Conf::of_voters([NodeId(1)]);
    let tables = Arc::new(Tables::new("engine-0".into(), engine, true, conf));
    let mark = Mark { index: 1, term: 1 };
    tables
        .write(&random_batch(&mut Rng::new(1)), mark)
        .expect("write");
    let request = v1::SnapshotRequest {
        still: true,
        ..request(0, &[])
    };
    let refused = source(&tables, SourceSettings::default()).stream(CHECK_PEER, &request);
    assert_eq!(
        refused.expect_err("refused").code(),
        Code::FailedPrecondition
    );
}
