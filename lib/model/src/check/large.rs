//! The second run: names, versions, blobs, what finds them, and the totals.

use super::RowCheck;
use super::finding::{Rule, Subject};
use super::small::of_bucket;
use crate::ids::{BlobId, BucketId, ClusterId, LeaseId, VolumeId};
use crate::keys::{Meta, RowKey};
use crate::level::Level;
use crate::rows::{
    BlobRow, Counters, DoomedQueue, FiledRow, OwedRow, SegmentRow, Totals, VersionRow, VolumeCounts,
};
use crate::shape::{SegmentLayout, Shape};
use crate::sum::ShardSum;

impl RowCheck {
    pub(super) fn large_row(&mut self, key: &[u8], parsed: &RowKey<'_>, value: &[u8]) {
        match parsed {
            RowKey::Meta(item) => self.meta_row(key, *item, value),
            RowKey::Name { bucket, .. } => {
                if let Some(row) = self.read::<VersionRow>(key, value) {
                    let objects = u64::from(!row.delete_marker);
                    self.version_row(*bucket, objects, &row);
                }
            }
            RowKey::Version { .. } | RowKey::VersionSequence { .. } => {
                self.older_row(key, parsed, value);
            }
            RowKey::Blob(blob) => {
                if let Some(row) = self.read::<BlobRow>(key, value) {
                    self.blob_row(*blob, &row);
                }
            }
            RowKey::VolumeBlob {
                volume,
                blob,
                segment,
            } => {
                if let Some(row) = self.read::<FiledRow>(key, value) {
                    let owner = row.owner.unwrap_or(*blob);
                    self.filed(false, (*volume, *blob, *segment), owner);
                    let queued = self
                        .small
                        .deletes
                        .binary_search(&(*volume, *blob, *segment));
                    self.check(queued.is_err(), Rule::QueuedAndNamed, || {
                        Subject::Segment(*volume, *blob, *segment).to_string()
                    });
                }
            }
            RowKey::Owed {
                volume,
                blob,
                segment,
            } => {
                if let Some(row) = self.read::<OwedRow>(key, value) {
                    let place = (*volume, *blob, *segment);
                    self.owed(false, place, row.owed, row.columns);
                    let sound = row.owed != 0 && row.damaged & !row.owed == 0;
                    self.check(sound, Rule::OwedRow, || {
                        let of = Subject::Segment(*volume, *blob, *segment);
                        format!("{of} owes {:b}, damaged {:b}", row.owed, row.damaged)
                    });
                }
            }
            // All others come in the first run.
            _ => {}
        }
    }

    /// Versions that are not current, and what finds them by their ids.
    fn older_row(&mut self, key: &[u8], parsed: &RowKey<'_>, value: &[u8]) {
        match parsed {
            RowKey::Version {
                bucket,
                key: object,
                sequence,
            } => {
                let Some(row) = self.read::<VersionRow>(key, value) else {
                    return;
                };
                self.version_row(*bucket, 0, &row);
                let (rule, of) = (Rule::VersionIds, Subject::Bucket(*bucket));
                let own = row.sequence == *sequence;
                self.check(own, rule, || {
                    format!(
                        "{bucket}: a version of sequence {} at {sequence}",
                        row.sequence
                    )
                });
                let numbers = [bucket.0.to_le_bytes(), sequence.to_le_bytes()];
                let name: [&[u8]; 4] = [&numbers[0], object, &row.version.0, &numbers[1]];
                self.ledger.counted(rule, of, &name, 1);
            }
            RowKey::VersionSequence {
                bucket,
                key: object,
                version,
            } => {
                if let Some(sequence) = self.read::<u64>(key, value) {
                    let (rule, of) = (Rule::VersionIds, Subject::Bucket(*bucket));
                    let numbers = [bucket.0.to_le_bytes(), sequence.to_le_bytes()];
                    let name: [&[u8]; 4] = [&numbers[0], object, &version.0, &numbers[1]];
                    self.ledger.kept(rule, of, &name, 1);
                }
            }
            _ => {}
        }
    }

