//! A backup of the metadata that is damaged or made up: reads it as a restore does.
//!
//! Input: which checksums are corrected afterwards (0: none, 1: those of the card, 2: those of the
//! frames too), then a script for `edit` (file 0 is the card, 1 the rows). A damaged backup is
//! refused or gives the rows that were written; a made-up one is read or refused, and so are its
//! rows.

use crate::edit::Folder;
use crate::world;
use megalith_metadata::backup::fuzz::{self, Row};
use megalith_metadata::backup::{BackupCard, BackupError};
use megalith_metadata::log::{LogIdentity, Mark};
use megalith_model::audit::audit;
use megalith_model::ids::{ClusterId, GroupId, NodeId};
use megalith_model::restored;
use megalith_model::table::{Batch, MemRows};
use std::sync::LazyLock;

const IDENTITY: LogIdentity = LogIdentity {
    cluster: ClusterId([7; 16]),
    member: NodeId(1),
    group: GroupId(0),
    incarnation: 0,
};
const CARD: &str = "backup";
const ROWS: &str = "rows";

static GOOD: LazyLock<Folder> = LazyLock::new(|| {
    let rows: Vec<Row> = world::ROWS
        .iter()
        .map(|(key, value)| (key.to_vec(), Some(value.to_vec())))
        .collect();
    let mut frames: Vec<_> = rows.chunks(20).map(<[Row]>::to_vec).collect();
    // A row that was sent and is deleted by the end of the stream.
    let name = rows.iter().find(|(key, _)| key[0] == 2).expect("a name");
    frames.push(vec![(name.0.clone(), None), name.clone()]);
    let rows = fuzz::rows_file(&frames);
    let card = fuzz::card_for(&card(frames.iter().map(Vec::len).sum()), &rows);
    Folder::new(vec![
        (CARD.to_owned(), card.into_bytes()),
        (ROWS.to_owned(), rows),
    ])
});

fn card(records: usize) -> BackupCard {
    BackupCard {
        cluster: IDENTITY.cluster,
        group: IDENTITY.group,
        mark: Mark {
            index: 1234,
            term: 5,
        },
        records: records as u64,
        len: 0,
        digest: fuzz::no_digest(),
    }
}

pub fn target(data: &[u8]) {
    let Some((&forged, script)) = data.split_first() else {
        return;
    };
    let mut folder = GOOD.clone();
    let touched = folder.edit(script);
    let (mut made_card, mut rows) = (bytes(&folder, CARD), bytes(&folder, ROWS));
    if forged % 3 == 2 {
        fuzz::reseal(&mut rows);
    }
    if !forged.is_multiple_of(3) {
        made_card = fuzz::card_for(&card(40), &rows).into_bytes();
    }
    match fuzz::read(&made_card, &rows, IDENTITY) {
        Ok((_, batches)) if forged.is_multiple_of(3) => {
            assert_eq!((made_card, rows), (bytes(&GOOD, CARD), bytes(&GOOD, ROWS)));
            assert!(rows_of(batches).iter().eq(world::ROWS.iter()));
        }
        Ok((_, batches)) => made_up(batches),
        Err(error) => {
            let known = !touched.is_empty() || !forged.is_multiple_of(3);
            assert!(known, "a good backup is refused: {error}");
            assert!(!matches!(error, BackupError::Io { .. }), "{error}");
        }
    }
}

/// Rows that anyone may have written: reading them ends with an error at worst, not with a crash.
fn made_up(batches: Vec<Batch>) {
    let mut rows = rows_of(batches);
    assert!(
        rows.iter()
            .all(|(key, _)| matches!(key.first(), Some(1..=254)))
    );
    let _ = audit(&rows);
    if let Ok(changes) = restored::changes(&rows) {
        rows.write(changes);
        let _ = audit(&rows);
    }
}

fn rows_of(batches: Vec<Batch>) -> MemRows {
    let mut rows = MemRows::default();
    for batch in batches {
        rows.write(batch);
    }
    rows
}

fn bytes(folder: &Folder, file: &str) -> Vec<u8> {
    folder.get(file).unwrap_or_default().to_vec()
}

/// The first inputs.
#[must_use]
pub fn seeds() -> crate::Seeds {
    let seeds: Vec<(&str, Vec<u8>)> = vec![
        ("good", vec![0]),
        ("bit-in-the-card", vec![0, 0, 0, 50, 0, 0, 1]),
        ("bit-in-the-rows", vec![0, 0, 1, 50, 0, 0, 1]),
        ("card-cut", vec![0, 3, 0, 50, 0, 0]),
        ("rows-cut", vec![0, 3, 1, 0, 1, 0]),
        ("rows-longer", vec![0, 4, 1, 9, 0, 1, 1]),
        ("frame-cut-with-right-card", vec![1, 3, 1, 0, 1, 0]),
        ("bit-in-a-frame-with-right-card", vec![1, 0, 1, 50, 0, 0, 1]),
        (
            "frame-of-huge-length",
            vec![1, 1, 1, 16, 0, 0, 4, 255, 255, 255, 15],
        ),
        ("forged-row", vec![2, 0, 1, 44, 0, 0, 1]),
        (
            "forged-record-length",
            vec![2, 1, 1, 25, 0, 0, 5, 255, 255, 255, 255, 15],
        ),
        ("forged-rows", vec![2, 2, 1, 200, 0, 0, 60, 0, 255]),
    ];
    crate::named(seeds)
}
