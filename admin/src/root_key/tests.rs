//! Root keys, right and wrong, on the real state machine in memory.

use super::*;
use crate::accounts::tests::{CLUSTER, Group, admin, root, roots};
use megalith_model::command::{Command, Envelope};
use megalith_model::table::MemRows;

/// A cluster under `root(1)` with two access keys.
async fn cluster() -> std::sync::Arc<Group> {
    let (group, admin) = admin().await;
    admin.create_account("main").await.expect("made");
    for _ in 0..2 {
        admin.create_key("main").await.expect("made");
    }
    group
}

async fn propose(group: &Group, command: Command) {
    let envelope = Envelope { key: None, command };
    let answer = group.propose(envelope).await.expect("an answer");
    answer.expect("accepted");
}

fn rows(group: &Group) -> MemRows {
    group.rows.lock().unwrap().clone()
}

async fn checked(group: &Group, byte: u8) -> Result<Opened, RootKeyError> {
    let before = rows(group);
    let checked = check(group, CLUSTER, &roots(byte)).await;
    assert!(rows(group) == before, "a check changes nothing");
    checked
}

#[tokio::test]
async fn the_right_one_opens_everything() {
    let opened = checked(&*cluster().await, 1).await.expect("opens");
    let all = Opened {
        keks: vec![1],
        access_keys: 2,
    };
    assert_eq!(opened, all);
}

#[tokio::test]
async fn another_ones_is_told_from_the_right_one_with_damaged_rows() {
    let group = cluster().await;
    let error = checked(&group, 2).await.expect_err("foreign");
    assert!(matches!(error, RootKeyError::Foreign(_)), "{error}");
    let sealed_kek = KeyRing::new_kek(&root(2), CLUSTER.0, 2).expect("random source");
    let second = Command::PutKek {
        version: 2,
        sealed_kek,
    };
    propose(&group, second).await;
    let error = checked(&group, 1).await.expect_err("one is another's");
    let told = "it is this cluster's root key, but key-encryption keys don't open: versions [2]";
    assert_eq!(error.to_string(), told);
}

#[tokio::test]
async fn a_cluster_without_keys_gets_none_by_a_check() {
    let group = Group::default();
    let error = checked(&group, 1).await.expect_err("nothing to open");
    assert!(matches!(error, RootKeyError::NoKeks), "{error}");
}

#[tokio::test]
async fn an_access_key_under_a_lost_version_is_named() {
    let group = cluster().await;
    let mut asked = group
        .ask(question::AccessKeys {
            account: None,
            after: String::new(),
            max: 1,
        })
        .await
        .expect("a page");
    let mut row = asked.remove(0);
    row.sealed_credential[1..5].copy_from_slice(&7_u32.to_be_bytes());
    let replaced = Command::PutAccessKey {
        access_key: row.access_key.clone(),
        account: row.account,
        enabled: row.enabled,
        revision: row.revision + 1,
        sealed_credential: row.sealed_credential,
    };
    propose(&group, replaced).await;
    let error = checked(&group, 1).await.expect_err("one is closed");
    match error {
        RootKeyError::ClosedAccessKeys { closed, of } => {
            assert_eq!((closed, of), (vec![row.access_key], 2));
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_page_that_is_full_is_not_the_last() {
    let (group, admin) = admin().await;
    admin.create_account("main").await.expect("made");
    let count = PAGE_ROWS_MAX + 1;
    for _ in 0..count {
        admin.create_key("main").await.expect("made");
    }
    let opened = check(&*group, CLUSTER, &roots(1)).await.expect("opens");
    assert_eq!(opened.access_keys, u64::from(count));
}
