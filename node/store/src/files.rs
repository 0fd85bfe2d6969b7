//! Paths of a disk, all made of fixed words and numbers.

use super::error::StoreError;
use megalith_model::ids::VolumeId;
use std::io;
use std::path::{Path, PathBuf};

/// One of the two files that a finished chunk file consists of, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileName {
    volume: VolumeId,
    seq: u32,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    Chunk,
    Index,
}

impl FileName {
    pub(super) fn chunk(volume: VolumeId, seq: u32) -> Self {
        let part = Part::Chunk;
        Self { volume, seq, part }
    }

    pub(super) fn index(volume: VolumeId, seq: u32) -> Self {
        let part = Part::Index;
        Self { volume, seq, part }
    }
}

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

    pub(super) fn part(&self, name: FileName) -> PathBuf {
        match name.part {
            Part::Chunk => self.chunk(name.volume, name.seq),
            Part::Index => self.index(name.volume, name.seq),
        }
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
