//! A file system in memory that forgets what was not synced and fails when told to.
//!
//! [`SimFs::crash`] is a power cut: synced bytes and names stay. For all others a seed decides,
//! sector by sector (512 bytes) and name by name, so that writes tear and arrive out of order.
//! [`SimFs::inject`] adds faults, [`SimFs::hold`] makes calls slow. [`SimFs::stop_at`] stops
//! everything at the nth change, so that a test can stop between any two durable steps. The same
//! calls and seeds give the same history. For the tests of this crate and of those above it; it
//! never touches a disk.

mod disk;
mod inode;

use super::{DirEntry, DirLock, File, FileIdentity, FileSystem, FsSpace};
use disk::SimDisk;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a fault rule watches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimOp {
    /// `read_at`.
    Read,
    /// `write_at`.
    Write,
    /// `sync_data`.
    Sync,
    /// `sync_dir`.
    SyncDir,
    /// `create` and `create_dir`.
    Create,
    /// `rename`.
    Rename,
    /// `remove` and `remove_dir`.
    Remove,
    /// `preallocate`.
    Preallocate,
    /// `punch`.
    Punch,
    /// `set_len`.
    SetLen,
}

/// What happens at such a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimFault {
    /// The call fails with EIO. A write leaves its first half behind. A sync marks the unsynced
    /// bytes clean, and the next crash loses them, as on Linux.
    Io,
    /// The call fails with ENOSPC and changes nothing.
    Full,
    /// A read or write succeeds with one bit flipped in its middle byte.
    Flip,
    /// A write lands 4 KiB after its place and reports success.
    Misdirect,
}

/// Makes matching calls fail.
#[derive(Clone, Debug)]
pub struct SimRule {
    pub op: SimOp,
    /// A part of the path; empty for any path.
    pub path: String,
    /// How many matching calls succeed first.
    pub skip: u64,
    /// How many then fail; afterwards the rule is gone.
    pub times: u64,
    pub fault: SimFault,
}

impl SimRule {
    /// Builds a rule: the next call of `op` on a path that contains `path` fails, once.
    #[must_use]
    pub fn once(op: SimOp, path: &str, fault: SimFault) -> Self {
        Self {
            op,
            path: path.to_owned(),
            skip: 0,
            times: 1,
            fault,
        }
    }
}

/// The in-memory file system. Clones share it.
#[derive(Clone)]
pub struct SimFs {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Mutex<SimDisk>,
    let_go: Condvar,
}

/// A held call goes on after this time: no test may hang.
const HOLD_MAX: Duration = Duration::from_secs(30);

/// Makes matching calls as slow as a test wants: they wait until this is dropped; others go on.
#[must_use]
pub struct Hold {
    fs: SimFs,
    number: u64,
}

impl Hold {
    /// Returns how many calls wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let disk = self.fs.guard();
        disk.holds.get(&self.number).map_or(0, |held| held.waiting)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.fs.guard().holds.remove(&self.number);
        self.fs.shared.let_go.notify_all();
    }
}

impl SimFs {
    /// Makes an empty file system of `capacity` bytes with a synced root `/`.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                disk: Mutex::new(SimDisk::new(capacity)),
                let_go: Condvar::new(),
            }),
        }
    }

    /// Holds every read, write or sync of a file whose path contains `path`.
    pub fn hold(&self, op: SimOp, path: &str) -> Hold {
        let number = self.guard().hold(op, path);
        Hold {
            fs: self.clone(),
            number,
        }
    }

    /// Cuts the power and turns it on again: every handle and lock becomes void; `seed` decides
    /// which unsynced changes survive. Ends a stop set by [`SimFs::stop_at`]; fault rules stay.
    pub fn crash(&self, seed: u64) {
        self.guard().crash(seed);
    }

    /// Ends the process without cutting the power: handles and locks become void, all bytes stay.
    pub fn kill(&self) {
        self.guard().kill();
    }

    /// Fails every call from the `nth` change on (1 is the next), until [`SimFs::crash`].
    pub fn stop_at(&self, nth: u64) {
        let mut disk = self.guard();
        disk.stop_at = Some(disk.changes + nth);
    }

    /// Returns how many changing calls have been made.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.guard().changes
    }

    /// Returns how many calls of `sync_data` have succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.guard().syncs
    }

    /// Adds a fault rule.
    pub fn inject(&self, rule: SimRule) {
        self.guard().rules.push(rule);
    }

    /// Drops all fault rules.
    pub fn heal(&self) {
        self.guard().rules.clear();
    }

    /// Flips bits of the byte at `offset`, on the platter and in the cache.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        self.guard().flip(path, offset, mask)
    }

    fn guard(&self) -> MutexGuard<'_, SimDisk> {
        self.shared
            .disk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, disk: &mut SimDisk, path: &Path, inode: u64) -> Arc<dyn File> {
        disk.opened(inode);
        Arc::new(SimFile {
            fs: self.clone(),
            path: path.to_path_buf(),
            inode,
            life: disk.life,
        })
    }
}

