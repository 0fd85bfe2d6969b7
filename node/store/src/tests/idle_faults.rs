//! Giving space back on a disk that fails: nothing is given back that may be needed, and nothing is
//! tried for ever.

use super::idle::{CAPACITY, LONG, assert_kept, put, with_long_files};
use super::{Bench, settings, shard};
use megalith_disk::FileSystem;
use megalith_disk::sim::{SimFault, SimOp, SimRule};

/// Ends the process before the last commit was synced, and the sync of that at the next opening
/// fails as well. Then the power is cut.
fn fail_the_next_opening(bench: &mut Bench, file: &str, seed: u64) {
    bench.drop_core();
    bench.fs.kill();
    bench.fs.heal();
    bench
        .fs
        .inject(SimRule::once(SimOp::Sync, file, SimFault::Io));
    bench.reopen();
    bench.housekeep_all();
    bench.crash(seed);
    bench.reopen();
}

#[test]
fn nothing_is_given_back_for_a_tombstone_that_is_not_durable() {
    let mut bench = Bench::new(CAPACITY, settings());
    let long = put(&mut bench, 1, LONG);
    bench.leave_alone(2);
    put(&mut bench, 2, 100);
    bench.housekeep_all();
    // The tombstone is written, its sync never comes.
    bench.fs.stop_at(2);
    bench.delete(&[long]).expect_err("stopped");
    fail_the_next_opening(&mut bench, "00000001.chunk", 1);
    assert_kept(&mut bench, long, LONG);
}

#[test]
fn nothing_is_given_back_for_a_copy_that_is_not_durable() {
    for step in 1..30 {
        let mut bench = with_long_files();
        let (long, dead) = (put(&mut bench, 1, LONG / 2), put(&mut bench, 2, LONG));
        bench.leave_alone(2);
        bench.delete(&[dead]).expect("deleted");
        bench.core().tidy_all();
        bench.fs.stop_at(step);
        bench.housekeep_all();
        fail_the_next_opening(&mut bench, "00000001.chunk", step);
        assert_kept(&mut bench, long, LONG / 2);
    }
}

#[test]
fn files_that_can_not_be_removed_are_not_rewritten_for_ever() {
    let mut bench = Bench::new(CAPACITY, settings());
    bench.fs.inject(SimRule {
        times: 1000,
        ..SimRule::once(SimOp::Remove, ".chunk", SimFault::Io)
    });
    for blob in 0..20 {
        put(&mut bench, blob, 100);
        bench.leave_alone(4);
    }
    let (names, changes) = (bench.names(1), bench.fs.changes());
    // One for every write, and what the first one of eight was moved to.
    let files = names.iter().filter(|name| name.ends_with(".chunk")).count();
    assert_eq!(files, 21, "{names:?}");
    bench.leave_alone(20);
    assert_eq!((bench.names(1), bench.fs.changes()), (names, changes));
    for blob in 0..20 {
        assert_kept(&mut bench, shard(1, blob), 100);
    }
}

#[test]
fn a_move_that_fails_holds_no_file_open() {
    let mut bench = with_long_files();
    let (long, dead) = (put(&mut bench, 1, LONG), put(&mut bench, 2, LONG));
    bench.leave_alone(2);
    bench.delete(&[dead]).expect("deleted");
    // The copy's second record finds no space.
    bench.fs.inject(SimRule {
        skip: 1,
        times: 2,
        ..SimRule::once(SimOp::Preallocate, "00000001.chunk", SimFault::Full)
    });
    bench.housekeep_all();
    assert_kept(&mut bench, long, LONG);
    assert!(bench.names(1).contains(&"00000000.chunk".to_owned()));
    bench.leave_alone(6);
    assert!(!bench.core().has_open_files());
    let kept = LONG as u64 + (64 << 10);
    assert!(bench.used() < kept, "{} bytes are kept", bench.used());
    assert!(!bench.names(1).contains(&"00000000.chunk".to_owned()));
    assert_kept(&mut bench, long, LONG);
}

#[test]
fn a_file_is_not_finished_on_a_disk_that_is_full_to_the_last_block() {
    let mut bench = Bench::new(CAPACITY, settings());
    let kept = put(&mut bench, 1, 5000);
    bench.drop_core();
    bench.fs.kill();
    // So that the file has no space to spare.
    bench.reopen();
    let filler = super::root().join("filler");
    let file = bench.fs.create(&filler).expect("created");
    let free = CAPACITY - bench.used();
    file.preallocate(0, free).expect("filled");
    bench.leave_alone(3);
    assert_eq!(bench.names(1), ["00000000.chunk"]);
    let health = bench.core().catalog.health.read();
    assert_eq!((health.failed_files, health.write_errors), (0, 0));
    bench.fs.remove(&filler).expect("removed");
    drop(file);
    bench.leave_alone(5);
    assert_eq!(bench.names(1), ["00000000.chunk", "00000000.index"]);
    assert_kept(&mut bench, kept, 5000);
}
