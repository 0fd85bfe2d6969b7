//! Ids are given out once, and a lease is closed when the last of them is done with.

use super::*;
use futures::future::BoxFuture;
use megalith_model::command::{Answer, Outcome};
use megalith_model::query::{Query, Reply};
use megalith_model::topology::Lease;
use std::collections::HashSet;
use tokio::sync::watch;

/// What the metadata group was asked for.
struct Book {
    opened: Mutex<Vec<Lease>>,
    closed: watch::Sender<Vec<LeaseId>>,
}

struct Meta(Arc<Book>);

impl Metadata for Meta {
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, ClientError>> {
        Box::pin(async move {
            match envelope.command {
                Command::OpenLease { gateway, request } => {
                    let mut opened = self.0.opened.lock().expect("no panic");
                    let id = LeaseId(opened.len() as u64);
                    let lease = Lease {
                        id,
                        gateway,
                        request,
                    };
                    opened.push(lease);
                    Ok(Ok(Outcome::Lease(lease)))
                }
                Command::CloseLease { lease, .. } => {
                    self.0.closed.send_modify(|closed| closed.push(lease));
                    Ok(Ok(Outcome::Done))
                }
                other => panic!("{other:?}"),
            }
        })
    }

    fn now_ms(&self) -> u64 {
        1
    }

    fn query_at(&self, query: Query) -> BoxFuture<'_, Result<(Reply, u64), ClientError>> {
        panic!("{query:?}")
    }
}

fn leases() -> (Leases, Arc<Book>) {
    leases_with(Arc::new(|| Box::pin(async { Ok(()) })))
}

fn leases_with(on_lease: OnLease) -> (Leases, Arc<Book>) {
    let book = Arc::new(Book {
        opened: Mutex::default(),
        closed: watch::Sender::new(Vec::new()),
    });
    let meta = Arc::new(Meta(Arc::clone(&book)));
    (Leases::new(meta, GatewayId(1), on_lease), book)
}

#[tokio::test]
async fn ids_are_unique_and_a_used_lease_is_closed_after_its_last_command() {
    let (leases, book) = leases();
    let count = 2 * LeaseId::BLOBS + 7;
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(leases.next_id().await.expect("given"));
    }
    let unique: HashSet<BlobId> = taken.iter().map(LeasedId::blob).collect();
    assert_eq!(unique.len() as u64, count);
    assert!(unique.iter().all(|id| id.lease() <= LeaseId(2)));
    assert!(book.closed.borrow().is_empty());
    // One of the first lease's commands goes on.
    let mut going_on = Some(taken.swap_remove(5));
    drop(taken);
    let mut closed = book.closed.subscribe();
    let all = closed.wait_for(|closed| closed.len() == 1).await;
    assert_eq!(*all.expect("open"), [LeaseId(1)]);
    drop(going_on.take());
    let all = closed.wait_for(|closed| closed.len() == 2).await;
    assert_eq!(*all.expect("open"), [LeaseId(1), LeaseId(0)]);
    leases.close().await.expect("closes");
    assert!(leases.next_id().await.is_err());
    let opened = book.opened.lock().expect("no panic").len() as u64;
    assert!(opened <= 4, "{opened} leases");
    let closed = book.closed.borrow().clone();
    let once: HashSet<LeaseId> = closed.iter().copied().collect();
    assert_eq!((once.len(), closed.len() as u64), (closed.len(), opened));
}

#[tokio::test]
async fn a_refused_lease_is_not_used_again_and_is_closed_like_any_other() {
    let (leases, book) = leases();
    let first = leases.next_id().await.expect("given");
    leases.refused(first.blob().lease());
    let second = leases.next_id().await.expect("given");
    assert_ne!(first.blob().lease(), second.blob().lease());
    assert!(book.closed.borrow().is_empty());
    drop(first);
    drop(second);
    leases.close().await.expect("closes");
    assert_eq!(*book.closed.borrow(), [LeaseId(0), LeaseId(1)]);
}

/// Each lease is told before its first id is given out, and isn't used if that fails.
#[tokio::test]
async fn each_lease_is_told_before_it_is_used() {
    let told = Arc::new(AtomicU32::new(0));
    let on_lease: OnLease = Arc::new({
        let told = Arc::clone(&told);
        move || {
            let number = told.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                match number {
                    0 => Err(ClientError::Unavailable("away".into())),
                    _ => Ok(()),
                }
            })
        }
    });
    let (leases, book) = leases_with(on_lease);
    let error = leases.next_id().await.expect_err("not told");
    assert!(matches!(error, LeaseError::Metadata(_)), "{error}");
    let first = leases.next_id().await.expect("given");
    assert_eq!(first.blob().lease(), LeaseId(1));
    for _ in 1..LeaseId::BLOBS + 1 {
        let id = leases.next_id().await.expect("given");
        let told = u64::from(told.load(Ordering::Relaxed));
        assert!(id.blob().lease().0 < told, "{id:?} of {told} leases told");
    }
    let mut closed = book.closed.subscribe();
    let all = closed.wait_for(|closed| closed.contains(&LeaseId(0))).await;
    drop(all.expect("the lease that was not told"));
}

#[test]
fn each_attempt_has_a_higher_number() {
    let id = LeasedId::new(BlobId(7), GatewayId(3));
    let attempts = [id.next_attempt(), id.next_attempt()];
    assert_eq!(attempts.map(|key| key.attempt), [1, 2]);
    assert!(
        attempts
            .iter()
            .all(|key| (key.id, key.gateway) == (BlobId(7), GatewayId(3)))
    );
}
