//! The writer: the only one that changes a disk. Takes requests in batches, writes each touched
//! file once, syncs it once, then shows the changes to readers and answers.
//!
//! Synchronous and without threads, so that a test can drive it call by call. A failed write or
//! sync is final for its file: every answer that hung on it is an error, the file is finished as
//! far as it was durable, and later requests go to a new one.

use super::catalog::{Catalog, FilesState, OpenView, VolumeFiles};
use super::error::StoreError;
use super::files::failed;
use super::growing::{Claim, Growing};
use super::op::{Done, Op};
use super::record::{BLOCK_LEN, Cell, Footer, Header, Kind, record_len};
use super::round::{Effect, Round, Staged};
use super::scan::ShardTable;
use super::shard::Extent;
use super::tidy::{Punch, TidyStep};
use bytes::Bytes;
use megalith_disk::DirLock;
use megalith_disk::crc32c::crc32c;
use megalith_model::ids::{Epoch, VolumeId};
use megalith_model::shard::ShardId;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::Arc;

/// Written bytes of a file that may wait for a shard's end before they are synced anyway.
const UNSYNCED_MAX: u64 = 16 << 20;
/// The most holes of one punch.
const HOLES_AT_ONCE: usize = 16;

/// The writer's state. One per disk, guarded by the disk's lock file.
pub(super) struct Core {
    pub(super) catalog: Arc<Catalog>,
    pub(super) volumes: BTreeMap<VolumeId, WriterVolume>,
    pub(super) streams: HashMap<u64, ShardStream>,
    /// The number of the next record.
    pub(super) lsn: u64,
    /// Dead records whose space is to be given back.
    pub(super) punches: VecDeque<Punch>,
    /// The first one goes on until it is done.
    pub(super) tidy_steps: VecDeque<TidyStep>,
    /// Never read: unlocks the disk when the writer goes.
    pub(super) _lock: Box<dyn DirLock>,
}

/// The writer's side of a volume.
#[derive(Default)]
pub(super) struct WriterVolume {
    /// The file that new shards go to.
    pub(super) active: Option<u32>,
    /// It and those in which a stream has yet to end.
    pub(super) files: BTreeMap<u32, Growing>,
    pub(super) seq_next: u32,
    /// Bytes that died in finished files since these were last weighed.
    pub(super) dead_bytes: u64,
    /// No file is emptied or removed. The name of a removed one may come back after a power cut, or
    /// what is newer than a shard may not be durable: tombstones and older copies must stay.
    pub(super) keep_files: bool,
}

/// A shard being written.
pub(super) enum ShardStream {
    Writing(Writing),
    /// It can't be stored any more.
    Failed(StoreError),
}

/// Where a stream stands.
pub(super) struct Writing {
    pub(super) shard: ShardId,
    pub(super) seq: u32,
    pub(super) record_cells: u16,
    pub(super) cells: u32,
    /// Bytes of these cells.
    pub(super) length: u64,
    pub(super) records: Vec<u32>,
    /// The last record is placed: the shard may be there, whatever was answered.
    pub(super) ended: bool,
}

/// Cells that are in a record or go into one.
pub(super) struct NewRecord<'a> {
    pub(super) header: Header,
    pub(super) cells: &'a [Cell],
    pub(super) footer: Footer,
    pub(super) claim: Claim,
}

impl Core {
    /// Carries out a batch and answers in its order. Everything answered well is durable, but
    /// [`Done::Written`].
    pub(super) fn commit(&mut self, ops: Vec<Op>) -> Vec<Result<Done, StoreError>> {
        let mut answers = Vec::with_capacity(ops.len());
        let mut round = Round::default();
        let home = self.catalog.verify_home();
        for op in ops {
            if round.must_precede(&op) {
                self.finish(std::mem::take(&mut round), &mut answers);
            }
            round.note(&op);
            let staged = match &home {
                Err(error) if op.is_change() => Err(error.clone()),
                Ok(()) | Err(_) => self.stage(op),
            };
            round
                .staged
                .push(staged.unwrap_or_else(|error| Staged::answered(Err(error))));
        }
        self.finish(round, &mut answers);
        answers
    }

