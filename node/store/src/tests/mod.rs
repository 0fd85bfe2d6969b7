//! Tests of the whole store on a simulated disk. `Bench` drives the synchronous writer; the cells
//! of a shard follow from its name and version, so that any mix-up shows.

mod crash;
mod damage;
mod faults;
mod golden;
mod guard;
mod handle;
mod hurt;
mod idle;
mod idle_faults;
mod lookups;
mod model;
mod padding;
mod plan;
mod scrub;
mod superblocks;
mod trash;

use super::core::Core;
use super::error::StoreError;
use super::op::{Append, Done, Op};
use super::record::{BLOCK_LEN, CELL_LEN, Cell};
use super::recover;
use super::settings::StoreSettings;
use super::superblock::Superblock;
use bytes::Bytes;
use megalith_disk::crc32c::crc32c;
use megalith_disk::sim::SimFs;
use megalith_model::ids::{BlobId, ClusterId, DiskId, Epoch, VolumeId};
use megalith_model::shard::{Receipt, ShardId};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(super) const CLUSTER: ClusterId = ClusterId([7; 16]);
pub(super) const DISK: DiskId = DiskId([9; 16]);

pub(super) fn root() -> &'static Path {
    Path::new("/disk")
}

pub(super) fn settings() -> StoreSettings {
    StoreSettings {
        file_len_max: 512 << 10,
        grow_min: 64 << 10,
        grow_max: 256 << 10,
        reserve: 256 << 10,
        record_cells: 2,
        tidy_after: 256 << 10,
        files_open_max: 8,
        failed_files_max: 1000,
        ..StoreSettings::default()
    }
}

pub(super) fn shard(volume: u64, blob: u64) -> ShardId {
    ShardId {
        volume: VolumeId(volume),
        blob: BlobId(blob),
        segment: 0,
        slot: 1,
    }
}

