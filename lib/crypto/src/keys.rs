//! The key hierarchy: root key, versions of key-encryption keys, data keys and their wraps.
//!
//! Owns which key wraps which, and with what context. Must never show a key's bytes except to write
//! a new root key to its file and to hand a KEK to a key service, nor use the root key for anything
//! but sealing KEKs and checking ids.
//!
//! Layouts of the sealed plaintexts (the envelope is drawn in `sealed.rs`, overhead 85 bytes):
//!
//! ```text
//! sealed KEK   1 version = 1 ‖ 32 key                       bound to cluster, KEK version
//!              1 version = 2 ‖ 16 cluster ‖ 4 KEK version ‖ 32 key ‖ 32 key of ids    the same
//! wrapped key  1 version = 1 ‖ 32 key                       bound to the object or the upload
//! ```
//!
//! A key service has no envelope of ours. What it keeps of a KEK is `1 byte = 2 ‖ its ciphertext`,
//! and what it encrypts is the body of version 2, which names its cluster and its version itself.
//! The first byte tells both apart: an envelope begins with its suite, 1.
//!
//! One key can't stand in for another, nor one context for another:
//!
//! ```
//! # use megalith_crypto::{CellSealer, DataKey, StreamContext};
//! let key = DataKey::generate().unwrap();
//! CellSealer::new(&key, StreamContext { cluster: [1; 16], blob: 1, part: 0 }).unwrap();
//! ```
//! ```compile_fail,E0308
//! # use megalith_crypto::{CellSealer, RootKey, StreamContext};
//! let key = RootKey::generate().unwrap();
//! CellSealer::new(&key, StreamContext { cluster: [1; 16], blob: 1, part: 0 }).unwrap();
//! ```
//! ```compile_fail,E0308
//! # use megalith_crypto::{DataKey, KeyRing};
//! let key = DataKey::generate().unwrap();
//! KeyRing::new_kek(&key, [1; 16], 1).unwrap();
//! ```
//! ```compile_fail,E0308
//! # fn check(ring: &megalith_crypto::KeyRing, upload: &megalith_crypto::UploadContext<'_>) {
//! ring.unwrap(b"wrapped for an upload", upload).unwrap();
//! # }
//! ```
//! ```compile_fail,E0308
//! # use megalith_crypto::{CredentialSealer, KeyRing};
//! fn credentials(ring: &KeyRing) -> CredentialSealer {
//!     ring.listing(1)
//! }
//! ```
//! ```compile_fail,E0277
//! println!("{}", megalith_crypto::DataKey::generate().unwrap());
//! ```

pub mod kek;
mod reseal;
mod ring;

pub use kek::{OpenedKek, SEALED_KEK_LEN, SealedBy};
pub use ring::{KEK_VERSIONS_MAX, KeyRing, WRAPPED_KEY_LEN};

use crate::derive::{AccessKeyIds, Subkey};
use crate::entropy::{Entropy, SYSTEM, draw};
use crate::error::CryptoError;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use std::fmt;
use zeroize::Zeroizing;

const KEY_LEN: usize = 32;
const ROOT_TEXT_BYTES_MAX: usize = 256;

/// The key at the top, from a file or a key service. Seals KEKs, and makes ids checkable.
pub struct RootKey(Zeroizing<[u8; KEY_LEN]>);

impl RootKey {
    /// Makes a new random root key.
    ///
    /// # Errors
    /// [`CryptoError::Random`].
    pub fn generate() -> Result<Self, CryptoError> {
        Self::generate_with(&SYSTEM)
    }

    /// Makes a new root key with randomness from `entropy`.
    ///
    /// # Errors
    /// [`CryptoError::Random`].
    pub fn generate_with(entropy: &dyn Entropy) -> Result<Self, CryptoError> {
        draw(entropy).map(Self)
    }

