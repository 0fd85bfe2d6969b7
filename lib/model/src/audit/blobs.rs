//! Blobs against what refers to them: versions and parts, volumes, sums, owed rows, deletes.

use super::Audit;
use crate::ids::{BlobId, VolumeId};
use crate::keys::{RowKey, Table};
use crate::lookup;
use crate::machine::{MachineError, read};
use crate::rows::{
    BlobRow, DeleteRow, DiskRow, FiledRow, OwedRow, SegmentRow, VolumeCounts, VolumeRow,
};
use crate::shape::{SegmentLayout, Shape};
use crate::sum::ShardSum;
use std::collections::BTreeMap;

/// A segment's place: its volume, the id that it is filed under, its number.
type Place = (VolumeId, BlobId, u32);

impl Audit<'_> {
    /// Checks blobs against their references, volumes, indexes and inline bytes.
    pub(super) fn blobs(&mut self) -> Result<(), MachineError> {
        let mut volumes: BTreeMap<VolumeId, VolumeCounts> = BTreeMap::new();
        for (_, volume) in self.all::<VolumeRow>(Table::Volumes)? {
            volumes.insert(volume.id, VolumeCounts::empty(volume.profile));
        }
        let mut places: BTreeMap<Place, BlobId> = BTreeMap::new();
        self.totals.inline_blobs = 0;
        let mut references = std::mem::take(&mut self.references);
        for (key, row) in self.all::<BlobRow>(Table::Blobs)? {
            let Ok(RowKey::Blob(blob)) = RowKey::decode(&key) else {
                continue;
            };
            let named = references.remove(&blob).unwrap_or(0);
            self.check(named > 0 && named == row.references, || {
                format!(
                    "{blob} has {} references, named {named} times",
                    row.references
                )
            });
            if row.shape == Shape::Inline {
                self.totals.inline_blobs += 1;
            }
            let inline = if row.shape == Shape::Inline {
                row.len
            } else {
                0
            };
            self.check(row.inline.len() as u64 == inline, || {
                format!("inline bytes of {blob}")
            });
            for (number, segment) in (0..).zip(&row.segments) {
                let place = (segment.volume, segment.filed(blob), number);
                let twice = places.insert(place, blob).is_some();
                self.check(!twice, || format!("{blob} is filed where another is"));
                match volumes.get_mut(&segment.volume) {
                    Some(counts) => self.segment(counts, blob, row.shape, number, segment)?,
                    None => self.problem(format!("{blob} is in no volume")),
                }
            }
        }
        self.check(references.is_empty(), || {
            format!("no rows of {references:?}")
        });
        self.indexes(&places)?;
        for (volume, counts) in volumes {
            self.same("volume", &RowKey::VolumeCounts(volume), &counts)?;
        }
        Ok(())
    }

    fn segment(
        &mut self,
        counts: &mut VolumeCounts,
        blob: BlobId,
        shape: Shape,
        number: u32,
        segment: &SegmentRow,
    ) -> Result<(), MachineError> {
        let alike = counts.short.len() + 1 == segment.profile.data()
            && counts.copies.len() == segment.profile.shards();
        self.check(alike, || {
            format!("{blob} segment {number} has another profile than its volume")
        });
        if !alike {
            return Ok(());
        }
        counts.bytes = counts.bytes.saturating_add(segment.len);
        let filed = segment.filed(blob);
        let layout = SegmentLayout::new(shape, segment.profile, filed, segment.len);
        for slot in layout.slots().filter(|slot| segment.owed >> slot & 1 == 0) {
            if let Some(digest) = segment.digest(shape, slot) {
                let shard = ShardSum::of(filed, number, layout.shard_len(slot), digest);
                counts.sums[slot] = counts.sums[slot].plus(shard).unwrap_or_default();
            }
        }
        let owed: Option<OwedRow> = read(
            self.rows,
            &RowKey::Owed {
                volume: segment.volume,
                blob: filed,
                segment: number,
            },
        )?;
        let mask = owed.map_or(0, |row| row.owed);
        let sound = owed.is_none_or(|row| {
            row.owed != 0
                && row.owed & !layout.slots_mask() == 0
                && row.damaged & !row.owed == 0
                && usize::from(row.columns) == layout.filled_columns()
        });
        self.check(mask == segment.owed && sound, || {
            format!(
                "{blob} segment {number} owes {:b}, noted {owed:?}",
                segment.owed
            )
        });
        match shape {
            _ if segment.owed != 0 => counts.owed += 1,
            Shape::Copies => {
                counts.copies[(filed.0 % segment.profile.shards() as u64) as usize] += 1
            }
            Shape::Coded | Shape::Inline => {
                counts.coded += 1;
                let filled = layout.filled_columns();
                let short = filled.checked_sub(1);
                if let Some(short) = short.and_then(|short| counts.short.get_mut(short)) {
                    *short += 1;
                }
            }
        }
        Ok(())
    }

    fn indexes(&mut self, places: &BTreeMap<Place, BlobId>) -> Result<(), MachineError> {
        let mut indexed = BTreeMap::new();
        for (key, row) in self.all::<FiledRow>(Table::VolumeBlobs)? {
            if let Ok(RowKey::VolumeBlob {
                volume,
                blob,
                segment,
            }) = RowKey::decode(&key)
            {
                indexed.insert((volume, blob, segment), row.owner.unwrap_or(blob));
            }
        }
        self.check(indexed == *places, || {
            "blobs by volume differ from blobs".into()
        });
        for (key, _) in self.all::<OwedRow>(Table::Owed)? {
            if let Ok(RowKey::Owed {
                volume,
                blob,
                segment,
            }) = RowKey::decode(&key)
            {
                let place = (volume, blob, segment);
                self.check(places.contains_key(&place), || {
                    format!("{blob} owes, and is gone")
                });
            }
        }
        Ok(())
    }

    /// Checks that no blob is both owned and queued for deletion.
    pub(super) fn deletes(&mut self) -> Result<(), MachineError> {
        for (key, row) in self.all::<DeleteRow>(Table::Deletes)? {
            let row = row.shard;
            self.totals.deletes_pending += 1;
            let owned = lookup::segment(self.rows, row.volume, row.blob, row.segment)?;
            self.check(owned.is_none(), || {
                format!("{} is owned and queued", row.blob)
            });
            if let Ok(RowKey::Delete { disk, sequence }) = RowKey::decode(&key) {
                let known: Option<DiskRow> = read(self.rows, &RowKey::Disk(disk))?;
                let volume: Option<VolumeRow> = read(self.rows, &RowKey::Volume(row.volume))?;
                let slot = volume.and_then(|v| v.slots.get(usize::from(row.slot)).copied());
                let queued = |row: &DiskRow| row.first_delete..=row.last_delete;
                self.check(
                    known.is_some_and(|disk| queued(&disk).contains(&sequence)),
                    || format!("delete {sequence} of disk {disk} has no number"),
                );
                self.check(slot.is_some_and(|slot| slot.disk == disk), || {
                    format!("a shard of {} is deleted on a foreign disk", row.blob)
                });
            }
        }
        Ok(())
    }
}
