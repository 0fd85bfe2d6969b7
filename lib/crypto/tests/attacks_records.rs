//! Attacks on the records around an object, run against a store that may do anything to them.
//! The numbers are those of the project's list of attacks.

mod common;

use common::{
    BUCKET, CLUSTER, LISTED, OBJECT, PART, POLICY, UPLOAD, credential, iv, listing_entry, manifest,
    part_manifest, ring,
};
use megalith_crypto::{
    CryptoError, DataKey, KeyRing, ListingContext, Manifest, ObjectContext, PartContext,
    PartManifest, RecordKind, SystemEntropy, UploadContext,
};

/// Opens sealed bytes of one kind; says only whether it worked and with which error.
type Open<'a> = Box<dyn Fn(&[u8]) -> Result<(), CryptoError> + 'a>;

/// Everything of one object, as the metadata holds it.
struct World {
    ring: KeyRing,
    key: DataKey,
}

impl World {
    fn new() -> Self {
        Self {
            ring: ring(&SystemEntropy),
            key: DataKey::generate().unwrap(),
        }
    }

    fn manifest(&self) -> Manifest {
        manifest([
            iv(&self.key, 1001, &SystemEntropy),
            iv(&self.key, 1002, &SystemEntropy),
        ])
    }

    fn part(&self) -> PartManifest {
        part_manifest(iv(&self.key, 1002, &SystemEntropy))
    }

    /// Returns one sealed record of every kind, and how it is opened.
    fn records(&self) -> Vec<(&'static str, Vec<u8>, Open<'_>)> {
        let (ring, key) = (&self.ring, &self.key);
        let manifest = self.manifest();
        let total = manifest.total_len().unwrap();
        let id = "AKIAIOSFODNN7EXAMPLE";
        vec![
            (
                "object key",
                ring.wrap(key, &OBJECT).unwrap(),
                Box::new(|bytes| ring.unwrap(bytes, &OBJECT).map(drop)),
            ),
            (
                "upload key",
                ring.wrap_upload(key, &UPLOAD).unwrap(),
                Box::new(|bytes| ring.unwrap_upload(bytes, &UPLOAD).map(drop)),
            ),
            (
                "manifest",
                manifest.seal(key, &OBJECT).unwrap(),
                Box::new(move |bytes| Manifest::open(key, &OBJECT, total, bytes).map(drop)),
            ),
            (
                "part",
                self.part().seal(key, &PART).unwrap(),
                Box::new(|bytes| PartManifest::open(key, &PART, bytes).map(drop)),
            ),
            (
                "listing",
                ring.listing(BUCKET).seal(LISTED, &listing_entry()).unwrap(),
                Box::new(|bytes| ring.listing(BUCKET).open(LISTED, bytes).map(drop)),
            ),
            (
                "credential",
                ring.credentials().seal(id, &credential()).unwrap(),
                Box::new(move |bytes| ring.credentials().open(id, bytes).map(drop)),
            ),
            (
                "record",
                ring.records()
                    .seal_record(POLICY, b"id", b"{\"Effect\":\"Deny\"}")
                    .unwrap(),
                Box::new(|bytes| ring.records().open_record(POLICY, b"id", bytes).map(drop)),
            ),
        ]
    }
}

/// Contexts that each differ from `OBJECT` in one field.
fn other_objects() -> [ObjectContext<'static>; 6] {
    [
        ObjectContext {
            cluster: [9; 16],
            ..OBJECT
        },
        ObjectContext {
            bucket: BUCKET + 1,
            ..OBJECT
        },
        ObjectContext {
            key: b"photos/2026/canary.jpf",
            ..OBJECT
        },
        ObjectContext {
            key: b"photos/2026/canary.jp",
            ..OBJECT
        },
        ObjectContext { key: b"", ..OBJECT },
        ObjectContext {
            version: [0x5F; 16],
            ..OBJECT
        },
    ]
}

#[test]
fn every_record_opens_as_what_was_sealed() {
    for (kind, sealed, open) in World::new().records() {
        assert_eq!(open(&sealed), Ok(()), "{kind}");
    }
}

