//! The envelope of every sealed record (not of cells, which are FLOE: see [`crate::cell`]).
//!
//! Each record is sealed under a key of its own, derived from its parent with a fresh 256-bit salt:
//! no realistic number of records under one parent makes a nonce collision likely. The commitment
//! is checked before anything is decrypted, so no ciphertext opens under two keys.
//!
//! ```text
//!  0  1   suite: 1 = HKDF-SHA-256, AES-256-GCM
//!  1  4   key version, big-endian (the KEK's; 0 when the parent is no KEK)
//!  5  32  salt, random; its last 12 bytes are the GCM nonce
//! 37  32  commitment
//! 69  n   ciphertext
//!     16  GCM tag
//!
//! key (32) ‖ commitment (32) = HKDF-Expand(parent, "megalith/v1/record" ‖ bytes 0..37)
//! associated data            = bytes 0..5 ‖ label length (1) ‖ purpose label ‖ context
//! ```
//!
//! The plaintext of every kind begins with its own version byte.

use crate::context::Binding;
use crate::derive::{Purpose, Subkey};
use crate::entropy::{Entropy, draw};
use crate::error::CryptoError;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

/// The only suite so far. It is part of the derivation and of the associated data, so that a later
/// suite can't be exchanged for this one; that is never 2, which marks what a key service has
/// sealed.
pub(crate) const SUITE: u8 = 1;
const VERSION_AT: usize = 1;
const SALT_AT: usize = 5;
const COMMITMENT_AT: usize = 37;
const CIPHERTEXT_AT: usize = 69;
const TAG_LEN: usize = 16;
const NONCE_LEN: usize = 12;

/// How many bytes longer a sealed record is than its plaintext.
pub(crate) const SEALED_OVERHEAD: usize = CIPHERTEXT_AT + TAG_LEN;

/// The key version of records whose parent is not a KEK.
pub(crate) const NO_KEK: u32 = 0;

