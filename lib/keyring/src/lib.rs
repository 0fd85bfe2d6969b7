//! The ring of key-encryption keys in use, and the list sealers derived from it.
//!
//! Owns: loading the KEKs, making the first one, noticing a newer one. Must never use a KEK that
//! the root key did not seal.

use megalith_client::{ClientError, Metadata, TypedCalls as _};
use megalith_crypto::{
    CryptoError, DataKey, KeyIds, KeyRing, ListingSealer, ObjectContext, RootKey, UploadContext,
};
use megalith_model::command::{Command, Envelope};
use megalith_model::ids::{BucketId, ClusterId};
use megalith_model::question;
use megalith_model::rows::KekRow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

// What is sealed with these keys is never longer than the metadata accepts. An owner is a number,
// so its record is shorter than that of a key.
const _: () = {
    use megalith_crypto::credential::{ACCESS_KEY_ID_BYTES_MAX, SEALED_CREDENTIAL_MAX};
    use megalith_crypto::keys::{KEK_VERSIONS_MAX, SEALED_KEK_LEN, WRAPPED_KEY_LEN};
    use megalith_crypto::listing::SEALED_LISTING_MAX;
    use megalith_crypto::manifest::{PARTS_MAX, SEALED_MANIFEST_MAX, SEALED_PART_MAX};
    use megalith_model::machine::{NAME_LEN_MAX, PART_MAX, sizes};
    assert!(WRAPPED_KEY_LEN <= sizes::WRAPPED_KEY_LEN_MAX);
    assert!(WRAPPED_KEY_LEN <= sizes::SEALED_OWNER_LEN_MAX);
    assert!(SEALED_KEK_LEN <= sizes::SEALED_KEK_LEN_MAX);
    assert!(KEK_VERSIONS_MAX <= sizes::KEK_VERSION_MAX as usize);
    assert!(SEALED_CREDENTIAL_MAX <= sizes::SEALED_CREDENTIAL_LEN_MAX);
    assert!(ACCESS_KEY_ID_BYTES_MAX <= NAME_LEN_MAX);
    assert!(SEALED_LISTING_MAX <= sizes::SEALED_LISTING_LEN_MAX);
    assert!(SEALED_MANIFEST_MAX <= sizes::SEALED_MANIFEST_LEN_MAX);
    assert!(SEALED_PART_MAX <= sizes::SEALED_PART_LEN_MAX);
    assert!(PARTS_MAX <= PART_MAX as usize);
};

/// How many sealers are kept; beyond that all are dropped and derived again.
const SEALERS_MAX: usize = 4096;
/// KEKs are loaded again at most this often, however many records don't open.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// The keys of a gateway.
pub struct Keys {
    cluster: ClusterId,
    root: RootKey,
    ids: KeyIds,
    meta: Arc<dyn Metadata>,
    state: Mutex<State>,
}

struct State {
    ring: KeyRing,
    sealers: HashMap<BucketId, Arc<ListingSealer>>,
    loaded: Instant,
}

