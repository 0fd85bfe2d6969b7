//! One stored row of each kind, byte by byte. A change here is a change of the stored format: it
//! needs a new version byte and a decoder for the old one.

use super::{
    BEGIN_MS, BOX, World, claim, coded_len, disk_id, node, owed, put, put_command, upload, version,
};
use crate::claim::NodeClaim;
use crate::codec;
use crate::command::{Command, NewDoubt, ObjectBlobs};
use crate::denied::{DeniedCertificate, DenyList, Serial};
use crate::ids::{AccountId, BlobId, ClusterId, Epoch, LeaseId, VolumeId};
use crate::keys::{RowKey, Table};
use crate::level::Level;
use crate::role::Role;
use crate::rows::{
    ChunkRow, LockRow, MoveDeleteRow, MoveRow, Retention, VersionRow, VolumeCounts, VolumeRow,
};
use crate::sum::ShardSum;
use crate::table::Overlay;
use expect_test::expect;
use std::collections::BTreeSet;
use std::fmt::Write;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A deny list with an entry of each form.
pub(crate) fn deny_list() -> DenyList {
    let entry = |role, id, serial| DeniedCertificate { role, id, serial };
    DenyList {
        revision: 1,
        denied: vec![
            entry(Role::Storage, 300, None),
            entry(Role::Gateway, 9, Serial::from_bytes(&[0xab; 20])),
        ],
    }
}

/// A world with a row in every table.
pub(crate) fn world() -> World {
    let mut world = World::ready();
    world.done(Command::InitCluster {
        cluster: ClusterId([0xc1; 16]),
        level: Level::FIRST,
    });
    world.done(Command::PutKek {
        version: 1,
        sealed_kek: vec![0xee],
    });
    world.done(Command::PutAccessKey {
        access_key: "AKIA".into(),
        account: AccountId(1),
        enabled: true,
        revision: 1,
        sealed_credential: vec![0xcc],
    });
    let mut copies = world.blob(1, 70_000, 1);
    copies.segments[0].owed = 0b10;
    world.done(put_command(put("k", 1, ObjectBlobs::New(copies))));
    let gone = world.blob(2, coded_len(3), 1);
    world.done(put_command(put("gone", 2, ObjectBlobs::New(gone))));
    world.done(Command::DeleteObject {
        bucket: BOX,
        key: b"gone".to_vec(),
        condition: crate::command::Condition::None,
    });
    let (bucket, key, upload) = (BOX, b"\0u".to_vec(), upload(0xab));
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
    world.done(part);
    assert!(version(1) < version(2));
    world.done(Command::RaiseDoubts(vec![NewDoubt {
        shard: owed::shard(1, 2),
        disk: disk_id(3),
        epoch: Epoch(1),
        damaged: true,
    }]));
    world.done(Command::SetSettings(crate::settings::Settings {
        revision: 1,
        ..crate::settings::Settings::default()
    }));
    world.done(Command::SetDenyList(deny_list()));
    doom(&mut world);
    world.audited();
    foresee(&mut world);
    world
}

/// Adds the rows that no command writes yet.
#[expect(clippy::too_many_lines, reason = "one row of each table")]
fn foresee(world: &mut World) {
    let (bucket, key) = (BOX, b"k"[..].into());
    let name = RowKey::Name { bucket, key };
    let mut older: VersionRow = world.row(&name).expect("there");
    older.sequence = 0x0102;
    older.lock = Some(LockRow {
        retention: Some(Retention {
            compliance: true,
            until_ms: BEGIN_MS,
        }),
        legal_hold: true,
    });
    let (version, sequence) = (older.version, older.sequence);
    let key = || b"\0k"[..].into();
    let mut volume: VolumeRow = world.row(&RowKey::Volume(VolumeId(1))).expect("there");
    volume.id = VolumeId(2);
    volume.moves.push(MoveRow {
        slot: 3,
        to: disk_id(9),
        epoch: Epoch(4),
    });
    volume.closed_before = Some(LeaseId(5));
    let chunk = ChunkRow {
        below: Epoch(7),
        since_ms: BEGIN_MS,
    };
    let delete = MoveDeleteRow {
        filed: BlobId(8),
        segment: 9,
        taken: ShardSum::of(BlobId(8), 9, 10, &[11; 16]),
    };
    let (disk, slot) = (disk_id(1), 2);
    let rows = [
        (
            RowKey::Version {
                bucket,
                key: key(),
                sequence,
            },
            codec::encode(&older),
        ),
        (
            RowKey::VersionSequence {
                bucket,
                key: key(),
                version,
            },
            codec::encode(&sequence),
        ),
        (RowKey::Volume(volume.id), codec::encode(&volume)),
        (
            RowKey::VolumeCounts(volume.id),
            codec::encode(&VolumeCounts::empty(volume.profile)),
        ),
        (
            RowKey::Chunk {
                disk,
                volume: volume.id,
                slot,
            },
            codec::encode(&chunk),
        ),
        (
            RowKey::MoveDelete {
                volume: volume.id,
                slot,
                sequence,
            },
            codec::encode(&delete),
        ),
    ];
    let mut overlay = Overlay::new(&world.rows);
    for (key, value) in rows {
        overlay.put(key.encode(), value);
    }
    let batch = overlay.into_batch();
    world.rows.write(batch);
}

