//! What a disk of many volumes that nobody writes to any more costs: time to open it, memory,
//! descriptors.
//!
//! ```text
//! cargo run --release -p megalith-store --example volumes_bench -- fill DIRECTORY [VOLUMES SHARDS]
//! cargo run --release -p megalith-store --example volumes_bench -- finish DIRECTORY
//! cargo run --release -p megalith-store --example volumes_bench -- open DIRECTORY
//! ```
//!
//! `fill` writes so many volumes (200) of so many shards of 8 KiB (4,000) and leaves as if killed,
//! with all files open. `finish` lets them be finished, as they are after ten minutes. `open` opens
//! what is there and says what that cost.

use bytes::Bytes;
use megalith_disk::RealFs;
use megalith_model::ids::{BlobId, ClusterId, DiskId, Epoch, VolumeId};
use megalith_model::shard::ShardId;
use megalith_store::{CELL_LEN, DiskHandle, StoreError, StoreSettings, Superblock, crc32c};
use std::error::Error;
use std::path::Path;
use std::process::abort;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLUSTER: ClusterId = ClusterId([1; 16]);
const SHARD_LEN: usize = 8 << 10;
const WRITERS: u64 = 64;
const FINISHED_WITHIN: Duration = Duration::from_mins(5);

type Failed = Box<dyn Error>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [verb, dir, counts @ ..] = arguments.as_slice() else {
        return Err("which verb, which directory?".into());
    };
    let dir = Path::new(dir);
    match verb.as_str() {
        "fill" => {
            let number = |at: usize, default| counts.get(at).map_or(Ok(default), |n| n.parse());
            fill(dir, number(0, 200)?, number(1, 4_000)?).await
        }
        "finish" => finish(dir).await,
        "open" => open(dir).await,
        _ => Err("fill, finish or open".into()),
    }
}

fn disk(dir: &Path, finish_after: Duration) -> Result<DiskHandle, StoreError> {
    let settings = StoreSettings {
        finish_after,
        ..StoreSettings::default()
    };
    DiskHandle::open(Arc::new(RealFs), dir, CLUSTER, None, settings)
}

async fn fill(dir: &Path, volumes: u64, shards: u64) -> Result<(), Failed> {
    std::fs::create_dir_all(dir)?;
    let superblock = Superblock::new(CLUSTER, DiskId([2; 16]), 0, [5; 32]);
    DiskHandle::format(&RealFs, dir, &superblock)?;
    let disk = disk(dir, Duration::from_hours(24))?;
    for volume in 1..=volumes {
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let disk = disk.clone();
            tasks.spawn(async move {
                for blob in (writer..shards).step_by(WRITERS as usize) {
                    put(&disk, VolumeId(volume), volume * shards + blob).await?;
                }
                Ok::<(), StoreError>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
    }
    println!("{volumes} volumes of {shards} shards written");
    abort()
}

async fn put(disk: &DiskHandle, volume: VolumeId, blob: u64) -> Result<(), StoreError> {
    let shard = ShardId {
        volume,
        blob: BlobId(blob),
        segment: 0,
        slot: 0,
    };
    let body = Bytes::from(vec![blob as u8; SHARD_LEN]);
    let mut writer = disk.begin(shard, Epoch(1), body.len() as u64).await?;
    for at in (0..body.len()).step_by(CELL_LEN) {
        let cell = body.slice(at..body.len().min(at + CELL_LEN));
        let crc = crc32c(&cell);
        writer.push_cell(cell, crc).await?;
    }
    writer.finish(*blake3::hash(&body).as_bytes()).await?;
    Ok(())
}

async fn finish(dir: &Path) -> Result<(), Failed> {
    let begun = Instant::now();
    let disk = disk(dir, Duration::from_secs(1))?;
    while count(dir, "index")? < count(dir, "chunk")? {
        if begun.elapsed() > FINISHED_WITHIN {
            return Err("not all files are finished".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    disk.stop().await;
    Ok(())
}

/// Counts the files of all volumes whose names end so.
fn count(dir: &Path, extension: &str) -> Result<usize, Failed> {
    let mut found = 0;
    for volume in std::fs::read_dir(dir.join("chunks"))? {
        for file in std::fs::read_dir(volume?.path())? {
            found += usize::from(file?.path().extension().is_some_and(|it| it == extension));
        }
    }
    Ok(found)
}

async fn open(dir: &Path) -> Result<(), Failed> {
    let before = resident_kib();
    let begun = Instant::now();
    let disk = disk(dir, Duration::from_hours(24))?;
    let took = begun.elapsed().as_secs_f64();
    let (memory, descriptors) = (resident_kib(), std::fs::read_dir("/proc/self/fd")?.count());
    println!(
        "{} files, {} finished: opened in {took:.2} s, {} MiB more, {descriptors} descriptors",
        count(dir, "chunk")?,
        count(dir, "index")?,
        memory.saturating_sub(before) >> 10,
    );
    drop(disk);
    abort()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}
