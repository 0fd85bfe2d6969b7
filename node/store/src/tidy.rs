//! Giving space back, in small steps between commits: holes for the bytes of dead shards, removal
//! of files in which nothing lives, and moving the living out of files that are mostly dead.
//!
//! A tombstone outlives every file that still has the shard it deletes: before its own file goes
//! it is written again, with its old number.

use super::catalog::{Finished, LocatedShard};
use super::core::{Chain, Core, NewRecord};
use super::error::StoreError;
use super::files::failed;
use super::growing::Claim;
use super::op::Done;
use super::record::{BLOCK_LEN, CELL_LEN, DELETIONS_MAX, Footer, Header, Kind};
use super::round::{Effect, Round, Staged};
use super::shard::{Entry, Extent};
use megalith_disk::File;
use megalith_model::ids::VolumeId;
use megalith_model::shard::ShardKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One small step of giving space back.
pub(super) enum TidyStep {
    /// Punch the records of a dead shard.
    Punch {
        volume: VolumeId,
        seq: u32,
        extent: Extent,
    },
    /// Look for files worth the other steps.
    Tidy(VolumeId),
    /// Move a shard out of a file, if it is still there.
    Move {
        volume: VolumeId,
        seq: u32,
        key: ShardKey,
    },
    /// Remove a file, if nothing lives in it.
    Remove { volume: VolumeId, seq: u32 },
}

impl Core {
    /// Does some of what is not urgent. Returns true while there is more.
    pub(super) fn housekeep(&mut self) -> bool {
        if self.catalog.health.is_gone() {
            self.tidy_steps.clear();
            return false;
        }
        self.finish_full();
        self.write_bad_indexes();
        for _ in 0..16 {
            let Some(step) = self.tidy_steps.pop_front() else {
                break;
            };
            if let Err(error) = self.work(step) {
                tracing::warn!(error = %Chain(&error), "giving space back");
            }
        }
        let tidy_after = self.catalog.settings.tidy_after;
        for (id, volume) in &mut self.volumes {
            if volume.dead_bytes >= tidy_after {
                volume.dead_bytes = 0;
                self.tidy_steps.push_back(TidyStep::Tidy(*id));
            }
        }
        !self.tidy_steps.is_empty()
    }

    /// Looks through every volume for space to give back, however little died there.
    #[cfg(test)]
    pub(super) fn tidy_all(&mut self) {
        let volumes = self.volumes.keys().copied();
        self.tidy_steps.extend(volumes.map(TidyStep::Tidy));
    }

    fn work(&mut self, step: TidyStep) -> Result<(), StoreError> {
        self.catalog.verify_home()?;
        match step {
            TidyStep::Punch {
                volume,
                seq,
                extent,
            } => self.punch(volume, seq, &extent),
            TidyStep::Tidy(volume) => self.tidy(volume),
            TidyStep::Move { volume, seq, key } => self.move_shard(volume, seq, key),
            TidyStep::Remove { volume, seq } => self.remove_file(volume, seq),
        }
    }

    fn punch(&mut self, volume: VolumeId, seq: u32, extent: &Extent) -> Result<(), StoreError> {
        let holes = holes(extent);
        if holes.is_empty() {
            return Ok(());
        }
        let open = self
            .volumes
            .get(&volume)
            .and_then(|volume| volume.files.get(&seq));
        let path = self.catalog.paths.chunk(volume, seq);
        let file: Arc<dyn File> = match open {
            Some(growing) => Arc::clone(&growing.file),
            None => match self.catalog.files.get(&path) {
                // Removed meanwhile, as a whole.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                result => result.map_err(failed("open", &path))?,
            },
        };
        for (offset, len) in holes {
            file.punch(offset, len).map_err(failed("punch", &path))?;
        }
        Ok(())
    }

