//! Formatting and opening a disk, and what is done about the traces of a power cut: a torn tail is
//! cut, torn pieces before good records are covered, damage is reported and never cut.

use super::catalog::{Catalog, EntrySource, FilesState, Finished, OpenView, VolumeFiles};
use super::core::{Chain, Core, WriterVolume};
use super::error::StoreError;
use super::files::{FileName, Paths, failed, number, volume_number};
use super::growing::Growing;
use super::index::{FinishedFacts, Index};
use super::record::{BLOCK_LEN, Header, Kind};
use super::scan::{FileId, Region, Scan, ShardTable, scan};
use super::settings::StoreSettings;
use super::shard::{Entry, Extent};
use super::superblock::{FoundSuperblock, Superblock};
use super::tidy::{Punch, TidyStep, Weighing};
use megalith_disk::{DirLock, File, FileSystem, read_exact_at};
use megalith_model::ids::{ClusterId, DiskId, Epoch, VolumeId};
use megalith_model::shard::ShardKey;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// Formats an existing, empty directory as a disk. `lost+found` is overlooked.
pub(super) fn format(
    fs: &dyn FileSystem,
    root: &Path,
    superblock: &Superblock,
) -> Result<(), StoreError> {
    let paths = Paths {
        root: root.to_path_buf(),
    };
    let entries = fs.list(root).map_err(failed("list", root))?;
    // An empty `chunks` is what an interrupted formatting leaves.
    let mut has_chunks = false;
    for entry in entries {
        let name = entry.name;
        match name.as_str() {
            "lost+found" | "superblock.tmp" | "superblock-2.tmp" => {}
            "chunks" if is_empty(fs, &paths.chunks())? => has_chunks = true,
            _ => {
                return Err(StoreError::NotEmpty {
                    path: root.to_path_buf(),
                    name,
                });
            }
        }
    }
    if !has_chunks {
        let chunks = paths.chunks();
        fs.create_dir(&chunks)
            .map_err(failed("create directory", &chunks))?;
    }
    fs.sync_dir(root)
        .map_err(failed("sync the directory", root))?;
    superblock.write(fs, root)
}

fn is_empty(fs: &dyn FileSystem, dir: &Path) -> Result<bool, StoreError> {
    Ok(fs.list(dir).map_err(failed("list", dir))?.is_empty())
}

/// Opens a disk for this process alone and recovers it.
pub(super) fn open(
    fs: Arc<dyn FileSystem>,
    root: &Path,
    cluster: ClusterId,
    disk: Option<DiskId>,
    settings: StoreSettings,
) -> Result<Core, StoreError> {
    let paths = Paths {
        root: root.to_path_buf(),
    };
    let found = FoundSuperblock::read(fs.as_ref(), root)?;
    let superblock = found.superblock.clone();
    let chunks = paths.chunks();
    let home = fs.identity(&chunks).map_err(failed("look at", &chunks))?;
    if superblock.cluster != cluster {
        let (disk, found) = (superblock.disk, superblock.cluster);
        return Err(StoreError::ForeignCluster {
            disk,
            found,
            expected: cluster,
        });
    }
    if let Some(expected) = disk.filter(|disk| *disk != superblock.disk) {
        return Err(StoreError::ForeignDisk {
            found: superblock.disk,
            expected,
        });
    }
    let lock = take_lock(fs.as_ref(), &paths)?;
    let mended = found.mend(fs.as_ref());
    let catalog = Arc::new(Catalog::new(fs, home, paths, superblock, settings));
    if mended {
        catalog.health.add_restored_file();
    }
    let mut core = Core {
        catalog,
        volumes: BTreeMap::new(),
        streams: HashMap::new(),
        lsn: 1,
        punches: VecDeque::new(),
        tidy_steps: VecDeque::new(),
        _lock: lock,
    };
    core.catalog
        .fs
        .sync_dir(&chunks)
        .map_err(failed("sync the directory", &chunks))?;
    for entry in core
        .catalog
        .fs
        .list(&chunks)
        .map_err(failed("list", &chunks))?
    {
        if let Some(volume) = volume_number(&entry.name).filter(|_| entry.is_dir) {
            core.recover_volume(volume)?;
        }
    }
    core.catalog.verify_home()?;
    Ok(core)
}

