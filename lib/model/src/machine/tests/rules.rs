//! One test for each rule that a random sequence might not show clearly.

use super::{
    BEGIN_MS, BOX, GATEWAY, World, account, bucket, coded_len, disk_id, put, put_command, upload,
    version,
};
use crate::audit::audit;
use crate::command::{Command, Condition, NewBlob, ObjectBlobs, Outcome, Refusal};
use crate::ids::{
    AccountId, BlobId, BucketId, Epoch, GatewayId, LeaseId, NodeId, UploadId, VersionId, VolumeId,
};
use crate::keys::{Meta, RowKey, Table};
use crate::level::Level;
use crate::machine::{SEALED_TIME_APART_MAX_MS, clock};
use crate::profile::Profile;
use crate::rows::{BlobRow, Counters, DeleteRow, Totals, VersionRow};
use crate::sealed::mark;
use crate::table::{MemRows, Overlay, Rows, RowsError};
use crate::topology::Domain;
use std::collections::BTreeSet;

/// Makes a good blob a bad one.
type Spoil = fn(&mut NewBlob);

fn put_blob(world: &mut World, key: &str, number: u64, blob: NewBlob) -> super::Answer {
    world.try_apply(put_command(put(key, number, ObjectBlobs::New(blob))))
}

fn refusal(answer: super::Answer) -> String {
    answer.expect_err("refused").to_string()
}

#[test]
fn replacing_an_object_queues_its_shards_on_every_slot() {
    let mut world = World::ready();
    let mut blob = world.blob(1, coded_len(3), 1);
    blob.segments[0].owed = 0b10_0000;
    put_blob(&mut world, "a", 1, blob).expect("put");
    let inline = world.blob(2, 10, 1);
    put_blob(&mut world, "a", 2, inline).expect("put");
    world.audited();
    let queued: Vec<u32> = (1..=6)
        .filter(|node| {
            let disk = disk_id(*node);
            let row: Option<DeleteRow> = world.row(&RowKey::Delete { disk, sequence: 1 });
            let row = row.map(|row| row.shard);
            row.is_some_and(|row| row.blob == BlobId(1) && u32::from(row.slot) + 1 == *node)
        })
        .collect();
    // Three cells leave the fourth data slot without a shard; the owed shard is deleted too.
    assert_eq!(queued, [1, 2, 3, 5, 6]);
    let totals: Totals = world.row(&RowKey::Meta(Meta::Totals)).expect("there");
    assert_eq!((totals.deletes_pending, totals.inline_blobs), (5, 1));
    let disk = disk_id(1);
    let done = |node| Command::AckDeletes {
        node: NodeId(node),
        disk,
        through: 9,
    };
    let refusal = Refusal::Malformed(format!("disk {disk} is not served by {}", NodeId(2)));
    assert_eq!(world.try_apply(done(2)), Err(refusal));
    world.done(done(1));
    world.done(done(1));
    world.audited();
    let totals: Totals = world.row(&RowKey::Meta(Meta::Totals)).expect("there");
    assert_eq!(totals.deletes_pending, 4);
}

#[test]
fn a_closed_lease_names_no_new_blob() {
    let mut world = World::ready();
    let close = |gateway| Command::CloseLease {
        gateway,
        lease: LeaseId(0),
    };
    assert!(refusal(world.try_apply(close(GatewayId(2)))).contains("not a lease of"));
    world.done(close(GATEWAY));
    world.done(close(GATEWAY));
    let blob = world.blob(1, 10, 1);
    assert_eq!(
        put_blob(&mut world, "a", 1, blob),
        Err(Refusal::LeaseClosed { blob: BlobId(1) })
    );
    assert_eq!(world.lease().id, LeaseId(1));
    let beyond = world.blob(2 * LeaseId::BLOBS, 10, 1);
    assert!(refusal(put_blob(&mut world, "a", 1, beyond)).contains("lease"));
    let inside = world.blob(2 * LeaseId::BLOBS - 1, 10, 1);
    put_blob(&mut world, "a", 1, inside).expect("its last id");
    world.audited();
}

