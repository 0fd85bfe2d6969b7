//! The kernel's file system through plain system calls: positional reads and writes, `fdatasync`,
//! `fallocate`. Calls block, so they must not run on an async runtime's own threads.

use super::{DirEntry, DirLock, File, FileIdentity, FileSystem, FsSpace};
use rustix::fs::{Advice, FallocateFlags, StatVfs, fadvise, fallocate};
use std::fs;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::thread;

/// Linux refuses more buffers than this in one vectored write.
const IOV_MAX: usize = 1024;

/// The most bytes that one call writes. A buffered write of a MiB and more has the kernel look for
/// its largest pages and pay for making them: with fragmented memory it costs up to eight times as
/// much a byte as one of half a MiB.
const CALL_BYTES_MAX: usize = 512 << 10;

/// So many files are synced at the same time.
const SYNCS_AT_ONCE: usize = 16;

/// What is kept is for the process's own user: names, ciphertext, the secrets of disks.
const OWN_ONLY: u32 = 0o600;

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

struct RealFile(fs::File);

/// The kernel unlocks it when the file closes, even after a kill.
struct RealLock {
    _file: fs::File,
}

impl DirLock for RealLock {}

impl FileSystem for RealFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(OWN_ONLY)
            .open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        let found = fs::metadata(path)?;
        Ok(FileIdentity {
            device: found.dev(),
            inode: found.ino(),
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A name that is not UTF-8 isn't ours; in its lossy form it matches nothing.
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(DirEntry {
                name,
                is_dir: entry.file_type()?.is_dir(),
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        fs::rename(source, target)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    /// One thread syncs each file. That a thread can't be had only makes it slower.
    fn sync_files(&self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>> {
        let mut outcomes = Vec::with_capacity(files.len());
        for files in files.chunks(SYNCS_AT_ONCE) {
            let Some((first, others)) = files.split_first() else {
                break;
            };
            outcomes.extend(thread::scope(|scope| {
                let sync = |file: &Arc<dyn File>| {
                    let file = Arc::clone(file);
                    thread::Builder::new().spawn_scoped(scope, move || file.sync_data())
                };
                let others: Vec<_> = others.iter().map(|file| (file, sync(file))).collect();
                let mut outcomes = vec![first.sync_data()];
                outcomes.extend(others.into_iter().map(|(file, thread)| match thread {
                    Ok(thread) => thread.join().expect("a sync does not panic"),
                    Err(_) => file.sync_data(),
                }));
                outcomes
            }));
        }
        outcomes
    }

    fn space(&self, path: &Path) -> io::Result<FsSpace> {
        Ok(space_of(&rustix::fs::statvfs(path)?))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Counts as `df` does: a disk is full once an unprivileged writer gets nothing more.
fn space_of(stat: &StatVfs) -> FsSpace {
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let capacity = used.saturating_add(stat.f_bavail);
    FsSpace {
        capacity: capacity.saturating_mul(stat.f_frsize),
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
    }
}

impl RealFile {
    /// Makes the file at least `len` bytes long; what is new reads as zeros.
    fn grow_to(&self, len: u64) -> io::Result<()> {
        match self.len()? < len {
            true => self.set_len(len),
            false => Ok(()),
        }
    }
}

/// Returns how many of these buffers are written by one call, so that it has at most
/// [`CALL_BYTES_MAX`] bytes: none if the first has more.
fn one_call(bufs: &[IoSlice<'_>]) -> usize {
    let mut bytes = 0;
    let fit = bufs.iter().take(IOV_MAX).take_while(|buf| {
        bytes += buf.len();
        bytes <= CALL_BYTES_MAX
    });
    fit.count()
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut bufs = bufs.to_vec();
        let mut rest = bufs.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0); // skips leading empty buffers
        while let Some(first) = rest.first() {
            let batch = one_call(rest);
            let written = match batch {
                0 => rustix::io::pwrite(&self.0, &first[..CALL_BYTES_MAX], offset),
                _ => rustix::io::pwritev(&self.0, &rest[..batch], offset),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Syncs, and believes the sync only if the file can still be read afterwards. If ext4 is shut
    /// down while a sync runs (by an error of its journal, or the ioctl), data written to
    /// preallocated space is lost although the sync reports success; from then on reads fail.
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()?;
        self.0.read_at(&mut [0], 0)?;
        Ok(())
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        match fallocate(&self.0, FallocateFlags::empty(), offset, len) {
            // Some network, container and user-space file systems have no such call. Without space
            // of its own the file still grows, and an append may find the disk full.
            Err(rustix::io::Errno::OPNOTSUPP) => self.grow_to(offset.saturating_add(len)),
            result => result.map_err(Into::into),
        }
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.0, flags, offset, len) {
            // The space comes back when the whole file is removed.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            result => result.map_err(Into::into),
        }
    }

    fn drop_cached(&self, offset: u64, len: u64) -> io::Result<()> {
        let Some(len) = NonZeroU64::new(len) else {
            return Ok(());
        };
        fadvise(&self.0, offset, Some(len), Advice::DontNeed).map_err(Into::into)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{CALL_BYTES_MAX, RealFile, RealFs, SYNCS_AT_ONCE, space_of};
    use crate::{File, FileSystem as _, FsSpace};
    use std::io::IoSlice;
    use std::sync::Arc;

    #[test]
    fn of_files_synced_together_each_has_its_own_outcome() {
        let dir = tempfile::tempdir().expect("a directory");
        let bad = SYNCS_AT_ONCE + 3;
        let file = |number: usize| -> Arc<dyn File> {
            let path = dir.path().join(number.to_string());
            let file = RealFs.create(&path).expect("created");
            if number != bad {
                return file;
            }
            // One that can't be read after its sync counts as not synced.
            let mut write_only = std::fs::OpenOptions::new();
            Arc::new(RealFile(write_only.write(true).open(&path).expect("open")))
        };
        let files: Vec<_> = (0..2 * SYNCS_AT_ONCE + 1).map(file).collect();
        let outcomes = RealFs.sync_files(&files);
        let failed = outcomes.iter().map(Result::is_err);
        let expected = (0..files.len()).map(|number| number == bad);
        assert_eq!(failed.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert!(RealFs.sync_files(&[]).is_empty());
    }

    /// Buffers around the most that one call writes, several and alone, behind a gap.
    #[test]
    fn writes_of_any_size_are_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let most = CALL_BYTES_MAX;
        let cases: [&[usize]; 7] = [
            &[most],
            &[most + 1],
            &[3 * most + 5],
            &[most - 1, 1, 1],
            &[0, 7, 2 * most, 0, most, 1],
            &[most / 2 + 1; 5],
            &[1; 3_000],
        ];
        for (number, lens) in cases.iter().enumerate() {
            let path = dir.path().join(number.to_string());
            let whole: usize = lens.iter().sum();
            let bytes: Vec<u8> = (0..whole).map(|at| (at % 251) as u8).collect();
            let mut rest = bytes.as_slice();
            let pieces = lens.iter().map(|len| {
                let (piece, after) = rest.split_at(*len);
                rest = after;
                IoSlice::new(piece)
            });
            let pieces: Vec<_> = pieces.collect();
            let file = RealFs.create(&path).expect("created");
            file.write_at(&pieces, 10).expect("written");
            let mut read = std::fs::read(&path).expect("there");
            assert!(read.drain(..10).all(|byte| byte == 0));
            assert!(read == bytes, "{lens:?}");
        }
    }

    #[test]
    fn what_nobody_may_use_is_no_part_of_a_disk() {
        let mut stat = rustix::fs::statvfs(".").expect("a directory");
        (stat.f_frsize, stat.f_blocks) = (4096, 100);
        // Of 40 free blocks, 5 are kept for the system.
        (stat.f_bfree, stat.f_bavail) = (40, 35);
        let space = |capacity: u64, free: u64| FsSpace {
            capacity: capacity * 4096,
            free: free * 4096,
        };
        assert_eq!(space_of(&stat), space(95, 35));
        // The system has begun to use its part.
        (stat.f_bfree, stat.f_bavail) = (2, 0);
        assert_eq!(space_of(&stat), space(98, 0));
        let space = super::RealFs.space(".".as_ref()).expect("a directory");
        assert!(space.free <= space.capacity, "{space:?}");
    }
}
