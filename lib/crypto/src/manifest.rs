//! The sealed manifest of an object version, and that of an uploaded part.
//!
//! A manifest says which blobs make up the object, in which order and how long they are. It also
//! holds what is shown of the object, but for its ETag, which stands in the list row beside it
//! ([`crate::listing`]): checksums, headers, user metadata, tags. It is sealed under the object's
//! data key, so whoever writes the store can edit none of it. The ETag, hashes,
//! headers and content type never stand in clear beside an object. Its key, its version (which
//! tells the time of writing) and its plaintext size do: rows keep them in clear for listings and
//! counters, and everything sealed is bound to them.
//!
//! ```text
//! manifest plaintext = 1 version = 1 ‖ postcard of Manifest, fields in their order
//!   key      = HKDF(data key, "manifest")
//!   bound to   cluster (16) ‖ bucket (8) ‖ version (16) ‖ key length (4) ‖ key ‖ total length (8)
//! part plaintext     = 1 version = 1 ‖ postcard of PartManifest, fields in their order
//!   key      = HKDF(upload's data key, "part-manifest")
//!   bound to   cluster (16) ‖ bucket (8) ‖ upload (16) ‖ key length (4) ‖ key ‖ part number (4)
//! postcard: integers of more than one byte as varints; text, bytes and lists with a varint count
//! before them; an option with one byte before it; a StreamIv as its 32 bytes; a Checksum as
//! `checksum.rs` draws it; headers as a list of those that are there (see `headers.rs`).
//! ```
//! Of a stream's header only the IV is kept. Its parameters are constants of the program, and its
//! tag would say only that key, IV, blob and part number belong together, which the manifest says:
//! whoever opens it has the one data key that its commitment fits, and reads the others from under
//! that key's authentication. A part's own key, too, stands in here.
//!
//! The envelope around both is drawn in `sealed.rs`. Adding a field needs a new version byte.
//!
//! Must never: release a field before the whole record has been authenticated, or seal what it
//! would refuse to open.

mod headers;

pub use headers::ContentHeaders;

use crate::cell::{PLAIN_BLOB_LEN_MAX, StreamIv};
use crate::context::{Binding, ObjectContext, PartContext};
use crate::derive::{ManifestSeal, PartSeal, Subkey};
use crate::encode::{decode, encode};
use crate::entropy::{Entropy, SYSTEM};
use crate::error::CryptoError;
use crate::keys::DataKey;
use crate::sealed::{self, NO_KEK, SEALED_OVERHEAD};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Most parts of an object.
pub const PARTS_MAX: usize = 10_000;
/// Most entries of user metadata, of tags, and of checksums.
pub const ENTRIES_MAX: usize = 256;
/// Longest text of any field in bytes.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Longest sealed manifest in bytes.
pub const SEALED_MANIFEST_MAX: usize = 4 * 1024 * 1024;
/// Longest sealed manifest of a part in bytes.
pub const SEALED_PART_MAX: usize = 16 * 1024;

const MANIFEST_BODY: u8 = 1;
const PART_BODY: u8 = 1;

/// What a checksum covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumType {
    /// All bytes of the object.
    FullObject,
    /// The checksums of the parts.
    Composite,
}

/// One checksum of an object or a part. `checksum.rs` says how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// The algorithm, as S3 writes its name.
    pub algorithm: String,
    /// The value, as S3 writes it (base64; a composite one ends in "-n").
    pub value: String,
    /// What it covers; a part's own checksum covers the whole part.
    pub covers: ChecksumType,
}

/// One blob of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPart {
    /// The part number; 0 for an object that was not uploaded in parts.
    pub number: u32,
    /// Plaintext length in bytes.
    pub plain_len: u64,
    /// The blob that holds the cells.
    pub blob: u64,
    /// The IV of the blob's cell stream.
    pub iv: StreamIv,
    /// The part's own checksums.
    pub checksums: Vec<Checksum>,
    /// Its data key, if it has another one than the version: a part whose bytes are another
    /// object's. Nothing sets it yet.
    pub key: Option<PartKey>,
}

/// The data key of one part, as it stands inside a sealed manifest. Wiped when dropped, never
/// shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct PartKey([u8; 32]);

impl fmt::Debug for PartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartKey(..)")
    }
}

/// All that is known of an object version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// The blobs in order; their part numbers rise.
    pub parts: Vec<ManifestPart>,
    /// Checksums of the whole object.
    pub checksums: Vec<Checksum>,
    pub headers: ContentHeaders,
    /// `x-amz-meta-*` without the prefix, in the order of the request.
    pub user_metadata: Vec<(String, String)>,
    pub tags: Vec<(String, String)>,
}

impl Manifest {
    /// Returns the object's length in bytes; None if the parts can't form one object.
    #[must_use]
    pub fn total_len(&self) -> Option<u64> {
        self.parts
            .iter()
            .try_fold(0_u64, |sum, part| sum.checked_add(part.plain_len))
    }

    /// Seals the manifest for one object version.
    ///
    /// # Errors
    /// [`CryptoError::Random`]; [`CryptoError::TooLarge`] beyond the limits of this module;
    /// [`CryptoError::Misuse`] if part numbers don't rise.
    pub fn seal(&self, key: &DataKey, object: &ObjectContext<'_>) -> Result<Vec<u8>, CryptoError> {
        self.seal_with(key, object, &SYSTEM)
    }