pub(super) fn take_lock(
    fs: &dyn FileSystem,
    paths: &Paths,
) -> Result<Box<dyn DirLock>, StoreError> {
    let path = paths.lock();
    match fs.lock(&path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(StoreError::Locked {
            path: paths.root.clone(),
        }),
        result => result.map_err(failed("lock", &path)),
    }
}

/// Which files of a number there are.
#[derive(Clone, Copy, Default)]
struct Present {
    chunk: bool,
    index: bool,
}

/// A volume while it is read in.
#[derive(Default)]
struct Recovery {
    state: FilesState,
    writer: WriterVolume,
    lsn_max: u64,
    /// To be finished once the volume is known.
    left_behind: Vec<u32>,
    /// Records of open files whose space can be given back.
    dead: BTreeMap<u32, Vec<(u32, u32)>>,
    /// Finished files that lack something, and the block from which on.
    short: Vec<(u32, u32)>,
}

impl Core {
    fn recover_volume(&mut self, volume: VolumeId) -> Result<(), StoreError> {
        let present = self.files_of(volume)?;
        let newest = present
            .iter()
            .filter(|(_, files)| files.chunk)
            .map(|(seq, _)| *seq)
            .max();
        let mut recovery = Recovery::default();
        recovery.writer.seq_next = present.keys().max().map_or(0, |seq| seq + 1);
        for (seq, files) in present {
            let id = self.catalog.file_id(volume, seq);
            self.recover_files(id, files, newest == Some(seq), &mut recovery)?;
        }
        if !recovery.writer.files.is_empty() {
            // After a mere kill the names, too, may so far be in memory only.
            let dir = self.catalog.paths.volume(volume);
            self.catalog
                .fs
                .sync_dir(&dir)
                .map_err(failed("sync the directory", &dir))?;
        }
        let Recovery {
            state,
            writer,
            lsn_max,
            left_behind,
            dead,
            short,
        } = recovery;
        self.lsn = self.lsn.max(lsn_max + 1);
        self.catalog.add_volume(VolumeFiles::new(volume, state));
        self.volumes.insert(volume, writer);
        let mut named = self.report_damaged(volume);
        for (seq, block) in short {
            named = named.and(self.report_lost(volume, seq, block));
        }
        if let Err(error) = named {
            tracing::error!(%volume, error = %Chain(&error), "not all that is lost can be named");
            self.catalog.health.add_doubt(volume);
        }
        self.give_back(volume, left_behind, dead);
        Ok(())
    }

    /// Reads in a chunk file and its index file, as far as they are there.
    fn recover_files(
        &mut self,
        id: FileId,
        files: Present,
        newest: bool,
        recovery: &mut Recovery,
    ) -> Result<(), StoreError> {
        let index = if files.index {
            self.load_index(id)
        } else {
            None
        };
        match index {
            Some(index) => {
                let short = self.lost_from(id, &index.facts, files.chunk);
                recovery.short.extend(short.map(|block| (id.seq, block)));
                recovery.add_finished(id, index.facts, EntrySource::Disk(Arc::new(index)));
            }
            None if files.chunk => {
                // Only the newest has none yet; of another it was lost, or a power cut came before
                // it was written.
                let (active, rebuilt) = (newest && !files.index, files.index || !newest);
                match self.recover_file(id, active, rebuilt, recovery) {
                    // A newer program wrote it: that is no damage, and not ours to touch.
                    Err(error @ StoreError::OtherFormat { .. }) => return Err(error),
                    Err(error) => {
                        self.leave_out(id, &error);
                        recovery.writer.keep_files = true;
                    }
                    Ok(()) => {}
                }
            }
            None => {
                let path = self.catalog.paths.index(id.volume, id.seq);
                let path = path.display();
                tracing::error!(%path, "chunk file is gone and its index file is bad");
                self.catalog.health.add_regions(1, 0);
                self.catalog.health.add_doubt(id.volume);
            }
        }
        Ok(())
    }

