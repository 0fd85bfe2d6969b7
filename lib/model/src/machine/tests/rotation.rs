//! The rotation of key-encryption keys. Records here are sealed in form only: a version and a salt.

use super::{World, account, put, put_command, upload};
use crate::answer::tests::ask;
use crate::command::{Command, Condition, ObjectBlobs, PutObject, Refusal};
use crate::ids::{AccountId, BucketId};
use crate::keys::{self, Meta, RowKey, Table};
use crate::level::Level;
use crate::machine::page;
use crate::question;
use crate::rotation::{Resealed, Rotation, SealedRow};
use crate::rows::KekRow;
use crate::sealed::kek_version;
use proptest::prelude::*;

const BUCKET: BucketId = BucketId(50_002);
const GRACE_MS: u64 = 60_000;

/// A record that `version` seals. Those with the salt 0xcc don't open.
fn sealed(version: u32, salt: u8) -> Vec<u8> {
    let mut record = vec![salt; 90];
    record[0] = 1;
    record[1..5].copy_from_slice(&version.to_be_bytes());
    record
}

fn again(record: &[u8], to: u32) -> Vec<u8> {
    let mut record = record.to_vec();
    record[1..5].copy_from_slice(&to.to_be_bytes());
    record[5] ^= 1;
    record
}

fn object(key: &str, number: u64, version: u32, salt: u8) -> Command {
    let blobs = ObjectBlobs::Parts;
    put_command(PutObject {
        bucket: BUCKET,
        wrapped_key: sealed(version, salt),
        sealed_listing: sealed(version, salt ^ 1),
        ..put(key, number, blobs)
    })
}

fn access_key(name: &str, revision: u64, version: u32, salt: u8) -> Command {
    Command::PutAccessKey {
        access_key: name.into(),
        account: AccountId(1),
        enabled: true,
        revision,
        sealed_credential: sealed(version, salt),
    }
}

fn rotate(version: u32) -> Command {
    Command::RotateKek {
        version,
        sealed_kek: vec![version as u8; 8],
        grace_ms: GRACE_MS,
    }
}

/// A gateway's next step: everything that opens sealed again.
fn next_step(world: &World) -> Option<Command> {
    let page = ask(&world.rows, question::ToReseal);
    let to = page.rotation?.to;
    let rows = page.rows.iter().map(|(row_key, row)| Resealed {
        row_key: row_key.clone(),
        was: row.digest(),
        records: if row.records().iter().any(|record| record[6] == 0xcc) {
            Vec::new()
        } else {
            let records = row.records().into_iter();
            records.map(|record| again(record, to)).collect()
        },
    });
    let rows = rows.collect();
    Some(Command::Reseal { to, rows })
}

fn rotation(world: &World) -> Rotation {
    world.row(&RowKey::Meta(Meta::Rotation)).expect("begun")
}

fn versions(world: &World) -> Vec<u32> {
    let rows = page::<KekRow>(&world.rows, &keys::table(Table::Keks), usize::MAX);
    let rows = rows.expect("in memory");
    rows.iter().map(|(_, row)| row.version).collect()
}

/// A world with one key-encryption key, at the level of rotations, whose records are all sealed.
fn ready() -> World {
    let mut world = World::new();
    for id in 1..=6 {
        world.register(super::node(id));
    }
    world.done(Command::RaiseLevel { level: Level(2) });
    world.done(account("ann", 1));
    world.lease();
    world.volume(4, 2);
    world.done(Command::PutKek {
        version: 1,
        sealed_kek: vec![1],
    });
    world.done(Command::CreateBucket {
        id: BUCKET,
        name: "box".into(),
        account: AccountId(1),
        sealed_owner: sealed(1, 3),
    });
    world
}

/// Fills in the blob of an object's command.
fn with_blob(world: &World, command: Command, number: u64) -> Command {
    let Command::PutObject(mut put) = command else {
        panic!("an object");
    };
    put.blobs = ObjectBlobs::New(world.blob(number, 10, 1));
    Command::PutObject(put)
}

fn put_sealed(world: &mut World, key: &str, number: u64, version: u32, salt: u8) {
    let command = with_blob(world, object(key, number, version, salt), number);
    world.done(command);
}

fn create_upload(number: u64, version: u32) -> Command {
    Command::CreateUpload {
        bucket: BUCKET,
        key: format!("u{number}").into_bytes(),
        upload: upload(number),
        wrapped_key: sealed(version, 5),
        sealed_manifest: vec![2],
    }
}

