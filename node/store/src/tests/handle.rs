//! The asynchronous face, its threads, and the machine's own file system.

use super::{CLUSTER, DISK, cells_of, content, settings, shard};
use crate::DiskHandle;
use crate::error::StoreError;
use crate::record::CELL_LEN;
use crate::settings::StoreSettings;
use crate::superblock::Superblock;
use bytes::Bytes;
use megalith_disk::sim::{SimFs, SimOp};
use megalith_disk::{FileSystem, RealFs};
use megalith_model::ids::{BlobId, Epoch, VolumeId};
use megalith_model::shard::{Receipt, ShardId};
use std::path::Path;
use std::sync::Arc;

fn open(root: &Path, settings: StoreSettings) -> Result<DiskHandle, StoreError> {
    DiskHandle::open(Arc::new(RealFs), root, CLUSTER, Some(DISK), settings)
}

fn fresh(settings: StoreSettings) -> (tempfile::TempDir, DiskHandle) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let superblock = Superblock::new(CLUSTER, DISK, 1, [5; 32]);
    DiskHandle::format(&RealFs, dir.path(), &superblock).expect("format");
    let disk = open(dir.path(), settings).expect("open");
    (dir, disk)
}

async fn put(disk: &DiskHandle, shard: ShardId, bytes: &Bytes) -> Result<Receipt, StoreError> {
    let mut writer = disk.begin(shard, Epoch(1), bytes.len() as u64).await?;
    for (cell, crc) in cells_of(bytes) {
        writer.push_cell(cell, crc).await?;
    }
    writer.finish(*blake3::hash(bytes).as_bytes()).await
}

