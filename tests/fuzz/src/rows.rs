//! What `megalith-model` decodes: keys and rows, commands and their answers, questions.
//!
//! Input: a kind, then bytes. What decodes is the same after it is encoded and decoded again; a key
//! has only one encoding; every question that decodes has an answer.

use crate::world::{self, ROWS};
use megalith_model::answer::answer;
use megalith_model::codec::{decode, encode};
use megalith_model::command::{Answer, Envelope};
use megalith_model::freeing::Freeing;
use megalith_model::ids::ClusterId;
use megalith_model::keys::{RowKey, Table};
use megalith_model::kinds::Stored;
use megalith_model::query::Query;
use megalith_model::rows::{
    AccessKeyRow, AccountRow, BlobRow, BucketRow, ChunkRow, Counters, DeleteRow, DiskRow,
    DoomedRow, DoubtRow, FiledRow, KekRow, MoveDeleteRow, OwedRow, PartRow, SpentRow, Totals,
    UploadRow, UploadTarget, VersionRow, VolumeCounts, VolumeRow,
};
use megalith_model::topology::{ClusterMap, Lease, Node};
use std::fmt::Debug;

/// Kinds other than rows; a row's kind is its table's number.
const KEY: u8 = 100;
const COMMAND: u8 = 101;
const ANSWER: u8 = 102;
const QUESTION: u8 = 103;
const MAP: u8 = 104;

pub fn target(data: &[u8]) {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    match kind {
        KEY => key(bytes),
        COMMAND => round_trip::<Envelope>(bytes),
        ANSWER => round_trip::<Answer>(bytes),
        QUESTION => question(bytes),
        MAP => round_trip::<ClusterMap>(bytes),
        number => {
            if let Some(table) = Table::from_number(number) {
                row(table, bytes);
            }
        }
    }
}

fn round_trip<T: Stored + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes) {
        assert_eq!(decode::<T>(&encode(&value)), Ok(value));
    }
}

fn key(bytes: &[u8]) {
    if let Ok(key) = RowKey::decode(bytes) {
        assert_eq!(key.encode(), bytes, "{key:?} has two spellings");
    }
}

fn question(bytes: &[u8]) {
    round_trip::<Query>(bytes);
    if let Ok(query) = decode::<Query>(bytes) {
        let reply = answer(&*ROWS, &query, Some(&Freeing::ALL)).expect("the rows are good");
        let encoded = encode(&reply);
        assert_eq!(decode(&encoded), Ok(reply), "to {query:?}");
    }
}

fn row(table: Table, bytes: &[u8]) {
    match table {
        Table::Meta => {
            round_trip::<ClusterId>(bytes);
            round_trip::<Totals>(bytes);
            round_trip::<megalith_model::settings::Settings>(bytes);
        }
        Table::Names | Table::Versions => round_trip::<VersionRow>(bytes),
        Table::Blobs => round_trip::<BlobRow>(bytes),
        Table::VolumeBlobs => round_trip::<FiledRow>(bytes),
        Table::Owed => round_trip::<OwedRow>(bytes),
        Table::Volumes => round_trip::<VolumeRow>(bytes),
        Table::VolumeCounts => round_trip::<VolumeCounts>(bytes),
        Table::Nodes => round_trip::<Node>(bytes),
        Table::Disks => round_trip::<DiskRow>(bytes),
        Table::Doubts => round_trip::<DoubtRow>(bytes),
        Table::Doomed => round_trip::<DoomedRow>(bytes),
        Table::Deletes => round_trip::<DeleteRow>(bytes),
        Table::Uploads => round_trip::<UploadRow>(bytes),
        Table::UploadTargets => round_trip::<UploadTarget>(bytes),
        Table::Parts => round_trip::<PartRow>(bytes),
        Table::Buckets => round_trip::<BucketRow>(bytes),
        Table::Accounts => round_trip::<AccountRow>(bytes),
        Table::AccessKeys => round_trip::<AccessKeyRow>(bytes),
        Table::Keks => round_trip::<KekRow>(bytes),
        Table::Leases => round_trip::<Lease>(bytes),
        Table::Spent => round_trip::<SpentRow>(bytes),
        Table::Chunks => round_trip::<ChunkRow>(bytes),
        Table::MoveDeletes => round_trip::<MoveDeleteRow>(bytes),
        Table::BucketCounters | Table::AccountCounters => round_trip::<Counters>(bytes),
        Table::BucketNames
        | Table::AccountBuckets
        | Table::AccountNames
        | Table::VersionSequences => {
            round_trip::<u64>(bytes);
        }
        Table::OpenVolumes | Table::AccountAccessKeys => {}
    }
}

