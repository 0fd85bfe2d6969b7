//! Blob ids: the gateway holds a lease and fetches the next one when half of it is used.
//!
//! A lease that a node or the metadata group calls closed is dropped at once. Ids of a lease are
//! used at most once. At shutdown the lease is closed, which gives back the rest.

use super::lock::lock;
use megalith_client::{ClientError, Metadata, TypedCalls as _};
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_model::ids::{BlobId, GatewayId, LeaseId};
use megalith_model::instruction::OpenLease;
use megalith_model::topology::Lease;
use std::sync::{Arc, Mutex, MutexGuard};

/// Why no blob id was available, or a lease was not given back.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The leases were closed: no write may begin any more.
    #[error("the gateway is stopping")]
    Stopping,
    /// The metadata group didn't answer, or not clearly.
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
    count: u64,
    state: Mutex<State>,
    /// Locked while a lease is fetched, so that only one task fetches.
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
    /// Starts without a lease; the first one, of `count` ids for `gateway`, is fetched when it is
    /// needed.
    #[must_use]
    pub fn new(meta: Arc<dyn Metadata>, gateway: GatewayId, count: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                meta,
                gateway,
                count,
                state: Mutex::default(),
                fetching: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// Takes the next blob id.
    ///
    /// # Errors
    /// If a new lease is needed and the metadata group gives none.
    pub async fn next_blob(&self) -> Result<(BlobId, LeaseId), LeaseError> {
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

    /// Closes the leases it holds; for shutdown, after the last write has ended.
    ///
    /// # Errors
    /// The last failure; the metadata group closes a lease left open in its own time.
    pub async fn close(&self) -> Result<(), LeaseError> {
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
            if let Err(error) = self.inner.close_lease(lease.id).await {
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
        lock(&self.state)
    }

    async fn open_lease(&self) -> Result<Lease, LeaseError> {
        let open = OpenLease {
            gateway: self.gateway,
            count: self.count,
        };
        let answer = self.meta.instruct(None, open).await;
        answer
            .map_err(LeaseError::Metadata)?
            .map_err(LeaseError::Refused)
    }

    async fn close_lease(&self, lease: LeaseId) -> Result<(), LeaseError> {
        let close = Envelope {
            token: None,
            command: Command::CloseLease(lease),
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
mod tests {
    use super::*;
    use futures::future::BoxFuture;
    use megalith_model::command::{Answer, Outcome};
    use megalith_model::query::{Query, Reply};
    use std::collections::HashSet;

    #[derive(Default)]
    struct Book {
        opened: Mutex<Vec<Lease>>,
        closed: Mutex<Vec<LeaseId>>,
    }

    struct Meta(Arc<Book>);

    impl Metadata for Meta {
        fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, ClientError>> {
            Box::pin(async move {
                match envelope.command {
                    Command::OpenLease { gateway, count } => {
                        let mut opened = self.0.opened.lock().expect("no panic");
                        let number = opened.len() as u64;
                        let lease = Lease {
                            id: LeaseId(number),
                            gateway,
                            first: BlobId(number * 1000),
                            count,
                        };
                        opened.push(lease);
                        Ok(Ok(Outcome::Lease(lease)))
                    }
                    Command::CloseLease(lease) => {
                        self.0.closed.lock().expect("no panic").push(lease);
                        Ok(Ok(Outcome::Done))
                    }
                    other => panic!("{other:?}"),
                }
            })
        }

        fn now_ms(&self) -> u64 {
            1
        }

        fn query(&self, query: Query) -> BoxFuture<'_, Result<Reply, ClientError>> {
            panic!("{query:?}")
        }
    }

    fn leases(book: &Arc<Book>) -> Leases {
        Leases::new(Arc::new(Meta(Arc::clone(book))), GatewayId(1), 10)
    }

    #[tokio::test]
    async fn ids_are_unique_and_inside_their_lease() {
        let book = Arc::new(Book::default());
        let leases = leases(&book);
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
        let leases = leases(&Arc::default());
        let (_, first) = leases.next_blob().await.expect("given");
        leases.refused(first);
        let (_, second) = leases.next_blob().await.expect("given");
        assert_ne!(first, second);
    }
}
