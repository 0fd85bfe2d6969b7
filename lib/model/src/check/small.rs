//! The first run: the tables that are small, or of which little is remembered.

use super::finding::{Rule, Subject};
use super::{DELETES_MAX, RowCheck};
use crate::ids::{AccountId, BlobId, BucketId, DiskId, LeaseId, NodeId, UploadId, VolumeId};
use crate::keys::RowKey;
use crate::rows::{
    AccessKeyRow, AccountRow, BucketRow, ChunkRow, Counters, DeleteRow, DiskRow, DoomedRow,
    DoubtRow, KekRow, MoveDeleteRow, PartRow, SpentRow, UploadRow, UploadTarget, VolumeCounts,
    VolumeRow,
};
use crate::shard::ShardId;
use crate::topology::{Lease, Node, VolumeState};
use std::collections::{BTreeMap, BTreeSet};

/// What the second run, or the end of the first, needs to know.
#[derive(Default)]
pub(super) struct Small {
    /// Which node lists each disk.
    listed: BTreeMap<DiskId, NodeId>,
    disks: BTreeMap<DiskId, DiskRow>,
    doubts: BTreeMap<DiskId, u32>,
    /// Segments with a delete in some queue, in order once the first run has ended.
    pub(super) deletes: Vec<(VolumeId, BlobId, u32)>,
    pub(super) deletes_left_out: u64,
    uploads: BTreeSet<UploadId>,
    /// Parts of no upload in progress: of one that has ended, if all is well.
    ended: Vec<(UploadId, u32, BlobId)>,
    /// Ended uploads, with the parts that a version has taken over.
    doomed: BTreeMap<UploadId, Vec<u32>>,
    /// Numbers of doomed rows: first, last, how many.
    pub(super) numbers: Option<(u64, u64, u64)>,
    /// Owners of buckets, by bucket.
    buckets: Vec<(BucketId, AccountId)>,
    leases: BTreeSet<LeaseId>,
    /// The first and last remembered command of each lease.
    spent_of: BTreeMap<LeaseId, (BlobId, BlobId)>,
    /// All remembered commands, in order.
    pub(super) spent: Vec<BlobId>,
    /// Closed leases whose commands are being forgotten, and from which id on.
    forgetting: BTreeMap<LeaseId, BlobId>,
}

/// The rules over a bucket's counters, with their numbers.
pub(super) fn of_bucket(counters: &Counters) -> [(Rule, u64); 4] {
    [
        (Rule::Objects, counters.objects),
        (Rule::Versions, counters.versions),
        (Rule::Bytes, counters.bytes),
        (Rule::Uploads, counters.uploads),
    ]
}

fn of_account(counters: &Counters) -> [(Rule, u64); 4] {
    [
        (Rule::AccountObjects, counters.objects),
        (Rule::AccountVersions, counters.versions),
        (Rule::AccountBytes, counters.bytes),
        (Rule::AccountUploads, counters.uploads),
    ]
}

impl RowCheck {
    pub(super) fn small_row(&mut self, key: &[u8], parsed: &RowKey<'_>, value: &[u8]) {
        match parsed {
            RowKey::Meta(_)
            | RowKey::Name { .. }
            | RowKey::Version { .. }
            | RowKey::VersionSequence { .. }
            | RowKey::Blob(_)
            | RowKey::VolumeBlob { .. }
            | RowKey::Owed { .. } => {}
            RowKey::Volume(_)
            | RowKey::VolumeCounts(_)
            | RowKey::OpenVolume(_)
            | RowKey::Node(_)
            | RowKey::Disk(_)
            | RowKey::Delete { .. }
            | RowKey::Chunk { .. }
            | RowKey::MoveDelete { .. }
            | RowKey::Doubt { .. } => self.placed_row(key, parsed, value),
            RowKey::Upload { .. }
            | RowKey::UploadTarget(_)
            | RowKey::Part { .. }
            | RowKey::Lease(_)
            | RowKey::Spent(_)
            | RowKey::Doomed(_) => self.passing_row(key, parsed, value),
            RowKey::Bucket(_)
            | RowKey::BucketName(_)
            | RowKey::AccountBucket { .. }
            | RowKey::Account(_)
            | RowKey::AccountName(_)
            | RowKey::AccessKey(_)
            | RowKey::AccountAccessKey { .. }
            | RowKey::Kek(_)
            | RowKey::BucketCounters(_)
            | RowKey::AccountCounters(_) => self.owned_row(key, parsed, value),
        }
    }

