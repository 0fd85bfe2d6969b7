//! One golden example of every stored kind: today's code seals to these bytes with the same
//! randomness, and opens them. A change here is a change of the format on disk.

mod common;

use common::{
    BUCKET, CLUSTER, LISTED, OBJECT, PART, POLICY, UPLOAD, credential, iv, listing_entry, manifest,
    part_manifest, ring, root,
};
use expect_test::{ExpectFile, expect_file};
use megalith_crypto::keys::kek::{of_service, service_ciphertext};
use megalith_crypto::{
    CellOpener, CellSealer, DataKey, Entropy, EntropyError, IdKey, KeyRing, Manifest, OpenedKek,
    PartManifest, StreamContext, StreamIv,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// A source that repeats the same sequence in every run; never for real keys.
struct Sequence(AtomicU64);

impl Sequence {
    fn start(seed: u64) -> &'static Self {
        Box::leak(Box::new(Self(AtomicU64::new(seed))))
    }
}

impl Entropy for Sequence {
    fn fill(&self, target: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in target.chunks_mut(8) {
            // SplitMix64.
            let step = 0x9E37_79B9_7F4A_7C15;
            let mut z = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
            z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            chunk.copy_from_slice(&(z ^ z >> 31).to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// Compares with the golden file and returns the file's own bytes, for opening.
fn check(sealed: &[u8], golden: ExpectFile) -> Vec<u8> {
    let lines: Vec<String> = sealed.chunks(32).map(hex::encode).collect();
    golden.assert_eq(&format!("{}\n", lines.join("\n")));
    hex::decode(golden.data().split_whitespace().collect::<String>()).unwrap()
}

fn data_key() -> DataKey {
    DataKey::generate_with(Sequence::start(1)).unwrap()
}

#[test]
fn golden_sealed_kek() {
    let sealed = KeyRing::new_kek_with(&root(), CLUSTER, 1, Sequence::start(2)).unwrap();
    let stored = check(&sealed, expect_file!["./golden/kek.hex"]);
    assert_eq!(
        KeyRing::open(&root(), CLUSTER, &[(1, &stored)])
            .unwrap()
            .newest_version(),
        1
    );
}

/// Its key of ids is not that of the root key: it came from another root.
#[test]
fn golden_sealed_kek_with_the_key_of_ids() {
    let ids = IdKey::generate_with(Sequence::start(20)).unwrap();
    let kek = OpenedKek::generate_with(7, ids, Sequence::start(21)).unwrap();
    let sealed = root().seal_kek_with(CLUSTER, &kek, Sequence::start(22));
    let stored = check(&sealed.unwrap(), expect_file!["./golden/kek-with-ids.hex"]);
    assert_eq!(root().open_kek(CLUSTER, 7, &stored).unwrap(), kek);
}

/// What a key service encrypts, and stands decrypted in no row.
#[test]
fn golden_body_of_a_kek_for_a_key_service() {
    let ids = IdKey::generate_with(Sequence::start(20)).unwrap();
    let kek = OpenedKek::generate_with(7, ids, Sequence::start(21)).unwrap();
    let body = check(
        &kek.to_body(CLUSTER)[..],
        expect_file!["./golden/kek-body.hex"],
    );
    assert_eq!(OpenedKek::from_body(CLUSTER, 7, &body).unwrap(), kek);
}

#[test]
fn golden_kek_of_a_key_service() {
    let stored = check(
        &of_service("vault:v1:AAAA"),
        expect_file!["./golden/kek-of-service.hex"],
    );
    assert_eq!(service_ciphertext(&stored), Some("vault:v1:AAAA"));
}

#[test]
fn golden_wrapped_object_key() {
    let ring = ring(Sequence::start(3));
    let sealed = ring.wrap(&data_key(), &OBJECT).unwrap();
    let stored = check(&sealed, expect_file!["./golden/object-key.hex"]);
    assert_eq!(ring.unwrap(&stored, &OBJECT).unwrap(), data_key());
}

#[test]
fn golden_wrapped_upload_key() {
    let ring = ring(Sequence::start(4));
    let sealed = ring.wrap_upload(&data_key(), &UPLOAD).unwrap();
    let stored = check(&sealed, expect_file!["./golden/upload-key.hex"]);
    assert_eq!(ring.unwrap_upload(&stored, &UPLOAD).unwrap(), data_key());
}

#[test]
fn golden_cell() {
    let context = StreamContext {
        cluster: CLUSTER,
        blob: 1001,
        part: 1,
    };
    let (mut sealer, iv) =
        CellSealer::with_entropy(&data_key(), context, Sequence::start(5)).unwrap();
    let mut sealed = iv.0.to_vec();
    sealer
        .seal(b"the bytes of a small object", true, &mut sealed)
        .unwrap();
    let stored = check(&sealed, expect_file!["./golden/cell.hex"]);
    let (iv, cell) = stored.split_at(StreamIv::LEN);
    let iv = StreamIv(iv.try_into().unwrap());
    let mut opened = Vec::new();
    let opener = CellOpener::new(&data_key(), context, &iv).unwrap();
    opener.open(0, true, cell, &mut opened).unwrap();
    assert_eq!(opened, b"the bytes of a small object");
}

#[test]
fn golden_manifest() {
    let (key, entropy) = (data_key(), Sequence::start(6));
    let manifest = manifest([iv(&key, 1001, entropy), iv(&key, 1002, entropy)]);
    let sealed = manifest.seal_with(&key, &OBJECT, entropy).unwrap();
    let stored = check(&sealed, expect_file!["./golden/manifest.hex"]);
    let total = manifest.total_len().unwrap();
    assert_eq!(
        Manifest::open(&key, &OBJECT, total, &stored).unwrap(),
        manifest
    );
}

#[test]
fn golden_part_manifest() {
    let (key, entropy) = (data_key(), Sequence::start(7));
    let part = part_manifest(iv(&key, 1002, entropy));
    let sealed = part.seal_with(&key, &PART, entropy).unwrap();
    let stored = check(&sealed, expect_file!["./golden/part-manifest.hex"]);
    assert_eq!(PartManifest::open(&key, &PART, &stored).unwrap(), part);
}

#[test]
fn golden_listing_entry() {
    let listing = ring(Sequence::start(8)).listing(BUCKET);
    let sealed = listing.seal(LISTED, &listing_entry()).unwrap();
    let stored = check(&sealed, expect_file!["./golden/listing.hex"]);
    assert_eq!(listing.open(LISTED, &stored).unwrap(), listing_entry());
}

#[test]
fn golden_credential() {
    let credentials = ring(Sequence::start(9)).credentials();
    let sealed = credentials
        .seal("AKIAIOSFODNN7EXAMPLE", &credential())
        .unwrap();
    let stored = check(&sealed, expect_file!["./golden/credential.hex"]);
    assert_eq!(
        credentials.open("AKIAIOSFODNN7EXAMPLE", &stored).unwrap(),
        credential()
    );
}

#[test]
fn golden_record() {
    let records = ring(Sequence::start(10)).records();
    let sealed = records
        .seal_record(POLICY, b"account-12", b"{\"Effect\":\"Deny\"}")
        .unwrap();
    let stored = check(&sealed, expect_file!["./golden/record.hex"]);
    let opened = records.open_record(POLICY, b"account-12", &stored).unwrap();
    assert_eq!(&opened[..], b"{\"Effect\":\"Deny\"}");
}
