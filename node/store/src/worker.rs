//! The writer's thread: collects requests into batches, commits them, answers, tidies up.
//!
//! While one sync runs, the next requests gather: that alone makes groups. Beyond it the thread
//! waits only for company that the last batch makes likely, and never longer than a sync takes.

use super::core::Core;
use super::error::StoreError;
use super::op::{Done, Op};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A request on its way to the writer.
pub(super) struct Request {
    pub(super) op: Op,
    pub(super) answer: oneshot::Sender<Result<Done, StoreError>>,
    /// Its share of the queue's bytes; free again when it is answered.
    pub(super) _share: Option<OwnedSemaphorePermit>,
}

/// What the thread is sent.
pub(super) enum Mail {
    Request(Request),
    /// Look for work that no request asked for.
    Wake,
    /// Commit what came before, close the disk, end.
    Stop,
}

/// Counters of commits, for tests, benchmarks and metrics.
#[derive(Debug, Default)]
pub(super) struct CommitCounters {
    pub(super) commits: AtomicU64,
    pub(super) requests: AtomicU64,
}

/// Runs until told to stop, or until every handle is gone.
pub(super) fn run(mut core: Core, mail: &Receiver<Mail>, counters: &Arc<CommitCounters>) {
    let mut pace = Pace::default();
    let mut idle = IdleWatch::new();
    let mut stopping = false;
    while !stopping {
        let mut batch = Batch::default();
        stopping = !batch.collect(mail, &mut core, &pace, &mut idle);
        if batch.requests.is_empty() {
            continue;
        }
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters
            .requests
            .fetch_add(batch.requests.len() as u64, Ordering::Relaxed);
        let begun = Instant::now();
        let durable = batch.durable;
        let catalog = Arc::clone(&core.catalog);
        catalog.pace.begin();
        batch.commit(&mut core);
        catalog.pace.end(durable > 0);
        pace = Pace {
            durable,
            took: begun.elapsed(),
        };
        housekeep(&mut core);
        idle.look(&mut core);
    }
    core.close();
}

/// One turn of tidying; true if there is more to do.
fn housekeep(core: &mut Core) -> bool {
    let catalog = Arc::clone(&core.catalog);
    catalog.pace.begin();
    let more = core.housekeep();
    catalog.pace.end(false);
    more
}

/// When to look for open files that are left alone.
struct IdleWatch {
    begun: Instant,
    /// No sooner; counts from `begun`.
    at: Duration,
}

impl IdleWatch {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            at: Duration::ZERO,
        }
    }

    /// Looks, if it is time, and finishes one file at most. What that took is a small part of the
    /// time until the next: many files that become idle at once delay requests little.
    fn look(&mut self, core: &mut Core) {
        let now = self.begun.elapsed();
        if now < self.at {
            return;
        }
        let catalog = Arc::clone(&core.catalog);
        catalog.pace.begin();
        let next = core.finish_idle(now);
        catalog.pace.end(false);
        let took = self.begun.elapsed().saturating_sub(now);
        // Often enough to know since when a file is idle.
        let step = core.catalog.settings.finish_after / 8;
        let next = next.map_or(now, |next| next.min(now + step));
        self.at = next.max(now + took * 10);
    }

    /// Waits for mail until the next look is due. None if that came first; it never does if no
    /// file is open.
    fn wait(&self, mail: &Receiver<Mail>, core: &Core) -> Result<Option<Mail>, ()> {
        if !core.has_open_files() {
            return mail.recv().map(Some).map_err(|_| ());
        }
        match mail.recv_timeout(self.at.saturating_sub(self.begun.elapsed())) {
            Ok(mail) => Ok(Some(mail)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }
}

/// How the last commit went.
#[derive(Clone, Copy, Default)]
struct Pace {
    /// Requests that waited for its sync.
    durable: usize,
    took: Duration,
}

#[derive(Default)]
struct Batch {
    requests: VecDeque<Request>,
    bytes: u64,
    durable: usize,
}

impl Batch {
    /// Fills the batch; false when it is the last.
    fn collect(
        &mut self,
        mail: &Receiver<Mail>,
        core: &mut Core,
        pace: &Pace,
        idle: &mut IdleWatch,
    ) -> bool {
        let (bytes_max, wait) = {
            let settings = &core.catalog.settings;
            (settings.commit_bytes, settings.commit_wait)
        };
        // Tidying fills the time in which no request waits.
        let first = loop {
            match mail.try_recv() {
                Ok(first) => break Ok(first),
                Err(TryRecvError::Empty) if housekeep(core) => {}
                Err(TryRecvError::Empty) => match idle.wait(mail, core) {
                    Ok(Some(first)) => break Ok(first),
                    Ok(None) => idle.look(core),
                    Err(()) => break Err(()),
                },
                Err(TryRecvError::Disconnected) => break Err(()),
            }
        };
        let Ok(first) = first else { return false };
        if !self.add(first) {
            return false;
        }
        let deadline = Instant::now() + wait.min(pace.took);
        while self.bytes < bytes_max {
            let next = match mail.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => {
                    let company_expected = self.durable > 0 && self.durable < pace.durable;
                    let left = deadline.saturating_duration_since(Instant::now());
                    if !company_expected || left.is_zero() {
                        return true;
                    }
                    match mail.recv_timeout(left) {
                        Ok(next) => next,
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                            return true;
                        }
                    }
                }
            };
            if !self.add(next) {
                return false;
            }
        }
        true
    }

    fn add(&mut self, mail: Mail) -> bool {
        match mail {
            Mail::Stop => false,
            Mail::Wake => true,
            Mail::Request(request) => {
                self.bytes += request.op.weight();
                self.durable += usize::from(request.op.is_durable());
                self.requests.push_back(request);
                true
            }
        }
    }

    fn commit(self, core: &mut Core) {
        let mut ops = Vec::with_capacity(self.requests.len());
        let mut waiting = Vec::with_capacity(self.requests.len());
        for Request { op, answer, _share } in self.requests {
            ops.push(op);
            waiting.push((answer, _share));
        }
        for (answer, (waiter, share)) in core.commit(ops).into_iter().zip(waiting) {
            drop(share);
            // Who no longer waits does not want to know.
            let _ = waiter.send(answer);
        }
    }
}