    /// Volumes, nodes, disks and what is to be done on them.
    fn placed_row(&mut self, key: &[u8], parsed: &RowKey<'_>, value: &[u8]) {
        match parsed {
            RowKey::Volume(id) => {
                let Some(row) = self.read::<VolumeRow>(key, value) else {
                    return;
                };
                if row.state() == VolumeState::Open {
                    let (rule, of) = (Rule::OpenVolumes, Subject::Volume(*id));
                    self.ledger.counted(rule, of, &[&id.0.to_le_bytes()], 1);
                }
                self.volumes.entry(*id).or_default().row = Some(row);
            }
            RowKey::VolumeCounts(id) => {
                let kept = self.read::<VolumeCounts>(key, value);
                self.volumes.entry(*id).or_default().kept = kept;
            }
            RowKey::OpenVolume(id) => {
                let (rule, of) = (Rule::OpenVolumes, Subject::Volume(*id));
                self.ledger.kept(rule, of, &[&id.0.to_le_bytes()], 1);
            }
            RowKey::Node(_) => {
                for disk in self.read::<Node>(key, value).into_iter().flat_map(disks) {
                    let twice = self.small.listed.insert(disk.0, disk.1).is_some();
                    let what = || format!("{} is on two nodes", disk.0);
                    self.check(!twice, Rule::Disk, what);
                }
            }
            RowKey::Disk(id) => {
                if let Some(row) = self.read::<DiskRow>(key, value) {
                    self.small.disks.insert(*id, row);
                }
            }
            RowKey::Delete { disk, sequence } => {
                if let Some(row) = self.read::<DeleteRow>(key, value) {
                    self.delete_row(*disk, *sequence, row.shard);
                }
            }
            RowKey::Doubt { disk, .. } => {
                self.read::<DoubtRow>(key, value);
                *self.small.doubts.entry(*disk).or_default() += 1;
            }
            RowKey::Chunk { .. } => {
                self.read::<ChunkRow>(key, value);
            }
            RowKey::MoveDelete { .. } => {
                self.read::<MoveDeleteRow>(key, value);
            }
            _ => {}
        }
    }

    fn delete_row(&mut self, disk: DiskId, sequence: u64, shard: ShardId) {
        self.totals.deletes_pending += 1;
        let row = self.small.disks.get(&disk);
        let numbered =
            row.is_some_and(|row| (row.first_delete..=row.last_delete).contains(&sequence));
        self.check(numbered, Rule::Delete, || {
            format!("delete {sequence} of disk {disk} has no number")
        });
        let volume = self.volumes.get(&shard.volume);
        let own = volume.and_then(|seen| seen.row.as_ref()?.disk(shard.slot));
        self.check(own == Some(disk), Rule::Delete, || {
            format!("{shard} is deleted on disk {disk}, which has no such slot")
        });
        let place = (shard.volume, shard.blob, shard.segment);
        // One after the other for the slots of a segment, if their disks have the same queue.
        if self.small.deletes.last() == Some(&place) {
            return;
        }
        if self.small.deletes.len() < DELETES_MAX {
            self.small.deletes.push(place);
        } else {
            self.small.deletes_left_out += 1;
        }
    }

    /// Uploads, leases, and what is on its way out.
    fn passing_row(&mut self, key: &[u8], parsed: &RowKey<'_>, value: &[u8]) {
        match parsed {
            RowKey::Upload {
                bucket,
                key: object,
                upload,
            } => {
                if let Some(row) = self.read::<UploadRow>(key, value) {
                    self.keks.sealed(false, &[&row.wrapped_key]);
                }
                let (rule, of) = (Rule::Uploads, Subject::Bucket(*bucket));
                self.ledger.counted(rule, of, &[&bucket.0.to_le_bytes()], 1);
                let name: [&[u8]; 3] = [&upload.0, &bucket.0.to_le_bytes(), object];
                let (rule, of) = (Rule::UploadTargets, Subject::Upload(*upload));
                self.ledger.counted(rule, of, &name, 1);
                self.small.uploads.insert(*upload);
            }
            RowKey::UploadTarget(upload) => {
                if let Some(row) = self.read::<UploadTarget>(key, value) {
                    let name: [&[u8]; 3] = [&upload.0, &row.bucket.0.to_le_bytes(), &row.key];
                    let (rule, of) = (Rule::UploadTargets, Subject::Upload(*upload));
                    self.ledger.kept(rule, of, &name, 1);
                }
            }
            RowKey::Part { upload, part } => {
                let Some(row) = self.read::<PartRow>(key, value) else {
                    return;
                };
                if self.small.uploads.contains(upload) {
                    self.referenced(row.blob);
                } else {
                    self.small.ended.push((*upload, *part, row.blob));
                }
            }
            RowKey::Lease(lease) => {
                self.read::<Lease>(key, value);
                self.small.leases.insert(*lease);
            }
            RowKey::Spent(blob) => {
                self.read::<SpentRow>(key, value);
                self.small.spent.push(*blob);
                let of = self.small.spent_of.entry(blob.lease());
                of.and_modify(|(_, last)| *last = *blob)
                    .or_insert((*blob, *blob));
            }
            RowKey::Doomed(number) => {
                if let Some(row) = self.read::<DoomedRow>(key, value) {
                    self.doomed_row(*number, row);
                }
            }
            _ => {}
        }
    }

