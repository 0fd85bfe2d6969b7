//! The frame of those files of a disk that hold a list of shards and are replaced as a whole: a
//! head, entries of 40 bytes, the CRC-32C of everything before. Layout in `docs/formats/disk.md`.

use super::record::{u32_at, u64_at};
use super::shard::{KEY_LEN, key_from_bytes, key_to_bytes};
use bytes::{Buf, BufMut};
use megalith_disk::crc32c::crc32c;
use megalith_disk::{FileSystem, read_exact_at};
use megalith_model::ids::{DiskId, VolumeId};
use megalith_model::shard::ShardId;
use std::io;
use std::path::Path;

const CRC_LEN: usize = 4;
pub(crate) const ENTRY_LEN: usize = 40;

/// What tells one such file from another.
pub(crate) struct ListFile {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    /// Bytes before the first entry: magic, version, the disk, what the file's owner adds, zeros.
    pub(crate) head_len: usize,
    pub(crate) entries_max: usize,
}

/// A shard and what the file's owner says of it.
pub(crate) struct Entry {
    pub(crate) shard: ShardId,
    pub(crate) numbers: [u64; 2],
}

/// A file that does not check out.
#[derive(Debug)]
pub(crate) struct BadList;

impl ListFile {
    /// The file's bytes, `head` after the disk. The caller keeps to `entries_max`.
    pub(crate) fn encode(
        &self,
        disk: DiskId,
        head: &[u8],
        entries: impl ExactSizeIterator<Item = Entry>,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.head_len + entries.len() * ENTRY_LEN + CRC_LEN);
        out.put_slice(&self.magic);
        out.put_u32_le(self.version);
        out.put_slice(&disk.0);
        out.put_slice(head);
        assert!(out.len() <= self.head_len, "a head longer than its place");
        out.resize(self.head_len, 0);
        for entry in entries {
            out.put_u64_le(entry.shard.volume.0);
            out.put_slice(&key_to_bytes(entry.shard.key()));
            out.put_bytes(0, 3);
            entry
                .numbers
                .iter()
                .for_each(|number| out.put_u64_le(*number));
        }
        let crc = crc32c(&out);
        out.put_u32_le(crc);
        out
    }

    /// The whole head and the entries of a file of this disk; None if it does not check out.
    pub(crate) fn decode<'a>(
        &self,
        bytes: &'a [u8],
        disk: DiskId,
    ) -> Option<(&'a [u8], impl ExactSizeIterator<Item = Entry> + use<'a>)> {
        let (body, crc) = bytes.split_last_chunk::<CRC_LEN>()?;
        let (head, entries) = body.split_at_checked(self.head_len)?;
        let (entries, rest) = entries.as_chunks::<ENTRY_LEN>();
        let whole = u32::from_le_bytes(*crc) == crc32c(body)
            && head[..4] == self.magic
            && u32_at(head, 4) == self.version
            && head[8..24] == disk.0
            && rest.is_empty()
            && entries.len() <= self.entries_max;
        whole.then(|| (head, entries.iter().map(entry)))
    }

    /// The file's bytes; None if there is no such file.
    pub(crate) fn read(
        &self,
        fs: &dyn FileSystem,
        path: &Path,
    ) -> Result<Option<Vec<u8>>, BadList> {
        let file = match fs.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(|_| BadList)?,
        };
        let longest = self.head_len + self.entries_max * ENTRY_LEN + CRC_LEN;
        let len = file.len().ok().and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|len| *len <= longest).ok_or(BadList)?;
        let mut bytes = vec![0; len];
        read_exact_at(file.as_ref(), &mut bytes, 0).map_err(|_| BadList)?;
        Ok(Some(bytes))
    }
}

fn entry(bytes: &[u8; ENTRY_LEN]) -> Entry {
    let mut rest = &bytes[..];
    let volume = VolumeId(rest.get_u64_le());
    let key = rest
        .first_chunk::<{ KEY_LEN }>()
        .expect("32 bytes hold a key");
    Entry {
        shard: key_from_bytes(key).of(volume),
        numbers: [u64_at(bytes, 24), u64_at(bytes, 32)],
    }
}