#[test]
fn everything_is_sealed_again_and_the_older_key_goes_after_its_grace() {
    let mut world = ready();
    for number in 1..=600 {
        put_sealed(&mut world, &format!("k{number}"), number, 1, 9);
    }
    world.done(create_upload(1, 1));
    world.done(access_key("AKIA", 1, 1, 4));
    world.done(rotate(2));
    world.done(rotate(2));
    assert_eq!(rotation(&world).left, 602);
    let refused = world.try_apply(Command::DropKeks { before: 2 });
    assert!(
        matches!(refused, Err(Refusal::Rotating { to: 2, .. })),
        "{refused:?}"
    );
    let mut steps = 0;
    while let Some(step) = next_step(&world) {
        world.done(step);
        world.audited();
        steps += 1;
        assert!(steps < 10, "three hundred rows a step");
    }
    let done = rotation(&world);
    assert_eq!((done.left, done.closed, done.resealed), (0, 0, 603));
    assert!(done.passed_all && done.clear_since_ms.is_some());
    let refused = world.try_apply(Command::DropKeks { before: 2 });
    assert!(
        matches!(refused, Err(Refusal::Rotating { to: 2, .. })),
        "{refused:?}"
    );
    assert_eq!(versions(&world), [1, 2]);
    world.time_ms += GRACE_MS;
    world.done(Command::DropKeks { before: 2 });
    world.done(Command::DropKeks { before: 2 });
    assert_eq!(versions(&world), [2]);
    world.audited();
    // A late copy of the first command, and another rotation.
    let late = world.try_apply(Command::PutKek {
        version: 1,
        sealed_kek: vec![1],
    });
    assert_eq!(late, Err(Refusal::KekReplaced { newest: 2 }));
    let refused = world.try_apply(rotate(4));
    assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
    world.done(rotate(3));
    assert_eq!(rotation(&world).left, 602);
}

#[test]
fn what_an_older_key_sealed_is_refused_from_the_beginning_on() {
    let mut world = ready();
    world.done(create_upload(9, 1));
    world.done(rotate(2));
    let replaced = Err(Refusal::KekReplaced { newest: 2 });
    let old = with_blob(&world, object("a", 1, 1, 9), 1);
    assert_eq!(world.try_apply(old), replaced);
    let Command::PutObject(mut half) = with_blob(&world, object("a", 1, 2, 9), 1) else {
        panic!("an object");
    };
    half.sealed_listing = sealed(1, 9);
    assert_eq!(world.try_apply(Command::PutObject(half)), replaced);
    assert_eq!(world.try_apply(create_upload(1, 1)), replaced);
    assert_eq!(world.try_apply(access_key("AKIA", 1, 1, 9)), replaced);
    let bucket = Command::CreateBucket {
        id: BucketId(50_003),
        name: "other".into(),
        account: AccountId(1),
        sealed_owner: sealed(1, 9),
    };
    assert_eq!(world.try_apply(bucket), replaced);
    let Command::PutObject(object) = object("u9", 1, 1, 9) else {
        panic!("an object");
    };
    let complete = Command::CompleteUpload {
        upload: upload(9),
        parts: vec![],
        object,
    };
    assert_eq!(world.try_apply(complete), replaced);
    world.audited();
}

/// As after a restore from a backup that is older than the key.
#[test]
fn what_a_key_sealed_that_is_not_there_is_refused() {
    let mut world = ready();
    for version in [2, 7] {
        let absent = with_blob(&world, object("a", 1, version, 9), 1);
        let refused = world.try_apply(absent);
        assert_eq!(refused, Err(Refusal::KekReplaced { newest: 1 }));
        let refused = world.try_apply(access_key("AKIA", 1, version, 9));
        assert_eq!(refused, Err(Refusal::KekReplaced { newest: 1 }));
    }
    world.audited();
}

/// A gateway that has outlived a restore has ids of leases that are closed, and perhaps keys that
/// are gone.
#[test]
fn a_step_needs_an_id_of_a_lease_that_is_open() {
    let mut world = ready();
    put_sealed(&mut world, "a", 1, 1, 9);
    world.done(rotate(2));
    let step = next_step(&world).expect("a step");
    let keyed = world.envelope(step);
    let mut unkeyed = keyed.clone();
    let lease = unkeyed.key.take().expect("has one").id.lease();
    let (answer, _) = world.apply(unkeyed);
    assert!(matches!(answer, Err(Refusal::Malformed(_))), "{answer:?}");
    let gateway = super::GATEWAY;
    world.done(Command::CloseLease { gateway, lease });
    let (answer, _) = world.apply(keyed);
    assert!(
        matches!(answer, Err(Refusal::LeaseClosed { .. })),
        "{answer:?}"
    );
    assert_eq!(rotation(&world).resealed, 0);
    world.audited();
}

