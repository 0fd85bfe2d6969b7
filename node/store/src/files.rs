//! Paths of a disk, all made of fixed words and numbers, and a bounded set of open files.

use super::error::StoreError;
use megalith_disk::{File, FileSystem};
use megalith_model::ids::VolumeId;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where everything of a disk lies.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) root: PathBuf,
}

impl Paths {
    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.root.join("scrub")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(super) fn chunks(&self) -> PathBuf {
        self.root.join("chunks")
    }

    pub(super) fn volume(&self, volume: VolumeId) -> PathBuf {
        self.chunks().join(format!("{:016x}", volume.0))
    }

    pub(super) fn chunk(&self, volume: VolumeId, seq: u32) -> PathBuf {
        self.volume(volume).join(format!("{seq:08x}.chunk"))
    }

    pub(super) fn index(&self, volume: VolumeId, seq: u32) -> PathBuf {
        self.volume(volume).join(format!("{seq:08x}.index"))
    }
}

/// Reads a file's number, written as eight lower-case hexadecimal digits.
pub(super) fn number(name: &str) -> Option<u32> {
    let number = u32::from_str_radix(name, 16).ok()?;
    (format!("{number:08x}") == name).then_some(number)
}

/// Reads the name of a volume's directory: sixteen lower-case hexadecimal digits.
pub(super) fn volume_number(name: &str) -> Option<VolumeId> {
    let number = u64::from_str_radix(name, 16).ok()?;
    (format!("{number:016x}") == name).then_some(VolumeId(number))
}

/// Finished files kept open: at most this many; the longest unused is closed first.
pub(super) struct FileCache {
    fs: Arc<dyn FileSystem>,
    open_max: usize,
    state: Mutex<CacheState>,
}

#[derive(Default)]
struct CacheState {
    clock: u64,
    open: HashMap<PathBuf, (Arc<dyn File>, u64)>,
}

impl FileCache {
    pub(super) fn new(fs: Arc<dyn FileSystem>, open_max: usize) -> Self {
        Self {
            fs,
            open_max: open_max.max(1),
            state: Mutex::default(),
        }
    }

    pub(super) fn get(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        {
            let mut state = self.guard();
            state.clock += 1;
            let now = state.clock;
            if let Some((file, used)) = state.open.get_mut(path) {
                *used = now;
                return Ok(Arc::clone(file));
            }
        }
        let file = self.fs.open(path)?;
        let mut state = self.guard();
        if state.open.len() >= self.open_max {
            let oldest = state.open.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                state.open.remove(&oldest);
            }
        }
        let now = state.clock;
        state
            .open
            .insert(path.to_path_buf(), (Arc::clone(&file), now));
        Ok(file)
    }

    /// Forgets a file that was removed or replaced.
    pub(super) fn forget(&self, path: &Path) {
        self.guard().open.remove(path);
    }

    fn guard(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True if an error of opening or reading says that the bytes are lost, not that the machine
/// is short of something or that its operator has forbidden it.
pub(super) fn is_loss(error: &io::Error) -> bool {
    // EIO, ENODATA, EBADMSG, EILSEQ, EUCLEAN, EREMOTEIO: what Linux says of media and of damaged
    // structures of a file system.
    const LOSSES: [i32; 6] = [5, 61, 74, 84, 117, 121];
    error.kind() == io::ErrorKind::NotFound
        || error
            .raw_os_error()
            .is_some_and(|code| LOSSES.contains(&code))
}

/// `Io` for a path.
pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |error| StoreError::io(action, path, error)
}
