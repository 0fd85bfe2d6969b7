//! One stored row of each kind, byte by byte. A change here is a change of the stored format: it
//! needs a new version byte and a decoder for the old one.

use super::{BEGIN_MS, World, coded_len, disk_id, owed, put, put_command, upload, version};
use crate::command::{Command, NewDoubt, ObjectBlobs};
use crate::ids::{AccountId, BucketId, ClusterId, Epoch, Token};
use crate::keys::{RowKey, Table};
use expect_test::expect;
use std::collections::BTreeSet;
use std::fmt::Write;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A world with a row in every table.
fn world() -> World {
    let mut world = World::ready();
    world.done(Command::InitCluster {
        cluster: ClusterId([0xc1; 16]),
    });
    world.done(Command::PutKek {
        version: 1,
        sealed_kek: vec![0xee],
    });
    world.done(Command::PutAccessKey {
        access_key: "AKIA".into(),
        account: AccountId(1),
        enabled: true,
        sealed_credential: vec![0xcc],
    });
    let mut copies = world.blob(1, 70_000, 1);
    copies.segments[0].owed = 0b10;
    world.done(put_command(put("k", 1, ObjectBlobs::New(copies))));
    let gone = world.blob(2, coded_len(3), 1);
    world.done(put_command(put("gone", 2, ObjectBlobs::New(gone))));
    world.done(Command::DeleteObject {
        bucket: BucketId(1),
        key: b"gone".to_vec(),
        condition: crate::command::Condition::None,
    });
    let (bucket, key, upload) = (BucketId(1), b"\0u".to_vec(), upload(0xab));
    world.done(Command::CreateUpload {
        bucket,
        key: key.clone(),
        upload,
        wrapped_key: vec![1],
        sealed_manifest: vec![2],
    });
    let blob = world.blob(3, 2, 1);
    let part = Command::PutPart {
        bucket,
        key,
        upload,
        part: 7,
        size: 1,
        written_ms: BEGIN_MS,
        sealed_part: vec![4],
        blob,
    };
    let (answer, _) = world.apply(Some(Token([0x70; 16])), part);
    assert!(answer.is_ok() && version(1) < version(2));
    world.done(Command::RaiseDoubts(vec![NewDoubt {
        shard: owed::shard(1, 2),
        disk: disk_id(3),
        epoch: Epoch(1),
        damaged: true,
    }]));
    doom(&mut world);
    world.audited();
    world
}

/// Ends an upload of more parts than go at once.
fn doom(world: &mut World) {
    let (bucket, key, upload) = (BucketId(1), b"\0v".to_vec(), upload(0xac));
    world.done(Command::CreateUpload {
        bucket,
        key: key.clone(),
        upload,
        wrapped_key: vec![1],
        sealed_manifest: vec![2],
    });
    for part in 1..=9 {
        let blob = world.blob(100 + u64::from(part), 2, 1);
        world.done(Command::PutPart {
            bucket,
            key: key.clone(),
            upload,
            part,
            size: 1,
            written_ms: BEGIN_MS,
            sealed_part: vec![4],
            blob,
        });
    }
    world.done(Command::AbortUpload {
        bucket,
        key,
        upload,
    });
}

/// The first row of each table, of meta all; each table must have one.
fn shown(world: &World) -> String {
    let mut shown = String::new();
    let (mut seen, mut tables) = (None, BTreeSet::new());
    for (key, value) in world.rows.iter() {
        let table = Table::from_number(key[0]).expect("a table");
        tables.insert(table);
        let parsed = RowKey::decode(key).expect("a key");
        assert_eq!(parsed.encode(), key, "a key of {table:?}");
        if seen != Some(table) || table == Table::Meta {
            let _ = writeln!(shown, "{table:?} {}\n  {}", hex(key), hex(value));
        }
        seen = Some(table);
    }
    // A new table has a row here from the day that it is there.
    let all: BTreeSet<_> = Table::ALL.iter().copied().collect();
    assert_eq!(tables, all, "a table without a row");
    shown
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "the rows of all tables, side by side"
)]
fn one_row_of_each_kind() {
    expect![[r#"
        Meta 0101
          01c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1
        Meta 0102
          01c0843d
        Meta 0103
          0102
        Meta 0104
          01e907
        Meta 0105
          0102
        Meta 0107
          0102
        Meta 0108
          0101016401010a05
        Meta 010a
          010001
        Names 0200000000000000016b
          0100000000000f4241070707070707070764040303030300
        Versions 0300000000000000016b0001fffffffffff0bdbef8f8f8f8f8f8f8f8
          0164040101010104020202020403030303010100
        Blobs 040000000000000001
          0101f0a2040101010402f0a20401010101010101010101010101010101010101010101010101010101010101010102
        Inline 050000000000000003
          01020303
        VolumeBlobs 0600000001000000000000000100000000
          01
        Owed 0700000001000000000000000100000000
          0101010200c0843d
        Volumes 0800000001
          0101040201000006010101010101010101010101010101010102020202020202020202020202020202020303030303030303030303030303030303040404040404040404040404040404040405050505050505050505050505050505050606060606060606060606060606060606f0a20400
        VolumeCounts 0900000001
          0100030000000600000000000001
        OpenVolumes 0a00000001
          01
        Nodes 0b00000001
          01010d31302e302e302e313a373030300d31302e302e302e313a37303031000101010101010101010101010101010101808080808020
        Disks 0c01010101010101010101010101010101
          01010101010101010101010101010101010101010100
        Deletes 0d010101010101010101010101010101010000000000000001
          0101020000
        Uploads 0e000000000000000100ff75000100000000000f42eb0000000000000000
          0101010102
        UploadTargets 0f00000000000f42eb0000000000000000
          0101020075
        Parts 1000000000000f42eb000000000000000000000007
          0101010403
        Buckets 110000000000000001
          010103626f7801c0843d0107
        BucketNames 12626f78
          0101
        AccountBuckets 130000000000000001626f78
          0101
        Accounts 140000000000000001
          010103616e6e01c0843d
        AccountNames 15616e6e
          0101
        AccessKeys 16414b4941
          0104414b49410101c0843d01cc
        AccountAccessKeys 170000000000000001414b4941
          01
        Keks 1800000001
          010101ee
        Leases 190000000000000001
          01010101e807
        Tokens 1a70707070707070707070707070707070
          01c0843d0301000000
        TokenTimes 1b00000000000f424070707070707070707070707070707070
          01
        BucketCounters 1c0000000000000001
          0101016401
        AccountCounters 1d0000000000000001
          0101016401
        Doubts 1e030303030303030303030303030303030000000100000000000000010000000002
          01c0843d010100
        Doomed 1f0000000000000000
          010100000000000f42ec000000000000000000
    "#]].assert_eq(&shown(&world()));
}
