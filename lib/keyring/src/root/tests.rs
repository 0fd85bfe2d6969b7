//! Which root seals and opens what, without a service.

use super::*;
use megalith_crypto::{IdForm, KeyIds};

const CLUSTER: ClusterId = ClusterId([9; 16]);

fn key(byte: u8) -> RootKey {
    let text: String = (0..32)
        .map(|place| format!("{:02x}", byte + place))
        .collect();
    RootKey::parse(&text).expect("a root key")
}

fn row(version: u32, sealed_kek: Vec<u8>) -> KekRow {
    KekRow {
        version,
        sealed_kek,
    }
}

#[tokio::test]
async fn a_new_cluster_under_a_root_key_has_its_ids_under_it() {
    let roots = Roots::local(key(1), "one");
    let sealed = roots.new_kek(CLUSTER, 1, None).await.expect("made");
    let opened = roots.open(CLUSTER, &[row(1, sealed)]).await.expect("opens");
    let id = KeyIds::new(&key(1), CLUSTER.0).make(&[7; 13]);
    let ids = KeyIds::of_key(opened[0].ids(), CLUSTER.0);
    assert_eq!(ids.judge(&id), IdForm::Made);
    // The next one carries the same.
    let sealed = roots
        .new_kek(CLUSTER, 2, Some(opened[0].ids().clone()))
        .await;
    let next = roots
        .open(CLUSTER, &[row(2, sealed.expect("made"))])
        .await
        .expect("opens");
    assert_eq!(next[0].ids(), opened[0].ids());
    assert_ne!(next[0], opened[0]);
}

#[tokio::test]
async fn each_refusal_names_the_root_and_the_version() {
    let one = Roots::local(key(1), "one");
    let sealed = one.new_kek(CLUSTER, 3, None).await.expect("made");
    let other = Roots::local(key(40), "/etc/other.key");
    let error = other
        .open(CLUSTER, &[row(3, sealed)])
        .await
        .expect_err("foreign");
    let text = error.to_string();
    assert!(
        text.starts_with("root key /etc/other.key does not open key-encryption key 3"),
        "{text}"
    );
    assert!(!error.may_pass());
    let of_service = row(4, vec![2, b'v']);
    let error = one
        .open(CLUSTER, &[of_service])
        .await
        .expect_err("no service");
    let text = error.to_string();
    assert!(
        text.contains("key 4 is sealed under a key service (`vault`), and the settings name none"),
        "{text}"
    );
    let strange = row(5, vec![7; 90]);
    let error = one
        .open(CLUSTER, &[strange])
        .await
        .expect_err("nothing of ours");
    assert!(
        matches!(error, RootError::Foreign { version: 5, .. }),
        "{error}"
    );
}

#[test]
fn a_root_key_is_held_always() {
    assert_eq!(Roots::local(key(1), "one").hold(), Hold::Always);
}