async fn get(disk: &DiskHandle, shard: ShardId) -> Result<Bytes, StoreError> {
    let cells = disk.read(shard, 0, u64::MAX).await?;
    let slices: Vec<&[u8]> = cells.iter().map(|(bytes, _)| bytes.as_ref()).collect();
    Ok(slices.concat().into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_live_through_a_stop_on_a_real_file_system() {
    let settings = StoreSettings {
        reserve: 0,
        ..settings()
    };
    let (dir, disk) = fresh(settings.clone());
    let lens = [1, 5000, CELL_LEN, CELL_LEN + 1, 2 * CELL_LEN, 700_000];
    for (blob, len) in (0..).zip(lens) {
        let shard = shard(3, blob);
        let bytes = content(shard, 0, len);
        let receipt = put(&disk, shard, &bytes).await.expect("stored");
        assert_eq!(receipt.len, len as u64);
        assert_eq!(put(&disk, shard, &bytes).await.expect("again"), receipt);
    }
    disk.delete(&[shard(3, 1), shard(3, 77)])
        .await
        .expect("deleted");
    assert_eq!(
        disk.fence(VolumeId(3), Epoch(2)).await.expect("fenced"),
        Epoch(2)
    );
    let locked = open(dir.path(), settings.clone()).map(|_| ());
    assert!(matches!(locked, Err(StoreError::Locked { .. })));
    disk.stop().await;
    assert!(matches!(
        get(&disk, shard(3, 0)).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(
        disk.delete(&[shard(3, 0)]).await,
        Err(StoreError::Closed)
    ));

    let disk = open(dir.path(), settings).expect("open again");
    assert_eq!(disk.volumes(), [(VolumeId(3), Epoch(2))]);
    for (blob, len) in (0..).zip(lens) {
        let shard = shard(3, blob);
        match get(&disk, shard).await {
            Ok(bytes) => assert_eq!(bytes, content(shard, 0, len)),
            Err(error) => assert!(blob == 1, "{error}"),
        }
    }
    let listed = disk
        .list(VolumeId(3), Some((BlobId(0), 0)), 3)
        .await
        .expect("list");
    let blobs: Vec<u64> = listed.iter().map(|stat| stat.shard.blob.0).collect();
    assert_eq!(blobs, [2, 3, 4]);
    let refused = disk.begin(shard(3, 9), Epoch(1), 10).await.map(|_| ());
    assert!(matches!(
        refused,
        Err(StoreError::StaleEpoch { current: Epoch(2) })
    ));
    let space = disk.space().await.expect("space");
    assert!(space.capacity > space.free && space.free > 0);
    assert_eq!(disk.health(), crate::DiskHealth::default());
    disk.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_commits() {
    let (_dir, disk) = fresh(StoreSettings {
        reserve: 0,
        ..settings()
    });
    let mut tasks = tokio::task::JoinSet::new();
    for blob in 0..64 {
        let disk = disk.clone();
        tasks.spawn(async move {
            for round in 0..4 {
                let shard = shard(1, blob * 4 + round);
                put(&disk, shard, &content(shard, 0, 3000))
                    .await
                    .expect("stored");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    let counts = disk.commit_counts();
    assert!(counts.commits < counts.requests, "{counts:?}");
    assert_eq!(
        disk.list(VolumeId(1), None, 1000)
            .await
            .expect("list")
            .len(),
        256
    );
    disk.stop().await;
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_leave_no_trace() {
    let (_dir, disk) = fresh(StoreSettings {
        reserve: 0,
        ..settings()
    });
    let target = shard(1, 1);
    let bytes = content(target, 0, 200_000);
    let cells = cells_of(&bytes);
    let mut writer = disk.begin(target, Epoch(1), 200_000).await.expect("begun");
    let (cell, crc) = cells[0].clone();
    let refused = writer.push_cell(cell.clone(), crc ^ 1).await;
    assert!(matches!(refused, Err(StoreError::ChecksumMismatch { .. })));
    drop(writer);

    let mut writer = disk.begin(target, Epoch(1), 200_000).await.expect("begun");
    let short = writer
        .push_cell(cell.slice(..100), crc32(&cell[..100]))
        .await;
    assert!(matches!(short, Err(StoreError::Malformed { .. })));
    drop(writer);

    let mut writer = disk.begin(target, Epoch(1), 200_000).await.expect("begun");
    for (cell, crc) in cells.clone() {
        writer.push_cell(cell, crc).await.expect("taken");
    }
    let refused = writer.finish([0; 32]).await;
    assert!(matches!(refused, Err(StoreError::ChecksumMismatch { .. })));

    let mut writer = disk.begin(target, Epoch(1), 200_000).await.expect("begun");
    for (cell, crc) in cells.into_iter().take(3) {
        writer.push_cell(cell, crc).await.expect("taken");
    }
    let early = writer.finish(*blake3::hash(&bytes).as_bytes()).await;
    assert!(matches!(early, Err(StoreError::Malformed { .. })));

    assert_eq!(disk.stat(target).await.expect("stat"), None);
    put(&disk, target, &bytes).await.expect("stored after all");
    assert_eq!(get(&disk, target).await.expect("read"), bytes);
    disk.stop().await;
}

fn crc32(bytes: &[u8]) -> u32 {
    crate::crc32c(bytes)
}

#[tokio::test]
async fn begin_refuses_what_can_not_end_well() {
    let space = RealFs.space(Path::new("/")).expect("space");
    let (_dir, disk) = fresh(StoreSettings {
        reserve: space.capacity,
        ..settings()
    });
    let full = disk.begin(shard(1, 1), Epoch(1), 10).await.map(|_| ());
    assert!(matches!(full, Err(StoreError::Full { .. })));
    disk.stop().await;
    let (_dir, disk) = fresh(StoreSettings {
        reserve: 0,
        ..settings()
    });
    let empty = disk.begin(shard(1, 1), Epoch(1), 0).await.map(|_| ());
    assert!(matches!(empty, Err(StoreError::Malformed { .. })));
    put(&disk, shard(1, 1), &Bytes::from_static(b"one"))
        .await
        .expect("stored");
    let longer = disk.begin(shard(1, 1), Epoch(1), 10).await.map(|_| ());
    assert!(matches!(longer, Err(StoreError::Conflict { .. })));
    let other = put(&disk, shard(1, 1), &Bytes::from_static(b"two")).await;
    assert!(matches!(other, Err(StoreError::Conflict { .. })));
    disk.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_sync_holds_back_its_promises_and_nothing_else() {
    let (fs, root) = (SimFs::new(256 << 20), Path::new("/disk"));
    fs.create_dir(root).expect("create");
    let superblock = Superblock::new(CLUSTER, DISK, 1, [5; 32]);
    DiskHandle::format(&fs, root, &superblock).expect("format");
    let settings = StoreSettings {
        reserve: 0,
        ..settings()
    };
    let shared = Arc::new(fs.clone());
    let disk = DiskHandle::open(shared, root, CLUSTER, Some(DISK), settings).expect("open");
    let (early, late) = (shard(1, 1), shard(1, 2));
    let bytes = content(early, 0, 100_000);
    put(&disk, early, &bytes).await.expect("stored");

    let hold = fs.hold(SimOp::Sync, ".chunk");
    let (own, more) = (disk.clone(), content(late, 0, 5000));
    let writing = tokio::spawn(async move { put(&own, late, &more).await });
    let began = std::time::Instant::now();
    while hold.waiting() == 0 {
        assert!(began.elapsed().as_secs() < 20, "it never syncs");
        tokio::task::yield_now().await;
    }
    for _ in 0..50 {
        assert_eq!(get(&disk, early).await.expect("read"), bytes);
    }
    assert!(!writing.is_finished(), "promised before its sync");
    drop(hold);
    writing.await.expect("no panic").expect("stored");
    assert_eq!(get(&disk, late).await.expect("read").len(), 5000);
}
