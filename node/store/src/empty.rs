//! Emptying a finished file, a record at a time: what lives in it moves to the file that still
//! grows, then the file is removed.
//!
//! A tombstone outlives every file that still has the shard it deletes: before its own file goes
//! it is written again, with its old number.

use super::catalog::Finished;
use super::core::Core;
use super::error::StoreError;
use super::files::{FileName, failed};
use super::filter::KeyHash;
use super::growing::{Claim, Growing};
use super::op::{Append, Done};
use super::record::{BLOCK_LEN, CELL_LEN, DELETION_LEN, DELETIONS_MAX, record_len};
use super::round::{Effect, Round, Staged};
use super::shard::Entry;
use super::stage::Form;
use megalith_model::ids::VolumeId;
use megalith_model::shard::ShardKey;
use std::sync::Arc;

/// The stream of the shard that is being moved; writers' streams have other numbers.
const MOVE_STREAM: u64 = 0;

/// A finished file that is being emptied.
pub(super) struct Emptying {
    volume: VolumeId,
    seq: u32,
    /// The next shard to look at; None after the last.
    from: Option<ShardKey>,
    moving: Option<Moving>,
    /// Tombstones that other files still need.
    deletions: Vec<(ShardKey, u64)>,
    /// A damaged shard lives in it: the file stays.
    stays: bool,
    /// Remove the file even if what must be written again is as long.
    merge: bool,
}

/// The shard that is being moved.
struct Moving {
    key: ShardKey,
    lsn: u64,
    /// Cells moved so far.
    cells: u32,
}

impl Emptying {
    pub(super) fn of(volume: VolumeId, seq: u32) -> Self {
        Self {
            volume,
            seq,
            from: Some(ShardKey::MIN),
            moving: None,
            deletions: Vec::new(),
            stays: false,
            merge: false,
        }
    }

    /// To make one file of several.
    pub(super) fn to_merge(volume: VolumeId, seq: u32) -> Self {
        Self {
            merge: true,
            ..Self::of(volume, seq)
        }
    }
}

impl Core {
    /// Moves one record, looks at a page of shards, or removes the file. Returns what is left.
    pub(super) fn empty(&mut self, mut rest: Emptying) -> Result<Option<Emptying>, StoreError> {
        if let Some(moving) = rest.moving.take() {
            rest.moving = self.move_record(rest.volume, rest.seq, moving)?;
            return Ok(Some(rest));
        }
        if !self.may_empty(rest.volume) {
            return Ok(None);
        }
        let Some(volume) = self.catalog.volume(rest.volume) else {
            return Ok(None);
        };
        let Some(file) = volume.read().finished.get(&rest.seq).cloned() else {
            return Ok(None);
        };
        let page = match rest.from {
            Some(from) => file.page(&self.catalog, from)?,
            None => Vec::new(),
        };
        if page.is_empty() {
            self.remove_file(&file, &rest)?;
            return Ok(None);
        }
        // What is dead stays dead, so it is looked at once.
        for (key, entry) in page {
            rest.from = key.next();
            let (lsn, cells) = (entry.lsn, 0);
            let Some(extent) = entry.extent else {
                if self.deleted_elsewhere(rest.volume, rest.seq, key, lsn)? {
                    rest.deletions.push((key, lsn));
                }
                continue;
            };
            let located = self.catalog.find(key.of(rest.volume))?;
            if located.is_none_or(|located| located.lsn != lsn) {
                continue;
            }
            if extent.is_whole() {
                rest.moving = Some(Moving { key, lsn, cells });
                break;
            }
            rest.stays = true;
        }
        Ok(Some(rest))
    }

    /// True if what is removed from the volume's files is sure to be elsewhere or dead.
    pub(super) fn may_empty(&self, volume: VolumeId) -> bool {
        let writer = self.volumes.get(&volume);
        writer.is_some_and(|writer| !writer.keep_files) && !self.catalog.health.is_read_only()
    }

    /// Gives up the shard that is being moved, if one is.
    pub(super) fn stop_moving(&mut self) {
        self.forget_stream(MOVE_STREAM);
    }

