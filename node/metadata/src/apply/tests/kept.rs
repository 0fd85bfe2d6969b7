//! What the apply thread keeps from batch to batch is what the rows say, whatever failed or was
//! replaced meanwhile.

use super::super::*;
use super::batches::{Bench, STAMP_MS, bucket, empty_world, entries_at, put_of, volume};
use crate::engine::{EngineView, MemEngines, MetaEngine, staged_name};
use crate::testing::{Rng, seeds};
use megalith_model::command::{Command, Condition};
use megalith_model::ids::{BucketId, ClusterId, Epoch, GatewayId, LeaseId, VolumeId};
use megalith_model::table::{Batch, MemRows, RowsError};
use std::sync::Mutex;

/// How the next write fails.
#[derive(Clone, Copy)]
enum Fails {
    Before,
    /// The rows are there, and nobody is told.
    After,
}

/// Engines that count gets, and whose next write may fail.
#[derive(Clone, Default)]
struct Watched {
    inner: MemEngines,
    gets: Arc<AtomicU64>,
    fails: Arc<Mutex<Option<Fails>>>,
}

struct WatchedEngine {
    inner: Arc<dyn MetaEngine>,
    by: Watched,
}

impl Engines for Watched {
    fn names(&self) -> Result<Vec<String>, EngineError> {
        self.inner.names()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn MetaEngine>, EngineError> {
        let (inner, by) = (self.inner.open(name)?, self.clone());
        Ok(Arc::new(WatchedEngine { inner, by }))
    }

    fn rename(&self, source: &str, target: &str) -> Result<(), EngineError> {
        self.inner.rename(source, target)
    }

    fn wipe(&self, name: &str) -> Result<(), EngineError> {
        self.inner.wipe(name)
    }
}

impl Rows for WatchedEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.by.gets.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        self.inner.scan(from, to, visit)
    }
}

impl EngineView for WatchedEngine {
    fn applied(&self) -> Mark {
        self.inner.applied()
    }
}

impl MetaEngine for WatchedEngine {
    fn write(&self, batch: &Batch, applied: Mark) -> Result<(), EngineError> {
        let fails = self.by.fails.lock().expect("no panic").take();
        if !matches!(fails, Some(Fails::Before)) {
            self.inner.write(batch, applied)?;
        }
        match fails {
            None => Ok(()),
            Some(_) => Err(EngineError {
                action: "write",
                name: "watched".into(),
                damaged: false,
                source: "as it was told".into(),
            }),
        }
    }

    fn snapshot(&self) -> Option<Box<dyn EngineView>> {
        self.inner.snapshot()
    }

    fn checkpoint(&self) -> Result<(), EngineError> {
        self.inner.checkpoint()
    }

    fn approximate_len(&self) -> u64 {
        self.inner.approximate_len()
    }
}

/// A member, and the rows that it must have, made without keeping anything.
struct Member {
    engines: Watched,
    bench: Bench,
    truth: MemRows,
    /// The last entry that was made.
    last: u64,
}

impl Member {
    fn new() -> Self {
        let engines = Watched::default();
        let mut bench = Bench::over(Arc::new(engines.clone()));
        bench.applier.levels = Levels::new(LevelRange {
            lowest: Level(1),
            highest: Level(3),
        });
        let mut member = Self {
            engines,
            bench,
            truth: MemRows::default(),
            last: 0,
        };
        let begun = member.entries(STAMP_MS, empty_world());
        member.apply(&begun).expect("applied");
        member.is_true(&begun);
        member
    }

    fn entries(&mut self, stamp_ms: u64, commands: Vec<Command>) -> Vec<LogEntry> {
        let entries = entries_at(stamp_ms, self.last + 1, commands);
        self.last += entries.len() as u64;
        entries
    }

    fn apply(&mut self, entries: &[LogEntry]) -> Result<(), ApplyError> {
        self.bench.applier.apply(entries, Vec::new())
    }

    /// The truth goes on by `entries`.
    fn goes_on(&mut self, entries: &[LogEntry]) {
        for entry in entries {
            let decoded = entry::decode(entry.index, &entry.data).expect("an entry");
            let mut overlay = Overlay::new(&self.truth);
            // Refused or not: the member does the same.
            let _ = machine::apply(&mut overlay, &decoded).expect("rows agree");
            let batch = overlay.into_batch();
            self.truth.write(batch);
        }
    }

    /// After `entries` the rows are true, and so is what is kept of them.
    fn is_true(&mut self, entries: &[LogEntry]) {
        self.goes_on(entries);
        let owned = |(key, row): (&[u8], &[u8])| (key.to_vec(), row.to_vec());
        let truth: Vec<_> = self.truth.iter().map(owned).collect();
        assert!(self.bench.rows() == truth, "the rows after {}", self.last);
        self.keeps_what_is_true();
    }

