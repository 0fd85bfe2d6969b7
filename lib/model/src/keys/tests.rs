//! Keys come back as they went in, and sort as their fields do.

use super::*;
use crate::shard::ShardId;
use expect_test::expect;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    // Few different bytes, the special ones among them, so that prefixes and ties are common.
    let byte = prop_oneof![
        Just(0),
        Just(1),
        Just(0xff),
        Just(b'/'),
        Just(b'a'),
        any::<u8>()
    ];
    prop::collection::vec(byte, 0..6)
}

fn owned(bytes: Vec<u8>) -> Cow<'static, [u8]> {
    Cow::Owned(bytes)
}

/// Numbers of every length, the edges among them.
fn number() -> impl Strategy<Value = u64> + Clone {
    let edge = (0_u32..64).prop_map(|bit| 1_u64 << bit);
    prop_oneof![
        (any::<u64>(), 0_u32..64).prop_map(|(number, drop)| number >> drop),
        edge.clone(),
        edge.prop_map(|edge| edge - 1),
        Just(u64::MAX),
    ]
}

fn segment() -> impl Strategy<Value = u32> + Clone {
    number().prop_map(|number| number as u32)
}

fn object_key() -> impl Strategy<Value = RowKey<'static>> {
    let bucket = number().prop_map(BucketId);
    let id = any::<[u8; 16]>();
    prop_oneof![
        (bucket.clone(), bytes()).prop_map(|(bucket, key)| RowKey::Name {
            bucket,
            key: owned(key)
        }),
        (bucket.clone(), bytes(), any::<u64>()).prop_map(|(bucket, key, sequence)| {
            RowKey::Version {
                bucket,
                key: owned(key),
                sequence,
            }
        }),
        (bucket.clone(), bytes(), id).prop_map(|(bucket, key, id)| RowKey::VersionSequence {
            bucket,
            key: owned(key),
            version: VersionId(id)
        }),
        (bucket.clone(), bytes(), id).prop_map(|(bucket, key, id)| RowKey::Upload {
            bucket,
            key: owned(key),
            upload: UploadId(id)
        }),
        id.prop_map(|id| RowKey::UploadTarget(UploadId(id))),
        (id, any::<u32>()).prop_map(|(id, part)| RowKey::Part {
            upload: UploadId(id),
            part
        }),
        bucket.clone().prop_map(RowKey::Bucket),
        bucket.prop_map(RowKey::BucketCounters),
    ]
}

fn placement_key() -> impl Strategy<Value = RowKey<'static>> {
    let volume = number().prop_map(VolumeId);
    let blob = number().prop_map(BlobId);
    let id = any::<[u8; 16]>();
    let doubted = (volume.clone(), blob.clone(), segment(), any::<u8>());
    prop_oneof![
        blob.clone().prop_map(RowKey::Blob),
        blob.clone().prop_map(RowKey::Spent),
        (id, volume.clone(), any::<u8>()).prop_map(|(id, volume, slot)| RowKey::Chunk {
            disk: DiskId(id),
            volume,
            slot
        }),
        (volume.clone(), any::<(u8, u64)>()).prop_map(|(volume, (slot, sequence))| {
            RowKey::MoveDelete {
                volume,
                slot,
                sequence,
            }
        }),
        (volume.clone(), blob.clone(), segment()).prop_map(|(volume, blob, segment)| {
            RowKey::VolumeBlob {
                volume,
                blob,
                segment,
            }
        }),
        (volume.clone(), blob.clone(), segment()).prop_map(|(volume, blob, segment)| {
            RowKey::Owed {
                volume,
                blob,
                segment,
            }
        }),
        volume.clone().prop_map(RowKey::Volume),
        volume.clone().prop_map(RowKey::VolumeCounts),
        volume.prop_map(RowKey::OpenVolume),
        any::<u32>().prop_map(|node| RowKey::Node(NodeId(node))),
        id.prop_map(|id| RowKey::Disk(DiskId(id))),
        (id, any::<u64>()).prop_map(|(id, sequence)| RowKey::Delete {
            disk: DiskId(id),
            sequence
        }),
        any::<u64>().prop_map(|lease| RowKey::Lease(LeaseId(lease))),
        any::<u64>().prop_map(RowKey::Doomed),
        (id, doubted).prop_map(|(id, (volume, blob, segment, slot))| RowKey::Doubt {
            disk: DiskId(id),
            shard: ShardId {
                volume,
                blob,
                segment,
                slot,
            },
        }),
    ]
}

