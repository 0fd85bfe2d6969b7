//! Reads a chunk file from its first byte and says what it holds, what a power cut tore and what
//! is damaged. Only reads: what to do about it is decided in `recover`.
//!
//! Every header says up to which block its file was durable when it was written. Bad bytes below
//! the highest such mark were lost later: damage, reported and never cut. Bad bytes above it
//! belong to the last commit, which may never have been acknowledged: torn.

use super::error::StoreError;
use super::record::{
    BLOCK_LEN, FOOTER_LEN, Footer, HEADER_LEN, Header, HeaderFault, Kind, RECORD_CELLS_MAX,
    RecordPlace, VERSION, check_record, decode_deletions,
};
use super::shard::{Entry, Extent, RECORD_LOST};
use megalith_disk::{File, read_exact_at};
use megalith_model::ids::{DiskId, Epoch, VolumeId};
use megalith_model::shard::ShardKey;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;

/// The shards of a chunk file, and what its records say of each.
pub(super) type ShardTable = BTreeMap<ShardKey, Entry>;

/// Read at once if records follow each other closely, in bytes.
const STEP: usize = 16 << 10;
/// Read at once while no record is found.
const SEARCH_STEP: usize = 1 << 20;

/// Blocks from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// Which chunk file is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileId {
    pub(super) disk: DiskId,
    pub(super) volume: VolumeId,
    pub(super) seq: u32,
}

impl FileId {
    pub(super) fn place(self, block: u32) -> RecordPlace {
        RecordPlace {
            disk: self.disk,
            file: self.seq,
            block,
        }
    }
}

/// What a chunk file holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The file's last word on every shard it knows.
    pub(super) table: ShardTable,
    /// The highest epoch seen.
    pub(super) epoch: Epoch,
    /// The highest record number seen.
    pub(super) lsn_max: u64,
    /// Blocks below are known to have been durable.
    pub(super) synced: u32,
    /// The block after the last record worth keeping; the rest must be cut.
    pub(super) end: u32,
    /// Torn pieces between good records.
    pub(super) torn: Vec<Region>,
    /// True if the cut takes away more than blank space.
    pub(super) tail_torn: bool,
    /// Pieces that were durable and are bad now.
    pub(super) damage: Vec<Region>,
    /// Records that hold nothing of a shard in the table: of streams that never ended, of shards
    /// that this file itself says are deleted, skipped ones. Empty if there is damage, because then
    /// they may be what is left of a shard.
    pub(super) dead: Vec<(u32, u32)>,
    /// True if the file ends with a mark, as after a clean stop: no record can be missing at
    /// its end.
    pub(super) clean: bool,
    /// True if the disk refused to read a part: then nothing may be cut or made permanent.
    pub(super) unreadable: bool,
}

struct Found {
    block: u32,
    header: Header,
    footer: Option<Footer>,
    /// False for a record above the durable mark that does not check out.
    good: bool,
}

impl Found {
    fn end(&self) -> u32 {
        self.block + (self.header.record_len() / BLOCK_LEN) as u32
    }
}

/// Scans the whole of `file`.
pub(super) fn scan(file: &dyn File, id: FileId, path: &Path) -> Result<Scan, StoreError> {
    let len = file
        .len()
        .map_err(|error| StoreError::io("measure", path, error))?;
    let mut scanner = Scanner {
        id,
        window: Window::new(file, len),
        path,
    };
    let mut records = scanner.walk()?;
    let synced = records
        .iter()
        .map(|found| found.header.synced)
        .max()
        .unwrap_or(0);
    for found in records.iter_mut().filter(|found| found.block >= synced) {
        found.good = scanner.check(found);
    }
    let end = records
        .iter()
        .filter(|found| found.good)
        .map(Found::end)
        .max()
        .unwrap_or(0);
    let mut scan = Scan {
        synced,
        end: end.max(synced),
        ..Scan::default()
    };
    classify(&mut scan, &records, synced);
    scan.tail_torn = scanner.has_bytes(scan.end);
    let last = records.iter().rfind(|found| found.good);
    let marked = last.is_some_and(|last| last.header.kind == Kind::Mark && last.end() == scan.end);
    scan.clean = marked && !scan.tail_torn && scan.torn.is_empty() && scan.damage.is_empty();
    records.retain(|found| found.good);
    assemble(&mut scan, &records, &mut scanner);
    scan.unreadable = scanner.window.unreadable;
    if scan.damage.is_empty() && !scan.unreadable {
        scan.dead = dead(&scan, &records);
    }
    Ok(scan)
}

