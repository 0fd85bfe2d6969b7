//! Access keys and other records that gateways trust: sealed under a KEK.
//!
//! Whoever can write the metadata must not be able to make an access key, change its owner, or edit
//! a policy. Each record is bound to its own id, so it can't be put in another's place. An older
//! record of the same id still opens: the metadata group guarantees freshness.
//!
//! ```text
//! credential plaintext = 1 version = 1 ‖ postcard: secret text ‖ account varint
//!                        ‖ enabled (1 byte) ‖ name text
//!   of a disabled account: version = 2; the same
//!   key = HKDF(KEK, "credential")   bound to   id length (4) ‖ access key id
//! record plaintext     = 1 version = 1 ‖ the caller's bytes
//!   key = HKDF(KEK, "record")       bound to   kind length (4) ‖ kind ‖ id length (4) ‖ id
//! ```
//! The envelope around both is drawn in `sealed.rs`.

use crate::context::Binding;
use crate::encode::{decode, encode};
use crate::error::CryptoError;
use crate::keys::KeyRing;
use crate::sealed::SEALED_OVERHEAD;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// Longest access key id in bytes.
pub const ACCESS_KEY_ID_BYTES_MAX: usize = 128;
/// Longest secret and longest name of an access key in bytes.
pub const CREDENTIAL_TEXT_BYTES_MAX: usize = 256;
/// Longest sealed credential in bytes.
pub const SEALED_CREDENTIAL_MAX: usize = 1024;
/// Longest id of a record in bytes.
pub const RECORD_ID_BYTES_MAX: usize = 1024;
/// Longest record in bytes, before sealing.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

const CREDENTIAL_BODY: u8 = 1;
const CREDENTIAL_BODY_OF_DISABLED: u8 = 2;
const RECORD_BODY: u8 = 1;

/// An access key's secret. Prints nothing, is wiped, compares in constant time.
#[derive(Clone)]
pub struct AccessSecret(Zeroizing<String>);

impl AccessSecret {
    /// Takes a secret's text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Returns the text, to derive a signing key from or to show its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessSecret(secret)")
    }
}

impl PartialEq for AccessSecret {
    /// Compares in constant time, except for the length.
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl Eq for AccessSecret {}

/// An access key: its secret and what it may be used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The secret that requests are signed with.
    pub secret: AccessSecret,
    /// The account it acts for.
    pub account: u64,
    /// Whether it is accepted, if its account is.
    pub enabled: bool,
    /// Whether its account is accepted: who can write metadata must not be able to enable it.
    pub account_enabled: bool,
    /// The name that its owner gave it.
    pub name: String,
}

#[derive(Serialize, Deserialize)]
struct CredentialBody<'a> {
    secret: &'a str,
    account: u64,
    enabled: bool,
    name: &'a str,
}

/// Seals and opens access keys.
pub struct CredentialSealer(KeyRing);

impl CredentialSealer {
    pub(crate) fn new(ring: KeyRing) -> Self {
        Self(ring)
    }

    /// Seals a credential for its access key id.
    ///
    /// # Errors
    /// [`CryptoError::Random`]; [`CryptoError::TooLarge`] beyond the limits of this module.
    pub fn seal(&self, id: &str, credential: &Credential) -> Result<Vec<u8>, CryptoError> {
        let max = CREDENTIAL_TEXT_BYTES_MAX;
        if credential.secret.expose().len() > max || credential.name.len() > max {
            return Err(CryptoError::TooLarge {
                what: "secret or name",
                max,
            });
        }
        let body = CredentialBody {
            secret: credential.secret.expose(),
            account: credential.account,
            enabled: credential.enabled,
            name: &credential.name,
        };
        let version = if credential.account_enabled {
            CREDENTIAL_BODY
        } else {
            CREDENTIAL_BODY_OF_DISABLED
        };
        self.0
            .seal_credential(&credential_binding(id)?, &encode(version, &body)?)
    }