impl FileSystem for SimFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut disk = self.guard();
        disk.alive()?;
        let inode = disk.file_at(path)?;
        Ok(self.handle(&mut disk, path, inode))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut disk = self.guard();
        disk.change(SimOp::Create, path)?;
        let inode = disk.add_file(path)?;
        Ok(self.handle(&mut disk, path, inode))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.guard();
        disk.change(SimOp::Create, path)?;
        disk.add_dir(path)
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        let disk = self.guard();
        disk.alive()?;
        let inode = disk.number_of(path)?;
        Ok(FileIdentity { device: 1, inode })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let disk = self.guard();
        disk.alive()?;
        disk.list(dir)
    }

    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        let mut disk = self.guard();
        disk.change(SimOp::Rename, target)?;
        disk.rename(source, target)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.guard();
        disk.change(SimOp::Remove, path)?;
        disk.file_at(path)?;
        disk.remove_name(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.guard();
        disk.change(SimOp::Remove, path)?;
        if !disk.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        disk.remove_name(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.guard();
        disk.change(SimOp::SyncDir, dir)?;
        disk.sync_dir(dir)
    }

    fn space(&self, _path: &Path) -> io::Result<FsSpace> {
        let disk = self.guard();
        disk.alive()?;
        Ok(FsSpace {
            capacity: disk.capacity,
            free: disk.capacity.saturating_sub(disk.used()),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut disk = self.guard();
        disk.alive()?;
        disk.lock(path)?;
        Ok(Box::new(SimLock {
            fs: self.clone(),
            path: path.to_path_buf(),
            life: disk.life,
        }))
    }
}

struct SimLock {
    fs: SimFs,
    path: PathBuf,
    life: u64,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.fs.guard();
        if disk.life == self.life {
            disk.unlock(&self.path);
        }
    }
}

struct SimFile {
    fs: SimFs,
    path: PathBuf,
    inode: u64,
    life: u64,
}

impl SimFile {
    /// Returns the disk once no hold stops `op`; fails if a crash has voided this handle.
    fn disk_for(&self, op: SimOp) -> io::Result<MutexGuard<'_, SimDisk>> {
        let mut disk = self.fs.guard();
        while let Some(number) = disk.held(op, &self.path) {
            let let_go = &self.fs.shared.let_go;
            disk.count_waiting(number, 1);
            let waited = let_go.wait_timeout(disk, HOLD_MAX);
            let late;
            (disk, late) = waited.unwrap_or_else(PoisonError::into_inner);
            disk.count_waiting(number, -1);
            assert!(!late.timed_out(), "a call was held for too long");
        }
        drop(disk);
        self.disk()
    }

    /// As above, whatever is held.
    fn disk(&self) -> io::Result<MutexGuard<'_, SimDisk>> {
        let disk = self.fs.guard();
        if disk.life != self.life {
            return Err(io::Error::other("handle from before the crash"));
        }
        disk.alive()?;
        Ok(disk)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut disk = self.fs.guard();
        if disk.life == self.life {
            disk.closed(self.inode);
        }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk_for(SimOp::Read)?;
        let fault = disk.fault(SimOp::Read, &self.path);
        let read = disk.inode(self.inode)?.read(buf, offset);
        match fault {
            None | Some(SimFault::Misdirect) => {}
            Some(SimFault::Io) => return Err(io::Error::from_raw_os_error(5)),
            Some(SimFault::Full) => return Err(io::Error::from_raw_os_error(28)),
            Some(SimFault::Flip) if read > 0 => buf[read / 2] ^= 1,
            Some(SimFault::Flip) => {}
        }
        Ok(read)
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let slices: Vec<&[u8]> = bufs.iter().map(|buf| &**buf).collect();
        let bytes = slices.concat();
        self.disk_for(SimOp::Write)?
            .write(&self.path, self.inode, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk_for(SimOp::Sync)?;
        match disk.change(SimOp::Sync, &self.path) {
            Ok(()) => {
                disk.syncs += 1;
                disk.inode(self.inode)?.sync();
                Ok(())
            }
            Err(error) => {
                if disk.alive().is_ok() {
                    disk.inode(self.inode)?.forget_dirty();
                }
                Err(error)
            }
        }
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.change(SimOp::Preallocate, &self.path)?;
        disk.make_room(self.inode, offset, len)?;
        disk.inode(self.inode)?.preallocate(offset, len);
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.change(SimOp::Punch, &self.path)?;
        disk.inode(self.inode)?.punch(offset, len);
        Ok(())
    }

    fn drop_cached(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk()?.inode(self.inode)?.drop_cached(offset, len);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.change(SimOp::SetLen, &self.path)?;
        disk.inode(self.inode)?.set_len(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk()?.inode(self.inode)?.len())
    }
}
