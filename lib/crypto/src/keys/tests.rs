//! Key files, rings of several versions, rotation.

use super::*;
use crate::context::{ObjectContext, UploadContext};

const CLUSTER: [u8; 16] = [1; 16];
const OBJECT: ObjectContext<'_> = ObjectContext {
    cluster: CLUSTER,
    bucket: 1,
    key: b"key",
    version: [2; 16],
};

fn check_parse(text: &str, expected: Option<[u8; 32]>) {
    let parsed = RootKey::parse(text).ok().map(|key| *key.0);
    assert_eq!(parsed, expected, "{text:?}");
}

#[test]
fn root_keys_are_read_from_hex_and_base64() {
    let key: [u8; 32] = core::array::from_fn(|at| at as u8);
    let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    check_parse(hex, Some(key));
    check_parse(&hex.to_uppercase(), Some(key));
    check_parse(&format!(" \t{hex}\r\n"), Some(key));
    let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    check_parse(base64, Some(key));
    check_parse(&format!("{base64}\n"), Some(key));
    check_parse(base64.trim_end_matches('='), Some(key));

    check_parse("", None);
    check_parse(&hex[1..], None);
    check_parse(&format!("{hex}0"), None);
    check_parse(&hex.replace('0', "g"), None);
    check_parse(&base64.replace('=', "A"), None);
    check_parse(&base64.replace("Hh8=", "Hh9="), None);
    check_parse(&"é".repeat(32), None);
    check_parse(&" ".repeat(100_000), None);
    check_parse(&"00".repeat(32), None);
    check_parse(&"ff".repeat(32), None);
}

#[test]
fn a_generated_root_key_is_read_back_from_its_file() {
    let key = RootKey::generate().unwrap();
    let text = key.to_file_text();
    assert_eq!(text.len(), 65);
    assert_eq!(RootKey::parse(&text).unwrap(), key);
    assert_ne!(RootKey::generate().unwrap(), key);
}

#[test]
fn secrets_print_nothing() {
    let root = RootKey::parse(&"0123456789abcdef".repeat(4)).unwrap();
    assert_eq!(format!("{root:?}"), "RootKey(secret)");
    assert_eq!(
        format!("{:?}", DataKey::generate().unwrap()),
        "DataKey(secret)"
    );
    let kek = KeyRing::new_kek(&root, CLUSTER, 1).unwrap();
    let ring = KeyRing::open(&root, CLUSTER, &[(1, &kek)]).unwrap();
    assert_eq!(format!("{ring:?}"), "KeyRing { newest: 1, .. }");
}

#[test]
fn every_version_unwraps_and_the_newest_wraps() {
    let root = RootKey::generate().unwrap();
    let keks = [1, 2, 7].map(|version| KeyRing::new_kek(&root, CLUSTER, version).unwrap());
    assert!(keks.iter().all(|kek| kek.len() == SEALED_KEK_LEN));
    let old = KeyRing::open(&root, CLUSTER, &[(1, &keks[0])]).unwrap();
    let key = DataKey::generate().unwrap();
    let wrapped = old.wrap(&key, &OBJECT).unwrap();
    assert_eq!(wrapped.len(), WRAPPED_KEY_LEN);
    assert_eq!(KeyRing::claimed_version(&wrapped), Some(1));

    let stored: [(u32, &[u8]); 3] = [(7, &keks[2]), (1, &keks[0]), (2, &keks[1])];
    let ring = KeyRing::open(&root, CLUSTER, &stored).unwrap();
    assert_eq!(ring.newest_version(), 7);
    let unwrapped = ring.unwrap(&wrapped, &OBJECT).unwrap();
    assert_eq!(unwrapped, key);
    let rotated = ring.wrap(&unwrapped, &OBJECT).unwrap();
    assert_eq!(KeyRing::claimed_version(&rotated), Some(7));
    assert_eq!(ring.unwrap(&rotated, &OBJECT).unwrap(), key);
    // A gateway that doesn't know version 7 yet can't say more than this.
    assert_eq!(old.unwrap(&rotated, &OBJECT), Err(CryptoError::Unauthentic));
}