fn questions() -> Vec<(&'static str, Query)> {
    let mut questions = questions_of_a_bucket();
    questions.extend(questions_of_the_cluster());
    questions
}

fn questions_of_a_bucket() -> Vec<(&'static str, Query)> {
    use megalith_model::ids::BlobId;
    use megalith_model::question;
    let object = question::Object {
        bucket: world::BOX,
        key: b"coded".to_vec(),
        version: None,
        with_blobs: true,
    };
    let blobs = question::Blobs {
        blobs: vec![BlobId(1), BlobId(3)],
    };
    let list = question::List {
        bucket: world::BOX,
        prefix: b"c".to_vec(),
        delimiter: b"o".to_vec(),
        after: Vec::new(),
        max: 2,
    };
    let uploads = question::Uploads {
        bucket: world::BOX,
        prefix: Vec::new(),
        delimiter: b"/".to_vec(),
        after: None,
        max: 9,
    };
    let parts = question::Parts {
        upload: world::UPLOAD,
        after: 0,
        max: 9,
    };
    vec![
        ("object", object.into()),
        ("blobs", blobs.into()),
        ("list", list.into()),
        ("uploads", uploads.into()),
        ("parts", parts.into()),
    ]
}

fn questions_of_the_cluster() -> Vec<(&'static str, Query)> {
    use megalith_model::ids::{AccountId, DiskId, VolumeId};
    use megalith_model::question;
    let buckets = question::Buckets {
        account: AccountId(1),
        after: String::new(),
        max: 9,
    };
    let held = question::Held {
        volume: VolumeId(1),
        after: None,
        max: 9,
    };
    let deletes = question::Deletes {
        disk: DiskId([1; 16]),
        max: 9,
        after: 0,
        urgent: true,
    };
    vec![
        ("buckets", buckets.into()),
        ("held", held.into()),
        ("deletes", deletes.into()),
        ("data", question::Data.into()),
        ("settings", question::Settings.into()),
        ("deny-list", question::DenyList.into()),
    ]
}

/// The first inputs: a row and a key of each table, and every kind of question.
#[must_use]
pub fn seeds() -> crate::Seeds {
    let input = |kind: u8, bytes: &[u8]| {
        let mut input = vec![kind];
        input.extend_from_slice(bytes);
        input
    };
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    let mut tables = std::collections::BTreeSet::new();
    for (key, value) in ROWS.iter() {
        if tables.insert(key[0]) {
            seeds.push((format!("row-of-table-{:02}", key[0]), input(key[0], value)));
            seeds.push((format!("key-of-table-{:02}", key[0]), input(KEY, key)));
        }
    }
    for (name, command) in world::more_commands() {
        let envelope = encode(&world::envelope(4, command));
        seeds.push((format!("command-{name}"), input(COMMAND, &envelope)));
    }
    for (name, query) in questions() {
        seeds.push((format!("question-{name}"), input(QUESTION, &encode(&query))));
    }
    let refused: Answer = Err(megalith_model::command::Refusal::NoSuchPart(3));
    seeds.push((
        "answer-refused".to_owned(),
        input(ANSWER, &encode(&refused)),
    ));
    seeds.push((
        "map-empty".to_owned(),
        input(MAP, &encode(&ClusterMap::default())),
    ));
    seeds.push(("newer-version".to_owned(), vec![2, 2, 0, 0]));
    seeds
}