    fn meta_row(&mut self, key: &[u8], item: Meta, value: &[u8]) {
        match item {
            Meta::Totals => self.kept_totals = self.read::<Totals>(key, value).unwrap_or_default(),
            Meta::Doomed => self.doomed = self.read::<DoomedQueue>(key, value).unwrap_or_default(),
            Meta::Cluster => drop(self.read::<ClusterId>(key, value)),
            Meta::Clock => drop(self.read::<u64>(key, value)),
            Meta::NextVolume => drop(self.read::<VolumeId>(key, value)),
            Meta::NextLease => drop(self.read::<LeaseId>(key, value)),
            Meta::NextAccount => drop(self.read::<crate::ids::AccountId>(key, value)),
            Meta::Level => drop(self.read::<Level>(key, value)),
            Meta::Restored => drop(self.read::<()>(key, value)),
            Meta::Settings => drop(self.read::<crate::settings::Settings>(key, value)),
            Meta::DenyList => drop(self.read::<crate::denied::DenyList>(key, value)),
            Meta::Rotation => self.keks.rotation = self.read(key, value),
        }
    }

    fn version_row(&mut self, bucket: BucketId, objects: u64, row: &VersionRow) {
        if self.bucket.is_none_or(|(open, _)| open != bucket) {
            self.end_bucket();
        }
        let (_, counted) = self.bucket.get_or_insert((bucket, Counters::default()));
        counted.objects += objects;
        counted.versions += 1;
        counted.bytes = counted.bytes.saturating_add(row.size);
        for blob in &row.blobs {
            self.referenced(*blob);
        }
        let records: [&[u8]; 2] = [&row.wrapped_key, &row.sealed_listing];
        self.keks.sealed(false, &records);
    }

    fn end_bucket(&mut self) {
        let Some((bucket, counted)) = self.bucket.take() else {
            return;
        };
        let there = self.has_bucket(bucket);
        self.check(there, Rule::Bucket, || {
            format!("{bucket} is gone, not empty")
        });
        for (rule, number) in of_bucket(&counted) {
            let of = Subject::Bucket(bucket);
            self.ledger
                .counted(rule, of, &[&bucket.0.to_le_bytes()], number);
        }
    }

    fn blob_row(&mut self, blob: BlobId, row: &BlobRow) {
        let (rule, of) = (Rule::References, Subject::Blob(blob));
        self.ledger
            .kept(rule, of, &[&blob.0.to_le_bytes()], row.references.into());
        self.check(row.references > 0, Rule::Blob, || {
            format!("{blob} has no references")
        });
        let spent = self.small.spent.binary_search(&blob);
        self.check(spent.is_err(), Rule::Spent, || {
            format!("the command of {blob} is kept twice")
        });
        let is_inline = row.shape == Shape::Inline;
        self.totals.inline_blobs += u64::from(is_inline);
        let inline = if is_inline { row.len } else { 0 };
        self.check(row.inline.len() as u64 == inline, Rule::Blob, || {
            format!("{blob} has {} inline bytes, not {inline}", row.inline.len())
        });
        for (number, segment) in (0..).zip(&row.segments) {
            let place = (segment.volume, segment.filed(blob), number);
            self.filed(true, place, blob);
            self.segment(blob, row.shape, number, segment);
        }
    }

    /// A segment that a blob names (`counted`), or that its volume finds.
    fn filed(&mut self, counted: bool, place: (VolumeId, BlobId, u32), owner: BlobId) {
        let (volume, filed, segment) = place;
        let of = Subject::Segment(volume, filed, segment);
        let numbers = [
            volume.0.to_le_bytes(),
            filed.0.to_le_bytes(),
            owner.0.to_le_bytes(),
        ];
        let name: [&[u8]; 4] = [
            &numbers[0],
            &numbers[1],
            &numbers[2],
            &segment.to_le_bytes(),
        ];
        if counted {
            self.ledger.counted(Rule::Filed, of, &name, 1);
        } else {
            self.ledger.kept(Rule::Filed, of, &name, 1);
        }
    }

