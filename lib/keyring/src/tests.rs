//! The ring over the real state machine in memory.

use super::*;
use futures::future::{BoxFuture, join_all};
use megalith_crypto::{AccessSecret, Credential, RootKey};
use megalith_model::answer::answer;
use megalith_model::command::{Answer, Outcome};
use megalith_model::entry::Entry;
use megalith_model::ids::AccountId;
use megalith_model::keys::RowKey;
use megalith_model::machine::apply;
use megalith_model::query::{Query, Reply};
use megalith_model::table::{MemRows, Overlay, Rows as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) const CLUSTER: ClusterId = ClusterId([9; 16]);
const ACCESS_KEY: &str = "ANNSKEY";

/// The metadata group in one process.
#[derive(Default)]
pub(crate) struct Group {
    rows: Mutex<MemRows>,
    /// How often the KEKs were asked for.
    asked: AtomicU32,
}

impl Group {
    fn apply(&self, command: Command) -> Answer {
        let mut rows = self.rows.lock().unwrap();
        let mut overlay = Overlay::new(&*rows);
        let entry = Entry::new(1, Envelope { key: None, command });
        let answer = apply(&mut overlay, &entry).expect("rows are sound");
        let batch = overlay.into_batch();
        rows.write(batch);
        answer
    }

    /// Removes a row, as damage or a bad restore would.
    pub(crate) fn lose(&self, key: &RowKey<'_>) {
        let mut rows = self.rows.lock().unwrap();
        let mut overlay = Overlay::new(&*rows);
        overlay.delete(key.encode());
        let batch = overlay.into_batch();
        rows.write(batch);
    }

    /// Applies what is not refused.
    pub(crate) fn force(&self, command: Command) {
        assert_eq!(self.apply(command), Ok(Outcome::Done));
    }

    fn has_kek(&self, version: u32) -> bool {
        let rows = self.rows.lock().unwrap();
        rows.get(&RowKey::Kek(version).encode()).unwrap().is_some()
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn shared(self: &Arc<Self>) -> Arc<dyn Metadata> {
        Arc::clone(self) as Arc<dyn Metadata>
    }

    /// Stores an access key that is sealed by `ring`.
    pub(crate) fn give_key(&self, ring: &KeyRing) -> Vec<u8> {
        let account = match self.apply(Command::CreateAccount {
            name: "ann".into(),
            request: 1,
        }) {
            Ok(Outcome::Account(row)) => row.id,
            other => panic!("{other:?}"),
        };
        let sealed = sealed_by(ring, account);
        let put = self.apply(Command::PutAccessKey {
            access_key: ACCESS_KEY.into(),
            account,
            enabled: true,
            revision: 1,
            sealed_credential: sealed.clone(),
        });
        assert_eq!(put, Ok(Outcome::Done));
        sealed
    }
}

impl Metadata for Group {
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, ClientError>> {
        Box::pin(async move { Ok(self.apply(envelope.command)) })
    }

    fn query_at(&self, query: Query) -> BoxFuture<'_, Result<(Reply, u64), ClientError>> {
        Box::pin(async move {
            if matches!(query, Query::Keks(_)) {
                self.asked.fetch_add(1, Ordering::Relaxed);
            }
            // Others run before the answer is there.
            tokio::task::yield_now().await;
            let reply = answer(&*self.rows.lock().unwrap(), &query, None);
            Ok((reply.expect("sound"), 1))
        })
    }

    fn now_ms(&self) -> u64 {
        1
    }
}

pub(crate) fn root() -> RootKey {
    RootKey::parse(&"0123456789abcdef".repeat(4)).expect("a root key")
}

pub(crate) fn sealed_by(ring: &KeyRing, account: AccountId) -> Vec<u8> {
    let credential = Credential {
        secret: AccessSecret::new("secret".into()),
        account: account.0,
        enabled: true,
        account_enabled: true,
        name: String::new(),
    };
    let sealer = ring.credentials();
    sealer.seal(ACCESS_KEY, &credential).expect("sealed")
}

fn kek(version: u32) -> Vec<u8> {
    KeyRing::new_kek(&root(), CLUSTER.0, version).expect("random source")
}

