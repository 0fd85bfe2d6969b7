//! The scrub's own file, `scrub` in the disk's directory: how far it is, and the shards known to be
//! damaged. Layout in `docs/formats/disk.md`.
//!
//! Replaced as a whole, never changed in place. One that is missing or bad costs a pass that begins
//! again, nothing else: what was known to be damaged is found again.

use super::plan::{ScrubProgress, Spot};
use crate::record::{u32_at, u64_at};
use crate::shard::{KEY_LEN, key_from_bytes, key_to_bytes};
use bytes::{Buf, BufMut};
use megalith_disk::crc32c::crc32c;
use megalith_disk::{FileSystem, read_exact_at, replace_file};
use megalith_model::ids::{DiskId, VolumeId};
use megalith_model::shard::ShardId;
use std::io;
use std::path::Path;

const MAGIC: [u8; 4] = *b"MGRs";
const VERSION: u32 = 2;
const HEAD_LEN: usize = 112;
const ENTRY_LEN: usize = 40;
/// As many as are remembered by name.
const DAMAGED_MAX: usize = 262_144;

/// A shard known to be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DamagedShard {
    pub(crate) shard: ShardId,
    /// Of the record that holds; an entry for another one is out of date.
    pub(crate) lsn: u64,
    /// The first bad cell.
    pub(crate) cell: u64,
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) progress: ScrubProgress,
    pub(crate) damaged: Vec<DamagedShard>,
}

/// Why there is no ledger.
#[derive(Debug)]
pub(crate) enum NoLedger {
    /// There is no file: the disk is new.
    Missing,
    /// It does not check out.
    Bad,
}

impl Ledger {
    pub(crate) fn encode(&self, disk: DiskId) -> Vec<u8> {
        let damaged = &self.damaged[..self.damaged.len().min(DAMAGED_MAX)];
        let mut out = Vec::with_capacity(HEAD_LEN + damaged.len() * ENTRY_LEN + 4);
        let progress = &self.progress;
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        out.put_slice(&disk.0);
        out.put_u64_le(progress.at.volume.0);
        out.put_u32_le(progress.at.seq);
        out.put_u32_le(progress.at.block);
        out.put_u32_le(u32::from(progress.demanded));
        out.put_u32_le(0);
        for number in [
            progress.began_ms,
            progress.passes,
            progress.finished_ms,
            progress.fresh_lsn,
            progress.fresh_ms,
            progress.checked_bytes,
            progress.found_shards,
            damaged.len() as u64,
        ] {
            out.put_u64_le(number);
        }
        out.resize(HEAD_LEN, 0);
        for entry in damaged {
            out.put_u64_le(entry.shard.volume.0);
            out.put_slice(&key_to_bytes(entry.shard.key()));
            out.put_bytes(0, 3);
            out.put_u64_le(entry.lsn);
            out.put_u64_le(entry.cell);
        }
        let crc = crc32c(&out);
        out.put_u32_le(crc);
        out
    }

    pub(crate) fn decode(bytes: &[u8], disk: DiskId) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let ours = body.len() >= HEAD_LEN
            && u32::from_le_bytes(*crc) == crc32c(body)
            && body[..4] == MAGIC
            && u32_at(body, 4) == VERSION
            && body[8..24] == disk.0;
        if !ours || u64_at(body, 104) > DAMAGED_MAX as u64 {
            return None;
        }
        let progress = ScrubProgress {
            at: Spot {
                volume: VolumeId(u64_at(body, 24)),
                seq: u32_at(body, 32),
                block: u32_at(body, 36),
            },
            demanded: u32_at(body, 40) != 0,
            began_ms: u64_at(body, 48),
            passes: u64_at(body, 56),
            finished_ms: u64_at(body, 64),
            fresh_lsn: u64_at(body, 72),
            fresh_ms: u64_at(body, 80),
            checked_bytes: u64_at(body, 88),
            found_shards: u64_at(body, 96),
        };
        let entries = &body[HEAD_LEN..];
        if entries.len() as u64 != u64_at(body, 104) * ENTRY_LEN as u64 {
            return None;
        }
        let damaged = entries
            .as_chunks::<ENTRY_LEN>()
            .0
            .iter()
            .map(entry)
            .collect();
        Some(Self { progress, damaged })
    }

    /// Reads the file.
    pub(crate) fn read(fs: &dyn FileSystem, path: &Path, disk: DiskId) -> Result<Self, NoLedger> {
        let file = match fs.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoLedger::Missing),
            result => result.map_err(|_| NoLedger::Bad)?,
        };
        let longest = (HEAD_LEN + DAMAGED_MAX * ENTRY_LEN + 4) as u64;
        let len = file
            .len()
            .ok()
            .filter(|len| *len <= longest)
            .ok_or(NoLedger::Bad)?;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| NoLedger::Bad)?];
        read_exact_at(file.as_ref(), &mut bytes, 0).map_err(|_| NoLedger::Bad)?;
        Self::decode(&bytes, disk).ok_or(NoLedger::Bad)
    }

    /// Replaces the file, durably.
    pub(crate) fn write(&self, fs: &dyn FileSystem, path: &Path, disk: DiskId) -> io::Result<()> {
        replace_file(fs, path, &self.encode(disk))
    }
}

fn entry(bytes: &[u8; ENTRY_LEN]) -> DamagedShard {
    let mut rest = &bytes[..];
    let volume = VolumeId(rest.get_u64_le());
    let key = rest
        .first_chunk::<{ KEY_LEN }>()
        .expect("32 bytes hold a key");
    DamagedShard {
        shard: key_from_bytes(key).of(volume),
        lsn: u64_at(bytes, 24),
        cell: u64_at(bytes, 32),
    }
}