    fn doomed_row(&mut self, number: u64, row: DoomedRow) {
        self.small.numbers = Some(match self.small.numbers {
            None => (number, number, 1),
            Some((first, _, count)) => (first, number, count + 1),
        });
        match row {
            DoomedRow::Blobs(blobs) => blobs.into_iter().for_each(|blob| self.referenced(blob)),
            DoomedRow::Parts { upload, linked } => {
                let alive = self.small.uploads.contains(&upload);
                let twice = self.small.doomed.insert(upload, linked).is_some();
                self.check(!alive, Rule::Doomed, || {
                    format!("upload {upload} has ended, and goes on")
                });
                self.check(!twice, Rule::Doomed, || {
                    format!("upload {upload} has ended twice")
                });
            }
            DoomedRow::Spent { lease, from } => {
                self.small.forgetting.insert(lease, from);
            }
        }
    }

    /// Counts a reference to a blob.
    pub(super) fn referenced(&mut self, blob: BlobId) {
        let (rule, of) = (Rule::References, Subject::Blob(blob));
        self.ledger.counted(rule, of, &[&blob.0.to_le_bytes()], 1);
    }

    /// Buckets, accounts, access keys and what is counted of them.
    fn owned_row(&mut self, key: &[u8], parsed: &RowKey<'_>, value: &[u8]) {
        match parsed {
            RowKey::Bucket(id) => {
                if let Some(row) = self.read::<BucketRow>(key, value) {
                    self.bucket_row(*id, &row);
                }
            }
            RowKey::BucketName(name) => {
                if let Some(id) = self.read::<BucketId>(key, value) {
                    let (rule, of) = (Rule::BucketNames, Subject::Bucket(id));
                    self.ledger.kept(rule, of, &[&id.0.to_le_bytes(), name], 1);
                }
            }
            RowKey::AccountBucket { account, name } => {
                if let Some(id) = self.read::<BucketId>(key, value) {
                    let (rule, of) = (Rule::BucketOwners, Subject::Bucket(id));
                    let name: [&[u8]; 3] = [&id.0.to_le_bytes(), &account.0.to_le_bytes(), name];
                    self.ledger.kept(rule, of, &name, 1);
                }
            }
            RowKey::Account(id) => {
                if let Some(row) = self.read::<AccountRow>(key, value) {
                    let (rule, of) = (Rule::AccountNames, Subject::Account(*id));
                    let name: [&[u8]; 2] = [&id.0.to_le_bytes(), row.name.as_bytes()];
                    self.ledger.counted(rule, of, &name, 1);
                }
            }
            RowKey::AccountName(name) => {
                if let Some(id) = self.read::<AccountId>(key, value) {
                    let (rule, of) = (Rule::AccountNames, Subject::Account(id));
                    self.ledger.kept(rule, of, &[&id.0.to_le_bytes(), name], 1);
                }
            }
            RowKey::AccessKey(id) => {
                if let Some(row) = self.read::<AccessKeyRow>(key, value) {
                    self.keks.sealed(true, &[&row.sealed_credential]);
                    let (rule, of) = (Rule::AccessKeys, Subject::Account(row.account));
                    let name: [&[u8]; 2] = [&row.account.0.to_le_bytes(), id];
                    self.ledger.counted(rule, of, &name, 1);
                }
            }
            RowKey::AccountAccessKey {
                account,
                access_key,
            } => {
                let (rule, of) = (Rule::AccessKeys, Subject::Account(*account));
                let name: [&[u8]; 2] = [&account.0.to_le_bytes(), access_key];
                self.ledger.kept(rule, of, &name, 1);
            }
            RowKey::Kek(_) => {
                if let Some(row) = self.read::<KekRow>(key, value) {
                    self.keks.is_there(row.version);
                }
            }
            RowKey::BucketCounters(id) => {
                if let Some(row) = self.read::<Counters>(key, value) {
                    self.bucket_counters(*id, &row);
                }
            }
            RowKey::AccountCounters(id) => {
                let Some(row) = self.read::<Counters>(key, value) else {
                    return;
                };
                for (rule, number) in of_account(&row) {
                    let of = Subject::Account(*id);
                    self.ledger.kept(rule, of, &[&id.0.to_le_bytes()], number);
                }
            }
            _ => {}
        }
    }