    fn stage(&mut self, op: Op) -> Result<Staged, StoreError> {
        match op {
            Op::Abandon { stream } => {
                self.forget_stream(stream);
                Ok(Staged::answered(Ok(Done::Abandoned)))
            }
            Op::Append(_) | Op::Delete { .. } | Op::Fence { .. }
                if self.catalog.health.is_read_only() =>
            {
                Err(StoreError::ReadOnly)
            }
            Op::Append(append) => self.stage_append(append),
            Op::Delete { shards } => self.stage_delete(&shards),
            Op::Fence { volume, epoch } => self.stage_fence(volume, epoch),
        }
    }

    /// Writes, syncs, shows and answers.
    pub(super) fn finish(&mut self, round: Round, answers: &mut Vec<Result<Done, StoreError>>) {
        let durable = round.durable_files();
        let broken = self.write_and_sync(&durable);
        // What was synced in a place that is gone is not promised to any caller.
        let home = match durable.is_empty() {
            true => None,
            false => self.catalog.verify_home().err(),
        };
        for Staged {
            touched,
            effects,
            answer,
        } in round.staged
        {
            let gone = home.as_ref().filter(|_| !touched.is_empty());
            let error = touched.iter().find_map(|file| broken.get(file)).or(gone);
            // What became durable in other volumes counts even so: memory must not believe in
            // shards that the log has deleted.
            let failed: BTreeSet<VolumeId> = touched
                .iter()
                .filter(|file| broken.contains_key(file))
                .map(|(id, _)| *id)
                .collect();
            let hidden = |effect: &Effect| match effect.volume() {
                Some(volume) => failed.contains(&volume),
                None => error.is_some(),
            };
            for effect in effects.into_iter().filter(|effect| !hidden(effect)) {
                self.show(effect);
            }
            answers.push(error.map_or(answer, |error| Err(error.clone())));
        }
        for ((volume, seq), error) in broken {
            self.give_up_file(volume, seq, &error);
        }
    }

    /// Writes what waits in each file, then syncs together those that must be `durable` and those
    /// that have waited for long. Returns the files that failed.
    fn write_and_sync(
        &mut self,
        durable: &BTreeSet<(VolumeId, u32)>,
    ) -> BTreeMap<(VolumeId, u32), StoreError> {
        let fs = Arc::clone(&self.catalog.fs);
        let mut broken = BTreeMap::new();
        let mut written: Vec<((VolumeId, u32), &mut Growing)> = Vec::new();
        for (id, volume) in &mut self.volumes {
            for (seq, file) in &mut volume.files {
                let place = (*id, *seq);
                if let Err(error) = file.write() {
                    broken.insert(place, error);
                    continue;
                }
                let late = u64::from(file.written - file.synced) * BLOCK_LEN > UNSYNCED_MAX;
                if (late || durable.contains(&place)) && file.needs_sync() {
                    written.push((place, file));
                }
            }
        }
        let handles: Vec<_> = written.iter().map(|(_, file)| file.file.clone()).collect();
        let outcomes = fs.sync_files(&handles);
        for ((place, file), outcome) in written.into_iter().zip(outcomes) {
            match file.take_sync(fs.as_ref(), outcome) {
                Ok(()) => self.catalog.health.sync_went_well(),
                Err(error) => {
                    broken.insert(place, error);
                }
            }
        }
        broken
    }

    /// Puts a record into a file, with space made for it. Returns its block.
    pub(super) fn push(
        &mut self,
        volume: VolumeId,
        seq: u32,
        record: NewRecord<'_>,
    ) -> Result<u32, StoreError> {
        let NewRecord {
            mut header,
            cells,
            footer,
            claim,
        } = record;
        header.lsn = self.lsn;
        let catalog = Arc::clone(&self.catalog);
        let file = self.growing(volume, seq)?;
        file.make_room(
            catalog.fs.as_ref(),
            &catalog.settings,
            header.record_len(),
            claim,
        )?;
        if header.kind == Kind::Cells && header.first_cell == 0 {
            header.stream = file.end;
        }
        let block = file.push(header, cells, &footer);
        self.lsn += 1;
        Ok(block)
    }

