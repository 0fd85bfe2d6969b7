//! Loads one metadata member with many objects and measures it: the real log, the real state
//! machine, the engine under test. `docs/decisions/metadata-engine.md` says what came out.
//!
//! ```text
//! cargo run --release -p megalith-metadata --example meta_bench -- load fjall 1000000 /tmp/bench
//! cargo run --release -p megalith-metadata --example meta_bench -- use  fjall 1000000 /tmp/bench
//! ```
//!
//! `load` makes the directory, writes the objects (a thousand proposals on their way at any time),
//! and kills itself with SIGKILL. `use` opens what is left and measures reads, also beside a scan
//! of all names, listings, and writes while a snapshot streams. `make` adds 16,000 objects of 64
//! parts; `delete` deletes them all, works off what that leaves, and kills itself; `replay` opens
//! what is left, which applies all that again.

mod objects;
mod timings;
mod videos;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use megalith_disk::RealFs;
use megalith_metadata::engine::{DiskEngines, EngineKind, EngineSettings};
use megalith_metadata::log::LogIdentity;
use megalith_metadata::transport::{SnapshotPieces, Transport};
use megalith_metadata::{
    AddressBook, MetaHandle, MetaParts, MetaSettings, MetaStore, SourceSettings, start,
};
use megalith_model::ids::{ClusterId, GroupId, NodeId};
use megalith_model::query::Reply;
use megalith_model::question;
use megalith_proto::v1;
use objects::Objects;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use timings::{Timings, apply_times, resident_bytes, resident_bytes_max};
use tonic::Status;
use videos::Videos;

const IN_FLIGHT: usize = 1_000;
const GETS: u64 = 5_000;
/// Objects of many parts, and how far behind the others their blobs' numbers are.
const VIDEOS: u64 = 16_000;
const VIDEOS_BEHIND: u64 = 1_500_000;
const CACHE_BYTES: u64 = 256 << 20;
/// A peak of ten times the daily mean of five million objects.
const PEAK_PER_SECOND: u32 = 580;

type Failed = Box<dyn std::error::Error + Send + Sync>;
/// Bytes and rows of a snapshot and how long its stream took.
type Streamed = Result<(u64, u64, Duration), Failed>;

/// A transport that reaches no peer.
struct Alone;

impl Transport for Alone {
    fn send(&self, _message: v1::RaftMessage) -> bool {
        false
    }

    fn snapshot(
        &self,
        _peer: NodeId,
        _request: v1::SnapshotRequest,
    ) -> BoxFuture<'static, Result<SnapshotPieces, Status>> {
        async { Err(Status::unavailable("there is nobody")) }.boxed()
    }

    fn knock(
        &self,
        _peer: NodeId,
        _request: v1::KnockRequest,
    ) -> BoxFuture<'static, Result<v1::KnockReply, Status>> {
        async { Err(Status::unavailable("there is nobody")) }.boxed()
    }
}

struct Arguments {
    phase: String,
    kind: EngineKind,
    objects: u64,
    dir: PathBuf,
}

