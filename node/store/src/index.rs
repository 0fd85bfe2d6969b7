//! The index file of a finished chunk file: sorted blocks of entries, found by binary search over
//! the first key of each block. In memory are only these keys, the last key and a filter, so that
//! a file that doesn't have a shard is not touched to learn that. Layout in
//! `docs/formats/disk.md`. A bad index costs a scan of the chunk file, never a shard.

use super::filter::{self, Filter, KeyHash};
use super::record::{BLOCK_LEN, CRC_LEN, RECORDS_MAX, RecordPlace, u32_at, u64_at};
use super::scan::{FileId, ShardTable};
use super::shard::{Entry, Extent, KEY_LEN, key_from_bytes, key_to_bytes};
use bytes::{Buf, BufMut};
use megalith_disk::{File, read_exact_at};
use megalith_model::ids::Epoch;
use megalith_model::shard::ShardKey;
use std::io;

const MAGIC: [u8; 4] = *b"MGRi";
const VERSION: u32 = 3;
const BLOCK: usize = BLOCK_LEN as usize;
/// Everything of an entry but its list of records.
const ENTRY_LEN: usize = KEY_LEN + 1 + 8 + 4;
const EXTENT_LEN: usize = 8 + 4 + 2 + 1 + 32 + 2;

/// Facts about a whole finished file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FinishedFacts {
    /// The highest epoch of its records.
    pub(super) epoch: Epoch,
    /// The highest record number in it.
    pub(super) lsn_max: u64,
    /// The block after its last record.
    pub(super) end: u32,
    /// How many shards and tombstones it has entries for.
    pub(super) entries: u32,
}

/// What stays in memory of an index file.
#[derive(Debug)]
pub(super) struct Index {
    id: FileId,
    pub(super) facts: FinishedFacts,
    first_keys: Vec<ShardKey>,
    /// None if the file has no entries.
    last_key: Option<ShardKey>,
    filter: Filter,
}

/// An index file that can't be trusted.
#[derive(Debug)]
pub(super) struct BadIndex;

/// Builds the bytes of an index file.
pub(super) fn encode(table: &ShardTable, id: FileId, facts: FinishedFacts) -> Vec<u8> {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut keys = Vec::new();
    let mut count: u16 = 0;
    for (key, entry) in table {
        let bytes = encode_entry(*key, entry);
        let fits = |block: &Vec<u8>| block.len() + bytes.len() <= BLOCK - CRC_LEN;
        if !blocks.last().is_some_and(fits) {
            blocks.push(vec![0; 2]);
            keys.extend_from_slice(&key_to_bytes(*key));
            count = 0;
        }
        if let Some(block) = blocks.last_mut() {
            count += 1;
            block.extend_from_slice(&bytes);
            block[..2].copy_from_slice(&count.to_le_bytes());
        }
    }
    if let Some((last, _)) = table.last_key_value() {
        keys.extend_from_slice(&key_to_bytes(*last));
    }
    let filter = Filter::of(table.keys().copied()).to_bytes();
    let mut out = encode_head(id, facts, blocks.len() as u32, &keys, &filter);
    for (number, mut block) in (1..).zip(blocks) {
        block.resize(BLOCK - CRC_LEN, 0);
        out.extend_from_slice(&block);
        out.put_u32_le(id.place(number).crc(&block));
    }
    out.extend_from_slice(&keys);
    out.extend_from_slice(&filter);
    out
}

fn encode_head(
    id: FileId,
    facts: FinishedFacts,
    blocks: u32,
    keys: &[u8],
    filter: &[u8],
) -> Vec<u8> {
    let mut head = Vec::with_capacity(BLOCK);
    head.put_slice(&MAGIC);
    head.put_u32_le(VERSION);
    head.put_slice(&id.disk.0);
    head.put_u64_le(id.volume.0);
    head.put_u32_le(id.seq);
    head.put_u32_le(facts.entries);
    head.put_u32_le(blocks);
    head.put_u64_le(facts.lsn_max);
    head.put_u32_le(facts.epoch.0);
    head.put_u32_le(facts.end);
    head.put_u32_le(id.place(0).crc(keys));
    head.put_u32_le((filter.len() / filter::BLOCK_BYTES) as u32);
    head.put_u32_le(id.place(0).crc(filter));
    head.resize(BLOCK - CRC_LEN, 0);
    let crc = id.place(0).crc(&head);
    head.put_u32_le(crc);
    head
}

