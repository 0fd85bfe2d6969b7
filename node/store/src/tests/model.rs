//! A plain map beside the store: random requests, faults, kills and power cuts. Whatever was
//! acknowledged must be there, byte for byte; whatever was deleted must stay away. A request that
//! failed may come true at the next opening, and only then.

use super::{Bench, Random, content, settings, shard};
use crate::error::StoreError;
use crate::op::{Done, Op};
use crate::record::CELL_LEN;
use bytes::Bytes;
use megalith_disk::sim::{SimFault, SimOp, SimRule};
use megalith_model::ids::{Epoch, VolumeId};
use megalith_model::shard::ShardId;
use std::collections::BTreeMap;
use std::time::Duration;

/// A version and a length: what a shard's bytes follow from.
type Version = (u64, usize);

#[derive(Default, Debug)]
struct Known {
    now: Option<Version>,
    /// What else a reopened disk may say, until the next acknowledged request.
    maybe: Vec<Option<Version>>,
}

struct World {
    bench: Bench,
    random: Random,
    known: BTreeMap<ShardId, Known>,
    fences: BTreeMap<u64, u32>,
    versions: u64,
    now: Duration,
    trace: String,
}

const VOLUMES: u64 = 3;
const BLOBS: u64 = 24;

impl World {
    fn new(seed: u64) -> Self {
        let capacity = if seed.is_multiple_of(4) {
            3 << 20
        } else {
            64 << 20
        };
        Self {
            bench: Bench::new(capacity, settings()),
            random: Random(seed),
            known: BTreeMap::new(),
            fences: BTreeMap::new(),
            versions: 0,
            now: Duration::ZERO,
            trace: String::new(),
        }
    }

    fn step(&mut self) {
        let volume = self.random.below(VOLUMES) + 1;
        let shard = shard(volume, self.random.below(BLOBS));
        match self.random.below(1000) {
            0..400 => self.put(shard),
            400..450 => self.put_many(volume),
            450..600 => self.delete(shard),
            600..900 => self.check_one(shard),
            900..910 => self.cut_off(shard),
            910..920 => self.check_list(volume),
            920..930 => self.fence(volume),
            930..970 => {
                self.bench.core().housekeep();
            }
            970..972 => {
                self.bench.core().tidy_all();
            }
            972..974 => self.leave_alone(),
            974 => self.scrub(),
            975..987 => self.break_something(),
            987..990 => {
                let nth = self.random.below(30) + 1;
                self.bench.fs.stop_at(nth);
            }
            990..993 => self.restart(|bench, _| bench.core().close()),
            993..996 => self.restart(|bench, _| {
                bench.drop_core();
                bench.fs.kill();
            }),
            _ => self.restart(|bench, random| bench.crash(random.next())),
        }
    }

    fn put(&mut self, shard: ShardId) {
        let small = self.random.below(50) > 0;
        let len_max = if small { 9000 } else { 3 * CELL_LEN as u64 };
        let len = self.random.below(len_max) as usize + 1;
        self.versions += 1;
        // Now and then the same bytes again.
        let again = self.known.get(&shard).and_then(|known| known.now);
        let version = again
            .filter(|_| self.random.below(3) == 0)
            .unwrap_or((self.versions, len));
        let bytes = content(shard, version.0, version.1);
        let epoch = Epoch(self.fences.get(&shard.volume.0).copied().unwrap_or(1));
        let answer = self.bench.put_as(shard, epoch, &bytes);
        let known = self.known.entry(shard).or_default();
        match answer {
            Ok(receipt) => {
                assert!(
                    known.now.is_none_or(|now| now == version),
                    "{shard}: overwritten"
                );
                assert_eq!(receipt.digest, *blake3::hash(&bytes).as_bytes());
                *known = Known {
                    now: Some(version),
                    maybe: Vec::new(),
                };
            }
            Err(StoreError::Conflict { .. }) => {
                assert!(
                    known.now.is_some_and(|now| now != version),
                    "{shard}: no conflict"
                );
            }
            Err(StoreError::Full { .. } | StoreError::Io { .. } | StoreError::ReadOnly) => {
                known.maybe.push(Some(version));
            }
            Err(error) => panic!("{shard}: {error}"),
        }
    }

    /// A writer that goes away amid a shard, perhaps before what it left is written or given back.
    fn cut_off(&mut self, shard: ShardId) {
        self.versions += 1;
        let bytes = content(shard, self.versions, 5 * CELL_LEN);
        let (stream, _) = self.bench.begin(shard, &bytes);
        if self.random.below(2) == 0 {
            self.put(super::shard(shard.volume.0, BLOBS - 1));
        }
        self.bench.abandon(stream);
        if self.random.below(2) == 0 {
            self.bench.core().housekeep();
        }
    }

