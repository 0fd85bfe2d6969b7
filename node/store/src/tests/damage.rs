//! Bytes that rot: named, never handed out, never taking their neighbours along.

use super::{Bench, content, settings, shard};
use crate::error::StoreError;
use crate::record::{BLOCK_LEN, CELL_LEN};
use crate::settings::StoreSettings;
use megalith_disk::FileSystem;
use megalith_disk::sim::{SimFault, SimOp, SimRule};
use megalith_model::ids::VolumeId;
use megalith_model::shard::ShardId;

fn fill(bench: &mut Bench, count: u64, len: usize) -> Vec<ShardId> {
    let shards: Vec<ShardId> = (0..count).map(|blob| shard(1, blob)).collect();
    for shard in &shards {
        bench.put(*shard, &content(*shard, 0, len)).expect("stored");
    }
    shards
}

/// Counts shards that are whole and that are named as damaged; wrong bytes are a failure.
fn survey(bench: &mut Bench, shards: &[ShardId], len: usize) -> (usize, usize, usize) {
    let (mut whole, mut damaged, mut gone) = (0, 0, 0);
    for shard in shards {
        match bench.get(*shard) {
            Ok(bytes) => {
                assert_eq!(bytes, content(*shard, 0, len), "{shard}: wrong bytes");
                whole += 1;
            }
            Err(StoreError::Damaged { .. }) => damaged += 1,
            Err(StoreError::NotFound { .. }) => gone += 1,
            Err(error) => panic!("{shard}: {error}"),
        }
    }
    (whole, damaged, gone)
}

#[test]
fn flipped_byte_damages_its_shard_alone() {
    let mut bench = Bench::new(64 << 20, settings());
    let shards = fill(&mut bench, 10, 20_000);
    let path = bench.path(1, "00000000.chunk");
    // The head is block 0; each record takes 5 blocks.
    bench
        .fs
        .flip(&path, (1 + 5 * 4) * BLOCK_LEN + 9000, 4)
        .expect("flip");
    let error = bench.get(shards[4]).expect_err("damaged");
    assert!(
        matches!(error, StoreError::Damaged { cell: 0, .. }),
        "{error}"
    );
    assert_eq!(survey(&mut bench, &shards, 20_000), (9, 1, 0));
    let health = bench.core().catalog.health.read();
    assert_eq!(
        (health.damaged_shards, health.damaged_first),
        (1, vec![shards[4]])
    );
    assert!(
        bench
            .core()
            .catalog
            .stat(shards[4])
            .expect("stat")
            .expect("there")
            .damaged
    );
    // A rebuilt shard may be written over the damaged one.
    bench
        .put(shards[4], &content(shards[4], 0, 20_000))
        .expect("replaced");
    assert_eq!(survey(&mut bench, &shards, 20_000), (10, 0, 0));
    assert_eq!(bench.core().catalog.health.read().damaged_shards, 0);
    bench.crash(1);
    bench.reopen();
    assert_eq!(survey(&mut bench, &shards, 20_000), (10, 0, 0));
}

#[test]
fn flipped_header_before_good_records_is_damage_not_a_torn_tail() {
    let mut bench = Bench::new(64 << 20, settings());
    let shards = fill(&mut bench, 10, 20_000);
    let path = bench.path(1, "00000000.chunk");
    bench
        .fs
        .flip(&path, (1 + 5 * 4) * BLOCK_LEN + 20, 4)
        .expect("flip");
    bench.crash(1);
    bench.reopen();
    assert_eq!(survey(&mut bench, &shards, 20_000), (9, 0, 1));
    let health = bench.core().catalog.health.read();
    assert_eq!((health.damaged_regions, health.torn_pieces), (1, 0));
    // The damaged file takes no more; what comes goes to another one.
    let later = shard(1, 100);
    bench.put(later, &content(later, 0, 100)).expect("stored");
    assert!(bench.names(1).contains(&"00000001.chunk".to_owned()));
}

#[test]
fn lost_record_in_the_middle_of_a_long_shard_leaves_the_rest_readable() {
    let mut bench = Bench::new(
        64 << 20,
        StoreSettings {
            file_len_max: 4 << 20,
            ..settings()
        },
    );
    let target = shard(1, 1);
    let bytes = content(target, 0, 6 * CELL_LEN);
    bench.put(target, &bytes).expect("stored");
    let after = shard(1, 2);
    bench.put(after, &content(after, 0, 10)).expect("stored");
    let path = bench.path(1, "00000000.chunk");
    // Records of two cells take 33 blocks.
    bench
        .fs
        .flip(&path, (1 + 33) * BLOCK_LEN + 3, 1)
        .expect("flip");
    bench.crash(1);
    bench.reopen();
    let catalog = &bench.core().catalog;
    assert!(catalog.stat(target).expect("stat").expect("there").damaged);
    assert_eq!(
        catalog.read(target, 0, 2).expect("the first record").len(),
        2
    );
    assert_eq!(
        catalog.read(target, 4, 2).expect("the last record").len(),
        2
    );
    let error = catalog
        .read(target, 1, 3)
        .expect_err("the one between is gone");
    assert!(
        matches!(error, StoreError::Damaged { cell: 2, .. }),
        "{error}"
    );
    assert_eq!(catalog.health.read().damaged_shards, 1);
}

