//! The ring of key-encryption keys in use, and the list sealers derived from it.
//!
//! Owns: the [roots](root), loading the KEKs, making the first one, noticing newer ones, and how
//! long opened ones stay in memory (`held`). Must never use a KEK that the cluster's root did not
//! seal, nor make one where records name an older one.

mod held;
pub mod root;
pub mod vault;

use held::{Held, Opened};
use megalith_client::{ClientError, Metadata, TypedCalls as _};
use megalith_crypto::{
    CryptoError, DataKey, KeyIds, KeyRing, ListingSealer, ObjectContext, UploadContext,
};
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_model::ids::{BucketId, ClusterId};
use megalith_model::question;
use megalith_model::sealed::kek_version;
use root::{Hold, RootError, Roots};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::{Duration, Instant};

// What is sealed with these keys is never longer than the metadata accepts. An owner is a number,
// so its record is shorter than that of a key.
const _: () = {
    use megalith_crypto::credential::{ACCESS_KEY_ID_BYTES_MAX, SEALED_CREDENTIAL_MAX};
    use megalith_crypto::keys::kek::SEALED_KEK_LEN_MAX;
    use megalith_crypto::keys::{KEK_VERSIONS_MAX, WRAPPED_KEY_LEN};
    use megalith_crypto::listing::SEALED_LISTING_MAX;
    use megalith_crypto::manifest::{PARTS_MAX, SEALED_MANIFEST_MAX, SEALED_PART_MAX};
    use megalith_model::machine::{NAME_LEN_MAX, PART_MAX, sizes};
    assert!(WRAPPED_KEY_LEN <= sizes::WRAPPED_KEY_LEN_MAX);
    assert!(WRAPPED_KEY_LEN <= sizes::SEALED_OWNER_LEN_MAX);
    assert!(SEALED_KEK_LEN_MAX <= sizes::SEALED_KEK_LEN_MAX);
    assert!(KEK_VERSIONS_MAX <= sizes::KEK_VERSION_MAX as usize);
    assert!(SEALED_CREDENTIAL_MAX <= sizes::SEALED_CREDENTIAL_LEN_MAX);
    assert!(ACCESS_KEY_ID_BYTES_MAX <= NAME_LEN_MAX);
    assert!(SEALED_LISTING_MAX <= sizes::SEALED_LISTING_LEN_MAX);
    assert!(SEALED_MANIFEST_MAX <= sizes::SEALED_MANIFEST_LEN_MAX);
    assert!(SEALED_PART_MAX <= sizes::SEALED_PART_LEN_MAX);
    assert!(PARTS_MAX <= PART_MAX as usize);
};

/// How long it is believed that a version isn't in the table, however many records name it, and
/// that the table is what it was, however many records don't open.
const TABLE_BELIEVED_FOR: Duration = Duration::from_secs(1);
/// The most versions that are remembered as missing.
const MISSING_MAX: usize = 64;

/// When each version was last not found in the table.
type Missing = HashMap<u32, Instant>;

/// The keys of a gateway.
pub struct Keys {
    cluster: ClusterId,
    ids: KeyIds,
    held: Arc<Held>,
    /// Held while the KEKs are loaded because one is missing, so that many readers ask once.
    loading: tokio::sync::Mutex<Missing>,
}