    /// Finishes the files that are left behind, and has the space of all that is dead given back.
    fn give_back(
        &mut self,
        volume: VolumeId,
        left_behind: Vec<u32>,
        mut dead: BTreeMap<u32, Vec<(u32, u32)>>,
    ) {
        for seq in left_behind {
            // At once: when it has an index, nobody looks for its dead any more.
            let records = dead.remove(&seq).unwrap_or_default();
            if let Err(error) = self.punch(&Punch::new(volume, seq, records)) {
                tracing::warn!(error = %Chain(&error), "giving space back");
            }
            self.finish_file(volume, seq);
        }
        for (seq, records) in dead {
            self.forget_records(volume, seq, records);
        }
        // Of finished files nobody knows whether the space of all that is dead was given back.
        let weighing = Weighing::recount(volume);
        self.tidy_steps.push_back(TidyStep::Weigh(weighing));
    }

    fn files_of(&self, volume: VolumeId) -> Result<BTreeMap<u32, Present>, StoreError> {
        let dir = self.catalog.paths.volume(volume);
        let mut present: BTreeMap<u32, Present> = BTreeMap::new();
        for entry in self.catalog.fs.list(&dir).map_err(failed("list", &dir))? {
            let Some((stem, kind)) = entry.name.split_once('.') else {
                continue;
            };
            let Some(seq) = number(stem) else { continue };
            match kind {
                "chunk" => present.entry(seq).or_default().chunk = true,
                "index" => present.entry(seq).or_default().index = true,
                "tmp" => {
                    let path = dir.join(&entry.name);
                    self.catalog
                        .fs
                        .remove(&path)
                        .map_err(failed("remove", &path))?;
                }
                _ => {}
            }
        }
        Ok(present)
    }

    fn load_index(&self, id: FileId) -> Option<Index> {
        let name = FileName::index(id.volume, id.seq);
        let file = self.catalog.files.get(name).ok()?;
        Index::load(file.as_ref(), id).ok()
    }

    /// Reads a chunk file without a usable index.
    fn recover_file(
        &mut self,
        id: FileId,
        active: bool,
        had_index: bool,
        recovery: &mut Recovery,
    ) -> Result<(), StoreError> {
        let path = self.catalog.paths.chunk(id.volume, id.seq);
        let file = self.catalog.fs.open(&path).map_err(failed("open", &path))?;
        let found = scan(file.as_ref(), id, &path)?;
        self.note_scan(id, &found, had_index, &path);
        recovery.note(found.epoch, found.lsn_max);
        if found.end == 0 && self.drop_blank(file.as_ref(), &path)? {
            return Ok(());
        }
        let facts = FinishedFacts {
            epoch: found.epoch,
            lsn_max: found.lsn_max,
            end: found.end,
            entries: found.table.len() as u32,
        };
        // Nothing is made permanent of a file that the disk refuses to read.
        if found.unreadable {
            recovery.writer.keep_files = true;
            let source = EntrySource::Memory(Arc::new(found.table));
            recovery.add_finished(id, facts, source);
            return Ok(());
        }
        let repaired = repair(file.as_ref(), id, &found);
        if let Err(error) = repaired.map_err(failed("repair", &path)) {
            tracing::error!(error = %Chain(&error), "chunk file failed");
            self.catalog
                .health
                .add_failed_file(self.catalog.settings.failed_files_max);
            recovery.state.suspect = true;
            // What it says may not be durable: nothing is given back on its word.
            recovery.writer.keep_files = true;
            let source = EntrySource::Memory(Arc::new(found.table));
            recovery.add_finished(id, facts, source);
            return Ok(());
        }
        let fs = self.catalog.fs.as_ref();
        let mut growing = Growing::new(fs, id, path, Arc::clone(&file))?;
        (growing.end, growing.written, growing.synced) = (found.end, found.end, found.end);
        growing.allocated = u64::from(found.end) * BLOCK_LEN;
        (growing.epoch, growing.lsn_max) = (found.epoch, found.lsn_max);
        recovery.writer.files.insert(id.seq, growing);
        recovery
            .state
            .open
            .insert(id.seq, OpenView::new(file, found.table));
        recovery.dead.insert(id.seq, found.dead);
        if active && found.damage.is_empty() {
            recovery.writer.active = Some(id.seq);
        } else {
            recovery.left_behind.push(id.seq);
        }
        Ok(())
    }

