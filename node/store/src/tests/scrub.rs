//! The scrub over a whole disk: what it finds, what it remembers, what it leaves in peace.

use super::{Bench, CLUSTER, DISK, Random, content, root, settings, shard};
use crate::scrub::ledger::{DamagedShard, Ledger};
use crate::scrub::plan::{ScrubProgress, Spot};
use crate::scrub::worker::Scrubber;
use crate::{DiskHandle, ScrubSettings, StoreSettings, Superblock};
use megalith_disk::sim::{SimFault, SimOp, SimRule};
use megalith_disk::{FileSystem, RealFs};
use megalith_model::ids::{BlobId, Epoch, VolumeId};
use megalith_model::shard::ShardId;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const HOUR_MS: u64 = 3_600_000;

pub(super) fn scrubber(bench: &mut Bench) -> Scrubber {
    Scrubber::open(Arc::clone(&bench.core().catalog))
}

/// Checks every byte now; returns what the scrub says then.
pub(super) fn scrub_whole(bench: &mut Bench) -> crate::ScrubStatus {
    let mut scrubber = scrubber(bench);
    let status = scrubber.status();
    let passes = status.lock().expect("not poisoned").passes;
    let mut now_ms = 1_000_000 * HOUR_MS;
    scrubber.demand(now_ms);
    for _ in 0..100_000 {
        now_ms += scrubber.turn(now_ms);
        if status.lock().expect("not poisoned").passes > passes {
            bench.core().housekeep();
            return *status.lock().expect("not poisoned");
        }
    }
    panic!("the pass has no end");
}

pub(super) fn save_ledger(bench: &mut Bench) {
    scrubber(bench).save(1);
}

fn filled() -> (Bench, Vec<ShardId>) {
    let mut bench = Bench::new(64 << 20, settings());
    let shards: Vec<ShardId> = (0..40).map(|blob| shard(1 + blob % 2, blob)).collect();
    for shard in &shards {
        bench
            .put(*shard, &content(*shard, 0, 30_000))
            .expect("stored");
        bench.core().housekeep();
    }
    (bench, shards)
}

#[test]
fn sound_disk_has_nothing_to_report_and_all_of_it_is_read() {
    let (mut bench, shards) = filled();
    bench.delete(&shards[..3]).expect("deleted");
    bench.housekeep_all();
    let status = scrub_whole(&mut bench);
    assert_eq!(
        (status.passes, status.found_shards, status.demanded),
        (1, 0, false)
    );
    assert!(
        status.checked_bytes > 37 * 32_768,
        "{} bytes",
        status.checked_bytes
    );
    let health = bench.core().catalog.health.read();
    assert_eq!(health, crate::DiskHealth::default());
}

#[test]
fn flipped_bit_anywhere_in_a_living_record_is_found_without_a_reader() {
    let mut random = Random(5);
    for round in 0..60 {
        let (mut bench, shards) = filled();
        let target = shards[random.below(40) as usize];
        // 30,000 bytes, header, checksum and footer: eight blocks.
        let spots = [
            random.below(64),
            64 + random.below(30_004),
            8 * 4096 - 48 + random.below(48),
        ];
        bench.flip_in_record(target, spots[round % 3], 1 << random.below(8));
        let status = scrub_whole(&mut bench);
        assert_eq!(status.found_shards, 1, "round {round}");
        assert_eq!(
            bench.core().catalog.health.damaged(),
            [target],
            "round {round}"
        );
        // A second pass finds nothing new.
        assert_eq!(scrub_whole(&mut bench).found_shards, 1, "round {round}");
    }
}

#[test]
fn sector_that_can_not_be_read_twice_is_found() {
    for (times, expected) in [(1, 0..=0), (4, 1..=2)] {
        let (mut bench, _) = filled();
        bench.fs.inject(SimRule {
            times,
            ..SimRule::once(SimOp::Read, ".chunk", SimFault::Io)
        });
        let found = scrub_whole(&mut bench).found_shards;
        assert!(expected.contains(&found), "{found} after {times} faults");
    }
}

/// Turns of a scrub, one that somebody asked for or not, for so many milliseconds of its clock.
fn turn_for(bench: &mut Bench, from_ms: u64, ms: u64, demanded: bool) {
    let mut scrubber = scrubber(bench);
    let mut now_ms = from_ms;
    if demanded {
        scrubber.demand(now_ms);
    }
    while now_ms < from_ms + ms {
        now_ms += scrubber.turn(now_ms).max(1);
    }
    scrubber.save(now_ms);
}