/// Sorts everything below the end that is no good record into torn and damaged.
fn classify(scan: &mut Scan, records: &[Found], synced: u32) {
    let mut bad = |start: u32, end: u32| {
        let region = Region { start, end };
        if start < synced {
            scan.damage.push(region)
        } else {
            scan.torn.push(region)
        }
    };
    let mut next = 0;
    for found in records.iter().filter(|found| found.good) {
        if found.block > next {
            bad(next, found.block);
        }
        next = found.end();
    }
    if next < scan.end {
        bad(next, scan.end);
    }
}

/// Puts the records of each shard together.
fn assemble(scan: &mut Scan, records: &[Found], scanner: &mut Scanner<'_>) {
    let mut streams: HashMap<u32, Vec<&Found>> = HashMap::new();
    for found in records {
        scan.epoch = scan.epoch.max(found.header.epoch);
        scan.lsn_max = scan.lsn_max.max(found.header.lsn);
        match found.header.kind {
            Kind::Cells => {
                streams.entry(found.header.stream).or_default().push(found);
                if found.header.last {
                    let parts = streams.remove(&found.header.stream).unwrap_or_default();
                    if let Some(extent) = extent(&parts, found, &scan.damage) {
                        let (lsn, epoch) = (found.header.lsn, found.header.epoch);
                        let entry = Entry {
                            lsn,
                            epoch,
                            extent: Some(extent),
                        };
                        remember(&mut scan.table, found.header.key, entry);
                    }
                }
            }
            Kind::Tombstone => match scanner.deletions(found) {
                Some(deletions) => {
                    for (key, lsn) in deletions {
                        scan.lsn_max = scan.lsn_max.max(lsn);
                        let entry = Entry {
                            lsn,
                            epoch: found.header.epoch,
                            extent: None,
                        };
                        remember(&mut scan.table, key, entry);
                    }
                }
                None => scan.damage.push(Region {
                    start: found.block,
                    end: found.end(),
                }),
            },
            Kind::Head | Kind::Fence | Kind::Mark | Kind::Skip => {}
        }
    }
}

/// The good records that no shard of the table has, and the torn pieces.
fn dead(scan: &Scan, records: &[Found]) -> Vec<(u32, u32)> {
    let extents = scan
        .table
        .values()
        .filter_map(|entry| entry.extent.as_ref());
    let living: HashSet<u32> = extents
        .flat_map(Extent::blocks)
        .map(|(start, _)| start)
        .collect();
    let is_dead = |found: &&Found| match found.header.kind {
        Kind::Cells => !living.contains(&found.block),
        Kind::Skip => true,
        Kind::Head | Kind::Tombstone | Kind::Fence | Kind::Mark => false,
    };
    let dead = records.iter().filter(is_dead);
    let torn = scan.torn.iter().map(|region| (region.start, region.end));
    dead.map(|found| (found.block, found.end()))
        .chain(torn)
        .collect()
}

/// Keeps the newer of two entries.
pub(super) fn remember(table: &mut ShardTable, key: ShardKey, entry: Entry) {
    match table.get_mut(&key) {
        Some(old) if old.lsn >= entry.lsn => {}
        Some(old) => *old = entry,
        None => {
            table.insert(key, entry);
        }
    }
}

/// Where a shard lies, from its records; None if one is missing that was never durable.
fn extent(parts: &[&Found], last: &Found, damage: &[Region]) -> Option<Extent> {
    let header = &last.header;
    let full = parts
        .iter()
        .find(|part| !part.header.last)
        .map(|part| part.header.cells);
    let record_cells = match full {
        Some(cells) => cells,
        None if header.first_cell == 0 => header.cells,
        None => RECORD_CELLS_MAX,
    };
    if !header.first_cell.is_multiple_of(u32::from(record_cells)) {
        return None;
    }
    let index = |first_cell: u32| (first_cell / u32::from(record_cells)) as usize;
    let mut records = vec![RECORD_LOST; index(header.first_cell) + 1];
    for part in parts.iter().filter(|part| part.header.key == header.key) {
        *records.get_mut(index(part.header.first_cell))? = part.block;
    }
    let lost = records.contains(&RECORD_LOST);
    if lost && !damage.iter().any(|region| region.end > header.stream) {
        return None;
    }
    let before = u64::from(header.first_cell) * super::record::CELL_LEN as u64;
    let len = before + u64::from(header.length);
    Some(Extent {
        len,
        cells: header.first_cell + u32::from(header.cells),
        record_cells,
        digest: last
            .footer
            .filter(|footer| footer.total == len)
            .map(|footer| footer.digest),
        records: records.into_boxed_slice(),
    })
}

struct Scanner<'a> {
    id: FileId,
    window: Window<'a>,
    path: &'a Path,
}

