//! Attack 19: a random source that fails or repeats itself makes sealing fail.

use crate::cell::{CellSealer, StreamContext};
use crate::context::{ObjectContext, PartContext, UploadContext};
use crate::credential::{AccessSecret, Credential, RecordKind};
use crate::entropy::{Entropy, EntropyError, SystemEntropy};
use crate::error::CryptoError;
use crate::keys::{DataKey, KeyRing, RootKey};
use crate::listing::{ListingContext, ListingEntry};
use crate::manifest::{Manifest, PartManifest};
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};

const STREAM: StreamContext = StreamContext {
    cluster: [1; 16],
    blob: 1,
    part: 0,
};
const OBJECT: ObjectContext<'_> = ObjectContext {
    cluster: [1; 16],
    bucket: 1,
    key: b"key",
    version: [2; 16],
};
const UPLOAD: UploadContext<'_> = UploadContext {
    cluster: [1; 16],
    bucket: 1,
    key: b"key",
    upload: [3; 16],
};

/// Reports failure after it has written something.
struct Failing;

impl Entropy for Failing {
    fn fill(&self, target: &mut [u8]) -> Result<(), EntropyError> {
        target.fill(0x5A);
        target[0] = 1;
        Err(EntropyError)
    }
}

/// Reports success, but leaves zeros.
struct Silent;

impl Entropy for Silent {
    fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
        Ok(())
    }
}

/// Gives the same bytes at every draw.
struct Stuck;

impl Entropy for Stuck {
    fn fill(&self, target: &mut [u8]) -> Result<(), EntropyError> {
        for (at, byte) in target.iter_mut().enumerate() {
            *byte = at as u8;
        }
        Ok(())
    }
}

/// Works for some draws, then fails.
struct Ending(AtomicUsize);

impl Entropy for Ending {
    fn fill(&self, target: &mut [u8]) -> Result<(), EntropyError> {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 0 {
            Err(EntropyError)
        } else {
            SystemEntropy.fill(target)
        }
    }
}

fn ring() -> KeyRing {
    let root = RootKey::generate().unwrap();
    let kek = KeyRing::new_kek(&root, [1; 16], 1).unwrap();
    KeyRing::open(&root, [1; 16], &[(1, &kek)]).unwrap()
}

fn random_error<T: Debug>(result: Result<T, CryptoError>) {
    assert_eq!(result.unwrap_err(), CryptoError::Random);
}

#[test]
fn attack_19_nothing_is_sealed_without_randomness() {
    for broken in [&Failing as &'static dyn Entropy, &Silent] {
        let root = RootKey::generate().unwrap();
        let key = DataKey::generate().unwrap();
        let ring = ring().with_entropy(broken);
        random_error(RootKey::generate_with(broken));
        random_error(DataKey::generate_with(broken));
        random_error(KeyRing::new_kek_with(&root, [1; 16], 1, broken));
        random_error(ring.wrap(&key, &OBJECT));
        random_error(ring.wrap_upload(&key, &UPLOAD));
        random_error(CellSealer::with_entropy(&key, STREAM, broken).map(|_| ()));
        random_error(Manifest::default().seal_with(&key, &OBJECT, broken));
        let (_, iv) = CellSealer::new(&key, STREAM).unwrap();
        let part = PartManifest {
            plain_len: 1,
            written_ms: 1,
            blob: 1,
            iv,
            md5: [0; 16],
            checksums: Vec::new(),
        };
        let place = PartContext {
            upload: UPLOAD,
            number: 1,
        };
        random_error(part.seal_with(&key, &place, broken));
        let listed = ListingContext {
            key: b"key",
            version: [2; 16],
            plain_len: 1,
        };
        random_error(ring.listing(1).seal(listed, &ListingEntry::default()));
        let credential = Credential {
            secret: AccessSecret::new("secret".into()),
            account: 1,
            enabled: true,
            account_enabled: true,
            name: String::new(),
        };
        random_error(ring.credentials().seal("AK", &credential));
        random_error(
            ring.records()
                .seal_record(RecordKind::new("policy"), b"id", b"bytes"),
        );
    }
}

/// With the same bytes for key, IV and salt, a wrap would show the key it hides.
#[test]
fn attack_19_a_stuck_source_is_noticed() {
    let stuck: &'static dyn Entropy = &Stuck;
    let key = DataKey::generate_with(stuck).unwrap();
    random_error(ring().with_entropy(stuck).wrap(&key, &OBJECT));
    random_error(CellSealer::with_entropy(&key, STREAM, stuck).map(|_| ()));
    random_error(KeyRing::new_kek_with(
        &RootKey::generate().unwrap(),
        [1; 16],
        1,
        stuck,
    ));

    // Stuck only after the key was made: the first nonce repeats the IV's bytes.
    let key = DataKey::generate().unwrap();
    let (mut sealer, _) = CellSealer::with_entropy(&key, STREAM, stuck).unwrap();
    let mut out = Vec::new();
    random_error(sealer.seal(b"plaintext", true, &mut out));
    assert!(out.is_empty());
}

#[test]
fn attack_19_a_source_that_ends_in_mid_stream_ends_the_stream() {
    let ending: &'static dyn Entropy = Box::leak(Box::new(Ending(AtomicUsize::new(2))));
    let key = DataKey::generate().unwrap();
    let (mut sealer, _) = CellSealer::with_entropy(&key, STREAM, ending).unwrap();
    let cell = vec![1; crate::cell::PLAIN_CELL_LEN];
    let mut out = Vec::new();
    sealer.seal(&cell, false, &mut out).unwrap();
    let sealed = out.clone();
    random_error(sealer.seal(&cell, true, &mut out));
    assert_eq!(out, sealed, "a failed cell leaves nothing behind");
    assert!(matches!(
        sealer.seal(&cell, true, &mut out),
        Err(CryptoError::Misuse(_))
    ));
}