#[test]
fn attack_05_record_served_under_another_name_fails() {
    let world = World::new();
    let wrapped = world.ring.wrap(&world.key, &OBJECT).unwrap();
    let sealed = world.manifest().seal(&world.key, &OBJECT).unwrap();
    let total = world.manifest().total_len().unwrap();
    for other in other_objects() {
        let unwrapped = world.ring.unwrap(&wrapped, &other);
        assert_eq!(unwrapped, Err(CryptoError::Unauthentic), "{other:?}");
        let opened = Manifest::open(&world.key, &other, total, &sealed);
        assert_eq!(opened, Err(CryptoError::Unauthentic), "{other:?}");
    }
    let row = world
        .ring
        .listing(BUCKET)
        .seal(LISTED, &listing_entry())
        .unwrap();
    let fails = |bucket, place| {
        let opened = world.ring.listing(bucket).open(place, &row);
        assert_eq!(opened, Err(CryptoError::Unauthentic));
    };
    fails(BUCKET + 1, LISTED);
    let key = b"photos/2026/canary.jp";
    fails(BUCKET, ListingContext { key, ..LISTED });
    let version = [0x5F; 16];
    fails(BUCKET, ListingContext { version, ..LISTED });
    // Attack 20: a listing shows the size that was sealed.
    let plain_len = LISTED.plain_len + 1;
    fails(
        BUCKET,
        ListingContext {
            plain_len,
            ..LISTED
        },
    );
}

/// Exchanges the records of two objects of one bucket, in every combination.
#[test]
fn attack_05_exchanged_records_fail() {
    let world = World::new();
    let other_key = DataKey::generate().unwrap();
    let other = ObjectContext {
        key: b"other",
        ..OBJECT
    };
    let manifest = world.manifest();
    let total = manifest.total_len().unwrap();
    let objects = [(OBJECT, &world.key), (other, &other_key)];
    let wraps = objects.map(|(object, key)| world.ring.wrap(key, &object).unwrap());
    let manifests = objects.map(|(object, key)| manifest.seal(key, &object).unwrap());
    for (asked, (object, _)) in objects.iter().enumerate() {
        for (served_wrap, wrap) in wraps.iter().enumerate() {
            for (served_manifest, sealed) in manifests.iter().enumerate() {
                let key = world.ring.unwrap(wrap, object);
                let read = key.and_then(|key| Manifest::open(&key, object, total, sealed));
                let right = served_wrap == asked && served_manifest == asked;
                assert_eq!(read.is_ok(), right);
            }
        }
    }
}

#[test]
fn attack_06_edited_part_lists_fail() {
    let world = World::new();
    let (key, sealed) = (&world.key, world.part().seal(&world.key, &PART).unwrap());
    let other_upload = UploadContext {
        upload: [0xAC; 16],
        ..UPLOAD
    };
    for place in [
        PartContext { number: 1, ..PART },
        PartContext { number: 3, ..PART },
        PartContext { number: 0, ..PART },
        PartContext {
            upload: other_upload,
            ..PART
        },
        PartContext {
            upload: UploadContext {
                bucket: 1,
                ..UPLOAD
            },
            ..PART
        },
        PartContext {
            upload: UploadContext {
                key: b"other",
                ..UPLOAD
            },
            ..PART
        },
        PartContext {
            upload: UploadContext {
                cluster: [9; 16],
                ..UPLOAD
            },
            ..PART
        },
    ] {
        let opened = PartManifest::open(key, &place, &sealed);
        assert_eq!(opened, Err(CryptoError::Unauthentic), "{place:?}");
    }
    // A part of another upload to the same place: only the data key differs.
    let other_key = DataKey::generate().unwrap();
    let opened = PartManifest::open(&other_key, &PART, &sealed);
    assert_eq!(opened, Err(CryptoError::Unauthentic));
}

/// The store says the object is shorter: the list of parts in the manifest doesn't agree.
#[test]
fn attack_06_edited_total_length_fails() {
    let world = World::new();
    let manifest = world.manifest();
    let sealed = manifest.seal(&world.key, &OBJECT).unwrap();
    let total = manifest.total_len().unwrap();
    for edited in [0, 5 << 20, total - 1, total + 1, u64::MAX] {
        let opened = Manifest::open(&world.key, &OBJECT, edited, &sealed);
        assert_eq!(opened, Err(CryptoError::Unauthentic), "{edited}");
    }
}

