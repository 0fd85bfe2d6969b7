//! The superblock's two copies, and a superblock made again from the heads of chunk files.

use super::scrub::scrub_whole;
use super::{Bench, CLUSTER, DISK, content, root, settings, shard};
use crate::error::StoreError;
use crate::record::BLOCK_LEN;
use crate::superblock::{FoundSuperblock, Superblock};
use crate::{DiskHandle, LostSuperblock, RebuildError};
use megalith_disk::sim::{SimFault, SimFs, SimOp, SimRule};
use megalith_disk::{FileSystem, read_exact_at};
use megalith_model::ids::DiskId;
use megalith_model::shard::ShardId;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

fn copies() -> [PathBuf; 2] {
    ["superblock", "superblock-2"].map(|name| root().join(name))
}

/// A disk with finished and growing files, not open.
fn disk() -> (Bench, Vec<ShardId>) {
    let mut bench = Bench::new(64 << 20, settings());
    let shards: Vec<ShardId> = (0..30).map(|n| shard(1 + n % 2, n)).collect();
    for shard in &shards {
        bench.put(*shard, &content(*shard, 0, 50_000)).expect("put");
        bench.core().housekeep();
    }
    bench.drop_core();
    (bench, shards)
}

fn all_there(bench: &mut Bench, shards: &[ShardId]) {
    for shard in shards {
        assert_eq!(
            bench.get(*shard).expect("there"),
            content(*shard, 0, 50_000)
        );
    }
}

fn write(fs: &SimFs, path: &Path, bytes: &[u8]) {
    let file = fs.open(path).expect("open");
    file.write_at(&[IoSlice::new(bytes)], 0).expect("write");
    file.sync_data().expect("sync");
}

fn heads(fs: &SimFs) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let chunks = root().join("chunks");
    for volume in fs.list(&chunks).expect("list") {
        let dir = chunks.join(volume.name);
        for entry in fs.list(&dir).expect("list") {
            found.extend(entry.name.ends_with(".chunk").then(|| dir.join(entry.name)));
        }
    }
    found
}

fn lose_both(fs: &SimFs) {
    fs.flip(&copies()[0], 70, 1).expect("flip");
    fs.remove(&copies()[1]).expect("remove");
}

fn find(fs: &SimFs) -> Result<LostSuperblock, RebuildError> {
    LostSuperblock::find(fs, root())
}

#[test]
fn one_copy_is_enough_and_mends_the_other() {
    for which in 0..2 {
        for how in ["flip", "cut", "remove", "unreadable"] {
            let (mut bench, shards) = disk();
            let path = copies()[which].clone();
            match how {
                "flip" => bench.fs.flip(&path, 64, 1).expect("flip"),
                "cut" => {
                    let file = bench.fs.open(&path).expect("open");
                    file.set_len(60).expect("cut");
                }
                "remove" => bench.fs.remove(&path).expect("remove"),
                _ => {
                    let name = path.to_str().expect("UTF-8");
                    bench
                        .fs
                        .inject(SimRule::once(SimOp::Read, name, SimFault::Io));
                }
            }
            let known = DiskHandle::identify(&bench.fs, root()).expect("one is good");
            if how != "unreadable" {
                let found = FoundSuperblock::read(&bench.fs, root()).expect("one is good");
                assert_eq!(found.bad.map(|(bad, _)| bad), Some(path.clone()), "{how}");
            }
            bench.open().expect("opens");
            let health = bench.core().catalog.health.read();
            let expected = u64::from(how != "unreadable");
            assert!(health.files_restored >= expected, "{which} {how}");
            bench.crash(1);
            let found = FoundSuperblock::read(&bench.fs, root()).expect("mended");
            assert!(found.bad.is_none(), "{which} {how}");
            assert_eq!(found.superblock, known);
            bench.reopen();
            all_there(&mut bench, &shards);
        }
    }
}

#[test]
fn a_disk_that_takes_no_write_opens_with_one_copy() {
    let (mut bench, shards) = disk();
    bench.fs.remove(&copies()[0]).expect("remove");
    let full = SimRule {
        times: 100,
        ..SimRule::once(SimOp::Create, "superblock", SimFault::Full)
    };
    bench.fs.inject(full);
    bench.open().expect("opens");
    all_there(&mut bench, &shards);
}

#[test]
fn two_superblocks_of_different_disks_are_refused() {
    let (mut bench, _) = disk();
    let other = Superblock::new(CLUSTER, DiskId([1; 16]), 1, [5; 32]);
    let made_up = Superblock::new(CLUSTER, DISK, 1, [6; 32]);
    for stranger in [other, made_up] {
        write(&bench.fs, &copies()[1], &stranger.encode());
        let error = bench.open().expect_err("refused");
        assert!(
            matches!(error, StoreError::TwoSuperblocks { .. }),
            "{error}"
        );
        assert!(matches!(
            find(&bench.fs),
            Err(RebuildError::Store(StoreError::TwoSuperblocks { .. }))
        ));
    }
}

#[test]
fn the_scrub_mends_the_second_copy_too() {
    let (mut bench, _) = disk();
    bench.reopen();
    bench.fs.flip(&copies()[1], 20, 1).expect("flip");
    scrub_whole(&mut bench);
    let found = FoundSuperblock::read(&bench.fs, root()).expect("there");
    assert!(found.bad.is_none());
    assert_eq!(bench.core().catalog.health.read().files_restored, 1);
}

