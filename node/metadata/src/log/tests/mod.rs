//! What a log refuses, and what it takes.

mod model;

use super::dir::file_name;
use super::*;
use crate::testing::{Rng, log_identity};
use megalith_disk::sim::{SimFault, SimFs, SimOp, SimRule};
use megalith_model::ids::NodeId;
use std::path::{Path, PathBuf};

pub(super) const DIR: &str = "/log";

pub(super) fn settings() -> LogSettings {
    LogSettings {
        file_bytes: 2048,
        cache_bytes: 700,
        preallocate_bytes: 512,
    }
}

pub(super) fn entry(index: u64, term: u64, len: usize) -> LogEntry {
    let data: Vec<u8> = (0..len)
        .map(|byte| (index as usize * 31 + byte) as u8)
        .collect();
    LogEntry {
        kind: EntryKind::Normal,
        term,
        index,
        data: data.into(),
        context: Bytes::from_static(b"c"),
    }
}

pub(super) fn fresh() -> SimFs {
    let fs = SimFs::new(1 << 26);
    fs.create_dir(Path::new(DIR)).expect("create");
    fs.sync_dir(Path::new("/")).expect("sync");
    let conf = Conf::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
    MetaLog::init(Arc::new(fs.clone()), Path::new(DIR), log_identity(1), conf).expect("init");
    fs
}

pub(super) fn open(fs: &SimFs) -> Result<MetaLog, LogError> {
    MetaLog::open(
        Arc::new(fs.clone()),
        Path::new(DIR),
        log_identity(1),
        settings(),
    )
}

/// Every entry, hard state, members and what is behind.
pub(super) fn contents(log: &MetaLog) -> (Vec<LogEntry>, HardState, Conf, Mark) {
    let end = log.last_index() + 1;
    let entries = if log.first_index() < end {
        log.entries(log.first_index(), end, u64::MAX).expect("read")
    } else {
        Vec::new()
    };
    (entries, log.hard_state(), log.conf().clone(), log.prev())
}

fn append(log: &mut MetaLog, from: u64, count: u64, term: u64) {
    let entries = (from..from + count)
        .map(|index| entry(index, term, 60))
        .collect();
    let hard = Some(HardState {
        term,
        vote: 1,
        commit: from - 1,
    });
    log.append(Append {
        entries,
        hard,
        ..Append::default()
    })
    .expect("append");
}

#[test]
fn a_reopened_log_holds_what_was_appended_and_the_newest_wins() {
    let fs = fresh();
    let mut log = open(&fs).expect("open");
    append(&mut log, 1, 40, 1);
    append(&mut log, 41, 5, 1);
    append(&mut log, 44, 2, 2);
    let expected = contents(&log);
    assert_eq!(expected.0.len(), 45);
    assert_eq!(
        (log.term(43), log.term(44), log.term(46)),
        (Some(1), Some(2), None)
    );
    assert_eq!(
        log.entries(3, 40, 1).expect("read").len(),
        1,
        "one at least"
    );
    drop(log);
    fs.crash(7);
    assert_eq!(contents(&open(&fs).expect("reopen")), expected);
}

#[test]
fn what_a_reopened_log_keeps_in_memory_does_not_keep_its_files_there() {
    let fs = fresh();
    let mut log = open(&fs).expect("open");
    append(&mut log, 1, 40, 1);
    drop(log);
    let log = open(&fs).expect("reopen");
    assert!(log.cache.entries.len() > 1 && log.cache.bytes <= settings().cache_bytes);
    for entry in &log.cache.entries {
        assert!(entry.data.is_unique() && entry.context.is_unique());
    }
}

#[test]
fn purging_takes_whole_files_and_keeps_what_follows() {
    let fs = fresh();
    let mut log = open(&fs).expect("open");
    for round in 0..20 {
        append(&mut log, round * 10 + 1, 10, 1);
    }
    let files = log.files.len();
    assert!(log.purge(100, 0).expect("purge") > 0);
    assert!(
        log.files.len() < files && log.first_index() <= 101,
        "{}",
        log.first_index()
    );
    assert!(
        log.first_index() > 50,
        "purge did little: {}",
        log.first_index()
    );
    let expected = contents(&log);
    drop(log);
    fs.crash(1);
    assert_eq!(contents(&open(&fs).expect("reopen")), expected);
}

