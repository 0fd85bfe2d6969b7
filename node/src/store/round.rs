//! One round of the writer: requests that share a write and a sync, and what becomes visible when
//! that went well.

use super::catalog::Catalog;
use super::core::{Core, NewRecord, Stream, Writing};
use super::error::StoreError;
use super::growing::Claim;
use super::op::{Append, Done, Op};
use super::record::{
    CELL_LEN, Footer, GRAVES_MAX, Header, Kind, RECORDS_MAX, crc32c, encode_graves, record_len,
};
use super::scan::remember;
use super::shard::{Entry, Extent, Receipt, ShardId, ShardKey};
use megalith_model::ids::{Epoch, VolumeId};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Requests that are written and synced together.
#[derive(Default)]
pub(super) struct Round {
    pub(super) staged: Vec<Staged>,
    shards: HashSet<ShardId>,
    fenced: HashSet<VolumeId>,
}

/// A request whose records wait to be written.
pub(super) struct Staged {
    /// Files it needs to be durable (or, without effects, only written).
    pub(super) touched: Vec<(VolumeId, u32)>,
    pub(super) effects: Vec<Effect>,
    pub(super) answer: Result<Done, StoreError>,
}

/// What readers see once it is durable.
pub(super) enum Effect {
    /// A file's new last word on a shard.
    Entry {
        volume: VolumeId,
        seq: u32,
        key: ShardKey,
        entry: Entry,
    },
    /// A shard's bytes mean nothing any more.
    Dead {
        volume: VolumeId,
        seq: u32,
        extent: Extent,
    },
    /// A stream came to its end.
    StreamEnd { stream: u64 },
    /// The volume is at this epoch, if not beyond.
    Fence { volume: VolumeId, epoch: Epoch },
}

impl Staged {
    /// Nothing to write.
    pub(super) fn answered(answer: Result<Done, StoreError>) -> Self {
        Self {
            touched: Vec::new(),
            effects: Vec::new(),
            answer,
        }
    }
}

impl Round {
    /// True where the request must see the effects of this round.
    pub(super) fn must_precede(&self, op: &Op) -> bool {
        match op {
            Op::Append(append) => {
                self.fenced.contains(&append.shard.volume)
                    || (append.last.is_some() && self.shards.contains(&append.shard))
            }
            Op::Delete { shards } => shards.iter().any(|shard| self.shards.contains(shard)),
            Op::Fence { volume, .. } => self.fenced.contains(volume),
            Op::Abandon { .. } | Op::Tidy => false,
        }
    }

    pub(super) fn note(&mut self, op: &Op) {
        match op {
            Op::Append(append) => {
                if append.last.is_some() {
                    self.shards.insert(append.shard);
                }
            }
            Op::Delete { shards } => self.shards.extend(shards),
            Op::Fence { volume, .. } => {
                self.fenced.insert(*volume);
            }
            Op::Abandon { .. } | Op::Tidy => {}
        }
    }

    /// The files that must be synced.
    pub(super) fn durable_files(&self) -> BTreeSet<(VolumeId, u32)> {
        let durable = self
            .staged
            .iter()
            .filter(|staged| !staged.effects.is_empty());
        durable
            .flat_map(|staged| staged.touched.iter().copied())
            .collect()
    }
}

impl Core {
    pub(super) fn stage_append(&mut self, append: Append) -> Result<Staged, StoreError> {
        let stream = append.stream;
        let staged = self.try_stage_append(append);
        if let Err(error) = &staged {
            self.forget_stream(stream);
            self.streams.insert(stream, Stream::Failed(error.clone()));
        }
        staged
    }

