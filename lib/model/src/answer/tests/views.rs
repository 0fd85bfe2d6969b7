//! Objects with their blobs, the data's standing and margins, parts, owners.

use crate::answer::tests::ask;
use crate::answer::{OBJECT_BLOBS_MAX, topology};
use crate::command::{Command, ObjectBlobs};
use crate::ids::{AccountId, BlobId, Epoch, NodeId, VolumeId};
use crate::machine::tests::{
    BEGIN_MS, BOX, World, account, bucket, coded_len, disk_id, owed, put, put_command, upload,
    version,
};
use crate::margin::margins;
use crate::query::{HeldSegment, ObjectView};
use crate::question;
use crate::topology::Lease;

fn object(world: &World, key: &str) -> Option<Box<ObjectView>> {
    let asked = question::Object {
        bucket: BOX,
        key: key.into(),
        version: None,
        with_blobs: true,
    };
    ask(&world.rows, asked)
}

fn put_len(world: &mut World, key: &str, blob: u64, len: u64, owed: u32) {
    let mut new = world.blob(blob, len, 1);
    if let Some(segment) = new.segments.first_mut() {
        segment.owed = owed;
    }
    world.done(put_command(put(key, blob, ObjectBlobs::New(new))));
}

#[test]
fn an_object_comes_with_what_a_read_needs() {
    let mut world = World::ready();
    put_len(&mut world, "inline", 1, 10, 0);
    put_len(&mut world, "coded", 2, coded_len(9), 0);
    let view = object(&world, "inline").expect("there");
    assert_eq!(view.blobs[0].row.inline, [1; 10]);
    assert!(view.volumes.is_empty());
    let view = object(&world, "coded").expect("there");
    assert_eq!(
        (view.row.version, view.volumes[0].id),
        (version(2), VolumeId(1))
    );
    assert_eq!(object(&world, "none"), None);
}

#[test]
fn an_object_of_many_parts_comes_with_its_first_blobs() {
    let mut world = World::ready();
    let upload = upload(5);
    let (bucket, key) = (BOX, b"big".to_vec());
    world.done(Command::CreateUpload {
        bucket,
        key: key.clone(),
        upload,
        wrapped_key: vec![],
        sealed_manifest: vec![],
    });
    for part in 1..=150 {
        let blob = world.blob(part.into(), 10, 1);
        world.done(Command::PutPart {
            bucket,
            key: key.clone(),
            upload,
            part,
            size: 1,
            written_ms: BEGIN_MS,
            sealed_part: vec![],
            blob,
        });
    }
    let page = |after, max| {
        let page = ask(&world.rows, question::Parts { upload, after, max });
        let numbers: Vec<u32> = page.parts.iter().map(|(number, _)| *number).collect();
        (numbers, page.truncated)
    };
    assert_eq!(page(147, 2), (vec![148, 149], true));
    assert_eq!(page(148, 2), (vec![149, 150], false));
    world.done(Command::CompleteUpload {
        upload,
        parts: (1..=150).map(|part| (part, BlobId(part.into()))).collect(),
        object: Box::new(put("big", 9, ObjectBlobs::Parts)),
    });
    let view = object(&world, "big").expect("there");
    assert_eq!(view.blobs.len(), OBJECT_BLOBS_MAX);
    let rest = question::Blobs {
        blobs: view.row.blobs[OBJECT_BLOBS_MAX..].to_vec(),
    };
    assert_eq!(ask(&world.rows, rest).len(), 50);
}

#[test]
fn the_standing_counts_every_segment_by_margin() {
    let mut world = World::ready();
    put_len(&mut world, "inline", 1, 10, 0);
    put_len(&mut world, "full", 2, coded_len(9), 0);
    put_len(&mut world, "short", 3, coded_len(3), 0);
    put_len(&mut world, "owed", 4, coded_len(9), 0b1);
    // Copies of blob 5 on slots 5, 0 and 1; of blob 6 on 0, 1 and 2.
    put_len(&mut world, "copies", 5, 70_000, 0);
    put_len(&mut world, "rotated", 6, 70_000, 0);
    world.done(owed::mark(&[owed::shard(4, 1)], true));
    let status = ask(&world.rows, question::Data);
    assert_eq!((status.counters.objects, status.inline_blobs), (6, 1));
    assert_eq!((status.owed_segments, status.damaged_shards), (1, 1));
    let by_margin = |dead: &[u32]| -> Vec<(i32, u64)> {
        margins(&status, &|slot| !dead.contains(&slot.node.0))
            .into_iter()
            .collect()
    };
    assert_eq!(by_margin(&[]), [(0, 1), (2, 4)]);
    // Node 4 is slot 3: the short segment has no shard there, nor have the copies.
    assert_eq!(by_margin(&[4]), [(-1, 1), (1, 1), (2, 3)]);
    // Node 6 is slot 5: all but blob 6 lose one.
    assert_eq!(by_margin(&[6]), [(-1, 1), (1, 3), (2, 1)]);
    // Node 1's shard of the owed one was missing anyway.
    assert_eq!(by_margin(&[1]), [(0, 1), (1, 4)]);
}