    fn note_scan(&self, id: FileId, found: &Scan, had_index: bool, path: &Path) {
        let torn = found.torn.len() + usize::from(found.tail_torn);
        let unreadable = usize::from(found.unreadable);
        let health = &self.catalog.health;
        health.add_regions(unreadable, torn);
        if had_index {
            health.add_rebuilt_index();
            let path = self.catalog.paths.index(id.volume, id.seq);
            tracing::warn!(path = %path.display(), "index file is bad, rebuilt by a scan");
        }
        // Of damage and of a torn end it can't be told here whose bytes they were.
        if !found.clean {
            health.add_doubt(id.volume);
        }
        if found.unreadable {
            tracing::error!(path = %path.display(), "the disk refuses to read a chunk file");
        }
        for Region { start, end } in &found.damage {
            health.add_region_at(id.volume, id.seq, *start);
            tracing::error!(path = %path.display(), start, end, "damaged blocks in chunk file");
        }
    }

    /// Removes a file in which no record was ever durable. One that is longer than its first
    /// space must have had some: it stays, and counts as damage.
    fn drop_blank(&self, file: &dyn File, path: &Path) -> Result<bool, StoreError> {
        let len = file.len().map_err(failed("measure", path))?;
        if len > self.catalog.settings.grow_min.max(BLOCK_LEN) {
            self.catalog.health.add_regions(1, 0);
            return Ok(false);
        }
        self.catalog
            .fs
            .remove(path)
            .map_err(failed("remove", path))?;
        Ok(true)
    }

    /// Remembers the shards of which a record is gone.
    fn report_damaged(&self, id: VolumeId) -> Result<(), StoreError> {
        let Some(volume) = self.catalog.volume(id) else {
            return Ok(());
        };
        let broken = |table: &ShardTable| -> Vec<ShardKey> {
            let whole = |entry: &Entry| entry.extent.as_ref().is_none_or(Extent::is_whole);
            let broken = table.iter().filter(|(_, entry)| !whole(entry));
            broken.map(|(key, _)| *key).collect()
        };
        let mut suspects = Vec::new();
        {
            let state = volume.read();
            for view in state.open.values() {
                suspects.extend(broken(&view.table));
            }
            for finished in state.finished.values() {
                if let EntrySource::Memory(table) = finished.source() {
                    suspects.extend(broken(&table));
                }
            }
        }
        for key in suspects {
            let shard = key.of(id);
            if self
                .catalog
                .find(shard)?
                .is_some_and(|located| !located.extent.is_whole())
            {
                self.catalog.report(shard, 0);
            }
        }
        Ok(())
    }
}

impl Recovery {
    fn note(&mut self, epoch: Epoch, lsn_max: u64) {
        self.state.fence = self.state.fence.max(epoch);
        self.lsn_max = self.lsn_max.max(lsn_max);
    }

    fn add_finished(&mut self, id: FileId, facts: FinishedFacts, source: EntrySource) {
        self.note(facts.epoch, facts.lsn_max);
        self.state
            .finished
            .insert(id.seq, Arc::new(Finished::new(id, facts, source)));
    }
}

/// Bytes written again at once.
const REWRITE_STEP: u64 = 1 << 20;

/// Covers torn pieces, cuts a torn tail, and makes what the scan saw durable: after a mere kill it
/// may so far be in the page cache only, and after a failed sync even as clean pages that no sync
/// will write. So what is not known to have been durable is written again before the sync.
fn repair(file: &dyn File, id: FileId, found: &Scan) -> io::Result<()> {
    for Region { start, end } in &found.torn {
        let length = (end - start) * BLOCK_LEN as u32;
        let header = Header {
            length,
            ..Header::bare(Kind::Skip, id.volume, Epoch(0))
        };
        let bytes = header.encode(id.place(*start));
        file.write_at(&[IoSlice::new(&bytes)], u64::from(*start) * BLOCK_LEN)?;
    }
    let end = u64::from(found.end) * BLOCK_LEN;
    if file.len()? > end {
        file.set_len(end)?;
    }
    let mut offset = u64::from(found.synced) * BLOCK_LEN;
    while offset < end {
        let mut bytes = vec![0; (end - offset).min(REWRITE_STEP) as usize];
        read_exact_at(file, &mut bytes, offset)?;
        file.write_at(&[IoSlice::new(&bytes)], offset)?;
        offset += bytes.len() as u64;
    }
    file.sync_data()
}