#[test]
fn a_lease_is_opened_once_for_a_request() {
    let mut world = World::ready();
    let open = |gateway, request| Command::OpenLease {
        gateway: GatewayId(gateway),
        request,
    };
    let first = world.done(open(3, 9));
    assert_eq!(world.done(open(3, 9)), first);
    let others = [world.done(open(3, 8)), world.done(open(4, 9))];
    assert!(!others.contains(&first) && others[0] != others[1]);
}

#[test]
fn a_closed_volume_takes_only_what_was_written_before_it_closed() {
    let mut world = World::ready();
    let before = world.blob(1, coded_len(9), 1);
    let mut other = world.blob(2, coded_len(9), 1);
    let (volume, epoch) = (VolumeId(1), Epoch(1));
    world.done(Command::CloseVolume { volume, epoch });
    let stale = |epoch| Refusal::StaleVolume { volume, epoch };
    assert_eq!(
        world.try_apply(Command::CloseVolume { volume, epoch }),
        Err(stale(epoch))
    );
    for late in [0, 2, 3, u32::MAX].map(Epoch) {
        other.segments[0].epoch = late;
        let refused = put_blob(&mut world, "a", 1, other.clone());
        assert_eq!(refused, Err(stale(late)));
    }
    put_blob(&mut world, "a", 1, before).expect("its slots are what they were");
    let epoch = Epoch(2);
    let Outcome::Volume(again) = world.done(Command::CloseVolume { volume, epoch }) else {
        panic!("a volume");
    };
    assert_eq!(again.epoch, epoch);
    world.audited();
}

#[test]
fn receipts_below_the_quorum_are_refused() {
    let mut world = World::ready();
    let good = world.blob(1, coded_len(9), 1);
    for (owed, accepted) in [(0b11, false), (0b100_0000, false), (0b10, true)] {
        let mut blob = good.clone();
        blob.segments[0].owed = owed;
        assert_eq!(
            put_blob(&mut world, "a", 1, blob).is_ok(),
            accepted,
            "{owed:b}"
        );
    }
    // Slot 3 holds no shard of a segment of three cells and owes none.
    let mut short = world.blob(2, coded_len(3), 1);
    short.segments[0].owed = 0b1000;
    assert!(refusal(put_blob(&mut world, "b", 2, short)).contains("holds none"));
    world.audited();
}

#[test]
fn malformed_blobs_are_refused() {
    let mut world = World::ready();
    let coded = world.blob(1, coded_len(2_000), 1);
    let copies = world.blob(1, 70_000, 1);
    let inline = world.blob(1, 10, 1);
    let spoil: [(&NewBlob, Spoil); 9] = [
        (&coded, |blob| blob.segments[0].digests.truncate(5)),
        (&coded, |blob| blob.segments.truncate(1)),
        (&coded, |blob| blob.inline.push(0)),
        (&coded, |blob| {
            blob.segments[0].len -= 1;
            blob.segments[1].len += 1;
        }),
        (&coded, |blob| {
            blob.segments[0].len += coded_len(1);
            blob.segments[1].len -= coded_len(1);
        }),
        (&copies, |blob| blob.segments[0].digests.push([0; 16])),
        (&copies, |blob| blob.segments.push(blob.segments[0].clone())),
        (&inline, |blob| blob.len += 1),
        (&inline, |blob| blob.segments.clear()),
    ];
    for (number, (good, spoil)) in spoil.into_iter().enumerate() {
        let mut blob = good.clone();
        spoil(&mut blob);
        let spoilt = blob != *good;
        let answer = put_blob(&mut world, &number.to_string(), 1, blob);
        let malformed = matches!(answer, Err(Refusal::Malformed(_)));
        assert_eq!(malformed, spoilt, "{number}: {answer:?}");
    }
}

#[test]
fn a_gateway_may_end_a_segment_early_and_go_on_elsewhere() {
    let mut world = World::ready();
    world.volume(3, 2);
    // Seven cells of 4+2 and 1,024 of 3+2: neither ends with a whole stripe.
    let mut blob = world.blob(1, coded_len(7), 1);
    let rest = world.blob(1, coded_len(1_030), 2);
    blob.segments.extend(rest.segments);
    blob.len += rest.len;
    assert_eq!(blob.segments[1].len, coded_len(1_024));
    put_blob(&mut world, "a", 1, blob).expect("put");
    world.audited();
    assert_eq!(world.volume_row(1).bytes, coded_len(7));
    assert_eq!(world.volume_row(2).bytes, coded_len(1_030));
}