/// Bytes of a shard that follow from its name, its version and their place.
pub(super) fn content(shard: ShardId, version: u64, len: usize) -> Bytes {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{shard} {version}").as_bytes());
    let mut bytes = vec![0; len];
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

pub(super) fn cells_of(bytes: &Bytes) -> Vec<Cell> {
    let starts = (0..bytes.len()).step_by(CELL_LEN);
    let cells = starts.map(|at| bytes.slice(at..bytes.len().min(at + CELL_LEN)));
    cells.map(|cell| (cell.clone(), crc32c(&cell))).collect()
}

/// The requests that write a shard.
pub(super) fn appends(
    stream: u64,
    shard: ShardId,
    epoch: Epoch,
    bytes: &Bytes,
    record_cells: u16,
) -> Vec<Op> {
    let cells = cells_of(bytes);
    let records = cells.chunks(record_cells.into());
    let count = records.len();
    let digest = *blake3::hash(bytes).as_bytes();
    let append = |(number, cells): (usize, &[Cell])| {
        Op::Append(Append {
            stream,
            shard,
            epoch,
            first_cell: (number * usize::from(record_cells)) as u32,
            cells: cells.to_vec(),
            last: (number + 1 == count).then_some((bytes.len() as u64, digest)),
        })
    };
    records.enumerate().map(append).collect()
}

/// A simulated disk with the store open on it.
pub(super) struct Bench {
    pub(super) fs: SimFs,
    pub(super) settings: StoreSettings,
    core: Option<Core>,
    stream: u64,
    /// What a clock would say, counted from anywhere.
    now: Duration,
}

impl Bench {
    pub(super) fn new(capacity: u64, settings: StoreSettings) -> Self {
        let fs = SimFs::new(capacity);
        megalith_disk::FileSystem::create_dir(&fs, root()).expect("root");
        megalith_disk::FileSystem::sync_dir(&fs, Path::new("/")).expect("sync");
        let superblock = Superblock::new(CLUSTER, DISK, 1, [5; 32]);
        recover::format(&fs, root(), &superblock).expect("format");
        let mut bench = Self {
            fs,
            settings,
            core: None,
            stream: 0,
            now: Duration::ZERO,
        };
        bench.open().expect("open a fresh disk");
        bench
    }

    pub(super) fn open(&mut self) -> Result<(), StoreError> {
        self.core = None;
        let fs = Arc::new(self.fs.clone());
        let core = recover::open(fs, root(), CLUSTER, Some(DISK), self.settings.clone())?;
        self.core = Some(core);
        Ok(())
    }

    pub(super) fn core(&mut self) -> &mut Core {
        self.core.as_mut().expect("the disk is open")
    }

    /// Ends the process: nothing is closed properly.
    pub(super) fn drop_core(&mut self) {
        self.core = None;
    }

    pub(super) fn crash(&mut self, seed: u64) {
        self.core = None;
        self.fs.crash(seed);
    }

    pub(super) fn reopen(&mut self) {
        self.open().expect("the disk opens again");
    }

    pub(super) fn put_as(
        &mut self,
        shard: ShardId,
        epoch: Epoch,
        bytes: &Bytes,
    ) -> Result<Receipt, StoreError> {
        self.stream += 1;
        let stream = self.stream;
        let ops = appends(stream, shard, epoch, bytes, self.settings.record_cells);
        let answers = self.core().commit(ops);
        self.core().commit(vec![Op::Abandon { stream }]);
        match answers
            .into_iter()
            .next_back()
            .expect("at least one request")?
        {
            Done::Stored(receipt) => Ok(receipt),
            done => panic!("unexpected answer {done:?}"),
        }
    }

    /// Writes shards of one record each in a single commit.
    pub(super) fn put_batch(
        &mut self,
        shards: &[(ShardId, Bytes)],
        epoch: Epoch,
    ) -> Vec<Result<Done, StoreError>> {
        let record_cells = self.settings.record_cells;
        let mut ops = Vec::new();
        for (shard, bytes) in shards {
            self.stream += 1;
            ops.extend(appends(self.stream, *shard, epoch, bytes, record_cells));
        }
        let answers = self.core().commit(ops);
        let streams = self.stream - shards.len() as u64 + 1..=self.stream;
        let abandon = streams.map(|stream| Op::Abandon { stream }).collect();
        self.core().commit(abandon);
        answers
    }

    pub(super) fn put(&mut self, shard: ShardId, bytes: &Bytes) -> Result<Receipt, StoreError> {
        self.put_as(shard, Epoch(1), bytes)
    }

    pub(super) fn delete(&mut self, shards: &[ShardId]) -> Result<(), StoreError> {
        let answers = self.core().commit(vec![Op::Delete {
            shards: shards.to_vec(),
        }]);
        answers.into_iter().next().expect("one answer").map(|_| ())
    }

    pub(super) fn get(&mut self, shard: ShardId) -> Result<Bytes, StoreError> {
        let cells = self.core().catalog.read(shard, 0, u64::MAX)?;
        let slices: Vec<&[u8]> = cells.iter().map(|(bytes, _)| bytes.as_ref()).collect();
        Ok(slices.concat().into())
    }

    /// Writes all of a shard but its last record, and leaves the stream open. Returns the stream.
    pub(super) fn begin(&mut self, shard: ShardId, bytes: &Bytes) -> (u64, Option<StoreError>) {
        self.stream += 1;
        let stream = self.stream;
        let mut ops = appends(stream, shard, Epoch(1), bytes, self.settings.record_cells);
        ops.pop();
        let answers = self.core().commit(ops);
        (stream, answers.into_iter().find_map(Result::err))
    }

    pub(super) fn abandon(&mut self, stream: u64) {
        self.core().commit(vec![Op::Abandon { stream }]);
    }

    /// Bytes that the whole disk takes.
    pub(super) fn used(&self) -> u64 {
        let space = megalith_disk::FileSystem::space(&self.fs, root()).expect("measured");
        space.capacity - space.free
    }

    /// Time passes, and nothing is left to do.
    pub(super) fn leave_alone(&mut self, turns: u32) {
        for _ in 0..turns {
            self.now += self.settings.finish_after;
            let now = self.now;
            self.core().finish_idle(now);
            self.housekeep_all();
        }
    }

    pub(super) fn housekeep_all(&mut self) {
        while self.core().housekeep() {}
    }

    /// Flips bits of a byte of a shard's first record on the disk.
    pub(super) fn flip_in_record(&mut self, shard: ShardId, byte: u64, bits: u8) {
        let catalog = &self.core().catalog;
        let located = catalog.find(shard).expect("found").expect("there");
        let path = catalog.paths.chunk(shard.volume, located.seq);
        let at = u64::from(located.extent.records[0]) * BLOCK_LEN + byte;
        self.fs.flip(&path, at, bits).expect("flip");
    }

    pub(super) fn names(&mut self, volume: u64) -> Vec<String> {
        let dir = self.core().catalog.paths.volume(VolumeId(volume));
        let entries = megalith_disk::FileSystem::list(&self.fs, &dir).expect("list");
        entries.into_iter().map(|entry| entry.name).collect()
    }

    pub(super) fn path(&mut self, volume: u64, name: &str) -> PathBuf {
        self.core()
            .catalog
            .paths
            .volume(VolumeId(volume))
            .join(name)
    }
}

/// SplitMix64: the only randomness of these tests.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
