//! What stands at the top: it seals and opens key-encryption keys.
//!
//! A root is a root key that the process holds, or a key in a service that never gives it away.
//! [`Roots`] are those that a process may use: each sealed KEK says which kind has sealed it, so
//! that a cluster can move from one to the other while gateways run. Nothing is kept here: how long
//! opened keys stay in memory is decided in `hold`.

use futures::future::BoxFuture;
use megalith_crypto::{CryptoError, IdKey, OpenedKek, RootKey, SealedBy};
use megalith_model::ids::ClusterId;
use megalith_model::rows::KekRow;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

/// Seals and opens key-encryption keys (KEKs).
pub trait Root: Send + Sync + 'static {
    /// Names it for an operator: no secret is in it.
    fn name(&self) -> String;

    /// Seals a KEK.
    fn seal<'a>(
        &'a self,
        cluster: ClusterId,
        kek: &'a OpenedKek,
    ) -> BoxFuture<'a, Result<Vec<u8>, RootError>>;

    /// Opens rows, in their order, by one call of a service. Fails if one of them doesn't open.
    fn open<'a>(
        &'a self,
        cluster: ClusterId,
        rows: &'a [KekRow],
    ) -> BoxFuture<'a, Result<Vec<OpenedKek>, RootError>>;

    /// Seals under the newest version of its key what it has sealed; None if that is so already.
    fn renew<'a>(&'a self, row: &'a KekRow) -> BoxFuture<'a, Result<Option<Vec<u8>>, RootError>>;
}

/// Why a root seals or opens nothing. Says what to do; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// No answer in time, or none that a key service gives.
    #[error(
        "{service} does not answer ({why}). Nothing is lost: once it answers, all goes on by itself"
    )]
    Unreachable { service: String, why: String },
    #[error("{service} is sealed: unseal it. Nothing is lost: then all goes on by itself")]
    Sealed { service: String },
    #[error(
        "{service} denies {action} to the token in {token_file}: it has expired, was revoked, or \
         its policy lacks `update` on that path. Put a valid token there; it is read for each call"
    )]
    Denied {
        service: String,
        /// The path that was called.
        action: String,
        token_file: String,
    },
    #[error(
        "{service} has no key {key:?}: it was deleted, or the settings name another. Restore it \
         from a backup of the service; a new key of that name opens nothing"
    )]
    NoSuchKey { service: String, key: String },
    #[error(
        "{service} has nothing mounted at {mount:?}: enable the Transit engine there, or mend the \
         settings"
    )]
    NoSuchMount { service: String, mount: String },
    #[error(
        "a key-encryption key is sealed under a version of key {key:?} below the key's \
         `min_decryption_version` in {service}. Lower it, run `megalith key reseal`, and raise it \
         again"
    )]
    TooOld { service: String, key: String },
    /// It opens to something else, or not at all.
    #[error(
        "{root} does not open key-encryption key {version}: another has sealed it, for this or for \
         another cluster, or the record was altered"
    )]
    Foreign { root: String, version: u32 },
    /// The settings name no root of the kind that has sealed a KEK.
    #[error(
        "key-encryption key {version} is sealed under {}, and the settings name none", kind(*.by)
    )]
    NotNamed { version: u32, by: SealedBy },
    /// Something else that the service said.
    #[error("{service} answers {status}: {why}")]
    Refused {
        service: String,
        /// The HTTP status.
        status: u16,
        why: String,
    },
    #[error("read the token for the key service: {0}")]
    Token(String),
    #[error("seal a key-encryption key")]
    Crypto(#[source] CryptoError),
}

fn kind(by: SealedBy) -> &'static str {
    match by {
        SealedBy::RootKey => "a root key (`root_key_file`)",
        SealedBy::Service => "a key service (`vault`)",
    }
}

impl RootError {
    /// Returns true if the same call may succeed later, when an operator has done something: what
    /// is stored is as it was.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Sealed { .. }
            | Self::Denied { .. }
            | Self::NoSuchKey { .. }
            | Self::NoSuchMount { .. }
            | Self::TooOld { .. }
            | Self::Refused { .. }
            | Self::Token(_) => true,
            Self::Foreign { .. } | Self::NotNamed { .. } | Self::Crypto(_) => false,
        }
    }

    /// Names the outcome of a call for the metrics.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Sealed { .. } => "sealed",
            Self::Denied { .. } => "denied",
            Self::NoSuchKey { .. } => "no_key",
            Self::NoSuchMount { .. } => "no_mount",
            Self::TooOld { .. } => "too_old",
            Self::Refused { .. } => "refused",
            Self::Token(_) => "no_token",
            Self::Foreign { .. } | Self::NotNamed { .. } | Self::Crypto(_) => "closed",
        }
    }
}

/// How long opened keys stay in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// As long as the process runs: the root key is in its memory anyway.
    Always,
    /// For this time after they were opened; then they are wiped, and opened again when needed.
    For(Duration),
    /// No longer than the request that needs them.
    Never,
}

/// The roots that a process may use: a root key, a key service, or both.
#[derive(Clone)]
pub struct Roots {
    local: Option<Arc<LocalRoot>>,
    service: Option<(Arc<dyn Root>, Hold)>,
}

impl Roots {
    /// Takes a root key alone. `name` says where it comes from.
    #[must_use]
    pub fn local(key: RootKey, name: &str) -> Self {
        let local = LocalRoot::new(key, name);
        Self {
            local: Some(Arc::new(local)),
            service: None,
        }
    }