#[test]
fn conditions_are_judged_against_what_is_current() {
    let mut world = World::ready();
    let attempt = |world: &mut World, number: u64, condition| {
        let blob = world.blob(number, 10, 1);
        let mut object = put("a", number, ObjectBlobs::New(blob));
        object.condition = condition;
        world.try_apply(put_command(object))
    };
    let nothing = Err(Refusal::Condition { current: None });
    assert_eq!(
        attempt(&mut world, 1, Condition::Version(version(1))),
        nothing
    );
    attempt(&mut world, 1, Condition::Absent).expect("nothing is there");
    let current = Some(version(1));
    let taken = Err(Refusal::Condition { current });
    assert_eq!(attempt(&mut world, 2, Condition::Absent), taken);
    attempt(&mut world, 3, Condition::Version(version(1))).expect("still current");
    let delete = |condition| Command::DeleteObject {
        bucket: BOX,
        key: b"a".to_vec(),
        condition,
    };
    assert!(
        world
            .try_apply(delete(Condition::Version(version(1))))
            .is_err()
    );
    world.done(delete(Condition::Version(version(3))));
    assert_eq!(world.done(delete(Condition::None)), Outcome::Done);
    world.audited();
}

#[test]
fn a_copy_shares_blobs_and_survives_its_source() {
    let mut world = World::ready();
    let blob = world.blob(1, coded_len(9), 1);
    put_blob(&mut world, "a", 1, blob).expect("put");
    let shared = |number| ObjectBlobs::Shared {
        bucket: BOX,
        key: b"a".to_vec(),
        version: version(number),
    };
    world.done(put_command(put("b", 2, shared(1))));
    // Onto itself, with other metadata.
    world.done(put_command(put("a", 3, shared(1))));
    world.audited();
    let row: BlobRow = world.row(&RowKey::Blob(BlobId(1))).expect("there");
    assert_eq!(row.references, 2);
    assert_eq!(
        world.try_apply(put_command(put("c", 4, shared(1)))),
        Err(Refusal::SourceGone)
    );
    for key in ["a", "b"] {
        assert!(world.row::<BlobRow>(&RowKey::Blob(BlobId(1))).is_some());
        world.done(Command::DeleteObject {
            bucket: BOX,
            key: key.into(),
            condition: Condition::None,
        });
    }
    assert!(world.row::<BlobRow>(&RowKey::Blob(BlobId(1))).is_none());
    world.audited();
}

fn upload_command(upload: UploadId) -> Command {
    Command::CreateUpload {
        bucket: BOX,
        key: b"big".to_vec(),
        upload,
        wrapped_key: vec![],
        sealed_manifest: vec![],
    }
}

fn part_command(world: &World, upload: UploadId, part: u32, blob: u64) -> Command {
    Command::PutPart {
        bucket: BOX,
        key: b"big".to_vec(),
        upload,
        part,
        size: 50,
        written_ms: world.time_ms,
        sealed_part: vec![],
        blob: world.blob(blob, coded_len(9), 1),
    }
}

fn complete_command(upload: UploadId, parts: &[(u32, u64)]) -> Command {
    Command::CompleteUpload {
        upload,
        parts: parts
            .iter()
            .map(|(part, blob)| (*part, BlobId(*blob)))
            .collect(),
        object: Box::new(put("big", 9, ObjectBlobs::Parts)),
    }
}