/// What a node says to be registered.
pub(crate) fn node_claim() -> NodeClaim {
    claim(node(1))
}

/// Ends an upload of more parts than go at once.
fn doom(world: &mut World) {
    let (bucket, key, upload) = (BOX, b"\0v".to_vec(), upload(0xac));
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

/// The first row of each table, of meta and volumes all; each table must have one.
fn shown(world: &World) -> String {
    let mut shown = String::new();
    let (mut seen, mut tables) = (None, BTreeSet::new());
    for (key, value) in world.rows.iter() {
        let table = Table::from_number(key[0]).expect("a table");
        tables.insert(table);
        let parsed = RowKey::decode(key).expect("a key");
        assert_eq!(parsed.encode(), key, "a key of {table:?}");
        // The second volume is one whose slots move.
        if seen != Some(table) || [Table::Meta, Table::Volumes].contains(&table) {
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
        Meta 0105
          0101
        Meta 0107
          0102
        Meta 0108
          0101016401010a05
        Meta 010a
          010001
        Meta 010c
          010180808080800107
        Meta 010e
          01010200ac0200020901abababababababababababababababababababab
        Names 0202c3516b
          0100000000000f42410707070707070707016404010101010402020202040303030301010000
        Versions 0302c35100ff6b0001fffffffffffffefd
          0100000000000f424107070707070707078202640401010101040202020204030303030101010101c0843d0100
        Blobs 040101
          01d186030f5668b8d3c3d0aa8401f0a2040101010402f0a2040101010101010101010101010101010101020000
        VersionSequences 0502c35100ff6b000100000000000f42410707070707070707
          018202
        VolumeBlobs 060101010100
          0100
        Owed 070101010100
          0101010200c0843d
        Volumes 080000000000000001
          0101040201010000060101010101010101010101010101010101020202020202020202020202020202020103030303030303030303030303030303010404040404040404040404040404040401050505050505050505050505050505050106060606060606060606060606060606010000
        Volumes 080000000000000002
          010204020101010500060101010101010101010101010101010101020202020202020202020202020202020103030303030303030303030303030303010404040404040404040404040404040401050505050505050505050505050505050106060606060606060606060606060606010103090909090909090909090909090909090400
        VolumeCounts 090000000000000001
          01f0a204000300000006000000000000010600000000000000000000000000000000000000000000000000000000000000000000017de2a122335da062c51af4622eb3007b017de2a122335da062c51af4622eb3007b00000000000000000000000000000000000000000000000000000000000000000000
        OpenVolumes 0a0000000000000001
          01
        Nodes 0b00000001
          01010d31302e302e302e313a373030300d31302e302e302e313a37303031000101010101010101010101010101010101808080808020
        Disks 0c01010101010101010101010101010101
          01010101010101010101010101010101010101000101000101010101010101010101010101010101010101010101010101010101010101
        Deletes 0d010101010101010101010101010101010000000000000001
          010102000000c0843d
        Uploads 0e000000000000c35100ff75000100000000000f42eb0000000000000000
          0101010102
        UploadTargets 0f00000000000f42eb0000000000000000
          01d18603020075
        Parts 1000000000000f42eb000000000000000000000007
          0101010403
        Buckets 11000000000000c351
          01d1860303626f7801c0843d0107
        BucketNames 12626f78
          01d18603
        AccountBuckets 130000000000000001626f78
          01d18603
        Accounts 140000000000000001
          010103616e6e01c0843d0100
        AccountNames 15616e6e
          0101
        AccessKeys 16414b4941
          0104414b49410101c0843d01cc01
        AccountAccessKeys 170000000000000001414b4941
          01
        Keks 1800000001
          010101ee
        Leases 190000000000000000
          01000108
        Spent 1a0102
          011065e181dd54571c0a0000
        Chunks 1b01010101010101010101010101010101000000000000000202
          0107c0843d
        BucketCounters 1c000000000000c351
          0101016401
        AccountCounters 1d0000000000000001
          0101016401
        Doubts 1e03030303030303030303030303030303010101010002
          01c0843d010100
        Doomed 1f0000000000000000
          010100000000000f42ec000000000000000000
        MoveDeletes 200000000000000002020000000000000102
          01080901f1aed853030263902859089a6d3a4210
    "#]].assert_eq(&shown(&world()));
}
