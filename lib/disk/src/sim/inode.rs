//! One file of the simulated disk: what programs see, what the platter has, and which sectors
//! differ.

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const BLOCK: u64 = 4096;
const SECTOR: usize = 512;
const SECTORS: usize = BLOCK as usize / SECTOR;

type Block = [u8; BLOCK as usize];
type Blocks = BTreeMap<u64, Arc<Block>>;

/// A file. Blocks missing from a map read as zeros and cost no space.
#[derive(Default)]
pub(super) struct Inode {
    /// Names that point here, in the cache and on the platter together.
    pub(super) links: u32,
    /// Names in the cache only: a file without one gives its space back.
    pub(super) seen_links: u32,
    pub(super) handles: u32,
    cache: Blocks,
    len: u64,
    platter: Blocks,
    platter_len: u64,
    /// Sectors not synced yet, by block. The number orders the writes; 0 is a clean sector.
    dirty: BTreeMap<u64, [u64; SECTORS]>,
    writes: u64,
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Returns the blocks that take space.
    pub(super) fn blocks(&self) -> u64 {
        self.cache.len() as u64
    }

    /// Returns the blocks of a range that don't take space yet.
    pub(super) fn missing(&self, offset: u64, len: u64) -> u64 {
        if len == 0 {
            return 0;
        }
        let (first, last) = (offset / BLOCK, (offset + len - 1) / BLOCK);
        last - first + 1 - self.cache.range(first..=last).count() as u64
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let end = (offset + buf.len() as u64).min(self.len);
        let total = end.saturating_sub(offset) as usize;
        let mut done = 0;
        while done < total {
            let at = offset + done as u64;
            let within = (at % BLOCK) as usize;
            let piece = (total - done).min(BLOCK as usize - within);
            match self.cache.get(&(at / BLOCK)) {
                Some(block) => {
                    buf[done..done + piece].copy_from_slice(&block[within..within + piece]);
                }
                None => buf[done..done + piece].fill(0),
            }
            done += piece;
        }
        total
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.writes += 1;
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = (at % BLOCK) as usize;
            let piece = (bytes.len() - done).min(BLOCK as usize - within);
            let block = self.cache.entry(at / BLOCK).or_insert_with(zeros);
            Arc::make_mut(block)[within..within + piece]
                .copy_from_slice(&bytes[done..done + piece]);
            self.soil(at / BLOCK, within, piece);
            done += piece;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    pub(super) fn preallocate(&mut self, offset: u64, len: u64) {
        for block in offset / BLOCK..(offset + len).div_ceil(BLOCK) {
            self.cache.entry(block).or_insert_with(zeros);
        }
        self.len = self.len.max(offset + len);
    }

    pub(super) fn punch(&mut self, offset: u64, len: u64) {
        let end = (offset + len).min(self.len.next_multiple_of(BLOCK));
        self.writes += 1;
        // Only whole blocks: the store never punches less.
        for block in offset.div_ceil(BLOCK)..end / BLOCK {
            if self.cache.remove(&block).is_some() {
                self.soil(block, 0, BLOCK as usize);
            }
        }
    }

    /// Makes clean blocks be read from the platter again; after a failed sync those are older
    /// bytes.
    pub(super) fn drop_cached(&mut self, offset: u64, len: u64) {
        let blocks = offset / BLOCK..(offset + len).div_ceil(BLOCK);
        for (number, block) in self.platter.range(blocks) {
            if !self.dirty.contains_key(number)
                && let Some(cached) = self.cache.get_mut(number)
            {
                *cached = Arc::clone(block);
            }
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.len = len;
        self.cache.split_off(&len.div_ceil(BLOCK));
        self.dirty.split_off(&len.div_ceil(BLOCK));
        let within = (len % BLOCK) as usize;
        if within > 0
            && let Some(block) = self.cache.get_mut(&(len / BLOCK))
        {
            Arc::make_mut(block)[within..].fill(0);
            self.writes += 1;
            self.soil(len / BLOCK, within, BLOCK as usize - within);
        }
    }

    pub(super) fn sync(&mut self) {
        for (block, sectors) in std::mem::take(&mut self.dirty) {
            self.settle(block, &sectors, |_| true);
        }
        self.platter_len = self.len;
        self.platter.split_off(&self.len.div_ceil(BLOCK));
    }

    /// Simulates a failed sync: the kernel calls the pages clean although the platter never got
    /// them.
    pub(super) fn forget_dirty(&mut self) {
        self.dirty.clear();
    }

    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        for blocks in [&mut self.cache, &mut self.platter] {
            let block = blocks.entry(offset / BLOCK).or_insert_with(zeros);
            Arc::make_mut(block)[(offset % BLOCK) as usize] ^= mask;
        }
    }

    /// Simulates the power cut: `roll` gives a random number at every call.
    pub(super) fn crash(&mut self, mut roll: impl FnMut() -> u64) {
        let newest = self.writes;
        let dirty = std::mem::take(&mut self.dirty);
        let style = roll() % 4;
        let cut = roll() % (newest + 1);
        for (block, sectors) in dirty {
            match style {
                0 => {}
                // Writes arrived in order, up to one that tore.
                1 => self.settle(block, &sectors, |write| {
                    write < cut || (write == cut && roll().is_multiple_of(2))
                }),
                // Any subset arrived.
                2 => self.settle(block, &sectors, |_| roll().is_multiple_of(2)),
                _ => self.settle(block, &sectors, |_| true),
            }
        }
        if style == 0 || (style < 3 && roll().is_multiple_of(2)) {
            self.len = self.platter_len;
        }
        self.platter.split_off(&self.len.div_ceil(BLOCK));
        self.platter_len = self.len;
        self.cache = self.platter.clone();
        self.writes = 0;
    }

    fn soil(&mut self, block: u64, within: usize, len: usize) {
        let sectors = self.dirty.entry(block).or_default();
        for sector in &mut sectors[within / SECTOR..(within + len).div_ceil(SECTOR)] {
            *sector = self.writes;
        }
    }

    /// Copies those dirty sectors of a block that `keep` selects from the cache to the platter.
    fn settle(&mut self, block: u64, sectors: &[u64; SECTORS], mut keep: impl FnMut(u64) -> bool) {
        let seen = self.cache.get(&block);
        let kept = sectors.map(|write| write > 0 && keep(write));
        if kept.iter().all(|&kept| kept) {
            match seen {
                Some(seen) => self.platter.insert(block, Arc::clone(seen)),
                None => self.platter.remove(&block),
            };
            return;
        }
        if !kept.iter().any(|&kept| kept) {
            return;
        }
        let target = Arc::make_mut(self.platter.entry(block).or_insert_with(zeros));
        for (sector, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            match seen {
                Some(seen) => target[range.clone()].copy_from_slice(&seen[range]),
                None => target[range].fill(0),
            }
        }
    }
}

fn zeros() -> Arc<Block> {
    Arc::new([0; BLOCK as usize])
}