    /// Time passes without a write.
    fn leave_alone(&mut self) {
        for _ in 0..4 {
            self.now += self.bench.settings.finish_after;
            self.bench.core().finish_idle(self.now);
            self.bench.core().housekeep();
        }
    }

    /// Several shards in one commit: a power cut tears some and spares others.
    fn put_many(&mut self, volume: u64) {
        let epoch = Epoch(self.fences.get(&volume).copied().unwrap_or(1));
        let mut batch = BTreeMap::new();
        for _ in 0..self.random.below(4) + 2 {
            self.versions += 1;
            let version = (
                self.versions,
                self.random.below(if self.versions.is_multiple_of(3) {
                    20_000
                } else {
                    300
                }) as usize
                    + 1,
            );
            batch.insert(shard(volume, self.random.below(BLOBS)), version);
        }
        let bytes = |(shard, version): (&ShardId, &Version)| content(*shard, version.0, version.1);
        let shards: Vec<(ShardId, Bytes)> =
            batch.iter().map(|pair| (*pair.0, bytes(pair))).collect();
        let answers = self.bench.put_batch(&shards, epoch);
        for ((shard, version), answer) in batch.into_iter().zip(answers) {
            let known = self.known.entry(shard).or_default();
            match answer {
                Ok(_) => {
                    assert_eq!(known.now, None, "{shard}: overwritten");
                    *known = Known {
                        now: Some(version),
                        maybe: Vec::new(),
                    };
                }
                Err(StoreError::Conflict { .. }) => assert!(known.now.is_some(), "{shard}"),
                Err(StoreError::Full { .. } | StoreError::Io { .. } | StoreError::ReadOnly) => {
                    known.maybe.push(Some(version));
                }
                Err(error) => panic!("{shard}: {error}"),
            }
        }
    }

    fn delete(&mut self, shard: ShardId) {
        let answer = self.bench.delete(&[shard]);
        let known = self.known.entry(shard).or_default();
        match answer {
            Ok(()) => *known = Known::default(),
            Err(StoreError::Full { .. } | StoreError::Io { .. } | StoreError::ReadOnly) => {
                known.maybe.push(None);
            }
            Err(error) => panic!("{shard}: {error}"),
        }
    }

    fn check_one(&mut self, shard: ShardId) {
        let now = self.known.get(&shard).and_then(|known| known.now);
        match self.bench.get(shard) {
            Ok(bytes) => {
                let (version, len) = now.unwrap_or_else(|| panic!("{shard} came back"));
                assert_eq!(bytes, content(shard, version, len), "{shard}");
            }
            Err(StoreError::NotFound { .. }) => assert_eq!(now, None, "{shard} is lost"),
            // Only while the test keeps everything from working.
            Err(StoreError::Io { .. }) => {}
            Err(StoreError::Damaged { .. }) if self.stopped() => {}
            Err(error) => panic!("{shard}: {error}"),
        }
    }

    fn stopped(&self) -> bool {
        megalith_disk::FileSystem::space(&self.bench.fs, super::root()).is_err()
    }