#[test]
fn completing_an_upload_moves_the_named_parts_and_drops_the_others() {
    let mut world = World::ready();
    let upload = upload(5);
    let early = part_command(&world, upload, 1, 1);
    assert_eq!(world.try_apply(early), Err(Refusal::NoSuchUpload));
    world.done(upload_command(upload));
    for (part, blob) in [(1, 1), (2, 2), (7, 3), (2, 4)] {
        let command = part_command(&world, upload, part, blob);
        world.done(command);
        world.audited();
    }
    for (parts, refused) in [
        (&[(2, 4), (1, 1)][..], "malformed"),
        (&[], "malformed"),
        (&[(1, 1), (2, 2)], "part 2"),
        (&[(1, 1), (3, 3)], "part 3"),
    ] {
        let answer = world.try_apply(complete_command(upload, parts));
        assert!(refusal(answer).contains(refused), "{parts:?}");
    }
    let complete = complete_command(upload, &[(1, 1), (2, 4)]);
    world.done(complete.clone());
    assert_eq!(world.try_apply(complete), Err(Refusal::NoSuchUpload));
    world.audited();
    let name = RowKey::Name {
        bucket: BOX,
        key: b"big"[..].into(),
    };
    let row: VersionRow = world.row(&name).expect("linked");
    assert_eq!(row.version, version(9));
    assert_eq!(row.blobs, [BlobId(1), BlobId(4)]);
    let counters: Counters = world.row(&RowKey::BucketCounters(BOX)).expect("there");
    assert_eq!((counters.objects, counters.uploads), (1, 0));
}

#[test]
fn aborting_an_upload_leaves_nothing() {
    let mut world = World::ready();
    let upload = upload(5);
    world.done(upload_command(upload));
    let command = part_command(&world, upload, 1, 1);
    world.done(command);
    let abort = Command::AbortUpload {
        bucket: BOX,
        key: b"big".to_vec(),
        upload,
    };
    world.done(abort.clone());
    assert_eq!(world.try_apply(abort), Err(Refusal::NoSuchUpload));
    world.audited();
    assert_eq!(world.volume_row(1).bytes, 0);
    world.done(Command::DeleteBucket(BOX));
    world.audited();
}

#[test]
fn volumes_need_distinct_known_places() {
    let mut world = World::ready();
    let good = world.volume_row(1);
    let mut attempts = vec![good.slots.clone(); 3];
    attempts[0].pop();
    attempts[1][0] = attempts[1][1];
    attempts[2][0].node = NodeId(2);
    for slots in attempts {
        let command = Command::CreateVolume {
            profile: good.profile,
            domain: Domain::Disk,
            slots,
            shrunk: false,
        };
        assert!(matches!(
            world.try_apply(command),
            Err(Refusal::Malformed(_))
        ));
    }
}

#[test]
fn names_belong_to_their_first_owner() {
    let mut world = World::ready();
    let bob = world.done(account("bob", 7));
    assert_eq!(world.done(account("bob", 7)), bob);
    let taken = world.try_apply(account("bob", 8));
    assert_eq!(taken, Err(Refusal::NameTaken));
    let key = |account, enabled, revision| Command::PutAccessKey {
        access_key: "AKIA".into(),
        account: AccountId(account),
        enabled,
        revision,
        sealed_credential: vec![9],
    };
    assert_eq!(
        world.try_apply(key(9, true, 1)),
        Err(Refusal::NoSuchAccount)
    );
    world.done(key(1, true, 1));
    world.done(key(1, false, 2));
    assert_eq!(world.try_apply(key(2, true, 3)), Err(Refusal::NameTaken));
    let owner = AccountId(1);
    assert_eq!(
        world.try_apply(bucket(50_002, "box", 2)),
        Err(Refusal::BucketExists { owner })
    );
    let kek = |byte| Command::PutKek {
        version: 1,
        sealed_kek: vec![byte],
    };
    world.done(kek(1));
    world.done(kek(1));
    assert_eq!(world.try_apply(kek(2)), Err(Refusal::NameTaken));
    world.audited();
}

#[test]
fn a_key_is_sealed_anew_only_over_the_seal_that_the_proposer_saw() {
    let mut world = World::ready();
    let reseal = |version, was: &[u8], sealed_kek: &[u8]| Command::ResealKek {
        version,
        was: mark(was),
        sealed_kek: sealed_kek.to_vec(),
    };
    world.done(Command::PutKek {
        version: 1,
        sealed_kek: vec![1],
    });
    let early = world.try_apply(reseal(1, &[1], &[2]));
    assert!(matches!(early, Err(Refusal::Level { .. })), "{early:?}");
    world.done(Command::RaiseLevel { level: Level(2) });
    world.done(reseal(1, &[1], &[2, 2]));
    // A late copy changes nothing, also once there is another seal.
    world.done(reseal(1, &[1], &[2, 2]));
    world.done(reseal(1, &[2, 2], &[3]));
    let refused = Err(Refusal::Changed);
    assert_eq!(world.try_apply(reseal(1, &[1], &[2, 2])), refused);
    assert_eq!(world.try_apply(reseal(2, &[1], &[2])), refused);
    world.audited();
}

