//! Nothing is found in rows that agree, and everything that is planted is found by name.

mod owners;

use super::*;
use crate::audit::audit;
use crate::command::{Command, Condition, ObjectBlobs, ShardMark};
use crate::ids::{AccountId, BlobId, LeaseId, NodeId, UploadId};
use crate::keys::Meta;
use crate::machine::tests::{BOX, World, disk_id, put, put_command, upload};
use crate::rows::{
    BlobRow, DeleteRow, DiskRow, FiledRow, OwedRow, SegmentRow, VersionRow, VolumeCounts as Counts,
};
use crate::shard::ShardId;
use crate::table::{MemRows, Overlay, Rows};

/// Lets all rows come by, as an operator's check does.
fn pass(mut check: RowCheck, rows: &MemRows) -> Checked {
    let behind = |key: &[u8]| key > BEGIN_AFTER;
    rows.iter()
        .filter(|(key, _)| behind(key))
        .for_each(|(key, value)| check.row(key, value));
    check.second_run();
    rows.iter()
        .filter(|(key, _)| !behind(key))
        .for_each(|(key, value)| check.row(key, value));
    check.finish()
}

/// Checks rows, and looks closer where there is something. Few cells: things share them.
pub(crate) fn check(rows: &MemRows) -> Vec<String> {
    let checked = pass(RowCheck::with(Ledger::new(4)), rows);
    assert_eq!(checked.left_out, Vec::<String>::new());
    if checked.suspects.is_empty() {
        return words(checked);
    }
    let closer = pass(RowCheck::closer(checked.suspects), rows);
    assert!(
        !closer.findings.named.is_empty(),
        "a difference without a name"
    );
    words(closer)
}

fn words(checked: Checked) -> Vec<String> {
    let named = checked.findings.named.iter();
    named.map(ToString::to_string).collect()
}

/// A world with something in every table that matters: copies, coded and inline blobs, an owed
/// shard, an upload with parts, one that has ended and is not worked off, deletes.
fn world() -> World {
    let mut world = World::ready();
    world.done(Command::PutAccessKey {
        access_key: "secret-access".into(),
        account: AccountId(1),
        enabled: true,
        revision: 1,
        sealed_credential: vec![4],
    });
    for (number, len) in [(1, 100), (2, 100_000), (3, 3_000_000)] {
        let blob = world.blob(number, len, 1);
        let name = format!("secret-{number}");
        world.done(put_command(put(&name, number, ObjectBlobs::New(blob))));
    }
    let gone = world.blob(4, 400_000, 1);
    world.done(put_command(put("secret-4", 4, ObjectBlobs::New(gone))));
    world.done(Command::DeleteObject {
        bucket: BOX,
        key: b"secret-4".to_vec(),
        condition: Condition::None,
    });
    let epoch = world.volume_row(1).epoch;
    let shard = ShardId {
        volume: VolumeId(1),
        blob: BlobId(3),
        segment: 0,
        slot: 2,
    };
    world.done(Command::MarkOwed {
        node: NodeId(3),
        disk: disk_id(3),
        marks: vec![ShardMark { shard, epoch }],
        damaged: false,
    });
    for number in [1, 2] {
        world.done(Command::CreateUpload {
            bucket: BOX,
            key: b"secret-upload".to_vec(),
            upload: upload(number),
            wrapped_key: vec![1],
            sealed_manifest: vec![2],
        });
        for part in 1..=12 {
            let blob = world.blob(100 * number + u64::from(part), 500, 1);
            world.done(Command::PutPart {
                bucket: BOX,
                key: b"secret-upload".to_vec(),
                upload: upload(number),
                part,
                size: 10,
                written_ms: world.time_ms,
                sealed_part: vec![3],
                blob,
            });
        }
    }
    world.done(Command::AbortUpload {
        bucket: BOX,
        key: b"secret-upload".to_vec(),
        upload: upload(2),
    });
    world
}

fn edit<T: Stored>(rows: &mut MemRows, key: &RowKey<'_>, change: impl FnOnce(&mut T)) {
    let mut row: T = crate::machine::read(rows, key)
        .expect("readable")
        .expect("there");
    change(&mut row);
    write(rows, key, &row);
}

fn write<T: Stored>(rows: &mut MemRows, key: &RowKey<'_>, row: &T) {
    let base = rows.clone();
    let mut overlay = Overlay::new(&base);
    crate::machine::write_for_tests(&mut overlay, key, row).expect("readable");
    rows.write(overlay.into_batch());
}

