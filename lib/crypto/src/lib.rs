//! Keys and ciphers of Megalith: everything that turns plaintext into what the cluster may store.
//!
//! Owns the key hierarchy ([`keys`]), the cells in which an object's bytes are sealed ([`cell`])
//! and the sealed records around them ([`manifest`], [`listing`], [`credential`]). Each module
//! draws the byte layout of what it seals.
//!
//! Must never: write plaintext or keys anywhere, return bytes that were not authenticated, say why
//! something did not open, or use one key for two purposes. Knows nothing of S3, of placement, of
//! clocks, files or sockets. Randomness comes in through [`Entropy`].
//!
//! ```text
//! RootKey, or a key service ──seals──▶ KEK v1, v2, …, each with the key of ids (KeyRing)
//!   └──HKDF label──▶ key of access key ids: checks (KeyIds)
//!   KEK ──HKDF label──▶ object wrap ──wraps──▶ DataKey, one per object version
//!       ├─────────────▶ upload wrap ──wraps──▶ DataKey of a multipart upload
//!       ├─────────────▶ listing ──bucket──▶ ListingSealer ──▶ list rows
//!       ├─────────────▶ credentials ──▶ CredentialSealer
//!       └─────────────▶ records ──▶ RecordSealer
//!   DataKey ──HKDF label──▶ stream ──IV──▶ FLOE cells
//!       ├─────────────────▶ manifest
//!       └─────────────────▶ part manifest
//! ```
//!
//! What it does not protect against: replay of an old, whole, valid record (linearizable metadata
//! reads give freshness), and theft of a gateway's memory.

mod checksum;
mod context;
mod derive;
mod encode;
mod entropy;
mod error;
mod etag;
mod floe;
mod sealed;
mod texts;

pub mod cell;
pub mod credential;
pub mod key_id;
pub mod keys;
pub mod listing;
pub mod manifest;

pub use cell::{BlobLayout, CellOpener, CellSealer, CellSpan, StreamContext, StreamIv};
pub use context::{OBJECT_KEY_BYTES_MAX, ObjectContext, PartContext, UploadContext};
pub use credential::{AccessSecret, Credential, CredentialSealer, RecordKind, RecordSealer};
pub use entropy::{Entropy, EntropyError, SystemEntropy};
pub use error::CryptoError;
pub use key_id::{IdForm, KeyIds};
pub use keys::{DataKey, IdKey, KeyRing, OpenedKek, RootKey, SealedBy};
pub use listing::{ListingContext, ListingEntry, ListingSealer};
pub use manifest::{Checksum, ChecksumType, ContentHeaders, Manifest, ManifestPart, PartManifest};

#[cfg(test)]
mod tests;