#[test]
fn a_snapshot_replaces_the_log() {
    let fs = fresh();
    let mut log = open(&fs).expect("open");
    append(&mut log, 1, 30, 1);
    let mark = Mark {
        index: 500,
        term: 4,
    };
    let conf = Conf {
        index: 480,
        ..Conf::of_voters([NodeId(1), NodeId(9)])
    };
    let hard = HardState {
        term: 4,
        vote: 0,
        commit: 500,
    };
    log.append(Append {
        reset: Some(mark),
        hard: Some(hard),
        conf: Some(conf.clone()),
        entries: Vec::new(),
    })
    .expect("reset");
    assert_eq!(
        (log.first_index(), log.last_index(), log.term(500)),
        (501, 500, Some(4))
    );
    append(&mut log, 501, 3, 4);
    let expected = contents(&log);
    assert_eq!(expected.2, conf);
    drop(log);
    fs.crash(3);
    assert_eq!(contents(&open(&fs).expect("reopen")), expected);
}

#[test]
fn a_member_without_its_log_is_refused() {
    let fs = SimFs::new(1 << 20);
    fs.create_dir(Path::new(DIR)).expect("create");
    assert!(matches!(open(&fs), Err(LogError::Missing { .. })));
    let fs = fresh();
    let again = MetaLog::init(
        Arc::new(fs.clone()),
        Path::new(DIR),
        log_identity(1),
        Conf::of_voters([NodeId(1)]),
    );
    assert!(matches!(again, Err(LogError::Exists { .. })));
}

#[test]
fn another_members_log_is_refused() {
    let fs = fresh();
    let foreign = MetaLog::open(
        Arc::new(fs),
        Path::new(DIR),
        log_identity(2),
        LogSettings::default(),
    );
    assert!(matches!(foreign, Err(LogError::Foreign { .. })));
}

#[test]
fn after_a_failed_sync_nothing_is_appended_any_more() {
    let fs = fresh();
    let mut log = open(&fs).expect("open");
    append(&mut log, 1, 3, 1);
    fs.inject(SimRule::once(SimOp::Sync, "", SimFault::Io));
    let next = Append {
        entries: vec![entry(4, 1, 10)],
        ..Append::default()
    };
    assert!(matches!(log.append(next.clone()), Err(LogError::Io { .. })));
    assert!(matches!(log.append(next), Err(LogError::Failed)));
    assert!(matches!(log.purge(3, 0), Err(LogError::Failed)));
}

/// Flips each byte of each file in turn: the log is refused, or it is what it was. Without the note
/// of how far it went it may lack the very last append, which can't be told from a torn one. It is
/// never anything else.
#[test]
fn a_flipped_byte_is_never_taken_for_a_log() {
    for noted in [true, false] {
        let fs = fresh();
        let mut log = open(&fs).expect("open");
        append(&mut log, 1, 12, 1);
        append(&mut log, 13, 2, 1);
        append(&mut log, 12, 3, 2);
        let without_last = contents(&log);
        append(&mut log, 15, 2, 2);
        let whole = contents(&log);
        let mut files: Vec<PathBuf> = log
            .files
            .iter()
            .map(|log_file| log.dir.file(log_file.sequence))
            .collect();
        drop(log);
        let note = Path::new(DIR).join(reached::FILE);
        if noted {
            files.push(note.clone());
        } else {
            fs.remove(&note).expect("remove");
        }
        let (mut refused, mut torn) = (0, 0);
        for path in files {
            let len = fs.open(&path).expect("open").len().expect("len");
            for offset in 0..len {
                fs.flip(&path, offset, 0x10).expect("flip");
                match open(&fs) {
                    Err(LogError::Damaged { .. }) if path != note => refused += 1,
                    Err(error) => panic!("flip at {}:{offset}: {error}", path.display()),
                    Ok(log) => {
                        let found = contents(&log);
                        let lacks_last = found == without_last;
                        torn += u32::from(lacks_last);
                        assert!(
                            found == whole || (lacks_last && !noted),
                            "flip at {}:{offset}: {found:?}",
                            path.display()
                        );
                    }
                }
                fs.flip(&path, offset, 0x10).expect("flip back");
            }
        }
        assert!(refused > 1000, "{refused} refused");
        assert!(noted || (torn > 0 && torn < 400), "{torn} torn");
        assert_eq!(contents(&open(&fs).expect("open")), whole);
    }
}