#[test]
fn damage_that_was_a_passing_fault_is_taken_back() {
    for (demanded, within_ms) in [(false, 20_000), (true, 2_000)] {
        let (mut bench, shards) = filled();
        // Nothing is new, so that only the rounds over damaged shards read.
        scrub_whole(&mut bench);
        let (rotten, passing) = (shards[3], &shards[10..15]);
        bench.flip_in_record(rotten, 8 * 4096 - 40, 1);
        for shard in passing.iter().chain([&rotten]) {
            bench.fs.inject(SimRule {
                times: 2,
                ..SimRule::once(SimOp::Read, ".chunk", SimFault::Io)
            });
            bench.get(*shard).expect_err("two failed reads");
        }
        assert_eq!(bench.core().catalog.health.read().damaged_shards, 6);
        turn_for(&mut bench, 1_000_001 * HOUR_MS, within_ms, demanded);
        assert_eq!(bench.core().catalog.health.damaged(), [rotten]);
        bench.crash(1);
        bench.reopen();
        scrubber(&mut bench);
        assert_eq!(bench.core().catalog.health.damaged(), [rotten]);
    }
}

#[test]
fn index_files_and_superblock_are_written_again_when_found_bad() {
    for what in ["flip", "remove", "grow", "empty"] {
        let (mut bench, shards) = filled();
        let path = bench.path(1, "00000000.index");
        let file = bench.fs.open(&path).expect("open");
        let superblock = root().join("superblock");
        match what {
            "flip" => {
                bench.fs.flip(&path, 4200, 1).expect("flip");
                bench.fs.flip(&superblock, 20, 1).expect("flip");
            }
            "remove" => {
                bench.fs.remove(&path).expect("remove");
                bench.fs.remove(&superblock).expect("remove");
            }
            "grow" => file.set_len(file.len().expect("len") + 77).expect("grow"),
            _ => file.set_len(0).expect("cut"),
        }
        scrub_whole(&mut bench);
        let health = bench.core().catalog.health.read();
        assert_eq!(health.indexes_rebuilt, 1, "{what}");
        bench.housekeep_all();
        bench.crash(1);
        bench.reopen();
        assert_eq!(
            bench.core().catalog.health.read().indexes_rebuilt,
            0,
            "{what}"
        );
        for shard in &shards {
            bench.get(*shard).expect("all are there");
        }
    }
}

#[test]
fn deletes_and_moves_in_between_are_no_damage() {
    let (mut bench, shards) = filled();
    let mut scrubber = scrubber(&mut bench);
    let mut now_ms = 1_000_000 * HOUR_MS;
    scrubber.demand(now_ms);
    let status = scrubber.status();
    for deleted in shards.iter().step_by(2) {
        now_ms += scrubber.turn(now_ms);
        bench.delete(&[*deleted]).expect("deleted");
        bench.core().tidy_all();
        bench.housekeep_all();
    }
    for _ in 0..10_000 {
        now_ms += scrubber.turn(now_ms);
        if status.lock().expect("not poisoned").passes == 1 {
            break;
        }
    }
    let status = *status.lock().expect("not poisoned");
    assert_eq!((status.passes, status.found_shards), (1, 0));
    let health = bench.core().catalog.health.read();
    assert_eq!((health.damaged_shards, health.damaged_regions), (0, 0));
}

#[test]
fn pass_goes_on_where_it_stood_before_a_power_cut() {
    let (mut bench, _) = filled();
    let mut before = scrubber(&mut bench);
    let mut now_ms = 1_000_000 * HOUR_MS;
    let status = before.status();
    while status.lock().expect("not poisoned").fresh_ms == 0 {
        now_ms += before.turn(now_ms);
    }
    before.demand(now_ms);
    let looked = status.lock().expect("not poisoned").checked_bytes;
    while status.lock().expect("not poisoned").checked_bytes < looked + 600_000 {
        now_ms += before.turn(now_ms);
    }
    before.save(now_ms);
    let stood = status.lock().expect("not poisoned").checked_bytes;
    bench.crash(9);
    bench.reopen();
    let mut after = scrubber(&mut bench);
    let status = after.status();
    let said = *status.lock().expect("not poisoned");
    assert!(
        said.demanded && said.checked_bytes == stood && stood > 0,
        "{said:?}"
    );
    for _ in 0..10_000 {
        now_ms += after.turn(now_ms);
        if status.lock().expect("not poisoned").passes == 1 {
            break;
        }
    }
    let said = *status.lock().expect("not poisoned");
    assert_eq!(said.passes, 1);
    // Had it begun again, it would have read more than there is.
    let read = said.checked_bytes - stood;
    assert!(read < 900_000, "{read} bytes after the restart");
}

