//! Reading a chunk file against its checksums, piece by piece, and the small files around it.
//!
//! Every record is checked as a whole where its shard lives, and by header and footer where only
//! its place in the row matters: the bytes of dead shards are given back, and mean nothing. What
//! does not check out is looked up once more before it is reported: a delete or a move may have
//! come between.

use super::plan::{Checked, Piece, Walk};
use crate::catalog::{Catalog, EntrySource, Finished, page_of};
use crate::error::StoreError;
use crate::files::{FileName, is_loss};
use crate::index::{BadIndex, Index};
use crate::record::{BLOCK_LEN, HEADER_LEN, Header, Kind, check_record};
use crate::scan::{FileId, Window};
use crate::second_look::Expected;
use crate::shard::Entry;
use crate::superblock::FoundSuperblock;
use megalith_model::shard::{ShardId, ShardKey};
use std::sync::Arc;

/// Read at once if bytes follow each other.
const STEP: usize = 1 << 20;

/// A chunk file being checked.
pub(super) struct FileCheck {
    id: FileId,
    walk: Walk,
    newer_than: u64,
    /// The records of living shards, by block.
    living: Vec<Living>,
    /// Living shards of which a record is lost already.
    broken: Vec<Living>,
    /// The block after the last one to look at.
    end: u32,
    finished: Option<Arc<Finished>>,
}

/// One record of a living shard.
struct Living {
    block: u32,
    end: u32,
    first_cell: u32,
    key: ShardKey,
    /// Of the shard's last record.
    lsn: u64,
}

impl FileCheck {
    /// Collects what should be in the file; None if it is gone from the volume.
    pub(super) fn begin(catalog: &Catalog, piece: Piece) -> Result<Option<Self>, StoreError> {
        let (volume, seq) = (piece.from.volume, piece.from.seq);
        let Some(found) = catalog.volume(volume) else {
            return Ok(None);
        };
        let (finished, end) = {
            let state = found.read();
            match (state.finished.get(&seq), state.open.get(&seq)) {
                (Some(finished), _) => (Some(Arc::clone(finished)), finished.facts.end),
                (None, Some(view)) => (None, view.end),
                (None, None) => return Ok(None),
            }
        };
        let mut check = Self {
            id: catalog.file_id(volume, seq),
            walk: piece.walk,
            newer_than: piece.newer_than,
            living: Vec::new(),
            broken: Vec::new(),
            end,
            finished,
        };
        let mut from = Some(ShardKey::MIN);
        while let Some(start) = from {
            let page = match &check.finished {
                Some(finished) => finished.page(catalog, start)?,
                None => match found.read().open.get(&seq) {
                    Some(view) => page_of(&view.table, start),
                    // Finished meanwhile: it is checked as such when it comes up again.
                    None => return Ok(None),
                },
            };
            from = page.last().and_then(|(key, _)| key.next());
            for (key, entry) in page {
                check.add(key, &entry);
            }
        }
        check.living.sort_by_key(|record| record.block);
        Ok(Some(check))
    }

    /// True if the piece continues this check.
    pub(super) fn is_for(&self, piece: Piece) -> bool {
        (self.id.volume, self.id.seq) == (piece.from.volume, piece.from.seq)
            && (self.walk, self.newer_than) == (piece.walk, piece.newer_than)
    }

    fn add(&mut self, key: ShardKey, entry: &Entry) {
        let Some(extent) = &entry.extent else { return };
        if self.walk == Walk::Look && entry.lsn <= self.newer_than {
            return;
        }
        let record = |(first_cell, block, len): (u32, u32, u64)| Living {
            block,
            end: block + (len / BLOCK_LEN) as u32,
            first_cell,
            key,
            lsn: entry.lsn,
        };
        if !extent.is_whole() {
            self.broken.push(record((0, 0, 0)));
        }
        self.living.extend(extent.records().map(record));
    }

