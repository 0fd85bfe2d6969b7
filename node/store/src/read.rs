//! Reading cells and lists. Every cell is checked just after it was read; what does not check out
//! is remembered as damaged and never handed out.

use super::catalog::{Catalog, LocatedShard, VolumeFiles, page_of};
use super::error::StoreError;
use super::files::is_loss;
use super::record::{BLOCK_LEN, CELL_LEN, CRC_LEN, Cell, HEADER_LEN, Header, Kind, u32_at};
use super::scan::FileId;
use super::shard::{Entry, RECORD_LOST};
use bytes::Bytes;
use megalith_disk::crc32c::crc32c;
use megalith_disk::{File, read_exact_at};
use megalith_model::ids::{BlobId, VolumeId};
use megalith_model::shard::{ShardId, ShardKey, ShardStat};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A place in a shard that could not be read.
struct BadCell(u64);

impl Catalog {
    /// Says what is known of a shard; None if there is none.
    pub(super) fn stat(&self, shard: ShardId) -> Result<Option<ShardStat>, StoreError> {
        Ok(self.find(shard)?.map(|located| {
            let LocatedShard { epoch, extent, .. } = located;
            let entry = Entry {
                lsn: located.lsn,
                epoch,
                extent: Some(extent),
            };
            self.stat_of(shard, &entry)
                .expect("an entry with an extent")
        }))
    }

    fn stat_of(&self, shard: ShardId, entry: &Entry) -> Option<ShardStat> {
        entry.extent.as_ref().map(|extent| ShardStat {
            shard,
            len: extent.len,
            digest: extent.digest,
            epoch: entry.epoch,
            damaged: !extent.is_whole() || self.health.is_damaged(shard),
        })
    }

    /// Reads `count` cells from `first` on; fewer if the shard ends before.
    pub(super) fn read(
        &self,
        shard: ShardId,
        first: u64,
        count: u64,
    ) -> Result<Vec<Cell>, StoreError> {
        let not_found = StoreError::NotFound { shard };
        let mut located = self.find(shard)?.ok_or(not_found.clone())?;
        // What is known to be damaged gets its second look from the scrub.
        let mut looked_twice = self.health.is_damaged(shard);
        let mut failed_once = false;
        loop {
            let cells = u64::from(located.extent.cells);
            if first >= cells {
                return Err(not_found);
            }
            let end = first.saturating_add(count).min(cells);
            let bad = match self.read_cells(shard, &located, first, end)? {
                Ok(cells) => {
                    if failed_once {
                        self.tell_passing(shard);
                    }
                    return Ok(cells);
                }
                Err(BadCell(cell)) => cell,
            };
            // A delete gives the blocks back while they are being read: that is no damage.
            let now = self.find(shard)?.ok_or(not_found.clone())?;
            if now.lsn == located.lsn {
                if !std::mem::replace(&mut looked_twice, true) {
                    failed_once = true;
                    self.drop_cached(shard.volume, &located);
                    continue;
                }
                // A disk that is gone has lost nothing that others should rebuild one by one.
                self.verify_home()?;
                self.report(shard, bad);
                return Err(StoreError::Damaged { shard, cell: bad });
            }
            located = now;
        }
    }

    /// Remembers a shard as damaged; true the first time.
    pub(super) fn report(&self, shard: ShardId, cell: u64) -> bool {
        let fresh = self.health.add_damaged(shard, cell);
        if fresh {
            let disk = self.superblock.disk;
            tracing::error!(%disk, %shard, cell, "shard is damaged");
        }
        fresh
    }

    fn read_cells(
        &self,
        shard: ShardId,
        located: &LocatedShard,
        first: u64,
        end: u64,
    ) -> Result<Result<Vec<Cell>, BadCell>, StoreError> {
        let file = match self.chunk_of(shard.volume, located) {
            Ok(file) => file,
            // The file was removed, after a move of its shards or by someone else (look again), or
            // the disk has lost it.
            Err(error) if is_loss(&error) => {
                return Ok(Err(BadCell(first)));
            }
            Err(error) => {
                let path = self.paths.chunk(shard.volume, located.seq);
                return Err(StoreError::io("open", path, error));
            }
        };
        let id = self.file_id(shard.volume, located.seq);
        let mut cells = Vec::with_capacity((end - first) as usize);
        let mut next = first;
        while next < end {
            let part = RecordPart::of(located, next, end);
            next += part.count;
            if let Err(bad) = part.read(file.as_ref(), id, shard, &mut cells) {
                return Ok(Err(bad));
            }
        }
        Ok(Ok(cells))
    }

    /// Lists live shards of a volume in key order, from behind `after`. At most `max`, or a few
    /// more: shards of the same blob and segment are never parted.
    pub(super) fn list(
        &self,
        volume: VolumeId,
        after: Option<(BlobId, u32)>,
        max: usize,
    ) -> Result<Vec<ShardStat>, StoreError> {
        let Some(volume) = self.volume(volume) else {
            return Ok(Vec::new());
        };
        let mut from = Some(ShardKey::MIN);
        if let Some((blob, segment)) = after {
            from = ShardKey {
                blob,
                segment,
                slot: u8::MAX,
            }
            .next();
        }
        let mut found: Vec<ShardStat> = Vec::new();
        while let Some(start) = from {
            let page = self.merged(&volume, start)?;
            for (key, entry) in page.held {
                let shard = key.of(volume.id);
                let full = found.len() >= max.max(1);
                let together = |last: &ShardStat| {
                    (last.shard.blob, last.shard.segment) == (key.blob, key.segment)
                };
                if full && !found.last().is_some_and(together) {
                    return Ok(found);
                }
                found.extend(self.stat_of(shard, &entry.1));
            }
            from = page.next;
        }
        Ok(found)
    }

