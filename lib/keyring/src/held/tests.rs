//! How often a service is called, what is done while it is away, and that nothing stays too long.

use super::*;
use crate::tests::{CLUSTER, Group, root, sealed_by, secret};
use crate::{KeyUse, Keys};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::{BoxFuture, join_all};
use megalith_crypto::SealedBy;
use megalith_crypto::keys::kek::{of_service, service_ciphertext};
use megalith_model::command::Command;
use megalith_model::ids::AccountId;
use megalith_model::keys::RowKey;
use std::sync::atomic::{AtomicU32, Ordering};

/// A service in memory, which counts its calls.
#[derive(Default)]
struct Service {
    calls: AtomicU32,
    /// What it answers instead.
    error: Mutex<Option<RootError>>,
    /// It does not answer before this time is over.
    slow: Mutex<Duration>,
}

impl Service {
    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn breaks(&self, error: Option<RootError>) {
        *guard(&self.error) = error;
    }

    async fn called(&self) -> Result<(), RootError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let slow = *guard(&self.slow);
        sleep(slow).await;
        guard(&self.error).clone().map_or(Ok(()), Err)
    }

    fn foreign(row: &KekRow) -> RootError {
        RootError::Foreign {
            root: "the test's service".to_owned(),
            version: row.version,
        }
    }

    fn open_row(cluster: ClusterId, row: &KekRow) -> Result<OpenedKek, RootError> {
        let sealed =
            service_ciphertext(&row.sealed_kek).and_then(|text| STANDARD.decode(text).ok());
        let sealed = sealed.ok_or_else(|| Self::foreign(row))?;
        let opened = root().open_kek(cluster.0, row.version, &sealed);
        opened.map_err(|_| Self::foreign(row))
    }
}

impl crate::root::Root for Service {
    fn name(&self) -> String {
        "the test's service".to_owned()
    }

    fn seal<'a>(
        &'a self,
        cluster: ClusterId,
        kek: &'a OpenedKek,
    ) -> BoxFuture<'a, Result<Vec<u8>, RootError>> {
        Box::pin(async move {
            self.called().await?;
            let sealed = root().seal_kek(cluster.0, kek).map_err(RootError::Crypto)?;
            Ok(of_service(&STANDARD.encode(sealed)))
        })
    }

    fn open<'a>(
        &'a self,
        cluster: ClusterId,
        rows: &'a [KekRow],
    ) -> BoxFuture<'a, Result<Vec<OpenedKek>, RootError>> {
        Box::pin(async move {
            self.called().await?;
            rows.iter()
                .map(|row| Self::open_row(cluster, row))
                .collect()
        })
    }

    fn renew<'a>(&'a self, _row: &'a KekRow) -> BoxFuture<'a, Result<Option<Vec<u8>>, RootError>> {
        Box::pin(async { Ok(None) })
    }
}

/// A gateway's keys under a service, one record sealed under them, and the service with its calls
/// counted from here.
async fn begun(hold: Hold) -> (Arc<Keys>, Vec<u8>, Arc<Service>) {
    let group = Arc::new(Group::default());
    let service = Arc::new(Service::default());
    let roots = Roots::service(service.clone(), hold);
    let keys = Keys::open(group.shared(), CLUSTER, roots)
        .await
        .expect("opens");
    let sealed = group.give_key(&keys.begin().ring().await.expect("opened"));
    service.calls.store(0, Ordering::Relaxed);
    (keys, sealed, service)
}

async fn request(keys: &Arc<Keys>, sealed: &[u8]) -> Result<(), KeysError> {
    secret(&keys.begin(), sealed).await.map(drop)
}

fn sealed_service() -> RootError {
    let service = "the test's service".to_owned();
    RootError::Sealed { service }
}

