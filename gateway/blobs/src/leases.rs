//! Blob ids: a lease in hand, the next one fetched when half is used.
//!
//! A lease that a node or the metadata group calls closed is thrown away at once. Ids of a lease
//! are used at most once; what is left at shutdown is given back by closing the lease.

use super::ports::{MetaIo, MetaIoError};
use megalith_model::ids::{BlobId, LeaseId};
use megalith_model::topology::Lease;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The gateway's leases. Cloned handles share them.
#[derive(Clone)]
pub struct Leases {
    inner: Arc<Inner>,
}

struct Inner {
    meta: Arc<dyn MetaIo>,
    count: u64,
    state: Mutex<State>,
    /// Held by whoever fetches a lease, so that only one does.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    current: Option<InHand>,
    next: Option<Lease>,
    prefetching: bool,
    closed: bool,
}

struct InHand {
    lease: Lease,
    used: u64,
}

impl Leases {
    /// Starts without a lease; the first is fetched when it is needed.
    #[must_use]
    pub fn new(meta: Arc<dyn MetaIo>, count: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                meta,
                count,
                state: Mutex::default(),
                fetching: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// Takes the next blob id.
    ///
    /// # Errors
    /// When a new lease is needed and the metadata group gives none.
    pub async fn next_blob(&self) -> Result<(BlobId, LeaseId), MetaIoError> {
        loop {
            if let Some(taken) = self.take() {
                return Ok(taken);
            }
            let _one = self.inner.fetching.lock().await;
            if let Some(taken) = self.take() {
                return Ok(taken);
            }
            if self.state().closed {
                return Err(MetaIoError("the gateway is stopping".into()));
            }
            let lease = self.inner.meta.open_lease(self.inner.count).await?;
            self.state().next = Some(lease);
        }
    }

    /// Forgets a lease that was called closed.
    pub fn refused(&self, lease: LeaseId) {
        let mut state = self.state();
        if state
            .current
            .as_ref()
            .is_some_and(|held| held.lease.id == lease)
        {
            state.current = None;
        }
        if state.next.is_some_and(|next| next.id == lease) {
            state.next = None;
        }
    }

    /// Closes what is in hand; for shutdown, after the last write has ended.
    ///
    /// # Errors
    /// The last failure; a lease left open is closed by the metadata group in its own time.
    pub async fn close(&self) -> Result<(), MetaIoError> {
        let _one = self.inner.fetching.lock().await;
        let held = {
            let mut state = self.state();
            state.closed = true;
            [
                state.current.take().map(|held| held.lease),
                state.next.take(),
            ]
        };
        let mut result = Ok(());
        for lease in held.into_iter().flatten() {
            if let Err(error) = self.inner.meta.close_lease(lease.id).await {
                result = Err(error);
            }
        }
        result
    }

    fn take(&self) -> Option<(BlobId, LeaseId)> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        if state
            .current
            .as_ref()
            .is_none_or(|held| held.used == held.lease.count)
        {
            let lease = state.next.take()?;
            state.current = Some(InHand { lease, used: 0 });
        }
        let held = state.current.as_mut()?;
        if held.used == held.lease.count {
            return None;
        }
        let blob = BlobId(held.lease.first.0 + held.used);
        held.used += 1;
        let lease = held.lease;
        let half = held.used >= lease.count / 2;
        if half && state.next.is_none() && !state.prefetching {
            state.prefetching = true;
            tokio::spawn(prefetch(Arc::clone(&self.inner)));
        }
        Some((blob, lease.id))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches the next lease. A failure is only noted: the need itself will ask again.
async fn prefetch(inner: Arc<Inner>) {
    let _one = inner.fetching.lock().await;
    let wanted = {
        let state = inner.state();
        state.next.is_none() && !state.closed
    };
    let fetched = match wanted {
        true => Some(inner.meta.open_lease(inner.count).await),
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
mod tests {
    use super::*;
    use futures::future::BoxFuture;
    use megalith_model::ids::GatewayId;
    use megalith_model::shard::ShardKey;
    use std::collections::HashSet;

    #[derive(Default)]
    struct Book {
        opened: Mutex<Vec<Lease>>,
        closed: Mutex<Vec<LeaseId>>,
    }

    struct Meta(Arc<Book>);

    impl MetaIo for Meta {
        fn open_lease(&self, count: u64) -> BoxFuture<'static, Result<Lease, MetaIoError>> {
            let book = Arc::clone(&self.0);
            Box::pin(async move {
                let mut opened = book.opened.lock().expect("no panic");
                let number = opened.len() as u64;
                let lease = Lease {
                    id: LeaseId(number),
                    gateway: GatewayId(1),
                    first: BlobId(number * 1000),
                    count,
                };
                opened.push(lease);
                Ok(lease)
            })
        }

        fn close_lease(&self, lease: LeaseId) -> BoxFuture<'static, Result<(), MetaIoError>> {
            self.0.closed.lock().expect("no panic").push(lease);
            Box::pin(async { Ok(()) })
        }

        fn mark_owed(
            &self,
            _: Vec<ShardKey>,
            _: bool,
        ) -> BoxFuture<'static, Result<(), MetaIoError>> {
            Box::pin(async { Ok(()) })
        }
    }

    #[tokio::test]
    async fn ids_are_unique_and_inside_their_lease() {
        let book = Arc::new(Book::default());
        let leases = Leases::new(Arc::new(Meta(Arc::clone(&book))), 10);
        let many = (0..95).map(|_| leases.next_blob());
        let taken = futures::future::try_join_all(many)
            .await
            .expect("leases are given");
        let unique: HashSet<BlobId> = taken.iter().map(|(blob, _)| *blob).collect();
        assert_eq!(unique.len(), 95);
        {
            let opened = book.opened.lock().expect("no panic");
            assert!(opened.len() <= 11, "{} leases for 95 ids", opened.len());
            for (blob, id) in taken {
                assert!(opened[id.0 as usize].contains(blob));
            }
        }
        leases.close().await.expect("closes");
        assert!(leases.next_blob().await.is_err());
        assert!(!book.closed.lock().expect("no panic").is_empty());
    }

    #[tokio::test]
    async fn refused_lease_is_not_used_again() {
        let leases = Leases::new(Arc::new(Meta(Arc::default())), 10);
        let (_, first) = leases.next_blob().await.expect("given");
        leases.refused(first);
        let (_, second) = leases.next_blob().await.expect("given");
        assert_ne!(first, second);
    }
}
