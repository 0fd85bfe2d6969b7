//! The asynchronous face of a disk: what the data port and the control RPCs call.

use super::catalog::Catalog;
use super::error::StoreError;
use super::health::DiskHealth;
use super::op::{Done, Op};
use super::pace::DiskPace;
use super::pool::ReadPool;
use super::record::Cell;
use super::recover;
use super::scrub::worker::{ScrubMail, Scrubber, SharedStatus};
use super::scrub::{self, ScrubStatus};
use super::settings::StoreSettings;
use super::stream::{NewShard, ShardWriter};
use super::superblock::{FoundSuperblock, Superblock};
use super::trash::Trash;
use super::worker::{CommitCounters, Mail, Request, run};
use megalith_disk::FileSystem;
use megalith_model::ids::{BlobId, ClusterId, DiskId, Epoch, VolumeId};
use megalith_model::shard::{ShardId, ShardStat};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, oneshot};

/// An open disk. Cheap to clone. When the last clone goes, the disk closes by itself.
#[derive(Clone)]
pub struct DiskHandle {
    inner: Arc<Inner>,
}

struct Inner {
    catalog: Arc<Catalog>,
    mailbox: Mutex<Sender<Mail>>,
    /// Bytes that may yet go into the queue.
    queue: Arc<Semaphore>,
    queue_bytes: u32,
    reads: ReadPool,
    streams: AtomicU64,
    counters: Arc<CommitCounters>,
    joins: Mutex<Vec<JoinHandle<()>>>,
    scrub: Mutex<Scrub>,
    scrub_status: SharedStatus,
}

/// The disk's scrub.
enum Scrub {
    Waiting(Box<Scrubber>),
    /// It has a thread.
    Running(Sender<ScrubMail>),
    /// The disk was stopped before it was started.
    Over,
}

/// Sizes of a disk in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// The whole file system.
    pub capacity: u64,
    /// What is used, by whomever.
    pub used: u64,
    /// What may still be used.
    pub free: u64,
    /// The part of `free` that shards may not use.
    pub reserve: u64,
}

/// How many requests shared how many commits since the opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitCounts {
    pub commits: u64,
    pub requests: u64,
}

impl DiskHandle {
    /// Makes an empty, existing directory a disk. Refuses one that holds anything else.
    pub fn format(
        fs: &dyn FileSystem,
        root: &Path,
        superblock: &Superblock,
    ) -> Result<(), StoreError> {
        recover::format(fs, root, superblock)
    }

    /// Reads who the disk at `root` is, without opening it or changing anything.
    pub fn identify(fs: &dyn FileSystem, root: &Path) -> Result<Superblock, StoreError> {
        Ok(FoundSuperblock::read(fs, root)?.superblock)
    }

