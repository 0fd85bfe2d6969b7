//! Makes the superblock again for a disk that has lost both copies, from the heads of its chunk
//! files. Each head holds the superblock as it was written.
//!
//! An operator asks for it. Nothing is made by itself: a directory without a superblock may as well
//! be the place where a disk is not mounted.

use super::error::StoreError;
use super::files::{Paths, failed, number};
use super::record::{BLOCK_LEN, CRC_LEN, HEADER_LEN, Header, Kind, RecordPlace, check_record};
use super::recover::take_lock;
use super::superblock::{FoundSuperblock, SUPERBLOCK_LEN, Superblock};
use megalith_disk::{DirLock, FileSystem, read_exact_at};
use megalith_model::ids::{ClusterId, DiskId};
use std::io;
use std::path::{Path, PathBuf};

/// Why no superblock is made.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("{} has a superblock, of disk {disk}: nothing has to be made again", path.display())]
    Present { path: PathBuf, disk: DiskId },
    #[error(
        "{} holds no chunk file with a whole head ({bad} without): nothing says which disk it is",
        path.display()
    )]
    NoHeads {
        path: PathBuf,
        /// Chunk files whose head is damaged.
        bad: u64,
    },
    #[error("{} and {} are of different disks", one.display(), other.display())]
    Disagree { one: PathBuf, other: PathBuf },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A disk that has lost its superblock, and what the heads of its chunk files say.
pub struct LostSuperblock {
    root: PathBuf,
    superblock: Superblock,
    heads: u64,
    bad: u64,
    /// Never read: keeps the disk from being opened meanwhile.
    _lock: Box<dyn DirLock>,
}

/// The head of a chunk file.
enum Head {
    Whole(Superblock),
    Bad,
}

impl LostSuperblock {
    /// Reads the heads of all chunk files below `root`. Writes nothing but the lock file. Fails if
    /// there is a superblock, if no head is whole, or if two of them disagree.
    pub fn find(fs: &dyn FileSystem, root: &Path) -> Result<Self, RebuildError> {
        let paths = Paths {
            root: root.to_path_buf(),
        };
        match FoundSuperblock::read(fs, root) {
            Ok(found) => {
                return Err(RebuildError::Present {
                    path: paths.root,
                    disk: found.superblock.disk,
                });
            }
            Err(StoreError::NoSuperblock { .. } | StoreError::BadSuperblock { .. }) => {}
            // Also a copy that can't be read: it may be a good one, and another time it may answer.
            Err(error) => return Err(error.into()),
        }
        let files = chunk_files(fs, &paths)?;
        if files.is_empty() {
            let path = paths.root;
            return Err(RebuildError::NoHeads { path, bad: 0 });
        }
        let lock = take_lock(fs, &paths)?;
        let mut first: Option<(Superblock, PathBuf)> = None;
        let (mut heads, mut bad) = (0, 0);
        for (path, seq) in files {
            let found = match read_head(fs, &path, seq)? {
                Head::Whole(found) => found,
                Head::Bad => {
                    bad += 1;
                    continue;
                }
            };
            heads += 1;
            match &first {
                None => first = Some((found, path)),
                Some((known, one)) if !known.is_of_one_disk(&found) => {
                    return Err(RebuildError::Disagree {
                        one: one.clone(),
                        other: path,
                    });
                }
                Some((known, _)) if found.is_newer_than(known) => first = Some((found, path)),
                Some(_) => {}
            }
        }
        let Some((superblock, _)) = first else {
            return Err(RebuildError::NoHeads {
                path: paths.root,
                bad,
            });
        };
        Ok(Self {
            root: paths.root,
            superblock,
            heads,
            bad,
            _lock: lock,
        })
    }

    /// Returns which disk it is, and of which cluster.
    #[must_use]
    pub fn identity(&self) -> (DiskId, ClusterId) {
        (self.superblock.disk, self.superblock.cluster)
    }

    /// Returns how many chunk files say so, and how many others have a damaged head.
    #[must_use]
    pub fn witnesses(&self) -> (u64, u64) {
        (self.heads, self.bad)
    }

    /// Writes both copies, durably.
    pub fn rebuild(self, fs: &dyn FileSystem) -> Result<(), StoreError> {
        self.superblock.write(fs, &self.root)
    }
}

/// Lists the chunk files of all volumes, each with its number.
fn chunk_files(fs: &dyn FileSystem, paths: &Paths) -> Result<Vec<(PathBuf, u32)>, StoreError> {
    let chunks = paths.chunks();
    let mut files = Vec::new();
    let volumes = match fs.list(&chunks) {
        // Not a disk at all: no head is found.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        result => result.map_err(failed("list", &chunks))?,
    };
    for volume in volumes.into_iter().filter(|entry| entry.is_dir) {
        let dir = chunks.join(&volume.name);
        for entry in fs.list(&dir).map_err(failed("list", &dir))? {
            let seq = entry.name.strip_suffix(".chunk").and_then(number);
            files.extend(seq.map(|seq| (dir.join(&entry.name), seq)));
        }
    }
    Ok(files)
}

/// Reads the first record of a chunk file. Its checksums cover the disk's id, which it tells.
fn read_head(fs: &dyn FileSystem, path: &Path, seq: u32) -> Result<Head, StoreError> {
    let mut bytes = [0; BLOCK_LEN as usize];
    let file = fs.open(path).map_err(failed("open", path))?;
    // A head that the disk refuses to read is as good as damaged: others tell the same.
    if read_exact_at(file.as_ref(), &mut bytes, 0).is_err() {
        return Ok(Head::Bad);
    }
    let Some(cell) = bytes[HEADER_LEN..].first_chunk::<SUPERBLOCK_LEN>() else {
        return Ok(Head::Bad);
    };
    let superblock = match Superblock::decode(cell, path) {
        Ok(superblock) => superblock,
        Err(error @ StoreError::OtherFormat { .. }) => return Err(error),
        Err(_) => return Ok(Head::Bad),
    };
    let place = RecordPlace {
        disk: superblock.disk,
        file: seq,
        block: 0,
    };
    let header = bytes
        .first_chunk()
        .and_then(|header| Header::decode(header, place).ok())
        .filter(|header| header.kind == Kind::Head);
    let whole = header.is_some_and(|header| check_record(&bytes, &header, place).is_some());
    Ok(match whole {
        true => Head::Whole(superblock),
        false => Head::Bad,
    })
}

const _: () = assert!(HEADER_LEN + SUPERBLOCK_LEN + CRC_LEN < BLOCK_LEN as usize);