const HOLD: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn what_is_held_is_opened_once_for_all_until_its_time_is_over() {
    let (keys, sealed, service) = begun(Hold::For(HOLD)).await;
    for _ in 0..50 {
        request(&keys, &sealed).await.expect("held");
    }
    assert_eq!(service.calls(), 0, "opened at the start");
    sleep(HOLD).await;
    *guard(&service.slow) = Duration::from_millis(20);
    let together = (0..100).map(|_| request(&keys, &sealed));
    for read in join_all(together).await {
        read.expect("opened anew");
    }
    assert_eq!(service.calls(), 1);
}

/// Nothing asks for it: it is wiped nevertheless.
#[tokio::test(start_paused = true)]
async fn what_was_held_for_long_enough_is_dropped_by_itself() {
    let (keys, _, _) = begun(Hold::For(HOLD)).await;
    let opened = |keys: &Keys| guard(&keys.held.state).opened.is_some();
    sleep(HOLD - Duration::from_millis(1)).await;
    assert!(opened(&keys));
    sleep(Duration::from_millis(2)).await;
    assert!(!opened(&keys));
}

#[tokio::test(start_paused = true)]
async fn without_a_hold_each_request_calls_once_whatever_it_opens() {
    let (keys, sealed, service) = begun(Hold::Never).await;
    for _ in 0..20 {
        let one: KeyUse = keys.begin();
        for _ in 0..3 {
            secret(&one, &sealed).await.expect("opens");
        }
        one.listing(BucketId(1)).await.expect("the same");
    }
    assert_eq!(service.calls(), 20);
    assert!(guard(&keys.held.state).opened.is_none(), "nothing is kept");
}

#[tokio::test(start_paused = true)]
async fn while_a_service_is_away_all_fail_at_once_and_one_task_tries() {
    for hold in [Hold::For(HOLD), Hold::Never] {
        let (keys, sealed, service) = begun(hold).await;
        service.breaks(Some(sealed_service()));
        if hold == Hold::Never {
            assert_eq!(keys.outage(), None, "nobody has tried");
        } else {
            request(&keys, &sealed).await.expect("still held");
            sleep(HOLD).await;
        }
        let error = request(&keys, &sealed).await.expect_err("away");
        assert!(
            matches!(error, KeysError::Root(RootError::Sealed { .. })),
            "{error:?}"
        );
        assert!(keys.outage().expect("known").contains("unseal it"));
        // From now on nobody waits for it, however slow it is.
        *guard(&service.slow) = Duration::from_secs(5);
        let (calls, before) = (service.calls(), Instant::now());
        for _ in 0..100 {
            request(&keys, &sealed).await.expect_err("away");
        }
        assert_eq!((service.calls(), before.elapsed()), (calls, Duration::ZERO));
        service.breaks(None);
        *guard(&service.slow) = Duration::ZERO;
        let back = async {
            while keys.outage().is_some() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), back)
            .await
            .expect("by itself");
        request(&keys, &sealed).await.expect("all goes on");
    }
}

/// Puts another key 1 into the table, as a restore and a rotation do; returns a record under it.
async fn replaced(group: &Arc<Group>, hold: Hold) -> (Vec<u8>, Arc<Keys>) {
    group.lose(&RowKey::Kek(1));
    let roots = Roots::service(Arc::new(Service::default()), hold);
    let sealed_kek = roots.new_kek(CLUSTER, 1, None).await.expect("made");
    let put = Command::PutKek {
        version: 1,
        sealed_kek,
    };
    group.force(put);
    let others = Keys::open(group.shared(), CLUSTER, roots)
        .await
        .expect("opens");
    let ring = others.begin().ring().await.expect("opened");
    (sealed_by(&ring, AccountId(1)), others)
}

/// Begins with a key 1 and ends with another one.
async fn outlived(hold: Hold) -> (Arc<Keys>, KeyUse, Arc<Service>, Arc<Keys>, Vec<u8>) {
    let group = Arc::new(Group::default());
    let service = Arc::new(Service::default());
    let roots = Roots::service(service.clone(), hold);
    let keys = Keys::open(group.shared(), CLUSTER, roots)
        .await
        .expect("opens");
    let under_way = keys.begin();
    under_way.ring().await.expect("opened");
    let (sealed, others) = replaced(&group, hold).await;
    (keys, under_way, service, others, sealed)
}

