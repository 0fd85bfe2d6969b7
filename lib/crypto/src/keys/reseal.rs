//! Sealing again what an older KEK version has sealed, for a rotation.

use super::KeyRing;
use crate::context::{Binding, ObjectContext, UploadContext};
use crate::error::CryptoError;
use crate::sealed;

const CHANGED: CryptoError = CryptoError::Misuse("a key wrapped again opens as another");

impl KeyRing {
    /// Wraps an object version's data key again, under the newest KEK.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`] if it doesn't open; [`CryptoError::Random`].
    pub fn rewrap(
        &self,
        wrapped: &[u8],
        object: &ObjectContext<'_>,
    ) -> Result<Vec<u8>, CryptoError> {
        let key = self.unwrap(wrapped, object)?;
        let new = self.wrap(&key, object)?;
        // The old one is about to be overwritten.
        if self.unwrap(&new, object)? == key {
            Ok(new)
        } else {
            Err(CHANGED)
        }
    }

    /// Wraps a multipart upload's data key again, under the newest KEK.
    ///
    /// # Errors
    /// As [`KeyRing::rewrap`].
    pub fn rewrap_upload(
        &self,
        wrapped: &[u8],
        upload: &UploadContext<'_>,
    ) -> Result<Vec<u8>, CryptoError> {
        let key = self.unwrap_upload(wrapped, upload)?;
        let new = self.wrap_upload(&key, upload)?;
        if self.unwrap_upload(&new, upload)? == key {
            Ok(new)
        } else {
            Err(CHANGED)
        }
    }

    pub(crate) fn reseal_credential(
        &self,
        binding: &Binding,
        sealed: &[u8],
        max: usize,
    ) -> Result<Vec<u8>, CryptoError> {
        let find = |version| Some(&self.find(version)?.credentials);
        let newest = self.newest().version;
        sealed::reseal(find, newest, binding, sealed, max, self.entropy)
    }

    pub(crate) fn reseal_record(
        &self,
        binding: &Binding,
        sealed: &[u8],
        max: usize,
    ) -> Result<Vec<u8>, CryptoError> {
        let find = |version| Some(&self.find(version)?.records);
        let newest = self.newest().version;
        sealed::reseal(find, newest, binding, sealed, max, self.entropy)
    }
}
