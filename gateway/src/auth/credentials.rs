//! Access keys as requests use them: looked up, opened, and kept for a moment.

use crate::lock::lock;
use crate::ops::{Caller, Outage};
use megalith_client::{ClientError, Metadata, TypedCalls as _};
use megalith_crypto::AccessSecret;
use megalith_keyring::Keys;
use megalith_model::ids::AccountId;
use megalith_model::question;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a credential is kept: a disabled key works no longer than this.
pub const KEPT_FOR: Duration = Duration::from_secs(2);
/// How long it is remembered that a key doesn't exist.
const MISSING_KEPT_FOR: Duration = Duration::from_secs(1);
/// The most credentials kept.
const KEPT_MAX: usize = 10_000;
/// The longest access key that is looked up.
const ACCESS_KEY_BYTES_MAX: usize = 128;

/// An access key that works.
pub struct ActiveKey {
    /// The secret that requests are signed with.
    pub secret: AccessSecret,
    /// The account it acts for.
    pub caller: Caller,
}

/// Why an access key doesn't work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// It doesn't exist, or it or its account is disabled: callers learn no more than that.
    #[error("no such access key")]
    Unknown,
    /// The metadata group didn't answer.
    #[error("credentials unavailable: {1}")]
    Unavailable(Outage, String),
}

type Lookup = Result<Arc<ActiveKey>, CredentialError>;
/// By access key: when it was looked up, and what was found.
type Kept = HashMap<String, (Instant, Option<Arc<ActiveKey>>)>;

/// The access keys.
pub struct Credentials {
    meta: Arc<dyn Metadata>,
    keys: Arc<Keys>,
    kept: Mutex<Kept>,
}

impl Credentials {
    /// Builds the access keys over the metadata group and the key ring.
    #[must_use]
    pub fn new(meta: Arc<dyn Metadata>, keys: Arc<Keys>) -> Self {
        Self {
            meta,
            keys,
            kept: Mutex::default(),
        }
    }

    /// Finds an access key that works.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub async fn find(&self, access_key: &str) -> Lookup {
        if access_key.is_empty() || access_key.len() > ACCESS_KEY_BYTES_MAX {
            return Err(CredentialError::Unknown);
        }
        if let Some(known) = self.recall(access_key) {
            return known.ok_or(CredentialError::Unknown);
        }
        let asked = Instant::now();
        let found = self.ask(access_key).await?;
        self.keep(access_key, asked, found.clone());
        found.ok_or(CredentialError::Unknown)
    }

    async fn ask(&self, access_key: &str) -> Result<Option<Arc<ActiveKey>>, CredentialError> {
        let asked = question::AccessKey {
            access_key: access_key.to_owned(),
        };
        let found = self.meta.ask(asked).await;
        let found = found.map_err(|error| {
            let outage = match &error {
                ClientError::Denied(_) => Outage::Denied,
                ClientError::Unknown(_)
                | ClientError::Unavailable(_)
                | ClientError::Rejected(_)
                | ClientError::Malformed(_) => Outage::Metadata,
            };
            CredentialError::Unavailable(outage, error.to_string())
        })?;
        let Some((row, account)) = found else {
            return Ok(None);
        };
        let open = |ring: &megalith_crypto::KeyRing| {
            ring.credentials().open(access_key, &row.sealed_credential)
        };
        let Ok(credential) = self.keys.opened("access key", open).await else {
            tracing::error!(
                access_key,
                "an access key's record does not open: it was altered"
            );
            return Ok(None);
        };
        if credential.account != account.id.0 || row.account != account.id {
            tracing::error!(access_key, "an access key's record names another account");
            return Ok(None);
        }
        if !credential.enabled || !account.enabled {
            return Ok(None);
        }
        let caller = Caller {
            account: AccountId(credential.account),
        };
        Ok(Some(Arc::new(ActiveKey {
            secret: credential.secret,
            caller,
        })))
    }

    fn recall(&self, access_key: &str) -> Option<Option<Arc<ActiveKey>>> {
        let kept = self.kept();
        let (since, known) = kept.get(access_key)?;
        let limit = if known.is_some() {
            KEPT_FOR
        } else {
            MISSING_KEPT_FOR
        };
        (since.elapsed() < limit).then(|| known.clone())
    }

    fn keep(&self, access_key: &str, asked: Instant, known: Option<Arc<ActiveKey>>) {
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (since, _)| since.elapsed() < KEPT_FOR);
            if kept.len() >= KEPT_MAX {
                kept.clear();
            }
        }
        // Counted from the question, not from the answer: the limit is about the age of the key's
        // state.
        kept.insert(access_key.to_owned(), (asked, known));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }
}