/// Why the keys could not be loaded, or something did not open under them.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The metadata group didn't answer.
    #[error("read the key-encryption keys")]
    Metadata(#[from] ClientError),
    /// The root key belongs to another cluster, or a record was altered.
    #[error("the root key does not open this cluster's key-encryption keys")]
    Root(#[source] CryptoError),
    /// A record doesn't open under any key of the ring.
    #[error("{0} does not open")]
    Damaged(&'static str),
    /// A new key couldn't be made.
    #[error("make a key-encryption key")]
    Make(#[source] CryptoError),
}

impl Keys {
    /// Loads the KEKs; makes version 1 if there is none. If several gateways do so at the same
    /// time, one wins and all use its key.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub async fn open(
        meta: Arc<dyn Metadata>,
        cluster: ClusterId,
        root: RootKey,
    ) -> Result<Self, KeysError> {
        let mut rows = meta.ask(question::Keks).await?;
        if rows.is_empty() {
            let sealed_kek = KeyRing::new_kek(&root, cluster.0, 1).map_err(KeysError::Make)?;
            let command = Command::PutKek {
                version: 1,
                sealed_kek,
            };
            let proposed = meta.propose(Envelope { key: None, command }).await;
            rows = meta.ask(question::Keks).await?;
            if rows.is_empty() {
                proposed?.map_err(|refusal| ClientError::Rejected(refusal.to_string()))?;
                let lost = "a key-encryption key was taken and is not there";
                return Err(ClientError::Malformed(lost.to_owned()).into());
            }
        }
        let ring = open_ring(&root, cluster, &rows).map_err(KeysError::Root)?;
        let state = State {
            ring,
            sealers: HashMap::new(),
            loaded: Instant::now(),
        };
        Ok(Self {
            cluster,
            ids: KeyIds::new(&root, cluster.0),
            root,
            meta,
            state: Mutex::new(state),
        })
    }

    /// Returns the ring as it is known now.
    #[must_use]
    pub fn ring(&self) -> KeyRing {
        self.state().ring.clone()
    }

    /// Returns what makes and judges ids of access keys.
    #[must_use]
    pub fn ids(&self) -> &KeyIds {
        &self.ids
    }

    /// Returns the cluster that the keys belong to.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns the sealer of a bucket's list rows.
    #[must_use]
    pub fn listing(&self, bucket: BucketId) -> Arc<ListingSealer> {
        let mut state = self.state();
        if let Some(sealer) = state.sealers.get(&bucket) {
            return Arc::clone(sealer);
        }
        let sealer = Arc::new(state.ring.listing(bucket.0));
        if state.sealers.len() >= SEALERS_MAX {
            state.sealers.clear();
        }
        state.sealers.insert(bucket, Arc::clone(&sealer));
        sealer
    }

    /// Unwraps an object's data key; loads newer KEKs if it doesn't open.
    ///
    /// # Errors
    /// [`KeysError::Damaged`], [`KeysError::Metadata`].
    pub async fn unwrap(
        &self,
        wrapped: &[u8],
        object: &ObjectContext<'_>,
    ) -> Result<DataKey, KeysError> {
        self.opened("data key", |ring| ring.unwrap(wrapped, object))
            .await
    }

    /// Unwraps an upload's data key in the same way.
    ///
    /// # Errors
    /// As [`Keys::unwrap`].
    pub async fn unwrap_upload(
        &self,
        wrapped: &[u8],
        upload: &UploadContext<'_>,
    ) -> Result<DataKey, KeysError> {
        self.opened("upload key", |ring| ring.unwrap_upload(wrapped, upload))
            .await
    }

    /// Opens something with the ring; if it doesn't open, tries once more with newer KEKs.
    ///
    /// # Errors
    /// [`KeysError::Damaged`] naming `what`, [`KeysError::Metadata`].
    pub async fn opened<T>(
        &self,
        what: &'static str,
        open: impl Fn(&KeyRing) -> Result<T, CryptoError>,
    ) -> Result<T, KeysError> {
        if let Ok(opened) = open(&self.ring()) {
            return Ok(opened);
        }
        self.reload().await?;
        open(&self.ring()).map_err(|_| KeysError::Damaged(what))
    }

    async fn reload(&self) -> Result<(), KeysError> {
        {
            let mut state = self.state();
            if state.loaded.elapsed() < RELOAD_INTERVAL {
                return Ok(());
            }
            state.loaded = Instant::now();
        }
        let rows = self.meta.ask(question::Keks).await?;
        let ring = open_ring(&self.root, self.cluster, &rows).map_err(KeysError::Root)?;
        let mut state = self.state();
        state.ring = ring;
        state.sealers.clear();
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_ring(root: &RootKey, cluster: ClusterId, rows: &[KekRow]) -> Result<KeyRing, CryptoError> {
    let keks: Vec<(u32, &[u8])> = rows
        .iter()
        .map(|row| (row.version, row.sealed_kek.as_slice()))
        .collect();
    KeyRing::open(root, cluster.0, &keks)
}