#[test]
fn attack_11_every_flipped_byte_of_every_record_gives_one_error() {
    for (kind, sealed, open) in World::new().records() {
        for at in 0..sealed.len() {
            for flip in [1, 0x80, 0xFF] {
                let mut changed = sealed.clone();
                changed[at] ^= flip;
                assert_eq!(
                    open(&changed),
                    Err(CryptoError::Unauthentic),
                    "{kind}, byte {at}"
                );
            }
        }
    }
}

#[test]
fn attack_11_records_cut_or_extended_give_the_same_error() {
    for (kind, sealed, open) in World::new().records() {
        for kept in 0..sealed.len() {
            let cut = &sealed[..kept];
            assert_eq!(
                open(cut),
                Err(CryptoError::Unauthentic),
                "{kind}, {kept} bytes"
            );
        }
        let mut extended = sealed.clone();
        extended.push(0);
        assert_eq!(open(&extended), Err(CryptoError::Unauthentic), "{kind}");
    }
}

#[test]
fn attack_12_no_record_opens_as_another_kind() {
    let world = World::new();
    let records = world.records();
    for (made, (made_kind, sealed, _)) in records.iter().enumerate() {
        for (asked, (asked_kind, _, open)) in records.iter().enumerate() {
            assert_eq!(
                open(sealed).is_ok(),
                made == asked,
                "{made_kind} as {asked_kind}"
            );
        }
    }
}

#[test]
fn attack_16_other_suites_and_key_versions_are_refused() {
    for (kind, sealed, open) in World::new().records() {
        for suite in (0..=255).filter(|suite| *suite != sealed[0]) {
            let mut changed = sealed.clone();
            changed[0] = suite;
            assert_eq!(
                open(&changed),
                Err(CryptoError::Unauthentic),
                "{kind}, suite {suite}"
            );
        }
        for version in [0_u32, 1, 2, u32::MAX] {
            let mut changed = sealed.clone();
            changed[1..5].copy_from_slice(&version.to_be_bytes());
            assert_eq!(
                open(&changed).is_ok(),
                changed == sealed,
                "{kind}, version {version}"
            );
        }
    }
}

/// A record sealed under an old KEK can't be passed off as one of another known version.
#[test]
fn attack_16_known_key_versions_can_not_be_exchanged() {
    let root = common::root();
    let keks = [1, 2].map(|version| KeyRing::new_kek(&root, CLUSTER, version).unwrap());
    let ring = KeyRing::open(&root, CLUSTER, &[(1, &keks[0]), (2, &keks[1])]).unwrap();
    let key = DataKey::generate().unwrap();
    let mut wrapped = ring.wrap(&key, &OBJECT).unwrap();
    assert_eq!(ring.unwrap(&wrapped, &OBJECT).as_ref(), Ok(&key));
    wrapped[4] = 1;
    assert_eq!(
        ring.unwrap(&wrapped, &OBJECT),
        Err(CryptoError::Unauthentic)
    );
}

#[test]
fn attack_18_every_other_commitment_is_refused() {
    for (kind, sealed, open) in World::new().records() {
        for fill in [0x00, 0xFF] {
            let mut changed = sealed.clone();
            changed[37..69].fill(fill);
            assert_eq!(open(&changed), Err(CryptoError::Unauthentic), "{kind}");
        }
    }
}

/// Known pieces of a file, its hashes and its headers can't be found in what the store holds.
#[test]
fn attack_20_22_nothing_of_the_object_stands_in_clear() {
    let world = World::new();
    let listing = listing_entry();
    let credential = credential();
    let known: [&[u8]; 14] = [
        b"9b2cf535f27731c974343645a3985328",
        &hex::decode("9b2cf535f27731c974343645a3985328").unwrap(),
        b"rosUhgp5mIg=",
        // The same checksum as it is stored.
        &[0xAE, 0x8B, 0x14, 0x86, 0x0A, 0x79, 0x98, 0x88],
        b"CRC64NVME",
        b"image/jpeg",
        b"max-age",
        b"taken-at",
        "Zürich".as_bytes(),
        b"summer",
        b"0123456789abcdef",
        listing.storage_class.as_bytes(),
        credential.secret.expose().as_bytes(),
        b"Deny",
    ];
    for (kind, sealed, _) in world.records() {
        for piece in known {
            let found = sealed.windows(piece.len()).any(|window| window == piece);
            assert!(!found, "{kind} shows {:?}", String::from_utf8_lossy(piece));
        }
    }
}