fn encode_entry(key: ShardKey, entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENTRY_LEN + EXTENT_LEN + 4);
    out.put_slice(&key_to_bytes(key));
    out.put_u8(u8::from(entry.extent.is_some()));
    out.put_u64_le(entry.lsn);
    out.put_u32_le(entry.epoch.0);
    if let Some(extent) = &entry.extent {
        out.put_u64_le(extent.len);
        out.put_u32_le(extent.cells);
        out.put_u16_le(extent.record_cells);
        out.put_u8(u8::from(extent.digest.is_some()));
        out.put_slice(&extent.digest.unwrap_or_default());
        out.put_u16_le(extent.records.len() as u16);
        for record in &extent.records {
            out.put_u32_le(*record);
        }
    }
    out
}

fn decode_entry(bytes: &mut &[u8]) -> Option<(ShardKey, Entry)> {
    let (key, rest) = bytes.split_first_chunk()?;
    let key = key_from_bytes(key);
    *bytes = rest;
    let live = bytes.try_get_u8().ok()? != 0;
    let lsn = bytes.try_get_u64_le().ok()?;
    let epoch = Epoch(bytes.try_get_u32_le().ok()?);
    if !live {
        return Some((
            key,
            Entry {
                lsn,
                epoch,
                extent: None,
            },
        ));
    }
    let len = bytes.try_get_u64_le().ok()?;
    let cells = bytes.try_get_u32_le().ok()?;
    let record_cells = bytes.try_get_u16_le().ok().filter(|&cells| cells > 0)?;
    let known = bytes.try_get_u8().ok()? != 0;
    let (digest, rest) = bytes.split_first_chunk::<32>()?;
    *bytes = rest;
    let records = bytes
        .try_get_u16_le()
        .ok()
        .filter(|&n| u32::from(n) <= RECORDS_MAX)?;
    if u32::from(records) != cells.div_ceil(u32::from(record_cells)) {
        return None;
    }
    let records = (0..records)
        .map(|_| bytes.try_get_u32_le().ok())
        .collect::<Option<_>>()?;
    let digest = known.then_some(*digest);
    let extent = Extent {
        len,
        cells,
        record_cells,
        digest,
        records,
    };
    Some((
        key,
        Entry {
            lsn,
            epoch,
            extent: Some(extent),
        },
    ))
}

impl Index {
    /// Reads and checks the head and the key list of an index file.
    pub(super) fn load(file: &dyn File, id: FileId) -> Result<Self, BadIndex> {
        let head = read_block(file, id.place(0))?;
        let ours = head[..4] == MAGIC
            && u32_at(&head, 4) == VERSION
            && head[8..24] == id.disk.0
            && u64_at(&head, 24) == id.volume.0
            && u32_at(&head, 32) == id.seq;
        if !ours {
            return Err(BadIndex);
        }
        let facts = FinishedFacts {
            entries: u32_at(&head, 36),
            lsn_max: u64_at(&head, 44),
            epoch: Epoch(u32_at(&head, 52)),
            end: u32_at(&head, 56),
        };
        let blocks = u32_at(&head, 40);
        let keys_at = (u64::from(blocks) + 1) * BLOCK_LEN;
        // Each block's first one, and the last of all.
        let keys_len = (u64::from(blocks) + u64::from(blocks > 0)) * KEY_LEN as u64;
        let filter_len = u64::from(u32_at(&head, 64)) * filter::BLOCK_BYTES as u64;
        if file.len().map_err(|_| BadIndex)? != keys_at + keys_len + filter_len {
            return Err(BadIndex);
        }
        let checked = |at: u64, len: u64, crc: u32| {
            let mut bytes = vec![0; usize::try_from(len).map_err(|_| BadIndex)?];
            read_exact_at(file, &mut bytes, at).map_err(|_| BadIndex)?;
            let good = id.place(0).crc(&bytes) == crc;
            good.then_some(bytes).ok_or(BadIndex)
        };
        let keys = checked(keys_at, keys_len, u32_at(&head, 60))?;
        let filter = checked(keys_at + keys_len, filter_len, u32_at(&head, 68))?;
        let mut first_keys: Vec<_> = keys.as_chunks().0.iter().map(key_from_bytes).collect();
        let last_key = first_keys.pop();
        Ok(Self {
            id,
            facts,
            first_keys,
            last_key,
            filter: Filter::from_bytes(&filter).ok_or(BadIndex)?,
        })
    }

