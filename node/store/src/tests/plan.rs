//! The scrub's plan against a clock of its own: how soon every byte is checked, what comes first,
//! how it behaves towards traffic.

use super::Random;
use crate::scrub::ScrubSettings;
use crate::scrub::plan::{
    Checked, FileFacts, Piece, Plan, ScrubAction, ScrubProgress, ScrubView, Spot, Walk,
};
use megalith_model::ids::VolumeId;
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR_MS: u64 = 3_600_000;
const START_MS: u64 = 1_000 * HOUR_MS;

fn settings() -> ScrubSettings {
    ScrubSettings {
        cycle: Duration::from_secs(5 * 24 * 3600),
        fresh_within: Duration::from_secs(24 * 3600),
        bytes_per_s_max: 1 << 20,
    }
}

/// A disk of files, and when each of their parts of 1 MiB was checked last.
struct World {
    plan: Plan,
    now_ms: u64,
    files: Vec<FileFacts>,
    lsn: u64,
    /// File → when written, when each part was checked last.
    parts: BTreeMap<(VolumeId, u32), Vec<u64>>,
    /// When a file was written, until it was checked for the first time.
    unseen: BTreeMap<(VolumeId, u32), u64>,
    order: Vec<(VolumeId, u32)>,
    bytes: u64,
}

impl World {
    fn new(files: u32) -> Self {
        let mut world = Self {
            plan: Plan::new(&settings(), ScrubProgress::default()),
            now_ms: START_MS,
            files: Vec::new(),
            lsn: 0,
            parts: BTreeMap::new(),
            unseen: BTreeMap::new(),
            order: Vec::new(),
            bytes: 0,
        };
        for number in 0..files {
            world.write(number % 3, number, 256 * (1 + number % 7));
        }
        world
    }

    fn write(&mut self, volume: u32, seq: u32, blocks: u32) {
        self.lsn += 1;
        let volume = VolumeId(volume.into());
        self.files.push(FileFacts {
            volume,
            seq,
            blocks,
            lsn_max: self.lsn,
        });
        self.files.sort_by_key(|file| (file.volume, file.seq));
        let parts = vec![self.now_ms; blocks.div_ceil(256) as usize];
        self.parts.insert((volume, seq), parts);
        self.unseen.insert((volume, seq), self.now_ms);
    }

    fn step(&mut self, busy: bool) {
        let view = ScrubView {
            files: &self.files,
            lsn: self.lsn,
            busy,
        };
        match self.plan.step(self.now_ms, view) {
            ScrubAction::Wait(wait) => {
                assert!((1..=10_000).contains(&wait), "sleeps {wait} ms");
                self.now_ms += wait;
            }
            ScrubAction::Check(piece) => self.check(piece, busy),
        }
    }

    fn check(&mut self, piece: Piece, busy: bool) {
        let id = (piece.from.volume, piece.from.seq);
        let file = self.files.iter().find(|file| (file.volume, file.seq) == id);
        let file = *file.expect("only files that are there are checked");
        assert!(piece.from.block < file.blocks);
        let end = (piece.from.block + piece.blocks_max).min(file.blocks);
        let bytes = u64::from(end - piece.from.block) * 4096;
        self.parts.get_mut(&id).expect("known")[(piece.from.block / 256) as usize] = self.now_ms;
        if end == file.blocks && self.unseen.remove(&id).is_some() && piece.walk == Walk::Look {
            self.order.push(id);
        }
        self.bytes += bytes;
        let checked = Checked {
            bytes,
            found: 0,
            next: (end < file.blocks).then_some(end),
        };
        self.plan.checked(self.now_ms, piece, checked, busy);
    }

    fn run(&mut self, hours: u64, mut each: impl FnMut(&mut Self) -> bool) {
        let end = self.now_ms + hours * HOUR_MS;
        while self.now_ms < end {
            let busy = each(self);
            self.step(busy);
        }
    }

    fn oldest_hours(&self) -> u64 {
        let oldest = self.parts.values().flatten().min().copied();
        (self.now_ms - oldest.unwrap_or(self.now_ms)) / HOUR_MS
    }
}