    /// Reads a key file's text: 64 hexadecimal digits, or base64 of 32 bytes. White space around it
    /// is ignored. A key of one repeated byte is refused: it is an example left in place by
    /// mistake.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`], which reveals nothing of the text.
    pub fn parse(text: &str) -> Result<Self, CryptoError> {
        if text.len() > ROOT_TEXT_BYTES_MAX {
            return Err(CryptoError::InvalidKey);
        }
        let text = text.trim();
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let read = match text.len() {
            64 => hex::decode_to_slice(text, &mut key[..]).is_ok(),
            43 => STANDARD_NO_PAD.decode_slice(text, &mut key[..]) == Ok(KEY_LEN),
            44 => {
                // Room for the most that the padded text can hold.
                let mut wide = Zeroizing::new([0; KEY_LEN + 1]);
                let read = STANDARD.decode_slice(text, &mut wide[..]) == Ok(KEY_LEN);
                key.copy_from_slice(&wide[..KEY_LEN]);
                read
            }
            _ => false,
        };
        if !read || key.iter().all(|byte| *byte == key[0]) {
            return Err(CryptoError::InvalidKey);
        }
        Ok(Self(key))
    }

    /// Derives the key of access key ids ([`crate::KeyIds`]) of a cluster that begins with this
    /// root key.
    #[must_use]
    pub fn id_key(&self) -> IdKey {
        IdKey(Subkey::<AccessKeyIds>::bytes_of_key(&self.0))
    }

    /// Returns the text to write to a new key file: 64 hexadecimal digits and a line end.
    #[must_use]
    pub fn to_file_text(&self) -> Zeroizing<String> {
        let mut digits = Zeroizing::new([0; KEY_LEN * 2]);
        hex::encode_to_slice(&self.0[..], &mut digits[..]).expect("twice the key's length");
        let mut text = Zeroizing::new(String::with_capacity(digits.len() + 1));
        text.extend(digits.iter().map(|digit| char::from(*digit)));
        text.push('\n');
        text
    }
}

/// The key of access key ids: every KEK of a cluster carries it, so that it outlives them and the
/// root that sealed them.
#[derive(Clone)]
pub struct IdKey(Zeroizing<[u8; KEY_LEN]>);

impl IdKey {
    /// Makes a new random key, for a new cluster that has no root key to derive it from.
    ///
    /// # Errors
    /// [`CryptoError::Random`].
    pub fn generate() -> Result<Self, CryptoError> {
        Self::generate_with(&SYSTEM)
    }

    /// Makes a new key with randomness from `entropy`.
    ///
    /// # Errors
    /// [`CryptoError::Random`].
    pub fn generate_with(entropy: &dyn Entropy) -> Result<Self, CryptoError> {
        draw(entropy).map(Self)
    }

    pub(crate) fn subkey(&self) -> Subkey<AccessKeyIds> {
        Subkey::of_bytes(&self.0)
    }
}

/// A data key: one for each object version or multipart upload, never used for another.
pub struct DataKey(Zeroizing<[u8; KEY_LEN]>);

impl DataKey {
    /// Makes a new random data key.
    ///
    /// # Errors
    /// [`CryptoError::Random`].
    pub fn generate() -> Result<Self, CryptoError> {
        Self::generate_with(&SYSTEM)
    }

    /// Makes a new data key with randomness from `entropy`.
    ///
    /// # Errors
    /// [`CryptoError::Random`].
    pub fn generate_with(entropy: &dyn Entropy) -> Result<Self, CryptoError> {
        draw(entropy).map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Compares with other key-sized bytes in constant time.
    pub(crate) fn same_bytes(&self, other: &[u8; KEY_LEN]) -> bool {
        verify_slices_are_equal(&self.0[..], other).is_ok()
    }
}

macro_rules! secret_key {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }

        impl PartialEq for $name {
            /// Compares in constant time.
            fn eq(&self, other: &Self) -> bool {
                verify_slices_are_equal(&self.0[..], &other.0[..]).is_ok()
            }
        }

        impl Eq for $name {}
    };
}

secret_key!(RootKey);
secret_key!(IdKey);
secret_key!(DataKey);

#[cfg(test)]
mod tests;