/// Seals `plaintext` under `key`, bound to `binding`.
pub(crate) fn seal<P: Purpose>(
    key: &Subkey<P>,
    key_version: u32,
    binding: &Binding,
    plaintext: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, CryptoError> {
    let salt = draw::<32>(entropy)?;
    let mut out = vec![0; SEALED_OVERHEAD + plaintext.len()];
    out[0] = SUITE;
    out[VERSION_AT..SALT_AT].copy_from_slice(&key_version.to_be_bytes());
    out[SALT_AT..COMMITMENT_AT].copy_from_slice(&salt[..]);
    let (header, body) = out.split_at_mut(CIPHERTEXT_AT);

    let keys = RecordKeys::derive(key, &header[..COMMITMENT_AT])?;
    header[COMMITMENT_AT..].copy_from_slice(keys.commitment());
    keys.cipher()?
        .seal_in_place_scatter(
            nonce(header)?,
            Aad::from(associated_data::<P>(header, binding)),
            &mut [],
            plaintext,
            body,
        )
        .map_err(|_| CryptoError::Misuse("record too long for the cipher"))?;
    Ok(out)
}

/// Opens a record of at most `sealed_max` bytes; `keys` finds the parent by its version.
///
/// Checks the length, the commitment and the tag, in this order, before it returns anything.
pub(crate) fn open<'k, P: Purpose + 'k>(
    keys: impl FnOnce(u32) -> Option<&'k Subkey<P>>,
    binding: &Binding,
    sealed: &[u8],
    sealed_max: usize,
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    if sealed.len() < SEALED_OVERHEAD || sealed.len() > sealed_max || sealed[0] != SUITE {
        return Err(CryptoError::Unauthentic);
    }
    let (header, body) = sealed.split_at(CIPHERTEXT_AT);
    let key = key_version(sealed)
        .and_then(keys)
        .ok_or(CryptoError::Unauthentic)?;
    let record = RecordKeys::derive(key, &header[..COMMITMENT_AT])?;
    verify_slices_are_equal(record.commitment(), &header[COMMITMENT_AT..])
        .map_err(|_| CryptoError::Unauthentic)?;

    let (ciphertext, tag) = body.split_at(body.len() - TAG_LEN);
    let mut plaintext = Zeroizing::new(vec![0; ciphertext.len()]);
    record
        .cipher()?
        .open_separate_gather(
            nonce(header)?,
            Aad::from(associated_data::<P>(header, binding)),
            ciphertext,
            tag,
            &mut plaintext,
        )
        .map_err(|_| CryptoError::Unauthentic)?;
    Ok(plaintext)
}

/// Opens a record of at most `sealed_max` bytes and seals the same plaintext under the version
/// `newest`. What comes out has been opened again: the old record is about to be overwritten.
pub(crate) fn reseal<'k, P: Purpose + 'k>(
    keys: impl Fn(u32) -> Option<&'k Subkey<P>>,
    newest: u32,
    binding: &Binding,
    sealed: &[u8],
    sealed_max: usize,
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, CryptoError> {
    let body = open(&keys, binding, sealed, sealed_max)?;
    let key = keys(newest).ok_or(CryptoError::Misuse("no key of that version"))?;
    let new = seal(key, newest, binding, &body, entropy)?;
    let again = open(&keys, binding, &new, sealed_max)?;
    match verify_slices_are_equal(&again, &body) {
        Ok(()) => Ok(new),
        Err(_) => Err(CryptoError::Misuse(
            "a record sealed again opens as another",
        )),
    }
}

/// Returns the key version that a record claims; not authenticated.
pub(crate) fn key_version(sealed: &[u8]) -> Option<u32> {
    let bytes = sealed.get(VERSION_AT..SALT_AT)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// Returns the salt of a record just sealed.
pub(crate) fn salt(sealed: &[u8]) -> &[u8] {
    &sealed[SALT_AT..COMMITMENT_AT]
}

/// The key and the commitment of one record.
struct RecordKeys(Zeroizing<[u8; 64]>);

impl RecordKeys {
    fn derive<P: Purpose>(key: &Subkey<P>, salted: &[u8]) -> Result<Self, CryptoError> {
        let mut material = Zeroizing::new([0; 64]);
        key.expand(&[b"megalith/v1/record", salted], &mut material[..])?;
        Ok(Self(material))
    }

    fn commitment(&self) -> &[u8] {
        &self.0[32..]
    }

    fn cipher(&self) -> Result<LessSafeKey, CryptoError> {
        let key = UnboundKey::new(&AES_256_GCM, &self.0[..32]);
        key.map(LessSafeKey::new)
            .map_err(|_| CryptoError::Unauthentic)
    }
}

fn nonce(header: &[u8]) -> Result<Nonce, CryptoError> {
    Nonce::try_assume_unique_for_key(&header[COMMITMENT_AT - NONCE_LEN..COMMITMENT_AT])
        .map_err(|_| CryptoError::Unauthentic)
}

fn associated_data<P: Purpose>(header: &[u8], binding: &Binding) -> Vec<u8> {
    let mut data = Vec::with_capacity(SALT_AT + 1 + P::LABEL.len() + binding.as_bytes().len());
    data.extend_from_slice(&header[..SALT_AT]);
    data.push(P::LABEL.len() as u8);
    data.extend_from_slice(P::LABEL);
    data.extend_from_slice(binding.as_bytes());
    data
}

/// Shows the collision test the inside of a record.
#[cfg(test)]
pub(crate) mod exposed {
    use super::*;

    pub(crate) struct Exposed {
        pub key: [u8; 32],
        pub commitment: [u8; 32],
        pub nonce: [u8; 12],
        pub aad: Vec<u8>,
        pub header: [u8; COMMITMENT_AT],
    }

    /// Returns what a record sealed with this salt would be encrypted with.
    pub(crate) fn expose<P: Purpose>(
        key: &Subkey<P>,
        key_version: u32,
        binding: &Binding,
        salt: [u8; 32],
    ) -> Exposed {
        let mut header = [0; COMMITMENT_AT];
        header[0] = SUITE;
        header[VERSION_AT..SALT_AT].copy_from_slice(&key_version.to_be_bytes());
        header[SALT_AT..].copy_from_slice(&salt);
        let keys = RecordKeys::derive(key, &header).unwrap();
        Exposed {
            key: keys.0[..32].try_into().unwrap(),
            commitment: keys.commitment().try_into().unwrap(),
            nonce: salt[20..].try_into().unwrap(),
            aad: associated_data::<P>(&header, binding),
            header,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::Records;
    use crate::entropy::SYSTEM;

    #[test]
    fn attack_30_the_bound_is_checked_before_anything_else() {
        let key = Subkey::<Records>::of_key(&[7; 32]);
        let binding = Binding::new("test");
        let sealed = seal(&key, 1, &binding, &[5; 100], &SYSTEM).unwrap();
        assert_eq!(sealed.len(), SEALED_OVERHEAD + 100);
        let opened = open(|_| Some(&key), &binding, &sealed, sealed.len()).unwrap();
        assert_eq!(*opened, [5; 100]);
        let find = |_| -> Option<&Subkey<Records>> { panic!("no key is looked up for it") };
        let refused = open(find, &binding, &sealed, sealed.len() - 1);
        assert_eq!(refused.unwrap_err(), CryptoError::Unauthentic);
        let refused = open(find, &binding, &sealed[..SEALED_OVERHEAD - 1], 1024);
        assert_eq!(refused.unwrap_err(), CryptoError::Unauthentic);
    }

    #[test]
    fn an_empty_record_is_sealed_too() {
        let key = Subkey::<Records>::of_key(&[7; 32]);
        let binding = Binding::new("test");
        let mut sealed = seal(&key, 1, &binding, &[], &SYSTEM).unwrap();
        assert!(
            open(|_| Some(&key), &binding, &sealed, 1024)
                .unwrap()
                .is_empty()
        );
        sealed[SEALED_OVERHEAD - 1] ^= 1;
        assert!(open(|_| Some(&key), &binding, &sealed, 1024).is_err());
    }
}
