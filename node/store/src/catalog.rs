//! What is on the disk, as every thread may look it up: per volume the tables of open files and
//! the indexes of finished ones. Only the writer changes it, after the bytes are durable.
//!
//! A file's entry is its last word on a shard; over all files of the volume the entry with the
//! highest record number holds. No lock is kept while a file is read.

use super::error::StoreError;
use super::file_cache::FileCache;
use super::files::{FileName, Paths, failed, is_loss};
use super::filter::KeyHash;
use super::health::HealthTracker;
use super::index::{BadIndex, FinishedFacts, Index};
use super::pace::PaceTracker;
use super::scan::{FileId, ShardTable, remember, scan};
use super::scrub::plan::FileFacts;
use super::settings::StoreSettings;
use super::shard::{Entry, Extent};
use super::superblock::Superblock;
use super::trash::TrashList;
use megalith_disk::{File, FileIdentity, FileSystem};
use megalith_model::ids::{Epoch, VolumeId};
use megalith_model::shard::{ShardId, ShardKey};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Everything that readers share with the writer.
pub(super) struct Catalog {
    pub(super) fs: Arc<dyn FileSystem>,
    /// The directory of chunks that was opened.
    pub(super) home: FileIdentity,
    pub(super) paths: Paths,
    pub(super) superblock: Superblock,
    pub(super) settings: StoreSettings,
    pub(super) health: HealthTracker,
    pub(super) pace: PaceTracker,
    pub(super) files: FileCache,
    pub(super) trash: TrashList,
    /// Counts what users ask for: the scrub stands back for them.
    pub(super) traffic: AtomicU64,
    volumes: RwLock<BTreeMap<VolumeId, Arc<VolumeFiles>>>,
    /// Finished files whose index must be written again.
    pub(super) reindex: Mutex<Vec<(VolumeId, u32)>>,
}

/// One volume's slot on this disk.
pub(super) struct VolumeFiles {
    pub(super) id: VolumeId,
    state: RwLock<FilesState>,
}

/// The files of a volume.
#[derive(Default)]
pub(super) struct FilesState {
    /// The highest epoch seen: older ones are refused.
    pub(super) fence: Epoch,
    /// A file of this life failed: it may hold records that memory does not believe in, and that a
    /// later scan would. Deletes and writes are then logged even if memory calls them needless.
    pub(super) suspect: bool,
    pub(super) open: BTreeMap<u32, OpenView>,
    pub(super) finished: BTreeMap<u32, Arc<Finished>>,
}

/// A file that still grows, as readers see it.
pub(super) struct OpenView {
    pub(super) file: Arc<dyn File>,
    pub(super) table: ShardTable,
    /// The highest record number in the table.
    pub(super) lsn_max: u64,
    /// The block after the last record of a shard in the table.
    pub(super) end: u32,
}

impl OpenView {
    pub(super) fn new(file: Arc<dyn File>, table: ShardTable) -> Self {
        let mut view = Self {
            file,
            table: ShardTable::new(),
            lsn_max: 0,
            end: 0,
        };
        for entry in table.values() {
            view.note(entry);
        }
        view.table = table;
        view
    }

    /// Takes up a file's new word on a shard.
    pub(super) fn remember(&mut self, key: ShardKey, entry: Entry) {
        self.note(&entry);
        remember(&mut self.table, key, entry);
    }

    fn note(&mut self, entry: &Entry) {
        self.lsn_max = self.lsn_max.max(entry.lsn);
        let ends = entry.extent.iter().flat_map(Extent::blocks);
        self.end = ends.map(|(_, end)| end).fold(self.end, u32::max);
    }
}

/// A file that grows no more.
pub(super) struct Finished {
    pub(super) id: FileId,
    pub(super) facts: FinishedFacts,
    source: RwLock<EntrySource>,
}

/// Where a finished file's entries come from.
#[derive(Clone)]
pub(super) enum EntrySource {
    Disk(Arc<Index>),
    /// Memory, if the index could not be written or was found bad.
    Memory(Arc<ShardTable>),
}

/// A file's number, its word on a shard, and the file itself while it is open.
type Candidate = (u32, Entry, Option<Arc<dyn File>>);

/// A live shard and where its bytes are.
pub(super) struct LocatedShard {
    pub(super) seq: u32,
    pub(super) lsn: u64,
    pub(super) epoch: Epoch,
    pub(super) extent: Extent,
    /// The open file; None for a finished one.
    pub(super) file: Option<Arc<dyn File>>,
}