    /// Checks a piece. Shards of which a record is lost are reported with the file's first piece.
    pub(super) fn piece(&self, catalog: &Catalog, piece: Piece) -> Result<Checked, StoreError> {
        let mut checked = Checked::default();
        if piece.from.block == 0 {
            for record in &self.broken {
                checked.found += u64::from(self.lost(catalog, record)?);
            }
        }
        let path = catalog.paths.chunk(self.id.volume, self.id.seq);
        let file = match catalog.fs.open(&path) {
            Ok(file) => file,
            Err(error) if is_loss(&error) => {
                catalog.verify_home()?;
                if self.is_there(catalog) {
                    let path = path.display();
                    tracing::error!(%path, %error, "chunk file can't be opened");
                    checked.found += self.all_lost(catalog)?;
                }
                return Ok(checked);
            }
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        let from = u64::from(piece.from.block) * BLOCK_LEN;
        // Without it the check would be one of memory. It is advice: it may fail.
        let _ = file.drop_cached(from, u64::from(piece.blocks_max) * BLOCK_LEN + STEP as u64);
        let len = file
            .len()
            .map_err(|error| StoreError::io("measure", &path, error))?;
        let mut walker = Walker {
            check: self,
            catalog,
            window: Window::new(file.as_ref(), len),
            checked,
            searching: false,
        };
        let stop = piece.from.block.saturating_add(piece.blocks_max);
        let mut block = piece.from.block;
        while block < stop.min(self.end) {
            block = match self.walk {
                Walk::Pass => walker.visit(block)?,
                Walk::Look => walker.visit_next_living(block)?,
            };
        }
        checked = walker.checked;
        if block < self.end {
            checked.next = Some(block);
        } else {
            self.index(catalog)?;
        }
        Ok(checked)
    }

    /// Checks the index file of a finished file; a bad one is rebuilt.
    fn index(&self, catalog: &Catalog) -> Result<(), StoreError> {
        let Some(finished) = self.finished.as_ref().filter(|_| self.is_there(catalog)) else {
            return Ok(());
        };
        // Else it is about to be written.
        let EntrySource::Disk(_) = finished.source() else {
            return Ok(());
        };
        let path = catalog.paths.index(self.id.volume, self.id.seq);
        let opened = catalog.fs.open(&path).map_err(|_| BadIndex);
        let good = opened.and_then(|file| {
            let _ = file.drop_cached(0, file.len().map_err(|_| BadIndex)?);
            let index = Index::load(file.as_ref(), self.id)?;
            (0..index.blocks()).try_for_each(|block| index.block(file.as_ref(), block).map(drop))
        });
        if good.is_err() && self.is_there(catalog) {
            catalog
                .files
                .forget(FileName::index(self.id.volume, self.id.seq));
            catalog.rebuild(finished)?;
        }
        Ok(())
    }

    /// False once the file was removed, with what lived in it elsewhere.
    fn is_there(&self, catalog: &Catalog) -> bool {
        catalog.volume(self.id.volume).is_some_and(|volume| {
            let state = volume.read();
            state.finished.contains_key(&self.id.seq) || state.open.contains_key(&self.id.seq)
        })
    }

    fn all_lost(&self, catalog: &Catalog) -> Result<u64, StoreError> {
        let mut found = 0;
        for record in &self.living {
            found += u64::from(self.lost(catalog, record)?);
        }
        Ok(found)
    }

    /// Reports the shard of a bad record, if it still lives here and is not whole at a second look;
    /// true if that is news.
    fn lost(&self, catalog: &Catalog, record: &Living) -> Result<bool, StoreError> {
        let shard: ShardId = record.key.of(self.id.volume);
        let now = catalog.find(shard)?;
        let lives = now.is_some_and(|now| (now.lsn, now.seq) == (record.lsn, self.id.seq));
        if !lives || catalog.health.is_damaged(shard) {
            return Ok(false);
        }
        if catalog.is_whole_on_disk(shard)? {
            catalog.tell_passing(shard);
            return Ok(false);
        }
        Ok(catalog.report(shard, record.first_cell.into()))
    }

    /// The first living record at or behind a block.
    fn living_from(&self, block: u32) -> Option<&Living> {
        let at = self.living.partition_point(|record| record.block < block);
        self.living.get(at)
    }
}

struct Walker<'a> {
    check: &'a FileCheck,
    catalog: &'a Catalog,
    window: Window<'a>,
    checked: Checked,
    /// In a stretch of bytes that are no record, counted already.
    searching: bool,
}

