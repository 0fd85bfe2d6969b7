//! Damage found while reading: one line in the log, one count, one note to the metadata group.
//!
//! A shard is reported at most once an hour, whatever the traffic. A task of its own sends the
//! notes in batches, so that no read waits for them. A note that can't be sent is forgotten: the
//! next read (or the scrub) finds the damage again.

use super::lock::lock;
use megalith_client::Metadata;
use megalith_model::command::{Command, Envelope};
use megalith_model::ids::NodeId;
use megalith_model::shard::ShardKey;
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How many reports may wait for the reporter.
const QUEUE_LEN: usize = 1024;
/// How many shards are remembered as reported.
const REMEMBERED_MAX: usize = 16_384;
/// After this time a shard may be reported again.
const REMEMBER: Duration = Duration::from_secs(3600);
/// The most shards in one note.
const BATCH_MAX: usize = 256;
/// The least time between two notes.
const NOTE_INTERVAL: Duration = Duration::from_millis(500);

/// What is wrong with a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It should exist and does not.
    Missing,
    /// It exists, but its bytes are wrong.
    Damaged,
}

/// Takes reports of damage. Cloned handles share one reporter.
#[derive(Clone)]
pub struct Alarms {
    reported: Arc<Reported>,
    mailbox: mpsc::Sender<Report>,
}

type Report = (ShardKey, Fault);

/// When each report was made.
#[derive(Default)]
struct Reported(Mutex<HashMap<ReportKey, Instant>>);

/// Blob, segment, slot and fault.
type ReportKey = (u64, u32, u8, Fault);

impl Alarms {
    /// Starts the reporter; it ends when the last handle is dropped.
    #[must_use]
    pub fn start(meta: Arc<dyn Metadata>) -> Self {
        let (mailbox, reports) = mpsc::channel(QUEUE_LEN);
        let reported = Arc::new(Reported::default());
        tokio::spawn(report(meta, reports, Arc::clone(&reported)));
        Self { reported, mailbox }
    }

    /// Raises an alarm for a shard of `node`; returns at once.
    pub fn raise(&self, shard: ShardKey, node: NodeId, fault: Fault) {
        if !self.reported.is_new(shard, fault) {
            return;
        }
        let (blob, segment, slot) = (shard.blob, shard.segment, shard.slot);
        match fault {
            Fault::Damaged => {
                tracing::error!(%blob, segment, slot, %node, "shard is damaged");
                metrics::counter!("megalith_shards_damaged_found_total").increment(1);
            }
            Fault::Missing => {
                tracing::error!(%blob, segment, slot, %node, "shard is missing");
                metrics::counter!("megalith_shards_missing_found_total").increment(1);
            }
        }
        if self.mailbox.try_send((shard, fault)).is_err() {
            self.reported.forget(shard, fault);
        }
    }
}

impl Reported {
    fn is_new(&self, shard: ShardKey, fault: Fault) -> bool {
        let mut made = self.made();
        let now = Instant::now();
        let recent = |at: &Instant| now.duration_since(*at) < REMEMBER;
        if made.len() >= REMEMBERED_MAX {
            made.retain(|_, at| recent(at));
        }
        if made.len() >= REMEMBERED_MAX {
            made.clear();
        }
        if made.get(&key(shard, fault)).is_some_and(recent) {
            return false;
        }
        made.insert(key(shard, fault), now);
        true
    }

    /// Allows the report to be made again.
    fn forget(&self, shard: ShardKey, fault: Fault) {
        self.made().remove(&key(shard, fault));
    }

    fn made(&self) -> MutexGuard<'_, HashMap<ReportKey, Instant>> {
        lock(&self.0)
    }
}

fn key(shard: ShardKey, fault: Fault) -> ReportKey {
    (shard.blob.0, shard.segment, shard.slot, fault)
}

async fn report(
    meta: Arc<dyn Metadata>,
    mut reports: mpsc::Receiver<Report>,
    reported: Arc<Reported>,
) {
    let mut batch = Vec::new();
    while reports.recv_many(&mut batch, BATCH_MAX).await > 0 {
        for fault in [Fault::Damaged, Fault::Missing] {
            let of_fault = batch.iter().filter(|(_, found)| *found == fault);
            let shards: Vec<ShardKey> = of_fault.map(|(shard, _)| *shard).collect();
            if shards.is_empty() {
                continue;
            }
            if let Err(error) = mark_owed(&*meta, shards.clone(), fault).await {
                let count = shards.len();
                tracing::warn!(
                    error = &*error,
                    shards = count,
                    ?fault,
                    "note shards as owed"
                );
                shards
                    .into_iter()
                    .for_each(|shard| reported.forget(shard, fault));
            }
        }
        batch.clear();
        tokio::time::sleep(NOTE_INTERVAL).await;
    }
}

async fn mark_owed(
    meta: &dyn Metadata,
    shards: Vec<ShardKey>,
    fault: Fault,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let damaged = fault == Fault::Damaged;
    let envelope = Envelope {
        token: None,
        command: Command::MarkOwed { shards, damaged },
    };
    meta.propose(envelope).await??;
    Ok(())
}
