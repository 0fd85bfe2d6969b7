//! What a look-up touches, of the many files that a volume may have.

use super::idle::{CAPACITY, put};
use super::{Bench, settings, shard};
use crate::files::FileName;
use crate::record::CELL_LEN;
use megalith_disk::FileSystem as _;
use megalith_model::ids::VolumeId;

const FILES: u64 = 30;

/// Two shards fill a file, and the files' ranges of keys overlap: 1 and 1,001, 2 and 1,002, ...
fn with_many_files() -> Bench {
    let mut bench = Bench::new(CAPACITY, settings());
    for number in 1..=FILES {
        put(&mut bench, number, 4 * CELL_LEN);
        put(&mut bench, 1_000 + number, 4 * CELL_LEN);
        bench.housekeep_all();
    }
    bench
}

fn index(number: u64) -> String {
    format!("{:08x}.index", number - 1)
}

/// Takes all index files away but those of `kept`: a look-up that wants one scans the chunk file.
fn take_indexes(bench: &mut Bench, kept: &[u64]) {
    let lost: Vec<u64> = (1..FILES).filter(|number| !kept.contains(number)).collect();
    let names = bench.names(1);
    assert!(
        lost.iter().all(|number| names.contains(&index(*number))),
        "not all are finished"
    );
    for number in lost {
        let path = bench.path(1, &index(number));
        bench.fs.remove(&path).expect("removed");
        let name = FileName::index(VolumeId(1), number as u32 - 1);
        bench.core().catalog.files.forget(name);
    }
}

fn rebuilt(bench: &mut Bench) -> u64 {
    bench.core().catalog.health.read().indexes_rebuilt
}

#[test]
fn a_look_up_touches_the_file_that_has_the_shard_and_no_other() {
    let mut bench = with_many_files();
    take_indexes(&mut bench, &[7]);
    for blob in [7, 1_007] {
        let found = bench.core().catalog.find(shard(1, blob));
        assert_eq!(found.expect("found").expect("there").seq, 6);
    }
    // New ones, between and beyond the keys that are there.
    for blob in [500, 0, 5_000] {
        let found = bench.core().catalog.find(shard(1, blob));
        assert!(found.expect("looked for").is_none());
    }
    assert_eq!(rebuilt(&mut bench), 0);
    assert!(bench.core().catalog.find(shard(1, 9)).is_ok());
    assert_eq!(rebuilt(&mut bench), 1);
}

#[test]
fn a_new_shard_is_written_without_a_look_into_other_files() {
    let mut bench = with_many_files();
    take_indexes(&mut bench, &[7]);
    put(&mut bench, 500, 100);
    assert_eq!(rebuilt(&mut bench), 0);
}
