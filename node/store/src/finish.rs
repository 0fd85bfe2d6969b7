//! Finishing: a chunk file that grows no more gets its index file, and readers take it from there.

use super::catalog::{EntrySource, Finished};
use super::core::{Chain, Core};
use super::error::StoreError;
use super::files::{FileName, failed};
use super::filter::KeyHash;
use super::growing::{Claim, Growing};
use super::index::{FinishedFacts, Index, encode};
use super::record::{BLOCK_LEN, Footer, Header, Kind};
use super::scan::{FileId, ShardTable};
use megalith_disk::replace_file;
use megalith_model::ids::VolumeId;
use std::io;
use std::sync::Arc;

impl Core {
    /// Finishes the files that are full or left behind, and at rest.
    pub(super) fn finish_full(&mut self) {
        let len_max = self.catalog.settings.file_len_max;
        let mut full = Vec::new();
        for (id, volume) in &mut self.volumes {
            for (seq, file) in &volume.files {
                let active = volume.active == Some(*seq);
                let is_full = u64::from(file.end) * BLOCK_LEN >= len_max;
                if file.is_at_rest() && (!active || is_full) {
                    full.push((*id, *seq));
                }
            }
        }
        for (volume, seq) in full {
            self.finish_file(volume, seq);
        }
    }

    /// Finishes one file. After an error it is finished as far as it was durable before.
    pub(super) fn finish_file(&mut self, volume: VolumeId, seq: u32) {
        let Some(writer) = self.volumes.get_mut(&volume) else {
            return;
        };
        if writer.active == Some(seq) {
            writer.active = None;
        }
        let Some(mut file) = writer.files.remove(&seq) else {
            return;
        };
        writer.dead_bytes += file.dead_bytes;
        match self.close_file(&mut file) {
            Ok(()) => self.show_finished(&file),
            Err(error) => {
                tracing::error!(%volume, file = seq, error = %Chain(&error), "finish a chunk file");
                self.catalog
                    .health
                    .add_failed_file(self.catalog.settings.failed_files_max);
                if let Some(volume) = self.catalog.volume(volume) {
                    volume.write().suspect = true;
                }
                self.finish_failed(file);
            }
        }
    }

    /// Ends a file with a mark that all of it is durable, and gives spare space back.
    fn close_file(&mut self, file: &mut Growing) -> Result<(), StoreError> {
        self.catalog.verify_home()?;
        self.mark(file)?;
        let end = u64::from(file.end) * BLOCK_LEN;
        file.file.set_len(end).map_err(failed("cut", &file.path))?;
        file.file.sync_data().map_err(failed("sync", &file.path))
    }

    /// Writes, durably, that everything before is durable.
    pub(super) fn mark(&mut self, file: &mut Growing) -> Result<(), StoreError> {
        let fs = Arc::clone(&self.catalog.fs);
        file.write()?;
        file.sync(fs.as_ref())?;
        let header = Header {
            lsn: self.lsn,
            ..Header::bare(Kind::Mark, file.id.volume, file.epoch)
        };
        file.make_room(
            fs.as_ref(),
            &self.catalog.settings,
            header.record_len(),
            Claim::Reserve,
        )?;
        self.lsn += 1;
        file.push(header, &[], &Footer::BLANK);
        file.write()?;
        file.sync(fs.as_ref())
    }

    /// Finishes a file that failed: nothing beyond what was durable counts.
    pub(super) fn finish_failed(&mut self, mut file: Growing) {
        file.end = file.synced;
        file.waiting.clear();
        // So that no later scan takes what was never acknowledged for a shard. It may well fail.
        let cut = file.file.set_len(u64::from(file.synced) * BLOCK_LEN);
        if let Err(error) = cut.and_then(|()| file.file.sync_data()) {
            tracing::warn!(path = %file.path.display(), %error, "cut failed file");
        }
        self.show_finished(&file);
    }