#[test]
fn every_byte_is_checked_within_a_cycle_whatever_comes_and_goes() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut world = World::new(30);
        let mut next = 100;
        // Traffic none of the time, half of it, nearly always.
        let traffic = [0, 50, 98][(seed % 3) as usize];
        world.run(20 * 24, |world| {
            if random.below(2000) == 0 {
                let gone = random.below(world.files.len() as u64) as usize;
                let file = world.files.remove(gone);
                world.parts.remove(&(file.volume, file.seq));
                world.unseen.remove(&(file.volume, file.seq));
            }
            if random.below(1000) == 0 && world.files.len() < 60 {
                next += 1;
                world.write(
                    random.below(4) as u32,
                    next,
                    200 + random.below(2000) as u32,
                );
            }
            if random.below(500) == 0 {
                let oldest = world.oldest_hours();
                assert!(
                    oldest <= 5 * 24,
                    "seed {seed}: {oldest} hours without a check"
                );
                let unseen = world.unseen.values().min().copied().unwrap_or(world.now_ms);
                let hours = (world.now_ms - unseen) / HOUR_MS;
                assert!(
                    hours < 24,
                    "seed {seed}: new and not looked at for {hours} hours"
                );
            }
            random.below(100) < traffic
        });
        let status = world.plan.status();
        assert!(status.passes >= 8, "seed {seed}: {status:?}");
        assert!(!status.late, "seed {seed}");
    }
}

#[test]
fn what_is_new_comes_first_and_the_newest_before_all() {
    let mut world = World::new(0);
    world.run(1, |_| false);
    for number in 1..6 {
        world.write(number % 2, number, 300);
    }
    world.run(9, |_| false);
    let order: Vec<u32> = world.order.iter().map(|(_, seq)| *seq).collect();
    assert_eq!(order, [5, 4, 3, 2, 1]);
    assert_eq!(world.plan.status().passes, 1, "only the one over nothing");
}

#[test]
fn rate_is_never_exceeded_and_halved_against_traffic() {
    let mut world = World::new(200);
    let (begun, mut most) = (world.now_ms, 0);
    world.plan.demand(world.now_ms);
    world.run(1, |_| false);
    let seconds = (world.now_ms - begun) / 1000;
    most += world.bytes;
    assert!(most <= (seconds + 1) << 20, "{most} bytes in {seconds} s");
    assert!(world.plan.status().passes == 1 && world.unseen.is_empty());
    let (before, begun) = (world.bytes, world.now_ms);
    world.plan.demand(world.now_ms);
    while world.plan.status().demanded {
        world.step(true);
    }
    let seconds = (world.now_ms - begun) / 1000;
    assert!(world.bytes - before <= (seconds + 2) << 19, "{seconds} s");
}

#[test]
fn traffic_is_let_through_until_the_slack_is_used_up() {
    let mut world = World::new(40);
    world.run(12, |_| false);
    let at_rest = world.bytes;
    let began = world.plan.status().began_ms;
    // A pass takes 54 hours at most, its slack is 5.4.
    world.run(5, |_| true);
    assert!(world.now_ms - began < 20 * HOUR_MS);
    assert_eq!(world.bytes, at_rest, "nothing is read while there is slack");
    world.run(20, |_| true);
    assert!(
        world.bytes > at_rest,
        "it insists once the slack is used up"
    );
}

#[test]
fn restart_goes_on_at_the_same_place_and_demand_begins_again() {
    let mut world = World::new(40);
    world.run(30, |_| false);
    let progress = world.plan.progress();
    assert!(progress.at > Spot::START && progress.at < Spot::END);
    let done = world.plan.status().done_permille;
    world.plan = Plan::new(&settings(), progress);
    world.step(false);
    let after = world.plan.status().done_permille;
    assert!(after >= done && after < done + 60, "{done} {after}");
    world.plan.demand(world.now_ms);
    assert_eq!(world.plan.progress().at, Spot::START);
    while world.plan.status().demanded {
        world.step(false);
    }
    assert_eq!(world.oldest_hours(), 0);
}

#[test]
fn clock_set_back_or_a_long_stop_does_not_end_the_scrub() {
    let mut world = World::new(20);
    world.run(20, |_| false);
    world.now_ms -= 900 * HOUR_MS;
    for part in world.parts.values_mut().flatten() {
        *part = world.now_ms;
    }
    world.unseen.clear();
    world.run(5 * 24, |_| false);
    assert!(world.oldest_hours() <= 5 * 24);
    let passes = world.plan.status().passes;
    world.now_ms += 1000 * HOUR_MS;
    world.run(60, |_| false);
    assert!(world.plan.status().passes > passes);
    assert!(world.oldest_hours() <= 60);
}

#[test]
fn disk_too_large_for_its_rate_says_so() {
    let mut world = World::new(0);
    for number in 0..300 {
        world.write(1, number, 256 << 10);
    }
    world.run(10, |_| false);
    assert!(!world.plan.status().late);
    world.run(145, |_| false);
    assert!(
        world.plan.status().late,
        "300 GiB at 1 MiB/s take longer than a pass may"
    );
}
