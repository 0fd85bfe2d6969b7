//! The ring of key-encryption keys in use, and the list sealers derived from it.
//!
//! Owns: loading the KEKs, making the first one, noticing newer ones. Must never use a KEK that the
//! root key did not seal, nor make one where records name an older one.

use megalith_client::{ClientError, Metadata, TypedCalls as _};
use megalith_crypto::{
    CryptoError, DataKey, KeyIds, KeyRing, ListingSealer, ObjectContext, RootKey, UploadContext,
};
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_model::ids::{BucketId, ClusterId};
use megalith_model::question;
use megalith_model::rows::KekRow;
use megalith_model::sealed::kek_version;
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
/// How long it is believed that a version isn't in the table, however many records name it.
const MISSING_KEPT_FOR: Duration = Duration::from_secs(1);
/// The most versions that are remembered as missing.
const MISSING_MAX: usize = 64;

/// The keys of a gateway.
pub struct Keys {
    cluster: ClusterId,
    root: RootKey,
    ids: KeyIds,
    meta: Arc<dyn Metadata>,
    state: Mutex<State>,
    /// Held while the KEKs are loaded again, so that many readers ask once.
    loading: tokio::sync::Mutex<Missing>,
}

/// When each version was last not found in the table.
type Missing = HashMap<u32, Instant>;

struct State {
    ring: KeyRing,
    sealers: HashMap<BucketId, Arc<ListingSealer>>,
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
    /// A record doesn't open under the key that it names.
    #[error("{0} does not open")]
    Damaged(&'static str),
    /// The table of key-encryption keys is empty, and the cluster has records under one of them.
    #[error(
        "the cluster's key-encryption keys are lost: records name them, and their table is empty. \
         No new key was made; restore the metadata from a backup that has them"
    )]
    Lost,
    /// A record names a key that is not in the table.
    #[error(
        "{what} is sealed under key-encryption key {version}, which is not in the cluster's table"
    )]
    Missing { what: &'static str, version: u32 },
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
            // The group judges whether this is a new cluster, or one that has lost its keys.
            if let Ok(Err(Refusal::KeksLost)) = proposed {
                return Err(KeysError::Lost);
            }
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
        };
        Ok(Self {
            cluster,
            ids: KeyIds::new(&root, cluster.0),
            root,
            meta,
            state: Mutex::new(state),
            loading: tokio::sync::Mutex::default(),
        })
    }

    /// Returns the ring as it is known now.
    #[must_use]
    pub fn ring(&self) -> KeyRing {
        self.state().ring.clone()
    }

    /// Makes `newest` the version that seals; loads the table if it isn't.
    ///
    /// # Errors
    /// [`KeysError::Missing`] if the table has another newest version; [`KeysError::Metadata`].
    pub async fn renew(&self, newest: u32) -> Result<(), KeysError> {
        if self.ring().newest_version() != newest {
            let _loading = self.loading.lock().await;
            if self.ring().newest_version() != newest {
                self.reload().await?;
            }
        }
        if self.ring().newest_version() == newest {
            return Ok(());
        }
        let what = "the newest of the cluster's records";
        let version = newest;
        Err(KeysError::Missing { what, version })
    }

    /// Loads the table again: the ring has what the table has, and nothing else.
    ///
    /// # Errors
    /// [`KeysError::Lost`] if the table is empty; [`KeysError::Root`]; [`KeysError::Metadata`].
    pub async fn reload(&self) -> Result<(), KeysError> {
        let rows = self.meta.ask(question::Keks).await?;
        if rows.is_empty() {
            return Err(KeysError::Lost);
        }
        let ring = open_ring(&self.root, self.cluster, &rows).map_err(KeysError::Root)?;
        let mut state = self.state();
        state.ring = ring;
        state.sealers.clear();
        Ok(())
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

    /// Unwraps an object's data key; loads newer KEKs if it names one.
    ///
    /// # Errors
    /// As [`Keys::opened`].
    pub async fn unwrap(
        &self,
        wrapped: &[u8],
        object: &ObjectContext<'_>,
    ) -> Result<DataKey, KeysError> {
        let open = |ring: &KeyRing| ring.unwrap(wrapped, object);
        self.opened("data key", wrapped, open).await
    }

    /// Unwraps an upload's data key in the same way.
    ///
    /// # Errors
    /// As [`Keys::opened`].
    pub async fn unwrap_upload(
        &self,
        wrapped: &[u8],
        upload: &UploadContext<'_>,
    ) -> Result<DataKey, KeysError> {
        let open = |ring: &KeyRing| ring.unwrap_upload(wrapped, upload);
        self.opened("upload key", wrapped, open).await
    }

    /// Opens the record `sealed` with the ring. If it names a KEK that the ring lacks, loads the
    /// table first: what is in a row was in the table before, so it is found whenever another
    /// gateway has made it.
    ///
    /// # Errors
    /// [`KeysError::Damaged`] and [`KeysError::Missing`], naming `what`; [`KeysError::Metadata`];
    /// [`KeysError::Lost`] if the table has become empty.
    pub async fn opened<T>(
        &self,
        what: &'static str,
        sealed: &[u8],
        open: impl Fn(&KeyRing) -> Result<T, CryptoError>,
    ) -> Result<T, KeysError> {
        let mut ring = self.ring();
        if let Some(version) = kek_version(sealed)
            && !ring.has(version)
        {
            self.load(version).await?;
            ring = self.ring();
            if !ring.has(version) {
                return Err(KeysError::Missing { what, version });
            }
        }
        open(&ring).map_err(|_| KeysError::Damaged(what))
    }

    /// Loads the table again, because the ring lacks `version`.
    async fn load(&self, version: u32) -> Result<(), KeysError> {
        let mut missing = self.loading.lock().await;
        if self.ring().has(version) {
            return Ok(());
        }
        if let Some(since) = missing.get(&version)
            && since.elapsed() < MISSING_KEPT_FOR
        {
            return Ok(());
        }
        let asked = Instant::now();
        self.reload().await?;
        if !self.ring().has(version) {
            if missing.len() >= MISSING_MAX {
                missing.clear();
            }
            missing.insert(version, asked);
        }
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

#[cfg(test)]
mod tests;