    /// Writes the index and moves the file from the open to the finished ones.
    fn show_finished(&mut self, file: &Growing) {
        let FileId {
            volume: id, seq, ..
        } = file.id;
        let Some(volume) = self.catalog.volume(id) else {
            return;
        };
        let mut facts = FinishedFacts {
            epoch: file.epoch,
            lsn_max: file.lsn_max,
            end: file.end,
            entries: 0,
        };
        let index = {
            let state = volume.read();
            let Some(view) = state.open.get(&seq) else {
                return;
            };
            facts.entries = view.table.len() as u32;
            self.write_index(&view.table, file.id, facts)
        };
        let mut state = volume.write();
        let Some(view) = state.open.remove(&seq) else {
            return;
        };
        let source = match index {
            Ok(index) => EntrySource::Disk(Arc::new(index)),
            Err(error) => {
                // The next opening scans the file and tries again.
                tracing::warn!(volume = %id, file = seq, error = %Chain(&error), "write index");
                self.catalog.health.add_write_error();
                EntrySource::Memory(Arc::new(view.table))
            }
        };
        state
            .finished
            .insert(seq, Arc::new(Finished::new(file.id, facts, source)));
    }

    /// Writes an index file, durably, and loads it.
    pub(super) fn write_index(
        &self,
        table: &ShardTable,
        id: FileId,
        facts: FinishedFacts,
    ) -> Result<Index, StoreError> {
        self.catalog.verify_home()?;
        let path = self.catalog.paths.index(id.volume, id.seq);
        let bytes = encode(table, id, facts);
        replace_file(self.catalog.fs.as_ref(), &path, &bytes).map_err(failed("write", &path))?;
        let name = FileName::index(id.volume, id.seq);
        self.catalog.files.forget(name);
        let file = self
            .catalog
            .files
            .get(name)
            .map_err(failed("open", &path))?;
        let index = Index::load(file.as_ref(), id).ok();
        // One that denied a shard would lose it.
        let whole = |index: &Index| {
            let mut keys = table.keys();
            keys.all(|key| index.may_hold(*key, KeyHash::of(*key)))
        };
        index
            .filter(whole)
            .ok_or_else(|| StoreError::io("read back", &path, io::ErrorKind::InvalidData.into()))
    }

    /// Writes again the indexes that readers found bad.
    pub(super) fn write_bad_indexes(&mut self) {
        let bad = {
            let reindex = self.catalog.reindex.lock();
            std::mem::take(&mut *reindex.unwrap_or_else(std::sync::PoisonError::into_inner))
        };
        for (volume, seq) in bad {
            let Some(volume) = self.catalog.volume(volume) else {
                continue;
            };
            let Some(finished) = volume.read().finished.get(&seq).cloned() else {
                continue;
            };
            let EntrySource::Memory(table) = finished.source() else {
                continue;
            };
            let facts = FinishedFacts {
                entries: table.len() as u32,
                ..finished.facts
            };
            match self.write_index(&table, finished.id, facts) {
                Ok(index) => finished.set_source(EntrySource::Disk(Arc::new(index))),
                Err(error) => {
                    tracing::warn!(file = seq, error = %Chain(&error), "write an index file again");
                    self.catalog.health.add_write_error();
                }
            }
        }
    }

    /// Brings everything to the disk before a planned end.
    pub(super) fn close(&mut self) {
        let streams: Vec<u64> = self.streams.keys().copied().collect();
        for stream in streams {
            self.forget_stream(stream);
        }
        self.finish_full();
        let volumes = std::mem::take(&mut self.volumes);
        for mut file in volumes
            .into_values()
            .flat_map(|volume| volume.files.into_values())
        {
            if let Err(error) = self.mark(&mut file) {
                tracing::error!(path = %file.path.display(), error = %Chain(&error), "close");
                self.catalog.health.add_write_error();
            }
        }
    }
}