fn owner_key() -> impl Strategy<Value = RowKey<'static>> {
    let account = any::<u64>().prop_map(AccountId);
    prop_oneof![
        bytes().prop_map(|name| RowKey::BucketName(owned(name))),
        bytes().prop_map(|name| RowKey::AccountName(owned(name))),
        bytes().prop_map(|name| RowKey::AccessKey(owned(name))),
        (account.clone(), bytes()).prop_map(|(account, name)| RowKey::AccountBucket {
            account,
            name: owned(name)
        }),
        (account.clone(), bytes()).prop_map(|(account, name)| RowKey::AccountAccessKey {
            account,
            access_key: owned(name)
        }),
        account.clone().prop_map(RowKey::Account),
        account.prop_map(RowKey::AccountCounters),
        any::<u32>().prop_map(RowKey::Kek),
        prop::sample::select(Meta::ALL).prop_map(RowKey::Meta),
    ]
}

fn any_key() -> impl Strategy<Value = RowKey<'static>> {
    prop_oneof![object_key(), placement_key(), owner_key()]
}

proptest! {
    #[test]
    fn short_numbers_sort_as_they_count(a in number(), b in number()) {
        let key = |blob: u64| RowKey::Blob(BlobId(blob)).encode();
        for b in [b, a, a.wrapping_add(1), a << 8, a >> 8] {
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert!(a == b || !key(b).starts_with(&key(a)));
        }
    }

    #[test]
    fn a_range_of_one_number_holds_no_row_of_another(
        of in number(),
        other in number(),
        rest in (bytes(), number(), segment()),
    ) {
        let (key, blob, segment) = (Cow::Borrowed(&rest.0[..]), BlobId(rest.1), rest.2);
        for other in [other, of, of.wrapping_add(1), of.wrapping_sub(1), of << 8, of >> 8] {
            let (bucket, volume) = (BucketId(other), VolumeId(other));
            let rows = [
                (names(BucketId(of), b""), RowKey::Name { bucket, key: key.clone() }),
                (
                    versions(BucketId(of)),
                    RowKey::Version { bucket, key: key.clone(), sequence: rest.1 },
                ),
                (volume_blobs(VolumeId(of)), RowKey::VolumeBlob { volume, blob, segment }),
                (owed(VolumeId(of)), RowKey::Owed { volume, blob, segment }),
            ];
            for (range, row) in rows {
                let holds = (range.from..range.to).contains(&row.encode());
                prop_assert_eq!(holds, of == other, "{:?}", row);
            }
        }
    }

    #[test]
    fn a_lease_holds_what_is_remembered_of_its_ids(
        lease in number(),
        from in number(),
        id in number(),
    ) {
        let lease = BlobId(lease).lease();
        let (first, last) = lease.blobs();
        let beside = [first.0.wrapping_sub(1), last.0.wrapping_add(1)];
        for id in [id, first.0, first.0 | id & 0xffff, last.0, beside[0], beside[1]] {
            for from in [BlobId(from), first, BlobId(first.0 | from & 0xffff)] {
                let range = spent(lease, from);
                let holds = (range.from..range.to).contains(&RowKey::Spent(BlobId(id)).encode());
                let own = BlobId(id).lease() == lease && id >= from.0;
                prop_assert_eq!(holds, own, "{} from {}", id, from);
            }
        }
    }

    #[test]
    fn every_key_comes_back(key in any_key()) {
        let encoded = key.encode();
        prop_assert_eq!(RowKey::decode(&encoded), Ok(key));
    }

    #[test]
    fn different_keys_differ(a in any_key(), b in any_key()) {
        prop_assert_eq!(a == b, a.encode() == b.encode());
    }

    #[test]
    fn strangers_bytes_are_refused_or_come_back(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        if let Ok(key) = RowKey::decode(&bytes) {
            prop_assert_eq!(key.encode(), bytes);
        }
    }

    #[test]
    fn versions_sort_by_bucket_key_and_age_the_newest_first(
        a in (0_u64..3, bytes(), any::<u64>()),
        b in (0_u64..3, bytes(), any::<u64>()),
    ) {
        let encode = |(bucket, key, sequence): &(u64, Vec<u8>, u64)| RowKey::Version {
            bucket: BucketId(*bucket),
            key: Cow::Borrowed(key),
            sequence: *sequence,
        }.encode();
        let by_fields = (a.0, &a.1).cmp(&(b.0, &b.1)).then(b.2.cmp(&a.2));
        prop_assert_eq!(encode(&a).cmp(&encode(&b)), by_fields);
    }

    #[test]
    fn a_prefix_range_holds_exactly_what_begins_so(prefix in bytes(), key in bytes()) {
        let bucket = BucketId(u64::MAX);
        let name = RowKey::Name { bucket, key: Cow::Borrowed(&key) }.encode();
        let upload = RowKey::Upload {
            bucket,
            key: Cow::Borrowed(&key),
            upload: UploadId([0xff; 16]),
        }.encode();
        let begins = key.starts_with(&prefix);
        for (range, row) in [(names(bucket, &prefix), name), (uploads(bucket, &prefix), upload)] {
            prop_assert_eq!((range.from..range.to).contains(&row), begins);
        }
    }
}