#[test]
fn new_shards_are_checked_without_a_pass_and_only_once() {
    let (mut bench, _) = filled();
    let mut scrubber = scrubber(&mut bench);
    let status = scrubber.status();
    let bytes = || status.lock().expect("not poisoned").checked_bytes;
    let mut now_ms = 1_000_000 * HOUR_MS;
    let mut run = |scrubber: &mut Scrubber, hours: u64| {
        let end = now_ms + hours * HOUR_MS;
        while now_ms < end {
            now_ms += scrubber.turn(now_ms).max(1);
        }
    };
    run(&mut scrubber, 1);
    let first = bytes();
    assert!(
        first > 40 * 30_000,
        "the first look takes everything: {first}"
    );
    run(&mut scrubber, 9);
    let quiet = bytes();
    let late = shard(1, 500);
    bench.put(late, &content(late, 0, 30_000)).expect("stored");
    bench.flip_in_record(late, 5000, 2);
    run(&mut scrubber, 24);
    assert_eq!(bench.core().catalog.health.damaged(), [late]);
    // Besides it only what the pass is due in two days.
    assert!(bytes() - quiet < 500_000, "{} read again", bytes() - quiet);
}

#[test]
fn gone_disk_is_not_scrubbed_into_a_list_of_losses() {
    let (mut bench, _) = filled();
    let mut scrubber = scrubber(&mut bench);
    scrubber.demand(1);
    let chunks = bench.core().catalog.paths.chunks();
    for volume in ["0000000000000001", "0000000000000002"] {
        let dir = chunks.join(volume);
        for entry in bench.fs.list(&dir).expect("list") {
            bench.fs.remove(&dir.join(entry.name)).expect("remove");
        }
        bench.fs.remove_dir(&dir).expect("remove");
    }
    bench.fs.remove_dir(&chunks).expect("remove");
    bench.fs.create_dir(&chunks).expect("another disk's");
    for _ in 0..20 {
        scrubber.turn(2);
    }
    let health = bench.core().catalog.health.read();
    assert!(health.gone);
    assert_eq!(health.damaged_shards, 0);
    assert_eq!(bench.fs.list(&chunks).expect("list"), []);
}

fn progress() -> impl Strategy<Value = ScrubProgress> {
    let numbers = (any::<[u64; 8]>(), any::<[u32; 2]>(), any::<bool>());
    numbers.prop_map(|(long, short, demanded)| ScrubProgress {
        at: Spot {
            volume: VolumeId(long[7]),
            seq: short[0],
            block: short[1],
        },
        demanded,
        began_ms: long[0],
        passes: long[1],
        finished_ms: long[2],
        fresh_lsn: long[3],
        fresh_ms: long[4],
        checked_bytes: long[5],
        found_shards: long[6],
    })
}

proptest! {
    #[test]
    fn ledger_comes_back_as_it_was_and_no_other_is_taken_for_it(
        progress in progress(),
        damaged in prop::collection::vec(any::<(u64, u64, u32, u8, u64, u64)>(), 0..20),
        flip in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let entry = |(volume, blob, segment, slot, lsn, cell)| DamagedShard {
            shard: ShardId { volume: VolumeId(volume), blob: BlobId(blob), segment, slot },
            lsn,
            cell,
        };
        let ledger = Ledger { progress, damaged: damaged.into_iter().map(entry).collect() };
        let mut bytes = ledger.encode(DISK);
        prop_assert_eq!(Ledger::decode(&bytes, DISK), Some(ledger));
        let other = megalith_model::ids::DiskId([1; 16]);
        prop_assert_eq!(Ledger::decode(&bytes, other), None);
        let at = flip.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(Ledger::decode(&bytes, DISK), None);
        bytes[at] ^= 1 << bit;
        bytes.truncate(at);
        prop_assert_eq!(Ledger::decode(&bytes, DISK), None);
    }
}

