//! The index file of a finished chunk file: sorted blocks of entries, found by binary search over
//! the first key of each block. In memory are only these keys. Layout in
//! `docs/formats/disk.md`. A bad index costs a scan of the chunk file, never a shard.

use super::record::{BLOCK_LEN, CRC_LEN, RECORDS_MAX, RecordPlace, u32_at, u64_at};
use super::scan::{FileId, ShardTable};
use super::shard::{Entry, Extent, KEY_LEN, key_from_bytes, key_to_bytes};
use bytes::{Buf, BufMut};
use megalith_disk::{File, read_exact_at};
use megalith_model::ids::Epoch;
use megalith_model::shard::ShardKey;
use std::io;

const MAGIC: [u8; 4] = *b"MGRi";
const VERSION: u32 = 2;
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
    let mut out = encode_head(id, facts, blocks.len() as u32, &keys);
    for (number, mut block) in (1..).zip(blocks) {
        block.resize(BLOCK - CRC_LEN, 0);
        out.extend_from_slice(&block);
        out.put_u32_le(id.place(number).crc(&block));
    }
    out.extend_from_slice(&keys);
    out
}

fn encode_head(id: FileId, facts: FinishedFacts, blocks: u32, keys: &[u8]) -> Vec<u8> {
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
        let offset = (u64::from(blocks) + 1) * BLOCK_LEN;
        let keys_len = u64::from(blocks) * KEY_LEN as u64;
        if file.len().map_err(|_| BadIndex)? != offset + keys_len {
            return Err(BadIndex);
        }
        let mut keys = vec![0; usize::try_from(keys_len).map_err(|_| BadIndex)?];
        read_exact_at(file, &mut keys, offset).map_err(|_| BadIndex)?;
        if id.place(0).crc(&keys) != u32_at(&head, 60) {
            return Err(BadIndex);
        }
        let first_keys = keys.as_chunks().0.iter().map(key_from_bytes).collect();
        Ok(Self {
            id,
            facts,
            first_keys,
        })
    }

    /// Finds the entry for `key`.
    pub(super) fn find(&self, file: &dyn File, key: ShardKey) -> Result<Option<Entry>, BadIndex> {
        let Some(block) = self.block_of(key) else {
            return Ok(None);
        };
        let entries = self.block(file, block)?;
        Ok(entries
            .into_iter()
            .find(|(found, _)| *found == key)
            .map(|(_, entry)| entry))
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
        let block = u32::try_from(number + 1).map_err(|_| BadIndex)?;
        let bytes = read_block(file, self.id.place(block))?;
        let mut rest = &bytes[..BLOCK - CRC_LEN];
        let count = rest.get_u16_le();
        let entries: Option<Vec<_>> = (0..count).map(|_| decode_entry(&mut rest)).collect();
        entries.ok_or(BadIndex)
    }
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