/// Where a key-encryption key was and is gone, a new one would hide the loss.
#[test]
fn no_first_key_is_made_where_records_name_an_older_one() {
    let sealed = |version: u32| {
        let mut record = vec![0; 85];
        record[0] = 1;
        record[1..5].copy_from_slice(&version.to_be_bytes());
        record
    };
    let kek = || Command::PutKek {
        version: 1,
        sealed_kek: vec![1],
    };
    let access_key = |record| Command::PutAccessKey {
        access_key: "AKIA".into(),
        account: AccountId(1),
        enabled: true,
        revision: 1,
        sealed_credential: record,
    };
    let mut world = World::ready();
    world.done(access_key(sealed(1)));
    assert_eq!(world.try_apply(kek()), Err(Refusal::KeksLost));
    let mut world = World::ready();
    world.done(Command::DeleteBucket(BOX));
    world.done(Command::CreateBucket {
        id: BucketId(50_002),
        name: "box".into(),
        account: AccountId(1),
        sealed_owner: sealed(1),
    });
    assert_eq!(world.try_apply(kek()), Err(Refusal::KeksLost));
    // What has no version in it names no key.
    let mut world = World::ready();
    world.done(access_key(sealed(0)));
    world.done(kek());
    world.audited();
}

#[test]
fn a_late_copy_of_an_operators_command_undoes_nothing() {
    let mut world = World::ready();
    let key = |enabled, revision| Command::PutAccessKey {
        access_key: "AKIA".into(),
        account: AccountId(1),
        enabled,
        revision,
        sealed_credential: vec![u8::from(enabled)],
    };
    let account = |enabled, revision| Command::SetAccountEnabled {
        account: AccountId(1),
        enabled,
        revision,
    };
    for command in [key(true, 1), key(true, 1), key(false, 2), key(false, 2)] {
        world.done(command);
    }
    for late in [
        key(true, 1),
        key(true, 2),
        key(true, 4),
        key(true, u64::MAX),
    ] {
        assert_eq!(world.try_apply(late), Err(Refusal::Changed));
    }
    for command in [
        account(false, 1),
        account(false, 1),
        account(true, 2),
        account(false, 3),
    ] {
        world.done(command);
    }
    for late in [
        account(true, 2),
        account(true, 3),
        account(true, 5),
        account(true, 0),
    ] {
        assert_eq!(world.try_apply(late), Err(Refusal::Changed));
    }
    world.audited();
}

/// Notes the tables that are read.
struct Noting<'a>(&'a MemRows, std::cell::RefCell<BTreeSet<u8>>);

impl Rows for Noting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.1.borrow_mut().insert(key[0]);
        self.0.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        self.1.borrow_mut().insert(from[0]);
        self.0.scan(from, to, visit)
    }
}

#[test]
fn the_audit_reads_every_table_that_says_something_of_another() {
    let world = World::ready();
    let noting = Noting(&world.rows, Default::default());
    assert_eq!(audit(&noting).expect("readable"), Vec::<String>::new());
    let read = noting.1.into_inner();
    let unread = Table::ALL
        .iter()
        .filter(|table| !read.contains(&(**table as u8)));
    // No other row repeats what these say.
    let alone = [Table::Keks, Table::Chunks, Table::MoveDeletes];
    assert_eq!(unread.copied().collect::<Vec<_>>(), alone);
}