    /// False if there is no entry for `key`, which `hash` is of. Touches no file.
    pub(super) fn may_hold(&self, key: ShardKey, hash: KeyHash) -> bool {
        let range = self.first_keys.first().zip(self.last_key.as_ref());
        range.is_some_and(|(first, last)| (first..=last).contains(&&key))
            && self.filter.may_hold(hash)
    }

    /// Finds the entry for `key`.
    pub(super) fn find(&self, file: &dyn File, key: ShardKey) -> Result<Option<Entry>, BadIndex> {
        let Some(block) = self.block_of(key) else {
            return Ok(None);
        };
        let bytes = self.read(file, block)?;
        let mut rest = &bytes[..BLOCK - CRC_LEN];
        for _ in 0..rest.get_u16_le() {
            // What is passed over is not decoded.
            let (found, len) = measure_entry(rest).ok_or(BadIndex)?;
            if found == key {
                let (_, entry) = decode_entry(&mut rest).ok_or(BadIndex)?;
                return Ok(Some(entry));
            }
            rest = rest.get(len..).ok_or(BadIndex)?;
        }
        Ok(None)
    }

    /// The number of the block that `key` would be in, from 0; None below the first key.
    pub(super) fn block_of(&self, key: ShardKey) -> Option<usize> {
        self.first_keys
            .partition_point(|first| *first <= key)
            .checked_sub(1)
    }

    /// How many blocks of entries there are.
    pub(super) fn blocks(&self) -> usize {
        self.first_keys.len()
    }

    /// Reads the entries of one block, sorted.
    pub(super) fn block(
        &self,
        file: &dyn File,
        number: usize,
    ) -> Result<Vec<(ShardKey, Entry)>, BadIndex> {
        let bytes = self.read(file, number)?;
        let mut rest = &bytes[..BLOCK - CRC_LEN];
        let count = rest.get_u16_le();
        let entries: Option<Vec<_>> = (0..count).map(|_| decode_entry(&mut rest)).collect();
        entries.ok_or(BadIndex)
    }

    fn read(&self, file: &dyn File, number: usize) -> Result<[u8; BLOCK], BadIndex> {
        let block = u32::try_from(number + 1).map_err(|_| BadIndex)?;
        read_block(file, self.id.place(block))
    }
}

/// The key of the entry that some bytes begin with, and how long the entry is.
fn measure_entry(bytes: &[u8]) -> Option<(ShardKey, usize)> {
    let (key, rest) = bytes.split_first_chunk()?;
    let live = *rest.first()? != 0;
    let count_at = ENTRY_LEN + EXTENT_LEN - 2;
    let len = if live {
        let count = bytes.get(count_at..)?.first_chunk()?;
        ENTRY_LEN + EXTENT_LEN + 4 * usize::from(u16::from_le_bytes(*count))
    } else {
        ENTRY_LEN
    };
    Some((key_from_bytes(key), len))
}

fn read_block(file: &dyn File, place: RecordPlace) -> Result<[u8; BLOCK], BadIndex> {
    let mut bytes = [0; BLOCK];
    let read: io::Result<()> = read_exact_at(file, &mut bytes, u64::from(place.block) * BLOCK_LEN);
    read.map_err(|_| BadIndex)?;
    if place.crc(&bytes[..BLOCK - CRC_LEN]) != u32_at(&bytes, BLOCK - CRC_LEN) {
        return Err(BadIndex);
    }
    Ok(bytes)
}
