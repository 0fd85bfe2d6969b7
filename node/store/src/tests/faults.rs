//! Disks that fail, fill up, or are not ours.

use super::{Bench, CLUSTER, DISK, content, root, settings, shard};
use crate::DiskHandle;
use crate::error::StoreError;
use crate::op::{Append, Done, Op};
use crate::record::CELL_LEN;
use crate::recover;
use crate::settings::StoreSettings;
use crate::superblock::Superblock;
use megalith_disk::FileSystem;
use megalith_disk::sim::{SimFault, SimFs, SimOp, SimRule};
use megalith_model::ids::{ClusterId, DiskId, Epoch, VolumeId};
use std::path::Path;
use std::sync::Arc;

#[test]
fn failed_sync_is_final_for_its_file_and_for_nothing_else() {
    let mut bench = Bench::new(64 << 20, settings());
    let (old, lost, new) = (shard(1, 1), shard(1, 2), shard(1, 3));
    bench.put(old, &content(old, 0, 5000)).expect("stored");
    bench
        .fs
        .inject(SimRule::once(SimOp::Sync, ".chunk", SimFault::Io));
    let error = bench
        .put(lost, &content(lost, 0, 5000))
        .expect_err("the sync fails");
    assert!(
        matches!(error, StoreError::Io { action: "sync", .. }),
        "{error}"
    );
    assert!(matches!(bench.get(lost), Err(StoreError::NotFound { .. })));
    bench
        .put(new, &content(new, 0, 5000))
        .expect("goes to a new file");
    assert_eq!(
        bench.names(1),
        ["00000000.chunk", "00000000.index", "00000001.chunk"]
    );
    let health = bench.core().catalog.health.read();
    assert_eq!((health.failed_files, health.read_only), (1, false));
    for seed in 0..20 {
        bench.crash(seed);
        bench.reopen();
        assert_eq!(bench.get(old).expect("kept"), content(old, 0, 5000));
        assert_eq!(bench.get(new).expect("kept"), content(new, 0, 5000));
        assert!(matches!(bench.get(lost), Err(StoreError::NotFound { .. })));
    }
}

#[test]
fn stream_across_a_failed_file_fails_as_a_whole() {
    let mut bench = Bench::new(64 << 20, settings());
    let shard = shard(1, 1);
    let bytes = content(shard, 0, 5 * CELL_LEN);
    let ops = super::appends(99, shard, Epoch(1), &bytes, 2);
    let mut answers = bench.core().commit(ops[..1].to_vec());
    bench
        .fs
        .inject(SimRule::once(SimOp::Write, ".chunk", SimFault::Io));
    for op in &ops[1..] {
        answers.extend(bench.core().commit(vec![op.clone()]));
    }
    assert!(matches!(
        answers[..],
        [
            Ok(Done::Written),
            Err(StoreError::Io { .. }),
            Err(StoreError::Io { .. })
        ]
    ));
    bench
        .put(shard, &bytes)
        .expect("a second try goes to a new file");
    assert_eq!(bench.get(shard).expect("stored"), bytes);
}

#[test]
fn disk_turns_read_only_after_too_many_failed_files() {
    let failed_files_max = 2;
    let mut bench = Bench::new(
        64 << 20,
        StoreSettings {
            failed_files_max,
            ..settings()
        },
    );
    let kept = shard(1, 1);
    bench.put(kept, &content(kept, 0, 10)).expect("stored");
    bench.fs.inject(SimRule {
        times: 100,
        ..SimRule::once(SimOp::Sync, ".chunk", SimFault::Io)
    });
    for blob in 2..4 {
        let shard = shard(1, blob);
        bench
            .put(shard, &content(shard, 0, 10))
            .expect_err("the sync fails");
    }
    bench.fs.heal();
    let late = shard(1, 9);
    let refused = bench.put(late, &content(late, 0, 10));
    assert!(matches!(refused, Err(StoreError::ReadOnly)));
    assert!(bench.core().catalog.health.read().read_only);
    assert_eq!(
        bench.get(kept).expect("still readable"),
        content(kept, 0, 10)
    );
}

