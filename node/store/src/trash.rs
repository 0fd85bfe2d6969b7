//! The disk's trash: shards that nothing names any more, kept for some days before they are
//! deleted. A shard in the trash lies where it lay and answers reads; the trash is only a list.
//!
//! The list is the file `trash` in the disk's directory, replaced as a whole (layout in
//! `docs/formats/disk.md`). One that is missing or bad means an empty trash: its shards are found
//! again and their days begin again, so that nothing is deleted sooner. Decides nothing: who is put
//! in and who is deleted is the caller's.

use super::record::{u32_at, u64_at};
use super::shard::{KEY_LEN, key_from_bytes, key_to_bytes};
use bytes::{Buf, BufMut};
use megalith_disk::crc32c::crc32c;
use megalith_disk::{FileSystem, read_exact_at, replace_file};
use megalith_model::ids::{DiskId, VolumeId};
use megalith_model::shard::ShardId;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MAGIC: [u8; 4] = *b"MGRt";
const VERSION: u32 = 1;
const HEAD_LEN: usize = 32;
const ENTRY_LEN: usize = 40;
/// The most shards in a disk's trash; more wait where they are.
pub const TRASH_MAX: usize = 262_144;

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
    let file = match fs.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Trash::new()),
        result => result.ok()?,
    };
    let longest = (HEAD_LEN + TRASH_MAX * ENTRY_LEN + 4) as u64;
    let len = file.len().ok().filter(|len| *len <= longest)?;
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    read_exact_at(file.as_ref(), &mut bytes, 0).ok()?;
    decode(&bytes, disk)
}

pub(crate) fn encode(entries: &Trash, disk: DiskId) -> Vec<u8> {
    let count = entries.len().min(TRASH_MAX);
    let mut out = Vec::with_capacity(HEAD_LEN + count * ENTRY_LEN + 4);
    out.put_slice(&MAGIC);
    out.put_u32_le(VERSION);
    out.put_slice(&disk.0);
    out.put_u64_le(count as u64);
    for (shard, entry) in entries.iter().take(count) {
        out.put_u64_le(shard.volume.0);
        out.put_slice(&key_to_bytes(shard.key()));
        out.put_bytes(0, 3);
        out.put_u64_le(entry.since_ms);
        out.put_u64_le(entry.len);
    }
    let crc = crc32c(&out);
    out.put_u32_le(crc);
    out
}

pub(crate) fn decode(bytes: &[u8], disk: DiskId) -> Option<Trash> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let ours = body.len() >= HEAD_LEN
        && u32::from_le_bytes(*crc) == crc32c(body)
        && body[..4] == MAGIC
        && u32_at(body, 4) == VERSION
        && body[8..24] == disk.0;
    if !ours {
        return None;
    }
    let (entries, rest) = body[HEAD_LEN..].as_chunks::<ENTRY_LEN>();
    let whole = rest.is_empty() && entries.len() as u64 == u64_at(body, 24);
    whole.then(|| entries.iter().map(entry).collect())
}

fn entry(bytes: &[u8; ENTRY_LEN]) -> (ShardId, TrashedShard) {
    let mut rest = &bytes[..];
    let volume = VolumeId(rest.get_u64_le());
    let key = rest
        .first_chunk::<{ KEY_LEN }>()
        .expect("32 bytes hold a key");
    let trashed = TrashedShard {
        since_ms: u64_at(bytes, 24),
        len: u64_at(bytes, 32),
    };
    (key_from_bytes(key).of(volume), trashed)
}