impl VolumeFiles {
    pub(super) fn new(id: VolumeId, state: FilesState) -> Self {
        Self {
            id,
            state: RwLock::new(state),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, FilesState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, FilesState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Finished {
    pub(super) fn new(id: FileId, facts: FinishedFacts, source: EntrySource) -> Self {
        Self {
            id,
            facts,
            source: RwLock::new(source),
        }
    }

    pub(super) fn source(&self) -> EntrySource {
        self.source
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_source(&self, source: EntrySource) {
        *self.source.write().unwrap_or_else(PoisonError::into_inner) = source;
    }

    /// Finds the file's word on a shard, whose key `hash` is of.
    pub(super) fn find(
        &self,
        catalog: &Catalog,
        key: ShardKey,
        hash: KeyHash,
    ) -> Result<Option<Entry>, StoreError> {
        if let EntrySource::Disk(index) = self.source() {
            if !index.may_hold(key, hash) {
                return Ok(None);
            }
            let name = FileName::index(self.id.volume, self.id.seq);
            let found = match catalog.files.get(name) {
                Ok(file) => index.find(file.as_ref(), key),
                Err(_) => Err(BadIndex),
            };
            match found {
                Ok(entry) => return Ok(entry),
                Err(BadIndex) => catalog.rebuild(self)?,
            }
        }
        match self.source() {
            EntrySource::Memory(table) => Ok(table.get(&key).cloned()),
            EntrySource::Disk(_) => Ok(None),
        }
    }

    /// Returns up to a block of entries from `from` on, in order; empty at the end.
    pub(super) fn page(
        &self,
        catalog: &Catalog,
        from: ShardKey,
    ) -> Result<Vec<(ShardKey, Entry)>, StoreError> {
        if let EntrySource::Disk(index) = self.source() {
            match self.index_page(catalog, &index, from) {
                Ok(entries) => return Ok(entries),
                Err(BadIndex) => catalog.rebuild(self)?,
            }
        }
        match self.source() {
            EntrySource::Memory(table) => Ok(page_of(&table, from)),
            EntrySource::Disk(_) => Ok(Vec::new()),
        }
    }

    fn index_page(
        &self,
        catalog: &Catalog,
        index: &Index,
        from: ShardKey,
    ) -> Result<Vec<(ShardKey, Entry)>, BadIndex> {
        let name = FileName::index(self.id.volume, self.id.seq);
        let file = catalog.files.get(name).map_err(|_| BadIndex)?;
        for number in index.block_of(from).unwrap_or(0)..index.blocks() {
            let mut entries = index.block(file.as_ref(), number)?;
            entries.retain(|(key, _)| *key >= from);
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    }
}

/// Up to 64 entries of a table from `from` on.
pub(super) fn page_of(table: &ShardTable, from: ShardKey) -> Vec<(ShardKey, Entry)> {
    table
        .range(from..)
        .take(64)
        .map(|(key, entry)| (*key, entry.clone()))
        .collect()
}

impl Catalog {
    pub(super) fn new(
        fs: Arc<dyn FileSystem>,
        home: FileIdentity,
        paths: Paths,
        superblock: Superblock,
        settings: StoreSettings,
    ) -> Self {
        let (trash, bad) = TrashList::open(fs.as_ref(), &paths.trash(), superblock.disk);
        let health = HealthTracker::default();
        if bad {
            let path = paths.trash();
            tracing::error!(path = %path.display(), "the list of the trash is bad: begun again");
            health.add_restored_file();
        }
        let open = {
            let (fs, paths) = (Arc::clone(&fs), paths.clone());
            move |name| fs.open(&paths.part(name))
        };
        Self {
            home,
            trash,
            traffic: AtomicU64::new(0),
            files: FileCache::new(settings.files_open_max, open),
            fs,
            paths,
            superblock,
            settings,
            health,
            pace: PaceTracker::new(),
            volumes: RwLock::default(),
            reindex: Mutex::default(),
        }
    }

    /// Fails if the disk's directory is no longer the one that was opened: it was unmounted,
    /// removed, or another is mounted in its place. Asked before every change and before every
    /// answer that promises something, so that nothing is written through or promised falsely.
    pub(super) fn verify_home(&self) -> Result<(), StoreError> {
        let path = self.paths.chunks();
        let gone = || StoreError::Gone {
            path: self.paths.root.clone(),
        };
        if self.health.is_gone() {
            return Err(gone());
        }
        match self.fs.identity(&path) {
            Ok(found) if found == self.home => return Ok(()),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(StoreError::io("look at", path, error)),
        }
        if self.health.set_gone() {
            let disk = self.superblock.disk;
            tracing::error!(%disk, path = %self.paths.root.display(), "disk is gone");
        }
        Err(gone())
    }

    pub(super) fn file_id(&self, volume: VolumeId, seq: u32) -> FileId {
        FileId {
            disk: self.superblock.disk,
            volume,
            seq,
        }
    }

    pub(super) fn volume(&self, volume: VolumeId) -> Option<Arc<VolumeFiles>> {
        self.volumes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&volume)
            .cloned()
    }

    pub(super) fn volumes(&self) -> Vec<Arc<VolumeFiles>> {
        let volumes = self.volumes.read().unwrap_or_else(PoisonError::into_inner);
        volumes.values().cloned().collect()
    }

    pub(super) fn add_volume(&self, volume: VolumeFiles) -> Arc<VolumeFiles> {
        let volume = Arc::new(volume);
        let mut volumes = self.volumes.write().unwrap_or_else(PoisonError::into_inner);
        volumes.insert(volume.id, Arc::clone(&volume));
        volume
    }

    /// All chunk files by volume and number, and a record number up to which everything that is
    /// visible is in them.
    pub(super) fn file_facts(&self) -> (Vec<FileFacts>, u64) {
        // The writer shows in the order of numbers: what is below the highest one seen here is
        // visible when the files are listed after it.
        let lsn = self.list_files().iter().map(|file| file.lsn_max).max();
        (self.list_files(), lsn.unwrap_or(0))
    }

    fn list_files(&self) -> Vec<FileFacts> {
        let mut files = Vec::new();
        for volume in self.volumes() {
            let state = volume.read();
            let facts = |seq: u32, blocks: u32, lsn_max: u64| FileFacts {
                volume: volume.id,
                seq,
                blocks,
                lsn_max,
            };
            let open = state.open.iter();
            files.extend(open.map(|(seq, view)| facts(*seq, view.end, view.lsn_max)));
            let finished = state.finished.iter();
            files.extend(
                finished.map(|(seq, file)| facts(*seq, file.facts.end, file.facts.lsn_max)),
            );
        }
        files.sort_by_key(|file| (file.volume, file.seq));
        files
    }

    /// The epoch a volume is at on this disk.
    pub(super) fn fence(&self, volume: VolumeId) -> Epoch {
        self.volume(volume)
            .map_or(Epoch(0), |volume| volume.read().fence)
    }

    /// True if a file of the volume failed in this life.
    pub(super) fn is_suspect(&self, volume: VolumeId) -> bool {
        self.volume(volume)
            .is_some_and(|volume| volume.read().suspect)
    }

    /// Finds the last word on a shard; None if the disk never heard of it.
    pub(super) fn find(&self, shard: ShardId) -> Result<Option<LocatedShard>, StoreError> {
        let Some(volume) = self.volume(shard.volume) else {
            return Ok(None);
        };
        let key = shard.key();
        let mut best: Option<Candidate> = None;
        let mut finished: Vec<Arc<Finished>>;
        {
            let state = volume.read();
            for (seq, view) in &state.open {
                if let Some(entry) = view.table.get(&key)
                    && best
                        .as_ref()
                        .is_none_or(|(_, best, _)| best.lsn < entry.lsn)
                {
                    best = Some((*seq, entry.clone(), Some(Arc::clone(&view.file))));
                }
            }
            finished = state.finished.values().cloned().collect();
        }
        finished.sort_by_key(|file| std::cmp::Reverse(file.facts.lsn_max));
        let hash = KeyHash::of(key);
        for file in finished {
            let known = best.as_ref().map_or(0, |(_, entry, _)| entry.lsn);
            if file.facts.lsn_max <= known {
                break;
            }
            if let Some(entry) = file.find(self, key, hash)?
                && entry.lsn > known
            {
                best = Some((file.id.seq, entry, None));
            }
        }
        Ok(best.and_then(|(seq, entry, file)| {
            let (lsn, epoch) = (entry.lsn, entry.epoch);
            entry.extent.map(|extent| LocatedShard {
                seq,
                lsn,
                epoch,
                extent,
                file,
            })
        }))
    }

    /// Opens the chunk file that holds a shard.
    pub(super) fn chunk_of(
        &self,
        volume: VolumeId,
        located: &LocatedShard,
    ) -> std::io::Result<Arc<dyn File>> {
        match &located.file {
            Some(file) => Ok(Arc::clone(file)),
            None => self.files.get(FileName::chunk(volume, located.seq)),
        }
    }

    /// Reads a finished file's entries from the chunk file itself, because its index is bad.
    pub(super) fn rebuild(&self, finished: &Finished) -> Result<(), StoreError> {
        let FileId { volume, seq, .. } = finished.id;
        self.verify_home()?;
        let path = self.paths.chunk(volume, seq);
        let file = match self.files.get(FileName::chunk(volume, seq)) {
            // Neither is left: the volume's other files must stay usable.
            Err(error) if is_loss(&error) => {
                let path = path.display();
                tracing::error!(%path, %error, "chunk file is gone and its index file is bad");
                self.health.add_regions(1, 0);
                self.health.add_doubt(volume);
                finished.set_source(EntrySource::Memory(Arc::default()));
                return Ok(());
            }
            result => result.map_err(failed("open", &path))?,
        };
        let scan = scan(file.as_ref(), finished.id, &path)?;
        let index = self.paths.index(volume, seq);
        tracing::warn!(path = %index.display(), "index file is bad, rebuilt by a scan");
        self.health.add_rebuilt_index();
        if !scan.damage.is_empty() || scan.unreadable {
            self.health.add_regions(usize::from(scan.unreadable), 0);
            for region in &scan.damage {
                self.health.add_region_at(volume, seq, region.start);
            }
            self.health.add_doubt(volume);
        }
        finished.set_source(EntrySource::Memory(Arc::new(scan.table)));
        if !scan.unreadable {
            let mut reindex = self.reindex.lock().unwrap_or_else(PoisonError::into_inner);
            reindex.push((volume, seq));
        }
        Ok(())
    }
}
