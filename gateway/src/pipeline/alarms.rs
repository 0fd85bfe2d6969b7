//! Damage found while reading: one line in the log, one count, one note to the metadata group.
//!
//! Reports of one shard are made once an hour at most, whatever the traffic; notes go out in
//! batches from a task of their own, so that no read waits for them. Reports that can't be noted
//! are dropped after a while: the next read or the scrub finds the damage again.

use super::ports::MetaIo;
use megalith_model::ids::NodeId;
use megalith_model::rows::ShardPlace;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Reports that may wait for the reporter.
const QUEUE_LEN: usize = 1024;
/// Shards remembered as reported.
const REMEMBERED_MAX: usize = 16_384;
/// When a shard is reported anew.
const REMEMBER: Duration = Duration::from_secs(3600);
/// Shards in one note.
const BATCH_MAX: usize = 256;
/// Least time between two notes.
const NOTE_INTERVAL: Duration = Duration::from_millis(500);

/// What is wrong with a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It should be there and isn't.
    Missing,
    /// It is there and its bytes are wrong.
    Damaged,
}

/// Takes reports of damage. Cloned handles share one reporter.
#[derive(Clone)]
pub struct Alarms {
    reported: Arc<Mutex<HashMap<(ShardPlace2, Fault), Instant>>>,
    mailbox: mpsc::Sender<(ShardPlace, Fault)>,
}

/// The hashable form of [`ShardPlace`].
type ShardPlace2 = (u64, u32, u8);

impl Alarms {
    /// Starts the reporter, which ends with the last handle.
    #[must_use]
    pub fn start(meta: Arc<dyn MetaIo>) -> Self {
        let (mailbox, reports) = mpsc::channel(QUEUE_LEN);
        tokio::spawn(report(meta, reports));
        Self {
            reported: Arc::default(),
            mailbox,
        }
    }

    /// Raises an alarm for a shard found on `node`; returns at once.
    pub fn raise(&self, place: ShardPlace, node: NodeId, fault: Fault) {
        if !self.is_new(place, fault) {
            return;
        }
        let (blob, segment, member) = (place.blob, place.segment, place.member);
        match fault {
            Fault::Damaged => {
                tracing::error!(%blob, segment, member, %node, "shard is damaged");
                metrics::counter!("megalith_shards_damaged_found_total").increment(1);
            }
            Fault::Missing => {
                tracing::error!(%blob, segment, member, %node, "shard is missing");
                metrics::counter!("megalith_shards_missing_found_total").increment(1);
            }
        }
        if self.mailbox.try_send((place, fault)).is_err() {
            self.forget(place, fault);
        }
    }

    fn is_new(&self, place: ShardPlace, fault: Fault) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if reported.len() >= REMEMBERED_MAX {
            reported.retain(|_, at| now.duration_since(*at) < REMEMBER);
            if reported.len() >= REMEMBERED_MAX {
                reported.clear();
            }
        }
        match reported.insert(key(place, fault), now) {
            Some(before) if now.duration_since(before) < REMEMBER => {
                reported.insert(key(place, fault), before);
                false
            }
            Some(_) | None => true,
        }
    }

    fn forget(&self, place: ShardPlace, fault: Fault) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.remove(&key(place, fault));
    }
}

fn key(place: ShardPlace, fault: Fault) -> (ShardPlace2, Fault) {
    ((place.blob.0, place.segment, place.member), fault)
}

async fn report(meta: Arc<dyn MetaIo>, mut reports: mpsc::Receiver<(ShardPlace, Fault)>) {
    let mut batch = Vec::new();
    while reports.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (damaged, missing): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .partition(|(_, fault)| *fault == Fault::Damaged);
        for (places, damaged) in [(damaged, true), (missing, false)] {
            let places: Vec<ShardPlace> = places.into_iter().map(|(place, _)| place).collect();
            if places.is_empty() {
                continue;
            }
            let shards = places.len();
            if let Err(error) = meta.mark_owed(places, damaged).await {
                tracing::warn!(%error, shards, damaged, "note shards as owed");
            }
        }
        tokio::time::sleep(NOTE_INTERVAL).await;
    }
}
