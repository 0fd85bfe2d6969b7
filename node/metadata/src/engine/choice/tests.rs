//! Which engine is opened after which crash.

use super::*;
use crate::engine::MemEngines;
use crate::log::{Append, Conf, EntryKind, HardState, LogEntry, LogSettings, MetaLog};
use crate::testing::log_identity;
use megalith_disk::FileSystem;
use megalith_disk::sim::SimFs;
use megalith_model::ids::NodeId;
use megalith_model::table::Batch;
use std::path::Path;

/// A log of entries `first..=last`, all of term 1.
fn log(first: u64, last: u64) -> MetaLog {
    let fs: Arc<dyn FileSystem> = Arc::new(SimFs::new(1 << 26));
    let dir = Path::new("/log");
    fs.create_dir(dir).expect("create");
    let conf = Conf::of_voters([NodeId(1)]);
    MetaLog::init(fs.clone(), dir, log_identity(1), conf).expect("init");
    let mut log = MetaLog::open(fs, dir, log_identity(1), LogSettings::default()).expect("open");
    let reset = (first > 1).then_some(Mark {
        index: first - 1,
        term: 1,
    });
    let entry = |index| LogEntry {
        kind: EntryKind::Normal,
        term: 1,
        index,
        data: bytes::Bytes::new(),
        context: bytes::Bytes::new(),
    };
    log.append(Append {
        reset,
        hard: Some(HardState {
            term: 1,
            vote: 0,
            commit: first - 1,
        }),
        conf: None,
        entries: (first..=last).map(entry).collect(),
    })
    .expect("append");
    log
}

fn engine_at(engines: &MemEngines, name: &str, index: u64, term: u64) {
    let engine = engines.open(name).expect("open");
    engine
        .write(&Batch::default(), Mark { index, term })
        .expect("write");
}

fn at(index: u64) -> Mark {
    Mark { index, term: 1 }
}

#[test]
fn a_new_member_begins_with_an_empty_engine() {
    let engines = MemEngines::default();
    let choice = choose(&engines, &log(1, 5), false).expect("choose");
    assert!(!choice.needs_snapshot);
    assert_eq!(choice.engine.applied(), Mark::default());
    assert_eq!(choice.name, engine_name(Mark::default()));
}

#[test]
fn an_engine_behind_the_log_is_wiped_and_asked_for() {
    let engines = MemEngines::default();
    engine_at(&engines, &engine_name(Mark::default()), 3, 1);
    let choice = choose(&engines, &log(10, 20), false).expect("choose");
    assert!(choice.needs_snapshot);
    assert_eq!(choice.engine.applied(), Mark::default());
}

#[test]
fn an_engine_within_the_log_is_taken() {
    let engines = MemEngines::default();
    for applied in [9, 15, 20] {
        engine_at(&engines, &engine_name(Mark::default()), applied, 1);
        let choice = choose(&engines, &log(10, 20), false).expect("choose");
        assert!(!choice.needs_snapshot, "{applied}");
        assert_eq!(choice.engine.applied(), at(applied));
    }
}

#[test]
fn an_engine_ahead_of_the_log_shows_that_the_log_lost_entries() {
    let engines = MemEngines::default();
    engine_at(&engines, &engine_name(Mark::default()), 21, 1);
    let refused = choose(&engines, &log(10, 20), false);
    assert!(matches!(refused, Err(ChoiceError::LogBehind { .. })));
}

#[test]
fn a_staged_snapshot_counts_once_its_mark_is_in_the_log() {
    let engines = MemEngines::default();
    engine_at(&engines, &engine_name(Mark::default()), 3, 1);
    engine_at(&engines, &staged_name(at(9)), 9, 1);
    engine_at(&engines, &partial_name(2), 0, 0);
    let choice = choose(&engines, &log(10, 12), false).expect("choose");
    assert_eq!(
        (choice.name.as_str(), choice.engine.applied()),
        (&*engine_name(at(9)), at(9))
    );
    assert_eq!(engines.names().expect("names"), [engine_name(at(9))]);

    let engines = MemEngines::default();
    engine_at(&engines, &engine_name(Mark::default()), 3, 1);
    engine_at(&engines, &staged_name(at(90)), 90, 1);
    let choice = choose(&engines, &log(1, 12), false).expect("choose");
    assert_eq!(choice.engine.applied(), at(3));
    assert_eq!(
        engines.names().expect("names"),
        [engine_name(Mark::default())]
    );
}

#[test]
fn the_only_members_engine_is_never_wiped_without_need() {
    let engines = MemEngines::default();
    let name = engine_name(Mark::default());
    engine_at(&engines, &name, 3, 1);
    let refused = choose(&engines, &log(10, 20), true);
    assert!(matches!(refused, Err(ChoiceError::Alone { .. })));
    assert_eq!(engines.names().expect("names"), vec![name.clone()]);
    assert_eq!(engines.open(&name).expect("open").applied(), at(3));
    // The log reaches back to the first entry: the rows can be made again.
    engine_at(&engines, &name, 3, 9);
    let choice = choose(&engines, &log(1, 20), true).expect("choose");
    assert_eq!(choice.engine.applied(), Mark::default());
}