#[test]
fn of_two_keys_of_one_version_the_first_is_taken() {
    let mut world = ready();
    world.done(rotate(2));
    let other = Command::RotateKek {
        version: 2,
        sealed_kek: vec![7],
        grace_ms: GRACE_MS,
    };
    assert_eq!(world.try_apply(other), Err(Refusal::NameTaken));
    let kept: KekRow = world.row(&RowKey::Kek(2)).expect("made");
    assert_eq!(kept.sealed_kek, [2; 8]);
}

/// A row that doesn't open keeps the older key; once it is gone, nothing does.
#[test]
fn a_closed_row_keeps_the_older_key_until_it_goes() {
    let mut world = ready();
    put_sealed(&mut world, "a", 1, 1, 0xcc);
    put_sealed(&mut world, "b", 2, 1, 9);
    world.done(access_key("AKIA", 1, 1, 0xcc));
    world.done(rotate(2));
    while let Some(step) = next_step(&world) {
        world.done(step);
        world.audited();
    }
    let at = rotation(&world);
    assert_eq!((at.left, at.closed, at.resealed), (2, 2, 2));
    world.time_ms += 10 * GRACE_MS;
    assert!(world.try_apply(Command::DropKeks { before: 2 }).is_err());
    world.done(Command::DeleteObject {
        bucket: BUCKET,
        key: b"a".to_vec(),
        condition: Condition::None,
    });
    world.audited();
    assert!(world.try_apply(Command::DropKeks { before: 2 }).is_err());
    world.done(access_key("AKIA", 2, 2, 7));
    world.audited();
    assert!(world.try_apply(Command::DropKeks { before: 2 }).is_err());
    world.time_ms += GRACE_MS;
    world.done(Command::DropKeks { before: 2 });
    assert_eq!(versions(&world), [2]);
    world.audited();
}

/// A step that would change more than it may.
#[test]
fn a_step_seals_the_same_records_again_or_nothing() {
    let mut world = ready();
    put_sealed(&mut world, "a", 1, 1, 9);
    world.done(rotate(2));
    let Some(Command::Reseal { to, rows }) = next_step(&world) else {
        panic!("a step");
    };
    let spoil: [fn(&mut Resealed); 5] = [
        |row| row.records.truncate(1),
        |row| row.records[0].push(0),
        |row| row.records[1] = sealed(1, 9),
        |row| row.records[1] = sealed(3, 9),
        |row| row.was[0] ^= 1,
    ];
    for spoil in spoil {
        let mut rows = rows.clone();
        spoil(&mut rows[0]);
        world
            .try_apply(Command::Reseal { to, rows })
            .expect_err("refused");
    }
    for to in [1, 3] {
        let rows = rows.clone();
        assert_eq!(
            world.try_apply(Command::Reseal { to, rows }),
            Err(Refusal::Changed)
        );
    }
    let none = world.try_apply(Command::Reseal {
        to,
        rows: Vec::new(),
    });
    assert_eq!(none, Err(Refusal::Changed));
    world.done(Command::Reseal { to, rows });
}

#[derive(Clone, Debug)]
enum Op {
    /// An object under the newest key, or under the one before it.
    Put(u8, bool, bool),
    Delete(u8),
    CreateUpload,
    Abort(u8),
    AccessKey(u8, bool, bool),
    Rotate,
    /// A gateway looks at the next rows.
    Look,
    /// One of the steps that were made arrives, perhaps late, perhaps again, perhaps cut short.
    Step(u8, u8),
    Drop,
}

fn op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    let b = any::<bool>;
    prop_oneof![
        6 => (n(), b(), prop::bool::weighted(0.1)).prop_map(|(k, old, bad)| Op::Put(k, old, bad)),
        2 => n().prop_map(Op::Delete),
        1 => Just(Op::CreateUpload),
        1 => n().prop_map(Op::Abort),
        2 => (n(), b(), prop::bool::weighted(0.1)).prop_map(|(k, old, bad)| Op::AccessKey(k, old, bad)),
        1 => Just(Op::Rotate),
        4 => Just(Op::Look),
        5 => (n(), n()).prop_map(|(step, cut)| Op::Step(step, cut)),
        2 => Just(Op::Drop),
    ]
}

struct Run {
    world: World,
    steps: Vec<Command>,
    uploads: Vec<u64>,
    revisions: [u64; 4],
    number: u64,
}

impl Run {
    /// The version that a gateway seals under: the newest, or the one before it.
    fn version(&self, old: bool) -> u32 {
        let newest = *versions(&self.world).last().expect("at least one");
        if old && newest > 1 {
            newest - 1
        } else {
            newest
        }
    }

