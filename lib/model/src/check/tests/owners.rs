//! What is planted in the counters of buckets and accounts, in what finds buckets and access keys
//! by their owners, and among older versions.

use super::*;

const OWNER: AccountId = AccountId(1);

fn counters(rows: &mut MemRows, key: &RowKey<'_>, change: fn(&mut Counters)) {
    edit(rows, key, change);
}

fn older(sequence: u64) -> RowKey<'static> {
    RowKey::Version {
        bucket: BOX,
        key: b"secret-1".as_slice().into(),
        sequence,
    }
}

/// The row of the current version of an object, to be an older one of the same sequence.
fn current(rows: &MemRows) -> VersionRow {
    let row = crate::machine::read(rows, &name("secret-1"));
    row.expect("readable").expect("there")
}

/// What finds an older version by its id.
fn found_by(row: &VersionRow) -> RowKey<'static> {
    RowKey::VersionSequence {
        bucket: BOX,
        key: b"secret-1".as_slice().into(),
        version: row.version,
    }
}

/// An older version that agrees with all other rows.
fn with_an_older_version() -> MemRows {
    let mut rows = world().rows;
    let row = current(&rows);
    let blob = RowKey::Blob(row.blobs[0]);
    write(&mut rows, &older(row.sequence), &row);
    write(&mut rows, &found_by(&row), &row.sequence);
    edit(&mut rows, &blob, |blob: &mut BlobRow| blob.references += 1);
    let one_more = |counters: &mut Counters| {
        counters.versions += 1;
        counters.bytes += row.size;
    };
    edit(&mut rows, &RowKey::BucketCounters(BOX), one_more);
    edit(&mut rows, &RowKey::AccountCounters(OWNER), one_more);
    let totals = RowKey::Meta(Meta::Totals);
    edit(&mut rows, &totals, |totals: &mut Totals| {
        one_more(&mut totals.counters)
    });
    rows
}

#[test]
fn an_older_version_that_agrees_is_clean() {
    let rows = with_an_older_version();
    assert_eq!(check(&rows), Vec::<String>::new());
    assert_eq!(audit(&rows).expect("readable"), Vec::<String>::new());
}

/// As those beside this: what is planted, and how a finding that names it begins.
pub(super) const PLANTS: &[(&str, Plant)] = &[
    (
        "rows that find a version by its id: bucket-50001: kept 0, counted 1",
        |rows| {
            *rows = with_an_older_version();
            let row = current(rows);
            remove(rows, &found_by(&row));
        },
    ),
    (
        "rows that find a version by its id: bucket-50001: kept 1, counted 0",
        |rows| {
            *rows = with_an_older_version();
            let row = current(rows);
            remove(rows, &older(row.sequence));
        },
    ),
    (
        "rows that find a version by its id: bucket-50001: a version of sequence",
        |rows| {
            let row = current(rows);
            write(rows, &older(row.sequence + 1), &row);
        },
    ),
    (
        "versions of a bucket: bucket-50001: kept 4, counted 3",
        |rows| {
            counters(rows, &RowKey::BucketCounters(BOX), |row| row.versions += 1);
        },
    ),
    (
        "bytes of a bucket: bucket-50001: kept 301, counted 300",
        |rows| {
            counters(rows, &RowKey::BucketCounters(BOX), |row| row.bytes += 1);
        },
    ),
    (
        "counters of a bucket: bucket-50001: kept 0, counted 1",
        |rows| {
            remove(rows, &RowKey::BucketCounters(BOX));
        },
    ),
    (
        "objects of an account: account-1: kept 4, counted 3",
        |rows| {
            counters(rows, &RowKey::AccountCounters(OWNER), |row| {
                row.objects += 1
            });
        },
    ),
    (
        "versions of an account: account-1: kept 2, counted 3",
        |rows| {
            counters(rows, &RowKey::AccountCounters(OWNER), |row| {
                row.versions -= 1
            });
        },
    ),
    (
        "uploads of an account: account-1: kept 2, counted 1",
        |rows| {
            counters(rows, &RowKey::AccountCounters(OWNER), |row| {
                row.uploads += 1
            });
        },
    ),
    (
        "rows that find a bucket by its owner: bucket-50001: kept 0, counted 1",
        |rows| {
            let name = b"box".as_slice().into();
            let account = OWNER;
            remove(rows, &RowKey::AccountBucket { account, name });
        },
    ),
    (
        "rows that find an access key by its account: account-1: kept 0, counted 1",
        |rows| {
            let key = RowKey::AccountAccessKey {
                account: OWNER,
                access_key: b"secret-access".as_slice().into(),
            };
            remove(rows, &key);
        },
    ),
];