fn remove(rows: &mut MemRows, key: &RowKey<'_>) {
    assert!(rows.get(&key.encode()).expect("in memory").is_some());
    let base = rows.clone();
    let mut overlay = Overlay::new(&base);
    overlay.delete(key.encode());
    rows.write(overlay.into_batch());
}

#[test]
fn rows_that_agree_are_clean_and_all_are_seen() {
    let world = world();
    world.audited();
    assert_eq!(check(&world.rows), Vec::<String>::new());
    let checked = pass(RowCheck::default(), &world.rows);
    assert_eq!(checked.rows, world.rows.iter().count() as u64);
    assert!(checked.suspects.is_empty());
}

type Plant = fn(&mut MemRows);

const VOLUME: VolumeId = VolumeId(1);
const PLACE: RowKey<'static> = RowKey::VolumeBlob {
    volume: VOLUME,
    blob: BlobId(3),
    segment: 0,
};
const OWED: RowKey<'static> = RowKey::Owed {
    volume: VOLUME,
    blob: BlobId(3),
    segment: 0,
};

fn name(key: &'static str) -> RowKey<'static> {
    RowKey::Name {
        bucket: BOX,
        key: key.as_bytes().into(),
    }
}

fn segment(rows: &mut MemRows, change: impl FnOnce(&mut SegmentRow)) {
    let key = RowKey::Blob(BlobId(3));
    edit(rows, &key, |row: &mut BlobRow| change(&mut row.segments[0]));
}

/// What is planted, and how a finding that names it begins.
const PLANTS: &[(&str, Plant)] = &[
    ("references to a blob: blob-2: kept 2, counted 1", |rows| {
        edit(rows, &RowKey::Blob(BlobId(2)), |row: &mut BlobRow| {
            row.references = 2
        });
    }),
    ("references to a blob: blob-3: kept 1, counted 0", |rows| {
        edit(rows, &name("secret-3"), |row: &mut VersionRow| {
            row.blobs.clear()
        });
    }),
    ("references to a blob: blob-3: kept 0, counted 1", |rows| {
        remove(rows, &RowKey::Blob(BlobId(3)));
    }),
    ("a blob's row: blob-2 has no references", |rows| {
        edit(rows, &RowKey::Blob(BlobId(2)), |row: &mut BlobRow| {
            row.references = 0
        });
    }),
    ("a blob's row: blob-1 has", |rows| {
        edit(rows, &RowKey::Blob(BlobId(1)), |row: &mut BlobRow| {
            row.inline.truncate(1)
        });
    }),
    (
        "rows that find a segment by its volume: volume-1/blob-3/0: kept 0, counted 1",
        |rows| {
            remove(rows, &PLACE);
        },
    ),
    (
        "rows that find a segment by its volume: volume-1/blob-3/0: kept 1, counted 0",
        |rows| {
            write(
                rows,
                &PLACE,
                &FiledRow {
                    owner: Some(BlobId(9)),
                },
            );
        },
    ),
    (
        "rows of a segment that owes shards: volume-1/blob-3/0: kept 0, counted 1",
        |rows| {
            remove(rows, &OWED);
        },
    ),
    (
        "rows of a segment that owes shards: volume-1/blob-3/0: kept 1, counted 0",
        |rows| {
            segment(rows, |segment| segment.owed = 0);
        },
    ),
    ("an owed row: volume-1/blob-3/0 owes", |rows| {
        edit(rows, &OWED, |row: &mut OwedRow| row.damaged = 1 << 5);
    }),
    ("a segment's row: volume-1/blob-3/0 owes", |rows| {
        segment(rows, |segment| segment.owed = 1 << 9);
    }),
    (
        "a segment's row: volume-7/blob-3/0 of blob-3 is in no volume",
        |rows| {
            segment(rows, |segment| segment.volume = VolumeId(7));
        },
    ),
    (
        "a segment's row: volume-1/blob-3/0 of blob-3 has another profile",
        |rows| {
            let other = crate::profile::Profile::new(3, 2).expect("valid");
            segment(rows, |segment| segment.profile = other);
        },
    ),
    ("a volume's counts and sums: volume-1", |rows| {
        segment(rows, |segment| segment.digests[0] = [9; 16]);
    }),
    ("a volume's counts and sums: volume-1", |rows| {
        edit(rows, &RowKey::VolumeCounts(VOLUME), |row: &mut Counts| {
            row.bytes += 1
        });
    }),
    (
        "rows that list an open volume: volume-1: kept 0, counted 1",
        |rows| {
            remove(rows, &RowKey::OpenVolume(VOLUME));
        },
    ),
    (
        "objects of a bucket: bucket-50001: kept 4, counted 3",
        |rows| {
            edit(rows, &RowKey::BucketCounters(BOX), |row: &mut Counters| {
                row.objects += 1
            });
        },
    ),
    (
        "bytes of an account: account-1: kept 299, counted 300",
        |rows| {
            let key = RowKey::AccountCounters(crate::ids::AccountId(1));
            edit(rows, &key, |row: &mut Counters| row.bytes -= 1);
        },
    ),
    (
        "uploads of a bucket: bucket-50001: kept 1, counted 0",
        |rows| {
            remove(
                rows,
                &RowKey::Upload {
                    bucket: BOX,
                    key: b"secret-upload".as_slice().into(),
                    upload: upload(1),
                },
            );
        },
    ),
    ("rows that find an upload by its id", |rows| {
        remove(rows, &RowKey::UploadTarget(upload(1)));
    }),
    ("an upload's part: part 7 of no upload", |rows| {
        let key = |of: UploadId| RowKey::Part {
            upload: of,
            part: 7,
        };
        let row: crate::rows::PartRow = crate::machine::read(rows, &key(upload(1)))
            .expect("readable")
            .expect("there");
        write(rows, &key(upload(9)), &row);
    }),
    ("what is doomed: rows", |rows| {
        edit(
            rows,
            &RowKey::Meta(Meta::Doomed),
            |row: &mut DoomedQueue| row.next += 1,
        );
    }),
    ("the totals", |rows| {
        edit(rows, &RowKey::Meta(Meta::Totals), |row: &mut Totals| {
            row.deletes_pending += 1
        });
    }),
    (
        "a segment is named and queued for deletion: volume-1/blob-3/0",
        |rows| {
            let (disk, sequence) = (disk_id(1), 1);
            let key = RowKey::Delete { disk, sequence };
            edit(rows, &key, |row: &mut DeleteRow| row.shard.blob = BlobId(3));
        },
    ),
    ("a queued delete: delete 1 of disk", |rows| {
        edit(rows, &RowKey::Disk(disk_id(1)), |row: &mut DiskRow| {
            row.first_delete = 2
        });
    }),
    ("a disk", |rows| {
        edit(rows, &RowKey::Disk(disk_id(1)), |row: &mut DiskRow| {
            row.doubts = 5
        });
    }),
    ("what is remembered of a command", |rows| {
        remove(rows, &RowKey::Lease(LeaseId(0)));
    }),
    (
        "rows that find a bucket by its name: bucket-50001",
        |rows| {
            remove(rows, &RowKey::BucketName(b"box".as_slice().into()));
        },
    ),
    ("rows that find an account by its name: account-1", |rows| {
        remove(rows, &RowKey::AccountName(b"ann".as_slice().into()));
    }),
    ("a bucket: bucket-50001 is gone", |rows| {
        remove(rows, &RowKey::Bucket(BOX));
    }),
];

#[test]
fn what_is_planted_is_found_by_name_and_no_key_is_told() {
    let mut missed = Vec::new();
    for (expected, plant) in PLANTS.iter().chain(owners::PLANTS) {
        let mut rows = world().rows;
        plant(&mut rows);
        let found = check(&rows);
        if !found.iter().any(|what| what.starts_with(expected)) {
            missed.push(format!("{expected}: {found:#?}"));
        }
        assert!(
            !found.iter().any(|what| what.contains("secret")),
            "{found:#?}"
        );
        let audited = audit(&rows).expect("readable");
        assert!(!audited.is_empty(), "the audit doesn't see {expected}");
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn rows_that_cannot_be_read_are_found() {
    let mut rows = world().rows;
    let base = rows.clone();
    let mut overlay = Overlay::new(&base);
    overlay.put(RowKey::Blob(BlobId(2)).encode(), vec![255, 1, 2]);
    overlay.put(vec![Table::Leases as u8, 1], vec![1]);
    rows.write(overlay.into_batch());
    let found = check(&rows);
    for expected in [
        "a row can't be read",
        "a key is malformed: in the table Leases",
    ] {
        let named = found.iter().any(|what| what.starts_with(expected));
        assert!(named, "{expected}: {found:#?}");
    }
}
