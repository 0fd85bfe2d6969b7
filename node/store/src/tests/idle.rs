//! Files that are left alone, and the space of what was begun and never ended.

use super::{Bench, CLUSTER, DISK, appends, cells_of, content, settings, shard};
use crate::op::{Done, Op};
use crate::record::CELL_LEN;
use crate::{DiskHandle, StoreSettings, Superblock};
use megalith_disk::RealFs;
use megalith_disk::sim::{SimFault, SimOp, SimRule};
use megalith_model::ids::Epoch;
use megalith_model::shard::ShardId;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const LONG: usize = 8 * CELL_LEN;
pub(super) const CAPACITY: u64 = 64 << 20;

/// Several long shards fit into one file.
pub(super) fn with_long_files() -> Bench {
    let long = StoreSettings {
        file_len_max: 8 << 20,
        ..settings()
    };
    Bench::new(CAPACITY, long)
}

pub(super) fn put(bench: &mut Bench, blob: u64, len: usize) -> ShardId {
    let shard = shard(1, blob);
    bench.put(shard, &content(shard, 0, len)).expect("stored");
    shard
}

pub(super) fn assert_kept(bench: &mut Bench, shard: ShardId, len: usize) {
    assert_eq!(bench.get(shard).expect("kept"), content(shard, 0, len));
}

#[test]
fn a_file_that_is_left_alone_is_finished_and_the_next_write_begins_another() {
    let mut bench = Bench::new(CAPACITY, settings());
    let first = put(&mut bench, 1, 5000);
    bench.housekeep_all();
    let (after, before) = (bench.settings.finish_after, bench.used());
    assert_eq!(bench.core().finish_idle(Duration::ZERO), Some(after));
    let early = after - Duration::from_millis(1);
    assert_eq!(bench.core().finish_idle(early), Some(after));
    assert_eq!(bench.names(1), ["00000000.chunk"]);
    // A write, and its time begins again.
    let second = put(&mut bench, 2, 5000);
    assert_eq!(bench.core().finish_idle(after), Some(2 * after));
    assert_eq!(bench.names(1), ["00000000.chunk"]);
    assert_eq!(bench.core().finish_idle(2 * after), None);
    assert_eq!(bench.names(1), ["00000000.chunk", "00000000.index"]);
    assert!(!bench.core().has_open_files());
    // Of 64 KiB, only a head, two records of two blocks and a mark are left, and three of an index.
    assert!(bench.used() + (24 << 10) < before, "spare space stays");
    let third = put(&mut bench, 3, 5000);
    let names = bench.names(1);
    assert_eq!(
        names,
        ["00000000.chunk", "00000000.index", "00000001.chunk"]
    );
    bench.crash(1);
    bench.reopen();
    for shard in [first, second, third] {
        assert_kept(&mut bench, shard, 5000);
    }
}

#[test]
fn a_file_with_a_stream_in_it_is_never_idle() {
    let mut bench = Bench::new(CAPACITY, settings());
    let shard = shard(1, 1);
    let bytes = content(shard, 0, LONG);
    let ops = appends(77, shard, Epoch(1), &bytes, bench.settings.record_cells);
    let (first, rest) = ops.split_at(1);
    bench.core().commit(first.to_vec());
    bench.leave_alone(5);
    assert_eq!(bench.names(1), ["00000000.chunk"]);
    let answers = bench.core().commit(rest.to_vec());
    assert!(matches!(answers.last(), Some(Ok(Done::Stored(_)))));
    assert_kept(&mut bench, shard, LONG);
    bench.leave_alone(2);
    assert_eq!(bench.names(1), ["00000000.chunk", "00000000.index"]);
    assert_kept(&mut bench, shard, LONG);
}

#[test]
fn a_file_is_not_finished_before_its_holes_are_punched() {
    let mut bench = Bench::new(CAPACITY, settings());
    put(&mut bench, 1, 5000);
    let lost = shard(1, 2);
    let (stream, _) = bench.begin(lost, &content(lost, 0, LONG));
    bench.abandon(stream);
    let after = bench.settings.finish_after;
    for turn in 1..5 {
        bench.core().finish_idle(turn * after);
    }
    // Whoever kills the process now leaves them to the next opening.
    assert_eq!(bench.names(1), ["00000000.chunk"]);
    bench.housekeep_all();
    bench.core().finish_idle(5 * after);
    bench.core().finish_idle(6 * after);
    assert_eq!(bench.names(1), ["00000000.chunk", "00000000.index"]);
}