#[test]
fn a_ring_opens_only_with_its_root_cluster_and_versions() {
    let root = RootKey::generate().unwrap();
    let kek = KeyRing::new_kek(&root, CLUSTER, 1).unwrap();
    let fails = |root: &RootKey, cluster, stored: &[(u32, &[u8])]| {
        KeyRing::open(root, cluster, stored).unwrap_err()
    };
    let other = RootKey::generate().unwrap();
    assert_eq!(
        fails(&other, CLUSTER, &[(1, &kek)]),
        CryptoError::Unauthentic
    );
    assert_eq!(
        fails(&root, [9; 16], &[(1, &kek)]),
        CryptoError::Unauthentic
    );
    assert_eq!(
        fails(&root, CLUSTER, &[(2, &kek)]),
        CryptoError::Unauthentic
    );
    assert_eq!(
        fails(&root, CLUSTER, &[(0, &kek)]),
        CryptoError::Unauthentic
    );
    for at in 0..kek.len() {
        let mut changed = kek.clone();
        changed[at] ^= 1;
        assert_eq!(
            fails(&root, CLUSTER, &[(1, &changed)]),
            CryptoError::Unauthentic,
            "{at}"
        );
    }
    assert!(matches!(fails(&root, CLUSTER, &[]), CryptoError::Misuse(_)));
    assert!(matches!(
        fails(&root, CLUSTER, &[(1, &kek), (1, &kek)]),
        CryptoError::Misuse(_)
    ));
    let many = vec![(1, &kek[..]); KEK_VERSIONS_MAX + 1];
    assert!(matches!(
        fails(&root, CLUSTER, &many),
        CryptoError::Misuse(_)
    ));
    assert!(matches!(
        KeyRing::new_kek(&root, CLUSTER, 0),
        Err(CryptoError::Misuse(_))
    ));
}

#[test]
fn two_wraps_of_one_key_differ() {
    let root = RootKey::generate().unwrap();
    let kek = KeyRing::new_kek(&root, CLUSTER, 1).unwrap();
    let ring = KeyRing::open(&root, CLUSTER, &[(1, &kek)]).unwrap();
    let key = DataKey::generate().unwrap();
    let first = ring.wrap(&key, &OBJECT).unwrap();
    let second = ring.wrap(&key, &OBJECT).unwrap();
    assert_ne!(first[5..37], second[5..37], "salts");
    assert_ne!(first[69..], second[69..], "ciphertexts");
}

#[test]
fn an_upload_key_is_no_object_key() {
    let root = RootKey::generate().unwrap();
    let kek = KeyRing::new_kek(&root, CLUSTER, 1).unwrap();
    let ring = KeyRing::open(&root, CLUSTER, &[(1, &kek)]).unwrap();
    let key = DataKey::generate().unwrap();
    // All ids are equal: only the purpose tells them apart.
    let upload = UploadContext {
        cluster: CLUSTER,
        bucket: 1,
        key: b"key",
        upload: [2; 16],
    };
    let wrapped = ring.wrap_upload(&key, &upload).unwrap();
    assert_eq!(ring.unwrap_upload(&wrapped, &upload).unwrap(), key);
    assert_eq!(
        ring.unwrap(&wrapped, &OBJECT),
        Err(CryptoError::Unauthentic)
    );
    let wrapped = ring.wrap(&key, &OBJECT).unwrap();
    assert_eq!(
        ring.unwrap_upload(&wrapped, &upload),
        Err(CryptoError::Unauthentic)
    );
}

#[test]
fn object_keys_over_the_limit_are_refused() {
    let root = RootKey::generate().unwrap();
    let kek = KeyRing::new_kek(&root, CLUSTER, 1).unwrap();
    let ring = KeyRing::open(&root, CLUSTER, &[(1, &kek)]).unwrap();
    let key = DataKey::generate().unwrap();
    let longest = [b'k'; 1024];
    let object = ObjectContext {
        key: &longest,
        ..OBJECT
    };
    let wrapped = ring.wrap(&key, &object).unwrap();
    assert_eq!(ring.unwrap(&wrapped, &object).unwrap(), key);
    let longer = [b'k'; 1025];
    let object = ObjectContext {
        key: &longer,
        ..OBJECT
    };
    assert!(matches!(
        ring.wrap(&key, &object),
        Err(CryptoError::TooLarge { .. })
    ));
    assert_eq!(
        ring.unwrap(&wrapped, &object),
        Err(CryptoError::Unauthentic)
    );
}