async fn open(group: &Arc<Group>) -> Result<KeyUse, KeysError> {
    let roots = Roots::local(root(), "the test's");
    Ok(Keys::open(group.shared(), CLUSTER, roots).await?.begin())
}

pub(crate) async fn secret(keys: &KeyUse, sealed: &[u8]) -> Result<Credential, KeysError> {
    let open = |ring: &KeyRing| ring.credentials().open(ACCESS_KEY, sealed);
    keys.opened("access key", sealed, open).await
}

#[tokio::test]
async fn a_new_cluster_gets_its_first_key_and_every_gateway_uses_it() {
    let group = Arc::new(Group::default());
    let first = open(&group).await.expect("opens");
    let sealed = group.give_key(&first.ring().await.expect("held"));
    let second = open(&group).await.expect("opens");
    secret(&second, &sealed).await.expect("the same key");
}

#[tokio::test]
async fn a_lost_table_makes_no_new_key() {
    let group = Arc::new(Group::default());
    let running = open(&group).await.expect("opens");
    let sealed = group.give_key(&running.ring().await.expect("held"));
    group.lose(&RowKey::Kek(1));
    let error = open(&group).await.err().expect("refused");
    assert!(matches!(error, KeysError::Lost), "{error:?}");
    assert!(!group.has_kek(1), "nothing was made");
    // Who had loaded the key goes on with it.
    secret(&running, &sealed).await.expect("still opens");
}

#[tokio::test]
async fn a_record_under_a_key_that_is_not_there_is_named_not_called_damaged() {
    let group = Arc::new(Group::default());
    let keys = open(&group).await.expect("opens");
    let other = KeyRing::open(&root(), CLUSTER.0, &[(7, &kek(7))]).expect("own KEK");
    let sealed = sealed_by(&other, AccountId(1));
    for _ in 0..3 {
        let error = secret(&keys, &sealed).await.expect_err("no such key");
        assert!(
            matches!(error, KeysError::Missing { version: 7, .. }),
            "{error:?}"
        );
    }
    assert_eq!(
        group.asked(),
        3,
        "twice at the start, and once for version 7"
    );
}

#[tokio::test]
async fn an_altered_record_is_damaged_and_asks_nobody() {
    let group = Arc::new(Group::default());
    let keys = open(&group).await.expect("opens");
    let mut sealed = sealed_by(&keys.ring().await.expect("held"), AccountId(1));
    sealed[50] ^= 1;
    let before = group.asked();
    let error = secret(&keys, &sealed).await.expect_err("altered");
    assert!(matches!(error, KeysError::Damaged(_)), "{error:?}");
    assert_eq!(group.asked(), before);
}

#[tokio::test]
async fn all_readers_at_once_find_a_newer_key_and_ask_once() {
    let group = Arc::new(Group::default());
    let keys = open(&group).await.expect("opens");
    let (version, sealed_kek) = (2, kek(2));
    let newer = KeyRing::open(&root(), CLUSTER.0, &[(2, &sealed_kek)]).expect("own KEK");
    let put = group.apply(Command::PutKek {
        version,
        sealed_kek,
    });
    assert_eq!(put, Ok(Outcome::Done));
    let sealed = sealed_by(&newer, AccountId(1));
    let before = group.asked();
    let readers = (0..20).map(|_| secret(&keys, &sealed));
    for read in join_all(readers).await {
        read.expect("every reader opens it");
    }
    assert_eq!(group.asked(), before + 1);
}

/// The metadata group reads the version of a record without the crate that draws it.
#[test]
fn both_sides_agree_on_where_the_version_stands() {
    for version in [1, 2, 300, 1024] {
        let ring = KeyRing::open(&root(), CLUSTER.0, &[(version, &kek(version))]).expect("own");
        let sealed = sealed_by(&ring, AccountId(1));
        assert_eq!(kek_version(&sealed), Some(version));
        assert_eq!(KeyRing::claimed_version(&sealed), Some(version));
    }
    let under_the_root = kek(1);
    assert_eq!(kek_version(&under_the_root), None);
    assert_eq!(kek_version(&[1; 84]), None);
}