impl Arguments {
    fn parse() -> Option<Self> {
        let mut words = std::env::args().skip(1);
        let phase = words.next()?;
        let kind = match words.next()?.as_str() {
            "fjall" => EngineKind::Fjall,
            "sled" => EngineKind::Sled,
            _unknown => return None,
        };
        let objects = words.next()?.parse().ok()?;
        let dir = words.next()?.into();
        Some(Self {
            phase,
            kind,
            objects,
            dir,
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let Some(arguments) = Arguments::parse() else {
        return Err(
            "usage: meta_bench load|use|make|delete|replay fjall|sled OBJECTS DIRECTORY".into(),
        );
    };
    timings::install();
    match arguments.phase.as_str() {
        "load" => load(&arguments).await,
        "use" => measure(&arguments).await,
        "make" => make(&arguments).await,
        "delete" => delete(&arguments).await,
        "replay" => replay(&arguments).await,
        _unknown => Err("the phases are load, use, make, delete and replay".into()),
    }
}

fn identity() -> LogIdentity {
    LogIdentity {
        cluster: ClusterId([7; 16]),
        member: NodeId(1),
        group: GroupId(0),
        incarnation: 0,
    }
}

fn open(arguments: &Arguments) -> Result<MetaHandle, Failed> {
    let engine = EngineSettings {
        kind: arguments.kind,
        cache_bytes: CACHE_BYTES,
        ..EngineSettings::default()
    };
    let parts = MetaParts {
        fs: Arc::new(RealFs),
        dir: arguments.dir.clone(),
        identity: identity(),
        engines: Arc::new(DiskEngines::new(arguments.dir.join("state"), engine)),
        transport: Arc::new(Alone),
        addresses: Arc::new(AddressBook::new(NodeId(1), BTreeMap::new())),
        clock: Arc::new(|| objects::CLOCK_MS.load(Ordering::Relaxed)),
        runtime: tokio::runtime::Handle::current(),
        on_failure: Arc::new(|failure| {
            eprintln!("{failure:?}");
            #[expect(
                clippy::disallowed_methods,
                reason = "a benchmark that has failed has nothing to flush"
            )]
            std::process::exit(1);
        }),
    };
    let settings = MetaSettings {
        source: SourceSettings::default(),
        ..MetaSettings::default()
    };
    Ok(start(parts, &settings)?)
}

async fn load(arguments: &Arguments) -> Result<(), Failed> {
    std::fs::create_dir_all(arguments.dir.join("state"))?;
    MetaStore::init(Arc::new(RealFs), &arguments.dir, identity(), &[NodeId(1)])?;
    let handle = open(arguments)?;
    handle.leader_changes().wait_for(|role| role.leads).await?;
    let objects = Objects::prepare(&handle, arguments.objects).await?;
    let (begun, tenth) = (Instant::now(), (arguments.objects / 10).max(1));
    let mut puts = stream::iter(0..arguments.objects)
        .map(|number| objects.put(&handle, number))
        .buffered(IN_FLIGHT);
    let (mut done, mut last) = (0_u64, Instant::now());
    while let Some(result) = puts.next().await {
        result?;
        done += 1;
        if done.is_multiple_of(tenth) {
            let rate = tenth as f64 / last.elapsed().as_secs_f64();
            last = Instant::now();
            println!(
                "{done:>9} objects, {rate:>7.0}/s, resident {} MiB, disk {} MiB",
                resident_bytes() >> 20,
                disk_bytes(&arguments.dir.join("state")) >> 20
            );
        }
    }
    println!(
        "loaded {done} in {:.1} s; resident max {} MiB; state {} MiB, log {} MiB; apply {}",
        begun.elapsed().as_secs_f64(),
        resident_bytes_max() >> 20,
        disk_bytes(&arguments.dir.join("state")) >> 20,
        disk_bytes(&arguments.dir.join("log")) >> 20,
        apply_times(),
    );
    die()
}

/// Ends as by a crash.
fn die() -> Result<(), Failed> {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    Ok(())
}

/// Opens what a killed process left, and waits until the end of the log is applied again.
async fn reopen(arguments: &Arguments) -> Result<(MetaHandle, Objects), Failed> {
    let begun = Instant::now();
    let handle = open(arguments)?;
    let opened = begun.elapsed();
    handle.leader_changes().wait_for(|role| role.leads).await?;
    let objects = Objects::found();
    while let Err(error) = objects.get(&handle, 0).await {
        if begun.elapsed() > Duration::from_secs(300) {
            return Err(error);
        }
    }
    println!(
        "opened in {:.2} s, first answer after {:.2} s; resident {} MiB, max {} MiB; state {} MiB",
        opened.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        resident_bytes() >> 20,
        resident_bytes_max() >> 20,
        disk_bytes(&arguments.dir.join("state")) >> 20
    );
    Ok((handle, objects))
}

fn videos(arguments: &Arguments, objects: Objects) -> Videos {
    Videos {
        objects,
        first: arguments.objects + VIDEOS_BEHIND,
        count: VIDEOS,
    }
}

async fn make(arguments: &Arguments) -> Result<(), Failed> {
    let (handle, objects) = reopen(arguments).await?;
    videos(arguments, objects).make(&handle).await?;
    handle.stop().await;
    Ok(())
}

async fn delete(arguments: &Arguments) -> Result<(), Failed> {
    let (handle, objects) = reopen(arguments).await?;
    apply_times();
    let videos = videos(arguments, objects);
    videos.delete(&handle).await?;
    let begun = Instant::now();
    let pieces = videos.work_off(&handle).await?;
    println!(
        "{pieces} pieces worked off in {:.1} s; apply {}",
        begun.elapsed().as_secs_f64(),
        apply_times()
    );
    die()
}

async fn replay(arguments: &Arguments) -> Result<(), Failed> {
    let (handle, _objects) = reopen(arguments).await?;
    println!("applied again: {}", apply_times());
    handle.stop().await;
    println!("resident max {} MiB", resident_bytes_max() >> 20);
    Ok(())
}

async fn measure(arguments: &Arguments) -> Result<(), Failed> {
    let (handle, objects) = reopen(arguments).await?;
    gets(&handle, &objects, arguments.objects, "alone").await?;
    let ended = Arc::new(AtomicBool::new(false));
    let scan = tokio::spawn(scan(handle.clone(), objects.clone(), ended.clone()));
    gets(&handle, &objects, arguments.objects, "beside a scan").await?;
    ended.store(true, Ordering::Relaxed);
    println!("the scan saw {} names", scan.await??);
    lists(&handle, &objects).await?;
    let alone = writes(&handle, &objects, arguments.objects, None).await?;
    println!(
        "writes at {PEAK_PER_SECOND}/s alone: answer {alone}; apply {}",
        apply_times()
    );
    let next = arguments.objects + u64::from(PEAK_PER_SECOND) * 60;
    let snapshot = tokio::spawn(snapshot(handle.clone()));
    let beside = writes(&handle, &objects, next, Some(&snapshot)).await?;
    let (bytes, rows, took) = snapshot.await??;
    println!(
        "snapshot: {rows} rows, {} MiB in {:.1} s ({:.0} MiB/s)",
        bytes >> 20,
        took.as_secs_f64(),
        (bytes >> 20) as f64 / took.as_secs_f64()
    );
    println!(
        "writes at {PEAK_PER_SECOND}/s beside it: answer {beside}; apply {}",
        apply_times()
    );
    println!(
        "resident {} MiB, max {} MiB",
        resident_bytes() >> 20,
        resident_bytes_max() >> 20
    );
    handle.stop().await;
    Ok(())
}

async fn gets(handle: &MetaHandle, objects: &Objects, count: u64, how: &str) -> Result<(), Failed> {
    let mut timings = Timings::default();
    for turn in 0..GETS {
        // Others each time, so that none are in memory because they were read before.
        let number = objects::mixed(turn ^ (how.len() as u64) << 32) % count;
        let begun = Instant::now();
        objects.get(handle, number).await?;
        timings.add(begun.elapsed());
    }
    println!("get {how}: {timings}");
    Ok(())
}

/// Lists all names over and over until it is told to end; returns how many it saw.
async fn scan(handle: MetaHandle, objects: Objects, ended: Arc<AtomicBool>) -> Result<u64, Failed> {
    let (mut seen, mut after) = (0, Vec::new());
    while !ended.load(Ordering::Relaxed) {
        let page = page(&handle, &objects, after).await?;
        seen += page.len() as u64;
        after = page.last().cloned().unwrap_or_default();
    }
    Ok(seen)
}

/// The next thousand names.
async fn page(
    handle: &MetaHandle,
    objects: &Objects,
    after: Vec<u8>,
) -> Result<Vec<Vec<u8>>, Failed> {
    let query = question::List {
        bucket: objects.bucket(),
        prefix: Vec::new(),
        delimiter: Vec::new(),
        after,
        max: 1_000,
    };
    match handle.query(query.into()).await? {
        Reply::Listing(page) => Ok(page
            .entries
            .into_iter()
            .map(|(name, _version)| name)
            .collect()),
        other => Err(format!("another reply: {other:?}").into()),
    }
}

async fn lists(handle: &MetaHandle, objects: &Objects) -> Result<(), Failed> {
    let mut timings = Timings::default();
    for turn in 0..200_u64 {
        let begun = Instant::now();
        let page = page(handle, objects, objects::key(objects::mixed(turn))).await?;
        timings.add(begun.elapsed());
        if page.is_empty() {
            return Err("an empty page".into());
        }
    }
    println!("list of 1,000: {timings}");
    Ok(())
}

/// Writes at the peak's rate for half a minute, or while `beside` runs; returns the times from
/// proposal to answer.
async fn writes(
    handle: &MetaHandle,
    objects: &Objects,
    first: u64,
    beside: Option<&tokio::task::JoinHandle<Streamed>>,
) -> Result<Timings, Failed> {
    apply_times();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PEAK_PER_SECOND);
    let mut running = tokio::task::JoinSet::new();
    let mut timings = Timings::default();
    let begun = Instant::now();
    for number in first.. {
        tick.tick().await;
        let (handle, objects) = (handle.clone(), objects.clone());
        running.spawn(async move {
            let begun = Instant::now();
            objects.put(&handle, number).await.map(|()| begun.elapsed())
        });
        while let Some(done) = running.try_join_next() {
            timings.add(done??);
        }
        let over = beside.map_or(begun.elapsed() > Duration::from_secs(30), |task| {
            task.is_finished()
        });
        if over {
            break;
        }
    }
    while let Some(done) = running.join_next().await {
        timings.add(done??);
    }
    Ok(timings)
}

async fn snapshot(handle: MetaHandle) -> Streamed {
    let begun = Instant::now();
    let mut pieces = handle.export(v1::SnapshotRequest::default()).await??;
    let (mut bytes, mut rows) = (0, 0);
    while let Some(piece) = pieces.recv().await {
        let piece = piece?;
        rows += piece.rows.len() as u64;
        bytes += piece
            .rows
            .iter()
            .map(|row| (row.key.len() + row.value.len()) as u64)
            .sum::<u64>();
    }
    Ok((bytes, rows, begun.elapsed()))
}

fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_gone) => 0,
    };
    entries.flatten().map(of).sum()
}
