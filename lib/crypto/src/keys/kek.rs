//! A key-encryption key outside of its seal, and the forms in which a root seals it.
//!
//! Owns both plaintexts of a sealed KEK, and the first byte that says what sealed one. A key
//! service's ciphertext is opaque here: who calls the service hands the body in and out.

use super::{IdKey, KEY_LEN, RootKey};
use crate::context::Binding;
use crate::derive::{KekSeal, Subkey};
use crate::entropy::{Entropy, SYSTEM, draw};
use crate::error::CryptoError;
use crate::sealed::{self, NO_KEK, SEALED_OVERHEAD};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use std::fmt;
use zeroize::Zeroizing;

/// Length in bytes of a KEK sealed under the root key whose key of ids it carries.
pub const SEALED_KEK_LEN: usize = SEALED_OVERHEAD + 1 + KEY_LEN;
/// Length in bytes of a KEK sealed under another root key.
pub const SEALED_KEK_LEN_MAX: usize = SEALED_OVERHEAD + KEK_BODY_LEN;
/// Length in bytes of a KEK's whole body, which a key service encrypts.
pub const KEK_BODY_LEN: usize = 1 + 16 + 4 + KEY_LEN + KEY_LEN;

/// First byte of what a root key has sealed: the envelope's suite.
const BY_ROOT_KEY: u8 = sealed::SUITE;
/// First byte of what a key service has sealed. No suite of the envelope is ever numbered so.
const BY_SERVICE: u8 = 2;

const BARE_BODY: u8 = 1;
const WHOLE_BODY: u8 = 2;

/// What has sealed a KEK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedBy {
    /// A root key that the process holds.
    RootKey,
    /// A key that never leaves its service.
    Service,
}

impl SealedBy {
    /// Tells by the first byte what has sealed a KEK; None for what nothing of ours has.
    #[must_use]
    pub fn read(sealed: &[u8]) -> Option<Self> {
        match *sealed.first()? {
            BY_ROOT_KEY => Some(Self::RootKey),
            BY_SERVICE => Some(Self::Service),
            _ => None,
        }
    }
}

/// Marks the ciphertext of a key service as one.
#[must_use]
pub fn of_service(ciphertext: &str) -> Vec<u8> {
    [&[BY_SERVICE], ciphertext.as_bytes()].concat()
}

/// Returns the ciphertext of a key service in a sealed KEK; None if another has sealed it.
#[must_use]
pub fn service_ciphertext(sealed: &[u8]) -> Option<&str> {
    let text = sealed.strip_prefix(&[BY_SERVICE])?;
    std::str::from_utf8(text).ok()
}

/// An opened key-encryption key, with the key of access key ids that every KEK of its cluster
/// carries. Shows nothing of itself, and is wiped on drop.
pub struct OpenedKek {
    /// From 1.
    version: u32,
    key: Zeroizing<[u8; KEY_LEN]>,
    ids: IdKey,
}

impl OpenedKek {
    /// Makes a new KEK that carries the cluster's key of ids.
    ///
    /// # Errors
    /// [`CryptoError::Random`]; [`CryptoError::Misuse`] for version 0, which is not a version.
    pub fn generate(version: u32, ids: IdKey) -> Result<Self, CryptoError> {
        Self::generate_with(version, ids, &SYSTEM)
    }

    /// Makes a new KEK with randomness from `entropy`.
    ///
    /// # Errors
    /// As [`OpenedKek::generate`].
    pub fn generate_with(
        version: u32,
        ids: IdKey,
        entropy: &dyn Entropy,
    ) -> Result<Self, CryptoError> {
        if version == NO_KEK {
            return Err(CryptoError::Misuse("KEK versions begin at 1"));
        }
        let key = draw(entropy)?;
        Ok(Self { version, key, ids })
    }

    /// Returns the version, from 1.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the key of access key ids.
    #[must_use]
    pub fn ids(&self) -> &IdKey {
        &self.ids
    }

