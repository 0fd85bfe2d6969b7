//! The disk's trash: shards that nothing names any more, kept for some days before they are
//! deleted. A shard in the trash lies where it lay and answers reads; the trash is only a list.
//!
//! The list is the file `trash` in the disk's directory, replaced as a whole (layout in
//! `docs/formats/disk.md`). One that is missing or bad means an empty trash: its shards are found
//! again and their days begin again, so that nothing is deleted sooner. Decides nothing: who is put
//! in and who is deleted is the caller's.

use super::list_file::{Entry, ListFile};
use super::record::u64_at;
use megalith_disk::{FileSystem, replace_file};
use megalith_model::ids::DiskId;
use megalith_model::shard::ShardId;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most shards in a disk's trash; more wait where they are.
pub const TRASH_MAX: usize = 262_144;
const FILE: ListFile = ListFile {
    magic: *b"MGRt",
    version: 1,
    head_len: 32,
    entries_max: TRASH_MAX,
};

/// What is known of a shard in the trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrashedShard {
    /// When it was put in, in milliseconds since 1970.
    pub since_ms: u64,
    /// Bytes of its cells.
    pub len: u64,
}

/// Everything in the trash.
pub type Trash = BTreeMap<ShardId, TrashedShard>;

/// The trash as the file has it.
#[derive(Debug, Default)]
pub(crate) struct TrashList {
    /// Held while the file is written, so that the two never part.
    writing: Mutex<()>,
    entries: Mutex<Arc<Trash>>,
}

impl TrashList {
    /// Reads the file of a disk that is being opened. True if it was bad.
    pub(crate) fn open(fs: &dyn FileSystem, path: &Path, disk: DiskId) -> (Self, bool) {
        let read = read(fs, path, disk);
        let bad = read.is_none();
        let entries = read.unwrap_or_default();
        measure(&entries, disk);
        let list = Self {
            writing: Mutex::default(),
            entries: Mutex::new(Arc::new(entries)),
        };
        (list, bad)
    }

    /// Never waits for the disk.
    pub(crate) fn read(&self) -> Arc<Trash> {
        Arc::clone(&lock(&self.entries))
    }

    /// Replaces the list, durably; unchanged after an error.
    pub(crate) fn replace(
        &self,
        fs: &dyn FileSystem,
        path: &Path,
        disk: DiskId,
        entries: Trash,
    ) -> io::Result<()> {
        let _one = lock(&self.writing);
        if *self.read() != entries {
            replace_file(fs, path, &encode(&entries, disk))?;
            measure(&entries, disk);
            *lock(&self.entries) = Arc::new(entries);
        }
        Ok(())
    }
}

fn measure(entries: &Trash, disk: DiskId) {
    let bytes: u64 = entries.values().map(|entry| entry.len).sum();
    metrics::gauge!("megalith_trash_shards", "disk" => disk.to_string()).set(entries.len() as f64);
    metrics::gauge!("megalith_trash_bytes", "disk" => disk.to_string()).set(bytes as f64);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// None if there is a file and it does not check out.
fn read(fs: &dyn FileSystem, path: &Path, disk: DiskId) -> Option<Trash> {
    match FILE.read(fs, path).ok()? {
        Some(bytes) => decode(&bytes, disk),
        None => Some(Trash::new()),
    }
}

pub(crate) fn encode(entries: &Trash, disk: DiskId) -> Vec<u8> {
    let count = entries.len().min(TRASH_MAX);
    let listed = entries.iter().take(count).map(|(shard, entry)| Entry {
        shard: *shard,
        numbers: [entry.since_ms, entry.len],
    });
    FILE.encode(disk, &(count as u64).to_le_bytes(), listed)
}

pub(crate) fn decode(bytes: &[u8], disk: DiskId) -> Option<Trash> {
    let (head, entries) = FILE.decode(bytes, disk)?;
    if entries.len() as u64 != u64_at(head, 24) {
        return None;
    }
    let trashed = entries.map(|entry| {
        let [since_ms, len] = entry.numbers;
        (entry.shard, TrashedShard { since_ms, len })
    });
    Some(trashed.collect())
}
