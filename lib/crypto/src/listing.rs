//! What a list row shows of an object, sealed for its bucket.
//!
//! A LIST opens a thousand of these, so their key depends on the bucket and not on the object's
//! data key: one [`ListingSealer`] for each bucket, kept in memory, opens rows without unwrapping
//! anything. The row's name and times are in the metadata and not repeated here.
//!
//! ```text
//! plaintext = 1 version = 1 ‖ postcard of ListingEntry, fields in their order:
//!             plain_len varint ‖ etag text ‖ checksum_algorithms list of text
//!             ‖ checksum_type option of enum ‖ storage_class text
//! key       = HKDF(HKDF(KEK, "listing"), "listing-bucket" ‖ bucket (8))
//! bound to    bucket (8) ‖ version (16) ‖ key length (4) ‖ key
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
use serde::{Deserialize, Serialize};

/// Longest sealed row in bytes.
pub const SEALED_LISTING_MAX: usize = 4096;

const BODY: u8 = 1;

/// What LIST says of one object version, besides its name and time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListingEntry {
    /// Plaintext length in bytes.
    pub plain_len: u64,
    /// The ETag without quotes.
    #[serde(with = "etag")]
    pub etag: String,
    /// Names of the checksum algorithms that the object has, as S3 writes them.
    pub checksum_algorithms: Vec<String>,
    /// What those checksums cover; None without a checksum.
    pub checksum_type: Option<ChecksumType>,
    /// The storage class, as S3 writes it.
    pub storage_class: String,
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
        key: &[u8],
        version: [u8; 16],
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
            &self.binding(key, version)?,
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
        key: &[u8],
        version: [u8; 16],
        sealed: &[u8],
    ) -> Result<ListingEntry, CryptoError> {
        let binding = self
            .binding(key, version)
            .map_err(|_| CryptoError::Unauthentic)?;
        let find = |wanted| {
            let at = self
                .keys
                .binary_search_by_key(&wanted, |(version, _)| *version)
                .ok()?;
            self.keys.get(at).map(|(_, subkey)| subkey)
        };
        let body = sealed::open(find, &binding, sealed, SEALED_LISTING_MAX)?;
        decode(BODY, &body)
    }

    fn binding(&self, key: &[u8], version: [u8; 16]) -> Result<Binding, CryptoError> {
        Binding::new("listing")
            .fixed(&self.bucket.to_be_bytes())
            .fixed(&version)
            .variable("object key", key, OBJECT_KEY_BYTES_MAX)
    }
}