    /// Seals the manifest with randomness from `entropy`.
    ///
    /// # Errors
    /// As [`Manifest::seal`].
    pub fn seal_with(
        &self,
        key: &DataKey,
        object: &ObjectContext<'_>,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, CryptoError> {
        self.check()?;
        let total = self.total_len().ok_or(CryptoError::InvalidLength)?;
        let body = encode(MANIFEST_BODY, self)?;
        if body.len() + SEALED_OVERHEAD > SEALED_MANIFEST_MAX {
            return Err(CryptoError::TooLarge {
                what: "manifest",
                max: SEALED_MANIFEST_MAX,
            });
        }
        let seal_key = Subkey::<ManifestSeal>::of_key(key.bytes());
        sealed::seal(
            &seal_key,
            NO_KEK,
            &manifest_binding(object, total)?,
            &body,
            entropy,
        )
    }

    /// Opens the manifest of one object version; `total_len` is its length according to the
    /// metadata.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`].
    pub fn open(
        key: &DataKey,
        object: &ObjectContext<'_>,
        total_len: u64,
        sealed: &[u8],
    ) -> Result<Self, CryptoError> {
        let seal_key = Subkey::<ManifestSeal>::of_key(key.bytes());
        let binding = manifest_binding(object, total_len).map_err(|_| CryptoError::Unauthentic)?;
        let find = |version| (version == NO_KEK).then_some(&seal_key);
        let body = sealed::open(find, &binding, sealed, SEALED_MANIFEST_MAX)?;
        let manifest: Self = decode(MANIFEST_BODY, &body)?;
        if manifest.check().is_err() || manifest.total_len() != Some(total_len) {
            return Err(CryptoError::Unauthentic);
        }
        Ok(manifest)
    }

    fn check(&self) -> Result<(), CryptoError> {
        at_most("parts", self.parts.len(), PARTS_MAX)?;
        at_most("user metadata", self.user_metadata.len(), ENTRIES_MAX)?;
        at_most("tags", self.tags.len(), ENTRIES_MAX)?;
        check_checksums(&self.checksums)?;
        for part in &self.parts {
            check_checksums(&part.checksums)?;
            if part.plain_len > PLAIN_BLOB_LEN_MAX {
                return Err(CryptoError::InvalidLength);
            }
        }
        for (name, value) in self.user_metadata.iter().chain(&self.tags) {
            check_text(name)?;
            check_text(value)?;
        }
        for text in self.headers.texts() {
            check_text(text)?;
        }
        if !self
            .parts
            .is_sorted_by(|before, after| before.number < after.number)
        {
            return Err(CryptoError::Misuse("part numbers must rise"));
        }
        Ok(())
    }
}

/// What is known of one uploaded part until its upload completes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartManifest {
    /// Plaintext length in bytes.
    pub plain_len: u64,
    /// When it was written, in milliseconds since 1970.
    pub written_ms: u64,
    /// The blob that holds the cells.
    pub blob: u64,
    /// The IV of the blob's cell stream.
    pub iv: StreamIv,
    /// MD5 of the plaintext: the part's ETag.
    pub md5: [u8; 16],
    pub checksums: Vec<Checksum>,
}

impl PartManifest {
    /// Seals the part's manifest under its upload's data key.
    ///
    /// # Errors
    /// [`CryptoError::Random`]; [`CryptoError::TooLarge`] beyond the limits of this module.
    pub fn seal(&self, key: &DataKey, part: &PartContext<'_>) -> Result<Vec<u8>, CryptoError> {
        self.seal_with(key, part, &SYSTEM)
    }

    /// Seals the part's manifest with randomness from `entropy`.
    ///
    /// # Errors
    /// As [`PartManifest::seal`].
    pub fn seal_with(
        &self,
        key: &DataKey,
        part: &PartContext<'_>,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, CryptoError> {
        self.check()?;
        let body = encode(PART_BODY, self)?;
        if body.len() + SEALED_OVERHEAD > SEALED_PART_MAX {
            return Err(CryptoError::TooLarge {
                what: "part manifest",
                max: SEALED_PART_MAX,
            });
        }
        let seal_key = Subkey::<PartSeal>::of_key(key.bytes());
        sealed::seal(&seal_key, NO_KEK, &part.binding("part")?, &body, entropy)
    }

    /// Opens the manifest of one part of an upload.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`].
    pub fn open(key: &DataKey, part: &PartContext<'_>, sealed: &[u8]) -> Result<Self, CryptoError> {
        let seal_key = Subkey::<PartSeal>::of_key(key.bytes());
        let binding = part.binding("part").map_err(|_| CryptoError::Unauthentic)?;
        let find = |version| (version == NO_KEK).then_some(&seal_key);
        let body = sealed::open(find, &binding, sealed, SEALED_PART_MAX)?;
        let manifest: Self = decode(PART_BODY, &body)?;
        manifest.check().map_err(|_| CryptoError::Unauthentic)?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), CryptoError> {
        if self.plain_len > PLAIN_BLOB_LEN_MAX {
            return Err(CryptoError::InvalidLength);
        }
        check_checksums(&self.checksums)
    }
}

fn manifest_binding(object: &ObjectContext<'_>, total_len: u64) -> Result<Binding, CryptoError> {
    Ok(object.binding("manifest")?.fixed(&total_len.to_be_bytes()))
}

fn check_checksums(checksums: &[Checksum]) -> Result<(), CryptoError> {
    at_most("checksums", checksums.len(), ENTRIES_MAX)?;
    for checksum in checksums {
        check_text(&checksum.algorithm)?;
        check_text(&checksum.value)?;
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), CryptoError> {
    at_most("text", text.len(), TEXT_BYTES_MAX)
}

fn at_most(what: &'static str, len: usize, max: usize) -> Result<(), CryptoError> {
    if len > max {
        Err(CryptoError::TooLarge { what, max })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