    fn keeps_what_is_true(&self) {
        for (key, row) in self.bench.applier.kept.iter() {
            let is = self.truth.get(key).expect("in memory");
            assert_eq!(is.as_deref(), row, "{key:?} after {}", self.last);
        }
    }

    /// A snapshot of a peer that has applied `entries` takes the place of all rows.
    fn switch(&mut self, entries: &[LogEntry]) {
        self.goes_on(entries);
        let base = Mark {
            index: self.last,
            term: 1,
        };
        let (nothing, name) = (MemRows::default(), staged_name(base));
        let mut overlay = Overlay::new(&nothing);
        for (key, row) in self.truth.iter() {
            overlay.put(key.to_vec(), row.to_vec());
        }
        let staged = self.engines.inner.open(&name).expect("in memory");
        let batch = overlay.into_batch();
        staged.write(&batch, base).expect("in memory");
        self.bench.applier.switch(&name, base).expect("switched");
    }

    fn gets(&self) -> u64 {
        self.engines.gets.swap(0, Ordering::Relaxed)
    }
}

/// Commands that change, now and then, each row that is kept.
fn command(rng: &mut Rng, number: u64) -> Command {
    let other = rng.below(3) == 0;
    let in_bucket = BucketId(50_001 + u64::from(other));
    match rng.below(24) {
        0 => bucket(in_bucket.0),
        1 => Command::DeleteBucket(BucketId(50_002)),
        2 => volume(),
        3 => Command::CloseVolume {
            volume: VolumeId(1 + rng.below(3)),
            epoch: Epoch(1),
        },
        4 => Command::OpenLease {
            gateway: GatewayId(1),
            request: number,
        },
        5 => Command::CloseLease {
            gateway: GatewayId(1),
            lease: LeaseId(rng.below(8)),
        },
        6 => Command::InitCluster {
            cluster: ClusterId([7; 16]),
            level: Level(1),
        },
        7 => Command::RaiseLevel {
            level: Level(1 + rng.below(3) as u32),
        },
        8 => Command::ResetClock,
        9..12 => Command::DeleteObject {
            bucket: in_bucket,
            key: rng.below(number).to_be_bytes().to_vec(),
            condition: Condition::None,
        },
        _ => put_of(in_bucket, number, 1),
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut member = Member::new();
    for _ in 0..40 {
        let commands = (1..=1 + rng.below(6))
            .map(|more| command(&mut rng, member.last + more))
            .collect();
        let stamp_ms = STAMP_MS + rng.below(60_000);
        let entries = member.entries(stamp_ms, commands);
        match rng.below(8) {
            0 => {
                member.switch(&entries);
                member.is_true(&[]);
                continue;
            }
            1 => {
                // All but the last are applied, and nothing is written.
                let mut damaged = entries_at(stamp_ms, member.last + 1, vec![Command::Nothing]);
                damaged[0].data = bytes::Bytes::from_static(b"\x01");
                let error = member.apply(&[entries.clone(), damaged].concat());
                assert!(matches!(error, Err(ApplyError::Entry { .. })), "{error:?}");
                member.keeps_what_is_true();
                member.apply(&entries).expect("applied");
            }
            2 | 3 => {
                let fails = [Fails::Before, Fails::After][rng.below(2) as usize];
                *member.engines.fails.lock().expect("no panic") = Some(fails);
                let error = member.apply(&entries);
                assert!(matches!(error, Err(ApplyError::Engine(_))), "{error:?}");
                // Nobody knows what the rows are.
                assert_eq!(member.bench.applier.kept.iter().count(), 0);
                member.apply(&entries).expect("applied");
            }
            _ => {
                member.apply(&entries).expect("applied");
                assert_ne!(member.bench.applier.kept.iter().count(), 0);
            }
        }
        member.is_true(&entries);
    }
}

#[test]
fn what_is_kept_is_what_the_rows_say() {
    for seed in seeds(50) {
        println!("MEGALITH_SEED={seed}");
        run(seed);
    }
}

/// All that the engine is asked for, also what the member reads for itself.
#[test]
fn a_put_that_is_alone_reads_few_rows() {
    let mut member = Member::new();
    let mut gets = Vec::new();
    for number in 1..=3 {
        if number == 3 {
            // As after a start: the switch forgets everything.
            member.switch(&[]);
        }
        let put = put_of(BucketId(50_001), number, 1);
        let entries = member.entries(STAMP_MS + number, vec![put]);
        member.gets();
        member.apply(&entries).expect("applied");
        gets.push(member.gets());
        member.is_true(&entries);
    }
    assert_eq!(gets[1..], [6, 13], "alone, and after a switch");
}