    /// Weighs the finished files of a volume.
    fn tidy(&mut self, id: VolumeId) -> Result<(), StoreError> {
        let Some(volume) = self.catalog.volume(id) else {
            return Ok(());
        };
        let mut live: BTreeMap<u32, (u64, Vec<ShardKey>)> = BTreeMap::new();
        let mut from = Some(ShardKey::MIN);
        while let Some(start) = from {
            let (entries, next) = self.catalog.merged(&volume, start)?;
            for (key, (seq, entry)) in entries {
                let Some(extent) = entry.extent else { continue };
                let (bytes, keys) = live.entry(seq).or_default();
                *bytes += extent.disk_len();
                keys.push(key);
            }
            from = next;
        }
        let finished: Vec<Arc<Finished>> = volume.read().finished.values().cloned().collect();
        let percent = self.catalog.settings.compact_below_percent;
        for file in finished {
            let seq = file.id.seq;
            let (bytes, keys) = live.remove(&seq).unwrap_or_default();
            let worn = bytes * 100 < u64::from(file.facts.end) * BLOCK_LEN * percent;
            if bytes == 0 || worn {
                let moves = keys.into_iter().map(|key| TidyStep::Move {
                    volume: id,
                    seq,
                    key,
                });
                self.tidy_steps.extend(moves);
                self.tidy_steps
                    .push_back(TidyStep::Remove { volume: id, seq });
            }
        }
        Ok(())
    }

    /// Copies a shard to the active file; the copy's higher number makes it the one that holds.
    fn move_shard(&mut self, volume: VolumeId, seq: u32, key: ShardKey) -> Result<(), StoreError> {
        let shard = key.of(volume);
        let Some(located) = self.catalog.find(shard)? else {
            return Ok(());
        };
        if located.seq != seq || !located.extent.is_whole() {
            return Ok(());
        }
        let LocatedShard { epoch, extent, .. } = located;
        let target = self.active_file(volume, extent.disk_len(), Claim::Shard)?;
        let mut records = Vec::with_capacity(extent.records.len());
        let mut first: u32 = 0;
        while first < extent.cells {
            let count = u32::from(extent.record_cells).min(extent.cells - first);
            let cells = self.catalog.read(shard, first.into(), count.into())?;
            let last = first + count == extent.cells;
            let length: usize = cells.iter().map(|(bytes, _)| bytes.len()).sum();
            let header = Header {
                last,
                key,
                first_cell: first,
                cells: count as u16,
                length: length as u32,
                stream: records.first().copied().unwrap_or(0),
                ..Header::bare(Kind::Cells, volume, epoch)
            };
            let digest = extent.digest.filter(|_| last).unwrap_or_default();
            let total = u64::from(first) * CELL_LEN as u64 + length as u64;
            let footer = Footer { digest, total };
            let lsn = self.lsn;
            let record = NewRecord {
                header,
                cells: &cells,
                footer,
                claim: Claim::Shard,
            };
            records.push(self.push(volume, target, record)?);
            first += count;
            let mut staged = Staged::answered(Ok(Done::Written));
            staged.touched.push((volume, target));
            if last {
                let records = std::mem::take(&mut records).into_boxed_slice();
                let extent = Some(Extent {
                    records,
                    ..extent.clone()
                });
                let entry = Entry { lsn, epoch, extent };
                staged.effects.push(Effect::Entry {
                    volume,
                    seq: target,
                    key,
                    entry,
                });
            }
            self.finish_alone(staged)?;
        }
        Ok(())
    }

    /// Removes a finished file in which nothing lives.
    fn remove_file(&mut self, id: VolumeId, seq: u32) -> Result<(), StoreError> {
        let Some(volume) = self.catalog.volume(id) else {
            return Ok(());
        };
        let Some(file) = volume.read().finished.get(&seq).cloned() else {
            return Ok(());
        };
        if self.volumes.get(&id).is_none_or(|writer| writer.keep_files) {
            return Ok(());
        }
        let Some(deletions) = self.deletions_to_keep(id, &file)? else {
            return Ok(());
        };
        self.carry_on(id, &file, &deletions)?;
        volume.write().finished.remove(&seq);
        let removed = self.unlink(id, seq);
        if removed.is_err()
            && let Some(writer) = self.volumes.get_mut(&id)
        {
            writer.keep_files = true;
        }
        removed
    }

    /// The tombstones of a file that other files still need; None if a shard lives in it.
    fn deletions_to_keep(
        &self,
        id: VolumeId,
        file: &Arc<Finished>,
    ) -> Result<Option<Vec<(ShardKey, u64)>>, StoreError> {
        let mut keep = Vec::new();
        let mut from = Some(ShardKey::MIN);
        while let Some(start) = from {
            let page = file.page(&self.catalog, start)?;
            let Some((end, _)) = page.last() else { break };
            from = end.next();
            for (key, entry) in page {
                if entry.extent.is_none() {
                    if self.deleted_elsewhere(id, file.id.seq, key, entry.lsn)? {
                        keep.push((key, entry.lsn));
                    }
                } else if let Some(located) = self.catalog.find(key.of(id))?
                    && located.lsn == entry.lsn
                {
                    return Ok(None);
                }
            }
        }
        Ok(Some(keep))
    }