/// What a ring of today seals, keys that were loaded now open; a request under way has no other.
#[tokio::test(start_paused = true)]
async fn once_confirmed_nothing_is_sealed_under_a_key_that_is_gone() {
    for hold in [Hold::Always, Hold::For(HOLD), Hold::Never] {
        let (keys, under_way, _, others, _) = outlived(hold).await;
        let gone = sealed_by(&under_way.ring().await.expect("held"), AccountId(1));
        assert!(request(&others, &gone).await.is_err(), "the case is none");
        keys.confirm().await.expect("read");
        for one in [&under_way, &keys.begin()] {
            let ring = one.ring().await.expect("opened");
            let sealed = sealed_by(&ring, AccountId(1));
            request(&others, &sealed).await.expect("opens");
        }
        // Somebody else had found it out.
        let (keys, under_way, _, others, _) = outlived(hold).await;
        keys.begin().reload().await.expect("loaded");
        keys.confirm().await.expect("read");
        let ring = under_way.ring().await.expect("opened");
        request(&others, &sealed_by(&ring, AccountId(1)))
            .await
            .expect("opens");
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_the_same_is_not_opened_again() {
    let (keys, sealed, service) = begun(Hold::For(HOLD)).await;
    keys.confirm().await.expect("read");
    request(&keys, &sealed).await.expect("held");
    assert_eq!(service.calls(), 0);
}

/// The service takes its time to open what was read; the table is found to be another meanwhile.
#[tokio::test(start_paused = true)]
async fn what_was_read_earlier_is_not_held_in_place_of_what_was_read_later() {
    let group = Arc::new(Group::default());
    let service = Arc::new(Service::default());
    let roots = Roots::service(service.clone(), Hold::Always);
    let keys = Keys::open(group.shared(), CLUSTER, roots)
        .await
        .expect("opens");
    *guard(&service.slow) = Duration::from_secs(5);
    let slow = tokio::spawn({
        let keys = Arc::clone(&keys);
        async move { keys.begin().reload().await }
    });
    sleep(Duration::from_secs(1)).await;
    let (sealed, _) = replaced(&group, Hold::Always).await;
    keys.confirm().await.expect("read");
    slow.await.expect("no panic").expect("loaded");
    *guard(&service.slow) = Duration::ZERO;
    request(&keys, &sealed).await.expect("the later one");
}

#[tokio::test(start_paused = true)]
async fn a_record_under_another_key_of_the_same_version_is_read() {
    for hold in [Hold::Always, Hold::For(HOLD), Hold::Never] {
        let (keys, under_way, service, _, sealed) = outlived(hold).await;
        sleep(Duration::from_secs(2)).await;
        for one in [under_way, keys.begin()] {
            secret(&one, &sealed).await.expect("the table has it");
        }
        // One that is altered is not asked about more than once a second.
        let mut altered = sealed.clone();
        *altered.last_mut().expect("bytes") ^= 1;
        let (calls, one) = (service.calls(), keys.begin());
        for _ in 0..50 {
            let error = secret(&one, &altered).await.expect_err("altered");
            assert!(matches!(error, KeysError::Damaged(_)), "{error:?}");
        }
        assert!(service.calls() <= calls + 1);
    }
}

/// A row that moved while its old root went away is found where it is now.
#[tokio::test(start_paused = true)]
async fn rows_that_do_not_open_are_read_again() {
    let (keys, sealed, service) = begun(Hold::Never).await;
    let altered = {
        let mut state = guard(&keys.held.state);
        let (rows, _) = state.rows.as_mut().expect("seen");
        rows[0].sealed_kek[1] ^= 1;
        rows[0].sealed_kek.clone()
    };
    assert_eq!(SealedBy::read(&altered), Some(SealedBy::Service));
    request(&keys, &sealed)
        .await
        .expect("the table has the right one");
    assert_eq!(service.calls(), 2);
}
