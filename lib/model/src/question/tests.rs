//! All questions: how they travel, and that each accepts its own kind of reply and no other.

use super::*;
use crate::answer::answer;
use crate::codec;
use crate::machine::tests::{BOX, World};
use expect_test::{Expect, expect};
use std::fmt::Write;

/// A question by example.
struct Example {
    query: Query,
    /// Returns true if the question accepts the reply.
    takes: fn(Reply) -> bool,
}

fn example<Q: Question>(question: Q) -> Example {
    Example {
        query: question.into(),
        takes: |reply| Q::from_reply(reply).is_some(),
    }
}

/// One of each, as it is asked.
pub(crate) fn queries() -> Vec<Query> {
    examples()
        .into_iter()
        .map(|example| example.query)
        .collect()
}

/// One of each, in the order of [`Query`].
fn examples() -> Vec<Example> {
    let mut all = of_objects();
    all.extend(of_owners_and_disks());
    all
}

fn of_objects() -> Vec<Example> {
    let (bucket, upload, max) = (BOX, UploadId([3; 16]), 9);
    let (account, key) = (AccountId(7), b"k".to_vec());
    let (prefix, delimiter) = (b"p".to_vec(), b"/".to_vec());
    vec![
        example(Bucket {
            name: "photos".into(),
        }),
        example(Buckets {
            account,
            after: "a".into(),
            max: 300,
        }),
        example(Object {
            bucket,
            key: key.clone(),
            version: Some(VersionId([2; 16])),
            with_blobs: true,
        }),
        example(Blobs {
            blobs: vec![BlobId(1), BlobId(300)],
        }),
        example(List {
            bucket,
            prefix: prefix.clone(),
            delimiter: delimiter.clone(),
            after: b"x".to_vec(),
            max,
        }),
        example(Upload {
            bucket,
            key: key.clone(),
            upload,
        }),
        example(Uploads {
            bucket,
            prefix,
            delimiter,
            after: Some(UploadPlace { key, upload }),
            max,
        }),
        example(Parts {
            upload,
            after: 5,
            max,
        }),
    ]
}

fn of_owners_and_disks() -> Vec<Example> {
    let (account, disk, max) = (AccountId(7), DiskId([4; 16]), 9);
    let bucket = BOX;
    vec![
        example(AccessKey {
            access_key: "MGL".into(),
        }),
        example(Accounts {
            after: "a".into(),
            max,
        }),
        example(AccessKeys {
            account: Some(account),
            after: "a".into(),
            max,
        }),
        example(Keks),
        example(Volumes {
            volumes: vec![VolumeId(1), VolumeId(200)],
        }),
        example(Counters { bucket }),
        example(Deletes {
            disk,
            max,
            after: 0,
            urgent: false,
        }),
        example(Data),
        example(DiskVolumes { disk }),
        example(Held {
            volume: VolumeId(1),
            after: Some((BlobId(1), 2)),
            max,
        }),
        example(Doubts {
            after: Some((
                disk,
                ShardId {
                    volume: VolumeId(1),
                    blob: BlobId(2),
                    segment: 3,
                    slot: 4,
                },
            )),
            max,
        }),
        example(OwedShards {
            disk,
            after: Some((VolumeId(1), BlobId(2), 3)),
        }),
        example(Settings),
        example(Witnesses {
            disk,
            shards: vec![ShardId {
                volume: VolumeId(1),
                blob: BlobId(2),
                segment: 3,
                slot: 4,
            }],
        }),
        example(DenyList),
        example(Rotation),
        example(ToReseal),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn check(expected: &Expect, lines: impl Iterator<Item = String>) {
    let text: String = lines.map(|line| line + "\n").collect();
    expected.assert_eq(&text);
}

#[test]
fn questions_travel_byte_for_byte_as_they_always_did() {
    let lines = examples()
        .into_iter()
        .map(|example| hex(&codec::encode(&example.query)));
    check(
        &expect![[r#"
            01000670686f746f73
            0101070161ac02
            0102d18603016b010202020202020202020202020202020201
            01030201ac02
            0104d186030170012f017809
            0105d18603016b03030303030303030303030303030303
            0106d186030170012f01016b0303030303030303030303030303030309
            0107030303030303030303030303030303030509
            0108034d474c
            0109016109
            010a0107016109
            010b
            010c0201c801
            010dd18603
            010e04040404040404040404040404040404090000
            010f
            011004040404040404040404040404040404
            01110101010209
            011201040404040404040404040404040404040102030409
            01130404040404040404040404040404040401010203
            0114
            0115040404040404040404040404040404040101020304
            0116
            0117
            0118
        "#]],
        lines,
    );
}

#[test]
fn replies_keep_their_numbers() {
    let world = World::ready();
    let number = |example: Example| {
        let reply = answer(&world.rows, &example.query, None).expect("rows in memory");
        let name = format!("{reply:?}");
        let end = name.find(['(', ' ']).unwrap_or(name.len());
        format!("{:02x} {}", codec::encode(&reply)[1], &name[..end])
    };
    check(
        &expect![[r#"
            00 Bucket
            01 Buckets
            02 Object
            03 Blobs
            04 Listing
            05 Upload
            06 Uploads
            07 Parts
            08 AccessKey
            09 Accounts
            0a AccessKeys
            0b Keks
            0c Volumes
            0d Counters
            0e Deletes
            0f Data
            0c Volumes
            10 Held
            11 Doubts
            12 OwedShards
            13 Settings
            14 Witnesses
            15 DenyList
            16 Rotation
            17 ToReseal
        "#]],
        examples().into_iter().map(number),
    );
}

#[test]
fn a_page_of_parts_travels_as_it_always_did() {
    let part = PartPage {
        parts: vec![(
            7,
            rows::PartRow {
                size: 1,
                blob: BlobId(3),
                sealed_part: vec![4],
            },
        )],
        truncated: true,
    };
    let bytes = codec::encode(&Reply::Parts(part));
    assert_eq!(hex(&bytes), "010701070101040301");
}

#[test]
fn every_query_has_one_question_and_takes_its_reply_and_no_other() {
    let world = World::ready();
    let examples = examples();
    // Every number up to the last one occurs once, in order.
    let numbers: Vec<u8> = examples
        .iter()
        .map(|example| codec::encode(&example.query)[1])
        .collect();
    assert!(numbers.iter().copied().eq(0..examples.len() as u8));
    let mut unknown = vec![codec::VERSION, examples.len() as u8];
    unknown.resize(64, 0);
    assert!(postcard::take_from_bytes::<Query>(&unknown[1..]).is_err());
    for (asked, question) in examples.iter().enumerate() {
        for (answered, other) in examples.iter().enumerate() {
            let reply = answer(&world.rows, &other.query, None).expect("rows in memory");
            // Two questions have the same kind of reply.
            let volumes = |index: usize| {
                matches!(
                    examples[index].query,
                    Query::Volumes(_) | Query::DiskVolumes(_)
                )
            };
            let alike = asked == answered || (volumes(asked) && volumes(answered));
            assert_eq!(
                (question.takes)(reply),
                alike,
                "{:?} takes the reply to {:?}",
                question.query,
                other.query
            );
        }
    }
}