#[test]
fn what_a_cut_stream_wrote_is_given_back_at_once() {
    let mut bench = Bench::new(CAPACITY, settings());
    let kept = put(&mut bench, 1, 5000);
    for blob in 10..30 {
        let lost = shard(1, blob);
        let (stream, error) = bench.begin(lost, &content(lost, 0, LONG));
        assert!(error.is_none());
        put(&mut bench, blob + 100, 5000);
        bench.abandon(stream);
        bench.core().housekeep();
    }
    bench.housekeep_all();
    // Twenty times three records of two cells, of which two blocks each are left.
    let written = 20 * 6 * CELL_LEN as u64;
    assert!(
        bench.used() < written / 4,
        "{} bytes are left",
        bench.used()
    );
    for (turn, cut) in [true, false].into_iter().enumerate() {
        assert_kept(&mut bench, kept, 5000);
        for blob in 10..30 {
            assert_kept(&mut bench, shard(1, blob + 100), 5000);
        }
        let scrubbed = super::scrub::scrub_whole(&mut bench);
        assert_eq!(scrubbed.found_shards, 0, "turn {turn}");
        if cut {
            bench.crash(7);
            bench.reopen();
        }
    }
}

#[test]
fn what_died_while_its_file_was_open_counts_when_that_is_finished() {
    let mut bench = Bench::new(CAPACITY, settings());
    let kept = put(&mut bench, 1, 100);
    let (before, tidy_after) = (bench.used(), bench.settings.tidy_after);
    let mut died = 0;
    while died < 2 * tidy_after {
        let lost = shard(1, 50);
        let (stream, _) = bench.begin(lost, &content(lost, 0, LONG));
        bench.abandon(stream);
        // So much that the volume is looked through, too soon for this file.
        bench.housekeep_all();
        died += LONG as u64;
    }
    bench.leave_alone(6);
    let (after, names) = (bench.used(), bench.names(1));
    assert!(!names.contains(&"00000000.chunk".to_owned()), "{names:?}");
    assert!(after <= before, "{after} bytes, {before} before");
    assert_kept(&mut bench, kept, 100);
}

#[test]
fn a_shard_that_may_be_there_is_not_given_back_with_its_stream() {
    let mut bench = Bench::new(CAPACITY, settings());
    let shard = shard(1, 1);
    // Who wrote it went away before the answer: both come in one batch.
    let bytes = content(shard, 0, LONG);
    let mut ops = appends(77, shard, Epoch(1), &bytes, bench.settings.record_cells);
    ops.push(Op::Abandon { stream: 77 });
    bench.core().commit(ops);
    bench.housekeep_all();
    assert_kept(&mut bench, shard, LONG);
    let scrubbed = super::scrub::scrub_whole(&mut bench);
    assert_eq!(scrubbed.found_shards, 0);
}

#[test]
fn what_streams_left_before_a_kill_is_given_back_after_it() {
    for finished in [false, true] {
        let mut bench = with_long_files();
        // So much that the file is not emptied for the rest.
        let kept = put(&mut bench, 1, 4 * LONG);
        for blob in 10..12 {
            let lost = shard(1, blob);
            bench.begin(lost, &content(lost, 0, LONG));
        }
        let later = put(&mut bench, 2, 5000);
        let full = bench.used();
        if finished {
            // Neither it nor its index can be written: the next opening finishes it at once.
            let lost = shard(1, 20);
            bench
                .fs
                .inject(SimRule::once(SimOp::SetLen, "chunk", SimFault::Io));
            bench.fs.inject(SimRule {
                times: 2,
                ..SimRule::once(SimOp::Write, "00000000.", SimFault::Io)
            });
            bench.put(lost, &content(lost, 0, 500)).expect_err("fails");
            put(&mut bench, 3, 5000);
        }
        bench.drop_core();
        bench.fs.kill();
        bench.fs.heal();
        bench.reopen();
        bench.housekeep_all();
        let freed = full.saturating_sub(bench.used());
        assert!(
            freed > 8 * CELL_LEN as u64,
            "{finished}: {freed} bytes of 12 cells"
        );
        assert_kept(&mut bench, kept, 4 * LONG);
        assert_kept(&mut bench, later, 5000);
    }
}

#[test]
fn much_that_is_found_dead_at_an_opening_is_given_back_a_little_at_a_time() {
    let huge = StoreSettings {
        file_len_max: 48 << 20,
        ..settings()
    };
    let mut bench = Bench::new(CAPACITY, huge);
    let kept = put(&mut bench, 1, 5000);
    for blob in 10..310 {
        let lost = shard(1, blob);
        bench.begin(lost, &content(lost, 0, 2 * CELL_LEN + 1));
    }
    bench.drop_core();
    bench.fs.kill();
    bench.reopen();
    let mut turns = 0;
    loop {
        let before = bench.fs.changes();
        let more = bench.core().housekeep();
        let changes = bench.fs.changes() - before;
        assert!(changes <= 260, "{changes} changes in one turn");
        turns += 1;
        if !more {
            break;
        }
    }
    assert!(turns > 1);
    assert!(bench.used() < 4 << 20, "{} bytes", bench.used());
    assert_kept(&mut bench, kept, 5000);
}

#[test]
fn what_was_deleted_before_a_kill_is_given_back_after_it() {
    let mut bench = with_long_files();
    let deleted = put(&mut bench, 1, LONG);
    let kept = put(&mut bench, 2, 3 * LONG);
    bench.leave_alone(2);
    assert_eq!(bench.names(1), ["00000000.chunk", "00000000.index"]);
    bench.delete(&[deleted]).expect("deleted");
    let full = bench.used();
    bench.drop_core();
    bench.fs.kill();
    bench.reopen();
    bench.housekeep_all();
    let freed = full.saturating_sub(bench.used());
    assert!(freed > 6 * CELL_LEN as u64, "{freed} bytes of 8 cells");
    assert_kept(&mut bench, kept, 3 * LONG);
}

