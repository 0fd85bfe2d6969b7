//! Finds shards that nothing names any more, keeps them in the disk's trash for some days, and then
//! deletes them: what a gateway that was killed has left behind, or one that never learnt whether
//! its command was done. `judge` decides; why it may is in `docs/decisions/orphans.md`.

mod judge;

use crate::propose::UpkeepError;
use judge::{Fill, Judge, TrashLimits};
use megalith_client::{MetaClient, TypedCalls as _};
use megalith_model::query::{PAGE_ROWS_MAX, Witness};
use megalith_model::question;
use megalith_model::shard::ShardId;
use megalith_store::DiskHandle;
use std::error::Error;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Between looks at what is due; a round of everything takes its own, longer interval.
const DUE_INTERVAL: Duration = Duration::from_secs(60);
/// Between two pages.
const PAGE_PAUSE: Duration = Duration::from_millis(50);
/// An answer that is older than this deletes nothing any more.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(10);

/// How orphans are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrphanSettings {
    /// Between two rounds over all shards of a disk (default one day). A shard goes to the trash in
    /// the second round that finds nobody to speak for it.
    pub round_interval: Duration,
    /// How long a shard stays in the trash (default 7 days).
    pub trash: Duration,
    /// Above so many percent of a disk in use, by whomever, its trash is deleted early (default
    /// 90). At 100 it never is.
    pub trash_full_percent: u32,
}

impl Default for OrphanSettings {
    fn default() -> Self {
        Self {
            round_interval: Duration::from_secs(24 * 3600),
            trash: Duration::from_secs(7 * 24 * 3600),
            trash_full_percent: 90,
        }
    }
}

/// Looks for orphans on a disk until it is dropped.
pub async fn run(meta: &MetaClient, disk: &DiskHandle, settings: OrphanSettings) {
    let mut ticks = interval(DUE_INTERVAL.min(settings.round_interval));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let limits = TrashLimits {
        kept_ms: u64::try_from(settings.trash.as_millis()).unwrap_or(u64::MAX),
        full_percent: settings.trash_full_percent,
    };
    let mut finder = Finder {
        meta,
        disk,
        judge: Judge::new(limits, disk.trash().as_ref().clone()),
    };
    let mut round_at: Option<Instant> = None;
    let mut well = true;
    loop {
        ticks.tick().await;
        let round = round_at.is_none_or(|at| at.elapsed() >= settings.round_interval);
        let began = Instant::now();
        let done = finder.turn(round).await;
        let id = disk.superblock().disk;
        match done {
            Ok(()) => {
                if round {
                    round_at = Some(began);
                }
                well = true;
            }
            Err(error) if well => {
                let error: &dyn Error = &error;
                tracing::warn!(error, disk = %id, "the look for orphans is held up");
                well = false;
            }
            Err(error) => tracing::debug!(%error, disk = %id, "the look is still held up"),
        }
    }
}

struct Finder<'a> {
    meta: &'a MetaClient,
    disk: &'a DiskHandle,
    judge: Judge,
}

impl Finder<'_> {
    async fn turn(&mut self, round: bool) -> Result<(), UpkeepError> {
        if round {
            self.round().await?;
        }
        self.delete_due().await
    }

    /// Asks about every shard of the disk.
    async fn round(&mut self) -> Result<(), UpkeepError> {
        let before = self.judge.trash().len();
        self.judge.begin();
        for (volume, _) in self.disk.volumes() {
            let mut after = None;
            loop {
                let page = self.disk.list(volume, after, PAGE_ROWS_MAX as usize).await;
                let page = page.map_err(UpkeepError::Store)?;
                let Some(last) = page.last() else { break };
                after = Some((last.shard.blob, last.shard.segment));
                let shards: Vec<ShardId> = page.iter().map(|stat| stat.shard).collect();
                let witnesses = self.witnesses(&shards).await?;
                let now_ms = self.meta.now_ms();
                for (stat, witness) in page.iter().zip(witnesses) {
                    self.judge.hear(now_ms, stat.shard, stat.len, witness);
                }
                sleep(PAGE_PAUSE).await;
            }
        }
        self.judge.end();
        self.save().await?;
        let (disk, shards) = (self.disk.superblock().disk, self.judge.trash().len());
        tracing::info!(%disk, trash = shards, "looked for orphans");
        if shards != before {
            tracing::warn!(%disk, shards, before, "shards that nothing names are in the trash");
        }
        Ok(())
    }

    /// Deletes what has been in the trash for long enough, if still nobody speaks for it.
    async fn delete_due(&mut self) -> Result<(), UpkeepError> {
        let space = self.disk.space().await.map_err(UpkeepError::Store)?;
        let fill = Fill {
            used: space.used,
            capacity: space.capacity,
        };
        let all = self.judge.due(self.meta.now_ms(), fill);
        for page in all.chunks(PAGE_ROWS_MAX as usize) {
            self.delete_page(page).await?;
        }
        if all.is_empty() {
            Ok(())
        } else {
            self.save().await
        }
    }

    async fn delete_page(&mut self, page: &[ShardId]) -> Result<(), UpkeepError> {
        let asked = Instant::now();
        let witnesses = self.witnesses(page).await?;
        let judged = page.iter().copied().zip(witnesses);
        let orphans: Vec<ShardId> = judged
            .filter(|(shard, witness)| self.judge.may_delete(*shard, *witness))
            .map(|(shard, _)| shard)
            .collect();
        if orphans.is_empty() || asked.elapsed() > ANSWER_AGE_MAX {
            return Ok(());
        }
        let deleted = self.disk.delete(&orphans).await;
        deleted.map_err(UpkeepError::Store)?;
        self.judge.deleted(&orphans);
        let (disk, shards) = (self.disk.superblock().disk, orphans.len());
        tracing::info!(%disk, shards, first = %orphans[0], "deleted out of the trash");
        Ok(())
    }

    async fn save(&self) -> Result<(), UpkeepError> {
        let trash = self.judge.trash().clone();
        self.disk.set_trash(trash).await.map_err(UpkeepError::Store)
    }

    /// Asks who speaks for shards, in their order.
    async fn witnesses(&self, shards: &[ShardId]) -> Result<Vec<Witness>, UpkeepError> {
        let mut all = Vec::with_capacity(shards.len());
        let disk = self.disk.superblock().disk;
        for page in shards.chunks(PAGE_ROWS_MAX as usize) {
            let shards = page.to_vec();
            let asked = question::Witnesses { disk, shards };
            let answer = self.meta.ask(asked).await.map_err(UpkeepError::Metadata)?;
            if answer.len() != page.len() {
                return Err(UpkeepError::ShortAnswer);
            }
            all.extend(answer);
        }
        Ok(all)
    }
}