#[test]
fn full_disk_refuses_shards_above_the_reserve_and_still_deletes() {
    let mut bench = Bench::new(8 << 20, settings());
    let mut stored = Vec::new();
    let full = loop {
        let shard = shard(1, stored.len() as u64);
        match bench.put(shard, &content(shard, 0, 60_000)) {
            Ok(_) => stored.push(shard),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Full { .. }), "{full}");
    assert!(stored.len() > 100, "{} stored", stored.len());
    let free = bench.fs.space(root()).expect("space").free;
    assert!(
        free + (128 << 10) >= settings().reserve,
        "the reserve was eaten: {free} left"
    );
    for deleted in &stored[..50] {
        bench
            .delete(&[*deleted])
            .expect("a delete works on a full disk");
    }
    bench.housekeep_all();
    let again = shard(2, 1);
    bench
        .put(again, &content(again, 0, 60_000))
        .expect("space came back");
    for kept in &stored[50..] {
        assert_eq!(bench.get(*kept).expect("kept"), content(*kept, 0, 60_000));
    }
}

/// Of a shard of two blocks no hole gives anything back: only its file's end does.
#[test]
fn a_disk_full_of_small_dead_shards_is_tidied_with_half_of_the_reserve() {
    let small = StoreSettings {
        reserve: 1 << 20,
        ..settings()
    };
    let mut bench = Bench::new(8 << 20, small);
    let mut stored = Vec::new();
    loop {
        let shard = shard(1, stored.len() as u64);
        match bench.put(shard, &content(shard, 0, 7_000)) {
            Ok(_) => stored.push(shard),
            Err(StoreError::Full { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    // Half of each file dies.
    let (deleted, kept): (Vec<_>, Vec<_>) = stored.iter().partition(|shard| shard.blob.0 % 2 == 0);
    bench.delete(&deleted).expect("deleted");
    bench.core().tidy_all();
    let reserve = bench.settings.reserve;
    while bench.core().housekeep() {
        let free = bench.fs.space(root()).expect("space").free;
        assert!(
            free + (64 << 10) >= reserve / 2,
            "{free} left of the reserve"
        );
    }
    let free = bench.fs.space(root()).expect("space").free;
    assert!(free > reserve + (2 << 20), "{free} bytes are free");
    let again = shard(2, 1);
    bench
        .put(again, &content(again, 0, 60_000))
        .expect("space came back");
    bench.crash(3);
    bench.reopen();
    for shard in kept {
        assert_eq!(bench.get(shard).expect("kept"), content(shard, 0, 7_000));
    }
    for shard in deleted {
        assert!(bench.get(shard).is_err(), "{shard} is back");
    }
}

#[test]
fn full_file_system_fails_cleanly_even_without_a_reserve() {
    let mut bench = Bench::new(
        2 << 20,
        StoreSettings {
            reserve: 0,
            ..settings()
        },
    );
    let mut stored = Vec::new();
    for blob in 0..100 {
        let shard = shard(1, blob);
        match bench.put(shard, &content(shard, 0, 50_000)) {
            Ok(_) => stored.push(shard),
            Err(error) => assert!(matches!(error, StoreError::Full { .. }), "{error}"),
        }
    }
    assert!(stored.len() > 20);
    bench.crash(3);
    bench.reopen();
    for kept in stored {
        assert_eq!(bench.get(kept).expect("kept"), content(kept, 0, 50_000));
    }
}

#[test]
fn foreign_missing_and_bad_superblocks_are_refused() {
    let mut bench = Bench::new(64 << 20, settings());
    bench.drop_core();
    let fs = Arc::new(bench.fs.clone());
    let open = |cluster, disk| {
        recover::open(fs.clone(), root(), cluster, disk, settings())
            .map(|_| ())
            .expect_err("refused")
    };
    let foreign = open(ClusterId([1; 16]), None);
    assert!(
        matches!(foreign, StoreError::ForeignCluster { .. }),
        "{foreign}"
    );
    let foreign = open(CLUSTER, Some(DiskId([1; 16])));
    assert!(
        matches!(foreign, StoreError::ForeignDisk { .. }),
        "{foreign}"
    );
    let copies = ["superblock", "superblock-2"].map(|name| root().join(name));
    for path in &copies {
        bench.fs.flip(path, 50, 1).expect("flip");
    }
    let bad = open(CLUSTER, Some(DISK));
    assert!(matches!(bad, StoreError::BadSuperblock { .. }), "{bad}");
    bench.fs.remove(&copies[0]).expect("remove");
    let bad = open(CLUSTER, Some(DISK));
    assert!(matches!(bad, StoreError::BadSuperblock { .. }), "{bad}");
    bench.fs.remove(&copies[1]).expect("remove");
    let missing = open(CLUSTER, Some(DISK));
    assert!(
        matches!(missing, StoreError::NoSuperblock { .. }),
        "{missing}"
    );
}

#[test]
fn only_an_empty_directory_is_formatted() {
    let fs = SimFs::new(1 << 20);
    fs.create_dir(root()).expect("root");
    fs.create(&root().join("letter.txt")).expect("create");
    let superblock = Superblock::new(CLUSTER, DISK, 1, [5; 32]);
    let refused = recover::format(&fs, root(), &superblock).expect_err("refused");
    assert!(matches!(refused, StoreError::NotEmpty { .. }), "{refused}");
    fs.remove(Path::new("/disk/letter.txt")).expect("remove");
    recover::format(&fs, root(), &superblock).expect("formatted");
    let refused = recover::format(&fs, root(), &superblock).expect_err("refused");
    assert!(matches!(refused, StoreError::NotEmpty { .. }), "{refused}");
}

#[test]
fn interrupted_formatting_can_be_done_again() {
    for step in 1..16 {
        let fs = SimFs::new(1 << 20);
        fs.create_dir(root()).expect("root");
        fs.sync_dir(Path::new("/")).expect("sync");
        let superblock = Superblock::new(CLUSTER, DISK, 1, [5; 32]);
        fs.stop_at(step);
        let first = recover::format(&fs, root(), &superblock);
        fs.crash(step);
        if first.is_err() && DiskHandle::identify(&fs, root()).is_err() {
            recover::format(&fs, root(), &superblock).expect("formatted");
        }
        assert_eq!(
            DiskHandle::identify(&fs, root()).expect("there"),
            superblock
        );
    }
}

#[test]
fn second_opening_of_a_disk_is_refused() {
    let mut bench = Bench::new(64 << 20, settings());
    let fs = Arc::new(bench.fs.clone());
    let second = recover::open(fs, root(), CLUSTER, None, settings()).map(|_| ());
    assert!(matches!(second, Err(StoreError::Locked { .. })));
    bench.reopen();
}

#[test]
fn unmounted_disk_is_never_written_through() {
    let mut bench = Bench::new(64 << 20, settings());
    // The directory is still there, what was mounted on it is not.
    bench
        .fs
        .remove_dir(&root().join("chunks"))
        .expect("no volume yet");
    let shard = shard(1, 1);
    let refused = bench.put(shard, &content(shard, 0, 10));
    assert!(matches!(refused, Err(StoreError::Gone { .. })));
}

#[test]
fn stale_epochs_are_refused_in_the_middle_of_a_stream_and_after_a_restart() {
    let mut bench = Bench::new(64 << 20, settings());
    let target = shard(1, 1);
    let bytes = content(target, 0, 3 * CELL_LEN);
    let ops = super::appends(77, target, Epoch(4), &bytes, 2);
    let first = bench.core().commit(ops[..1].to_vec());
    assert!(matches!(first[..], [Ok(Done::Written)]));
    let fence = Op::Fence {
        volume: VolumeId(1),
        epoch: Epoch(5),
    };
    bench.core().commit(vec![fence]);
    let second = bench.core().commit(ops[1..].to_vec());
    assert!(matches!(
        second[..],
        [Err(StoreError::StaleEpoch { current: Epoch(5) })]
    ));
    for seed in 0..10 {
        bench.crash(seed);
        bench.reopen();
        let refused = bench.put_as(target, Epoch(4), &bytes);
        assert!(matches!(
            refused,
            Err(StoreError::StaleEpoch { current: Epoch(5) })
        ));
    }
    bench
        .put_as(target, Epoch(5), &bytes)
        .expect("the present epoch is taken");
}

#[test]
fn same_shard_twice_answers_the_same_and_another_content_conflicts() {
    let mut bench = Bench::new(64 << 20, settings());
    let target = shard(1, 1);
    let bytes = content(target, 0, 70_000);
    let first = bench.put(target, &bytes).expect("stored");
    assert_eq!(bench.put(target, &bytes).expect("the same"), first);
    let other = bench.put(target, &content(target, 1, 70_000));
    assert!(matches!(other, Err(StoreError::Conflict { .. })));
    assert_eq!(bench.get(target).expect("the first"), bytes);
}

#[test]
fn two_streams_of_one_shard_are_never_mixed() {
    let mut bench = Bench::new(64 << 20, settings());
    let target = shard(1, 1);
    let (one, two) = (content(target, 1, 200_000), content(target, 2, 200_000));
    let one_ops = super::appends(1001, target, Epoch(1), &one, 2);
    let two_ops = super::appends(1002, target, Epoch(1), &two, 2);
    let mut both = Vec::new();
    for (first, second) in one_ops.into_iter().zip(two_ops) {
        both.extend([second, first]);
    }
    let answers = bench.core().commit(both);
    assert!(matches!(answers[2], Ok(Done::Stored(_))));
    assert!(matches!(answers[3], Err(StoreError::Conflict { .. })));
    assert_eq!(bench.get(target).expect("one of them"), two);
    bench.crash(5);
    bench.reopen();
    assert_eq!(bench.get(target).expect("the same one"), two);
}

#[test]
fn malformed_streams_leave_no_trace() {
    let mut bench = Bench::new(64 << 20, settings());
    let target = shard(1, 1);
    let bytes = content(target, 0, 5000);
    let good = Append {
        stream: 500,
        shard: target,
        epoch: Epoch(1),
        first_cell: 0,
        cells: super::cells_of(&bytes),
        last: Some((5000, *blake3::hash(&bytes).as_bytes())),
    };
    let bad = [
        Append {
            stream: 501,
            last: Some((5001, [0; 32])),
            ..good.clone()
        },
        Append {
            stream: 502,
            first_cell: 2,
            ..good.clone()
        },
        Append {
            stream: 503,
            cells: Vec::new(),
            ..good.clone()
        },
        Append {
            stream: 504,
            last: None,
            ..good.clone()
        },
    ];
    for append in bad {
        let answers = bench.core().commit(vec![Op::Append(append)]);
        assert!(
            matches!(answers[..], [Err(StoreError::Malformed { .. })]),
            "{answers:?}"
        );
    }
    bench.crash(1);
    bench.reopen();
    assert!(matches!(
        bench.get(target),
        Err(StoreError::NotFound { .. })
    ));
    bench.put(target, &bytes).expect("stored");
}

#[test]
fn delete_over_two_volumes_holds_where_it_was_durable() {
    for (broken, path) in [(1, "/0000000000000001/"), (2, "/0000000000000002/")] {
        let mut bench = Bench::new(64 << 20, settings());
        let both = [shard(1, 1), shard(2, 1)];
        for shard in both {
            bench.put(shard, &content(shard, 0, 3000)).expect("stored");
        }
        bench
            .fs
            .inject(SimRule::once(SimOp::Sync, path, SimFault::Io));
        bench
            .delete(&both)
            .expect_err("one of the two tombstones is not durable");
        for shard in both {
            let there = bench.get(shard).is_ok();
            assert_eq!(there, shard.volume.0 == broken, "{shard}");
            // The same bytes again must be stored for good, whatever the log says by now.
            bench
                .put(shard, &content(shard, 0, 3000))
                .expect("stored again");
        }
        bench.crash(1);
        bench.reopen();
        for shard in both {
            assert_eq!(bench.get(shard).expect("stored"), content(shard, 0, 3000));
        }
    }
}
