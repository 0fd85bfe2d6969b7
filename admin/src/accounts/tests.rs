//! Accounts and keys with the real state machine in memory, on a network that loses messages.

use super::*;
use futures::future::BoxFuture;
use megalith_crypto::{IdForm, RootKey};
use megalith_model::answer::answer;
use megalith_model::command::Answer;
use megalith_model::entry::Entry;
use megalith_model::machine::apply;
use megalith_model::query::{Query, Reply};
use megalith_model::question;
use megalith_model::table::{MemRows, Overlay};
use std::sync::Mutex;

pub(crate) const CLUSTER: ClusterId = ClusterId([9; 16]);

pub(crate) fn roots(byte: u8) -> Roots {
    Roots::local(root(byte), "the test's")
}

/// What happens to the next command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// It is lost before it is applied.
    Command,
    /// It is applied, but the answer is lost.
    Answer,
}

/// The metadata group in one process.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) rows: Mutex<MemRows>,
    lose_next: Mutex<Option<Lost>>,
}

impl Group {
    fn lose_next(&self, what: Lost) {
        *self.lose_next.lock().unwrap() = Some(what);
    }

    fn row(&self, access_key: &str) -> AccessKeyRow {
        let query = question::AccessKey {
            access_key: access_key.to_owned(),
        };
        match answer(&*self.rows.lock().unwrap(), &query.into(), None).expect("rows are sound") {
            Reply::AccessKey(Some((row, _))) => row,
            other => panic!("{other:?}"),
        }
    }
}

impl Metadata for Group {
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, ClientError>> {
        Box::pin(async move {
            let lost = self.lose_next.lock().unwrap().take();
            if lost == Some(Lost::Command) {
                return Err(ClientError::Unavailable("no leader".into()));
            }
            let mut rows = self.rows.lock().unwrap();
            let mut overlay = Overlay::new(&*rows);
            let answer = apply(&mut overlay, &Entry::new(1, envelope)).expect("rows are sound");
            let batch = overlay.into_batch();
            rows.write(batch);
            if lost == Some(Lost::Answer) {
                return Err(ClientError::Unknown("silence".into()));
            }
            Ok(answer)
        })
    }

    fn now_ms(&self) -> u64 {
        1
    }

    fn query_at(&self, query: Query) -> BoxFuture<'_, Result<(Reply, u64), ClientError>> {
        Box::pin(async move {
            let reply = answer(&*self.rows.lock().unwrap(), &query, None);
            Ok((reply.expect("sound"), 1))
        })
    }
}

pub(crate) fn root(byte: u8) -> RootKey {
    let text: String = (0..32)
        .map(|place| format!("{:02x}", byte + place))
        .collect();
    RootKey::parse(&text).expect("a root key")
}

pub(crate) async fn open(group: &Arc<Group>) -> Admin {
    let meta = Arc::clone(group) as Arc<dyn Metadata>;
    Admin::open(meta, CLUSTER, roots(1)).await.expect("opens")
}

pub(crate) async fn admin() -> (Arc<Group>, Admin) {
    let group = Arc::new(Group::default());
    let admin = open(&group).await;
    (group, admin)
}

async fn names(admin: &Admin) -> Vec<String> {
    let rows = admin.accounts().await.expect("a list");
    rows.into_iter().map(|row| row.name).collect()
}

#[tokio::test]
async fn accounts_are_listed_by_name() {
    let (_, admin) = admin().await;
    for name in ["main", "backup", "zoo"] {
        let made = admin.create_account(name).await.expect("made");
        assert_eq!((made.name.as_str(), made.enabled), (name, true));
    }
    assert_eq!(names(&admin).await, ["backup", "main", "zoo"]);
}

#[tokio::test]
async fn a_name_is_given_once() {
    let (_, admin) = admin().await;
    admin.create_account("main").await.expect("made");
    let error = admin.create_account("main").await.expect_err("taken");
    assert_eq!(error.to_string(), "the name \"main\" is taken");
    assert_eq!(names(&admin).await, ["main"]);
}

#[tokio::test]
async fn names_that_nobody_could_type_are_refused() {
    let (_, admin) = admin().await;
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    for bad in ["", " main", "main ", "ma\nin", "ma\0in", &long] {
        let refused = admin.create_account(bad).await;
        assert!(matches!(refused, Err(AdminError::InvalidName)), "{bad:?}");
    }
    admin
        .create_account(&"x".repeat(NAME_BYTES_MAX))
        .await
        .expect("as long as may be");
    admin
        .create_account("Bücher und mehr")
        .await
        .expect("spaces within, letters of all kinds");
}

