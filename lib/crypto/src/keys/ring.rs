//! The ring of KEK versions: wraps and unwraps data keys, and makes the sealers below it.

use super::{DataKey, KEY_LEN, OpenedKek, RootKey};
use crate::context::{Binding, ObjectContext, UploadContext};
use crate::credential::{CredentialSealer, RecordSealer};
use crate::derive::{
    Credentials, ListingBucket, ListingRoot, ObjectWrap, Purpose, Records, Subkey, UploadWrap,
};
use crate::entropy::{Entropy, SYSTEM};
use crate::error::CryptoError;
use crate::listing::ListingSealer;
use crate::sealed::{self, SEALED_OVERHEAD};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Length in bytes of a wrapped data key.
pub const WRAPPED_KEY_LEN: usize = SEALED_OVERHEAD + 1 + KEY_LEN;
/// Most KEK versions a ring holds.
pub const KEK_VERSIONS_MAX: usize = 1024;

const WRAP_BODY: u8 = 1;

/// The keys derived from one KEK version. The KEK itself is not kept.
pub(super) struct KekKeys {
    pub(super) version: u32,
    object_wrap: Subkey<ObjectWrap>,
    upload_wrap: Subkey<UploadWrap>,
    listing: Subkey<ListingRoot>,
    pub(super) credentials: Subkey<Credentials>,
    pub(super) records: Subkey<Records>,
}

impl KekKeys {
    fn derive(version: u32, kek: &[u8; KEY_LEN]) -> Self {
        Self {
            version,
            object_wrap: Subkey::of_key(kek),
            upload_wrap: Subkey::of_key(kek),
            listing: Subkey::of_key(kek),
            credentials: Subkey::of_key(kek),
            records: Subkey::of_key(kek),
        }
    }
}

/// All known KEK versions of a cluster: the newest seals, and each of them opens.
///
/// Cheap to clone; clones share the keys.
#[derive(Clone)]
pub struct KeyRing {
    /// Ascending by version, never empty.
    keks: Arc<[KekKeys]>,
    pub(super) entropy: &'static dyn Entropy,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("newest", &self.newest_version())
            .finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Makes a new KEK and returns it sealed under the root key, to be stored in the metadata.
    ///
    /// # Errors
    /// [`CryptoError::Random`]; [`CryptoError::Misuse`] for version 0, which is not a version.
    pub fn new_kek(
        root: &RootKey,
        cluster: [u8; 16],
        version: u32,
    ) -> Result<Vec<u8>, CryptoError> {
        Self::new_kek_with(root, cluster, version, &SYSTEM)
    }

