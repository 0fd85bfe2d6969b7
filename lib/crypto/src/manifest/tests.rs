//! Round trips and limits of the manifests.

use super::*;
use crate::context::UploadContext;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const OBJECT: ObjectContext<'_> = ObjectContext {
    cluster: [1; 16],
    bucket: 1,
    key: b"key",
    version: [2; 16],
};
const PART: PartContext<'_> = PartContext {
    upload: UploadContext {
        cluster: [1; 16],
        bucket: 1,
        key: b"key",
        upload: [3; 16],
    },
    number: 5,
};

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,40}"
}

fn iv() -> impl Strategy<Value = StreamIv> {
    any::<[u8; 32]>().prop_map(StreamIv)
}

fn checksum() -> impl Strategy<Value = Checksum> {
    let covers = prop_oneof![
        Just(ChecksumType::FullObject),
        Just(ChecksumType::Composite)
    ];
    (text(), text(), covers).prop_map(|(algorithm, value, covers)| Checksum {
        algorithm,
        value,
        covers,
    })
}

fn parts() -> impl Strategy<Value = Vec<ManifestPart>> {
    let part = (
        0..=PLAIN_BLOB_LEN_MAX,
        any::<u64>(),
        iv(),
        vec(checksum(), 0..2),
    );
    vec(part, 0..5).prop_map(|parts| {
        let numbered = parts.into_iter().zip(1..);
        numbered
            .map(|((plain_len, blob, iv, checksums), number)| ManifestPart {
                number,
                plain_len,
                blob,
                iv,
                checksums,
                key: None,
            })
            .collect()
    })
}

fn headers() -> impl Strategy<Value = ContentHeaders> {
    vec(option::of(text()), 6).prop_map(|texts| {
        let [
            content_type,
            content_encoding,
            content_disposition,
            content_language,
            rest @ ..,
        ] = <[_; 6]>::try_from(texts).expect("six were asked for");
        let [cache_control, expires] = rest;
        ContentHeaders {
            content_type,
            content_encoding,
            content_disposition,
            content_language,
            cache_control,
            expires,
        }
    })
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let pairs = || vec((text(), text()), 0..4);
    let checksums = vec(checksum(), 0..3);
    (parts(), checksums, headers(), pairs(), pairs()).prop_map(
        |(parts, checksums, headers, user_metadata, tags)| Manifest {
            parts,
            checksums,
            headers,
            user_metadata,
            tags,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn manifests_round_trip(manifest in manifest()) {
        let key = DataKey::generate().unwrap();
        let sealed = manifest.seal(&key, &OBJECT).unwrap();
        let total = manifest.total_len().unwrap();
        let opened = Manifest::open(&key, &OBJECT, total, &sealed).unwrap();
        prop_assert_eq!(opened, manifest);
    }

    #[test]
    fn part_manifests_round_trip(
        plain_len in 0..=PLAIN_BLOB_LEN_MAX,
        written_ms in any::<u64>(),
        blob in any::<u64>(),
        iv in iv(),
        md5 in any::<[u8; 16]>(),
        checksums in vec(checksum(), 0..3),
    ) {
        let key = DataKey::generate().unwrap();
        let part = PartManifest { plain_len, written_ms, blob, iv, md5, checksums };
        let sealed = part.seal(&key, &PART).unwrap();
        prop_assert_eq!(PartManifest::open(&key, &PART, &sealed).unwrap(), part);
    }
}

fn plain_part(number: u32) -> ManifestPart {
    ManifestPart {
        number,
        plain_len: 5,
        blob: 9,
        iv: StreamIv([8; 32]),
        checksums: Vec::new(),
        key: None,
    }
}

#[test]
fn the_largest_upload_fits() {
    let key = DataKey::generate().unwrap();
    let checksum = Checksum {
        algorithm: "SHA256".into(),
        value: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".into(),
        covers: ChecksumType::FullObject,
    };
    let part = |number| ManifestPart {
        checksums: vec![checksum.clone()],
        ..plain_part(number)
    };
    let mut manifest = Manifest {
        parts: (1..=10_000).map(part).collect(),
        ..Manifest::default()
    };
    let sealed = manifest.seal(&key, &OBJECT).unwrap();
    assert!(sealed.len() < SEALED_MANIFEST_MAX / 2, "{}", sealed.len());
    assert_eq!(
        Manifest::open(&key, &OBJECT, 50_000, &sealed).unwrap(),
        manifest
    );

    manifest.parts.push(plain_part(10_001));
    let refused = manifest.seal(&key, &OBJECT).unwrap_err();
    assert_eq!(
        refused,
        CryptoError::TooLarge {
            what: "parts",
            max: PARTS_MAX
        }
    );
}

#[test]
fn manifests_that_could_not_be_opened_are_not_sealed() {
    let key = DataKey::generate().unwrap();
    let refused = |manifest: Manifest| manifest.seal(&key, &OBJECT).unwrap_err();
    let pair = |text: &str| vec![("name".to_owned(), text.to_owned())];
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let too_large = CryptoError::TooLarge {
        what: "text",
        max: TEXT_BYTES_MAX,
    };
    let default = Manifest::default;
    assert_eq!(
        refused(Manifest {
            tags: pair(&long),
            ..default()
        }),
        too_large
    );
    assert_eq!(
        refused(Manifest {
            user_metadata: pair(&long),
            ..default()
        }),
        too_large
    );
    let headers = ContentHeaders {
        expires: Some(long),
        ..ContentHeaders::default()
    };
    assert_eq!(
        refused(Manifest {
            headers,
            ..default()
        }),
        too_large
    );
    for numbers in [[1, 1], [2, 1]] {
        let parts = numbers.map(plain_part).to_vec();
        assert!(matches!(
            refused(Manifest { parts, ..default() }),
            CryptoError::Misuse(_)
        ));
    }
    let huge = ManifestPart {
        plain_len: u64::MAX,
        ..plain_part(1)
    };
    let manifest = Manifest {
        parts: vec![huge],
        ..default()
    };
    assert_eq!(refused(manifest), CryptoError::InvalidLength);
    let much = vec![("n".repeat(8000), "v".repeat(8000)); 256];
    let manifest = Manifest {
        tags: much.clone(),
        user_metadata: much,
        ..default()
    };
    assert!(matches!(
        refused(manifest),
        CryptoError::TooLarge {
            what: "manifest",
            ..
        }
    ));
}

/// Bytes that no gateway of this version writes are refused, also where they are authentic.
#[test]
fn unknown_bytes_in_a_manifest_are_refused() {
    let body = |headers: &[u8]| [&[MANIFEST_BODY, 0, 0][..], headers, &[0, 0]].concat();
    let read = |headers: &[u8]| decode::<Manifest>(MANIFEST_BODY, &body(headers));
    let headers = read(&[2, 0, 1, 1, 1, b'x'])
        .expect("two known headers")
        .headers;
    assert_eq!(headers.content_type.as_deref(), Some("binary/octet-stream"));
    assert_eq!(headers.content_encoding.as_deref(), Some("x"));
    for unknown in [
        &[1, 6, 1, b'x'][..],
        &[1, 0, 22],
        &[1, 0, 255],
        &[255, 255, 255, 255, 15],
    ] {
        assert_eq!(read(unknown), Err(CryptoError::Unauthentic), "{unknown:?}");
    }
}
