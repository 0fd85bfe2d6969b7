//! Shards that could not be read: one line in the log, one count, one doubt for the metadata group.
//!
//! A gateway marks nothing: its own memory or network may be bad. The node that serves the disk
//! looks at the shard (`megalith-upkeep`). A doubt is raised at most once in ten minutes for a
//! shard, whatever the traffic. A task of its own sends doubts in batches, so that no read waits
//! for them. One that can't be sent is forgotten: the next read raises it again.

use super::lock::lock;
use megalith_client::Metadata;
use megalith_model::command::{Command, Envelope, NewDoubt};
use megalith_model::ids::Epoch;
use megalith_model::shard::{ShardId, ShardTarget};
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How many doubts may wait for the reporter.
const QUEUE_LEN: usize = 1024;
/// How many shards are remembered as in doubt.
const REMEMBERED_MAX: usize = 16_384;
/// After this time a shard may be in doubt again.
const REMEMBER: Duration = Duration::from_secs(600);
/// The most doubts in one command.
const BATCH_MAX: usize = 256;
/// The least time between two commands.
const NOTE_INTERVAL: Duration = Duration::from_millis(500);

/// What is wrong with a shard, as a gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It should exist and does not.
    Missing,
    /// It exists, but its bytes are wrong.
    Damaged,
}

/// A shard that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubtedShard {
    pub target: ShardTarget,
    /// The volume's epoch, as the reader knows it.
    pub epoch: Epoch,
    pub fault: Fault,
}

/// Takes doubts. Cloned handles share one reporter.
#[derive(Clone)]
pub struct Alarms {
    reported: Arc<Reported>,
    mailbox: mpsc::Sender<DoubtedShard>,
}

/// When each doubt was raised.
#[derive(Default)]
struct Reported(Mutex<HashMap<(ShardId, Fault), Instant>>);

impl Alarms {
    /// Starts the reporter; it ends when the last handle is dropped.
    #[must_use]
    pub fn start(meta: Arc<dyn Metadata>) -> Self {
        let (mailbox, doubts) = mpsc::channel(QUEUE_LEN);
        let reported = Arc::new(Reported::default());
        tokio::spawn(report(meta, doubts, Arc::clone(&reported)));
        Self { reported, mailbox }
    }

    /// Raises a doubt; returns at once.
    pub fn raise(&self, doubted: DoubtedShard) {
        if !self.reported.is_new(&doubted) {
            return;
        }
        let (shard, node) = (doubted.target.shard, doubted.target.at.node);
        let fault = match doubted.fault {
            Fault::Missing => "missing",
            Fault::Damaged => "damaged",
        };
        tracing::warn!(%shard, %node, fault, "a shard could not be read; its node is asked");
        metrics::counter!("megalith_shards_doubted_total", "fault" => fault).increment(1);
        if self.mailbox.try_send(doubted).is_err() {
            self.reported.forget(&doubted);
        }
    }
}

impl Reported {
    fn is_new(&self, doubted: &DoubtedShard) -> bool {
        let mut made = self.made();
        let now = Instant::now();
        let recent = |at: &Instant| now.duration_since(*at) < REMEMBER;
        if made.len() >= REMEMBERED_MAX {
            made.retain(|_, at| recent(at));
        }
        if made.len() >= REMEMBERED_MAX {
            made.clear();
        }
        if made.get(&key(doubted)).is_some_and(recent) {
            return false;
        }
        made.insert(key(doubted), now);
        true
    }

    /// Allows the doubt to be raised again.
    fn forget(&self, doubted: &DoubtedShard) {
        self.made().remove(&key(doubted));
    }

    fn made(&self) -> MutexGuard<'_, HashMap<(ShardId, Fault), Instant>> {
        lock(&self.0)
    }
}

fn key(doubted: &DoubtedShard) -> (ShardId, Fault) {
    (doubted.target.shard, doubted.fault)
}

async fn report(
    meta: Arc<dyn Metadata>,
    mut doubts: mpsc::Receiver<DoubtedShard>,
    reported: Arc<Reported>,
) {
    let mut batch = Vec::new();
    while doubts.recv_many(&mut batch, BATCH_MAX).await > 0 {
        if let Err(error) = raise(&*meta, &batch).await {
            let shards = batch.len();
            tracing::warn!(error = &*error, shards, "doubts could not be raised");
            batch.iter().for_each(|doubted| reported.forget(doubted));
        }
        batch.clear();
        tokio::time::sleep(NOTE_INTERVAL).await;
    }
}

async fn raise(
    meta: &dyn Metadata,
    doubted: &[DoubtedShard],
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let doubt = |doubted: &DoubtedShard| NewDoubt {
        shard: doubted.target.shard,
        disk: doubted.target.at.disk,
        epoch: doubted.epoch,
        damaged: doubted.fault == Fault::Damaged,
    };
    let envelope = Envelope {
        key: None,
        command: Command::RaiseDoubts(doubted.iter().map(doubt).collect()),
    };
    meta.propose(envelope).await??;
    Ok(())
}
