//! A disk that is unmounted, removed or replaced while it is open: nothing is written through to
//! what is there instead, nothing is promised, and nothing is taken for damage.

use super::{Bench, CLUSTER, DISK, cells_of, content, root, settings, shard};
use crate::error::StoreError;
use crate::op::Op;
use crate::{DiskHandle, StoreSettings, Superblock};
use bytes::Bytes;
use megalith_disk::sim::{SimFault, SimOp, SimRule};
use megalith_disk::{FileSystem, RealFs};
use megalith_model::ids::{DiskId, Epoch, VolumeId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

#[test]
fn replaced_directory_takes_nothing_and_promises_nothing() {
    let mut bench = Bench::new(64 << 20, settings());
    let kept = shard(1, 1);
    bench.put(kept, &content(kept, 0, 5000)).expect("stored");
    let chunks = bench.core().catalog.paths.chunks();
    let dir = chunks.join("0000000000000001");
    for entry in bench.fs.list(&dir).expect("list") {
        bench.fs.remove(&dir.join(entry.name)).expect("remove");
    }
    bench.fs.remove_dir(&dir).expect("remove");
    bench.fs.remove_dir(&chunks).expect("remove");
    bench.fs.create_dir(&chunks).expect("another");
    bench.fs.create_dir(&dir).expect("with the same volume");
    // The handle of the open file still works: a sync of it would go well, and mean nothing.
    let other = shard(1, 2);
    let refused = bench.put(other, &content(other, 0, 5000));
    assert!(
        matches!(refused, Err(StoreError::Gone { .. })),
        "{refused:?}"
    );
    assert!(matches!(
        bench.delete(&[kept]),
        Err(StoreError::Gone { .. })
    ));
    let (volume, epoch) = (VolumeId(1), Epoch(9));
    let fenced = bench.core().commit(vec![Op::Fence { volume, epoch }]);
    assert!(matches!(fenced[..], [Err(StoreError::Gone { .. })]));
    bench.core().tidy_all();
    bench.housekeep_all();
    bench.core().close();
    assert_eq!(
        bench.fs.list(&dir).expect("list"),
        [],
        "it was written through"
    );
    let health = bench.core().catalog.health.read();
    assert!(health.gone && health.damaged_shards == 0);
}

#[test]
fn disk_that_only_fails_to_answer_is_not_gone() {
    let mut bench = Bench::new(64 << 20, settings());
    let (kept, later) = (shard(1, 1), shard(1, 2));
    bench.put(kept, &content(kept, 0, 5000)).expect("stored");
    bench.fs.inject(SimRule {
        times: 1,
        ..SimRule::once(SimOp::Write, ".chunk", SimFault::Io)
    });
    bench
        .put(later, &content(later, 0, 5000))
        .expect_err("the write fails");
    bench
        .put(later, &content(later, 0, 5000))
        .expect("goes to another file");
    assert!(!bench.core().catalog.health.read().gone);
    assert!(bench.fs.list(root()).is_ok());
}

#[test]
fn chunk_file_removed_under_a_running_disk_is_not_written_to_any_more() {
    let mut bench = Bench::new(64 << 20, settings());
    let (kept, later) = (shard(1, 1), shard(1, 2));
    bench.put(kept, &content(kept, 0, 5000)).expect("stored");
    let path = bench.path(1, "00000000.chunk");
    bench.fs.remove(&path).expect("remove");
    // Its handle would take the write and the sync.
    bench
        .put(later, &content(later, 0, 5000))
        .expect_err("not promised");
    bench
        .put(later, &content(later, 0, 5000))
        .expect("goes to another file");
    let health = bench.core().catalog.health.read();
    assert_eq!(
        health.damaged_first,
        [kept],
        "what was promised is named as lost"
    );
    bench.put(kept, &content(kept, 0, 5000)).expect("repaired");
    bench.crash(1);
    bench.reopen();
    for shard in [kept, later] {
        assert_eq!(bench.get(shard).expect("there"), content(shard, 0, 5000));
    }
}

fn real_disk(root: &Path, disk: DiskId) {
    let superblock = Superblock::new(CLUSTER, disk, 1, [5; 32]);
    DiskHandle::format(&RealFs, root, &superblock).expect("format");
}

fn open(root: &Path) -> DiskHandle {
    let settings = StoreSettings {
        reserve: 0,
        ..settings()
    };
    DiskHandle::open(Arc::new(RealFs), root, CLUSTER, Some(DISK), settings).expect("open")
}

async fn put(disk: &DiskHandle, blob: u64) -> Result<(), StoreError> {
    let shard = shard(1, blob);
    let bytes: Bytes = content(shard, 0, 3000);
    let mut writer = disk.begin(shard, Epoch(1), 3000).await?;
    for (cell, crc) in cells_of(&bytes) {
        writer.push_cell(cell, crc).await?;
    }
    writer
        .finish(*blake3::hash(&bytes).as_bytes())
        .await
        .map(drop)
}

/// Every file below a directory with its bytes.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            let bytes = std::fs::read(&path).expect("readable");
            found.insert(path, bytes);
        }
    }
    found
}

