//! The superblock: which disk of which cluster a directory is.

use super::error::StoreError;
use super::record::{u32_at, u64_at};
use megalith_disk::crc32c::crc32c;
use megalith_disk::{FileSystem, read_exact_at, replace_file};
use megalith_model::ids::{ClusterId, DiskId};
use std::io;
use std::path::{Path, PathBuf};

/// See `docs/formats/disk.md`. Version 1, which nobody has, had cells of 65,536 bytes.
pub(super) const FORMAT_VERSION: u32 = 3;
const MAGIC: [u8; 8] = *b"MEGALITH";
const LEN: usize = 64;

/// Who a disk is. Written when the disk is formatted; the scrub writes the same again if it finds
/// the file bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    pub disk: DiskId,
    /// When it was formatted, milliseconds since 1970.
    pub created_ms: u64,
}

impl Superblock {
    pub(super) fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.cluster.0);
        bytes[32..48].copy_from_slice(&self.disk.0);
        bytes[48..56].copy_from_slice(&self.created_ms.to_le_bytes());
        let crc = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; LEN], path: &Path) -> Result<Self, StoreError> {
        let bad = |what| StoreError::BadSuperblock {
            path: path.to_path_buf(),
            what,
        };
        if bytes[..8] != MAGIC {
            return Err(bad("wrong magic"));
        }
        if u32_at(bytes, 60) != crc32c(&bytes[..60]) {
            return Err(bad("wrong checksum"));
        }
        let found = u32_at(bytes, 8);
        if found != FORMAT_VERSION {
            let path = path.to_path_buf();
            return Err(StoreError::OtherFormat {
                path,
                found,
                known: FORMAT_VERSION,
            });
        }
        let mut cluster = [0; 16];
        cluster.copy_from_slice(&bytes[16..32]);
        let mut disk = [0; 16];
        disk.copy_from_slice(&bytes[32..48]);
        Ok(Self {
            cluster: ClusterId(cluster),
            disk: DiskId(disk),
            created_ms: u64_at(bytes, 48),
        })
    }

    /// Reads the superblock of the disk at `root`.
    pub(super) fn read(fs: &dyn FileSystem, root: &Path) -> Result<Self, StoreError> {
        let path = path(root);
        let file = match fs.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoSuperblock { path });
            }
            result => result.map_err(|error| StoreError::io("open", &path, error))?,
        };
        let mut bytes = [0; LEN];
        match read_exact_at(file.as_ref(), &mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(StoreError::BadSuperblock {
                    path,
                    what: "too short",
                });
            }
            result => result.map_err(|error| StoreError::io("read", &path, error))?,
        }
        Self::decode(&bytes, &path)
    }

    /// Writes it, durably. The last step of formatting: a disk without one does not exist.
    pub(super) fn write(&self, fs: &dyn FileSystem, root: &Path) -> Result<(), StoreError> {
        let path = path(root);
        replace_file(fs, &path, &self.encode())
            .map_err(|error| StoreError::io("write", path, error))
    }
}

fn path(root: &Path) -> PathBuf {
    root.join("superblock")
}
