//! Checks that the rows agree: everything that is kept twice is counted again from its source.
//!
//! Reads every row and keeps a few words in memory for each blob. Meant for tests and for an
//! operator's check of a snapshot, never for a serving replica. Knows the rules of rows, not those
//! of commands.

use crate::codec;
use crate::ids::{AccountId, BlobId, BucketId, DiskId, NodeId, UploadId, VersionId, VolumeId};
use crate::keys::{self, Meta, RowKey, Table};
use crate::machine::{MachineError, decode_row, read};
use crate::rows::{
    AccessKeyRow, AccountRow, BlobRow, BucketRow, Counters, DiskRow, DoomedQueue, DoomedRow,
    DoubtRow, NameRow, OwedRow, PartRow, SegmentRow, TokenRow, Totals, UploadRow, UploadTarget,
    VersionRow, VolumeCounts,
};
use crate::shape::{SegmentLayout, Shape};
use crate::shard::ShardId;
use crate::table::Rows;
use crate::topology::{Node, Volume, VolumeState};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// Describes every contradiction in words; finds none in rows that only the state machine has
/// written. Fails if a row can't be read at all.
pub fn audit(rows: &dyn Rows) -> Result<Vec<String>, MachineError> {
    let mut audit = Audit {
        rows,
        problems: Vec::new(),
        references: BTreeMap::new(),
        totals: Totals::default(),
    };
    audit.objects()?;
    audit.blobs()?;
    audit.deletes()?;
    audit.owners()?;
    audit.topology()?;
    audit.tokens()?;
    let totals = audit.totals;
    audit.same("totals", &RowKey::Meta(Meta::Totals), &totals)?;
    Ok(audit.problems)
}

struct Audit<'a> {
    rows: &'a dyn Rows,
    problems: Vec<String>,
    references: BTreeMap<BlobId, u32>,
    totals: Totals,
}

/// A segment's place.
type Place = (VolumeId, BlobId, u32);

fn add(sum: &mut Counters, part: Counters) {
    sum.objects += part.objects;
    sum.versions += part.versions;
    sum.bytes += part.bytes;
    sum.uploads += part.uploads;
}