    /// Opens the credential of an access key id.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`].
    pub fn open(&self, id: &str, sealed: &[u8]) -> Result<Credential, CryptoError> {
        let binding = credential_binding(id).map_err(|_| CryptoError::Unauthentic)?;
        let bytes = self
            .0
            .open_credential(&binding, sealed, SEALED_CREDENTIAL_MAX)?;
        let account_enabled = bytes.first() != Some(&CREDENTIAL_BODY_OF_DISABLED);
        let version = if account_enabled {
            CREDENTIAL_BODY
        } else {
            CREDENTIAL_BODY_OF_DISABLED
        };
        let body: CredentialBody<'_> = decode(version, &bytes)?;
        Ok(Credential {
            secret: AccessSecret::new(body.secret.to_owned()),
            account: body.account,
            enabled: body.enabled,
            account_enabled,
            name: body.name.to_owned(),
        })
    }

    /// Seals the credential of an access key id again, under the newest KEK.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`] if it doesn't open; [`CryptoError::Random`].
    pub fn reseal(&self, id: &str, sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let binding = credential_binding(id).map_err(|_| CryptoError::Unauthentic)?;
        let max = SEALED_CREDENTIAL_MAX;
        self.0.reseal_credential(&binding, sealed, max)
    }
}

/// A kind of record, by a fixed short name such as `policy`. A name is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordKind(&'static str);

impl RecordKind {
    /// Names a kind, with 1 to 32 bytes.
    ///
    /// # Panics
    /// For any other length. Meant for constants; there a panic stops the build.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(
            !name.is_empty() && name.len() <= 32,
            "a record kind has 1 to 32 bytes"
        );
        Self(name)
    }
}

/// Seals and opens records of any kind (accounts, policies, bucket settings).
pub struct RecordSealer(KeyRing);

impl RecordSealer {
    pub(crate) fn new(ring: KeyRing) -> Self {
        Self(ring)
    }

    /// Seals `bytes` as the record of `kind` with this id.
    ///
    /// # Errors
    /// [`CryptoError::Random`]; [`CryptoError::TooLarge`] beyond the limits of this module.
    pub fn seal_record(
        &self,
        kind: RecordKind,
        id: &[u8],
        bytes: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(CryptoError::TooLarge {
                what: "record",
                max: RECORD_BYTES_MAX,
            });
        }
        let mut body = Zeroizing::new(Vec::with_capacity(1 + bytes.len()));
        body.push(RECORD_BODY);
        body.extend_from_slice(bytes);
        self.0.seal_record(&record_binding(kind, id)?, &body)
    }

    /// Opens the record of `kind` with this id.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`].
    pub fn open_record(
        &self,
        kind: RecordKind,
        id: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let binding = record_binding(kind, id).map_err(|_| CryptoError::Unauthentic)?;
        let sealed_max = SEALED_OVERHEAD + 1 + RECORD_BYTES_MAX;
        let mut body = self.0.open_record(&binding, sealed, sealed_max)?;
        if body.first() != Some(&RECORD_BODY) {
            return Err(CryptoError::Unauthentic);
        }
        body.remove(0);
        Ok(body)
    }

    /// Seals the record of `kind` with this id again, under the newest KEK.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`] if it doesn't open; [`CryptoError::Random`].
    pub fn reseal_record(
        &self,
        kind: RecordKind,
        id: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let binding = record_binding(kind, id).map_err(|_| CryptoError::Unauthentic)?;
        let max = SEALED_OVERHEAD + 1 + RECORD_BYTES_MAX;
        self.0.reseal_record(&binding, sealed, max)
    }
}

fn credential_binding(id: &str) -> Result<Binding, CryptoError> {
    let max = ACCESS_KEY_ID_BYTES_MAX;
    Binding::new("credential").variable("access key id", id.as_bytes(), max)
}

fn record_binding(kind: RecordKind, id: &[u8]) -> Result<Binding, CryptoError> {
    Binding::new("record")
        .variable("record kind", kind.0.as_bytes(), 32)?
        .variable("record id", id, RECORD_ID_BYTES_MAX)
}