    fn bucket_row(&mut self, id: BucketId, row: &BucketRow) {
        let (of, number) = (Subject::Bucket(id), id.0.to_le_bytes());
        let name = row.name.as_bytes();
        let found: [&[u8]; 2] = [&number, name];
        self.ledger.counted(Rule::BucketNames, of, &found, 1);
        let owned: [&[u8]; 3] = [&number, &row.account.0.to_le_bytes(), name];
        self.ledger.counted(Rule::BucketOwners, of, &owned, 1);
        self.ledger.counted(Rule::BucketCounters, of, &[&number], 1);
        self.keks.sealed(false, &[&row.sealed_owner]);
        self.totals.buckets += 1;
        self.small.buckets.push((id, row.account));
    }

    fn bucket_counters(&mut self, id: BucketId, row: &Counters) {
        let (of, number) = (Subject::Bucket(id), id.0.to_le_bytes());
        self.ledger.kept(Rule::BucketCounters, of, &[&number], 1);
        for (rule, amount) in of_bucket(row) {
            self.ledger.kept(rule, of, &[&number], amount);
        }
        let totals = &mut self.totals.counters;
        totals.objects = totals.objects.saturating_add(row.objects);
        totals.versions = totals.versions.saturating_add(row.versions);
        totals.bytes = totals.bytes.saturating_add(row.bytes);
        totals.uploads = totals.uploads.saturating_add(row.uploads);
        let at = self
            .small
            .buckets
            .binary_search_by_key(&id, |(bucket, _)| *bucket);
        if let Ok(at) = at {
            let account = self.small.buckets[at].1;
            for (rule, amount) in of_account(row) {
                let of = Subject::Account(account);
                self.ledger
                    .counted(rule, of, &[&account.0.to_le_bytes()], amount);
            }
        }
    }

    /// Returns true if the bucket is there.
    pub(super) fn has_bucket(&self, id: BucketId) -> bool {
        let buckets = &self.small.buckets;
        buckets
            .binary_search_by_key(&id, |(bucket, _)| *bucket)
            .is_ok()
    }

    pub(super) fn end_small(&mut self) {
        self.small.deletes.sort_unstable();
        self.small.deletes.dedup();
        for (upload, part, blob) in std::mem::take(&mut self.small.ended) {
            match self.small.doomed.get(&upload) {
                Some(linked) if linked.binary_search(&part).is_ok() => {}
                Some(_) => self.referenced(blob),
                None => {
                    let what = format!("part {part} of no upload {upload}");
                    self.findings.add(Rule::Part, what);
                    self.referenced(blob);
                }
            }
        }
        let spent = std::mem::take(&mut self.small.spent_of);
        for (lease, (first, last)) in spent {
            let from = self.small.forgetting.get(&lease).copied();
            let sound = if self.small.leases.contains(&lease) {
                from.is_none_or(|from| from > last)
            } else {
                from.is_some_and(|from| from <= first)
            };
            self.check(sound, Rule::Spent, || {
                format!("commands from {first} to {last} are remembered for ever, or too briefly")
            });
        }
        let mut listed = std::mem::take(&mut self.small.listed);
        let mut doubts = std::mem::take(&mut self.small.doubts);
        for (id, disk) in std::mem::take(&mut self.small.disks) {
            let counted = doubts.remove(&id).unwrap_or(0);
            self.check(counted == disk.doubts, Rule::Disk, || {
                format!("{id} has {counted} doubts and counts {}", disk.doubts)
            });
            let own = disk.listed.then_some(disk.node);
            let by = listed.remove(&id);
            self.check(by == own, Rule::Disk, || {
                format!("{id} is with {own:?}, and listed by {by:?}")
            });
        }
        for (id, node) in listed {
            let what = format!("{id}, which {node} lists, has no row");
            self.findings.add(Rule::Disk, what);
        }
        for id in doubts.keys() {
            self.findings
                .add(Rule::Disk, format!("doubts about {id}, which has no row"));
        }
    }
}

fn disks(node: Node) -> impl Iterator<Item = (DiskId, NodeId)> {
    let id = node.id;
    node.disks.into_iter().map(move |disk| (disk.id, id))
}
