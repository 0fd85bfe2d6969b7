//! What a key or record belongs to: the named context that goes into its authentication.
//!
//! Ids are plain numbers and bytes here; their types live in `lib/model`. Every context is encoded
//! unambiguously: fixed-size fields are big-endian, and the one variable field (the key) comes
//! last, preceded by its length.

use crate::error::CryptoError;

/// Longest object key in bytes, as in S3.
pub const OBJECT_KEY_BYTES_MAX: usize = 1024;

/// One version of one object: what a wrapped data key and a manifest are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectContext<'a> {
    pub cluster: [u8; 16],
    /// The bucket's id; a later bucket of the same name has a different one.
    pub bucket: u64,
    pub key: &'a [u8],
    pub version: [u8; 16],
}

/// One multipart upload: what its data key is bound to until the upload completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadContext<'a> {
    pub cluster: [u8; 16],
    pub bucket: u64,
    /// The key that the object will have.
    pub key: &'a [u8],
    pub upload: [u8; 16],
}

/// One part of an upload: what the part's manifest is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartContext<'a> {
    /// The upload it belongs to.
    pub upload: UploadContext<'a>,
    /// The part's number, from 1.
    pub number: u32,
}

/// Bytes that are authenticated with a record but not stored in it.
pub(crate) struct Binding(Vec<u8>);

impl Binding {
    /// Starts a binding. `name` tells the kinds of context apart; a zero byte ends it.
    pub(crate) fn new(name: &str) -> Self {
        debug_assert!(!name.as_bytes().contains(&0));
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        Self(bytes)
    }

    /// Adds a field whose length is the same in every context of this name.
    pub(crate) fn fixed(mut self, field: &[u8]) -> Self {
        self.0.extend_from_slice(field);
        self
    }

    /// Adds a field of any length up to `max` bytes.
    pub(crate) fn variable(
        mut self,
        what: &'static str,
        field: &[u8],
        max: usize,
    ) -> Result<Self, CryptoError> {
        if field.len() > max {
            return Err(CryptoError::TooLarge { what, max });
        }
        let len = u32::try_from(field.len()).map_err(|_| CryptoError::TooLarge { what, max })?;
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(field);
        Ok(self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl ObjectContext<'_> {
    pub(crate) fn binding(&self, name: &str) -> Result<Binding, CryptoError> {
        Binding::new(name)
            .fixed(&self.cluster)
            .fixed(&self.bucket.to_be_bytes())
            .fixed(&self.version)
            .variable("object key", self.key, OBJECT_KEY_BYTES_MAX)
    }
}

impl UploadContext<'_> {
    pub(crate) fn binding(&self, name: &str) -> Result<Binding, CryptoError> {
        Binding::new(name)
            .fixed(&self.cluster)
            .fixed(&self.bucket.to_be_bytes())
            .fixed(&self.upload)
            .variable("object key", self.key, OBJECT_KEY_BYTES_MAX)
    }
}

impl PartContext<'_> {
    pub(crate) fn binding(&self, name: &str) -> Result<Binding, CryptoError> {
        Ok(self.upload.binding(name)?.fixed(&self.number.to_be_bytes()))
    }
}