    fn growing(&mut self, volume: VolumeId, seq: u32) -> Result<&mut Growing, StoreError> {
        let path = self.catalog.paths.chunk(volume, seq);
        let volume = self.volumes.get_mut(&volume);
        volume
            .and_then(|volume| volume.files.get_mut(&seq))
            .ok_or_else(|| {
                let gone = io::Error::other("the file failed and takes no more records");
                StoreError::io("append to", path, gone)
            })
    }

    /// Returns the volume's file for a new record of `len` bytes, starting one if needed.
    pub(super) fn active_file(
        &mut self,
        volume: VolumeId,
        len: u64,
        claim: Claim,
    ) -> Result<u32, StoreError> {
        let len_max = self.catalog.settings.file_len_max;
        if let Some(writer) = self.volumes.get_mut(&volume)
            && let Some(seq) = writer.active
            && let Some(file) = writer.files.get(&seq)
        {
            let end = u64::from(file.end) * BLOCK_LEN;
            // The first record after the head always fits.
            if end + len <= len_max || file.end <= 1 {
                return Ok(seq);
            }
            writer.active = None;
        }
        self.start_file(volume, len, claim)
    }

    /// Creates the volume's next file, with a head that carries the epoch on.
    fn start_file(&mut self, id: VolumeId, len: u64, claim: Claim) -> Result<u32, StoreError> {
        let catalog = Arc::clone(&self.catalog);
        if claim != Claim::Reserve {
            let root = &catalog.paths.root;
            let space = catalog
                .fs
                .space(root)
                .map_err(failed("measure the disk of", root))?;
            let reserve = claim.keeps_free(catalog.settings.reserve);
            let needed = len + record_len(0, 0);
            if space.free < reserve.saturating_add(needed) {
                return Err(StoreError::Full {
                    free: space.free,
                    reserve,
                    needed,
                });
            }
        }
        let volume = match catalog.volume(id) {
            Some(volume) => volume,
            None => self.start_volume(id)?,
        };
        let writer = self.volumes.entry(id).or_default();
        let seq = writer.seq_next;
        let path = catalog.paths.chunk(id, seq);
        writer.seq_next += 1;
        let file = catalog.fs.create(&path).map_err(|error| {
            catalog.health.add_write_error();
            StoreError::io("create", &path, error)
        })?;
        let fs = catalog.fs.as_ref();
        let mut growing = Growing::new(fs, catalog.file_id(id, seq), path, Arc::clone(&file))?;
        let fence = volume.read().fence;
        let head = Header {
            lsn: self.lsn,
            ..Header::head(id, fence)
        };
        let who = Bytes::copy_from_slice(&catalog.superblock.encode());
        let crc = crc32c(&who);
        self.lsn += 1;
        let cell = (who, crc);
        if let Err(error) = growing.begin(catalog.fs.as_ref(), &catalog.settings, head, cell) {
            catalog
                .health
                .add_failed_file(catalog.settings.failed_files_max);
            // Nothing was acknowledged in it; the next opening removes it if this does not.
            let _ = catalog.fs.remove(&growing.path);
            return Err(error);
        }
        let writer = self.volumes.entry(id).or_default();
        writer.files.insert(seq, growing);
        writer.active = Some(seq);
        volume
            .write()
            .open
            .insert(seq, OpenView::new(file, ShardTable::new()));
        Ok(seq)
    }