#[test]
fn keys_of_every_table_are_tried() {
    let mut runner = TestRunner::deterministic();
    let tried: BTreeSet<Table> = (0..3_000)
        .filter_map(|_| {
            let key = any_key().new_tree(&mut runner).expect("a key").current();
            Table::from_number(key.encode()[0])
        })
        .collect();
    let forgotten: Vec<_> = Table::ALL.iter().filter(|t| !tried.contains(t)).collect();
    assert!(forgotten.is_empty(), "in no strategy: {forgotten:?}");
}

#[test]
fn table_numbers_stay() {
    let numbers: Vec<String> = (0..=u8::MAX)
        .filter_map(|number| Table::from_number(number).map(|t| format!("{number} {t:?}")))
        .collect();
    expect![[r#"
        1 Meta
        2 Names
        3 Versions
        4 Blobs
        5 VersionSequences
        6 VolumeBlobs
        7 Owed
        8 Volumes
        9 VolumeCounts
        10 OpenVolumes
        11 Nodes
        12 Disks
        13 Deletes
        14 Uploads
        15 UploadTargets
        16 Parts
        17 Buckets
        18 BucketNames
        19 AccountBuckets
        20 Accounts
        21 AccountNames
        22 AccessKeys
        23 AccountAccessKeys
        24 Keks
        25 Leases
        26 Spent
        27 Chunks
        28 BucketCounters
        29 AccountCounters
        30 Doubts
        31 Doomed
        32 MoveDeletes"#]]
    .assert_eq(&numbers.join("\n"));
}

#[test]
fn short_numbers_are_read_only_as_they_are_written() {
    let blobs = Table::Blobs as u8;
    let read = |bytes: &[u8]| RowKey::decode(&[&[blobs], bytes].concat()).map(|key| key.encode());
    let written = |number| Ok(RowKey::Blob(BlobId(number)).encode());
    assert_eq!(read(&[0]), written(0));
    assert_eq!(read(&[1, 7]), written(7));
    assert_eq!(read(&[2, 1, 0]), written(256));
    let wide = [&[9][..], &[1; 9]].concat();
    for malformed in [
        &[][..],
        &[1],
        &[1, 0],
        &[2, 0, 7],
        &[2, 1],
        &[1, 7, 7],
        &wide,
    ] {
        assert_eq!(read(malformed), Err(KeyError), "{malformed:?}");
    }
}