/// A power cut takes the note of the newest append back, and leaves that of the newest log file and
/// of its space.
#[test]
fn a_newest_file_that_was_cut_emptied_or_deleted_is_damage_also_after_a_power_cut() {
    for (seed, harm) in (0..).zip(["cut", "emptied", "deleted"].repeat(20)) {
        let fs = fresh();
        let mut log = open(&fs).expect("open");
        for round in 0..(1 + seed % 7) {
            append(&mut log, round * 10 + 1, 10, 1);
        }
        let newest = log.dir.file(log.files.back().expect("one").sequence);
        let whole = contents(&log);
        drop(log);
        fs.crash(seed);
        assert_eq!(contents(&open(&fs).expect("nothing is wrong")), whole);
        let file = fs.open(&newest).expect("open");
        match harm {
            "cut" => file
                .set_len(file.len().expect("len") - 1 - seed)
                .expect("cut"),
            "emptied" => file.set_len(0).expect("cut"),
            _deleted => fs.remove(&newest).expect("remove"),
        }
        let error = open(&fs).err().expect("its end is lost");
        assert!(matches!(error, LogError::Damaged { .. }), "{harm}: {error}");
    }
}

#[test]
fn a_lost_file_in_the_middle_is_damage() {
    let fs = fresh();
    let mut log = open(&fs).expect("open");
    for round in 0..20 {
        append(&mut log, round * 10 + 1, 10, 1);
    }
    let middle = log.dir.file(log.files[2].sequence);
    drop(log);
    fs.remove(&middle).expect("remove");
    assert!(matches!(open(&fs), Err(LogError::Damaged { .. })));
}

#[test]
fn random_bytes_are_no_log() {
    let mut rng = Rng::new(11);
    for _ in 0..200 {
        let fs = fresh();
        let path = Path::new(DIR).join(file_name(1));
        let file = fs.open(&path).expect("open");
        let junk: Vec<u8> = (0..rng.below(300)).map(|_| rng.next() as u8).collect();
        let offset = rng.below(200);
        file.write_at(&[std::io::IoSlice::new(&junk)], offset)
            .expect("write");
        drop(file);
        if let Ok(log) = open(&fs) {
            assert_eq!((log.last_index(), log.conf().voters.len()), (0, 3));
        }
    }
}

#[test]
fn a_log_that_begins_at_the_last_index_of_all_is_refused_and_not_counted_beyond() {
    let fs = fresh();
    let prev = Mark {
        index: u64::MAX,
        term: 1,
    };
    let start = format::Record::Start { prev, reset: true };
    let mut bytes = format::encode_header(&log_identity(1), 1).to_vec();
    format::encode_record(&mut bytes, 1, true, &start);
    let file = fs.open(&Path::new(DIR).join(file_name(1))).expect("open");
    file.write_at(&[std::io::IoSlice::new(&bytes)], 0)
        .expect("write");
    assert!(matches!(open(&fs), Err(LogError::Damaged { .. })));
}

#[test]
fn a_record_whose_padding_was_cut_off_ends_with_its_file() {
    let prev = Mark { index: 0, term: 0 };
    let start = format::Record::Start { prev, reset: true };
    let mut bytes = format::encode_header(&log_identity(1), 1).to_vec();
    format::encode_record(&mut bytes, 1, false, &start);
    format::encode_record(&mut bytes, 1, true, &format::Record::Entry(entry(1, 1, 60)));
    assert_eq!(bytes.pop(), Some(0), "padding");
    let len = bytes.len();
    let scanned = scan::scan(&bytes.into()).expect("its payload is whole");
    let last = scanned.records.last().expect("an entry");
    assert_eq!(last.offset + last.span, len);
}

/// The three steps of an append, with the power cut between them.
#[test]
fn what_is_planned_is_not_seen_before_it_is_settled() {
    for cut_after in 0..3 {
        let fs = fresh();
        let mut log = open(&fs).expect("open");
        append(&mut log, 1, 10, 1);
        let before = contents(&log);
        // It takes the place of entries, so that a new file begins.
        let next = Append {
            entries: vec![entry(8, 2, 30), entry(9, 2, 30)],
            ..Append::default()
        };
        let planned = log.plan(next).expect("plan").expect("entries");
        assert_eq!(contents(&log), before);
        let written = (cut_after > 0).then(|| planned.write());
        assert_eq!(contents(&log), before);
        if cut_after > 1 {
            log.settle(written.expect("written")).expect("durable");
            assert_eq!((log.last_index(), log.term(8)), (9, Some(2)));
        }
        drop(log);
        fs.crash(cut_after);
        let log = open(&fs).expect("reopen");
        if cut_after == 0 {
            assert_eq!(contents(&log), before);
        } else {
            assert_eq!((log.last_index(), log.term(8)), (9, Some(2)));
        }
    }
}

#[test]
#[should_panic(expected = "one append or purge at a time")]
fn nothing_is_planned_while_something_is_on_its_way() {
    let mut log = open(&fresh()).expect("open");
    let one = |index| Append {
        entries: vec![entry(index, 1, 30)],
        ..Append::default()
    };
    let _on_its_way = log.plan(one(1)).expect("plan");
    let _second = log.plan(one(1));
}
