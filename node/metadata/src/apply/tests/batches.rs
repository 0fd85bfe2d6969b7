//! What the apply thread writes at once.

use super::super::*;
use crate::engine::{FIRST_KEY, MemEngines};
use crate::log::Conf;
use bytes::Bytes;
use megalith_model::claim::{DiskProof, NodeClaim};
use megalith_model::codec;
use megalith_model::command::{
    Command, CommandKey, Condition, Envelope, NewBlob, NewSegment, ObjectBlobs, PutObject,
};
use megalith_model::ids::{
    AccountId, BlobId, BucketId, DiskId, Epoch, GatewayId, NodeId, VersionId, VolumeId,
};
use megalith_model::profile::Profile;
use megalith_model::shape::{SEGMENT_LEN_MAX, Shape};
use megalith_model::topology::{Disk, Domain, Node, Slot};
use std::sync::Mutex;
use std::sync::mpsc;

pub(super) const STAMP_MS: u64 = 1_000_000;
/// Objects that are written and then deleted. Each has many segments, so that a short command
/// changes many rows.
const OBJECTS: u64 = 400;
const SEGMENTS: u64 = 80;

fn disk(node: u32) -> DiskId {
    DiskId([node as u8; 16])
}

fn profile() -> Profile {
    Profile::new(4, 2).expect("valid")
}

fn entries(first: u64, commands: Vec<Command>) -> Vec<LogEntry> {
    entries_at(STAMP_MS, first, commands)
}

pub(super) fn entries_at(stamp_ms: u64, first: u64, commands: Vec<Command>) -> Vec<LogEntry> {
    let entry = |(index, command): (u64, Command)| {
        let id = command.brings().unwrap_or(BlobId(60_000 + index));
        let key = CommandKey {
            id,
            attempt: 1,
            gateway: GatewayId(1),
        };
        let envelope = Envelope {
            key: command.has_key().then_some(key),
            command,
        };
        let mut data = entry::unstamped(&codec::encode(&envelope));
        entry::stamp(&mut data, stamp_ms);
        LogEntry {
            term: 1,
            index,
            kind: EntryKind::Normal,
            context: Bytes::new(),
            data: data.into(),
        }
    };
    (first..).zip(commands).map(entry).collect()
}

fn put(number: u64) -> Command {
    put_of(BucketId(50_001), number, SEGMENTS)
}

/// An object of so many segments, each as long as may be.
pub(super) fn put_of(bucket: BucketId, number: u64, segments: u64) -> Command {
    let len = SEGMENT_LEN_MAX;
    let segment = |_| NewSegment {
        volume: VolumeId(1),
        epoch: Epoch(1),
        len,
        digests: vec![[7; 16]; 6],
        owed: 0,
    };
    Command::PutObject(Box::new(PutObject {
        bucket,
        key: number.to_be_bytes().to_vec(),
        version: VersionId::new(STAMP_MS, number.to_be_bytes()),
        size: 1,
        condition: Condition::None,
        wrapped_key: vec![],
        sealed_manifest: vec![],
        sealed_listing: vec![],
        blobs: ObjectBlobs::New(NewBlob {
            blob: BlobId(number),
            len: len * segments,
            shape: Shape::Coded,
            segments: (0..segments).map(segment).collect(),
            inline: Vec::new(),
            leftovers: Vec::new(),
        }),
    }))
}

fn world() -> Vec<Command> {
    let mut commands = empty_world();
    commands.extend((1..=OBJECTS).map(put));
    commands
}

/// A bucket (50,001), a lease (0) and a volume (1), without objects.
pub(super) fn empty_world() -> Vec<Command> {
    let mut commands: Vec<Command> = (1..=6)
        .map(|node| {
            let node = Node {
                id: NodeId(node),
                rpc_address: String::new(),
                data_address: String::new(),
                zone: String::new(),
                disks: vec![Disk {
                    id: disk(node),
                    capacity: 1,
                }],
            };
            Command::RegisterNode(NodeClaim::new(node, |disk| DiskProof([disk.0[0]; 32])))
        })
        .collect();
    commands.extend([
        Command::CreateAccount {
            name: "ann".into(),
            request: 1,
        },
        Command::OpenLease {
            gateway: GatewayId(1),
            request: 1,
        },
        bucket(50_001),
        volume(),
    ]);
    commands
}

pub(super) fn bucket(id: u64) -> Command {
    Command::CreateBucket {
        id: BucketId(id),
        name: format!("box-{id}"),
        account: AccountId(1),
        sealed_owner: vec![],
    }
}

pub(super) fn volume() -> Command {
    Command::CreateVolume {
        profile: profile(),
        domain: Domain::Node,
        slots: (1..=6)
            .map(|node| Slot {
                node: NodeId(node),
                disk: disk(node),
            })
            .collect(),
        shrunk: false,
    }
}

