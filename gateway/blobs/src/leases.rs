//! Blob ids: the gateway holds a lease and fetches the next one when half of it is used.
//!
//! An id is also the key of a client's command, and is used for one only. A lease whose ids are
//! used up is closed when the last of these commands has ended; only then may the metadata group
//! forget what became of them. A lease that a node or the metadata group calls closed is dropped at
//! once.

use super::lock::lock;
use futures::future::BoxFuture;
use megalith_client::{ClientError, Metadata, TypedCalls as _, new_request};
use megalith_model::command::{Command, CommandKey, Envelope, Leftover, NewSegment, Refusal};
use megalith_model::ids::{BlobId, GatewayId, LeaseId};
use megalith_model::instruction::OpenLease;
use megalith_model::machine::LEFTOVERS_MAX;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// Is called for each lease that was opened, before one of its ids is given out; if it fails, none
/// is. All leases are closed when the metadata is restored from a backup, so who has an id has
/// called this after the last restore, or his command is refused.
pub type OnLease = Arc<dyn Fn() -> BoxFuture<'static, Result<(), ClientError>> + Send + Sync>;

/// How long a gateway that stops waits for discards and closings under way.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// Why no blob id was available, or a lease was not given back.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The leases were closed: no write may begin any more.
    #[error("the gateway is stopping")]
    Stopping,
    /// The metadata group didn't answer, or not clearly; or what is called for each lease failed.
    #[error("ask the metadata group for a lease of blob ids: {0}")]
    Metadata(#[source] ClientError),
    /// The metadata group refused the command.
    #[error("the metadata group refuses a lease of blob ids: {0}")]
    Refused(#[source] Refusal),
}

/// The gateway's leases. Cloned handles share them.
#[derive(Clone)]
pub struct Leases {
    inner: Arc<Inner>,
}

struct Inner {
    meta: Arc<dyn Metadata>,
    gateway: GatewayId,
    on_lease: OnLease,
    state: Mutex<State>,
    /// Every lease that may be open, in hand or in use.
    open: Mutex<Vec<Weak<Held>>>,
    /// Locked while a lease is fetched, so that only one task fetches.
    fetching: tokio::sync::Mutex<()>,
    /// Discards and closings under way.
    tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    current: Option<InHand>,
    next: Option<Arc<Held>>,
    prefetching: bool,
    closed: bool,
}

struct InHand {
    lease: Arc<Held>,
    next: BlobId,
}

/// A lease that is open. The gateway has it in hand, and so has each of its ids in use; the last
/// one closes it.
struct Held {
    id: LeaseId,
    inner: Weak<Inner>,
    /// True once the gateway stops and closes it itself.
    over: AtomicBool,
}

impl Drop for Held {
    fn drop(&mut self) {
        let inner = self.inner.upgrade().filter(|_| !*self.over.get_mut());
        if let (Some(inner), Ok(runtime)) = (inner, Handle::try_current()) {
            let lease = self.id;
            let task = Arc::clone(&inner);
            inner.tasks.spawn_on(
                async move {
                    if let Err(error) = task.close_lease(lease).await {
                        tracing::info!(%error, %lease, "a used lease stays open");
                    }
                },
                &runtime,
            );
        }
    }
}

/// A blob id that nobody else has: that of a new blob, and the key of the command that brings it,
/// or the key of a command that brings none. Keep it until that command has ended.
///
/// If it is dropped when the blob was written and its command was certainly not done, then what was
/// written is discarded.
pub struct LeasedId {
    blob: BlobId,
    gateway: GatewayId,
    attempts: AtomicU32,
    /// True from a proposal on until it is certainly refused: a row may name the blob.
    in_doubt: AtomicBool,
    /// Segments of which shards may be on disks.
    begun: Mutex<BTreeSet<Leftover>>,
    lease: Option<Arc<Held>>,
}

impl Drop for LeasedId {
    fn drop(&mut self) {
        let begun = std::mem::take(&mut *lock(&self.begun));
        let Some(lease) = self.lease.take() else {
            return;
        };
        let lost =
            *self.in_doubt.get_mut() || begun.is_empty() || lease.over.load(Ordering::Relaxed);
        let inner = lease.inner.upgrade().filter(|_| !lost);
        if let (Some(inner), Ok(runtime)) = (inner, Handle::try_current()) {
            let key = self.next_attempt();
            let task = Arc::clone(&inner);
            inner.tasks.spawn_on(
                async move {
                    task.discard(key, begun).await;
                    // Only now may the lease be closed.
                    drop(lease);
                },
                &runtime,
            );
        }
    }
}

impl fmt::Debug for LeasedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.blob, f)
    }
}

