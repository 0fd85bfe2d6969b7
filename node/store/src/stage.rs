//! Turns each request into records that wait to be written, and the effects they will have.
//! Decides what is refused; nothing here is durable or visible yet.

use super::catalog::Catalog;
use super::core::{Core, NewRecord, ShardStream, Writing};
use super::error::StoreError;
use super::growing::Claim;
use super::op::{Append, Done};
use super::record::{
    CELL_LEN, DELETIONS_MAX, Footer, Header, Kind, RECORDS_MAX, encode_deletions, record_len,
};
use super::round::{Effect, Staged};
use super::shard::{Entry, Extent};
use megalith_disk::crc32c::crc32c;
use megalith_model::ids::{Epoch, VolumeId};
use megalith_model::shard::{Receipt, ShardId, ShardKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Core {
    pub(super) fn stage_append(&mut self, append: Append) -> Result<Staged, StoreError> {
        let stream = append.stream;
        let staged = self.try_stage_append(append);
        if let Err(error) = &staged {
            self.forget_stream(stream);
            self.streams
                .insert(stream, ShardStream::Failed(error.clone()));
        }
        staged
    }

    fn try_stage_append(&mut self, append: Append) -> Result<Staged, StoreError> {
        let (stream, shard, epoch) = (append.stream, append.shard, append.epoch);
        if let Some(ShardStream::Failed(error)) = self.streams.get(&stream) {
            return Err(error.clone());
        }
        let current = self.fence(shard.volume);
        if epoch < current {
            return Err(StoreError::StaleEpoch { current });
        }
        let form = check_form(&self.catalog, &append)?;
        let mut older = None;
        if let Some((len, digest)) = append.last {
            match stored_before(&self.catalog, shard, len, digest)? {
                Before::Same(receipt) => {
                    self.forget_stream(stream);
                    return Ok(Staged::answered(Ok(Done::Stored(receipt))));
                }
                Before::Doubtful(seq, extent) => older = Some((seq, extent)),
                Before::Nothing => {}
            }
        }
        let seq = self.place_cells(&append, form, Claim::Shard)?;
        let mut staged = Staged::answered(Ok(Done::Written));
        staged.touched.push((shard.volume, seq));
        if let Some((len, digest)) = append.last {
            let extent = self.extent_of(stream, digest)?;
            let volume = shard.volume;
            // The record just placed has the last number given out.
            let (lsn, key) = (self.lsn - 1, shard.key());
            let entry = Entry {
                lsn,
                epoch,
                extent: Some(extent),
            };
            staged.effects.push(Effect::Entry {
                volume,
                seq,
                key,
                entry,
            });
            staged.effects.push(Effect::StreamEnd { stream });
            staged.effects.push(Effect::Fence { volume, epoch });
            let dead = older.map(|(seq, extent)| Effect::Dead {
                volume,
                seq,
                extent,
            });
            staged.effects.extend(dead);
            staged.answer = Ok(Done::Stored(Receipt { len, digest, epoch }));
        }
        Ok(staged)
    }

    /// Puts the cells into the stream's file and returns that.
    pub(super) fn place_cells(
        &mut self,
        append: &Append,
        form: Form,
        claim: Claim,
    ) -> Result<u32, StoreError> {
        let Append {
            stream,
            shard,
            first_cell,
            ..
        } = *append;
        let Form {
            cells,
            length,
            total,
        } = form;
        self.join_stream(append, form, claim)?;
        let writing = self.writing(stream, shard)?;
        let seq = writing.seq;
        let header = Header {
            last: append.last.is_some(),
            key: shard.key(),
            first_cell,
            cells,
            length,
            stream: writing.records.first().copied().unwrap_or(0),
            ..Header::bare(Kind::Cells, shard.volume, append.epoch)
        };
        let digest = append.last.map_or([0; 32], |(_, digest)| digest);
        let footer = Footer { digest, total };
        let record = NewRecord {
            header,
            cells: &append.cells,
            footer,
            claim,
        };
        let block = self.push(shard.volume, seq, record)?;
        let writing = self.writing(stream, shard)?;
        writing.records.push(block);
        writing.cells += u32::from(cells);
        writing.length += u64::from(length);
        writing.ended |= append.last.is_some();
        Ok(seq)
    }

    fn writing(&mut self, stream: u64, shard: ShardId) -> Result<&mut Writing, StoreError> {
        match self.streams.get_mut(&stream) {
            Some(ShardStream::Writing(writing)) => Ok(writing),
            Some(ShardStream::Failed(error)) => Err(error.clone()),
            None => Err(StoreError::Malformed {
                shard,
                what: "stream is unknown",
            }),
        }
    }

    /// Where the shard of a stream that came to its end lies.
    pub(super) fn extent_of(
        &mut self,
        stream: u64,
        digest: [u8; 32],
    ) -> Result<Extent, StoreError> {
        match self.streams.get(&stream) {
            Some(ShardStream::Writing(writing)) => Ok(writing.extent(Some(digest))),
            Some(ShardStream::Failed(error)) => Err(error.clone()),
            None => unreachable!("the stream was just written to"),
        }
    }

    /// Finds the stream's file, or gives it one with its first record.
    fn join_stream(&mut self, append: &Append, form: Form, claim: Claim) -> Result<(), StoreError> {
        let (stream, shard, first_cell) = (append.stream, append.shard, append.first_cell);
        let record_cells = form.cells;
        if let Some(ShardStream::Writing(writing)) = self.streams.get(&stream) {
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
        let len = record_len(record_cells, form.length.into());
        let seq = self.active_file(shard.volume, len, claim)?;
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
            length: 0,
            records: Vec::new(),
            ended: false,
        };
        self.streams.insert(stream, ShardStream::Writing(writing));
        Ok(())
    }

    pub(super) fn stage_delete(&mut self, shards: &[ShardId]) -> Result<Staged, StoreError> {
        let mut deleted: BTreeMap<VolumeId, Vec<Deleted>> = BTreeMap::new();
        for shard in shards.iter().copied().collect::<BTreeSet<_>>() {
            let located = self.catalog.find(shard)?;
            if located.is_some() || self.catalog.is_suspect(shard.volume) {
                let extent = located.map(|located| (located.seq, located.extent));
                deleted
                    .entry(shard.volume)
                    .or_default()
                    .push((shard.key(), extent));
            } else {
                // One that was reported missing: it is no longer wanted.
                self.catalog.health.forget_damaged(shard);
            }
        }
        let mut staged = Staged::answered(Ok(Done::Deleted));
        for (volume, deleted) in &deleted {
            for deleted in deleted.chunks(DELETIONS_MAX) {
                // Tombstones placed before an error take effect all the same: memory must not
                // believe in shards that the log has deleted.
                if let Err(error) = self.delete_shards(*volume, deleted, &mut staged) {
                    staged.answer = Err(error);
                    return Ok(staged);
                }
            }
        }
        Ok(staged)
    }

    fn delete_shards(
        &mut self,
        volume: VolumeId,
        deleted: &[Deleted],
        staged: &mut Staged,
    ) -> Result<(), StoreError> {
        let lsn = self.lsn_of_next(volume, deleted.len())?;
        let deletions: Vec<(ShardKey, u64)> = deleted.iter().map(|(key, _)| (*key, lsn)).collect();
        let seq = self.push_tombstone(volume, &deletions, &mut staged.effects)?;
        staged.touched.push((volume, seq));
        for (seq, extent) in deleted.iter().filter_map(|(_, extent)| extent.clone()) {
            staged.effects.push(Effect::Dead {
                volume,
                seq,
                extent,
            });
        }
        Ok(())
    }

    /// Makes sure of a file for a tombstone of `deletions` shards, so that the next record's number
    /// is known.
    fn lsn_of_next(&mut self, volume: VolumeId, deletions: usize) -> Result<u64, StoreError> {
        self.active_file(volume, record_len(1, deletions as u64 * 24), Claim::Reserve)?;
        Ok(self.lsn)
    }

    /// Puts a tombstone into the volume's active file and returns that file.
    pub(super) fn push_tombstone(
        &mut self,
        volume: VolumeId,
        deletions: &[(ShardKey, u64)],
        effects: &mut Vec<Effect>,
    ) -> Result<u32, StoreError> {
        let body = encode_deletions(deletions);
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
        for (key, lsn) in deletions {
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
        self.push_fence(volume, epoch)
    }

    /// Writes the record that keeps a volume's epoch.
    pub(super) fn push_fence(
        &mut self,
        volume: VolumeId,
        epoch: Epoch,
    ) -> Result<Staged, StoreError> {
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
}

/// A shard to delete, and where its bytes are.
type Deleted = (ShardKey, Option<(u32, Extent)>);

/// What the disk has under a shard's name.
enum Before {
    Nothing,
    Same(Receipt),
    /// It must be replaced.
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

/// A record's cells, measured.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) cells: u16,
    /// Bytes of these cells.
    pub(super) length: u32,
    /// Bytes of the shard up to their end.
    pub(super) total: u64,
}

/// Checks the form of a record's cells, before anything is placed: a record with the last mark
/// makes the shard visible.
fn check_form(catalog: &Catalog, append: &Append) -> Result<Form, StoreError> {
    let Append {
        shard,
        first_cell,
        last,
        ..
    } = *append;
    let malformed = |what| StoreError::Malformed { shard, what };
    let max = usize::from(catalog.settings.record_cells);
    let count = append.cells.len();
    let Some(((tail, _), full)) = append.cells.split_last() else {
        return Err(malformed("record without cells"));
    };
    if count > max || (last.is_none() && count != max) {
        return Err(malformed("wrong number of cells in a record"));
    }
    let all_full = full.iter().all(|(bytes, _)| bytes.len() == CELL_LEN);
    let tail_fits = match last {
        Some(_) => (1..=CELL_LEN).contains(&tail.len()),
        None => tail.len() == CELL_LEN,
    };
    if !all_full || !tail_fits {
        return Err(malformed("cell of a wrong length"));
    }
    let length = full.len() * CELL_LEN + tail.len();
    let total = u64::from(first_cell) * CELL_LEN as u64 + length as u64;
    if last.is_some_and(|(len, _)| len != total) {
        return Err(malformed("length differs from its cells"));
    }
    Ok(Form {
        cells: count as u16,
        length: length as u32,
        total,
    })
}