async fn is_gone_for_all(disk: &DiskHandle) {
    let gone = |error: StoreError| assert!(matches!(error, StoreError::Gone { .. }), "{error}");
    gone(put(disk, 2).await.expect_err("no new shard"));
    gone(disk.delete(&[shard(1, 1)]).await.expect_err("no delete"));
    gone(
        disk.fence(VolumeId(1), Epoch(7))
            .await
            .expect_err("no epoch"),
    );
    gone(disk.space().await.expect_err("it is reported closed"));
    assert!(disk.health().gone);
    disk.stop().await;
    assert_eq!(disk.damaged(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_disk_in_the_same_place_is_left_alone() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (place, aside) = (dir.path().join("disk"), dir.path().join("aside"));
    for path in [&place, &aside] {
        std::fs::create_dir(path).expect("create");
    }
    real_disk(&place, DISK);
    real_disk(&aside, DiskId([4; 16]));
    let disk = open(&place);
    put(&disk, 1).await.expect("stored");
    std::fs::rename(&place, dir.path().join("away")).expect("rename");
    std::fs::rename(&aside, &place).expect("rename");
    let before = tree(&place);
    is_gone_for_all(&disk).await;
    assert_eq!(tree(&place), before, "the other disk was written to");
}

/// A mounted tmpfs; taken off in the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(path: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(path);
        let done = mount.output().ok()?;
        done.status.success().then(|| Self(path.to_path_buf()))
    }

    /// Takes it off while files on it are open, as an operator in a hurry does.
    fn off(&self) -> bool {
        let done = Command::new("umount").arg("-l").arg(&self.0).output();
        done.is_ok_and(|done| done.status.success())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.off();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unmounted_file_system_is_not_written_through() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let place = dir.path().join("disk");
    std::fs::create_dir_all(place.join("chunks/0000000000000001"))
        .expect("what lies below the mount");
    let Some(mounted) = Mounted::new(&place) else {
        eprintln!("skipped: needs the right to mount a tmpfs");
        return;
    };
    real_disk(&place, DISK);
    let disk = open(&place);
    put(&disk, 1).await.expect("stored");
    assert!(mounted.off(), "umount -l");
    is_gone_for_all(&disk).await;
    assert_eq!(tree(&place), BTreeMap::new(), "it was written through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_file_system_keeps_its_reserve_and_takes_deletes() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let Some(_mounted) = Mounted::new(dir.path()) else {
        eprintln!("skipped: needs the right to mount a tmpfs");
        return;
    };
    real_disk(dir.path(), DISK);
    let reserve = 4 << 20;
    let settings = StoreSettings {
        reserve,
        ..settings()
    };
    let disk = DiskHandle::open(Arc::new(RealFs), dir.path(), CLUSTER, Some(DISK), settings);
    let disk = disk.expect("open");
    let bytes = content(shard(1, 0), 0, 200_000);
    let mut stored: u64 = 0;
    let full = loop {
        let target = shard(1, stored);
        let begun = disk.begin(target, Epoch(1), 200_000).await;
        let mut writer = match begun {
            Ok(writer) => writer,
            Err(error) => break error,
        };
        for (cell, crc) in cells_of(&bytes) {
            writer.push_cell(cell, crc).await.expect("there was room");
        }
        writer
            .finish(*blake3::hash(&bytes).as_bytes())
            .await
            .expect("stored");
        stored += 1;
        assert!(stored < 1000, "64 MiB can't hold it");
    };
    assert!(matches!(full, StoreError::Full { .. }), "{full}");
    let free = disk.space().await.expect("space").free;
    assert!(
        free + (1 << 20) >= reserve,
        "the reserve was eaten: {free} left"
    );
    for blob in 0..stored {
        disk.delete(&[shard(1, blob)]).await.expect("deletes work");
    }
    let again = async {
        while disk.begin(shard(2, 0), Epoch(1), 200_000).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let deadline = std::time::Duration::from_secs(60);
    tokio::time::timeout(deadline, again)
        .await
        .expect("room again");
    disk.stop().await;
}