    /// Makes a new KEK with randomness from `entropy`.
    ///
    /// # Errors
    /// As [`KeyRing::new_kek`].
    pub fn new_kek_with(
        root: &RootKey,
        cluster: [u8; 16],
        version: u32,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, CryptoError> {
        let kek = OpenedKek::generate_with(version, root.id_key(), entropy)?;
        root.seal_kek_with(cluster, &kek, entropy)
    }

    /// Opens the ring from KEKs that `root` has sealed, in any order.
    ///
    /// # Errors
    /// As [`KeyRing::of`], and [`CryptoError::Unauthentic`] if any of them is not what this root
    /// sealed for this cluster and version.
    pub fn open(
        root: &RootKey,
        cluster: [u8; 16],
        stored: &[(u32, &[u8])],
    ) -> Result<Self, CryptoError> {
        let open = |(version, sealed): &(u32, &[u8])| root.open_kek(cluster, *version, sealed);
        let opened: Result<Vec<OpenedKek>, _> = match stored.len() {
            1..=KEK_VERSIONS_MAX => stored.iter().map(open).collect(),
            // Refused below.
            _ => Ok(Vec::new()),
        };
        Self::of(&opened?)
    }

    /// Makes the ring of opened KEKs, in any order.
    ///
    /// # Errors
    /// [`CryptoError::Misuse`] for none, for a version given twice, or for more than
    /// [`KEK_VERSIONS_MAX`].
    pub fn of(opened: &[OpenedKek]) -> Result<Self, CryptoError> {
        if opened.is_empty() || opened.len() > KEK_VERSIONS_MAX {
            return Err(CryptoError::Misuse(
                "a key ring needs 1 to 1024 KEK versions",
            ));
        }
        let derive = |kek: &OpenedKek| KekKeys::derive(kek.version(), kek.key());
        let mut keks: Vec<KekKeys> = opened.iter().map(derive).collect();
        keks.sort_by_key(|kek| kek.version);
        if keks
            .windows(2)
            .any(|pair| pair[0].version == pair[1].version)
        {
            return Err(CryptoError::Misuse("a KEK version is given twice"));
        }
        Ok(Self {
            keks: keks.into(),
            entropy: &SYSTEM,
        })
    }

    /// Replaces the random source of this ring and of the sealers it makes.
    #[must_use]
    pub fn with_entropy(mut self, entropy: &'static dyn Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    /// Returns the version that new wraps use.
    #[must_use]
    pub fn newest_version(&self) -> u32 {
        self.newest().version
    }

    /// Returns whether the ring has this version.
    #[must_use]
    pub fn has(&self, version: u32) -> bool {
        self.find(version).is_some()
    }

    /// Returns the KEK version that a wrapped key or record claims, to find what a rotation still
    /// has to re-wrap. Not authenticated: only opening proves it.
    #[must_use]
    pub fn claimed_version(sealed: &[u8]) -> Option<u32> {
        sealed::key_version(sealed)
    }

    /// Wraps an object version's data key.
    ///
    /// # Errors
    /// [`CryptoError::Random`]; [`CryptoError::TooLarge`] for a key over 1024 bytes.
    pub fn wrap(&self, key: &DataKey, object: &ObjectContext<'_>) -> Result<Vec<u8>, CryptoError> {
        self.wrap_bound(|kek| &kek.object_wrap, key, &object.binding("object")?)
    }

    /// Unwraps an object version's data key.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`], also when the KEK version is unknown.
    pub fn unwrap(
        &self,
        wrapped: &[u8],
        object: &ObjectContext<'_>,
    ) -> Result<DataKey, CryptoError> {
        let binding = object
            .binding("object")
            .map_err(|_| CryptoError::Unauthentic)?;
        self.unwrap_bound(|kek| &kek.object_wrap, wrapped, &binding)
    }

    /// Wraps a multipart upload's data key.
    ///
    /// # Errors
    /// As [`KeyRing::wrap`].
    pub fn wrap_upload(
        &self,
        key: &DataKey,
        upload: &UploadContext<'_>,
    ) -> Result<Vec<u8>, CryptoError> {
        self.wrap_bound(|kek| &kek.upload_wrap, key, &upload.binding("upload")?)
    }

    /// Unwraps a multipart upload's data key.
    ///
    /// # Errors
    /// As [`KeyRing::unwrap`].
    pub fn unwrap_upload(
        &self,
        wrapped: &[u8],
        upload: &UploadContext<'_>,
    ) -> Result<DataKey, CryptoError> {
        let binding = upload
            .binding("upload")
            .map_err(|_| CryptoError::Unauthentic)?;
        self.unwrap_bound(|kek| &kek.upload_wrap, wrapped, &binding)
    }

    /// Derives the sealer of one bucket's list rows. Keep it: deriving it costs more than opening a
    /// row.
    #[must_use]
    pub fn listing(&self, bucket: u64) -> ListingSealer {
        let below =
            |kek: &KekKeys| Subkey::<ListingBucket>::below(&kek.listing, &bucket.to_be_bytes());
        let keys = self
            .keks
            .iter()
            .map(|kek| (kek.version, below(kek)))
            .collect();
        ListingSealer::new(bucket, keys, self.entropy)
    }

    /// Returns the sealer of access keys.
    #[must_use]
    pub fn credentials(&self) -> CredentialSealer {
        CredentialSealer::new(self.clone())
    }

    /// Returns the sealer of other records that gateways must be able to trust.
    #[must_use]
    pub fn records(&self) -> RecordSealer {
        RecordSealer::new(self.clone())
    }

    pub(crate) fn seal_credential(
        &self,
        binding: &Binding,
        body: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let kek = self.newest();
        sealed::seal(&kek.credentials, kek.version, binding, body, self.entropy)
    }

    pub(crate) fn open_credential(
        &self,
        binding: &Binding,
        sealed: &[u8],
        sealed_max: usize,
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        sealed::open(
            |version| Some(&self.find(version)?.credentials),
            binding,
            sealed,
            sealed_max,
        )
    }

    pub(crate) fn seal_record(
        &self,
        binding: &Binding,
        body: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let kek = self.newest();
        sealed::seal(&kek.records, kek.version, binding, body, self.entropy)
    }

    pub(crate) fn open_record(
        &self,
        binding: &Binding,
        sealed: &[u8],
        sealed_max: usize,
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        sealed::open(
            |version| Some(&self.find(version)?.records),
            binding,
            sealed,
            sealed_max,
        )
    }

    fn wrap_bound<P: Purpose>(
        &self,
        wrapper: impl Fn(&KekKeys) -> &Subkey<P>,
        key: &DataKey,
        binding: &Binding,
    ) -> Result<Vec<u8>, CryptoError> {
        let kek = self.newest();
        let mut body = Zeroizing::new([WRAP_BODY; 1 + KEY_LEN]);
        body[1..].copy_from_slice(&key.bytes()[..]);
        let wrapped = sealed::seal(wrapper(kek), kek.version, binding, &body[..], self.entropy)?;
        refuse_visible_key(key.bytes(), &wrapped)?;
        Ok(wrapped)
    }

    fn unwrap_bound<'k, P: Purpose + 'k>(
        &'k self,
        wrapper: impl Fn(&'k KekKeys) -> &'k Subkey<P>,
        wrapped: &[u8],
        binding: &Binding,
    ) -> Result<DataKey, CryptoError> {
        let find = |claimed| self.find(claimed).map(wrapper);
        let body = sealed::open(find, binding, wrapped, WRAPPED_KEY_LEN)?;
        key_bytes(&body, WRAP_BODY).map(DataKey)
    }

    pub(super) fn newest(&self) -> &KekKeys {
        self.keks.last().expect("a ring is never empty")
    }

    pub(super) fn find(&self, version: u32) -> Option<&KekKeys> {
        let at = self
            .keks
            .binary_search_by_key(&version, |kek| kek.version)
            .ok()?;
        self.keks.get(at)
    }
}

/// Reads an opened body: `version`, then a key.
fn key_bytes(body: &[u8], version: u8) -> Result<Zeroizing<[u8; KEY_LEN]>, CryptoError> {
    let key = body
        .strip_prefix(&[version])
        .ok_or(CryptoError::Unauthentic)?;
    let key: &[u8; KEY_LEN] = key.try_into().map_err(|_| CryptoError::Unauthentic)?;
    Ok(Zeroizing::new(*key))
}

/// Refuses a wrap whose salt, which is not encrypted, is the key itself: the random source has
/// given the same bytes twice.
pub(super) fn refuse_visible_key(key: &[u8; KEY_LEN], sealed: &[u8]) -> Result<(), CryptoError> {
    match verify_slices_are_equal(key, sealed::salt(sealed)) {
        Ok(()) => Err(CryptoError::Random),
        Err(_) => Ok(()),
    }
}