    /// Opens a disk of `cluster` (and, if told, exactly `disk`), recovers it and starts its
    /// threads. Blocks for as long as the recovery takes: the scan of files not finished.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        root: &Path,
        cluster: ClusterId,
        disk: Option<DiskId>,
        settings: StoreSettings,
    ) -> Result<Self, StoreError> {
        let spawn_failed = |error| StoreError::io("start the threads of", root, error);
        let (queue_bytes, threads) = (settings.queue_bytes, settings.reader_threads);
        let waiting_max = settings.reads_waiting_max;
        let core = recover::open(fs, root, cluster, disk, settings)?;
        let catalog = Arc::clone(&core.catalog);
        let scrubber = Scrubber::open(Arc::clone(&catalog));
        let (reads, mut joins) = ReadPool::start(threads, waiting_max).map_err(spawn_failed)?;
        let (mailbox, mail) = channel();
        let counters = Arc::new(CommitCounters::default());
        let thread_counters = Arc::clone(&counters);
        let writer = std::thread::Builder::new().name("store-write".to_owned());
        let writer = writer.spawn(move || run(core, &mail, &thread_counters));
        joins.push(writer.map_err(spawn_failed)?);
        let inner = Inner {
            catalog,
            mailbox: Mutex::new(mailbox),
            queue: Arc::new(Semaphore::new(queue_bytes as usize)),
            queue_bytes,
            reads,
            streams: AtomicU64::new(1),
            counters,
            joins: Mutex::new(joins),
            scrub_status: scrubber.status(),
            scrub: Mutex::new(Scrub::Waiting(Box::new(scrubber))),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Returns who the disk is.
    #[must_use]
    pub fn superblock(&self) -> &Superblock {
        &self.inner.catalog.superblock
    }

    /// Begins to write a shard of `total_len` bytes. Fails at once if the end is known:
    /// `StaleEpoch`, `Full`, `ReadOnly`, `Conflict` (another length is stored already).
    pub async fn begin(
        &self,
        shard: ShardId,
        epoch: Epoch,
        total_len: u64,
    ) -> Result<ShardWriter, StoreError> {
        let catalog = Arc::clone(&self.inner.catalog);
        let before = self
            .inner
            .reads
            .run(move || admit(&catalog, shard, epoch, total_len))
            .await?;
        let stream = self.inner.streams.fetch_add(1, Ordering::Relaxed);
        let record_cells = self.inner.catalog.settings.record_cells;
        let new = NewShard {
            shard,
            epoch,
            total_len,
        };
        ShardWriter::new(self.clone(), stream, new, record_cells, before)
    }

    /// Reads up to `count` cells from number `first_cell` on, checked, each with its crc32c.
    /// `Damaged` names the first cell that is not as it was written.
    pub async fn read(
        &self,
        shard: ShardId,
        first_cell: u64,
        count: u64,
    ) -> Result<Vec<Cell>, StoreError> {
        let catalog = Arc::clone(&self.inner.catalog);
        catalog.traffic.fetch_add(1, Ordering::Relaxed);
        self.inner
            .reads
            .run(move || catalog.read(shard, first_cell, count))
            .await
    }

    /// Says what is stored under a name, without reading it; None for nothing.
    pub async fn stat(&self, shard: ShardId) -> Result<Option<ShardStat>, StoreError> {
        let catalog = Arc::clone(&self.inner.catalog);
        self.inner.reads.run(move || catalog.stat(shard)).await
    }

    /// Lists shards of a volume in order, from behind a blob and segment. At most `max`, or a few
    /// more, as slots of one segment are not parted. Empty at the end.
    pub async fn list(
        &self,
        volume: VolumeId,
        after: Option<(BlobId, u32)>,
        max: usize,
    ) -> Result<Vec<ShardStat>, StoreError> {
        let catalog = Arc::clone(&self.inner.catalog);
        self.inner
            .reads
            .run(move || catalog.list(volume, after, max))
            .await
    }

    /// Deletes shards, durably; those that are not there count as deleted. Works on a full disk.
    pub async fn delete(&self, shards: &[ShardId]) -> Result<(), StoreError> {
        self.request(Op::Delete {
            shards: shards.to_vec(),
        })
        .await
        .map(|_| ())
    }

    // For repair.
    /// Raises a volume's epoch, durably, and returns the one it is at: lower ones are refused
    /// from then on.
    pub async fn fence(&self, volume: VolumeId, epoch: Epoch) -> Result<Epoch, StoreError> {
        match self.request(Op::Fence { volume, epoch }).await? {
            Done::Fenced(epoch) => Ok(epoch),
            done => unreachable!("a fence was answered by {done:?}"),
        }
    }

    /// Returns what is in the trash.
    #[must_use]
    pub fn trash(&self) -> Arc<Trash> {
        self.inner.catalog.trash.read()
    }

    /// Replaces the list of what is in the trash, durably; at most [`crate::TRASH_MAX`] shards of
    /// it are remembered. What is listed lies where it lay and answers reads.
    pub async fn set_trash(&self, trash: Trash) -> Result<(), StoreError> {
        let catalog = Arc::clone(&self.inner.catalog);
        let write = move || {
            catalog.verify_home()?;
            let (path, disk) = (catalog.paths.trash(), catalog.superblock.disk);
            let written = catalog
                .trash
                .replace(catalog.fs.as_ref(), &path, disk, trash);
            written.map_err(|error| StoreError::io("write", &path, error))
        };
        self.inner.reads.run(write).await
    }

    /// Returns the volumes that the disk has a chunk of, with the epoch each is at.
    #[must_use]
    pub fn volumes(&self) -> Vec<(VolumeId, Epoch)> {
        let volumes = self.inner.catalog.volumes();
        volumes
            .into_iter()
            .map(|volume| (volume.id, volume.read().fence))
            .collect()
    }

    /// Measures the disk.
    pub async fn space(&self) -> Result<DiskSpace, StoreError> {
        let catalog = Arc::clone(&self.inner.catalog);
        self.inner.reads.run(move || space(&catalog)).await
    }

    /// Returns the state of health.
    #[must_use]
    pub fn health(&self) -> DiskHealth {
        self.inner.catalog.health.read()
    }

    /// Returns how the writer has been doing lately. Never waits for the disk.
    #[must_use]
    pub fn pace(&self) -> DiskPace {
        self.inner.catalog.pace.read()
    }

    /// Returns all shards known to be damaged, for a report.
    #[must_use]
    pub fn damaged(&self) -> Vec<ShardId> {
        self.inner.catalog.health.damaged()
    }

    /// Returns a number that grows with every change of the damaged shards. It says nothing of an
    /// earlier opening.
    #[must_use]
    pub fn damage_changes(&self) -> u64 {
        self.inner.catalog.health.damage_changes()
    }

    /// Returns the volumes of which shards may be missing without the disk knowing which: a
    /// reconciliation with the metadata tells.
    #[must_use]
    pub fn doubtful(&self) -> Vec<VolumeId> {
        self.inner.catalog.health.doubtful()
    }

    /// Takes a volume off the doubtful ones: it was reconciled.
    pub fn forget_doubt(&self, volume: VolumeId) {
        self.inner.catalog.health.forget_doubt(volume);
    }

    /// Remembers shards as damaged that should be here and are not, to be reported as any other.
    pub fn report_missing(&self, shards: &[ShardId]) {
        for shard in shards {
            self.inner.catalog.health.add_damaged(*shard, 0);
        }
    }

    /// Starts the scrub, once; `clock` says the milliseconds since 1970.
    pub fn start_scrub(&self, clock: Arc<dyn Fn() -> u64 + Send + Sync>) -> Result<(), StoreError> {
        let mut scrub = lock(&self.inner.scrub);
        let Scrub::Waiting(scrubber) = std::mem::replace(&mut *scrub, Scrub::Over) else {
            return Ok(());
        };
        let (mailbox, mail) = channel();
        let writer = lock(&self.inner.mailbox).clone();
        let thread = std::thread::Builder::new().name("store-scrub".to_owned());
        let thread = thread.spawn(move || {
            // Gone only after a stop.
            let wake = || drop(writer.send(Mail::Wake));
            scrub::worker::run(*scrubber, &mail, clock.as_ref(), &wake);
        });
        let root = &self.inner.catalog.paths.root;
        let thread = thread.map_err(|error| StoreError::io("start the scrub of", root, error))?;
        lock(&self.inner.joins).push(thread);
        *scrub = Scrub::Running(mailbox);
        Ok(())
    }

    /// Lets the scrub check the whole disk now, as fast as its rate allows.
    pub fn demand_scrub(&self) -> Result<(), StoreError> {
        match &*lock(&self.inner.scrub) {
            Scrub::Running(mailbox) => mailbox
                .send(ScrubMail::Demand)
                .map_err(|_| StoreError::Closed),
            Scrub::Waiting(_) | Scrub::Over => Err(StoreError::Closed),
        }
    }

    /// Returns how far the scrub is.
    #[must_use]
    pub fn scrub_status(&self) -> ScrubStatus {
        *lock(&self.inner.scrub_status)
    }

    /// Returns how well commits are shared, for measurements.
    #[must_use]
    pub fn commit_counts(&self) -> CommitCounts {
        let counters = &self.inner.counters;
        CommitCounts {
            commits: counters.commits.load(Ordering::Relaxed),
            requests: counters.requests.load(Ordering::Relaxed),
        }
    }

    /// Commits what was asked for, closes the disk and waits for its threads. Later calls answer
    /// `Closed`, on every clone.
    pub async fn stop(&self) {
        self.inner.queue.close();
        if let Scrub::Running(mailbox) =
            std::mem::replace(&mut *lock(&self.inner.scrub), Scrub::Over)
        {
            // Gone only after a stop.
            let _ = mailbox.send(ScrubMail::Stop);
        }
        self.send(Mail::Stop);
        self.inner.reads.stop();
        let joins = std::mem::take(&mut *lock(&self.inner.joins));
        let joined = tokio::task::spawn_blocking(move || {
            joins
                .into_iter()
                .filter_map(|join| join.join().err())
                .count()
        });
        if joined.await.unwrap_or(1) > 0 {
            tracing::error!("a thread of the store ended by a panic");
        }
    }

    pub(super) async fn request(&self, op: Op) -> Result<Done, StoreError> {
        self.submit(op)
            .await?
            .await
            .map_err(|_| StoreError::Closed)?
    }

    /// Queues a request; waits while the queue is full.
    pub(super) async fn submit(
        &self,
        op: Op,
    ) -> Result<oneshot::Receiver<Result<Done, StoreError>>, StoreError> {
        let traffic = &self.inner.catalog.traffic;
        traffic.fetch_add(1, Ordering::Relaxed);
        let weight = u32::try_from(op.weight())
            .unwrap_or(u32::MAX)
            .min(self.inner.queue_bytes);
        let queue = Arc::clone(&self.inner.queue);
        let share = queue
            .acquire_many_owned(weight)
            .await
            .map_err(|_| StoreError::Closed)?;
        let (answer, result) = oneshot::channel();
        self.send(Mail::Request(Request {
            op,
            answer,
            _share: Some(share),
        }));
        Ok(result)
    }

    /// Forgets a stream; never waits.
    pub(super) fn abandon(&self, stream: u64) {
        let (answer, _) = oneshot::channel();
        self.send(Mail::Request(Request {
            op: Op::Abandon { stream },
            answer,
            _share: None,
        }));
    }

    fn send(&self, mail: Mail) {
        // The thread is gone only after a stop: the answer's channel tells.
        let _ = lock(&self.inner.mailbox).send(mail);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn space(catalog: &Catalog) -> Result<DiskSpace, StoreError> {
    catalog.verify_home()?;
    let root = &catalog.paths.root;
    let space = catalog.fs.space(root);
    let space = space.map_err(|error| StoreError::io("measure the disk of", root, error))?;
    Ok(DiskSpace {
        capacity: space.capacity,
        used: space.capacity.saturating_sub(space.free),
        free: space.free,
        reserve: catalog.settings.reserve,
    })
}

/// Refuses a shard whose end is known before its first byte. Returns what is stored already.
fn admit(
    catalog: &Catalog,
    shard: ShardId,
    epoch: Epoch,
    total_len: u64,
) -> Result<Option<ShardStat>, StoreError> {
    if catalog.health.is_read_only() {
        return Err(StoreError::ReadOnly);
    }
    let current = catalog.fence(shard.volume);
    if epoch < current {
        return Err(StoreError::StaleEpoch { current });
    }
    let stored = catalog.stat(shard)?.filter(|stat| !stat.damaged);
    if let Some(stat) = stored.filter(|_| !catalog.is_suspect(shard.volume)) {
        if stat.len != total_len {
            return Err(StoreError::Conflict { shard });
        }
        return Ok(Some(stat));
    }
    let DiskSpace { free, reserve, .. } = space(catalog)?;
    if free < reserve.saturating_add(total_len) {
        return Err(StoreError::Full {
            free,
            reserve,
            needed: total_len,
        });
    }
    Ok(None)
}