    /// Applies what is sealed under `version`; what an older one sealed is refused.
    fn apply(&mut self, command: Command, version: u32) -> bool {
        let newest = self.version(false);
        let answer = self.world.try_apply(command);
        if version < newest {
            assert_eq!(answer, Err(Refusal::KekReplaced { newest }));
        }
        answer.is_ok()
    }

    /// Lets a step arrive, whole or cut short.
    fn step(&mut self, n: u8, cut: u8) {
        if self.steps.is_empty() {
            return;
        }
        let n = usize::from(n) % self.steps.len();
        let Command::Reseal { to, mut rows } = self.steps[n].clone() else {
            panic!("a step");
        };
        if cut.is_multiple_of(4) {
            rows.truncate(usize::from(cut / 4));
        }
        let answer = self.world.try_apply(Command::Reseal { to, rows });
        assert!(
            matches!(answer, Ok(_) | Err(Refusal::Changed)),
            "{answer:?}"
        );
    }

    fn run(&mut self, op: &Op) {
        let salt = |bad: &bool| if *bad { 0xcc } else { 9 };
        match op {
            Op::Put(key, old, bad) => {
                self.number += 1;
                let version = self.version(*old);
                let key = format!("k{}", key % 8);
                let command = object(&key, self.number, version, salt(bad));
                let command = with_blob(&self.world, command, self.number);
                self.apply(command, version);
            }
            Op::Delete(key) => {
                self.world.done(Command::DeleteObject {
                    bucket: BUCKET,
                    key: format!("k{}", key % 8).into_bytes(),
                    condition: Condition::None,
                });
            }
            Op::CreateUpload => {
                self.number += 1;
                let version = self.version(false);
                if self.apply(create_upload(self.number, version), version) {
                    self.uploads.push(self.number);
                }
            }
            Op::Abort(n) if !self.uploads.is_empty() => {
                let number = self.uploads.remove(usize::from(*n) % self.uploads.len());
                self.world.done(Command::AbortUpload {
                    bucket: BUCKET,
                    key: format!("u{number}").into_bytes(),
                    upload: upload(number),
                });
            }
            Op::Abort(_) => {}
            Op::AccessKey(n, old, bad) => {
                let version = self.version(*old);
                let n = usize::from(*n) % self.revisions.len();
                let revision = self.revisions[n] + 1;
                let command = access_key(&format!("AK{n}"), revision, version, salt(bad));
                if self.apply(command, version) {
                    self.revisions[n] = revision;
                }
            }
            Op::Rotate => {
                let under_way = self
                    .world
                    .row::<Rotation>(&RowKey::Meta(Meta::Rotation))
                    .is_some_and(|rotation| !rotation.passed_all);
                let next = self.version(false) + 1;
                assert_eq!(self.world.try_apply(rotate(next)).is_ok(), !under_way);
            }
            Op::Look => self.steps.extend(next_step(&self.world)),
            Op::Step(n, cut) => self.step(*n, *cut),
            Op::Drop => {
                let before = self.version(false);
                let needed = named(&self.world).iter().any(|version| *version < before);
                let dropped = self.world.try_apply(Command::DropKeks { before });
                assert!(!(needed && dropped.is_ok()), "{before} {dropped:?}");
            }
        }
    }
}

/// All versions that records name.
fn named(world: &World) -> Vec<u32> {
    let rows = world.rows.iter().filter_map(|(key, value)| {
        let key = RowKey::decode(key).expect("whole");
        crate::rotation::sealed_row(&key, value).expect("readable")
    });
    let records = rows.flat_map(|row: SealedRow| {
        let versions = row
            .records()
            .into_iter()
            .map(|record| kek_version(record).expect("sealed"));
        versions.collect::<Vec<_>>()
    });
    records.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever arrives, and in whatever order: no record ever names a key that is gone, the counts
    /// are right, and at the end one key is left.
    #[test]
    fn no_key_goes_that_a_row_needs(
        ops in prop::collection::vec((op(), 0_u64..40_000), 1..120),
    ) {
        let mut run = Run {
            world: ready(),
            steps: Vec::new(),
            uploads: Vec::new(),
            revisions: [0; 4],
            number: 0,
        };
        for (op, later_ms) in &ops {
            run.world.time_ms += later_ms;
            run.run(op);
            run.world.audited();
        }
        for _ in 0..100 {
            let Some(step) = next_step(&run.world) else { break };
            run.world.done(step);
            run.world.audited();
        }
        prop_assert!(next_step(&run.world).is_none(), "it comes to an end");
        run.world.time_ms += GRACE_MS;
        let newest = run.version(false);
        let needed = named(&run.world).iter().any(|version| *version < newest);
        let dropped = run.world.try_apply(Command::DropKeks { before: newest }).is_ok();
        prop_assert_eq!(dropped, newest > 1 && !needed);
    }
}