/// Rings of one root: with the first KEK, with both, and with the second.
fn rings() -> [KeyRing; 3] {
    let root = RootKey::generate().unwrap();
    let keks = [1, 2].map(|version| KeyRing::new_kek(&root, CLUSTER, version).unwrap());
    let stored: [(u32, &[u8]); 2] = [(1, &keks[0]), (2, &keks[1])];
    [&stored[..1], &stored[..], &stored[1..]]
        .map(|stored| KeyRing::open(&root, CLUSTER, stored).unwrap())
}

/// What is wrapped again under a newer KEK opens as before, in its own context only, and needs the
/// older one no more.
#[test]
fn attack_29_keys_that_are_wrapped_again_need_the_older_kek_no_more() {
    let [old, both, new] = rings();
    let key = DataKey::generate().unwrap();
    let upload = UploadContext {
        cluster: CLUSTER,
        bucket: 1,
        key: b"key",
        upload: [3; 16],
    };
    let wrapped = old.wrap(&key, &OBJECT).unwrap();
    let again = both.rewrap(&wrapped, &OBJECT).unwrap();
    assert_eq!(KeyRing::claimed_version(&again), Some(2));
    assert_eq!(new.unwrap(&again, &OBJECT).unwrap(), key);
    let moved = ObjectContext {
        bucket: 2,
        ..OBJECT
    };
    assert_eq!(both.rewrap(&wrapped, &moved), Err(CryptoError::Unauthentic));
    assert_eq!(new.rewrap(&wrapped, &OBJECT), Err(CryptoError::Unauthentic));

    let wrapped = old.wrap_upload(&key, &upload).unwrap();
    let again = both.rewrap_upload(&wrapped, &upload).unwrap();
    assert_eq!(KeyRing::claimed_version(&again), Some(2));
    assert_eq!(new.unwrap_upload(&again, &upload).unwrap(), key);
    let unopened = new.rewrap_upload(&wrapped, &upload);
    assert_eq!(unopened, Err(CryptoError::Unauthentic));
}

/// The same of records, each under its own purpose.
#[test]
fn attack_29_records_that_are_sealed_again_need_the_older_kek_no_more() {
    use crate::credential::{AccessSecret, Credential, RecordKind};
    use crate::listing::{ListingContext, ListingEntry};
    const KIND: RecordKind = RecordKind::new("test");
    let [old, both, new] = rings();
    let listed = ListingContext {
        key: b"key",
        version: [2; 16],
        plain_len: 7,
    };
    let entry = ListingEntry {
        etag: "text".to_owned(),
        storage_class: "STANDARD".to_owned(),
        ..ListingEntry::default()
    };
    let credential = Credential {
        secret: AccessSecret::new("secret".to_owned()),
        account: 4,
        enabled: true,
        account_enabled: false,
        name: "name".to_owned(),
    };
    let sealed = [
        old.listing(1).seal(listed, &entry).unwrap(),
        old.credentials().seal("id", &credential).unwrap(),
        old.records().seal_record(KIND, b"id", b"bytes").unwrap(),
    ];
    let again = |ring: &KeyRing| {
        [
            ring.listing(1).reseal(listed, &sealed[0]),
            ring.credentials().reseal("id", &sealed[1]),
            ring.records().reseal_record(KIND, b"id", &sealed[2]),
        ]
    };
    let resealed = again(&both).map(Result::unwrap);
    for (was, is) in sealed.iter().zip(&resealed) {
        assert_eq!(KeyRing::claimed_version(is), Some(2));
        assert_eq!(was.len(), is.len());
    }
    assert_eq!(new.listing(1).open(listed, &resealed[0]).unwrap(), entry);
    let opened = new.credentials().open("id", &resealed[1]);
    assert_eq!(opened.unwrap(), credential);
    let opened = new.records().open_record(KIND, b"id", &resealed[2]);
    assert_eq!(**opened.unwrap(), *b"bytes");
    // Nothing is made of what doesn't open.
    let closed: [_; 3] = std::array::from_fn(|_| Err(CryptoError::Unauthentic));
    assert_eq!(again(&new), closed);
    assert!(both.listing(2).reseal(listed, &sealed[0]).is_err());
    assert!(both.credentials().reseal("other", &sealed[1]).is_err());
}