    fn start_volume(&mut self, id: VolumeId) -> Result<Arc<VolumeFiles>, StoreError> {
        let catalog = &self.catalog;
        let (dir, chunks) = (catalog.paths.volume(id), catalog.paths.chunks());
        match catalog.fs.create_dir(&dir) {
            Ok(()) => {}
            // Left by a try that failed half-way.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                catalog.health.add_write_error();
                return Err(StoreError::io("create directory", dir, error));
            }
        }
        catalog
            .fs
            .sync_dir(&chunks)
            .map_err(failed("sync the directory", &chunks))?;
        Ok(catalog.add_volume(VolumeFiles::new(id, FilesState::default())))
    }

    /// Gives a stream up, whatever its state. What it has written is dead, unless its shard may
    /// be there.
    pub(super) fn forget_stream(&mut self, stream: u64) {
        if let Some(writing) = self.end_stream(stream)
            && !writing.ended
        {
            let (volume, seq) = (writing.shard.volume, writing.seq);
            self.forget_records(volume, seq, writing.extent(None).blocks().collect());
        }
    }

    /// Ends a stream, whatever its state.
    pub(super) fn end_stream(&mut self, stream: u64) -> Option<Writing> {
        let Some(ShardStream::Writing(writing)) = self.streams.remove(&stream) else {
            return None;
        };
        if let Some(volume) = self.volumes.get_mut(&writing.shard.volume)
            && let Some(file) = volume.files.get_mut(&writing.seq)
        {
            file.streams.remove(&stream);
        }
        Some(writing)
    }

    /// A write or sync failed: the file takes no more, its unfinished streams fail.
    fn give_up_file(&mut self, volume: VolumeId, seq: u32, error: &StoreError) {
        let disk = self.catalog.superblock.disk;
        tracing::error!(%disk, %volume, file = seq, error = %Chain(error), "chunk file failed");
        self.catalog
            .health
            .add_failed_file(self.catalog.settings.failed_files_max);
        if let Some(volume) = self.catalog.volume(volume) {
            volume.write().suspect = true;
        }
        let Some(writer) = self.volumes.get_mut(&volume) else {
            return;
        };
        if writer.active == Some(seq) {
            writer.active = None;
        }
        let Some(file) = writer.files.remove(&seq) else {
            return;
        };
        writer.dead_bytes += file.dead_bytes;
        for stream in &file.streams {
            self.streams
                .insert(*stream, ShardStream::Failed(error.clone()));
        }
        let named = file.is_named(self.catalog.fs.as_ref()).unwrap_or(true);
        self.finish_failed(file);
        if !named {
            // What was promised of it is lost as well.
            if let Err(error) = self.report_lost(volume, seq, 0) {
                tracing::error!(%volume, error = %Chain(&error), "not all that is lost is named");
                self.catalog.health.add_doubt(volume);
            }
        }
    }

    /// Counts records that died, first block and block after the last of each. Their holes are
    /// punched later, and before their file is finished: nobody looks for them after that.
    pub(super) fn forget_records(&mut self, volume: VolumeId, seq: u32, records: Vec<(u32, u32)>) {
        if records.is_empty() {
            return;
        }
        if let Some(writer) = self.volumes.get_mut(&volume) {
            let blocks: u32 = records.iter().map(|(start, end)| end - start).sum();
            let bytes = u64::from(blocks) * BLOCK_LEN;
            match writer.files.get_mut(&seq) {
                Some(file) => {
                    file.punches += records.len().div_ceil(HOLES_AT_ONCE);
                    file.dead_bytes += bytes;
                }
                None => writer.dead_bytes += bytes,
            }
        }
        let parts = records.chunks(HOLES_AT_ONCE);
        self.punches
            .extend(parts.map(|part| Punch::new(volume, seq, part.to_vec())));
    }

    /// The volume's epoch, as far as it is durable.
    pub(super) fn fence(&self, volume: VolumeId) -> Epoch {
        self.catalog.fence(volume)
    }
}

impl Writing {
    /// Where the records so far lie.
    pub(super) fn extent(&self, digest: Option<[u8; 32]>) -> Extent {
        Extent {
            len: self.length,
            cells: self.cells,
            record_cells: self.record_cells,
            digest,
            records: self.records.clone().into_boxed_slice(),
        }
    }
}

/// An error with its causes, for the log.
pub(super) struct Chain<'a>(pub(super) &'a StoreError);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
