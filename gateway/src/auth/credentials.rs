//! Access keys as requests use them: looked up once at a time, opened, and kept for a moment.

use super::kept::{KEPT_FOR, Kept, Recalled};
use crate::lock::lock;
use crate::ops::{Caller, Outage};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use megalith_client::{ClientError, Metadata, TypedCalls as _, chain};
use megalith_crypto::{AccessSecret, IdForm, KeyRing};
use megalith_keyring::{KeyUse, KeysError};
use megalith_model::ids::AccountId;
use megalith_model::question;
use megalith_model::rows::{AccessKeyRow, AccountRow};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

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
    /// Too many ids are asked for that anybody may have made up, as this one.
    #[error("too many unknown access keys")]
    Busy,
    /// The metadata group didn't answer.
    #[error("credentials unavailable: {1}")]
    Unavailable(Outage, String),
}

/// What was found: None if there is no key that works.
type Found = Option<Arc<ActiveKey>>;
type Question = Shared<BoxFuture<'static, Result<Found, CredentialError>>>;

/// The access keys.
pub struct Credentials {
    shared: Arc<Parts>,
}

struct Parts {
    meta: Arc<dyn Metadata>,
    state: Mutex<State>,
}

struct State {
    kept: Kept<Arc<ActiveKey>>,
    /// The questions that wait for their answer, by id. As many as requests wait for, at most.
    asking: HashMap<String, Asking>,
}

/// A question on its way.
struct Asking {
    at: Instant,
    question: WeakShared<BoxFuture<'static, Result<Found, CredentialError>>>,
}

/// Removes a question when it has its answer, or when nobody waits for it any more.
struct Ended {
    shared: Arc<Parts>,
    id: String,
    at: Instant,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        let same = |asking: &Asking| asking.at == self.at;
        if state.asking.get(&self.id).is_some_and(same) {
            state.asking.remove(&self.id);
        }
    }
}

impl Credentials {
    /// Builds the access keys over the metadata group.
    #[must_use]
    pub fn new(meta: Arc<dyn Metadata>) -> Self {
        let state = State {
            kept: Kept::new(Instant::now()),
            asking: HashMap::new(),
        };
        let shared = Parts {
            meta,
            state: Mutex::new(state),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Finds an access key that works. The metadata group is not asked for what is no id of this
    /// cluster, nor twice at a time for one. `keys` are as the request uses them.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub async fn find(
        &self,
        keys: &KeyUse,
        access_key: &str,
    ) -> Result<Arc<ActiveKey>, CredentialError> {
        let made = match keys.ids().judge(access_key) {
            IdForm::Made => true,
            IdForm::Unchecked => false,
            IdForm::MadeUp => return Err(CredentialError::Unknown),
        };
        let question = match self.known_or_asked(keys, access_key, made)? {
            Known::Key(key) => return Ok(key),
            Known::Asked(question) => question,
        };
        question.await?.ok_or(CredentialError::Unknown)
    }

    fn known_or_asked(
        &self,
        keys: &KeyUse,
        id: &str,
        made: bool,
    ) -> Result<Known, CredentialError> {
        let now = Instant::now();
        let mut state = lock(&self.shared.state);
        // One that is asked for already costs no further question. An answer that comes late may be
        // older than anything that may be kept, so the question must be young.
        if let Some(asking) = state.asking.get(id)
            && now.duration_since(asking.at) < KEPT_FOR
            && let Some(question) = asking.question.upgrade()
        {
            return Ok(Known::Asked(question));
        }
        match state.kept.recall(id, made, now) {
            Recalled::Works(key) => return Ok(Known::Key(key)),
            Recalled::Missing => return Err(CredentialError::Unknown),
            Recalled::Busy => {
                metrics::counter!("megalith_s3_unknown_keys_put_off_total").increment(1);
                return Err(CredentialError::Busy);
            }
            Recalled::Ask => {}
        }
        let ended = Ended {
            shared: Arc::clone(&self.shared),
            id: id.to_owned(),
            at: now,
        };
        let question = ask(ended, keys.clone()).boxed().shared();
        if let Some(weak) = question.downgrade() {
            let asking = Asking {
                at: now,
                question: weak,
            };
            state.asking.insert(id.to_owned(), asking);
        }
        Ok(Known::Asked(question))
    }
}

enum Known {
    Key(Arc<ActiveKey>),
    Asked(Question),
}

/// Asks for a key, and keeps the answer.
async fn ask(ended: Ended, keys: KeyUse) -> Result<Found, CredentialError> {
    let Parts { meta, state } = &*ended.shared;
    let asked = question::AccessKey {
        access_key: ended.id.clone(),
    };
    metrics::counter!("megalith_s3_keys_asked_total").increment(1);
    let answer = meta.ask(asked).await;
    let answer = answer.map_err(|error| unavailable(&error))?;
    let found = match answer {
        Some((row, account)) => open(&keys, &ended.id, &row, &account).await?,
        None => None,
    };
    lock(state).kept.keep(&ended.id, ended.at, found.clone());
    Ok(found)
}

fn unavailable(error: &ClientError) -> CredentialError {
    let outage = match error {
        ClientError::Denied(_) => Outage::Denied,
        ClientError::Unknown(_)
        | ClientError::Unavailable(_)
        | ClientError::Rejected(_)
        | ClientError::Malformed(_) => Outage::Metadata,
    };
    CredentialError::Unavailable(outage, error.to_string())
}

/// Opens a key's record; None if it was altered, or if the key or its account is disabled.
async fn open(
    keys: &KeyUse,
    id: &str,
    row: &AccessKeyRow,
    account: &AccountRow,
) -> Result<Found, CredentialError> {
    let sealed = &row.sealed_credential;
    let open = |ring: &KeyRing| ring.credentials().open(id, sealed);
    let credential = match keys.opened("access key", sealed, open).await {
        Ok(credential) => credential,
        // Said once where the keys are opened, and not for each access key.
        Err(KeysError::Root(error)) if let Some(outage) = Outage::of_root(&error) => {
            return Err(CredentialError::Unavailable(outage, error.to_string()));
        }
        Err(error @ (KeysError::Damaged(_) | KeysError::Root(_))) => {
            tracing::error!(
                access_key = id,
                error = chain(&error),
                "an access key's record does not open: it was altered"
            );
            return Ok(None);
        }
        Err(KeysError::Metadata(error)) => return Err(unavailable(&error)),
        // The key may be a good one: callers must not hear that there is none.
        Err(error @ (KeysError::Lost | KeysError::Missing { .. })) => {
            let why = chain(&error);
            tracing::error!(
                access_key = id,
                error = why,
                "an access key's record is not opened"
            );
            return Err(CredentialError::Unavailable(Outage::Keys, why));
        }
    };
    if credential.account != account.id.0 || row.account != account.id {
        tracing::error!(
            access_key = id,
            "an access key's record names another account"
        );
        return Ok(None);
    }
    if !credential.account_enabled && account.enabled {
        tracing::error!(
            access_key = id,
            account = account.id.0,
            "an access key's record says that its account is disabled, and the account's row that \
             it is enabled: the row was altered, or a change of it was broken off"
        );
    }
    if !(credential.enabled && credential.account_enabled && account.enabled) {
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

#[cfg(test)]
mod tests;