#[tokio::test]
async fn a_list_is_longer_than_a_page() {
    let (_, admin) = admin().await;
    let count = PAGE_ROWS_MAX as usize + 1;
    for i in 0..count {
        admin
            .create_account(&format!("a{i:06}"))
            .await
            .expect("made");
    }
    let names = names(&admin).await;
    assert_eq!(names.len(), count);
    assert!(names.is_sorted() && names.windows(2).all(|two| two[0] != two[1]));
}

#[tokio::test]
async fn a_list_of_keys_is_longer_than_a_page() {
    let (_, admin) = admin().await;
    admin.create_account("main").await.expect("made");
    let count = PAGE_ROWS_MAX as usize + 1;
    for _ in 0..count {
        admin.create_key("main").await.expect("made");
    }
    assert_eq!(
        admin.list_keys(Some("main")).await.expect("a list").len(),
        count
    );
}

#[tokio::test]
async fn an_account_is_disabled_and_enabled() {
    let (_, admin) = admin().await;
    admin.create_account("main").await.expect("made");
    admin.create_account("other").await.expect("made");
    for enabled in [false, false, true] {
        admin
            .set_account_enabled("main", enabled)
            .await
            .expect("done");
        assert_eq!(admin.account("main").await.expect("there").enabled, enabled);
        assert!(admin.account("other").await.expect("there").enabled);
    }
}

/// Who can write the rows can change an account's flag, but not what its keys' records say of it.
#[tokio::test]
async fn whether_an_account_is_enabled_is_sealed_into_its_keys() {
    let (group, admin) = admin().await;
    admin.create_account("main").await.expect("made");
    admin.create_account("other").await.expect("made");
    let other = admin.create_key("other").await.expect("made").access_key;
    let first = admin.create_key("main").await.expect("made").access_key;
    let disabled = admin.create_key("main").await.expect("made").access_key;
    admin.set_key_enabled(&disabled, false).await.expect("done");
    let ring = admin.keys.ring().await.expect("held");
    let flags = |access_key: &str| {
        let sealed = group.row(access_key).sealed_credential;
        let credential = ring.credentials().open(access_key, &sealed);
        let credential = credential.expect("it opens");
        (credential.enabled, credential.account_enabled)
    };
    for enabled in [false, true, false] {
        admin
            .set_account_enabled("main", enabled)
            .await
            .expect("done");
        let late = admin.create_key("main").await.expect("made").access_key;
        assert_eq!(flags(&first), (true, enabled));
        assert_eq!(flags(&late), (true, enabled));
        // A key's own flag is its own.
        assert_eq!(flags(&disabled), (false, enabled));
        assert_eq!(flags(&other), (true, true));
        admin.set_key_enabled(&first, true).await.expect("done");
        assert_eq!(flags(&first), (true, enabled));
    }
    // Broken off anywhere, the account is disabled.
    group.lose_next(Lost::Command);
    admin
        .set_account_enabled("main", true)
        .await
        .expect_err("broken off");
    assert!(!admin.account("main").await.expect("there").enabled);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let (_, admin) = admin().await;
    let said = |error: AdminError| error.to_string();
    let none = "there is no account \"ghost\"";
    assert_eq!(
        said(admin.create_key("ghost").await.expect_err("none")),
        none
    );
    assert_eq!(
        said(admin.list_keys(Some("ghost")).await.expect_err("none")),
        none
    );
    assert_eq!(
        said(
            admin
                .set_account_enabled("ghost", false)
                .await
                .expect_err("none")
        ),
        none
    );
    let error = admin
        .set_key_enabled("MGLGHOST", false)
        .await
        .expect_err("none");
    assert_eq!(said(error), "there is no access key \"MGLGHOST\"");
}

#[tokio::test]
async fn keys_are_listed_of_one_account_or_all() {
    let (_, admin) = admin().await;
    admin.create_account("main").await.expect("made");
    admin.create_account("other").await.expect("made");
    let main = admin.create_key("main").await.expect("a key");
    let other = admin.create_key("other").await.expect("a key");
    let listed = |rows: Vec<AccessKeyRow>| -> Vec<String> {
        rows.into_iter().map(|row| row.access_key).collect()
    };
    let of_main = admin.list_keys(Some("main")).await.expect("a list");
    assert_eq!(listed(of_main), std::slice::from_ref(&main.access_key));
    let mut all = [main.access_key, other.access_key];
    all.sort();
    assert_eq!(listed(admin.list_keys(None).await.expect("a list")), all);
}

#[tokio::test]
async fn the_group_never_sees_a_secret() {
    let (group, admin) = admin().await;
    admin.create_account("main").await.expect("made");
    let made = admin.create_key("main").await.expect("a key");
    let sealed = group.row(&made.access_key).sealed_credential;
    let secret = made.secret.expose().as_bytes();
    assert!(!sealed.windows(secret.len()).any(|bytes| bytes == secret));
}

