//! The superblock: which disk of which cluster a directory is.
//!
//! It is kept in two files, and again in the head of every chunk file. Whichever of the two is lost
//! or damaged is written again from the other; when both are, an operator has it made again from
//! the heads ([`super::rebuild`]).

use super::error::StoreError;
use super::record::{u32_at, u64_at};
use megalith_disk::crc32c::crc32c;
use megalith_disk::{FileSystem, read_exact_at, replace_file};
use megalith_model::claim::DiskProof;
use megalith_model::ids::{ClusterId, DiskId};
use std::cmp::Ordering;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// See `docs/formats/disk.md`. Versions 1 and 2, which nobody has, knew no secret and volumes of 32
/// bits.
pub(super) const FORMAT_VERSION: u32 = 3;
const MAGIC: [u8; 8] = *b"MEGALITH";
/// Bytes of a superblock.
pub(super) const SUPERBLOCK_LEN: usize = 128;
const CRC_AT: usize = SUPERBLOCK_LEN - 4;
/// The two files of a disk that hold its superblock.
pub(super) const NAMES: [&str; 2] = ["superblock", "superblock-2"];
/// Never changed: proofs made with it stand in the cluster's rows.
const PROOF_CONTEXT: &str = "megalith 2026 proof of having a disk's superblock v1";

/// Random bytes, drawn when the disk is formatted. Whoever knows them can claim the disk as its
/// node, so they never leave the disk and its node, and are never printed.
#[derive(Clone, PartialEq, Eq)]
struct DiskSecret(Zeroizing<[u8; 32]>);

impl fmt::Debug for DiskSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskSecret(not shown)")
    }
}

/// Who a disk is. Written when the disk is formatted, and never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    pub disk: DiskId,
    /// When it was formatted, milliseconds since 1970.
    pub created_ms: u64,
    /// Of two copies the one with the higher number counts. From 1.
    generation: u64,
    secret: DiskSecret,
}

impl Superblock {
    /// Makes the first superblock of a disk. `disk` and `secret` must be fresh random bytes.
    #[must_use]
    pub fn new(cluster: ClusterId, disk: DiskId, created_ms: u64, secret: [u8; 32]) -> Self {
        Self {
            cluster,
            disk,
            created_ms,
            generation: 1,
            secret: DiskSecret(Zeroizing::new(secret)),
        }
    }

    /// Returns what shows the cluster that a node has this superblock. The secret can't be found
    /// from it; the proof itself can be used by whoever sees it.
    #[must_use]
    pub fn proof(&self) -> DiskProof {
        let mut hasher = blake3::Hasher::new_derive_key(PROOF_CONTEXT);
        hasher.update(&self.cluster.0);
        hasher.update(&self.disk.0);
        hasher.update(&*self.secret.0);
        DiskProof(*hasher.finalize().as_bytes())
    }

    /// Returns the stored form, which holds the secret.
    pub(super) fn encode(&self) -> [u8; SUPERBLOCK_LEN] {
        let mut bytes = [0; SUPERBLOCK_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.cluster.0);
        bytes[32..48].copy_from_slice(&self.disk.0);
        bytes[48..56].copy_from_slice(&self.created_ms.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.generation.to_le_bytes());
        bytes[64..96].copy_from_slice(&*self.secret.0);
        let crc = crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SUPERBLOCK_LEN], path: &Path) -> Result<Self, StoreError> {
        let bad = |what| StoreError::BadSuperblock {
            path: path.to_path_buf(),
            what,
        };
        if bytes[..8] != MAGIC {
            return Err(bad("wrong magic"));
        }
        if u32_at(bytes, CRC_AT) != crc32c(&bytes[..CRC_AT]) {
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
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(&bytes[64..96]);
        Ok(Self {
            cluster: ClusterId(cluster),
            disk: DiskId(disk),
            created_ms: u64_at(bytes, 48),
            generation: u64_at(bytes, 56),
            secret: DiskSecret(secret),
        })
    }

    /// Returns true if both are of one disk as it was formatted.
    #[must_use]
    pub fn is_of_one_disk(&self, other: &Self) -> bool {
        let generation = self.generation;
        let other = other.clone();
        *self
            == Self {
                generation,
                ..other
            }
    }

    /// Returns true if it counts against an older one of the same disk.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        self.generation > other.generation
    }

    /// Writes both copies, durably. The last step of formatting: a disk without any does not exist.
    pub(super) fn write(&self, fs: &dyn FileSystem, root: &Path) -> Result<(), StoreError> {
        // Each replaces its file as a whole, so that a good one is there at any time.
        NAMES
            .iter()
            .rev()
            .try_for_each(|name| self.write_copy(fs, &root.join(name)))
    }

    /// Writes one copy, durably.
    pub(super) fn write_copy(&self, fs: &dyn FileSystem, path: &Path) -> Result<(), StoreError> {
        replace_file(fs, path, &self.encode()).map_err(|error| StoreError::io("write", path, error))
    }
}