    /// True if another file has an older, dead copy of the shard.
    fn deleted_elsewhere(
        &self,
        id: VolumeId,
        seq: u32,
        key: ShardKey,
        lsn: u64,
    ) -> Result<bool, StoreError> {
        let Some(volume) = self.catalog.volume(id) else {
            return Ok(false);
        };
        let dead_copy = |entry: &Entry| entry.extent.is_some() && entry.lsn < lsn;
        let (open, finished) = {
            let state = volume.read();
            let open = state
                .open
                .values()
                .any(|view| view.table.get(&key).is_some_and(dead_copy));
            (open, state.finished.values().cloned().collect::<Vec<_>>())
        };
        if open {
            return Ok(true);
        }
        for other in finished.iter().filter(|other| other.id.seq != seq) {
            let page = other.page(&self.catalog, key)?;
            if page
                .first()
                .is_some_and(|(found, entry)| *found == key && dead_copy(entry))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes on what must outlive a file: tombstones and the volume's epoch.
    fn carry_on(
        &mut self,
        id: VolumeId,
        file: &Finished,
        deletions: &[(ShardKey, u64)],
    ) -> Result<(), StoreError> {
        for deletions in deletions.chunks(DELETIONS_MAX) {
            let mut staged = Staged::answered(Ok(Done::Deleted));
            let seq = self.push_tombstone(id, deletions, &mut staged.effects)?;
            staged.touched.push((id, seq));
            self.finish_alone(staged)?;
        }
        let epoch = self.fence(id);
        let Some(volume) = self.catalog.volume(id) else {
            return Ok(());
        };
        let kept_by_finished = volume
            .read()
            .finished
            .values()
            .any(|other| other.id.seq != file.id.seq && other.facts.epoch >= epoch);
        let durable = |growing: &super::growing::Growing| {
            growing.epoch >= epoch && growing.synced == growing.end
        };
        let kept_by_open = self
            .volumes
            .get(&id)
            .is_some_and(|writer| writer.files.values().any(durable));
        if kept_by_finished || kept_by_open {
            return Ok(());
        }
        let staged = self.push_fence(id, epoch)?;
        self.finish_alone(staged)
    }

    /// Removes a file's names: the index first, so that one without a chunk file tells of a loss.
    /// Each step is durable before the next, or a tombstone could go before its shard.
    fn unlink(&mut self, id: VolumeId, seq: u32) -> Result<(), StoreError> {
        let fs = &self.catalog.fs;
        let dir = self.catalog.paths.volume(id);
        for path in [
            self.catalog.paths.index(id, seq),
            self.catalog.paths.chunk(id, seq),
        ] {
            match fs.remove(&path) {
                // A file whose index could not be written has none.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                result => result.map_err(failed("remove", &path))?,
            }
            self.catalog.files.forget(&path);
            fs.sync_dir(&dir)
                .map_err(failed("sync the directory", &dir))?;
        }
        Ok(())
    }

    fn finish_alone(&mut self, staged: Staged) -> Result<(), StoreError> {
        let mut round = Round::default();
        round.staged.push(staged);
        let mut answers = Vec::with_capacity(1);
        self.finish(round, &mut answers);
        answers.pop().map_or(Ok(()), |answer| answer.map(|_| ()))
    }
}

/// Offset and length of each record of a shard, in bytes.
fn spans(extent: &Extent) -> impl Iterator<Item = (u64, u64)> {
    let records = extent.records();
    records.map(|(_, block, len)| (u64::from(block) * BLOCK_LEN, len))
}

/// What can be punched of a shard: its records but their first and last block, so that a scan
/// still finds header and footer and walks on.
fn holes(extent: &Extent) -> Vec<(u64, u64)> {
    let inner =
        spans(extent).map(|(offset, len)| (offset + BLOCK_LEN, len.saturating_sub(2 * BLOCK_LEN)));
    inner.filter(|(_, len)| *len > 0).collect()
}
