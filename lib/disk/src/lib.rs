//! The file system as the node's stores see it: one trait, a real implementation, one in memory.
//!
//! Everything that must survive a power cut is written through [`FileSystem`] and [`File`], so that
//! a test can use [`sim::SimFs`] instead: it forgets what was not synced, tears writes and fails
//! when told to. Paths are made of fixed words and numbers, never of a user's key. This crate
//! decides nothing: the caller decides when to sync and what a failed sync means.

pub mod crc32c;
mod real;
pub mod sim;

pub use real::RealFs;

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// An open file. Offsets and lengths are in bytes. Safe to share between threads; the caller puts
/// writes to overlapping ranges in order.
pub trait File: Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bufs`, one after the other, at `offset`. After an error, any part of the
    /// range may have been written.
    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes every byte written so far, and the length, survive a power cut. After an error the
    /// unsynced bytes are lost for good, even if a later call succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// Reserves space for a range that then reads as zeros; the file grows to its end.
    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Gives the space of a range back; the range then reads as zeros. The length stays.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Drops what memory caches of a range, so that the next read comes from the disk itself. Bytes
    /// that are not synced stay.
    fn drop_cached(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Cuts or grows the file to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns the length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Returns true for a file of no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last component of the path.
    pub name: String,
    /// True for a directory.
    pub is_dir: bool,
}

/// The space of the file system that holds a path, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsSpace {
    /// What is used by anybody, and what an unprivileged writer may still use. Blocks that are
    /// kept for the system, or that a quota withholds, are neither.
    pub capacity: u64,
    /// What an unprivileged writer may still use.
    pub free: u64,
}

/// Tells one directory or file from every other on this machine, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// The file system that it is on.
    pub device: u64,
    pub inode: u64,
}

/// Held as long as this process owns a directory; dropping it lets another process in.
pub trait DirLock: Send + Sync {}

/// A file system. New, renamed and removed names survive a power cut only after
/// [`FileSystem::sync_dir`] of their directory.
pub trait FileSystem: Send + Sync + 'static {
    /// Opens an existing file to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Creates a file that must not exist yet.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Creates one directory in an existing one; it must not exist yet.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Returns what a path names at this moment: another file system may have been mounted there.
    fn identity(&self, path: &Path) -> io::Result<FileIdentity>;

    /// Lists the names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Renames a file, replacing what `target` named.
    fn rename(&self, source: &Path, target: &Path) -> io::Result<()>;

    /// Removes a file's name. Open handles keep working.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory survive a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Syncs files, and returns for each how that went, in their order. They may be synced at the
    /// same time: a journal takes them together.
    fn sync_files(&self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>> {
        files.iter().map(|file| file.sync_data()).collect()
    }

    /// Returns the size of the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<FsSpace>;

    /// Takes the exclusive lock file `path`, creating it. Fails with [`io::ErrorKind::WouldBlock`]
    /// if another process, or another part of this one, holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// Reads exactly `buf.len()` bytes at `offset`, or fails with `UnexpectedEof`.
pub fn read_exact_at(file: &dyn File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        let read = file.read_at(buf, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf = &mut buf[read..];
        offset += read as u64;
    }
    Ok(())
}

/// Writes a whole small file so that after a power cut either the old or the new one is there:
/// writes and syncs a temporary file beside it, renames it over the old one, then syncs the
/// directory.
pub fn replace_file(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = path.with_extension("tmp");
    match fs.remove(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = fs.create(&temporary)?;
    file.write_at(&[IoSlice::new(bytes)], 0)?;
    file.sync_data()?;
    fs.rename(&temporary, path)?;
    fs.sync_dir(dir)
}
