//! What a list row shows of an object, sealed for its bucket.
//!
//! A LIST opens a thousand of these, so their key depends on the bucket and not on the object's
//! data key: one [`ListingSealer`] for each bucket, kept in memory, opens rows without unwrapping
//! anything. The row's name, times and length are in the metadata and not repeated here: the record
//! is bound to them. The ETag of an object is here only: a GET opens this record, too.
//!
//! ```text
//! plaintext = 1 version = 1 ‖ postcard of ListingEntry, fields in their order:
//!             etag ‖ checksum_algorithms list ‖ checksum_type option of enum
//!             ‖ storage_class; the ETag as its kind (0: MD5, 1: MD5 of parts, 2: text) and then
//!             16 bytes, 16 bytes and a count, or text; algorithms and class as `texts.rs` stores
//!             them
//! key       = HKDF(HKDF(KEK, "listing"), "listing-bucket" ‖ bucket (8))
//! bound to    bucket (8) ‖ version (16) ‖ key length (4) ‖ key ‖ plaintext length (8)
//! ```
//! The envelope around it is drawn in `sealed.rs`.

use crate::context::{Binding, OBJECT_KEY_BYTES_MAX};
use crate::derive::{ListingBucket, Subkey};
use crate::encode::{decode, encode};
use crate::entropy::Entropy;
use crate::error::CryptoError;
use crate::etag;
use crate::manifest::ChecksumType;
use crate::sealed;
use crate::texts::{Algorithm, StorageClass};
use serde::{Deserialize, Serialize};

/// Longest sealed row in bytes.
pub const SEALED_LISTING_MAX: usize = 4096;

const BODY: u8 = 1;

/// What LIST says of one object version, besides its name, time and length.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct ListingEntry {
    /// The ETag without quotes.
    pub etag: String,
    /// Names of the checksum algorithms that the object has, as S3 writes them.
    pub checksum_algorithms: Vec<String>,
    /// What those checksums cover; None without a checksum.
    pub checksum_type: Option<ChecksumType>,
    /// The storage class, as S3 writes it.
    pub storage_class: String,
}

/// How an entry is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "etag")]
    etag: String,
    checksum_algorithms: Vec<Algorithm>,
    checksum_type: Option<ChecksumType>,
    storage_class: StorageClass,
}

impl From<ListingEntry> for Stored {
    fn from(entry: ListingEntry) -> Self {
        let algorithms = entry.checksum_algorithms.into_iter();
        Self {
            etag: entry.etag,
            checksum_algorithms: algorithms.map(Algorithm::from).collect(),
            checksum_type: entry.checksum_type,
            storage_class: entry.storage_class.into(),
        }
    }
}

impl From<Stored> for ListingEntry {
    fn from(stored: Stored) -> Self {
        let algorithms = stored.checksum_algorithms.into_iter();
        Self {
            etag: stored.etag,
            checksum_algorithms: algorithms.map(String::from).collect(),
            checksum_type: stored.checksum_type,
            storage_class: stored.storage_class.into(),
        }
    }
}

/// The object version that a row is of: what it is bound to, besides its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListingContext<'a> {
    pub key: &'a [u8],
    pub version: [u8; 16],
    /// Plaintext length in bytes.
    pub plain_len: u64,
}

/// Seals and opens the list rows of one bucket.
pub struct ListingSealer {
    bucket: u64,
    /// Ascending by KEK version, never empty.
    keys: Vec<(u32, Subkey<ListingBucket>)>,
    entropy: &'static dyn Entropy,
}

impl ListingSealer {
    pub(crate) fn new(
        bucket: u64,
        keys: Vec<(u32, Subkey<ListingBucket>)>,
        entropy: &'static dyn Entropy,
    ) -> Self {
        Self {
            bucket,
            keys,
            entropy,
        }
    }

    /// Seals the row of one object version.
    ///
    /// # Errors
    /// [`CryptoError::Random`]; [`CryptoError::TooLarge`] for a row over [`SEALED_LISTING_MAX`].
    pub fn seal(
        &self,
        object: ListingContext<'_>,
        entry: &ListingEntry,
    ) -> Result<Vec<u8>, CryptoError> {
        let body = encode(BODY, entry)?;
        if body.len() + sealed::SEALED_OVERHEAD > SEALED_LISTING_MAX {
            return Err(CryptoError::TooLarge {
                what: "list row",
                max: SEALED_LISTING_MAX,
            });
        }
        let (kek_version, subkey) = self.keys.last().expect("a ring is never empty");
        sealed::seal(
            subkey,
            *kek_version,
            &self.binding(object)?,
            &body,
            self.entropy,
        )
    }

    /// Opens the row of one object version.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`].
    pub fn open(
        &self,
        object: ListingContext<'_>,
        sealed: &[u8],
    ) -> Result<ListingEntry, CryptoError> {
        let binding = self.binding(object).map_err(|_| CryptoError::Unauthentic)?;
        let find = |version| self.find(version);
        let body = sealed::open(find, &binding, sealed, SEALED_LISTING_MAX)?;
        decode(BODY, &body)
    }

    /// Seals the row of one object version again, under the newest KEK.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`] if it doesn't open; [`CryptoError::Random`].
    pub fn reseal(
        &self,
        object: ListingContext<'_>,
        sealed: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let binding = self.binding(object).map_err(|_| CryptoError::Unauthentic)?;
        let (newest, _) = self.keys.last().expect("a ring is never empty");
        let (find, max) = (|version| self.find(version), SEALED_LISTING_MAX);
        sealed::reseal(find, *newest, &binding, sealed, max, self.entropy)
    }

    fn find(&self, version: u32) -> Option<&Subkey<ListingBucket>> {
        let at = self
            .keys
            .binary_search_by_key(&version, |(version, _)| *version)
            .ok()?;
        self.keys.get(at).map(|(_, subkey)| subkey)
    }

    fn binding(&self, object: ListingContext<'_>) -> Result<Binding, CryptoError> {
        Ok(Binding::new("listing")
            .fixed(&self.bucket.to_be_bytes())
            .fixed(&object.version)
            .variable("object key", object.key, OBJECT_KEY_BYTES_MAX)?
            .fixed(&object.plain_len.to_be_bytes()))
    }
}