    /// Takes a key service alone.
    #[must_use]
    pub fn service(root: Arc<dyn Root>, hold: Hold) -> Self {
        Self {
            local: None,
            service: Some((root, hold)),
        }
    }

    /// Adds a key service: the root key opens what it has sealed, and the service seals what is
    /// new.
    #[must_use]
    pub fn and_service(self, root: Arc<dyn Root>, hold: Hold) -> Self {
        let service = Some((root, hold));
        Self { service, ..self }
    }

    /// Returns how long opened keys stay in memory.
    #[must_use]
    pub fn hold(&self) -> Hold {
        let service = self.service.as_ref();
        service.map_or(Hold::Always, |(_, hold)| *hold)
    }

    /// Returns the root of a kind, if there is one.
    #[must_use]
    pub fn of_kind(&self, by: SealedBy) -> Option<Arc<dyn Root>> {
        match by {
            SealedBy::RootKey => {
                let local = self.local.clone()?;
                Some(local)
            }
            SealedBy::Service => self.service.as_ref().map(|(root, _)| Arc::clone(root)),
        }
    }

    /// Names them for an operator.
    #[must_use]
    pub fn name(&self) -> String {
        let all = [SealedBy::Service, SealedBy::RootKey];
        let named = all.into_iter().filter_map(|by| self.of_kind(by));
        let names: Vec<String> = named.map(|root| root.name()).collect();
        names.join(" or ")
    }

    /// Makes a KEK and seals it, under the key service if there is one. `ids` is what the cluster's
    /// other KEKs carry; None for the first one.
    ///
    /// # Errors
    /// See [`RootError`].
    pub async fn new_kek(
        &self,
        cluster: ClusterId,
        version: u32,
        ids: Option<IdKey>,
    ) -> Result<Vec<u8>, RootError> {
        let first = || match (&self.service, &self.local) {
            // As all clusters so far, so that older programs understand its ids.
            (None, Some(local)) => Ok(local.key.id_key()),
            (Some(_), _) | (None, None) => IdKey::generate(),
        };
        let ids = ids.map_or_else(first, Ok).map_err(RootError::Crypto)?;
        let kek = OpenedKek::generate(version, ids).map_err(RootError::Crypto)?;
        match (&self.service, &self.local) {
            (Some((service, _)), _) => service.seal(cluster, &kek).await,
            (None, Some(local)) => local.seal(cluster, &kek).await,
            (None, None) => {
                let by = SealedBy::RootKey;
                Err(RootError::NotNamed { version, by })
            }
        }
    }

    /// Opens rows, each by the root that has sealed it. In the order of their versions.
    ///
    /// # Errors
    /// See [`RootError`]; the first one that is found.
    pub async fn open(
        &self,
        cluster: ClusterId,
        rows: &[KekRow],
    ) -> Result<Vec<OpenedKek>, RootError> {
        let mut opened = Vec::with_capacity(rows.len());
        for by in [SealedBy::RootKey, SealedBy::Service] {
            let sealed: Vec<KekRow> = rows
                .iter()
                .filter(|row| sealed_by(row) == by)
                .cloned()
                .collect();
            let Some(KekRow { version, .. }) = sealed.first() else {
                continue;
            };
            let version = *version;
            let root = self
                .of_kind(by)
                .ok_or(RootError::NotNamed { version, by })?;
            opened.extend(root.open(cluster, &sealed).await?);
        }
        opened.sort_by_key(OpenedKek::version);
        Ok(opened)
    }
}

/// Returns what has sealed a row. What nothing of ours has sealed, the root key is to refuse.
#[must_use]
pub fn sealed_by(row: &KekRow) -> SealedBy {
    SealedBy::read(&row.sealed_kek).unwrap_or(SealedBy::RootKey)
}

/// A root key that the process holds.
struct LocalRoot {
    key: RootKey,
    name: String,
}

impl LocalRoot {
    fn new(key: RootKey, name: &str) -> Self {
        let name = name.to_owned();
        Self { key, name }
    }

    fn open_one(&self, cluster: ClusterId, row: &KekRow) -> Result<OpenedKek, RootError> {
        let opened = self.key.open_kek(cluster.0, row.version, &row.sealed_kek);
        opened.map_err(|_| RootError::Foreign {
            root: self.name(),
            version: row.version,
        })
    }
}

impl Root for LocalRoot {
    fn name(&self) -> String {
        format!("root key {}", self.name)
    }

    fn seal<'a>(
        &'a self,
        cluster: ClusterId,
        kek: &'a OpenedKek,
    ) -> BoxFuture<'a, Result<Vec<u8>, RootError>> {
        let sealed = self.key.seal_kek(cluster.0, kek);
        Box::pin(ready(sealed.map_err(RootError::Crypto)))
    }

    fn open<'a>(
        &'a self,
        cluster: ClusterId,
        rows: &'a [KekRow],
    ) -> BoxFuture<'a, Result<Vec<OpenedKek>, RootError>> {
        let opened = rows.iter().map(|row| self.open_one(cluster, row)).collect();
        Box::pin(ready(opened))
    }

    fn renew<'a>(&'a self, _row: &'a KekRow) -> BoxFuture<'a, Result<Option<Vec<u8>>, RootError>> {
        // It has one version.
        Box::pin(ready(Ok(None)))
    }
}

#[cfg(test)]
mod tests;
