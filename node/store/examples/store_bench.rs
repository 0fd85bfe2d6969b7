//! Appends per second of the shard store beside plain write-and-sync on the same directory.
//!
//! ```text
//! cargo run --release -p megalith-store --example store_bench -- [directory] [seconds] [volumes]
//! ```
//!
//! For 1, 8 and 64 writers, and shards of 8 KiB and 1 MiB that go to so many volumes in turn, it
//! prints the store's rate, the rate of one thread that does `pwrite` + `fdatasync` per shard, and
//! their ratio. With more writers than one the store should be well above 1: commits are shared.

use bytes::Bytes;
use megalith_disk::{FileSystem, RealFs};
use megalith_model::ids::{BlobId, ClusterId, DiskId, Epoch, VolumeId};
use megalith_model::shard::ShardId;
use megalith_store::{CELL_LEN, DiskHandle, StoreError, StoreSettings, Superblock, crc32c};
use std::error::Error;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLUSTER: ClusterId = ClusterId([1; 16]);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let base = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let time = Duration::from_secs(seconds);
    let volumes = arguments.next().map_or(Ok(1), |text| text.parse())?;
    println!("writers     size    appends/s     MiB/s  per commit   raw/s  ratio");
    for len in [8 << 10, 1 << 20] {
        let raw = raw_rate(&base, len, time)?;
        for writers in [1, 8, 64] {
            let (rate, shared) = store_rate(&base, len, writers, volumes, time).await?;
            let mib = rate * len as f64 / f64::from(1 << 20);
            let (kib, ratio) = (len >> 10, rate / raw);
            println!(
                "{writers:>7} {kib:>4} KiB {rate:>12.0} {mib:>9.1} {shared:>11.1} {raw:>7.0} \
                 {ratio:>6.2}"
            );
        }
    }
    Ok(())
}

/// Writes and syncs one after the other; returns how many a second.
fn raw_rate(base: &Path, len: usize, time: Duration) -> Result<f64, Box<dyn Error>> {
    let dir = tempfile::tempdir_in(base)?;
    let file = RealFs.create(&dir.path().join("raw"))?;
    let bytes = vec![0x5a; len];
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < time {
        let offset = count * len as u64;
        if offset.is_multiple_of(64 << 20) {
            file.preallocate(offset, 64 << 20)?;
        }
        file.write_at(&[IoSlice::new(&bytes)], offset)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Lets `writers` write shards, each the next when the last is acknowledged. Returns shards a
/// second and requests per commit.
async fn store_rate(
    base: &Path,
    len: usize,
    writers: u64,
    volumes: u64,
    time: Duration,
) -> Result<(f64, f64), Box<dyn Error>> {
    let dir = tempfile::tempdir_in(base)?;
    let superblock = Superblock::new(CLUSTER, DiskId([2; 16]), 0, [5; 32]);
    DiskHandle::format(&RealFs, dir.path(), &superblock)?;
    let settings = StoreSettings::default();
    let disk = DiskHandle::open(Arc::new(RealFs), dir.path(), CLUSTER, None, settings)?;
    let body = Bytes::from(vec![0x5a; len]);
    let (next, begun) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..writers {
        let (disk, body, next) = (disk.clone(), body.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            while begun.elapsed() < time {
                let blob = next.fetch_add(1, Ordering::Relaxed);
                put(&disk, VolumeId(1 + blob % volumes), blob, &body).await?;
            }
            Ok::<(), StoreError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let rate = next.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    let counts = disk.commit_counts();
    disk.stop().await;
    Ok((rate, counts.requests as f64 / counts.commits.max(1) as f64))
}

async fn put(
    disk: &DiskHandle,
    volume: VolumeId,
    blob: u64,
    body: &Bytes,
) -> Result<(), StoreError> {
    let shard = ShardId {
        volume,
        blob: BlobId(blob),
        segment: 0,
        slot: 0,
    };
    let mut writer = disk.begin(shard, Epoch(1), body.len() as u64).await?;
    for at in (0..body.len()).step_by(CELL_LEN) {
        let cell = body.slice(at..body.len().min(at + CELL_LEN));
        let crc = crc32c(&cell);
        writer.push_cell(cell, crc).await?;
    }
    writer.finish(*blake3::hash(body).as_bytes()).await?;
    Ok(())
}