    pub(super) fn key(&self) -> &[u8; KEY_LEN] {
        &self.key
    }

    /// Returns the whole body, for a key service to encrypt: it says itself whose it is, because
    /// not every call of such a service carries data to be authenticated beside.
    #[must_use]
    pub fn to_body(&self, cluster: [u8; 16]) -> Zeroizing<[u8; KEK_BODY_LEN]> {
        let mut body = Zeroizing::new([WHOLE_BODY; KEK_BODY_LEN]);
        let (head, keys) = body[1..].split_at_mut(20);
        head[..16].copy_from_slice(&cluster);
        head[16..].copy_from_slice(&self.version.to_be_bytes());
        keys[..KEY_LEN].copy_from_slice(&self.key[..]);
        keys[KEY_LEN..].copy_from_slice(&self.ids.0[..]);
        body
    }

    /// Reads a whole body that a key service has decrypted.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`] if it is not that of this cluster and version.
    pub fn from_body(cluster: [u8; 16], version: u32, body: &[u8]) -> Result<Self, CryptoError> {
        let expected = [&[WHOLE_BODY][..], &cluster, &version.to_be_bytes()].concat();
        let keys = body.strip_prefix(expected.as_slice());
        let keys = keys.ok_or(CryptoError::Unauthentic)?;
        if keys.len() != 2 * KEY_LEN || version == NO_KEK {
            return Err(CryptoError::Unauthentic);
        }
        let (key, ids) = keys.split_at(KEY_LEN);
        Ok(Self {
            version,
            key: copied(key)?,
            ids: IdKey(copied(ids)?),
        })
    }
}

impl fmt::Debug for OpenedKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedKek")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl PartialEq for OpenedKek {
    /// Compares keys in constant time.
    fn eq(&self, other: &Self) -> bool {
        let same = verify_slices_are_equal(&self.key[..], &other.key[..]).is_ok();
        (self.version == other.version) & same & (self.ids == other.ids)
    }
}

impl Eq for OpenedKek {}

impl RootKey {
    /// Seals a KEK. One that carries the root key's own key of ids is sealed without it, as every
    /// program so far reads it.
    ///
    /// # Errors
    /// [`CryptoError::Random`].
    pub fn seal_kek(&self, cluster: [u8; 16], kek: &OpenedKek) -> Result<Vec<u8>, CryptoError> {
        self.seal_kek_with(cluster, kek, &SYSTEM)
    }