    /// What a segment owes, by the blob's row (`counted`) or by its own.
    fn owed(&mut self, counted: bool, place: (VolumeId, BlobId, u32), owed: u32, columns: u8) {
        let (volume, filed, segment) = place;
        let of = Subject::Segment(volume, filed, segment);
        let numbers = [volume.0.to_le_bytes(), filed.0.to_le_bytes()];
        let rest = [segment.to_le_bytes(), owed.to_le_bytes()];
        let name: [&[u8]; 5] = [&numbers[0], &numbers[1], &rest[0], &rest[1], &[columns]];
        if counted {
            self.ledger.counted(Rule::Owed, of, &name, 1);
        } else {
            self.ledger.kept(Rule::Owed, of, &name, 1);
        }
    }

    fn segment(&mut self, blob: BlobId, shape: Shape, number: u32, segment: &SegmentRow) {
        let filed = segment.filed(blob);
        let of = Subject::Segment(segment.volume, filed, number);
        let seen = self.volumes.get_mut(&segment.volume);
        let Some((row, seen)) = seen.and_then(|seen| Some((seen.row.as_ref()?, &mut seen.counted)))
        else {
            return self
                .findings
                .add(Rule::Segment, format!("{of} of {blob} is in no volume"));
        };
        if row.profile != segment.profile {
            let what = format!("{of} of {blob} has another profile than its volume");
            return self.findings.add(Rule::Segment, what);
        }
        let counts = seen.get_or_insert_with(|| VolumeCounts::empty(segment.profile));
        counts.bytes = counts.bytes.saturating_add(segment.len);
        let layout = SegmentLayout::new(shape, segment.profile, filed, segment.len);
        for slot in layout.slots().filter(|slot| segment.owed >> slot & 1 == 0) {
            if let Some(digest) = segment.digest(shape, slot) {
                let shard = ShardSum::of(filed, number, layout.shard_len(slot), digest);
                counts.sums[slot] = counts.sums[slot].plus(shard).unwrap_or_default();
            }
        }
        let filled = layout.filled_columns();
        match shape {
            _ if segment.owed != 0 => counts.owed += 1,
            Shape::Copies => {
                counts.copies[(filed.0 % segment.profile.shards() as u64) as usize] += 1;
            }
            Shape::Coded | Shape::Inline => {
                counts.coded += 1;
                let short = filled.checked_sub(1);
                if let Some(short) = short.and_then(|short| counts.short.get_mut(short)) {
                    *short += 1;
                }
            }
        }
        let sound = segment.owed & !layout.slots_mask() == 0;
        if segment.owed != 0 {
            let place = (segment.volume, filed, number);
            let columns = u8::try_from(filled).unwrap_or(u8::MAX);
            self.owed(true, place, segment.owed, columns);
        }
        self.check(sound, Rule::Segment, || {
            format!("{of} owes {:b}, which are not its slots", segment.owed)
        });
    }

    pub(super) fn end_large(&mut self) {
        self.end_bucket();
        for (id, seen) in std::mem::take(&mut self.volumes) {
            let Some(row) = seen.row else {
                self.findings
                    .add(Rule::Volume, format!("counts of {id}, which isn't there"));
                continue;
            };
            let counted = seen
                .counted
                .unwrap_or_else(|| VolumeCounts::empty(row.profile));
            let kept = seen.kept.unwrap_or_default();
            self.check(kept == counted, Rule::Volume, || {
                format!("{id}: kept {kept:?}, counted {counted:?}")
            });
        }
        let (kept, counted) = (self.kept_totals, self.totals);
        self.check(kept == counted, Rule::Totals, || {
            format!("kept {kept:?}, counted {counted:?}")
        });
        let (queue, numbers) = (self.doomed, self.small.numbers);
        let whole = match numbers {
            None => queue.first == queue.next,
            Some((first, last, count)) => {
                (first, last.checked_add(1)) == (queue.first, Some(queue.next))
                    && queue.next.checked_sub(queue.first) == Some(count)
            }
        };
        self.check(whole, Rule::Doomed, || {
            format!("rows {numbers:?} are not those of {queue:?}")
        });
    }
}
