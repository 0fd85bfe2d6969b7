//! Finished chunk files at the opening of a disk: one that is missing, shorter or longer than its
//! index says, or can't be read at all. Says what is lost; never keeps the disk from opening.

use super::catalog::Catalog;
use super::core::{Chain, Core};
use super::error::StoreError;
use super::files::is_loss;
use super::index::FinishedFacts;
use super::record::BLOCK_LEN;
use super::scan::FileId;
use megalith_model::ids::VolumeId;
use megalith_model::shard::ShardKey;

impl Core {
    /// Compares a finished file's length with its index. Returns the block from which on its shards
    /// are lost; what was added behind the end is cut off.
    pub(super) fn lost_from(&self, id: FileId, facts: &FinishedFacts, there: bool) -> Option<u32> {
        let catalog = &self.catalog;
        let path = catalog.paths.chunk(id.volume, id.seq);
        let end = u64::from(facts.end) * BLOCK_LEN;
        let measured = if there {
            let opened = catalog.fs.open(&path);
            opened.and_then(|file| Ok((file.len()?, Some(file))))
        } else {
            Ok((0, None))
        };
        match measured {
            Ok((len, _)) if len < end => {
                let path = path.display();
                tracing::error!(%path, len, expected = end, "chunk file has lost its end");
                catalog.health.add_regions(1, 0);
                Some((len / BLOCK_LEN) as u32)
            }
            Ok((len, file)) => {
                if let Some(file) = file.filter(|_| len > end) {
                    // Written by somebody else, or left by a write that failed before the file was
                    // finished: in both cases nothing of it was promised.
                    let path = path.display();
                    tracing::warn!(%path, len, expected = end, "cut bytes behind a chunk file");
                    catalog.health.add_regions(0, 1);
                    // It may well fail: nothing behind the end is ever read.
                    let _ = file.set_len(end);
                }
                None
            }
            // Reads and the scrub will tell whether all of it is lost.
            Err(error) => {
                let path = path.display();
                tracing::error!(%path, %error, "chunk file can't be opened");
                catalog.health.add_regions(1, 0);
                is_loss(&error).then_some(0)
            }
        }
    }

    /// Remembers as damaged the shards of a finished file that reach beyond `block`.
    pub(super) fn report_lost(&self, id: VolumeId, seq: u32, block: u32) -> Result<(), StoreError> {
        let shards = self.catalog.report_beyond(id, seq, block)?;
        tracing::error!(volume = %id, file = seq, shards, "shards are lost with their chunk file");
        Ok(())
    }

    /// A chunk file that can't be read in: the disk is opened without it.
    pub(super) fn leave_out(&self, id: FileId, error: &StoreError) {
        let path = self.catalog.paths.chunk(id.volume, id.seq);
        let path = path.display();
        tracing::error!(%path, error = %Chain(error), "chunk file is left out");
        self.catalog.health.add_regions(1, 0);
        self.catalog.health.add_doubt(id.volume);
    }
}

impl Catalog {
    /// Remembers as damaged the shards of a finished file that reach beyond `block` and are nowhere
    /// else; returns how many were not known to be.
    pub(super) fn report_beyond(
        &self,
        id: VolumeId,
        seq: u32,
        block: u32,
    ) -> Result<usize, StoreError> {
        let Some(file) = self.volume(id).and_then(|volume| {
            let state = volume.read();
            state.finished.get(&seq).cloned()
        }) else {
            return Ok(0);
        };
        let mut lost = 0;
        let mut from = Some(ShardKey::MIN);
        while let Some(start) = from {
            let page = file.page(self, start)?;
            let Some((end, _)) = page.last() else { break };
            from = end.next();
            for (key, entry) in page {
                let Some(extent) = entry.extent else { continue };
                let reach = extent
                    .blocks()
                    .map(|(_, end)| end)
                    .max()
                    .unwrap_or(u32::MAX);
                let shard = key.of(id);
                if reach > block
                    && self
                        .find(shard)?
                        .is_some_and(|found| found.lsn == entry.lsn)
                    && self.health.add_damaged(shard, 0)
                {
                    lost += 1;
                }
            }
        }
        Ok(lost)
    }
}