pub(super) struct Bench {
    pub(super) applier: Applier,
    /// The marks that were reported.
    written: Arc<Mutex<Vec<u64>>>,
}

impl Bench {
    fn new() -> Self {
        Self::over(Arc::new(MemEngines::default()))
    }

    pub(super) fn over(engines: Arc<dyn Engines>) -> Self {
        let engine = engines.open("tables").expect("in memory");
        let tables = Arc::new(Tables::new("tables".into(), engine, true, Conf::default()));
        let written: Arc<Mutex<Vec<u64>>> = Arc::default();
        let reports = written.clone();
        let applier = Applier {
            tables,
            engines,
            settings: ApplySettings::default(),
            tasks: mpsc::channel().1,
            queued: Arc::default(),
            report: Arc::new(move |report| {
                if let ApplyReport::Applied(mark) = report {
                    reports.lock().expect("no panic").push(mark.index);
                }
            }),
            topology_changes: watch::channel(0).0,
            clock: GroupClock::new(Arc::new(|| STAMP_MS)),
            levels: crate::levels::Levels::default(),
            since: Since::default(),
            kept: Kept::default(),
            retired: Vec::new(),
        };
        Self { applier, written }
    }

    pub(super) fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let engine = self.applier.tables.engine();
        let scanned = engine.scan(FIRST_KEY, crate::engine::END_KEY, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            true
        });
        scanned.expect("in memory");
        rows
    }
}

fn deletes() -> Vec<Command> {
    let delete = |number: u64| Command::DeleteObject {
        bucket: BucketId(50_001),
        key: number.to_be_bytes().to_vec(),
        condition: Condition::None,
    };
    (1..=OBJECTS).map(delete).collect()
}

/// Before it is told of the level, a member can only say what it can't read.
#[test]
fn a_newer_programs_entry_stops_the_member_and_changes_nothing() {
    let mut bench = Bench::new();
    let made = entries(1, world());
    bench.applier.apply(&made, Vec::new()).expect("applied");
    let before = bench.rows();
    let next = made.len() as u64 + 1;
    let newer = |change: fn(&mut Vec<u8>)| {
        let mut entries = entries(next, vec![Command::Nothing, Command::Nothing]);
        let mut data = entries[1].data.to_vec();
        change(&mut data);
        entries[1].data = data.into();
        entries
    };
    // The entry's version, the envelope's, and the command's number.
    let changes: [fn(&mut Vec<u8>); 3] = [
        |data| data[0] = 2,
        |data| data[9] = 2,
        |data| *data.last_mut().expect("bytes") = 0x70,
    ];
    for change in changes {
        let error = bench.applier.apply(&newer(change), Vec::new());
        let error = error.expect_err("not for this program");
        let said = error.to_string();
        assert!(matches!(error, ApplyError::Newer { .. }), "{said}");
        assert!(
            said.contains("level 1") && said.contains("upgrade"),
            "{said}"
        );
        assert_eq!(bench.rows(), before, "{said}");
    }
    // A damaged one is no newer one.
    let damaged = newer(|data| data.push(0));
    let error = bench.applier.apply(&damaged, Vec::new());
    assert!(matches!(error, Err(ApplyError::Entry { .. })), "{error:?}");
}

#[test]
fn entries_that_change_much_are_written_in_several_batches() {
    let made = entries(1, world());
    let deleted = entries(made.len() as u64 + 1, deletes());
    let log_bytes: usize = deleted.iter().map(LogEntry::bytes).sum();
    assert!(log_bytes < 64 << 10, "{log_bytes} bytes of log");

    let mut one = Bench::new();
    one.applier.apply(&made, Vec::new()).expect("applied");
    let before = one.written.lock().expect("no panic").len();
    let (waiters, mut answers): (Vec<_>, Vec<_>) = deleted
        .iter()
        .map(|entry| {
            let (waiter, answer) = oneshot::channel();
            ((entry.index, waiter), answer)
        })
        .unzip();
    one.applier.apply(&deleted, waiters).expect("applied");
    let written = one.written.lock().expect("no panic")[before..].to_vec();
    assert!(written.len() > 1, "{written:?}");
    assert_eq!(written.last(), deleted.last().map(|last| &last.index));
    for answer in &mut answers {
        let answer = answer.try_recv().expect("answered").expect("known");
        assert!(answer.is_ok(), "{answer:?}");
    }

    // One by one they give the same rows.
    let mut single = Bench::new();
    for entry in made.iter().chain(&deleted) {
        let entry = std::slice::from_ref(entry);
        single.applier.apply(entry, Vec::new()).expect("applied");
    }
    assert_eq!(single.rows(), one.rows());
}