#[test]
fn a_lost_superblock_is_made_again_from_the_heads() {
    let (mut bench, shards) = disk();
    let known = DiskHandle::identify(&bench.fs, root()).expect("there");
    lose_both(&bench.fs);
    bench.open().expect_err("no superblock");
    let all = heads(&bench.fs);
    assert!(all.len() > 3);
    // Most heads are damaged; the secret comes back even so.
    for path in &all[1..] {
        bench.fs.flip(path, 100, 1).expect("flip");
    }
    let lost = find(&bench.fs).expect("one head is whole");
    assert_eq!(lost.identity(), (DISK, CLUSTER));
    assert_eq!(lost.witnesses(), (1, all.len() as u64 - 1));
    drop(lost);
    bench.open().expect_err("nothing was written");
    find(&bench.fs)
        .expect("found")
        .rebuild(&bench.fs)
        .expect("written");
    bench.crash(2);
    let again = DiskHandle::identify(&bench.fs, root()).expect("there");
    assert_eq!(again, known);
    assert_eq!(again.proof(), known.proof());
    bench.reopen();
    all_there(&mut bench, &shards);
}

#[test]
fn a_rebuild_that_is_cut_off_can_be_done_again() {
    for step in 1..12 {
        let (bench, _) = disk();
        let known = DiskHandle::identify(&bench.fs, root()).expect("there");
        lose_both(&bench.fs);
        let lost = find(&bench.fs).expect("found");
        let before = bench.fs.changes();
        bench.fs.stop_at(before + step);
        let _ = lost.rebuild(&bench.fs);
        bench.fs.crash(step);
        match find(&bench.fs) {
            Ok(lost) => lost.rebuild(&bench.fs).expect("written"),
            Err(RebuildError::Present { .. }) => {}
            Err(error) => panic!("{step}: {error}"),
        }
        assert_eq!(
            DiskHandle::identify(&bench.fs, root()).expect("there"),
            known
        );
    }
}

#[test]
fn no_superblock_is_made_where_it_is_not_clear_whose() {
    let (mut bench, _) = disk();
    let present = find(&bench.fs);
    assert!(matches!(
        present,
        Err(RebuildError::Present { disk: DISK, .. })
    ));
    // One of two is enough for a disk.
    bench.fs.remove(&copies()[0]).expect("remove");
    assert!(matches!(find(&bench.fs), Err(RebuildError::Present { .. })));
    bench.reopen();
    bench.fs.remove(&copies()[0]).expect("remove");
    bench.fs.remove(&copies()[1]).expect("remove");
    let open = find(&bench.fs);
    assert!(matches!(
        open,
        Err(RebuildError::Store(StoreError::Locked { .. }))
    ));
    bench.drop_core();

    // A chunk file of another disk among them.
    let mut other = Bench::new(64 << 20, settings());
    other
        .put(shard(1, 1), &content(shard(1, 1), 0, 50))
        .expect("put");
    other.drop_core();
    let all = heads(&bench.fs);
    let mut strange = vec![0; BLOCK_LEN as usize];
    let path = heads(&other.fs).remove(0);
    let file = other.fs.open(&path).expect("open");
    read_exact_at(file.as_ref(), &mut strange, 0).expect("read");
    let mine = bench.fs.open(&path).expect("the same name");
    let mut kept = vec![0; BLOCK_LEN as usize];
    read_exact_at(mine.as_ref(), &mut kept, 0).expect("read");
    assert_eq!(strange.len(), kept.len());
    assert!(all.contains(&path));
    forge_head(&mut strange);
    write(&bench.fs, &path, &strange);
    assert!(matches!(
        find(&bench.fs),
        Err(RebuildError::Disagree { .. })
    ));
    write(&bench.fs, &path, &kept);
    find(&bench.fs).expect("as before");

    for path in &all {
        write(&bench.fs, path, &[0; BLOCK_LEN as usize]);
    }
    let expected = all.len() as u64;
    match find(&bench.fs) {
        Err(RebuildError::NoHeads { bad, .. }) => assert_eq!(bad, expected),
        other => panic!("{:?}", other.err()),
    }
    let empty = SimFs::new(1 << 20);
    empty.create_dir(root()).expect("root");
    assert!(matches!(
        find(&empty),
        Err(RebuildError::NoHeads { bad: 0, .. })
    ));
}

/// Makes the head of `CLUSTER`'s `DISK` one of a disk with another id, with right checksums.
fn forge_head(block: &mut [u8]) {
    use crate::record::{Footer, Header, RecordPlace, encode_record};
    use bytes::Bytes;
    use megalith_disk::crc32c::crc32c;
    let place = |disk| RecordPlace {
        disk,
        file: 0,
        block: 0,
    };
    let header = block.first_chunk().expect("a block");
    let header = Header::decode(header, place(DISK)).expect("a head");
    let disk = DiskId([1; 16]);
    let cell = Bytes::copy_from_slice(&Superblock::new(CLUSTER, disk, 1, [5; 32]).encode());
    let crc = crc32c(&cell);
    let forged = encode_record(&header, &[(cell, crc)], &Footer::BLANK, place(disk)).concat();
    block.copy_from_slice(&forged);
}