#[test]
fn an_access_key_that_its_account_does_not_list_is_found() {
    let mut world = World::ready();
    let (account, access_key) = (AccountId(1), "AKIA");
    world.done(Command::PutAccessKey {
        access_key: access_key.into(),
        account,
        enabled: true,
        revision: 1,
        sealed_credential: vec![9],
    });
    world.audited();
    let of = |account| RowKey::AccountAccessKey {
        account,
        access_key: access_key.as_bytes().into(),
    };
    let mut overlay = Overlay::new(&world.rows);
    overlay.delete(of(account).encode());
    overlay.put(of(AccountId(2)).encode(), crate::codec::encode(&()));
    let changed = overlay.into_batch();
    world.rows.write(changed);
    let problems = audit(&world.rows).expect("every row can be read");
    assert_eq!(problems.len(), 2, "{problems:#?}");
}

#[test]
fn time_never_runs_back() {
    let mut world = World::ready();
    world.time_ms -= 500_000;
    let Outcome::Account(row) = world.done(account("bob", 2)) else {
        panic!("an account");
    };
    assert_eq!(row.created_ms, 1_000_000);
}

#[test]
fn an_operator_sets_a_clock_back_that_was_wrong() {
    let mut world = World::ready();
    world.time_ms += 365 * 24 * 3_600_000;
    world.done(Command::Nothing);
    world.time_ms = BEGIN_MS + 7;
    world.done(Command::Nothing);
    assert!(clock(&world.rows).expect("rows in memory") > BEGIN_MS + 7);
    world.done(Command::ResetClock);
    assert_eq!(clock(&world.rows).expect("rows in memory"), BEGIN_MS + 7);
}

#[test]
fn a_sealed_time_far_from_the_groups_is_sealed_again() {
    let mut world = World::ready();
    let apart = SEALED_TIME_APART_MAX_MS;
    world.time_ms += apart;
    // As far back as allowed, and a millisecond more.
    let blob = world.blob(1, 10, 1);
    put_blob(&mut world, "k", 0, blob).expect("within the limit");
    world.time_ms += 1;
    let now_ms = world.time_ms;
    let refused = Err(Refusal::SealedTime { now_ms });
    let blob = world.blob(2, 10, 1);
    assert_eq!(put_blob(&mut world, "k", 0, blob.clone()), refused);
    let mut ahead = put("k", 0, ObjectBlobs::New(blob));
    ahead.version = VersionId::new(now_ms + apart + 1, [7; 8]);
    assert_eq!(world.try_apply(put_command(ahead.clone())), refused);
    let begin = upload_command;
    assert_eq!(world.try_apply(begin(upload(0))), refused);
    let begun = UploadId::new(now_ms, [0; 8]);
    world.done(begin(begun));
    let mut part = part_command(&world, begun, 1, 3);
    if let Command::PutPart { written_ms, .. } = &mut part {
        *written_ms = now_ms + apart + 1;
    }
    assert_eq!(world.try_apply(part), refused);
    // The same version with the right time is taken.
    ahead.version = VersionId::new(now_ms + apart, [7; 8]);
    world.done(put_command(ahead));
    world.audited();
}

#[test]
fn a_segment_of_another_profile_than_its_volume_is_found_and_not_counted() {
    for other in [Profile::new(8, 3), Profile::new(2, 1)] {
        // One in shards and one in copies, whose place in 8+3 is behind the volume's last slot.
        let mut world = World::ready();
        for (number, len) in [(1, coded_len(100)), (7, 70_000)] {
            let blob = world.blob(number, len, 1);
            put_blob(&mut world, &format!("key {number}"), number, blob).expect("put");
            let key = RowKey::Blob(BlobId(number));
            let mut row: BlobRow = world.row(&key).expect("there");
            row.segments[0].profile = other.expect("valid");
            let mut overlay = Overlay::new(&world.rows);
            overlay.put(key.encode(), crate::codec::encode(&row));
            let changed = overlay.into_batch();
            world.rows.write(changed);
        }
        let problems = audit(&world.rows).expect("every row can be read");
        let of_profiles = problems.iter().filter(|text| text.contains("profile"));
        assert_eq!(of_profiles.count(), 2, "{problems:#?}");
        let counted_nothing = |text: &String| text.contains("counted VolumeCounts { bytes: 0,");
        assert!(problems.iter().any(counted_nothing), "{problems:#?}");
    }
}