impl Walker<'_> {
    /// Checks the record at a block and returns the block to go on from.
    fn visit(&mut self, block: u32) -> Result<u32, StoreError> {
        let check = self.check;
        let next = check.living_from(block);
        if let Some(record) = next.filter(|record| record.block == block) {
            self.searching = false;
            return self.living(record);
        }
        // Of dead shards only headers are left; a record never reaches into a living one.
        let reach = next.map_or(check.end, |record| record.block);
        let offset = u64::from(block) * BLOCK_LEN;
        let place = check.id.place(block);
        let header = self.window.get(offset, HEADER_LEN, STEP);
        let header = header.and_then(|bytes| Header::decode(bytes.first_chunk()?, place).ok());
        self.checked.bytes += BLOCK_LEN;
        let Some(header) = header.filter(|header| header.volume == check.id.volume) else {
            self.region(block);
            return Ok(block + 1);
        };
        self.searching = false;
        let end = block.saturating_add((header.record_len() / BLOCK_LEN) as u32);
        match header.kind {
            Kind::Cells | Kind::Skip => {}
            Kind::Head | Kind::Tombstone | Kind::Fence | Kind::Mark => {
                let len = header.record_len() as usize;
                let bytes = self.window.get(offset, len, STEP);
                if bytes.is_none_or(|bytes| check_record(bytes, &header, place).is_none()) {
                    self.region(block);
                }
            }
        }
        Ok(if end <= reach { end } else { block + 1 })
    }

    /// Goes straight to the next record of a living shard.
    fn visit_next_living(&mut self, block: u32) -> Result<u32, StoreError> {
        match self.check.living_from(block) {
            Some(record) => self.living(record),
            None => Ok(self.check.end),
        }
    }

    fn living(&mut self, record: &Living) -> Result<u32, StoreError> {
        let offset = u64::from(record.block) * BLOCK_LEN;
        let len = u64::from(record.end - record.block) * BLOCK_LEN;
        self.checked.bytes += len;
        let place = self.check.id.place(record.block);
        let bytes = self.window.get(offset, len as usize, STEP);
        let expected = Expected {
            volume: self.check.id.volume,
            key: record.key,
            first_cell: record.first_cell,
        };
        let good = bytes.is_some_and(|bytes| expected.is(bytes, place));
        if !good {
            self.catalog.verify_home()?;
            self.checked.found += u64::from(self.check.lost(self.catalog, record)?);
        }
        Ok(record.end)
    }

    /// Counts a stretch that holds no shard and is no record.
    fn region(&mut self, block: u32) {
        if !self.searching && self.check.is_there(self.catalog) {
            let FileId { volume, seq, .. } = self.check.id;
            if self.catalog.health.add_region_at(volume, seq, block) {
                let path = self.catalog.paths.chunk(volume, seq);
                tracing::error!(path = %path.display(), block, "damaged blocks in chunk file");
                self.catalog.health.add_doubt(volume);
            }
        }
        self.searching = true;
    }
}

/// Checks the superblock's two copies; what is damaged or lost of them is written again.
pub(super) fn superblock(catalog: &Catalog) -> Result<(), StoreError> {
    catalog.verify_home()?;
    let (fs, root) = (catalog.fs.as_ref(), &catalog.paths.root);
    let error = match FoundSuperblock::read(fs, root) {
        Ok(found) if found.superblock.is_of_one_disk(&catalog.superblock) => {
            if found.mend(fs) {
                catalog.health.add_restored_file();
            }
            return Ok(());
        }
        Ok(_) | Err(StoreError::TwoSuperblocks { .. }) => {
            catalog.health.set_gone();
            tracing::error!(path = %root.display(), "superblock is another disk's");
            return Err(StoreError::Gone { path: root.clone() });
        }
        Err(error @ (StoreError::NoSuperblock { .. } | StoreError::BadSuperblock { .. })) => error,
        Err(error) => return Err(error),
    };
    tracing::error!(%error, "both copies of the superblock are written again");
    catalog.superblock.write(fs, root)?;
    catalog.health.add_restored_file();
    Ok(())
}