impl Audit<'_> {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn check(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.problem(text());
        }
    }

    /// All rows of a table, decoded; keys that can't be parsed are problems.
    fn all<T: DeserializeOwned>(
        &mut self,
        table: Table,
    ) -> Result<Vec<(Vec<u8>, T)>, MachineError> {
        let range = keys::table(table);
        let mut found = Vec::new();
        self.rows.scan(&range.from, &range.to, &mut |key, value| {
            found.push(decode_row(key, value).map(|row: T| (key.to_vec(), row)));
            true
        })?;
        let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
        for (key, _) in &found {
            let whole = RowKey::decode(key).is_ok_and(|parsed| parsed.encode() == *key);
            self.check(whole, || format!("a malformed key in {table:?}"));
        }
        Ok(found)
    }

    fn same<T>(&mut self, what: &str, key: &RowKey<'_>, counted: &T) -> Result<(), MachineError>
    where
        T: DeserializeOwned + PartialEq + Default + std::fmt::Debug,
    {
        let kept: T = read(self.rows, key)?.unwrap_or_default();
        self.check(kept == *counted, || {
            format!("{what}: kept {kept:?}, counted {counted:?}")
        });
        Ok(())
    }

    /// Checks names, versions, uploads and parts, and the counters over them.
    fn objects(&mut self) -> Result<(), MachineError> {
        let mut counters: BTreeMap<BucketId, Counters> = BTreeMap::new();
        let mut current: BTreeSet<(BucketId, Vec<u8>, VersionId)> = BTreeSet::new();
        for (key, name) in self.all::<NameRow>(Table::Names)? {
            if let Ok(RowKey::Name { bucket, key }) = RowKey::decode(&key) {
                counters.entry(bucket).or_default().objects += u64::from(!name.delete_marker);
                current.insert((bucket, key.into_owned(), name.version));
            }
        }
        for (key, row) in self.all::<VersionRow>(Table::Versions)? {
            if let Ok(RowKey::Version {
                bucket,
                key,
                version,
            }) = RowKey::decode(&key)
            {
                let counted = counters.entry(bucket).or_default();
                counted.versions += 1;
                counted.bytes += row.size;
                for blob in row.blobs {
                    *self.references.entry(blob).or_default() += 1;
                }
                let named = current.remove(&(bucket, key.into_owned(), version));
                self.check(named, || format!("{version} has no name"));
            }
        }
        self.check(current.is_empty(), || "names without versions".into());

        let mut targets = BTreeMap::new();
        for (key, target) in self.all::<UploadTarget>(Table::UploadTargets)? {
            if let Ok(RowKey::UploadTarget(upload)) = RowKey::decode(&key) {
                targets.insert(upload, target);
            }
        }
        let mut uploads = BTreeSet::new();
        for (key, _) in self.all::<UploadRow>(Table::Uploads)? {
            if let Ok(RowKey::Upload {
                bucket,
                key,
                upload,
            }) = RowKey::decode(&key)
            {
                counters.entry(bucket).or_default().uploads += 1;
                uploads.insert(upload);
                let key = key.into_owned();
                let known = targets.remove(&upload) == Some(UploadTarget { bucket, key });
                self.check(known, || format!("upload {upload} has no target"));
            }
        }
        self.check(targets.is_empty(), || "targets without uploads".into());
        let mut doomed = self.doomed()?;
        for (key, row) in self.all::<PartRow>(Table::Parts)? {
            if let Ok(RowKey::Part { upload, part }) = RowKey::decode(&key) {
                let linked = match doomed.get(&upload) {
                    Some(linked) => linked.binary_search(&part).is_ok(),
                    None => false,
                };
                if !linked {
                    *self.references.entry(row.blob).or_default() += 1;
                }
                let known = uploads.contains(&upload) != doomed.contains_key(&upload);
                self.check(known, || format!("a part of no upload {upload}"));
            }
        }
        doomed.retain(|upload, _| uploads.contains(upload));
        self.check(doomed.is_empty(), || "uploads go on that have ended".into());
        self.counters(&counters)
    }

    /// Counts the references of doomed blobs; returns the doomed uploads with their linked parts.
    fn doomed(&mut self) -> Result<BTreeMap<UploadId, Vec<u32>>, MachineError> {
        let queue: DoomedQueue = read(self.rows, &RowKey::Meta(Meta::Doomed))?.unwrap_or_default();
        let mut numbers = Vec::new();
        let mut uploads = BTreeMap::new();
        for (key, row) in self.all::<DoomedRow>(Table::Doomed)? {
            if let Ok(RowKey::Doomed(number)) = RowKey::decode(&key) {
                numbers.push(number);
            }
            match row {
                DoomedRow::Blobs(blobs) => {
                    for blob in blobs {
                        *self.references.entry(blob).or_default() += 1;
                    }
                }
                DoomedRow::Parts { upload, linked } => {
                    let twice = uploads.insert(upload, linked).is_some();
                    self.check(!twice, || format!("upload {upload} has ended twice"));
                }
            }
        }
        self.check(numbers.iter().copied().eq(queue.first..queue.next), || {
            format!("doomed rows {numbers:?} are not those of {queue:?}")
        });
        Ok(uploads)
    }

    fn counters(&mut self, counted: &BTreeMap<BucketId, Counters>) -> Result<(), MachineError> {
        let mut accounts: BTreeMap<AccountId, Counters> = BTreeMap::new();
        let mut known = BTreeSet::new();
        for (_, bucket) in self.all::<BucketRow>(Table::Buckets)? {
            let counters = counted.get(&bucket.id).copied().unwrap_or_default();
            self.same("bucket", &RowKey::BucketCounters(bucket.id), &counters)?;
            add(accounts.entry(bucket.account).or_default(), counters);
            add(&mut self.totals.counters, counters);
            self.totals.buckets += 1;
            known.insert(bucket.id);
        }
        for bucket in counted.keys() {
            self.check(known.contains(bucket), || {
                format!("{bucket} is gone, not empty")
            });
        }
        let rows = self.all::<Counters>(Table::BucketCounters)?.len();
        self.check(rows == known.len(), || "counters of no bucket".into());
        for (key, kept) in self.all::<Counters>(Table::AccountCounters)? {
            if let Ok(RowKey::AccountCounters(account)) = RowKey::decode(&key) {
                let counted = accounts.remove(&account).unwrap_or_default();
                self.check(kept == counted, || {
                    format!("{account}: kept {kept:?}, counted {counted:?}")
                });
            }
        }
        let rest = accounts.values().all(|c| *c == Counters::default());
        self.check(rest, || "accounts without counters".into());
        Ok(())
    }

    /// Checks blobs against their references, volumes, indexes and inline bytes.
    fn blobs(&mut self) -> Result<(), MachineError> {
        let mut volumes: BTreeMap<VolumeId, (u64, VolumeCounts)> = BTreeMap::new();
        for (_, volume) in self.all::<Volume>(Table::Volumes)? {
            let counts = VolumeCounts {
                short: vec![0; volume.profile.data() - 1],
                copies: vec![0; volume.profile.shards()],
                ..VolumeCounts::default()
            };
            volumes.insert(volume.id, (0, counts));
        }
        let mut places: BTreeSet<Place> = BTreeSet::new();
        let mut inline = BTreeSet::new();
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
                inline.insert(blob);
                let bytes: Option<Vec<u8>> = read(self.rows, &RowKey::Inline(blob))?;
                let len = bytes.map(|bytes| bytes.len() as u64);
                self.check(len == Some(row.len), || format!("inline bytes of {blob}"));
            }
            for (number, segment) in (0..).zip(&row.segments) {
                places.insert((segment.volume, blob, number));
                match volumes.get_mut(&segment.volume) {
                    Some(sums) => self.segment(sums, blob, row.shape, number, segment)?,
                    None => self.problem(format!("{blob} is in no volume")),
                }
            }
        }
        self.check(references.is_empty(), || {
            format!("no rows of {references:?}")
        });
        self.totals.inline_blobs = inline.len() as u64;
        self.indexes(&places, &inline)?;
        for (volume, (bytes, counts)) in volumes {
            self.same("volume", &RowKey::VolumeCounts(volume), &counts)?;
            let row: Option<Volume> = read(self.rows, &RowKey::Volume(volume))?;
            self.check(row.is_some_and(|row| row.bytes == bytes), || {
                format!("{volume} holds {bytes} bytes")
            });
        }
        Ok(())
    }

    fn segment(
        &mut self,
        (bytes, counts): &mut (u64, VolumeCounts),
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
        *bytes = bytes.saturating_add(segment.len);
        let layout = SegmentLayout::new(shape, segment.profile, blob, segment.len);
        let owed: Option<OwedRow> = read(
            self.rows,
            &RowKey::Owed {
                volume: segment.volume,
                blob,
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
                counts.copies[(blob.0 % segment.profile.shards() as u64) as usize] += 1
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

    fn indexes(
        &mut self,
        places: &BTreeSet<Place>,
        inline: &BTreeSet<BlobId>,
    ) -> Result<(), MachineError> {
        let mut indexed = BTreeSet::new();
        for (key, ()) in self.all::<()>(Table::VolumeBlobs)? {
            if let Ok(RowKey::VolumeBlob {
                volume,
                blob,
                segment,
            }) = RowKey::decode(&key)
            {
                indexed.insert((volume, blob, segment));
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
                self.check(places.contains(&place), || {
                    format!("{blob} owes, and is gone")
                });
            }
        }
        let mut kept = 0;
        let range = keys::table(Table::Inline);
        self.rows.scan(&range.from, &range.to, &mut |_, _| {
            kept += 1;
            true
        })?;
        self.check(kept == inline.len(), || "inline bytes of no blob".into());
        Ok(())
    }

    /// Checks that no blob is both owned and queued for deletion.
    fn deletes(&mut self) -> Result<(), MachineError> {
        for (key, row) in self.all::<ShardId>(Table::Deletes)? {
            self.totals.deletes_pending += 1;
            let owned: Option<BlobRow> = read(self.rows, &RowKey::Blob(row.blob))?;
            self.check(owned.is_none(), || {
                format!("{} is owned and queued", row.blob)
            });
            if let Ok(RowKey::Delete { disk, sequence }) = RowKey::decode(&key) {
                let known: Option<DiskRow> = read(self.rows, &RowKey::Disk(disk))?;
                let volume: Option<Volume> = read(self.rows, &RowKey::Volume(row.volume))?;
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

    fn owners(&mut self) -> Result<(), MachineError> {
        let mut named: BTreeMap<Vec<u8>, BucketId> = self
            .all::<BucketId>(Table::BucketNames)?
            .into_iter()
            .collect();
        let mut owned: BTreeMap<Vec<u8>, BucketId> = self
            .all::<BucketId>(Table::AccountBuckets)?
            .into_iter()
            .collect();
        for (_, row) in self.all::<BucketRow>(Table::Buckets)? {
            let name = RowKey::BucketName(row.name.as_bytes().into()).encode();
            let place = RowKey::AccountBucket {
                account: row.account,
                name: row.name.as_bytes().into(),
            };
            let both = named.remove(&name) == Some(row.id)
                && owned.remove(&place.encode()) == Some(row.id);
            self.check(both, || format!("{} isn't found by name or owner", row.id));
        }
        let none = named.is_empty() && owned.is_empty();
        self.check(none, || "names of no bucket".into());
        let mut names = self.all::<AccountId>(Table::AccountNames)?.len();
        for (_, row) in self.all::<AccountRow>(Table::Accounts)? {
            names = names.wrapping_sub(1);
            let name = RowKey::AccountName(row.name.as_bytes().into());
            let id: Option<AccountId> = read(self.rows, &name)?;
            self.check(id == Some(row.id), || {
                format!("{} isn't found by name", row.id)
            });
        }
        self.check(names == 0, || "names of no account".into());
        self.access_keys()
    }

    fn access_keys(&mut self) -> Result<(), MachineError> {
        let mut owned: BTreeSet<Vec<u8>> = self
            .all::<()>(Table::AccountAccessKeys)?
            .into_iter()
            .map(|(key, ())| key)
            .collect();
        for (_, row) in self.all::<AccessKeyRow>(Table::AccessKeys)? {
            let place = RowKey::AccountAccessKey {
                account: row.account,
                access_key: row.access_key.as_bytes().into(),
            };
            let listed = owned.remove(&place.encode());
            self.check(listed, || {
                format!("{} isn't found by its account", row.access_key)
            });
        }
        self.check(owned.is_empty(), || "access keys that aren't there".into());
        Ok(())
    }

    fn topology(&mut self) -> Result<(), MachineError> {
        let mut open: BTreeSet<Vec<u8>> = self
            .all::<()>(Table::OpenVolumes)?
            .into_iter()
            .map(|(key, ())| key)
            .collect();
        for (_, volume) in self.all::<Volume>(Table::Volumes)? {
            let listed = open.remove(&RowKey::OpenVolume(volume.id).encode());
            self.check(listed == (volume.state == VolumeState::Open), || {
                format!("{} is in the wrong list", volume.id)
            });
        }
        self.check(open.is_empty(), || "open volumes that aren't there".into());
        let mut listed: BTreeMap<DiskId, NodeId> = BTreeMap::new();
        for (_, node) in self.all::<Node>(Table::Nodes)? {
            for disk in node.disks {
                let twice = listed.insert(disk.id, node.id).is_some();
                self.check(!twice, || format!("disk {} is on two nodes", disk.id));
            }
        }
        let mut doubts: BTreeMap<DiskId, u32> = BTreeMap::new();
        for (key, _) in self.all::<DoubtRow>(Table::Doubts)? {
            if let Ok(RowKey::Doubt { disk, .. }) = RowKey::decode(&key) {
                *doubts.entry(disk).or_default() += 1;
            }
        }
        for (_, disk) in self.all::<DiskRow>(Table::Disks)? {
            let counted = doubts.remove(&disk.id).unwrap_or(0);
            self.check(counted == disk.doubts, || {
                format!("disk {} counts its doubts wrongly", disk.id)
            });
            let node = listed.remove(&disk.id);
            self.check(node == disk.node, || {
                format!("disk {} is elsewhere", disk.id)
            });
        }
        self.check(listed.is_empty(), || "disks without rows".into());
        self.check(doubts.is_empty(), || "doubts about no disk".into());
        Ok(())
    }

    fn tokens(&mut self) -> Result<(), MachineError> {
        let from_ms: u64 = read(self.rows, &RowKey::Meta(Meta::TokensFrom))?.unwrap_or(0);
        let mut times: BTreeSet<Vec<u8>> = self
            .all::<()>(Table::TokenTimes)?
            .into_iter()
            .map(|(key, ())| key)
            .collect();
        for (key, row) in self.all::<TokenRow>(Table::Tokens)? {
            if let Ok(RowKey::Token(token)) = RowKey::decode(&key) {
                let time_ms = row.applied_ms;
                let known = times.remove(&RowKey::TokenTime { time_ms, token }.encode());
                self.check(known && time_ms >= from_ms, || {
                    format!("token {token} never ends")
                });
                let answer = codec::decode::<crate::command::Answer>(&row.answer);
                self.check(answer.is_ok(), || format!("token {token} answers nothing"));
            }
        }
        self.check(times.is_empty(), || "times of no token".into());
        Ok(())
    }
}