    fn try_stage_append(&mut self, append: Append) -> Result<Staged, StoreError> {
        let Append {
            stream,
            shard,
            epoch,
            first_cell,
            cells,
            last,
        } = append;
        if let Some(Stream::Failed(error)) = self.streams.get(&stream) {
            return Err(error.clone());
        }
        let current = self.fence(shard.volume);
        if epoch < current {
            return Err(StoreError::StaleEpoch { current });
        }
        let length: usize = cells.iter().map(|(bytes, _)| bytes.len()).sum();
        let cell_count = check_form(&self.catalog, shard, &cells, last.is_some())?;
        let total = u64::from(first_cell) * CELL_LEN as u64 + length as u64;
        // Before anything is placed: a record with the last mark makes the shard visible.
        if last.is_some_and(|(len, _)| len != total) {
            return Err(StoreError::Malformed {
                shard,
                what: "length differs from its cells",
            });
        }
        let mut older = None;
        if let Some((len, digest)) = last {
            match stored_before(&self.catalog, shard, len, digest)? {
                Before::Same(receipt) => {
                    self.forget_stream(stream);
                    return Ok(Staged::answered(Ok(Done::Stored(receipt))));
                }
                Before::Doubtful(seq, extent) => older = Some((seq, extent)),
                Before::Nothing => {}
            }
        }
        let record_cells = cell_count;
        self.join_stream(stream, shard, first_cell, record_cells, length as u64)?;
        let Some(Stream::Writing(writing)) = self.streams.get(&stream) else {
            return Err(StoreError::Malformed {
                shard,
                what: "stream is unknown",
            });
        };
        let seq = writing.seq;
        let header = Header {
            last: last.is_some(),
            key: shard.key(),
            first_cell,
            cells: cell_count,
            length: length as u32,
            stream: writing.records.first().copied().unwrap_or(0),
            ..Header::bare(Kind::Cells, shard.volume, epoch)
        };
        let digest = last.map_or([0; 32], |(_, digest)| digest);
        let footer = Footer { digest, total };
        let lsn = self.lsn;
        let record = NewRecord {
            header,
            cells: &cells,
            footer,
            claim: Claim::Shard,
        };
        let block = self.push(shard.volume, seq, record)?;
        let Some(Stream::Writing(writing)) = self.streams.get_mut(&stream) else {
            return Err(StoreError::Malformed {
                shard,
                what: "stream is unknown",
            });
        };
        writing.records.push(block);
        writing.cells += u32::from(cell_count);
        let touched = vec![(shard.volume, seq)];
        let Some((len, digest)) = last else {
            return Ok(Staged {
                touched,
                effects: Vec::new(),
                answer: Ok(Done::Written),
            });
        };
        let extent = Extent {
            len,
            cells: writing.cells,
            record_cells: writing.record_cells,
            digest: Some(digest),
            records: writing.records.clone().into_boxed_slice(),
        };
        let entry = Entry {
            lsn,
            epoch,
            extent: Some(extent),
        };
        let volume = shard.volume;
        let mut effects = vec![
            Effect::Entry {
                volume,
                seq,
                key: shard.key(),
                entry,
            },
            Effect::StreamEnd { stream },
            Effect::Fence { volume, epoch },
        ];
        effects.extend(older.map(|(seq, extent)| Effect::Dead {
            volume,
            seq,
            extent,
        }));
        let answer = Ok(Done::Stored(Receipt { len, digest, epoch }));
        Ok(Staged {
            touched,
            effects,
            answer,
        })
    }

    /// Finds the stream's file, or gives it one with its first record.
    fn join_stream(
        &mut self,
        stream: u64,
        shard: ShardId,
        first_cell: u32,
        record_cells: u16,
        length: u64,
    ) -> Result<(), StoreError> {
        if let Some(Stream::Writing(writing)) = self.streams.get(&stream) {
            let in_order = writing.shard == shard
                && writing.cells == first_cell
                && record_cells <= writing.record_cells
                && writing.records.len() < RECORDS_MAX as usize;
            let what = "records are not in order";
            return if in_order {
                Ok(())
            } else {
                Err(StoreError::Malformed { shard, what })
            };
        }
        if first_cell != 0 {
            return Err(StoreError::Malformed {
                shard,
                what: "stream does not begin at cell 0",
            });
        }
        let len = record_len(record_cells, length);
        let seq = self.active_file(shard.volume, len, Claim::Shard)?;
        if let Some(volume) = self.volumes.get_mut(&shard.volume)
            && let Some(file) = volume.files.get_mut(&seq)
        {
            file.streams.insert(stream);
        }
        let writing = Writing {
            shard,
            seq,
            record_cells,
            cells: 0,
            records: Vec::new(),
        };
        self.streams.insert(stream, Stream::Writing(writing));
        Ok(())
    }

    pub(super) fn stage_delete(&mut self, shards: &[ShardId]) -> Result<Staged, StoreError> {
        let mut doomed: BTreeMap<VolumeId, Vec<Doomed>> = BTreeMap::new();
        for shard in shards.iter().copied().collect::<BTreeSet<_>>() {
            let located = self.catalog.find(shard)?;
            if located.is_some() || self.catalog.is_suspect(shard.volume) {
                let remains = located.map(|located| (located.seq, located.extent));
                doomed
                    .entry(shard.volume)
                    .or_default()
                    .push((shard.key(), remains));
            }
        }
        let mut staged = Staged::answered(Ok(Done::Deleted));
        for (volume, doomed) in &doomed {
            for doomed in doomed.chunks(GRAVES_MAX) {
                // Tombstones placed before an error take effect all the same: memory must not
                // believe in shards that the log has deleted.
                if let Err(error) = self.bury_shards(*volume, doomed, &mut staged) {
                    staged.answer = Err(error);
                    return Ok(staged);
                }
            }
        }
        Ok(staged)
    }

    fn bury_shards(
        &mut self,
        volume: VolumeId,
        doomed: &[Doomed],
        staged: &mut Staged,
    ) -> Result<(), StoreError> {
        let lsn = self.lsn_of_next(volume, doomed.len())?;
        let graves: Vec<(ShardKey, u64)> = doomed.iter().map(|(key, _)| (*key, lsn)).collect();
        let seq = self.push_tombstone(volume, &graves, &mut staged.effects)?;
        staged.touched.push((volume, seq));
        for (seq, extent) in doomed.iter().filter_map(|(_, remains)| remains.clone()) {
            staged.effects.push(Effect::Dead {
                volume,
                seq,
                extent,
            });
        }
        Ok(())
    }