/// The same content sealed twice has nothing in common but its length.
#[test]
fn attack_22_equal_objects_can_not_be_recognised() {
    let world = World::new();
    let (first, second) = (world.records(), world.records());
    for ((kind, first, _), (_, second, _)) in first.iter().zip(&second) {
        let mut shared = first[5..]
            .windows(8)
            .filter(|piece| second[5..].windows(8).any(|other| other == *piece));
        assert_eq!(shared.next(), None, "{kind}");
    }
}

#[test]
fn attack_30_oversized_records_are_refused_unread() {
    for (kind, sealed, open) in World::new().records() {
        let mut huge = sealed.clone();
        huge.resize(8 << 20, 0);
        assert_eq!(open(&huge), Err(CryptoError::Unauthentic), "{kind}");
        assert_eq!(open(&[]), Err(CryptoError::Unauthentic), "{kind}");
        assert_eq!(open(&[0xFF; 85]), Err(CryptoError::Unauthentic), "{kind}");
    }
}

#[test]
fn attack_30_oversized_values_are_not_sealed() {
    let world = World::new();
    let large = |result: Result<Vec<u8>, CryptoError>| {
        assert!(
            matches!(result, Err(CryptoError::TooLarge { .. })),
            "{result:?}"
        );
    };
    let mut entry = listing_entry();
    entry.etag = "e".repeat(5000);
    large(world.ring.listing(BUCKET).seal(LISTED, &entry));
    large(world.ring.listing(BUCKET).seal(
        ListingContext {
            key: &[b'k'; 1025],
            ..LISTED
        },
        &listing_entry(),
    ));
    let mut named = credential();
    named.name = "n".repeat(257);
    large(world.ring.credentials().seal("AK", &named));
    large(
        world
            .ring
            .credentials()
            .seal(&"A".repeat(129), &credential()),
    );
    let records = world.ring.records();
    large(records.seal_record(POLICY, b"id", &vec![0; 256 * 1024 + 1]));
    large(records.seal_record(POLICY, &[0; 1025], b""));
    let largest = vec![0; 256 * 1024];
    let sealed = records.seal_record(POLICY, b"id", &largest).unwrap();
    assert_eq!(
        *records.open_record(POLICY, b"id", &sealed).unwrap(),
        largest
    );
}

#[test]
fn attack_32_records_open_only_as_their_own_kind_and_id() {
    let world = World::new();
    let credentials = world.ring.credentials();
    let sealed = credentials.seal("AKONE", &credential()).unwrap();
    assert_eq!(credentials.open("AKONE", &sealed), Ok(credential()));
    for id in ["AKTWO", "AKON", "AKONEX", ""] {
        assert_eq!(
            credentials.open(id, &sealed),
            Err(CryptoError::Unauthentic),
            "{id}"
        );
    }
    let records = world.ring.records();
    let sealed = records.seal_record(POLICY, b"one", b"bytes").unwrap();
    let bucket = RecordKind::new("bucket");
    // "policy" ‖ "one" and "polic" ‖ "yone" are not the same place.
    let shifted = RecordKind::new("polic");
    for (kind, id) in [
        (POLICY, &b"two"[..]),
        (bucket, b"one"),
        (shifted, b"yone"),
        (POLICY, b""),
    ] {
        let opened = records.open_record(kind, id, &sealed);
        assert_eq!(opened, Err(CryptoError::Unauthentic), "{kind:?} {id:?}");
    }
    // What another cluster's keys sealed doesn't open here.
    let stranger = ring(&SystemEntropy);
    let forged = stranger.credentials().seal("AKONE", &credential()).unwrap();
    assert_eq!(
        credentials.open("AKONE", &forged),
        Err(CryptoError::Unauthentic)
    );
}
