//! The engine that another one replaces.

mod batches;
mod kept;

use super::*;
use crate::engine::{MemEngines, staged_name};
use crate::log::Conf;
use megalith_model::codec;
use megalith_model::ids::NodeId;
use megalith_model::keys::{Meta, RowKey};
use megalith_model::table::{Batch, MemRows};
use std::sync::mpsc;

fn applier(engines: &MemEngines) -> Applier {
    let name = engine_name(Mark::default());
    let engine = engines.open(&name).expect("open");
    let conf = Conf::of_voters([NodeId(1)]);
    Applier {
        tables: Arc::new(Tables::new(name, engine, true, conf)),
        engines: Arc::new(engines.clone()),
        settings: ApplySettings::default(),
        tasks: mpsc::channel().1,
        queued: Arc::default(),
        report: Arc::new(|_| {}),
        topology_changes: watch::channel(0).0,
        clock: GroupClock::new(Arc::new(|| 1)),
        levels: crate::levels::Levels::default(),
        since: Since::default(),
        kept: Kept::default(),
        retired: Vec::new(),
    }
}

/// A fetched snapshot with one row.
fn staged(engines: &MemEngines, base: Mark) -> String {
    staged_with(engines, base, (vec![9], vec![9]))
}

fn staged_with(engines: &MemEngines, base: Mark, (key, value): (Vec<u8>, Vec<u8>)) -> String {
    let name = staged_name(base);
    let nothing = MemRows::default();
    let mut overlay = Overlay::new(&nothing);
    overlay.put(key, value);
    let batch: Batch = overlay.into_batch();
    let engine = engines.open(&name).expect("open");
    engine.write(&batch, base).expect("write");
    name
}

#[test]
fn the_level_of_a_snapshot_is_known_before_the_next_entry() {
    let engines = MemEngines::default();
    let mut applier = applier(&engines);
    assert_eq!(applier.levels.told(), 0);
    let level = RowKey::Meta(Meta::Level).encode();
    let mark = Mark { index: 5, term: 1 };
    let row = (level, codec::encode(&Level(3)));
    let name = staged_with(&engines, mark, row);
    applier.switch(&name, mark).expect("switched");
    assert_eq!(applier.levels.told(), 3);
}

#[test]
fn an_engine_goes_when_its_last_reader_is_gone() {
    let engines = MemEngines::default();
    let mut applier = applier(&engines);
    let mark = |index| Mark { index, term: 1 };
    let names = || engines.names().expect("names");
    let first = engine_name(Mark::default());
    let reader = applier.tables.snapshot().expect("rows");
    let name = staged(&engines, mark(5));
    applier.switch(&name, mark(5)).expect("switched");
    assert!(names().contains(&first) && names().contains(&engine_name(mark(5))));
    assert!(!applier.tables.is_current(&reader));
    assert_eq!(reader.view().get(&[9]).expect("get"), None);
    let again = applier.tables.read(|rows| rows.applied());
    assert_eq!(again, Some(mark(5)));
    drop(reader);
    applier.checkpoint_when_due(0, 0).expect("wiped");
    assert_eq!(names(), [engine_name(mark(5))]);
    // Nobody reads the second one.
    let name = staged(&engines, mark(8));
    applier.switch(&name, mark(8)).expect("switched");
    assert_eq!(names(), [engine_name(mark(8))]);
    // One of the same place takes its name as well.
    let name = staged(&engines, mark(8));
    applier.switch(&name, mark(8)).expect("switched");
    applier.checkpoint_when_due(0, 0).expect("kept");
    assert_eq!(names(), [engine_name(mark(8))]);
}