#[test]
fn a_volume_that_is_left_alone_is_tidied_and_then_left_alone() {
    let mut bench = Bench::new(CAPACITY, settings());
    let kept = put(&mut bench, 1, 5000);
    // Less than a volume in use is looked through for.
    let small: Vec<ShardId> = (10..40).map(|blob| put(&mut bench, blob, 3000)).collect();
    bench.leave_alone(2);
    bench.delete(&small).expect("deleted");
    bench.leave_alone(12);
    assert!(!bench.names(1).contains(&"00000000.chunk".to_owned()));
    let (names, changes) = (bench.names(1), bench.fs.changes());
    assert!(names.len() <= 4, "{names:?}");
    bench.leave_alone(20);
    assert_eq!((bench.names(1), bench.fs.changes()), (names, changes));
    assert_kept(&mut bench, kept, 5000);
}

#[test]
fn a_volume_with_a_needed_tombstone_is_not_written_to_for_ever() {
    let mut bench = with_long_files();
    let kept = put(&mut bench, 1, LONG);
    let deleted = put(&mut bench, 2, 300);
    bench.leave_alone(2);
    // Its file is mostly alive and stays, so the tombstone must stay, too.
    bench.delete(&[deleted]).expect("deleted");
    bench.leave_alone(6);
    let (names, changes) = (bench.names(1), bench.fs.changes());
    bench.leave_alone(20);
    assert_eq!(bench.fs.changes(), changes, "it is written to for ever");
    // Every opening looks through it.
    for _ in 0..4 {
        bench.drop_core();
        bench.fs.kill();
        bench.reopen();
        bench.leave_alone(4);
    }
    assert_eq!(bench.names(1), names, "it is written to with every opening");
    bench.crash(3);
    bench.reopen();
    assert!(bench.get(deleted).is_err());
    assert_kept(&mut bench, kept, LONG);
}

#[test]
fn many_small_files_become_few() {
    let mut bench = Bench::new(CAPACITY, settings());
    let mut shards = Vec::new();
    for blob in 0..200 {
        shards.push(put(&mut bench, blob, 100));
        if blob % 5 == 4 {
            let gone = shards.remove(0);
            bench.delete(&[gone]).expect("deleted");
        }
        bench.leave_alone(6);
    }
    let names = bench.names(1);
    let files = names.iter().filter(|name| name.ends_with(".chunk")).count();
    assert!(files <= 24, "{names:?}");
    bench.crash(5);
    bench.reopen();
    for shard in &shards {
        assert_kept(&mut bench, *shard, 100);
    }
    let listed = bench.core().catalog.list(shards[0].volume, None, 1000);
    assert_eq!(listed.expect("listed").len(), shards.len());
}

#[test]
fn a_shard_deleted_while_it_is_moved_stays_deleted() {
    for moved in 0..5 {
        let mut bench = with_long_files();
        let (long, dead) = (put(&mut bench, 1, LONG), put(&mut bench, 2, LONG));
        bench.leave_alone(2);
        bench.delete(&[dead]).expect("deleted");
        bench.core().tidy_all();
        for _ in 0..moved + 2 {
            bench.core().housekeep();
        }
        bench.delete(&[long]).expect("deleted");
        bench.housekeep_all();
        for _ in 0..2 {
            assert!(bench.get(long).is_err(), "{moved}");
            bench.crash(moved);
            bench.reopen();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_thread_finishes_what_is_left_alone() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let superblock = Superblock::new(CLUSTER, DISK, 1, [5; 32]);
    DiskHandle::format(&RealFs, dir.path(), &superblock).expect("format");
    let settings = StoreSettings {
        reserve: 0,
        finish_after: Duration::from_millis(50),
        ..settings()
    };
    let fs = Arc::new(RealFs);
    let disk = DiskHandle::open(fs, dir.path(), CLUSTER, Some(DISK), settings).expect("open");
    for volume in 1..5 {
        let shard = shard(volume, 1);
        let bytes = content(shard, 0, 5000);
        let mut writer = disk.begin(shard, Epoch(1), 5000).await.expect("begun");
        for (cell, crc) in cells_of(&bytes) {
            writer.push_cell(cell, crc).await.expect("taken");
        }
        let digest = *blake3::hash(&bytes).as_bytes();
        writer.finish(digest).await.expect("stored");
    }
    let index = |volume: u64| {
        let dir = dir.path().join(format!("chunks/{volume:016x}"));
        dir.join("00000000.index").exists()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while !(1..5).all(index) {
        assert!(Instant::now() < deadline, "a file is still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for volume in 1..5 {
        let cells = disk.read(shard(volume, 1), 0, 9).await.expect("there");
        assert_eq!(cells[0].0, content(shard(volume, 1), 0, 5000));
    }
    disk.stop().await;
}