impl LeasedId {
    /// Makes one of a lease that nobody closes: for tests and models.
    #[must_use]
    pub fn new(blob: BlobId, gateway: GatewayId) -> Self {
        Self {
            blob,
            gateway,
            attempts: AtomicU32::new(0),
            in_doubt: AtomicBool::new(false),
            begun: Mutex::default(),
            lease: None,
        }
    }

    /// Notes a segment before the first byte of it goes to a node.
    pub fn began(&self, segment: Leftover) {
        lock(&self.begun).insert(segment);
    }

    /// Returns the segments that were begun and are none of these.
    #[must_use]
    pub fn left_besides(&self, segments: &[NewSegment]) -> Vec<Leftover> {
        let mut left = lock(&self.begun).clone();
        for (segment, new) in (0..).zip(segments) {
            let volume = new.volume;
            left.remove(&Leftover { volume, segment });
        }
        left.into_iter().take(LEFTOVERS_MAX).collect()
    }

    /// Notes that the last attempt was refused when it was applied, so that no row names the blob.
    pub fn refused(&self) {
        self.in_doubt.store(false, Ordering::Relaxed);
    }

    /// Returns the id.
    #[must_use]
    pub fn blob(&self) -> BlobId {
        self.blob
    }

    /// Returns the key for the next attempt: of a command that differs from the one before, and
    /// that is proposed now.
    #[must_use]
    pub fn next_attempt(&self) -> CommandKey {
        self.in_doubt.store(true, Ordering::Relaxed);
        CommandKey {
            id: self.blob,
            attempt: self.attempts.fetch_add(1, Ordering::Relaxed) + 1,
            gateway: self.gateway,
        }
    }
}