    /// The last words on the next keys of a volume from `from` on, with the file each is in, and
    /// where to go on. Holds one page of every file at most.
    pub(super) fn merged(
        &self,
        volume: &VolumeFiles,
        from: ShardKey,
    ) -> Result<Merged, StoreError> {
        let mut pages = Vec::new();
        let finished: Vec<_>;
        {
            let state = volume.read();
            for (seq, view) in &state.open {
                pages.push((*seq, page_of(&view.table, from)));
            }
            finished = state.finished.values().map(Arc::clone).collect();
        }
        for file in finished {
            pages.push((file.id.seq, file.page(self, from)?));
        }
        pages.retain(|(_, page)| !page.is_empty());
        // Up to the shortest reach, every page has all there is.
        let reach = pages
            .iter()
            .filter_map(|(_, page)| page.last())
            .map(|(key, _)| *key)
            .min();
        let mut merged = Merged::default();
        let Some(reach) = reach else {
            return Ok(merged);
        };
        for (seq, page) in pages {
            for (key, entry) in page.into_iter().take_while(|(key, _)| *key <= reach) {
                let new = (seq, entry);
                match merged.held.get_mut(&key) {
                    Some(best) if best.1.lsn >= new.1.lsn => merged.outdone.push(new),
                    Some(best) => merged.outdone.push(std::mem::replace(best, new)),
                    None => {
                        merged.held.insert(key, new);
                    }
                }
            }
        }
        merged.next = reach.next();
        Ok(merged)
    }
}

/// A page of a volume's shards.
#[derive(Default)]
pub(super) struct Merged {
    /// The last word on each key and the file it is in.
    pub(super) held: BTreeMap<ShardKey, (u32, Entry)>,
    /// What other files say of these keys, older.
    pub(super) outdone: Vec<(u32, Entry)>,
    /// The key to go on from.
    pub(super) next: Option<ShardKey>,
}

/// A run of cells within one record.
struct RecordPart {
    block: u32,
    /// The number of the record's first cell within the shard.
    base: u64,
    /// The first wanted cell, counted within the record.
    skip: u64,
    count: u64,
    /// Bytes of the shard from the record's first cell on.
    rest: u64,
}

impl RecordPart {
    fn of(located: &LocatedShard, cell: u64, end: u64) -> Self {
        let extent = &located.extent;
        let per_record = u64::from(extent.record_cells);
        let record = cell / per_record;
        let base = record * per_record;
        let block = extent
            .records
            .get(record as usize)
            .copied()
            .unwrap_or(RECORD_LOST);
        Self {
            block,
            base,
            skip: cell - base,
            count: end.min(base + per_record) - cell,
            rest: extent.len.saturating_sub(base * CELL_LEN as u64),
        }
    }

    /// Reads and checks the run with one call. From the record's first cell on it also reads the
    /// header, to be sure that it is the right record.
    fn read(
        &self,
        file: &dyn File,
        id: FileId,
        shard: ShardId,
        cells: &mut Vec<Cell>,
    ) -> Result<(), BadCell> {
        let first = BadCell(self.base + self.skip);
        if self.block == RECORD_LOST {
            return Err(first);
        }
        let lead = if self.skip == 0 { HEADER_LEN } else { 0 };
        let within = HEADER_LEN as u64 + self.skip * (CELL_LEN + CRC_LEN) as u64 - lead as u64;
        let lens: Vec<usize> = (self.skip..self.skip + self.count)
            .map(|cell| {
                self.rest
                    .saturating_sub(cell * CELL_LEN as u64)
                    .min(CELL_LEN as u64)
            })
            .map(|len| len as usize)
            .collect();
        let total = lead + lens.iter().map(|len| len + CRC_LEN).sum::<usize>();
        let mut bytes = vec![0; total];
        let offset = u64::from(self.block) * BLOCK_LEN + within;
        let Ok(()) = read_exact_at(file, &mut bytes, offset) else {
            return Err(first);
        };
        if lead > 0 && !self.is_header(&bytes, id, shard) {
            return Err(first);
        }
        let bytes = Bytes::from(bytes);
        let mut at = lead;
        for (cell, len) in (self.base + self.skip..).zip(lens) {
            let body = bytes.slice(at..at + len);
            let crc = u32_at(&bytes, at + len);
            if crc32c(&body) != crc {
                return Err(BadCell(cell));
            }
            cells.push((body, crc));
            at += len + CRC_LEN;
        }
        Ok(())
    }

    fn is_header(&self, bytes: &[u8], id: FileId, shard: ShardId) -> bool {
        let Some(head) = bytes.first_chunk() else {
            return false;
        };
        Header::decode(head, id.place(self.block)).is_ok_and(|header| {
            header.kind == Kind::Cells
                && header.volume == shard.volume
                && header.key == shard.key()
                && u64::from(header.first_cell) == self.base
        })
    }
}
