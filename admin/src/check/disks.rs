//! Compares a disk with what the rows say it holds.
//!
//! The order of the questions is what makes a second look certain while objects come and go. A
//! shard that a row names was durable before, so one that is absent between two rows that name it
//! is missing. A shard that no row names may be on its way in or out: it is unnamed only if its
//! lease was closed before no row named it, if after that the disk's queue did not hold it, and if
//! it is still there after that. (Whoever has deleted it for the queue did so before taking it off
//! the queue.)

use super::page::{Own, faults, still_wrong};
use super::report::{DiskReport, Fault};
use super::{CheckClients, words};
use megalith_client::{ClientError, TypedCalls};
use megalith_model::ids::{BlobId, BucketId, DiskId, VolumeId};
use megalith_model::query::{HeldSegment, PAGE_ROWS_MAX};
use megalith_model::question;
use megalith_model::shard::{ShardId, ShardStat};
use megalith_model::topology::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::sleep;

/// Between the two looks.
const SECOND_LOOK_AFTER: Duration = Duration::from_secs(1);
/// After so many shards that no row names, they are looked at a second time.
const UNNAMED_MAX: usize = 50_000;
/// Pages between two words about how far it is.
const TELL_PAGES: u64 = 100;

type Place = (BlobId, u32);

struct DiskCheck<'a> {
    clients: &'a CheckClients,
    node: &'a Node,
    disk: DiskId,
    report: DiskReport,
    unnamed: BTreeSet<ShardId>,
    pages: u64,
}

/// Compares one disk; what can't be asked is a part of the report.
pub(super) async fn compare(
    clients: &CheckClients,
    node: &Node,
    disk: DiskId,
    tell: &mut (dyn FnMut(String) + Send),
) -> DiskReport {
    let mut check = DiskCheck {
        clients,
        node,
        disk,
        report: DiskReport {
            disk: disk.to_string(),
            node: node.id.0,
            ..DiskReport::default()
        },
        unnamed: BTreeSet::new(),
        pages: 0,
    };
    if let Err(error) = check.all(tell).await {
        check.report.error = Some(words(&error));
    }
    check.report
}