#[tokio::test]
async fn disabling_a_key_keeps_its_secret_and_owner() {
    let (group, admin) = admin().await;
    let account = admin.create_account("main").await.expect("made");
    let made = admin.create_key("main").await.expect("a key");
    for enabled in [false, true] {
        admin
            .set_key_enabled(&made.access_key, enabled)
            .await
            .expect("done");
        let row = group.row(&made.access_key);
        assert_eq!((row.enabled, row.account), (enabled, account.id));
        let sealer = admin.keys.ring().await.expect("held").credentials();
        let credential = sealer
            .open(&made.access_key, &row.sealed_credential)
            .expect("opens");
        assert_eq!(credential.secret.expose(), made.secret.expose());
        assert_eq!(
            (credential.enabled, credential.account),
            (enabled, account.id.0)
        );
    }
}

#[tokio::test]
async fn a_key_of_another_row_does_not_open() {
    let (group, admin) = admin().await;
    let account = admin.create_account("main").await.expect("made");
    let [one, two] = [
        admin.create_key("main").await,
        admin.create_key("main").await,
    ];
    let (one, two) = (one.expect("a key"), two.expect("a key"));
    let swapped = Command::PutAccessKey {
        access_key: one.access_key.clone(),
        account: account.id,
        enabled: true,
        revision: 2,
        sealed_credential: group.row(&two.access_key).sealed_credential,
    };
    admin.propose(swapped).await.expect("the group can't tell");
    let error = admin
        .set_key_enabled(&one.access_key, false)
        .await
        .expect_err("altered");
    assert!(matches!(error, AdminError::Crypto(_)), "{error:?}");
    assert!(
        group.row(&one.access_key).enabled,
        "nothing was written over it"
    );
}

#[tokio::test]
async fn an_unknown_outcome_is_said_and_asking_again_shows_it() {
    let (group, admin) = admin().await;
    group.lose_next(Lost::Answer);
    let error = admin
        .create_account("main")
        .await
        .expect_err("the answer was lost");
    assert!(
        matches!(error, AdminError::Metadata(ClientError::Unknown(_))),
        "{error:?}"
    );
    assert_eq!(names(&admin).await, ["main"], "it was made nevertheless");
}

#[tokio::test]
async fn a_lost_command_changes_nothing() {
    let (group, admin) = admin().await;
    admin.create_account("main").await.expect("made");
    group.lose_next(Lost::Command);
    let error = admin.create_key("main").await.expect_err("no leader");
    assert!(
        matches!(error, AdminError::Metadata(ClientError::Unavailable(_))),
        "{error:?}"
    );
    assert!(admin.list_keys(None).await.expect("a list").is_empty());
}

#[tokio::test]
async fn a_refusal_by_the_group_is_passed_on() {
    let (_, admin) = admin().await;
    let command = Command::SetAccountEnabled {
        account: AccountId(77),
        enabled: false,
        revision: 1,
    };
    let error = admin.propose(command).await.expect_err("no such account");
    assert!(matches!(error, AdminError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn another_clusters_root_key_is_refused() {
    let (group, _) = admin().await;
    let meta = Arc::clone(&group) as Arc<dyn Metadata>;
    let refused = Admin::open(meta, CLUSTER, roots(2)).await;
    assert!(
        matches!(refused.err(), Some(AdminError::Keys(KeysError::Root(_)))),
        "a wrong root key opens nothing"
    );
}

#[tokio::test]
async fn two_operators_use_the_same_keys() {
    let (group, first) = admin().await;
    first.create_account("main").await.expect("made");
    let made = first.create_key("main").await.expect("a key");
    let second = open(&group).await;
    second
        .set_key_enabled(&made.access_key, false)
        .await
        .expect("opens what the first sealed");
}

#[test]
fn keys_have_their_form_and_differ() {
    let ids = KeyIds::new(&RootKey::generate().unwrap(), [1; 16]);
    let (id, secret) = new_key(&ids).unwrap();
    assert_eq!((id.len(), secret.expose().len()), (24, SECRET_LEN));
    assert!(id.starts_with("MGL"));
    assert_eq!(ids.judge(&id), IdForm::Made);
    assert!(
        id.bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    );
    assert!(
        secret
            .expose()
            .bytes()
            .all(|byte| SECRET_LETTERS.contains(&byte))
    );
    let (other_id, other_secret) = new_key(&ids).unwrap();
    assert_ne!(id, other_id);
    assert_ne!(secret.expose(), other_secret.expose());
    assert!(!format!("{secret:?}").contains(secret.expose()));
}