    fn check_list(&mut self, volume: u64) {
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let catalog = &self.bench.core().catalog;
            let Ok(page) = catalog.list(VolumeId(volume), after, 5) else {
                return;
            };
            let Some(last) = page.last() else { break };
            after = Some((last.shard.blob, last.shard.segment));
            listed.extend(page.iter().map(|stat| (stat.shard, stat.len as usize)));
        }
        if self.stopped() {
            return;
        }
        let ours = self
            .known
            .iter()
            .filter(|(shard, _)| shard.volume.0 == volume);
        let expected: Vec<(ShardId, usize)> = ours
            .filter_map(|(shard, known)| Some((*shard, known.now?.1)))
            .collect();
        assert_eq!(listed, expected, "list of volume {volume}");
    }

    /// Whatever happened so far: bytes that were acknowledged check out.
    fn scrub(&mut self) {
        let mut scrubber = super::scrub::scrubber(&mut self.bench);
        let status = scrubber.status();
        let passes = |status: &crate::scrub::worker::SharedStatus| {
            status.lock().expect("not poisoned").passes
        };
        let before = passes(&status);
        let mut now_ms = 1 << 40;
        scrubber.demand(now_ms);
        while passes(&status) == before && !self.stopped() {
            now_ms += scrubber.turn(now_ms);
        }
        if self.stopped() {
            return;
        }
        let health = self.bench.core().catalog.health.read();
        let found = (health.damaged_shards, health.damaged_regions);
        assert_eq!(found, (0, 0), "the scrub took something sound for damage");
    }

    fn fence(&mut self, volume: u64) {
        let epoch = self.fences.get(&volume).copied().unwrap_or(1) + 1;
        let id = VolumeId(volume);
        let answers = self.bench.core().commit(vec![Op::Fence {
            volume: id,
            epoch: Epoch(epoch),
        }]);
        if let Some(Ok(Done::Fenced(_))) = answers.first() {
            self.fences.insert(volume, epoch);
            let stale = self
                .bench
                .put_as(shard(volume, 1), Epoch(epoch - 1), &Bytes::from("x"));
            assert!(stale.is_err(), "a stale epoch was taken");
        }
    }

    fn break_something(&mut self) {
        let ops = [
            SimOp::Sync,
            SimOp::Write,
            SimOp::SyncDir,
            SimOp::Create,
            SimOp::Preallocate,
            SimOp::Punch,
            SimOp::SetLen,
            SimOp::Remove,
            SimOp::Rename,
        ];
        let op = ops[self.random.below(ops.len() as u64) as usize];
        let fault = if self.random.below(3) == 0 {
            SimFault::Full
        } else {
            SimFault::Io
        };
        let skip = self.random.below(8);
        self.bench.fs.inject(SimRule {
            op,
            path: "chunks".into(),
            skip,
            times: 1,
            fault,
        });
    }

    fn restart(&mut self, end: impl FnOnce(&mut Bench, &mut Random)) {
        end(&mut self.bench, &mut self.random);
        self.bench.drop_core();
        if self.stopped() {
            self.bench.fs.crash(self.random.next());
        } else {
            // Takes back a stop that was not reached.
            self.bench.fs.kill();
        }
        self.bench.fs.heal();
        // A crash in the middle of the recovery must do no harm either.
        if self.random.below(3) == 0 {
            self.bench.fs.stop_at(self.random.below(12) + 1);
            let opened = self.bench.open();
            self.bench.crash(self.random.next());
            drop(opened);
        }
        // Nor one after an opening that failed in part and gave space back.
        if self.random.below(3) == 0 {
            self.break_something();
            if self.bench.open().is_ok() {
                self.bench.housekeep_all();
            }
            self.bench.crash(self.random.next());
            self.bench.fs.heal();
        }
        self.bench.reopen();
        self.trace.push('.');
        for volume in 1..=VOLUMES {
            let fence = self.bench.core().catalog.fence(VolumeId(volume)).0;
            let acked = self.fences.get(&volume).copied().unwrap_or(0);
            assert!(
                fence >= acked,
                "the fence of {volume} fell from {acked} to {fence}"
            );
            if fence > 0 {
                self.fences.insert(volume, fence);
            }
        }
        let shards: Vec<ShardId> = self.known.keys().copied().collect();
        for shard in shards {
            let found = self.bench.get(shard);
            let known = self.known.get_mut(&shard).expect("listed");
            let mut possible = known.maybe.clone();
            possible.push(known.now);
            let fits = |candidate: &Option<Version>| match (&found, candidate) {
                (Ok(bytes), Some((version, len))) => *bytes == content(shard, *version, *len),
                (Err(StoreError::NotFound { .. }), None) => true,
                (Ok(_) | Err(_), Some(_) | None) => false,
            };
            let Some(now) = possible.iter().copied().find(fits) else {
                panic!(
                    "{shard}: {:?} is none of {known:?}",
                    found.map(|bytes| bytes.len())
                );
            };
            known.now = now;
            if !known.maybe.is_empty() {
                known.maybe = possible;
            }
        }
        let health = self.bench.core().catalog.health.read();
        assert_eq!(
            health.damaged_regions, 0,
            "a power cut was taken for damage"
        );
        assert_eq!(health.damaged_shards, 0, "a power cut was taken for damage");
    }
}

fn run(seed: u64, steps: u64) {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.restart(|bench, random| bench.crash(random.next()));
}

/// `MEGALITH_SEEDS=100..400` looks further, or at one failure again, `MEGALITH_STEPS=40000` longer;
/// each prints how fast it went.
#[test]
fn store_matches_a_plain_map_through_faults_and_power_cuts() {
    let range = std::env::var("MEGALITH_SEEDS").unwrap_or_else(|_| "0..25".to_owned());
    let bounds = range
        .split_once("..")
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let (from, to): (u64, u64) = bounds.expect("MEGALITH_SEEDS is two numbers with .. between");
    let steps = std::env::var("MEGALITH_STEPS").unwrap_or_else(|_| "4000".to_owned());
    let steps: u64 = steps.parse().expect("MEGALITH_STEPS is a number");
    for seed in from..to {
        eprint!("seed {seed}: ");
        let begun = on_core();
        run(seed, steps);
        let rate = steps as f64 / (on_core() - begun) * 60e9 / 1e6;
        eprintln!("{steps} operations, {rate:.1} million a minute of one core");
    }
}

/// Nanoseconds that this thread has run, whatever else the machine does.
fn on_core() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ran = stat.split_whitespace().next();
    ran.and_then(|ran| ran.parse().ok()).unwrap_or(f64::NAN)
}