/// Why the keys could not be loaded, or something did not open under them.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The metadata group didn't answer.
    #[error("read the key-encryption keys")]
    Metadata(#[from] ClientError),
    /// The root belongs to another cluster, is out of reach, or a record was altered.
    #[error("open this cluster's key-encryption keys")]
    Root(#[from] RootError),
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
        roots: Roots,
    ) -> Result<Arc<Self>, KeysError> {
        let mut rows = meta.ask(question::Keks).await?;
        if rows.is_empty() {
            let sealed_kek = roots.new_kek(cluster, 1, None).await?;
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
        let opened = roots.open(cluster, &rows).await?;
        // All carry the same.
        let ids = opened
            .last()
            .map(|kek| KeyIds::of_key(kek.ids(), cluster.0));
        let ids = ids.expect("rows are there, and all were opened");
        let held = Arc::new(Held::new(cluster, roots, meta));
        held.keep(&opened, rows, 0)?;
        Ok(Arc::new(Self {
            cluster,
            ids,
            held,
            loading: tokio::sync::Mutex::default(),
        }))
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

    /// Says why no key can be opened at present, if that is so.
    #[must_use]
    pub fn outage(&self) -> Option<String> {
        self.held.outage().map(|error| error.to_string())
    }

    /// Makes sure that what is held is what the table has; else it is opened anew when needed.
    ///
    /// To be called for each lease of blob ids that was opened, before an id of it is used: a
    /// restore from a backup closes all leases, and may put back an older table. So who seals after
    /// he took an id seals under a key that is in the table, or his command is refused.
    ///
    /// # Errors
    /// The metadata group didn't answer.
    pub async fn confirm(&self) -> Result<(), ClientError> {
        self.held.confirm().await
    }

    /// Begins a use of the keys: by a request, or by an operator's command.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> KeyUse {
        KeyUse {
            keys: Arc::clone(self),
            own: Arc::default(),
        }
    }
}

/// A use of the keys. Where keys are not held beyond it, they are opened once for it and wiped with
/// it. Cloned handles are the same use.
#[derive(Clone)]
pub struct KeyUse {
    keys: Arc<Keys>,
    /// What was opened for this use alone.
    own: Arc<tokio::sync::Mutex<Option<Arc<Opened>>>>,
}

impl KeyUse {
    /// Returns what makes and judges ids of access keys.
    #[must_use]
    pub fn ids(&self) -> &KeyIds {
        self.keys.ids()
    }

    /// Returns the cluster that the keys belong to.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.keys.cluster
    }

    /// Returns the ring, opened if it is not.
    ///
    /// # Errors
    /// [`KeysError::Root`], [`KeysError::Metadata`], [`KeysError::Lost`].
    pub async fn ring(&self) -> Result<KeyRing, KeysError> {
        Ok(self.opened_ring().await?.ring().clone())
    }

    /// Returns the sealer of a bucket's list rows.
    ///
    /// # Errors
    /// As [`KeyUse::ring`].
    pub async fn listing(&self, bucket: BucketId) -> Result<Arc<ListingSealer>, KeysError> {
        Ok(self.opened_ring().await?.listing(bucket))
    }

    /// Unwraps an object's data key; loads newer KEKs if it names one.
    ///
    /// # Errors
    /// As [`KeyUse::opened`].
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
    /// As [`KeyUse::opened`].
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
    /// gateway has made it. If it doesn't open, makes sure that the ring has the table's keys, as
    /// it may not after a restore.
    ///
    /// # Errors
    /// [`KeysError::Damaged`] and [`KeysError::Missing`], naming `what`; as [`KeyUse::ring`].
    pub async fn opened<T>(
        &self,
        what: &'static str,
        sealed: &[u8],
        open: impl Fn(&KeyRing) -> Result<T, CryptoError>,
    ) -> Result<T, KeysError> {
        let mut opened = self.opened_ring().await?;
        if let Some(version) = kek_version(sealed)
            && !opened.ring().has(version)
        {
            opened = self.load(version).await?;
            if !opened.ring().has(version) {
                return Err(KeysError::Missing { what, version });
            }
        }
        if let Ok(open) = open(opened.ring()) {
            return Ok(open);
        }
        let held = &self.keys.held;
        if !held.was_read_within(TABLE_BELIEVED_FOR) {
            held.confirm().await?;
        }
        if held.is_current(&opened) {
            return Err(KeysError::Damaged(what));
        }
        opened = self.opened_ring().await?;
        open(opened.ring()).map_err(|_| KeysError::Damaged(what))
    }

    async fn opened_ring(&self) -> Result<Arc<Opened>, KeysError> {
        let held = &self.keys.held;
        match held.hold() {
            Hold::Always | Hold::For(_) => held.opened().await,
            Hold::Never => {
                let mut own = self.own.lock().await;
                if let Some(opened) = own.as_ref().filter(|opened| held.is_current(opened)) {
                    return Ok(Arc::clone(opened));
                }
                Ok(Arc::clone(own.insert(held.open_once().await?)))
            }
        }
    }

    /// Makes `newest` the version that seals; loads the table if it isn't.
    ///
    /// # Errors
    /// [`KeysError::Missing`] if the table has another newest version; as [`KeyUse::ring`].
    pub async fn renew(&self, newest: u32) -> Result<(), KeysError> {
        let is_newest = |opened: &Opened| opened.ring().newest_version() == newest;
        if is_newest(&*self.opened_ring().await?) {
            return Ok(());
        }
        let _loading = self.keys.loading.lock().await;
        if is_newest(&*self.opened_ring().await?) || is_newest(&*self.open_anew().await?) {
            return Ok(());
        }
        let what = "the newest of the cluster's records";
        let version = newest;
        Err(KeysError::Missing { what, version })
    }

    /// Loads the table again: the ring has what the table has, and nothing else.
    ///
    /// # Errors
    /// As [`KeyUse::ring`].
    pub async fn reload(&self) -> Result<(), KeysError> {
        self.open_anew().await.map(drop)
    }

    async fn open_anew(&self) -> Result<Arc<Opened>, KeysError> {
        let opened = self.keys.held.open_anew().await?;
        if self.keys.held.hold() == Hold::Never {
            *self.own.lock().await = Some(Arc::clone(&opened));
        }
        Ok(opened)
    }

    /// Loads the table again, because the ring lacks `version`.
    async fn load(&self, version: u32) -> Result<Arc<Opened>, KeysError> {
        let mut missing = self.keys.loading.lock().await;
        let known = self.opened_ring().await?;
        if known.ring().has(version) {
            return Ok(known);
        }
        if let Some(since) = missing.get(&version)
            && since.elapsed() < TABLE_BELIEVED_FOR
        {
            return Ok(known);
        }
        let asked = Instant::now();
        let opened = self.open_anew().await?;
        if !opened.ring().has(version) {
            if missing.len() >= MISSING_MAX {
                missing.clear();
            }
            missing.insert(version, asked);
        }
        Ok(opened)
    }
}

#[cfg(test)]
mod tests;