#[test]
fn what_is_unreadable_at_a_second_look_is_an_erasure() {
    for fault in [SimFault::Io, SimFault::Flip] {
        let mut bench = Bench::new(64 << 20, settings());
        let shards = fill(&mut bench, 3, 100);
        bench.fs.inject(SimRule::once(SimOp::Read, ".chunk", fault));
        let read = bench.get(shards[1]).expect("it has passed");
        assert_eq!(read, content(shards[1], 0, 100));
        assert_eq!(bench.core().catalog.health.read().damaged_shards, 0);
        bench.fs.inject(SimRule {
            times: 2,
            ..SimRule::once(SimOp::Read, ".chunk", fault)
        });
        let error = bench.get(shards[2]).expect_err("two failed reads");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert_eq!(bench.core().catalog.health.damaged(), [shards[2]]);
    }
}

#[test]
fn disk_that_refuses_to_be_scanned_has_nothing_cut_away() {
    let mut bench = Bench::new(64 << 20, settings());
    let shards = fill(&mut bench, 10, 20_000);
    bench.drop_core();
    bench.fs.kill();
    bench.fs.inject(SimRule {
        skip: 3,
        times: 4,
        ..SimRule::once(SimOp::Read, ".chunk", SimFault::Io)
    });
    bench.reopen();
    bench.fs.heal();
    assert!(bench.core().catalog.health.read().damaged_regions > 0);
    bench.drop_core();
    bench.fs.kill();
    bench.reopen();
    assert_eq!(survey(&mut bench, &shards, 20_000), (10, 0, 0));
}

#[test]
fn misdirected_write_is_noticed() {
    let mut bench = Bench::new(64 << 20, settings());
    let target = shard(1, 1);
    fill(&mut bench, 1, 100);
    bench
        .fs
        .inject(SimRule::once(SimOp::Write, ".chunk", SimFault::Misdirect));
    bench
        .put(target, &content(target, 0, 9000))
        .expect("the disk lies");
    let error = bench.get(target).expect_err("noticed");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

/// Many shards in finished files, then the index spoilt in some way.
fn with_spoilt_index(spoil: impl Fn(&mut Bench, &std::path::Path)) -> Bench {
    let mut bench = Bench::new(64 << 20, settings());
    let shards = fill(&mut bench, 150, 5000);
    bench.delete(&shards[..10]).expect("deleted");
    bench.housekeep_all();
    let index = bench.path(1, "00000000.index");
    bench.drop_core();
    bench.fs.kill();
    spoil(&mut bench, &index);
    bench.reopen();
    assert_eq!(survey(&mut bench, &shards, 5000), (140, 0, 10));
    let listed = bench
        .core()
        .catalog
        .list(VolumeId(1), None, 1000)
        .expect("list");
    assert_eq!(listed.len(), 140);
    bench
}

#[test]
fn finished_files_are_found_by_their_index() {
    let mut bench = with_spoilt_index(|_, _| {});
    assert!(bench.names(1).contains(&"00000000.index".to_owned()));
    assert_eq!(bench.core().catalog.health.read().indexes_rebuilt, 0);
}

#[test]
fn bad_index_is_rebuilt_wherever_it_is_bad() {
    let len = {
        let bench = with_spoilt_index(|_, _| {});
        let path = super::root().join("chunks/0000000000000001/00000000.index");
        bench.fs.open(&path).expect("open").len().expect("len")
    };
    for at in [0, 5, 30, 60, 4095, 4096, 4100, 9000, len - 1] {
        let mut bench = with_spoilt_index(|bench, index| {
            bench.fs.flip(index, at, 0x10).expect("flip");
        });
        bench.housekeep_all();
        let rebuilt = bench.core().catalog.health.read().indexes_rebuilt;
        assert_eq!(rebuilt, 1, "offset {at}");
        // It was written again: the next opening finds it good.
        bench.drop_core();
        bench.fs.kill();
        bench.reopen();
        bench.get(shard(1, 20)).expect("found");
        assert_eq!(
            bench.core().catalog.health.read().indexes_rebuilt,
            0,
            "offset {at}"
        );
    }
    with_spoilt_index(|bench, index| bench.fs.remove(index).expect("remove"));
}

#[test]
fn removed_chunk_file_is_named_and_its_shards_are_damaged() {
    let mut bench = Bench::new(64 << 20, settings());
    let shards = fill(&mut bench, 150, 5000);
    bench.housekeep_all();
    let path = bench.path(1, "00000000.chunk");
    bench.drop_core();
    bench.fs.kill();
    bench.fs.remove(&path).expect("remove");
    bench.reopen();
    assert_eq!(bench.core().catalog.health.read().damaged_regions, 1);
    let (whole, damaged, gone) = survey(&mut bench, &shards, 5000);
    assert!(
        whole > 50 && damaged > 50 && gone == 0,
        "{whole} {damaged} {gone}"
    );
}

#[test]
fn any_flipped_byte_of_a_chunk_file_gives_no_wrong_byte() {
    let mut random = super::Random(11);
    for round in 0..150 {
        let mut bench = Bench::new(64 << 20, settings());
        let shards = fill(&mut bench, 12, 30_000);
        let path = bench.path(1, "00000000.chunk");
        if round % 2 == 0 {
            bench.core().close();
        }
        bench.drop_core();
        bench.fs.kill();
        let at = random.below((1 + 12 * 8) * BLOCK_LEN);
        bench
            .fs
            .flip(&path, at, 1 << random.below(8))
            .expect("flip");
        bench.reopen();
        let (whole, damaged, gone) = survey(&mut bench, &shards, 30_000);
        assert!(whole >= 11, "offset {at}: {whole} whole");
        let health = bench.core().catalog.health.read();
        if damaged + gone > 0 {
            let named = health.damaged_shards + health.damaged_regions + health.torn_pieces;
            assert!(named > 0, "offset {at}: nothing was said");
        }
    }
}
