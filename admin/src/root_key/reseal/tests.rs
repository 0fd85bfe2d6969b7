//! Moves from a root key to a service and back, cut off at each row.

use super::*;
use crate::accounts::tests::{CLUSTER, Group, admin, root, roots};
use crate::root_key;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use megalith_crypto::keys::kek::{of_service, service_ciphertext};
use megalith_crypto::{IdForm, KeyIds, RootKey};
use megalith_keyring::root::Hold;
use megalith_model::command::Answer;
use megalith_model::level::Level;
use megalith_model::query::{Query, Reply};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// A service in memory, whose key has versions.
struct Service {
    key: RootKey,
    version: AtomicU8,
    /// It seals another key than it is given.
    lies: bool,
}

impl Service {
    fn new() -> Self {
        Self {
            key: root(90),
            version: AtomicU8::new(1),
            lies: false,
        }
    }

    fn sealed(&self, kek: &OpenedKek) -> Vec<u8> {
        let sealed = self.key.seal_kek(CLUSTER.0, kek).expect("sealed");
        let version = self.version.load(Ordering::Relaxed);
        of_service(&format!("v{version}:{}", STANDARD.encode(sealed)))
    }

    fn opened(&self, row: &KekRow) -> Result<OpenedKek, RootError> {
        let text = service_ciphertext(&row.sealed_kek).expect("of a service");
        let sealed = STANDARD.decode(&text[3..]).expect("base64");
        let opened = self.key.open_kek(CLUSTER.0, row.version, &sealed);
        opened.map_err(|_| RootError::Foreign {
            root: self.name(),
            version: row.version,
        })
    }
}

impl Root for Service {
    fn name(&self) -> String {
        "the test's service".to_owned()
    }

    fn seal<'a>(
        &'a self,
        _cluster: ClusterId,
        kek: &'a OpenedKek,
    ) -> BoxFuture<'a, Result<Vec<u8>, RootError>> {
        Box::pin(async move {
            if self.lies {
                let ids = kek.ids().clone();
                let other = OpenedKek::generate(kek.version(), ids).map_err(RootError::Crypto)?;
                return Ok(self.sealed(&other));
            }
            Ok(self.sealed(kek))
        })
    }

    fn open<'a>(
        &'a self,
        _cluster: ClusterId,
        rows: &'a [KekRow],
    ) -> BoxFuture<'a, Result<Vec<OpenedKek>, RootError>> {
        Box::pin(async move { rows.iter().map(|row| self.opened(row)).collect() })
    }

    fn renew<'a>(&'a self, row: &'a KekRow) -> BoxFuture<'a, Result<Option<Vec<u8>>, RootError>> {
        Box::pin(async move {
            let text = service_ciphertext(&row.sealed_kek).expect("of a service");
            let newest = format!("v{}:", self.version.load(Ordering::Relaxed));
            if text.starts_with(&newest) {
                return Ok(None);
            }
            self.opened(row).map(|kek| Some(self.sealed(&kek)))
        })
    }
}

/// A way to the group on which the command that comes after `left` others is lost, or its answer,
/// and the proposer with it.
struct Cut {
    group: Arc<Group>,
    left: AtomicU32,
    applied: bool,
}

impl Metadata for Cut {
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, ClientError>> {
        Box::pin(async move {
            if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
                if self.applied {
                    self.group.propose(envelope).await?.expect("accepted");
                }
                return Err(ClientError::Unknown("cut off".into()));
            }
            self.group.propose(envelope).await
        })
    }

    fn query_at(&self, query: Query) -> BoxFuture<'_, Result<(Reply, u64), ClientError>> {
        self.group.query_at(query)
    }

    fn now_ms(&self) -> u64 {
        self.group.now_ms()
    }
}

const KEKS: u32 = 3;

async fn propose(group: &Group, command: Command) {
    let envelope = Envelope { key: None, command };
    let answer = group.propose(envelope).await.expect("an answer");
    answer.expect("accepted");
}

/// A cluster of three KEKs under `root(1)`, with an access key under the newest.
async fn cluster() -> (Arc<Group>, String) {
    let (group, _) = admin().await;
    let raise = Command::RaiseLevel { level: Level(2) };
    propose(&group, raise).await;
    for version in 2..=KEKS {
        let ids = Some(root(1).id_key());
        let sealed_kek = roots(1).new_kek(CLUSTER, version, ids).await.expect("made");
        let put = Command::PutKek {
            version,
            sealed_kek,
        };
        propose(&group, put).await;
    }
    let admin = crate::accounts::tests::open(&group).await;
    admin.create_account("main").await.expect("made");
    let made = admin.create_key("main").await.expect("made");
    (group, made.access_key)
}

async fn rows(group: &Group) -> Vec<KekRow> {
    group.ask(question::Keks).await.expect("rows")
}

fn both(service: &Arc<Service>) -> Roots {
    let service: Arc<dyn Root> = service.clone();
    roots(1).and_service(service, Hold::Always)
}

