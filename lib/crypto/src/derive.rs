//! Key derivation: HKDF-Expand-SHA-256 (RFC 5869) with one label per purpose.
//!
//! The purpose of a derived key is part of its type, so that a key made for one use can't be passed
//! for another. All labels are in this file; none is ever changed or reused.
//!
//! ```text
//! subkey  = HKDF-Expand(parent, "megalith/v1/" ‖ label length (1 byte) ‖ label ‖ context, 32)
//! ```
//!
//! SHA-256, because processors have instructions for it: a list row costs a third of what it costs
//! with SHA-512.

use crate::error::CryptoError;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use std::marker::PhantomData;
use zeroize::Zeroizing;

/// Length of a derived key from which other keys are derived; one SHA-256 output.
pub(crate) const SUBKEY_LEN: usize = 32;

/// What a key is for.
pub(crate) trait Purpose {
    /// Unique among all purposes; part of every stored format.
    const LABEL: &'static [u8];
}

macro_rules! purposes {
    ($($(#[$doc:meta])* $name:ident = $label:literal;)+) => {
        $($(#[$doc])* pub(crate) enum $name {}
        impl Purpose for $name {
            const LABEL: &'static [u8] = $label;
        })+

        #[cfg(test)]
        pub(crate) const ALL_LABELS: &[&[u8]] = &[$($label),+];
    };
}

purposes! {
    /// Root key: seals key-encryption keys.
    KekSeal = b"kek";
    /// Root key: checks of access key ids. KEKs carry it.
    AccessKeyIds = b"access-key-id";
    /// KEK: wraps the data keys of object versions.
    ObjectWrap = b"object-wrap";
    /// KEK: wraps the data keys of multipart uploads.
    UploadWrap = b"upload-wrap";
    /// KEK: parent of every bucket's listing key.
    ListingRoot = b"listing";
    /// Listing parent: seals the list rows of one bucket.
    ListingBucket = b"listing-bucket";
    /// KEK: seals access keys.
    Credentials = b"credential";
    /// KEK: seals other records that gateways must be able to trust.
    Records = b"record";
    /// Data key: parent of the cell streams.
    Stream = b"stream";
    /// Data key: seals the object's manifest.
    ManifestSeal = b"manifest";
    /// Data key of an upload: seals the manifests of its parts.
    PartSeal = b"part-manifest";
}

/// A derived key for the purpose `P`. Wiped on drop.
pub(crate) struct Subkey<P> {
    prk: Prk,
    purpose: PhantomData<fn() -> P>,
}

impl<P: Purpose> Subkey<P> {
    /// Derives the key for `P` from a uniformly random parent key.
    pub(crate) fn of_key(parent: &[u8; 32]) -> Self {
        Self::from_prk(&Prk::new_less_safe(HKDF_SHA256, parent), &[])
    }

    /// Derives the key for `P` from another derived key; `context` tells siblings apart.
    pub(crate) fn below<Q: Purpose>(parent: &Subkey<Q>, context: &[u8]) -> Self {
        Self::from_prk(&parent.prk, context)
    }

    /// Derives the bytes of the key for `P` from a parent key, for one that is stored beside what
    /// its parent seals.
    pub(crate) fn bytes_of_key(parent: &[u8; 32]) -> Zeroizing<[u8; SUBKEY_LEN]> {
        Self::bytes(&Prk::new_less_safe(HKDF_SHA256, parent), &[])
    }

    /// Takes the bytes of a key for `P`.
    pub(crate) fn of_bytes(key: &[u8; SUBKEY_LEN]) -> Self {
        Self {
            prk: Prk::new_less_safe(HKDF_SHA256, key),
            purpose: PhantomData,
        }
    }

    fn from_prk(parent: &Prk, context: &[u8]) -> Self {
        Self::of_bytes(&Self::bytes(parent, context))
    }

    fn bytes(parent: &Prk, context: &[u8]) -> Zeroizing<[u8; SUBKEY_LEN]> {
        let label_len = [P::LABEL.len() as u8];
        let mut key = Zeroizing::new([0; SUBKEY_LEN]);
        expand(
            parent,
            &[b"megalith/v1/", &label_len, P::LABEL, context],
            &mut key[..],
        )
        .expect("one SHA-256 block is within HKDF's output limit");
        key
    }

    /// Derives `out.len()` bytes (a few blocks at most) of key material for one use of this key.
    pub(crate) fn expand(&self, info: &[&[u8]], out: &mut [u8]) -> Result<(), CryptoError> {
        expand(&self.prk, info, out).map_err(|ExpandError| CryptoError::Unauthentic)
    }
}

/// HKDF refused the output length or failed inside the library.
#[derive(Debug)]
pub(crate) struct ExpandError;

/// HKDF-Expand of `parent` into `out`.
pub(crate) fn expand(parent: &Prk, info: &[&[u8]], out: &mut [u8]) -> Result<(), ExpandError> {
    let okm = parent
        .expand(info, OutputLen(out.len()))
        .map_err(|_| ExpandError)?;
    okm.fill(out).map_err(|_| ExpandError)
}

struct OutputLen(usize);

impl KeyType for OutputLen {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn fingerprint<P: Purpose>(key: &Subkey<P>) -> [u8; 32] {
        let mut out = [0; 32];
        key.expand(&[b"fingerprint"], &mut out).unwrap();
        out
    }

    /// Keys of different purposes differ although they share a parent, and labels are unique.
    #[test]
    fn attack_12_derived_keys_all_differ() {
        let parent = [7; 32];
        let all = [
            fingerprint(&Subkey::<KekSeal>::of_key(&parent)),
            fingerprint(&Subkey::<AccessKeyIds>::of_key(&parent)),
            fingerprint(&Subkey::<ObjectWrap>::of_key(&parent)),
            fingerprint(&Subkey::<UploadWrap>::of_key(&parent)),
            fingerprint(&Subkey::<ListingRoot>::of_key(&parent)),
            fingerprint(&Subkey::<ListingBucket>::of_key(&parent)),
            fingerprint(&Subkey::<Credentials>::of_key(&parent)),
            fingerprint(&Subkey::<Records>::of_key(&parent)),
            fingerprint(&Subkey::<Stream>::of_key(&parent)),
            fingerprint(&Subkey::<ManifestSeal>::of_key(&parent)),
            fingerprint(&Subkey::<PartSeal>::of_key(&parent)),
        ];
        assert_eq!(
            all.len(),
            ALL_LABELS.len(),
            "a purpose is missing from this test"
        );
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(
            ALL_LABELS.iter().collect::<BTreeSet<_>>().len(),
            ALL_LABELS.len()
        );
    }

    #[test]
    fn attack_12_sibling_contexts_give_other_keys() {
        let root = Subkey::<ListingRoot>::of_key(&[7; 32]);
        let first = Subkey::<ListingBucket>::below(&root, &1_u64.to_be_bytes());
        let second = Subkey::<ListingBucket>::below(&root, &2_u64.to_be_bytes());
        assert_ne!(fingerprint(&first), fingerprint(&second));
    }
}