    /// Makes sure of a file for a tombstone of so many shards, so that the next record's number
    /// is known.
    fn lsn_of_next(&mut self, volume: VolumeId, graves: usize) -> Result<u64, StoreError> {
        self.active_file(volume, record_len(1, graves as u64 * 24), Claim::Reserve)?;
        Ok(self.lsn)
    }

    /// Puts a tombstone into the volume's active file and returns that file.
    pub(super) fn push_tombstone(
        &mut self,
        volume: VolumeId,
        graves: &[(ShardKey, u64)],
        effects: &mut Vec<Effect>,
    ) -> Result<u32, StoreError> {
        let body = encode_graves(graves);
        let epoch = self.fence(volume);
        let header = Header {
            cells: 1,
            length: body.len() as u32,
            ..Header::bare(Kind::Tombstone, volume, epoch)
        };
        let seq = self.active_file(volume, header.record_len(), Claim::Reserve)?;
        let cells = [(body.clone(), crc32c(&body))];
        let footer = Footer {
            digest: [0; 32],
            total: body.len() as u64,
        };
        self.push(
            volume,
            seq,
            NewRecord {
                header,
                cells: &cells,
                footer,
                claim: Claim::Reserve,
            },
        )?;
        for (key, lsn) in graves {
            let entry = Entry {
                lsn: *lsn,
                epoch,
                extent: None,
            };
            effects.push(Effect::Entry {
                volume,
                seq,
                key: *key,
                entry,
            });
        }
        Ok(seq)
    }

    pub(super) fn stage_fence(
        &mut self,
        volume: VolumeId,
        epoch: Epoch,
    ) -> Result<Staged, StoreError> {
        let current = self.fence(volume);
        if epoch <= current {
            return Ok(Staged::answered(Ok(Done::Fenced(current))));
        }
        let header = Header::bare(Kind::Fence, volume, epoch);
        let seq = self.active_file(volume, header.record_len(), Claim::Reserve)?;
        let footer = Footer::BLANK;
        self.push(
            volume,
            seq,
            NewRecord {
                header,
                cells: &[],
                footer,
                claim: Claim::Reserve,
            },
        )?;
        Ok(Staged {
            touched: vec![(volume, seq)],
            effects: vec![Effect::Fence { volume, epoch }],
            answer: Ok(Done::Fenced(epoch)),
        })
    }

    /// Makes a durable change visible.
    pub(super) fn show(&mut self, effect: Effect) {
        match effect {
            Effect::Entry {
                volume,
                seq,
                key,
                entry,
            } => {
                self.catalog.health.forget_damaged(key.of(volume));
                if let Some(volume) = self.catalog.volume(volume)
                    && let Some(view) = volume.write().open.get_mut(&seq)
                {
                    remember(&mut view.table, key, entry);
                }
            }
            Effect::Dead {
                volume,
                seq,
                extent,
            } => self.bury(volume, seq, extent),
            Effect::StreamEnd { stream } => self.forget_stream(stream),
            Effect::Fence { volume, epoch } => {
                if let Some(volume) = self.catalog.volume(volume) {
                    let mut state = volume.write();
                    state.fence = state.fence.max(epoch);
                }
            }
        }
    }
}

/// A shard to delete, and where its bytes are.
type Doomed = (ShardKey, Option<(u32, Extent)>);

/// What the disk has under a shard's name.
enum Before {
    Nothing,
    Same(Receipt),
    /// It is to be replaced.
    Doubtful(u32, Extent),
}

fn stored_before(
    catalog: &Arc<Catalog>,
    shard: ShardId,
    len: u64,
    digest: [u8; 32],
) -> Result<Before, StoreError> {
    let Some(located) = catalog.find(shard)? else {
        return Ok(Before::Nothing);
    };
    let damaged = !located.extent.is_whole() || catalog.health.is_damaged(shard);
    let same = located.extent.len == len && located.extent.digest == Some(digest);
    if damaged || (same && catalog.is_suspect(shard.volume)) {
        return Ok(Before::Doubtful(located.seq, located.extent));
    }
    if same {
        return Ok(Before::Same(Receipt {
            len,
            digest,
            epoch: located.epoch,
        }));
    }
    Err(StoreError::Conflict { shard })
}

/// Checks the form of a record's cells and counts them.
fn check_form(
    catalog: &Catalog,
    shard: ShardId,
    cells: &[super::record::Cell],
    last: bool,
) -> Result<u16, StoreError> {
    let malformed = |what| StoreError::Malformed { shard, what };
    let max = usize::from(catalog.settings.record_cells);
    let Some(((tail, _), full)) = cells.split_last() else {
        return Err(malformed("record without cells"));
    };
    if cells.len() > max || (!last && cells.len() != max) {
        return Err(malformed("wrong number of cells in a record"));
    }
    let all_full = full.iter().all(|(bytes, _)| bytes.len() == CELL_LEN);
    let tail_fits = if last {
        (1..=CELL_LEN).contains(&tail.len())
    } else {
        tail.len() == CELL_LEN
    };
    if !all_full || !tail_fits {
        return Err(malformed("cell of a wrong length"));
    }
    Ok(cells.len() as u16)
}