impl DiskCheck<'_> {
    async fn all(&mut self, tell: &mut (dyn FnMut(String) + Send)) -> Result<(), ClientError> {
        let volumes = self.volumes().await?;
        for (volume, slots) in volumes {
            self.report.volumes += 1;
            self.volume(&Own { volume, slots }, tell).await?;
        }
        self.settle_unnamed().await
    }

    /// The volumes with slots on this disk.
    async fn volumes(&self) -> Result<BTreeMap<VolumeId, Vec<u8>>, ClientError> {
        let disk = self.disk;
        let volumes = self
            .clients
            .meta
            .ask(question::DiskVolumes { disk })
            .await?;
        let own = volumes.into_iter().map(|volume| {
            let slots = (0..)
                .zip(&volume.slots)
                .filter(|(_, slot)| slot.disk == disk);
            (volume.id, slots.map(|(number, _)| number).collect())
        });
        Ok(own.collect())
    }

    async fn volume(
        &mut self,
        own: &Own,
        tell: &mut (dyn FnMut(String) + Send),
    ) -> Result<(), ClientError> {
        let mut after = None;
        loop {
            let held = self.held(own.volume, after, PAGE_ROWS_MAX).await?;
            let end = held.last().map(|last| (last.blob, last.segment));
            let end = end.filter(|_| held.len() == PAGE_ROWS_MAX as usize);
            let listed = self.listed(own.volume, after, end).await?;
            let wanted = own.wanted(&held);
            self.report.shards += wanted.len() as u64;
            let wrong = faults(&wanted, &self.stats(&wanted).await?);
            if !wrong.is_empty() {
                self.look_again(own, after, end, &wrong).await?;
            }
            self.unnamed.extend(own.unnamed(&held, &listed));
            if self.unnamed.len() >= UNNAMED_MAX {
                self.settle_unnamed().await?;
            }
            self.pages += 1;
            if self.pages.is_multiple_of(TELL_PAGES) {
                let shards = self.report.shards;
                tell(format!("disk {}: {shards} shards compared", self.disk));
            }
            match end {
                Some(_) => after = end,
                None => return Ok(()),
            }
        }
    }

    async fn held(
        &self,
        volume: VolumeId,
        after: Option<Place>,
        max: u32,
    ) -> Result<Vec<HeldSegment>, ClientError> {
        self.clients
            .meta
            .ask(question::Held { volume, after, max })
            .await
    }

    /// What rows name behind `after` and up to `end` now.
    async fn held_between(
        &self,
        volume: VolumeId,
        mut after: Option<Place>,
        end: Option<Place>,
    ) -> Result<Vec<HeldSegment>, ClientError> {
        let mut all = Vec::new();
        loop {
            let page = self.held(volume, after, PAGE_ROWS_MAX).await?;
            after = page.last().map(|last| (last.blob, last.segment));
            let whole = page.len() < PAGE_ROWS_MAX as usize;
            all.extend(page);
            if whole || end.is_some_and(|end| after >= Some(end)) {
                return Ok(all);
            }
        }
    }

    /// The disk's own list of a volume's shards, behind `after` and up to `end`.
    async fn listed(
        &self,
        volume: VolumeId,
        mut after: Option<Place>,
        end: Option<Place>,
    ) -> Result<Vec<ShardId>, ClientError> {
        let (node, address) = (self.node.id, &self.node.rpc_address);
        let mut all: Vec<ShardId> = Vec::new();
        loop {
            let page =
                self.clients
                    .shards
                    .list(node, address, self.disk, volume, after, PAGE_ROWS_MAX);
            let page = page.await?;
            all.extend(page.shards);
            let last = all.last().map(|last| (last.blob, last.segment));
            let far = end.is_some_and(|end| last >= Some(end));
            if !page.truncated || far || last == after {
                all.retain(|shard| end.is_none_or(|end| (shard.blob, shard.segment) <= end));
                return Ok(all);
            }
            after = last;
        }
    }

    /// What the disk knows of these shards.
    async fn stats(&self, shards: &[ShardId]) -> Result<Vec<Option<ShardStat>>, ClientError> {
        let (node, address) = (self.node.id, &self.node.rpc_address);
        let mut all = Vec::with_capacity(shards.len());
        for page in shards.chunks(PAGE_ROWS_MAX as usize) {
            all.extend(
                self.clients
                    .shards
                    .stat(node, address, self.disk, page)
                    .await?,
            );
        }
        Ok(all)
    }

    /// Reports what is wrong and was wrong before, if rows name it still.
    async fn look_again(
        &mut self,
        own: &Own,
        after: Option<Place>,
        end: Option<Place>,
        before: &[(Fault, ShardId)],
    ) -> Result<(), ClientError> {
        sleep(SECOND_LOOK_AFTER).await;
        let shards: Vec<ShardId> = before.iter().map(|(_, shard)| *shard).collect();
        let now = faults(&shards, &self.stats(&shards).await?);
        // Asked last: whatever was absent before was named all the while.
        let held = self.held_between(own.volume, after, end).await?;
        let slots = self
            .volumes()
            .await?
            .remove(&own.volume)
            .unwrap_or_default();
        let wanted = Own {
            volume: own.volume,
            slots,
        };
        let wanted = wanted.wanted(&held).into_iter().collect();
        let wrong = still_wrong(before, &now, &wanted);
        let blobs = wrong.iter().map(|(_, shard)| shard.blob).collect();
        let buckets = self.buckets(blobs).await?;
        for (fault, shard) in wrong {
            let bucket = buckets.get(&shard.blob).copied();
            self.report.add(fault, shard, self.disk, bucket);
        }
        Ok(())
    }

    async fn buckets(
        &self,
        blobs: BTreeSet<BlobId>,
    ) -> Result<BTreeMap<BlobId, BucketId>, ClientError> {
        let blobs: Vec<BlobId> = blobs.into_iter().collect();
        let mut buckets = BTreeMap::new();
        // Rows of blobs may be long.
        for page in blobs.chunks(100) {
            let blobs = page.to_vec();
            for view in self.clients.meta.ask(question::Blobs { blobs }).await? {
                buckets.insert(view.blob, view.row.bucket);
            }
        }
        Ok(buckets)
    }

    /// Reports the shards that nothing names.
    async fn settle_unnamed(&mut self) -> Result<(), ClientError> {
        let mut rest = std::mem::take(&mut self.unnamed);
        if rest.is_empty() {
            return Ok(());
        }
        let map = self.clients.cluster.fetch_map().await?;
        let open: BTreeSet<_> = map.leases.iter().map(|lease| lease.id).collect();
        rest.retain(|shard| !open.contains(&shard.blob.lease()));
        self.forget_named(&mut rest).await?;
        self.forget_queued(&mut rest).await?;
        let shards: Vec<ShardId> = rest.into_iter().collect();
        let stats = self.stats(&shards).await?;
        for (shard, stat) in shards.into_iter().zip(stats) {
            if stat.is_some() {
                self.report.add(Fault::Unnamed, shard, self.disk, None);
            }
        }
        Ok(())
    }

    /// Takes out what rows name now.
    async fn forget_named(&self, rest: &mut BTreeSet<ShardId>) -> Result<(), ClientError> {
        let slots = self.volumes().await?;
        let all: Vec<ShardId> = rest.iter().copied().collect();
        let mut known: Option<(VolumeId, Option<Place>)> = None;
        for shard in all {
            let place = (shard.blob, shard.segment);
            let covered = known.is_some_and(|(volume, end)| {
                volume == shard.volume && end.is_none_or(|end| place <= end)
            });
            if covered {
                continue;
            }
            let before = (shard.segment.checked_sub(1)).map(|segment| (shard.blob, segment));
            let before = before.or_else(|| Some((BlobId(shard.blob.0.checked_sub(1)?), u32::MAX)));
            let held = self.held(shard.volume, before, PAGE_ROWS_MAX).await?;
            let end = held.last().map(|last| (last.blob, last.segment));
            known = Some((
                shard.volume,
                end.filter(|_| held.len() == PAGE_ROWS_MAX as usize),
            ));
            let own = Own {
                volume: shard.volume,
                slots: slots.get(&shard.volume).cloned().unwrap_or_default(),
            };
            let (_, end) = known.unwrap_or((shard.volume, None));
            let here: Vec<ShardId> = rest
                .range(shard..)
                .take_while(|next| next.volume == shard.volume)
                .take_while(|next| end.is_none_or(|end| (next.blob, next.segment) <= end))
                .copied()
                .collect();
            let unnamed: BTreeSet<ShardId> = own.unnamed(&held, &here).into_iter().collect();
            for named in here.iter().filter(|shard| !unnamed.contains(shard)) {
                rest.remove(named);
            }
        }
        Ok(())
    }

    /// Takes out what the disk's delete queue holds.
    async fn forget_queued(&self, rest: &mut BTreeSet<ShardId>) -> Result<(), ClientError> {
        let (disk, max) = (self.disk, PAGE_ROWS_MAX);
        let mut after = 0;
        while !rest.is_empty() {
            let asked = question::Deletes {
                disk,
                max,
                after,
                urgent: true,
            };
            let page = self.clients.meta.ask(asked).await?;
            for (sequence, shard) in &page {
                rest.remove(shard);
                after = *sequence;
            }
            if page.len() < max as usize {
                return Ok(());
            }
        }
        Ok(())
    }
}