/// What the two files of a disk say.
#[derive(Debug)]
pub(super) struct FoundSuperblock {
    pub(super) superblock: Superblock,
    /// The copy that has to be written again, and why: it is lost, damaged or old.
    pub(super) bad: Option<(PathBuf, StoreError)>,
}

impl FoundSuperblock {
    /// Reads the superblock of the disk at `root` from whichever of its copies is good.
    pub(super) fn read(fs: &dyn FileSystem, root: &Path) -> Result<Self, StoreError> {
        let [first, second] = NAMES.map(|name| root.join(name));
        match (read_copy(fs, &first), read_copy(fs, &second)) {
            (Ok(one), Ok(other)) => choose((one, first), (other, second)),
            (Err(error @ StoreError::OtherFormat { .. }), _)
            | (_, Err(error @ StoreError::OtherFormat { .. })) => Err(error),
            (Ok(superblock), Err(why)) => Ok(Self {
                superblock,
                bad: Some((second, why)),
            }),
            (Err(why), Ok(superblock)) => Ok(Self {
                superblock,
                bad: Some((first, why)),
            }),
            // Damage says more than absence.
            (Err(StoreError::NoSuperblock { .. }), Err(error)) | (Err(error), Err(_)) => Err(error),
        }
    }

    /// Writes the bad copy again, if there is one; returns whether it did. A disk that takes no
    /// write can still be read, so a failure is only logged.
    pub(super) fn mend(self, fs: &dyn FileSystem) -> bool {
        let Some((path, why)) = self.bad else {
            return false;
        };
        let path_shown = path.display();
        match self.superblock.write_copy(fs, &path) {
            Ok(()) => {
                tracing::warn!(path = %path_shown, %why, "superblock is written again");
                true
            }
            Err(error) => {
                tracing::error!(path = %path_shown, %why, %error, "superblock can't be mended");
                false
            }
        }
    }
}

/// Takes the newer of two copies.
fn choose(
    (one, first): (Superblock, PathBuf),
    (other, second): (Superblock, PathBuf),
) -> Result<FoundSuperblock, StoreError> {
    if !one.is_of_one_disk(&other) {
        let path = second.with_file_name("");
        return Err(StoreError::TwoSuperblocks { path });
    }
    let old = |path| StoreError::BadSuperblock {
        path,
        what: "it is older than the file beside it",
    };
    Ok(match one.generation.cmp(&other.generation) {
        Ordering::Equal => FoundSuperblock {
            superblock: one,
            bad: None,
        },
        Ordering::Greater => FoundSuperblock {
            superblock: one,
            bad: Some((second.clone(), old(second))),
        },
        Ordering::Less => FoundSuperblock {
            superblock: other,
            bad: Some((first.clone(), old(first))),
        },
    })
}

fn read_copy(fs: &dyn FileSystem, path: &Path) -> Result<Superblock, StoreError> {
    let file = match fs.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = path.to_path_buf();
            return Err(StoreError::NoSuperblock { path });
        }
        result => result.map_err(|error| StoreError::io("open", path, error))?,
    };
    let mut bytes = [0; SUPERBLOCK_LEN];
    match read_exact_at(file.as_ref(), &mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(StoreError::BadSuperblock {
                path: path.to_path_buf(),
                what: "too short",
            });
        }
        result => result.map_err(|error| StoreError::io("read", path, error))?,
    }
    Superblock::decode(&bytes, path)
}
