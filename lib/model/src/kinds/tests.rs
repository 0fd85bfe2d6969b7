//! Bytes of every kind, recorded in `golden.txt`: one row of each table, every command, every
//! answer, every question and every reply. What was stored once is read for ever.
//!
//! A line that changes is a change of the stored format: it needs the kind's next version, a
//! decoder for the old one, and its old line in `older.txt`. `UPDATE_EXPECT=1` writes `golden.txt`
//! again.

mod examples;

use super::*;
use crate::codec::{decode, encode, encode_at};
use crate::entry::Entry;
use crate::ids::{BlobId, GatewayId};
use crate::keys::{Meta, RowKey};
use crate::machine::tests::golden;
use crate::question::tests::queries;
use expect_test::expect_file;
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write;

type Recode = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

/// Decodes and encodes again.
fn recode<T: Stored>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    decode::<T>(bytes).map(|value| encode(&value))
}

/// A kind by its name and how it is read.
macro_rules! kind {
    ($kind:ty) => {
        (stringify!($kind), recode::<$kind> as Recode)
    };
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("digits");
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The kind of a row.
fn of_row(key: &RowKey<'_>) -> (&'static str, Recode) {
    match key {
        RowKey::Meta(item) => match item {
            Meta::Cluster => kind!(ClusterId),
            Meta::Clock => kind!(u64),
            Meta::NextVolume => kind!(VolumeId),
            Meta::NextLease => kind!(LeaseId),
            Meta::NextAccount => kind!(AccountId),
            Meta::Totals => kind!(Totals),
            Meta::Doomed => kind!(DoomedQueue),
            Meta::Level => kind!(Level),
            Meta::Restored => kind!(()),
            Meta::Settings => kind!(Settings),
            Meta::DenyList => kind!(DenyList),
            Meta::Rotation => kind!(Rotation),
        },
        RowKey::Name { .. } | RowKey::Version { .. } => kind!(VersionRow),
        RowKey::VersionSequence { .. } => kind!(u64),
        RowKey::Blob(_) => kind!(BlobRow),
        RowKey::Spent(_) => kind!(SpentRow),
        RowKey::VolumeBlob { .. } => kind!(FiledRow),
        RowKey::Chunk { .. } => kind!(ChunkRow),
        RowKey::MoveDelete { .. } => kind!(MoveDeleteRow),
        RowKey::Owed { .. } => kind!(OwedRow),
        RowKey::Volume(_) => kind!(VolumeRow),
        RowKey::VolumeCounts(_) => kind!(VolumeCounts),
        RowKey::Node(_) => kind!(Node),
        RowKey::Disk(_) => kind!(DiskRow),
        RowKey::Delete { .. } => kind!(DeleteRow),
        RowKey::Upload { .. } => kind!(UploadRow),
        RowKey::UploadTarget(_) => kind!(UploadTarget),
        RowKey::Part { .. } => kind!(PartRow),
        RowKey::Bucket(_) => kind!(BucketRow),
        RowKey::BucketName(_) | RowKey::AccountBucket { .. } => kind!(BucketId),
        RowKey::Account(_) => kind!(AccountRow),
        RowKey::AccountName(_) => kind!(AccountId),
        RowKey::AccessKey(_) => kind!(AccessKeyRow),
        RowKey::Kek(_) => kind!(KekRow),
        RowKey::Lease(_) => kind!(Lease),
        RowKey::BucketCounters(_) | RowKey::AccountCounters(_) => kind!(Counters),
        RowKey::Doubt { .. } => kind!(DoubtRow),
        RowKey::Doomed(_) => kind!(DoomedRow),
        RowKey::OpenVolume(_) | RowKey::AccountAccessKey { .. } => kind!(()),
    }
}

/// A record: what it is, how it is read, its bytes.
type Record = (String, (&'static str, Recode), Vec<u8>);

fn record<T: Stored + std::fmt::Debug>(kind: (&'static str, Recode), value: &T) -> Record {
    let name = format!("{value:?}");
    // Of a result what is in it.
    let name = name.trim_start_matches("Ok(").trim_start_matches("Err(");
    let end = name.find([' ', '(', ')']).unwrap_or(name.len());
    (name[..end].to_owned(), kind, encode(value))
}

fn records() -> Vec<Record> {
    let world = golden::world();
    let mut records = Vec::new();
    let (mut tables, mut items) = (BTreeSet::new(), BTreeSet::new());
    for (key, value) in world.rows.iter() {
        let key = RowKey::decode(key).expect("a key");
        let table = crate::keys::Table::from_number(key.encode()[0]).expect("a table");
        let mut name = format!("{table:?}");
        if let RowKey::Meta(item) = key {
            name = format!("{name}.{item:?}");
            items.insert(item);
        }
        if tables.insert(name.clone()) {
            records.push((name, of_row(&key), value.to_vec()));
        }
    }
    records.push(("Meta.Level".to_owned(), kind!(Level), encode(&Level(7))));
    let rotation = examples::rotation();
    records.push((
        "Meta.Rotation".to_owned(),
        kind!(Rotation),
        encode(&rotation),
    ));
    records.push(("Meta.Restored".to_owned(), kind!(()), encode(&())));
    for command in examples::commands() {
        let number = command.clone();
        let envelope = Envelope {
            key: Some(CommandKey {
                id: BlobId(7),
                attempt: 300,
                gateway: GatewayId(9),
            }),
            command,
        };
        let (name, ..) = record(kind!(Command), &number);
        records.push((name, kind!(Envelope), encode(&envelope)));
    }
    records.push(record(kind!(Command), &Command::Nothing));
    let answers = examples::answers();
    records.extend(answers.iter().map(|answer| record(kind!(Answer), answer)));
    for query in queries() {
        let reply = crate::answer::answer(&world.rows, &query, None).expect("rows in memory");
        records.push(record(kind!(Query), &query));
        records.push(record(kind!(Reply), &reply));
    }
    records.push(record(kind!(NodeClaim), &golden::node_claim()));
    records.push(record(kind!(ClusterMap), &examples::map()));
    records.push(record(kind!(DataStatus), &DataStatus::default()));
    records
}

/// The variants of an enum.
fn variants<'de, T: Deserialize<'de>>() -> BTreeSet<String> {
    // A name that no variant has is refused with the list of those that there are.
    let unknown = T::deserialize(StrDeserializer::<Error>::new("?"));
    let told = unknown.err().expect("no variant").to_string();
    let names = told.split('`').skip(3).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn one_of_each_is_written_as_it_was_recorded() {
    let mut text = String::new();
    for (name, (kind, _), bytes) in records() {
        let _ = writeln!(text, "{kind} {name} {}", hex(&bytes));
    }
    expect_file!["golden.txt"].assert_eq(&text);
}

/// Each recorded line: kind, name, bytes.
fn recorded(text: &str) -> Vec<(String, String, Vec<u8>)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (rest, bytes) = line.rsplit_once(' ').expect("bytes");
            let (kind, name) = rest.rsplit_once(' ').expect("a name");
            (kind.to_owned(), name.to_owned(), unhex(bytes))
        })
        .collect()
}

#[test]
fn what_was_recorded_is_read() {
    let known: Vec<_> = records().into_iter().map(|(_, kind, _)| kind).collect();
    let recode = |kind: &str| known.iter().find(|one| one.0 == kind).expect("a kind").1;
    for (kind, name, bytes) in recorded(include_str!("golden.txt")) {
        assert_eq!(recode(&kind)(&bytes), Ok(bytes), "{kind} {name}");
    }
    // Of older versions; they are written again in the present one.
    for (kind, name, bytes) in recorded(include_str!("older.txt")) {
        assert!(recode(&kind)(&bytes).is_ok(), "{kind} {name}");
    }
}

#[test]
fn no_kind_and_no_variant_is_without_recorded_bytes() {
    let recorded = recorded(include_str!("golden.txt"));
    let kinds: BTreeSet<&str> = recorded.iter().map(|(kind, ..)| kind.as_str()).collect();
    let all: BTreeSet<&str> = KINDS.iter().copied().collect();
    assert_eq!(kinds, all);
    let names = |kind: &str| -> BTreeSet<String> {
        let of = recorded.iter().filter(|(one, ..)| one == kind);
        of.map(|(_, name, _)| name.clone()).collect()
    };
    assert_eq!(names("Envelope"), variants::<Command>());
    let mut answers = variants::<crate::command::Outcome>();
    answers.extend(variants::<crate::command::Refusal>());
    assert_eq!(names("Answer"), answers);
    assert_eq!(names("Query"), variants::<Query>());
    assert_eq!(names("Reply"), variants::<Reply>());
    let last = variants::<Command>().len() - 1;
    assert_eq!(usize::try_from(Command::LAST), Ok(last));
}

#[test]
fn a_command_of_a_newer_program_is_known_as_such() {
    let mut bytes = encode(&Envelope {
        key: None,
        command: Command::Nothing,
    });
    bytes[2] = u8::try_from(Command::LAST).expect("small") + 1;
    let newer = DecodeError::Command(Command::LAST + 1);
    assert_eq!(decode::<Envelope>(&bytes), Err(newer.clone()));
    // Whatever its fields are.
    bytes.extend([1, 2, 3]);
    assert_eq!(decode::<Envelope>(&bytes), Err(newer.clone()));
    assert!(newer.is_newer() && DecodeError::Version(2).is_newer());
    // A known command that doesn't fit is no newer one.
    let mut junk = encode(&Envelope {
        key: None,
        command: Command::Nothing,
    });
    junk.push(0);
    assert_eq!(decode::<Envelope>(&junk), Err(DecodeError::Malformed));
    assert!(!DecodeError::Malformed.is_newer());
}

/// A row as a program of level 1 knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shelf {
    books: u64,
}

impl Stored for Shelf {}

/// The same row in a program that knows levels 1 and 2: version 2 has one field more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LabelledShelf {
    books: u64,
    label: String,
}