/// Everything opens, and ids that were given out are those of the cluster.
async fn checked(group: &Group, roots: &Roots, id: &str) {
    let opened = root_key::check(group, CLUSTER, roots).await.expect("opens");
    assert_eq!((opened.keks.len(), opened.access_keys), (KEKS as usize, 1));
    let keks = roots
        .open(CLUSTER, &rows(group).await)
        .await
        .expect("opens");
    for kek in keks {
        assert_eq!(KeyIds::of_key(kek.ids(), CLUSTER.0).judge(id), IdForm::Made);
    }
}

#[tokio::test]
async fn a_move_that_is_cut_off_at_any_row_leaves_all_readable_and_is_finished_later() {
    for (cut, applied) in (0..KEKS).flat_map(|cut| [(cut, false), (cut, true)]) {
        let (group, id) = cluster().await;
        let service = Arc::new(Service::new());
        let roots = both(&service);
        let way = Cut {
            group: Arc::clone(&group),
            left: AtomicU32::new(cut),
            applied,
        };
        let error = reseal(&way, CLUSTER, &roots, SealedBy::Service).await;
        let error = error.expect_err("cut off");
        assert!(matches!(error, ResealError::Metadata(_)), "{error}");
        let of_service = |rows: Vec<KekRow>| {
            let moved = rows
                .iter()
                .filter(|row| sealed_by(row) == SealedBy::Service);
            moved.count() as u32
        };
        assert_eq!(of_service(rows(&group).await), cut + u32::from(applied));
        checked(&group, &roots, &id).await;

        let done = reseal(&*group, CLUSTER, &roots, SealedBy::Service)
            .await
            .expect("finished");
        assert_eq!(done.kept.len() as u32, cut + u32::from(applied));
        assert_eq!(of_service(rows(&group).await), KEKS);
        let alone = Roots::service(service, Hold::Always);
        checked(&group, &alone, &id).await;
    }
}

#[tokio::test]
async fn a_move_back_goes_under_another_root_key_and_keeps_the_ids() {
    let (group, id) = cluster().await;
    let service = Arc::new(Service::new());
    reseal(&*group, CLUSTER, &both(&service), SealedBy::Service)
        .await
        .expect("moved");
    let service: Arc<dyn Root> = service;
    let other = Roots::local(root(50), "another").and_service(service, Hold::Always);
    let done = reseal(&*group, CLUSTER, &other, SealedBy::RootKey)
        .await
        .expect("moved");
    assert_eq!(done.moved, [1, 2, 3]);
    checked(&group, &roots(50), &id).await;
    let error = root_key::check(&*group, CLUSTER, &roots(1))
        .await
        .expect_err("not any more");
    assert!(
        matches!(error, root_key::RootKeyError::Foreign(_)),
        "{error}"
    );
}

#[tokio::test]
async fn a_service_seals_anew_only_what_is_not_under_its_newest_version() {
    let (group, id) = cluster().await;
    let service = Arc::new(Service::new());
    let roots = both(&service);
    reseal(&*group, CLUSTER, &roots, SealedBy::Service)
        .await
        .expect("moved");
    let before = rows(&group).await;
    let done = reseal(&*group, CLUSTER, &roots, SealedBy::Service)
        .await
        .expect("nothing to do");
    assert_eq!(done.kept, [1, 2, 3]);
    assert!(rows(&group).await == before);
    service.version.store(2, Ordering::Relaxed);
    let done = reseal(&*group, CLUSTER, &roots, SealedBy::Service)
        .await
        .expect("renewed");
    assert_eq!(done.moved, [1, 2, 3]);
    checked(&group, &roots, &id).await;
}

#[tokio::test]
async fn no_row_is_replaced_by_what_does_not_open_to_the_same_key() {
    let (group, id) = cluster().await;
    let liar = Arc::new(Service {
        lies: true,
        ..Service::new()
    });
    let before = rows(&group).await;
    let error = reseal(&*group, CLUSTER, &both(&liar), SealedBy::Service).await;
    let error = error.expect_err("another key");
    assert!(matches!(error, ResealError::Other(1)), "{error}");
    assert!(rows(&group).await == before);
    checked(&group, &roots(1), &id).await;
}

#[tokio::test]
async fn below_its_level_nothing_moves() {
    let (group, _) = admin().await;
    let service = Arc::new(Service::new());
    let error = reseal(&*group, CLUSTER, &both(&service), SealedBy::Service).await;
    let error = error.expect_err("too low");
    let refused = matches!(
        error,
        ResealError::Refused {
            source: Refusal::Level { .. },
            ..
        }
    );
    assert!(refused, "{error}");
    let error = reseal(&*group, CLUSTER, &roots(1), SealedBy::Service).await;
    let told = "the settings name no key service (`vault`)";
    assert_eq!(error.expect_err("none named").to_string(), told);
}