impl Leases {
    /// Starts without a lease; the first one for `gateway` is fetched when it is needed.
    #[must_use]
    pub fn new(meta: Arc<dyn Metadata>, gateway: GatewayId, on_lease: OnLease) -> Self {
        Self {
            inner: Arc::new(Inner {
                meta,
                gateway,
                on_lease,
                state: Mutex::default(),
                open: Mutex::default(),
                fetching: tokio::sync::Mutex::default(),
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// Takes the next blob id.
    ///
    /// # Errors
    /// If a new lease is needed and the metadata group gives none.
    pub async fn next_id(&self) -> Result<LeasedId, LeaseError> {
        loop {
            if let Some(taken) = self.take() {
                return Ok(taken);
            }
            let _one = self.inner.fetching.lock().await;
            if let Some(taken) = self.take() {
                return Ok(taken);
            }
            if self.state().closed {
                return Err(LeaseError::Stopping);
            }
            let lease = self.inner.open_lease().await?;
            self.state().next = Some(lease);
        }
    }

    /// Returns the leases that it holds: in hand, and used-up ones with commands under way. Those
    /// that it doesn't name in its beats are closed for it.
    #[must_use]
    pub fn held(&self) -> Vec<LeaseId> {
        let mut open = lock(&self.inner.open);
        open.retain(|lease| lease.strong_count() > 0);
        let held = open.iter().filter_map(Weak::upgrade);
        // Not dropped under the lock: the last one of a lease closes it.
        let held: Vec<Arc<Held>> = held.collect();
        drop(open);
        let named = held
            .iter()
            .filter(|lease| !lease.over.load(Ordering::Relaxed));
        named.map(|lease| lease.id).collect()
    }

    /// Forgets a lease that was called closed.
    pub fn refused(&self, lease: LeaseId) {
        let mut state = self.state();
        // Who called it so may be wrong: it is closed like any other, which does no harm twice.
        let called = |held: &Arc<Held>| held.id == lease;
        if state
            .current
            .as_ref()
            .is_some_and(|hand| called(&hand.lease))
        {
            state.current = None;
        }
        if state.next.as_ref().is_some_and(called) {
            state.next = None;
        }
    }

    /// Closes the leases it holds; for shutdown, after the last write has ended. First it waits for
    /// what the ended writes still have to say, for [`CLOSING_MAX`] at most.
    ///
    /// # Errors
    /// The last failure; then a lease stays open.
    pub async fn close(&self) -> Result<(), LeaseError> {
        self.inner.tasks.close();
        if timeout(CLOSING_MAX, self.inner.tasks.wait()).await.is_err() {
            tracing::warn!("what broken-off writes left on disks is not discarded by name");
        }
        let _one = self.inner.fetching.lock().await;
        let held = {
            let mut state = self.state();
            state.closed = true;
            let current = state.current.take().map(|hand| hand.lease);
            [current, state.next.take()]
        };
        let mut result = Ok(());
        for lease in held.into_iter().flatten() {
            lease.over.store(true, Ordering::Relaxed);
            if let Err(error) = self.inner.close_lease(lease.id).await {
                result = Err(error);
            }
        }
        result
    }

    fn take(&self) -> Option<LeasedId> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        if state.current.is_none() {
            let lease = state.next.take()?;
            let (next, _) = lease.id.blobs();
            state.current = Some(InHand { lease, next });
        }
        let hand = state.current.as_mut()?;
        let (blob, (first, last)) = (hand.next, hand.lease.id.blobs());
        hand.next = BlobId(blob.0.saturating_add(1));
        let lease = Arc::clone(&hand.lease);
        let half = blob.0 - first.0 >= LeaseId::BLOBS / 2;
        if blob == last {
            state.current = None;
        }
        if half && state.next.is_none() && !state.prefetching {
            state.prefetching = true;
            tokio::spawn(prefetch(Arc::clone(&self.inner)));
        }
        let mut id = LeasedId::new(blob, self.inner.gateway);
        id.lease = Some(lease);
        Some(id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    async fn open_lease(self: &Arc<Self>) -> Result<Arc<Held>, LeaseError> {
        let open = OpenLease {
            gateway: self.gateway,
            request: new_request(),
        };
        let answer = self.meta.instruct(None, open).await;
        let lease = answer
            .map_err(LeaseError::Metadata)?
            .map_err(LeaseError::Refused)?;
        let held = Arc::new(Held {
            id: lease.id,
            inner: Arc::downgrade(self),
            over: AtomicBool::new(false),
        });
        lock(&self.open).push(Arc::downgrade(&held));
        (self.on_lease)().await.map_err(LeaseError::Metadata)?;
        Ok(held)
    }

    /// Says what a write that was not done may have left on disks. If that fails, the comparison of
    /// disks with rows finds it later.
    async fn discard(&self, key: CommandKey, begun: BTreeSet<Leftover>) {
        let leftovers: Vec<Leftover> = begun.into_iter().take(LEFTOVERS_MAX).collect();
        let command = Command::DiscardBlob { leftovers };
        let key = Some(key);
        let answer = self.meta.propose(Envelope { key, command }).await;
        match answer {
            Ok(Ok(_)) => metrics::counter!("megalith_gateway_blobs_discarded_total").increment(1),
            Ok(Err(refusal)) => tracing::info!(%refusal, "an abandoned blob is not discarded"),
            Err(error) => tracing::info!(%error, "an abandoned blob is not discarded"),
        }
    }

    async fn close_lease(&self, lease: LeaseId) -> Result<(), LeaseError> {
        let close = Envelope {
            key: None,
            command: Command::CloseLease {
                gateway: self.gateway,
                lease,
            },
        };
        let answer = self.meta.propose(close).await;
        let answer = answer.map_err(LeaseError::Metadata)?;
        answer.map(drop).map_err(LeaseError::Refused)
    }
}

/// Fetches the next lease. A failure is only logged: whoever needs the lease asks again.
async fn prefetch(inner: Arc<Inner>) {
    let _one = inner.fetching.lock().await;
    let wanted = {
        let state = inner.state();
        state.next.is_none() && !state.closed
    };
    let fetched = match wanted {
        true => Some(inner.open_lease().await),
        false => None,
    };
    let mut state = inner.state();
    state.prefetching = false;
    match fetched {
        Some(Ok(lease)) => state.next = Some(lease),
        Some(Err(error)) => tracing::warn!(%error, "fetch the next lease of blob ids"),
        None => {}
    }
}

#[cfg(test)]
mod tests;