#[test]
fn ledger_is_laid_out_as_documented() {
    let ledger = Ledger {
        progress: ScrubProgress {
            at: Spot {
                volume: VolumeId(0x0102_0304),
                seq: 5,
                block: 6,
            },
            demanded: true,
            began_ms: 7,
            passes: 8,
            finished_ms: 9,
            fresh_lsn: 10,
            fresh_ms: 11,
            checked_bytes: 12,
            found_shards: 13,
        },
        damaged: vec![DamagedShard {
            shard: shard(0x0102_0304, 0x1112_1314_1516_1718),
            lsn: 14,
            cell: 15,
        }],
    };
    let bytes = ledger.encode(DISK);
    assert_eq!(bytes.len(), 112 + 40 + 4);
    assert_eq!(bytes[..8], *b"MGRs\x02\0\0\0");
    assert_eq!(bytes[8..24], DISK.0);
    assert_eq!(
        bytes[24..48],
        [
            4, 3, 2, 1, 0, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0
        ]
    );
    for (at, number) in (48..).step_by(8).zip([7, 8, 9, 10, 11, 12, 13, 1_u64]) {
        assert_eq!(bytes[at..at + 8], number.to_le_bytes(), "at {at}");
    }
    assert_eq!(
        bytes[112..136],
        [
            4, 3, 2, 1, 0, 0, 0, 0, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0, 0, 0, 0, 1,
            0, 0, 0
        ]
    );
    assert_eq!(bytes[136..144], 14_u64.to_le_bytes());
    assert_eq!(bytes[144..152], 15_u64.to_le_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thread_scrubs_a_real_disk_on_demand_and_has_indexes_written_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let superblock = Superblock::new(CLUSTER, DISK, 1, [5; 32]);
    DiskHandle::format(&RealFs, dir.path(), &superblock).expect("format");
    let settings = StoreSettings {
        reserve: 0,
        scrub: ScrubSettings {
            bytes_per_s_max: 1 << 30,
            ..ScrubSettings::default()
        },
        ..settings()
    };
    let open = || {
        let fs = Arc::new(RealFs);
        DiskHandle::open(fs, dir.path(), CLUSTER, Some(DISK), settings.clone()).expect("open")
    };
    let disk = open();
    for blob in 0..30 {
        let shard = shard(1, blob);
        let bytes = content(shard, 0, 30_000);
        let mut writer = disk.begin(shard, Epoch(1), 30_000).await.expect("begun");
        for (cell, crc) in super::cells_of(&bytes) {
            writer.push_cell(cell, crc).await.expect("taken");
        }
        writer
            .finish(*blake3::hash(&bytes).as_bytes())
            .await
            .expect("stored");
    }
    disk.stop().await;
    // One byte in the middle of the finished file's third shard, one in the index.
    let chunk = dir.path().join("chunks/0000000000000001/00000000.chunk");
    let index = dir.path().join("chunks/0000000000000001/00000000.index");
    for (path, at) in [(&chunk, (1 + 8 * 2) * 4096 + 9000), (&index, 4096 + 50)] {
        let mut bytes = std::fs::read(path).expect("read");
        bytes[at] ^= 1;
        std::fs::write(path, bytes).expect("write");
    }
    let disk = open();
    let clock = Arc::new(AtomicU64::new(HOUR_MS));
    let ticking = Arc::clone(&clock);
    disk.start_scrub(Arc::new(move || ticking.fetch_add(10, Ordering::Relaxed)))
        .expect("a thread");
    disk.demand_scrub().expect("taken");
    let done = async {
        while disk.scrub_status().passes == 0 || disk.health().indexes_rebuilt == 0 {
            tokio::task::yield_now().await;
        }
    };
    let deadline = std::time::Duration::from_secs(60);
    tokio::time::timeout(deadline, done)
        .await
        .expect("scrubbed in time");
    assert_eq!(disk.damaged(), [shard(1, 2)]);
    assert_eq!(disk.scrub_status().found_shards, 1);
    disk.stop().await;
    assert!(RealFs.open(&dir.path().join("scrub")).is_ok());
    let disk = open();
    assert_eq!(disk.damaged(), [shard(1, 2)], "known from before");
    assert_eq!(disk.health().indexes_rebuilt, 0, "it was written again");
    assert_eq!(disk.scrub_status().passes, 1);
    disk.stop().await;
}