impl Scanner<'_> {
    /// Finds every record with a sound header, in order.
    fn walk(&mut self) -> Result<Vec<Found>, StoreError> {
        let blocks = u32::try_from(self.window.len / BLOCK_LEN).unwrap_or(u32::MAX - 1);
        let mut records: Vec<Found> = Vec::new();
        let mut block = 0;
        let mut step = STEP;
        while block < blocks {
            let Some(header) = self.header(block, step)? else {
                (block, step) = (block + 1, SEARCH_STEP);
                continue;
            };
            let found = Found {
                block,
                header,
                footer: None,
                good: true,
            };
            if found.end() > blocks {
                (block, step) = (block + 1, SEARCH_STEP);
                continue;
            }
            block = found.end();
            step = STEP;
            let footer = self.footer(block, &found);
            records.push(Found { footer, ..found });
        }
        Ok(records)
    }

    fn header(&mut self, block: u32, step: usize) -> Result<Option<Header>, StoreError> {
        let place = self.id.place(block);
        let offset = u64::from(block) * BLOCK_LEN;
        let Some(bytes) = self.window.get(offset, HEADER_LEN, step) else {
            return Ok(None);
        };
        let Some(bytes) = bytes.first_chunk() else {
            return Ok(None);
        };
        match Header::decode(bytes, place) {
            Ok(header) if header.volume == self.id.volume => Ok(Some(header)),
            Ok(_) | Err(HeaderFault::Bad) => Ok(None),
            Err(HeaderFault::OtherFormat(found)) => Err(StoreError::OtherFormat {
                path: self.path.to_path_buf(),
                found: found.into(),
                known: VERSION.into(),
            }),
        }
    }

    fn footer(&mut self, end: u32, found: &Found) -> Option<Footer> {
        let offset = u64::from(end) * BLOCK_LEN - FOOTER_LEN as u64;
        let bytes = self.window.get(offset, FOOTER_LEN, STEP)?;
        Footer::decode(
            bytes.first_chunk()?,
            self.id.place(found.block),
            found.header.lsn,
        )
    }

    /// Reads a record above the durable mark and checks all of it.
    fn check(&mut self, found: &Found) -> bool {
        if found.header.kind == Kind::Skip {
            return true;
        }
        let Some(bytes) = self.record(found) else {
            return false;
        };
        check_record(&bytes, &found.header, self.id.place(found.block)).is_some()
    }

    fn deletions(&mut self, found: &Found) -> Option<Vec<(ShardKey, u64)>> {
        let bytes = self.record(found)?;
        check_record(&bytes, &found.header, self.id.place(found.block))?;
        let (offset, len) = found.header.cell_span(0);
        Some(decode_deletions(bytes.get(offset..offset + len)?).collect())
    }

    fn record(&mut self, found: &Found) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(found.header.record_len()).ok()?];
        let offset = u64::from(found.block) * BLOCK_LEN;
        self.window.read(&mut bytes, offset).then_some(bytes)
    }

    /// True if anything but zeros follows `block`.
    fn has_bytes(&mut self, block: u32) -> bool {
        let mut offset = u64::from(block) * BLOCK_LEN;
        while offset < self.window.len {
            let len = (self.window.len - offset).min(SEARCH_STEP as u64) as usize;
            match self.window.get(offset, len, len) {
                Some(bytes) if bytes.iter().all(|&byte| byte == 0) => offset += len as u64,
                Some(_) | None => return true,
            }
        }
        false
    }
}

/// A file read in larger pieces than asked for.
pub(super) struct Window<'a> {
    file: &'a dyn File,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
    unreadable: bool,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn File, len: u64) -> Self {
        Self {
            file,
            len,
            start: 0,
            bytes: Vec::new(),
            unreadable: false,
        }
    }

    /// Returns `len` bytes at `offset`, reading `ahead`; None beyond the end or if the disk
    /// refuses.
    pub(super) fn get(&mut self, offset: u64, len: usize, ahead: usize) -> Option<&[u8]> {
        if offset + len as u64 > self.len {
            return None;
        }
        let held = self.start..self.start + self.bytes.len() as u64;
        if offset < held.start || offset + len as u64 > held.end {
            let wanted = (ahead.max(len) as u64).min(self.len - offset) as usize;
            // A part read ahead may be unreadable while what is wanted is not.
            let filled = self.fill(offset, wanted) || (wanted > len && self.fill(offset, len));
            if !filled {
                return None;
            }
        }
        let at = (offset - self.start) as usize;
        self.bytes.get(at..at + len)
    }

    fn fill(&mut self, offset: u64, len: usize) -> bool {
        self.start = offset;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(len, 0);
        if self.read(&mut bytes, offset) {
            self.bytes = bytes;
        }
        !self.bytes.is_empty()
    }

    fn read(&mut self, bytes: &mut [u8], offset: u64) -> bool {
        match read_exact_at(self.file, bytes, offset) {
            Ok(()) => true,
            Err(error) => {
                self.unreadable |= error.kind() != io::ErrorKind::UnexpectedEof;
                false
            }
        }
    }
}