#[test]
fn the_topology_leaves_out_what_is_closed() {
    let mut world = World::ready();
    world.volume(2, 2);
    let known = topology(&world.rows).expect("rows in memory");
    assert_eq!(known.nodes.len(), 6);
    assert_eq!(known.open_volumes.len(), 2);
    assert_eq!((known.leases.len(), known.next_volume), (1, VolumeId(3)));
    world.done(Command::CloseVolume {
        volume: VolumeId(1),
        epoch: Epoch(1),
    });
    let Lease { id, gateway, .. } = known.leases[0];
    world.done(Command::CloseLease { gateway, lease: id });
    let known = topology(&world.rows).expect("rows in memory");
    assert_eq!(known.open_volumes.len(), 1);
    assert!(known.leases.is_empty());
}

#[test]
fn owners_are_found_and_paged() {
    let mut world = World::ready();
    world.done(account("bob", 2));
    for (id, name) in (2..).zip(["c", "d", "e"]) {
        world.done(bucket(id, name, 2));
        world.done(Command::PutAccessKey {
            access_key: name.into(),
            account: AccountId(2),
            enabled: true,
            revision: 1,
            sealed_credential: vec![],
        });
    }
    let account = AccountId(2);
    let buckets = |after: &str| question::Buckets {
        account,
        after: after.into(),
        max: 2,
    };
    for (after, expected) in [("", &["c", "d"][..]), ("d", &["e"])] {
        let found = ask(&world.rows, buckets(after));
        let names: Vec<&str> = found.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, expected);
        for account in [None, Some(account)] {
            let after = after.into();
            let asked = question::AccessKeys {
                account,
                after,
                max: 2,
            };
            let found = ask(&world.rows, asked);
            let names: Vec<&str> = found.iter().map(|row| row.access_key.as_str()).collect();
            assert_eq!(names, expected);
        }
    }
    let asked = question::Accounts {
        after: "ann".into(),
        max: 9,
    };
    assert_eq!(ask(&world.rows, asked).len(), 1);
    let asked = question::AccessKey {
        access_key: "d".into(),
    };
    let (key, owner) = ask(&world.rows, asked).expect("a key");
    assert_eq!((key.account, owner.name.as_str()), (account, "bob"));
    let asked = question::Deletes {
        disk: disk_id(1),
        max: 9,
        after: 0,
        urgent: false,
    };
    assert!(ask(&world.rows, asked).is_empty());
    assert_eq!(world.volume_row(1).slots[0].node, NodeId(1));
}

#[test]
fn disk_learns_what_its_volumes_should_hold() {
    let mut world = World::ready();
    for blob in 1..=5 {
        let owed = if blob == 2 { 0b10 } else { 0 };
        put_len(&mut world, &format!("k{blob}"), blob, coded_len(9), owed);
    }
    put_len(&mut world, "inline", 6, 10, 0);
    world.done(owed::mark(&[owed::shard(4, 5)], true));
    for (disk, there) in [(1, true), (6, true), (77, false)] {
        let disk = disk_id(disk);
        let volumes = ask(&world.rows, question::DiskVolumes { disk });
        assert_eq!(!volumes.is_empty(), there);
    }
    let mut found: Vec<HeldSegment> = Vec::new();
    loop {
        let after = found.last().map(|last| (last.blob, last.segment));
        let volume = VolumeId(1);
        let max = 2;
        let page = ask(&world.rows, question::Held { volume, after, max });
        let end = page.len() < 2;
        found.extend(page);
        if end {
            break;
        }
    }
    let seen: Vec<_> = found.iter().map(|held| (held.blob.0, held.slots)).collect();
    let whole = 0b11_1111;
    let expected = [
        (1, whole),
        (2, whole & !0b10),
        (3, whole),
        (4, whole & !0b10_0000),
        (5, whole),
    ];
    assert_eq!(seen, expected);
}