impl Stored for LabelledShelf {
    const VERSION: u8 = 2;

    fn version_at(level: Level) -> u8 {
        if level < Level(2) { 1 } else { 2 }
    }

    fn write_body(&self, version: u8, bytes: Vec<u8>) -> Vec<u8> {
        let books = self.books;
        match version {
            1 => write_body(&Shelf { books }, bytes),
            _ => write_body(self, bytes),
        }
    }

    fn decode_version(version: u8, body: &[u8]) -> Result<Self, DecodeError> {
        match version {
            1 => read_body(body).map(|Shelf { books }| Self {
                books,
                label: String::new(),
            }),
            2 => read_body(body),
            _ => Err(DecodeError::Version(version)),
        }
    }
}

#[test]
fn programs_of_two_levels_write_the_same_bytes_until_the_level_is_raised() {
    let books = 300;
    let labelled = |label: &str| LabelledShelf {
        books,
        label: label.to_owned(),
    };
    let old = encode_at(&Shelf { books }, Level(1));
    assert_eq!(old, [1, 0xac, 2]);
    assert_eq!(encode_at(&labelled(""), Level(1)), old);
    assert_eq!(decode::<LabelledShelf>(&old), Ok(labelled("")));

    let new = encode_at(&labelled("a"), Level(2));
    assert_eq!(new, [2, 0xac, 2, 1, b'a']);
    assert_eq!(decode(&new), Ok(labelled("a")));
    assert_eq!(decode::<Shelf>(&new), Err(DecodeError::Version(2)));
    assert_eq!(encode_at(&labelled("a"), Level(9)), new);
    // Whose level isn't known gets what the lowest one reads.
    assert_eq!(encode(&labelled("")), old);
}

/// A row is written in the version of the level that the rows say.
#[test]
fn the_machine_writes_rows_as_the_level_in_the_rows_says() {
    use crate::machine::{level, write_for_tests};
    use crate::table::{MemRows, Overlay, Rows as _};
    let shelf = LabelledShelf {
        books: 1,
        label: "a".to_owned(),
    };
    let key = RowKey::Kek(1);
    let mut rows = MemRows::default();
    let mut written = |now: Level| {
        let mut overlay = Overlay::new(&rows);
        assert_eq!(level(&overlay).expect("rows in memory"), now);
        write_for_tests(&mut overlay, &key, &shelf).expect("rows in memory");
        let bytes = overlay.get(&key.encode()).expect("rows in memory");
        let envelope = Envelope {
            key: None,
            command: Command::RaiseLevel { level: Level(2) },
        };
        let raised = crate::machine::apply(&mut overlay, &Entry::new(1, envelope));
        assert!(raised.expect("rows in memory").is_ok());
        let batch = overlay.into_batch();
        rows.write(batch);
        bytes.expect("written").to_vec()
    };
    assert_eq!(written(Level(1)), [1, 1]);
    assert_eq!(written(Level(2)), [2, 1, 1, b'a']);
}
