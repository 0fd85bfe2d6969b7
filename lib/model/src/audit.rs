//! Checks that the rows agree: everything that is kept twice is counted again from its source.
//!
//! Reads every row and keeps a few words in memory for each blob. Meant for tests and for an
//! operator's check of a snapshot, never for a serving replica. Knows the rules of rows, not those
//! of commands.

mod blobs;
mod cluster;
mod owners;

use crate::ids::{AccountId, BlobId, BucketId, LeaseId, UploadId};
use crate::keys::{self, Meta, RowKey, Table};
use crate::kinds::Stored;
use crate::machine::{MachineError, decode_row, read};
use crate::rows::{
    BucketRow, Counters, DoomedQueue, DoomedRow, PartRow, Totals, UploadRow, UploadTarget,
    VersionRow,
};
use crate::table::Rows;
use std::collections::{BTreeMap, BTreeSet};

/// Describes every contradiction in words; finds none in rows that only the state machine has
/// written. Fails if a row can't be read at all.
pub fn audit(rows: &dyn Rows) -> Result<Vec<String>, MachineError> {
    let mut audit = Audit {
        rows,
        problems: Vec::new(),
        references: BTreeMap::new(),
        totals: Totals::default(),
        forgetting: BTreeMap::new(),
    };
    audit.objects()?;
    audit.blobs()?;
    audit.deletes()?;
    audit.owners()?;
    audit.topology()?;
    audit.spent()?;
    let totals = audit.totals;
    audit.same("totals", &RowKey::Meta(Meta::Totals), &totals)?;
    Ok(audit.problems)
}

struct Audit<'a> {
    rows: &'a dyn Rows,
    problems: Vec<String>,
    references: BTreeMap<BlobId, u32>,
    totals: Totals,
    /// Closed leases whose commands are being forgotten, and from which id on.
    forgetting: BTreeMap<LeaseId, BlobId>,
}

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
    fn all<T: Stored>(&mut self, table: Table) -> Result<Vec<(Vec<u8>, T)>, MachineError> {
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
        T: Stored + PartialEq + Default + std::fmt::Debug,
    {
        let kept: T = read(self.rows, key)?.unwrap_or_default();
        self.check(kept == *counted, || {
            format!("{what}: kept {kept:?}, counted {counted:?}")
        });
        Ok(())
    }

    /// Checks names, versions, uploads and parts, and the counters over them.
    fn objects(&mut self) -> Result<(), MachineError> {
        let mut counters = self.versions()?;
        self.uploads(&mut counters)?;
        self.counters(&counters)
    }

    /// Checks and counts names and versions, by bucket.
    fn versions(&mut self) -> Result<BTreeMap<BucketId, Counters>, MachineError> {
        let mut counters: BTreeMap<BucketId, Counters> = BTreeMap::new();
        let current = self.all::<VersionRow>(Table::Names)?;
        let older = self.all::<VersionRow>(Table::Versions)?;
        let mut sequences: BTreeMap<Vec<u8>, u64> = self
            .all::<u64>(Table::VersionSequences)?
            .into_iter()
            .collect();
        for (key, row) in current.into_iter().chain(older) {
            let bucket = match RowKey::decode(&key) {
                Ok(RowKey::Name { bucket, .. }) => {
                    counters.entry(bucket).or_default().objects += u64::from(!row.delete_marker);
                    bucket
                }
                Ok(RowKey::Version {
                    bucket,
                    key,
                    sequence,
                }) => {
                    let version = row.version;
                    let place = RowKey::VersionSequence {
                        bucket,
                        key,
                        version,
                    };
                    let found = sequences.remove(&place.encode());
                    let known = found == Some(sequence) && row.sequence == sequence;
                    self.check(known, || format!("{version} isn't found by its id"));
                    bucket
                }
                Ok(_) | Err(_) => continue,
            };
            let counted = counters.entry(bucket).or_default();
            counted.versions += 1;
            counted.bytes += row.size;
            for blob in row.blobs {
                *self.references.entry(blob).or_default() += 1;
            }
        }
        self.check(sequences.is_empty(), || {
            "ids of versions that aren't there".into()
        });
        Ok(counters)
    }

    /// Checks uploads and parts, and counts the uploads of each bucket.
    fn uploads(&mut self, counters: &mut BTreeMap<BucketId, Counters>) -> Result<(), MachineError> {
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
        Ok(())
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
                DoomedRow::Spent { lease, from } => {
                    self.forgetting.insert(lease, from);
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
}
