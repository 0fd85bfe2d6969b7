//! How long texts, sealed records and lists may be.

use super::{BOX, World, account, bucket, put, upload};
use crate::command::{Command, ObjectBlobs, Refusal};
use crate::ids::{AccountId, BlobId};
use crate::machine::sizes::{self, check_sizes};
use crate::machine::{NAME_LEN_MAX, PART_MAX};
use crate::shape::SEGMENT_LEN_MAX;

/// A command with something of that size in it.
type Make = fn(&World, usize) -> Command;

fn put_with(change: impl FnOnce(&mut crate::command::PutObject)) -> Command {
    let mut put = put("k", 1, ObjectBlobs::Parts);
    change(&mut put);
    Command::PutObject(Box::new(put))
}

fn create_upload(wrapped_key: usize, sealed_manifest: usize) -> Command {
    Command::CreateUpload {
        bucket: BOX,
        key: b"k".to_vec(),
        upload: upload(1),
        wrapped_key: vec![2; wrapped_key],
        sealed_manifest: vec![2; sealed_manifest],
    }
}

fn access_key(name: usize, sealed: usize) -> Command {
    Command::PutAccessKey {
        access_key: "a".repeat(name),
        account: AccountId(1),
        enabled: true,
        revision: 1,
        sealed_credential: vec![2; sealed],
    }
}

fn kek(version: usize, len: usize) -> Command {
    Command::PutKek {
        version: version as u32,
        sealed_kek: vec![1; len],
    }
}

fn part(world: &World, sealed: usize, segments: usize) -> Command {
    let len = segments as u64 * SEGMENT_LEN_MAX;
    Command::PutPart {
        bucket: BOX,
        key: b"k".to_vec(),
        upload: upload(2),
        part: 1,
        size: 1,
        written_ms: world.time_ms,
        sealed_part: vec![2; sealed],
        blob: world.blob(1, len, 1),
    }
}

fn complete(parts: usize, listing: usize) -> Command {
    let mut object = put("k", 1, ObjectBlobs::Parts);
    object.sealed_listing = vec![2; listing];
    let part = |number| (number as u32, BlobId(number as u64));
    Command::CompleteUpload {
        upload: upload(1),
        parts: (1..=parts).map(part).collect(),
        object: Box::new(object),
    }
}

/// What is bounded: what the refusal calls it, the bound, and a command with so much of it.
const BOUNDED: &[(&str, usize, Make)] = &[
    ("name", NAME_LEN_MAX, |_, len| account(&"n".repeat(len), 2)),
    ("name", NAME_LEN_MAX, |_, len| {
        bucket(50_002, &"b".repeat(len), 1)
    }),
    ("access key", NAME_LEN_MAX, |_, len| access_key(len, 1)),
    (
        "sealed credential",
        sizes::SEALED_CREDENTIAL_LEN_MAX,
        |_, len| access_key(3, len),
    ),
    (
        "sealed owner",
        sizes::SEALED_OWNER_LEN_MAX,
        |_, len| match bucket(50_003, "other", 1) {
            Command::CreateBucket {
                id, name, account, ..
            } => Command::CreateBucket {
                id,
                name,
                account,
                sealed_owner: vec![2; len],
            },
            other => panic!("{other:?}"),
        },
    ),
    (
        "version of a key-encryption key",
        sizes::KEK_VERSION_MAX as usize,
        |_, version| kek(version, 1),
    ),
    (
        "sealed key-encryption key",
        sizes::SEALED_KEK_LEN_MAX,
        |_, len| kek(1, len),
    ),
    ("wrapped key", sizes::WRAPPED_KEY_LEN_MAX, |_, len| {
        put_with(|put| put.wrapped_key = vec![2; len])
    }),
    (
        "sealed manifest",
        sizes::SEALED_MANIFEST_LEN_MAX,
        |_, len| put_with(|put| put.sealed_manifest = vec![2; len]),
    ),
    ("sealed listing", sizes::SEALED_LISTING_LEN_MAX, |_, len| {
        put_with(|put| put.sealed_listing = vec![2; len])
    }),
    ("number of segments", sizes::SEGMENTS_MAX, |world, count| {
        let blob = world.blob(1, count as u64 * SEGMENT_LEN_MAX, 1);
        put_with(|put| put.blobs = ObjectBlobs::New(blob))
    }),
    ("wrapped key", sizes::WRAPPED_KEY_LEN_MAX, |_, len| {
        create_upload(len, 1)
    }),
    (
        "sealed manifest",
        sizes::SEALED_MANIFEST_LEN_MAX,
        |_, len| create_upload(1, len),
    ),
    ("sealed part", sizes::SEALED_PART_LEN_MAX, |world, len| {
        part(world, len, 1)
    }),
    ("number of segments", sizes::SEGMENTS_MAX, |world, count| {
        part(world, 1, count)
    }),
    ("number of parts", PART_MAX as usize, |_, count| {
        complete(count, 1)
    }),
    ("sealed listing", sizes::SEALED_LISTING_LEN_MAX, |_, len| {
        complete(1, len)
    }),
];

#[test]
fn what_is_too_long_is_refused_and_the_longest_is_not() {
    for (what, max, make) in BOUNDED {
        let mut world = World::ready();
        let long = make(&world, max + 1);
        let refused = check_sizes(&long);
        match &refused {
            Err(Refusal::Malformed(why)) => {
                assert!(why.contains(&format!("the {what} ")), "{why}");
            }
            other => panic!("{what}: {other:?}"),
        }
        // Apply says the same, whatever the leader let through.
        let answer = world.try_apply(long);
        assert_eq!(answer.err(), refused.err(), "{what}");
        assert_eq!(check_sizes(&make(&world, *max)), Ok(()), "{what}");
    }
}

#[test]
fn what_is_as_long_as_it_may_be_is_applied() {
    for (what, max, make) in BOUNDED {
        let mut world = World::ready();
        world.done(create_upload(1, 1));
        let Command::CreateUpload { bucket, key, .. } = create_upload(1, 1) else {
            panic!("an upload")
        };
        world.done(Command::CreateUpload {
            bucket,
            key,
            upload: upload(2),
            wrapped_key: vec![1],
            sealed_manifest: vec![1],
        });
        let mut longest = make(&world, *max);
        match &mut longest {
            Command::PutObject(put) if put.blobs == ObjectBlobs::Parts => {
                put.blobs = ObjectBlobs::New(world.blob(1, 4, 1));
            }
            Command::CreateUpload { upload: id, .. } => *id = upload(3),
            // Its parts are not there.
            Command::CompleteUpload { .. } => {
                let answer = world.try_apply(longest);
                assert_eq!(answer, Err(Refusal::NoSuchPart(1)), "{what}");
                continue;
            }
            _ => {}
        }
        world.done(longest);
        world.audited();
    }
}
