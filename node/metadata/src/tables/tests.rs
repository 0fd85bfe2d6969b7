//! Readers beside the writer, over each engine.

use super::*;
use crate::engine::{DiskEngines, EngineKind, EngineSettings, Engines, MemEngines};
use megalith_model::ids::NodeId;
use megalith_model::table::{MemRows, Overlay};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A write that waits for a reader would wait for this long.
const PATIENCE: Duration = Duration::from_secs(10);

fn batch(rows: &[(&[u8], u64)]) -> Batch {
    let nothing = MemRows::default();
    let mut overlay = Overlay::new(&nothing);
    for (key, value) in rows {
        overlay.put(key.to_vec(), value.to_le_bytes().to_vec());
    }
    overlay.into_batch()
}

fn number(rows: &dyn EngineView, key: &[u8]) -> u64 {
    let value = rows.get(key).expect("get").expect("there");
    u64::from_le_bytes(value.try_into().expect("8 bytes"))
}

fn tables(engines: &dyn Engines) -> Tables {
    let engine = engines.open("engine-0").expect("open");
    let conf = Conf::of_voters([NodeId(1)]);
    Tables::new("engine-0".into(), engine, true, conf)
}

fn mark(index: u64) -> Mark {
    Mark { index, term: 1 }
}

fn on_disk(dir: &std::path::Path, kind: EngineKind) -> DiskEngines {
    let settings = EngineSettings {
        kind,
        cache_bytes: 8 << 20,
        ..EngineSettings::default()
    };
    DiskEngines::new(dir, settings)
}

const TOTAL: u64 = 1_000_000;
const KEYS: u64 = 200;

fn key(number: u64) -> Vec<u8> {
    vec![1, u8::try_from(number % KEYS).expect("small")]
}

/// Every command moves a sum from one row to another and notes its index in a third: whoever reads
/// sees all of a command or nothing, and no less than what it waited for.
fn readers_see_one_point(engines: &dyn Engines, time: Duration) {
    let tables = tables(engines);
    let mut rows: Vec<u64> = vec![TOTAL / KEYS; usize::try_from(KEYS).expect("small")];
    let all: Vec<_> = (0..KEYS).map(|row| (key(row), TOTAL / KEYS)).collect();
    let mut first: Vec<(&[u8], u64)> = all.iter().map(|(key, sum)| (&key[..], *sum)).collect();
    first.push((&[2], 1));
    tables.write(&batch(&first), mark(1)).expect("write");
    let (end, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    let waited = tables.applied().borrow().index;
                    let seen = tables.read(|rows| {
                        let index = number(rows, &[2]);
                        let mut sum = 0;
                        let visit = &mut |_: &[u8], value: &[u8]| {
                            sum += u64::from_le_bytes(value.try_into().expect("8 bytes"));
                            true
                        };
                        rows.scan(&[1], &[2], visit).expect("scan");
                        (index, rows.applied().index, sum, number(rows, &[2]))
                    });
                    let (index, applied, sum, again) = seen.expect("whole");
                    assert_eq!((sum, index, again), (TOTAL, applied, applied));
                    assert!(index >= waited, "{index} < {waited}");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begun = Instant::now();
        for index in 2.. {
            if begun.elapsed() > time && reads.load(Ordering::Relaxed) > 50 {
                break;
            }
            let (from, to) = (index * 7 % KEYS, index * 13 % KEYS + 1);
            let to = if to % KEYS == from { to + 1 } else { to } % KEYS;
            let (one, two) = (from as usize, to as usize);
            let sum = rows[one] / 2;
            rows[one] -= sum;
            rows[two] += sum;
            let changes = [
                (&key(from)[..], rows[one]),
                (&key(to)[..], rows[two]),
                (&[2], index),
            ];
            tables.write(&batch(&changes), mark(index)).expect("write");
        }
        end.store(true, Ordering::Relaxed);
    });
}

#[test]
fn readers_see_one_point_of_the_log() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let time = Duration::from_millis(700);
    readers_see_one_point(&MemEngines::default(), time);
    readers_see_one_point(&MemEngines::without_snapshots(), time);
    readers_see_one_point(&on_disk(&dir.path().join("f"), EngineKind::Fjall), time);
    readers_see_one_point(&on_disk(&dir.path().join("s"), EngineKind::Sled), time);
}

/// A scan is held open at its first row while writes go on, and another engine takes the place.
fn a_reader_stops_no_write(engines: &dyn Engines) {
    let tables = tables(engines);
    tables
        .write(&batch(&[(&[1], 1), (&[2], 1)]), mark(1))
        .expect("write");
    let (reading, is_reading) = mpsc::channel();
    let (written, is_written) = mpsc::channel();
    thread::scope(|scope| {
        let (read, done) = (&tables, &tables);
        scope.spawn(move || {
            let mut values = Vec::new();
            let rows = read.read(|rows| {
                let visit = &mut |_: &[u8], value: &[u8]| {
                    if values.is_empty() {
                        reading.send(()).expect("the test waits");
                        let waited = is_written.recv_timeout(PATIENCE);
                        assert!(waited.is_ok(), "writes wait for a reader");
                    }
                    values.push(value[0]);
                    true
                };
                rows.scan(&[1], &[9], visit).expect("scan");
                rows.applied()
            });
            assert_eq!(rows.expect("whole"), mark(1));
            assert_eq!(values, [1, 1]);
        });
        is_reading.recv().expect("it reads");
        for index in 2..50 {
            let rows: [(&[u8], u64); 3] = [(&[1], index), (&[2], index), (&[3], index)];
            done.write(&batch(&rows), mark(index)).expect("write");
        }
        let newest = done.read(|rows| (number(rows, &[3]), rows.applied()));
        assert_eq!(newest, Some((49, mark(49))));
        let other = engines.open("engine-1").expect("open");
        let (old, _engine) = done.replace("engine-1".into(), other);
        assert_eq!(old, "engine-0");
        written.send(()).expect("it reads");
    });
}

#[test]
fn a_reader_stops_no_write_and_no_switch() {
    let dir = tempfile::tempdir().expect("temporary directory");
    a_reader_stops_no_write(&MemEngines::default());
    a_reader_stops_no_write(&on_disk(dir.path(), EngineKind::Fjall));
}