    /// Seals a KEK with randomness from `entropy`.
    ///
    /// # Errors
    /// As [`RootKey::seal_kek`].
    pub fn seal_kek_with(
        &self,
        cluster: [u8; 16],
        kek: &OpenedKek,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, CryptoError> {
        let key = Subkey::<KekSeal>::of_key(&self.0);
        let binding = binding(cluster, kek.version);
        let sealed = if kek.ids == self.id_key() {
            let mut bare = Zeroizing::new([BARE_BODY; 1 + KEY_LEN]);
            bare[1..].copy_from_slice(&kek.key[..]);
            sealed::seal(&key, NO_KEK, &binding, &bare[..], entropy)?
        } else {
            let whole = kek.to_body(cluster);
            sealed::seal(&key, NO_KEK, &binding, &whole[..], entropy)?
        };
        super::ring::refuse_visible_key(&kek.key, &sealed)?;
        Ok(sealed)
    }

    /// Opens a KEK.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`] if it is not what this root key sealed for this cluster and
    /// version.
    pub fn open_kek(
        &self,
        cluster: [u8; 16],
        version: u32,
        sealed: &[u8],
    ) -> Result<OpenedKek, CryptoError> {
        let key = Subkey::<KekSeal>::of_key(&self.0);
        let find = |claimed| (claimed == NO_KEK && version != NO_KEK).then_some(&key);
        let binding = binding(cluster, version);
        let body = sealed::open(find, &binding, sealed, SEALED_KEK_LEN_MAX)?;
        match body.first() {
            Some(&BARE_BODY) => Ok(OpenedKek {
                version,
                key: copied(&body[1..])?,
                ids: self.id_key(),
            }),
            Some(_) | None => OpenedKek::from_body(cluster, version, &body),
        }
    }
}

fn binding(cluster: [u8; 16], version: u32) -> Binding {
    Binding::new("kek")
        .fixed(&cluster)
        .fixed(&version.to_be_bytes())
}

fn copied(key: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, CryptoError> {
    let key: &[u8; KEY_LEN] = key.try_into().map_err(|_| CryptoError::Unauthentic)?;
    Ok(Zeroizing::new(*key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IdForm, KeyIds, KeyRing};

    const CLUSTER: [u8; 16] = [1; 16];

    fn root() -> RootKey {
        RootKey::generate().unwrap()
    }

    #[test]
    fn a_kek_under_its_own_root_key_has_the_form_of_before() {
        let root = root();
        let kek = OpenedKek::generate(3, root.id_key()).unwrap();
        let sealed = root.seal_kek(CLUSTER, &kek).unwrap();
        assert_eq!(sealed.len(), SEALED_KEK_LEN);
        assert_eq!(SealedBy::read(&sealed), Some(SealedBy::RootKey));
        assert_eq!(root.open_kek(CLUSTER, 3, &sealed).unwrap(), kek);
        KeyRing::open(&root, CLUSTER, &[(3, &sealed)]).unwrap();
    }

    /// Ids that were given out go on working under another root.
    #[test]
    fn a_kek_takes_the_key_of_ids_with_it_to_another_root_key() {
        let (first, second) = (root(), root());
        let kek = OpenedKek::generate(1, first.id_key()).unwrap();
        let id = KeyIds::of_key(kek.ids(), CLUSTER).make(&[7; 13]);
        let sealed = second.seal_kek(CLUSTER, &kek).unwrap();
        assert_eq!(sealed.len(), SEALED_KEK_LEN_MAX);
        let opened = second.open_kek(CLUSTER, 1, &sealed).unwrap();
        assert_eq!(opened, kek);
        let ids = KeyIds::of_key(opened.ids(), CLUSTER);
        assert_eq!(ids.judge(&id), IdForm::Made);
        assert!(first.open_kek(CLUSTER, 1, &sealed).is_err());
    }

    #[test]
    fn a_body_is_that_of_one_cluster_and_version() {
        let kek = OpenedKek::generate(5, IdKey::generate().unwrap()).unwrap();
        let body = kek.to_body(CLUSTER);
        assert_eq!(OpenedKek::from_body(CLUSTER, 5, &body[..]).unwrap(), kek);
        let refused = |cluster, version, body: &[u8]| {
            let error = OpenedKek::from_body(cluster, version, body).unwrap_err();
            assert_eq!(error, CryptoError::Unauthentic);
        };
        refused([2; 16], 5, &body[..]);
        refused(CLUSTER, 6, &body[..]);
        refused(CLUSTER, 5, &body[..KEK_BODY_LEN - 1]);
        refused(CLUSTER, 5, &[&body[..], &[0]].concat());
        refused(CLUSTER, 5, &[]);
        for at in 0..21 {
            let mut changed = body.to_vec();
            changed[at] ^= 1;
            refused(CLUSTER, 5, &changed);
        }
    }

    #[test]
    fn the_first_byte_says_what_sealed_a_kek() {
        let sealed = of_service("vault:v1:AAAA");
        assert_eq!(SealedBy::read(&sealed), Some(SealedBy::Service));
        assert_eq!(service_ciphertext(&sealed), Some("vault:v1:AAAA"));
        assert_eq!(SealedBy::read(&[]), None);
        assert_eq!(SealedBy::read(&[3, 1]), None);
        assert_eq!(service_ciphertext(&[1, 65]), None);
        assert_eq!(service_ciphertext(&[2, 0xff]), None);
    }
}