    /// Copies the next record of a shard to the file that grows; the copy's higher number makes it
    /// the one that holds. Returns what is left; None also if the shard was deleted meanwhile.
    fn move_record(
        &mut self,
        volume: VolumeId,
        seq: u32,
        moving: Moving,
    ) -> Result<Option<Moving>, StoreError> {
        let Moving { key, lsn, cells } = moving;
        let shard = key.of(volume);
        let located = self.catalog.find(shard)?;
        let Some(located) = located.filter(|found| found.seq == seq && found.lsn == lsn) else {
            self.forget_stream(MOVE_STREAM);
            return Ok(None);
        };
        let (epoch, extent) = (located.epoch, located.extent);
        let count = u32::from(extent.record_cells).min(extent.cells - cells);
        let last = cells + count == extent.cells;
        let read = self.catalog.read(shard, cells.into(), count.into())?;
        let length: usize = read.iter().map(|(bytes, _)| bytes.len()).sum();
        let form = Form {
            cells: count as u16,
            length: length as u32,
            total: u64::from(cells) * CELL_LEN as u64 + length as u64,
        };
        let digest = extent.digest.unwrap_or_default();
        let append = Append {
            stream: MOVE_STREAM,
            shard,
            epoch,
            first_cell: cells,
            cells: read,
            last: last.then_some((extent.len, digest)),
        };
        let target = self.place_cells(&append, form, Claim::Move)?;
        let mut staged = Staged::answered(Ok(Done::Written));
        staged.touched.push((volume, target));
        if last {
            let entry = Entry {
                // The record just placed has the last number given out.
                lsn: self.lsn - 1,
                epoch,
                extent: Some(self.extent_of(MOVE_STREAM, digest)?),
            };
            let seq = target;
            staged.effects.extend([
                Effect::Entry {
                    volume,
                    seq,
                    key,
                    entry,
                },
                Effect::StreamEnd {
                    stream: MOVE_STREAM,
                },
            ]);
        }
        self.finish_alone(staged)?;
        let cells = cells + count;
        Ok((!last).then_some(Moving { key, lsn, cells }))
    }

    /// Removes a finished file in which nothing lives. It stays if what must be written again takes
    /// as much, or a volume that is left alone would be written to for ever; `merge` waives that.
    fn remove_file(&mut self, file: &Arc<Finished>, rest: &Emptying) -> Result<(), StoreError> {
        let (id, seq, deletions) = (rest.volume, rest.seq, &rest.deletions);
        let Some(volume) = self.catalog.volume(id) else {
            return Ok(());
        };
        if rest.stays || !self.may_empty(id) {
            return Ok(());
        }
        let needed = !deletions.is_empty() || !self.is_epoch_kept(id, file);
        let percent = self.catalog.settings.compact_below_percent;
        let len = u64::from(file.facts.end) * BLOCK_LEN;
        if needed && !rest.merge && heir_len(deletions.len()) * 100 >= len * percent {
            return Ok(());
        }
        self.carry_on(id, file, deletions)?;
        volume.write().finished.remove(&seq);
        let removed = self.unlink(id, seq);
        if removed.is_err()
            && let Some(writer) = self.volumes.get_mut(&id)
        {
            writer.keep_files = true;
        }
        removed
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
        let hash = KeyHash::of(key);
        for other in finished.iter().filter(|other| other.id.seq != seq) {
            let found = other.find(&self.catalog, key, hash)?;
            if found.as_ref().is_some_and(dead_copy) {
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
        if self.is_epoch_kept(id, file) {
            return Ok(());
        }
        let staged = self.push_fence(id, self.fence(id))?;
        self.finish_alone(staged)
    }

    /// True if another file of the volume durably keeps its epoch.
    fn is_epoch_kept(&self, id: VolumeId, file: &Finished) -> bool {
        let epoch = self.fence(id);
        let durable = |growing: &Growing| growing.epoch >= epoch && growing.synced == growing.end;
        let kept_by_open = self
            .volumes
            .get(&id)
            .is_some_and(|writer| writer.files.values().any(durable));
        let is_other = |other: &Finished| other.id.seq != file.id.seq;
        kept_by_open
            || self.catalog.volume(id).is_some_and(|volume| {
                let state = volume.read();
                let mut others = state.finished.values().filter(|other| is_other(other));
                others.any(|other| other.facts.epoch >= epoch)
            })
    }

    /// Removes a file's names: the index first, so that one without a chunk file tells of a loss.
    /// Each step is durable before the next, or a tombstone could go before its shard.
    fn unlink(&mut self, id: VolumeId, seq: u32) -> Result<(), StoreError> {
        let fs = &self.catalog.fs;
        let dir = self.catalog.paths.volume(id);
        for name in [FileName::index(id, seq), FileName::chunk(id, seq)] {
            let path = self.catalog.paths.part(name);
            match fs.remove(&path) {
                // A file whose index could not be written has none.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                result => result.map_err(failed("remove", &path))?,
            }
            self.catalog.files.forget(name);
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

/// Bytes of a file that holds nothing but so many tombstones: with its head, a fence and a mark.
fn heir_len(deletions: usize) -> u64 {
    let tombstone = |deletions: usize| record_len(1, (deletions * DELETION_LEN) as u64);
    let (full, rest) = (deletions / DELETIONS_MAX, deletions % DELETIONS_MAX);
    let last = if rest > 0 { tombstone(rest) } else { 0 };
    3 * BLOCK_LEN + full as u64 * tombstone(DELETIONS_MAX) + last
}
