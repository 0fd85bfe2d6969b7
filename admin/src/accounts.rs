//! The operator's verbs for accounts and access keys, used by the command line.
//!
//! They need an operator's certificate and what opens the cluster's keys: a key's secret, account
//! and flag are sealed before the metadata group sees them.

use megalith_client::{ClientError, Metadata, TypedCalls as _, new_request};
use megalith_crypto::key_id::ID_RANDOM_LEN;
use megalith_crypto::{AccessSecret, Credential, CryptoError, Entropy as _, KeyIds, SystemEntropy};
use megalith_keyring::root::Roots;
use megalith_keyring::{KeyUse, Keys, KeysError};
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_model::ids::{AccountId, ClusterId};
use megalith_model::instruction::CreateAccount;
use megalith_model::query::PAGE_ROWS_MAX;
use megalith_model::question;
use megalith_model::rows::{AccessKeyRow, AccountRow};
use std::sync::Arc;
use zeroize::Zeroizing;

const SECRET_LEN: usize = 40;
const SECRET_LETTERS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The longest name of an account, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no account of that name.
    #[error("there is no account {0:?}")]
    NoSuchAccount(String),
    /// There is no such access key.
    #[error("there is no access key {0:?}")]
    NoSuchKey(String),
    /// The name is taken.
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    /// The name is not allowed.
    #[error("an account's name has 1 to 128 printable bytes without spaces at its ends")]
    InvalidName,
    /// The metadata group didn't answer, or not clearly.
    #[error("ask the metadata group")]
    Metadata(#[from] ClientError),
    /// The metadata group refused.
    #[error("the metadata group refused")]
    Refused(#[source] Refusal),
    /// The keys could not be loaded.
    #[error("load the keys")]
    Keys(#[from] KeysError),
    /// A key could not be made, or a stored one could not be opened.
    #[error("seal or open the access key")]
    Crypto(#[from] CryptoError),
}

/// A new access key. Its secret is shown only this once.
#[derive(Debug)]
pub struct CreatedKey {
    pub access_key: String,
    pub secret: AccessSecret,
    pub account: AccountRow,
}

/// The verbs.
pub struct Admin {
    meta: Arc<dyn Metadata>,
    /// One use: a command is short.
    keys: KeyUse,
}

impl Admin {
    /// Loads the keys that a root opens; makes the first key-encryption key if there is none.
    ///
    /// # Errors
    /// [`AdminError::Keys`], also if the root belongs to another cluster.
    pub async fn open(
        meta: Arc<dyn Metadata>,
        cluster: ClusterId,
        roots: Roots,
    ) -> Result<Self, AdminError> {
        let keys = Keys::open(Arc::clone(&meta), cluster, roots).await?;
        Ok(Self {
            meta,
            keys: keys.begin(),
        })
    }

    /// Creates an account.
    ///
    /// # Errors
    /// [`AdminError::NameTaken`], [`AdminError::InvalidName`].
    pub async fn create_account(&self, name: &str) -> Result<AccountRow, AdminError> {
        let printable = name.chars().all(|letter| !letter.is_control());
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !printable || name.trim() != name {
            return Err(AdminError::InvalidName);
        }
        let create = CreateAccount {
            name: name.to_owned(),
            request: new_request(),
        };
        let answer = self.meta.instruct(None, create);
        answer.await?.map_err(|refusal| match refusal {
            Refusal::NameTaken => AdminError::NameTaken(name.to_owned()),
            other => AdminError::Refused(other),
        })
    }

    /// Lists all accounts, by name.
    ///
    /// # Errors
    /// [`AdminError::Metadata`].
    pub async fn accounts(&self) -> Result<Vec<AccountRow>, AdminError> {
        let mut accounts: Vec<AccountRow> = Vec::new();
        loop {
            let after = accounts
                .last()
                .map(|row| row.name.clone())
                .unwrap_or_default();
            let asked = question::Accounts {
                after,
                max: PAGE_ROWS_MAX,
            };
            let page = self.meta.ask(asked).await?;
            let full = page.len() >= PAGE_ROWS_MAX as usize;
            accounts.extend(page);
            if !full {
                return Ok(accounts);
            }
        }
    }

    /// Finds an account by name.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`].
    pub async fn account(&self, name: &str) -> Result<AccountRow, AdminError> {
        let found = self
            .accounts()
            .await?
            .into_iter()
            .find(|row| row.name == name);
        found.ok_or_else(|| AdminError::NoSuchAccount(name.to_owned()))
    }

    /// Enables or disables an account with all its keys. Gateways follow within two seconds.
    ///
    /// The account's row is not sealed, its keys' records are: whether the account is enabled
    /// stands in each of them, too, and both must say so. Whatever was done when this ends early,
    /// the account is disabled; it can be run again.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`].
    pub async fn set_account_enabled(&self, name: &str, enabled: bool) -> Result<(), AdminError> {
        let row = self.account(name).await?;
        if enabled {
            self.mark_keys(row.id, true).await?;
        }
        let command = Command::SetAccountEnabled {
            account: row.id,
            enabled,
            revision: row.revision + 1,
        };
        self.propose(command).await?;
        // Once more, or for the first time: keys may have been made meanwhile.
        self.mark_keys(row.id, enabled).await
    }

    /// Seals into all keys of an account whether it is enabled.
    async fn mark_keys(&self, account: AccountId, enabled: bool) -> Result<(), AdminError> {
        let ring = self.keys.ring().await?;
        for row in self.keys_of(Some(account)).await? {
            let mut credential = ring
                .credentials()
                .open(&row.access_key, &row.sealed_credential)?;
            if credential.account_enabled != enabled {
                credential.account_enabled = enabled;
                self.put_key(&row.access_key, account, &credential, row.revision + 1)
                    .await?;
            }
        }
        Ok(())
    }

    /// Creates an access key for an account.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`].
    pub async fn create_key(&self, account: &str) -> Result<CreatedKey, AdminError> {
        let account = self.account(account).await?;
        let (access_key, secret) = new_key(self.keys.ids())?;
        let credential = Credential {
            secret,
            account: account.id.0,
            enabled: true,
            account_enabled: account.enabled,
            name: account.name.clone(),
        };
        self.put_key(&access_key, account.id, &credential, 1)
            .await?;
        // The account may have been enabled or disabled meanwhile, before this key was there.
        let now = self.account(&account.name).await?;
        if now.enabled != account.enabled {
            self.mark_keys(account.id, now.enabled).await?;
        }
        Ok(CreatedKey {
            access_key,
            secret: credential.secret,
            account,
        })
    }

    /// Lists access keys by id: those of one account, or all. Secrets stay sealed.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`].
    pub async fn list_keys(&self, account: Option<&str>) -> Result<Vec<AccessKeyRow>, AdminError> {
        let account = match account {
            Some(name) => Some(self.account(name).await?.id),
            None => None,
        };
        self.keys_of(account).await
    }

    /// Enables or disables an access key. Gateways follow within two seconds.
    ///
    /// # Errors
    /// [`AdminError::NoSuchKey`].
    pub async fn set_key_enabled(&self, access_key: &str, enabled: bool) -> Result<(), AdminError> {
        let asked = question::AccessKey {
            access_key: access_key.to_owned(),
        };
        let found = self.meta.ask(asked).await?;
        let (row, _) = found.ok_or_else(|| AdminError::NoSuchKey(access_key.to_owned()))?;
        let sealer = self.keys.ring().await?.credentials();
        let mut credential = sealer.open(access_key, &row.sealed_credential)?;
        credential.enabled = enabled;
        let account = AccountId(credential.account);
        self.put_key(access_key, account, &credential, row.revision + 1)
            .await
    }

    async fn put_key(
        &self,
        access_key: &str,
        account: AccountId,
        credential: &Credential,
        revision: u64,
    ) -> Result<(), AdminError> {
        let sealer = self.keys.ring().await?.credentials();
        let sealed_credential = sealer.seal(access_key, credential)?;
        let command = Command::PutAccessKey {
            access_key: access_key.to_owned(),
            account,
            enabled: credential.enabled,
            revision,
            sealed_credential,
        };
        self.propose(command).await
    }

    async fn keys_of(&self, account: Option<AccountId>) -> Result<Vec<AccessKeyRow>, AdminError> {
        let mut keys: Vec<AccessKeyRow> = Vec::new();
        loop {
            let after = keys
                .last()
                .map(|row| row.access_key.clone())
                .unwrap_or_default();
            let asked = question::AccessKeys {
                account,
                after,
                max: PAGE_ROWS_MAX,
            };
            let page = self.meta.ask(asked).await?;
            let full = page.len() >= PAGE_ROWS_MAX as usize;
            keys.extend(page);
            if !full {
                return Ok(keys);
            }
        }
    }

    async fn propose(&self, command: Command) -> Result<(), AdminError> {
        let envelope = Envelope { key: None, command };
        let answer = self.meta.propose(envelope).await?;
        answer.map(drop).map_err(AdminError::Refused)
    }
}

/// Makes a public id and a secret for an access key, from the operating system's random source.
fn new_key(ids: &KeyIds) -> Result<(String, AccessSecret), CryptoError> {
    let mut id = [0; ID_RANDOM_LEN];
    let mut secret = Zeroizing::new([0_u8; SECRET_LEN]);
    for bytes in [&mut id[..], &mut secret[..]] {
        SystemEntropy.fill(bytes).map_err(|_| CryptoError::Random)?;
    }
    // The number of letters divides 256, so every letter is equally likely.
    let letter = |byte: &u8| char::from(SECRET_LETTERS[usize::from(*byte) % SECRET_LETTERS.len()]);
    let secret: String = secret.iter().map(letter).collect();
    Ok((ids.make(&id), AccessSecret::new(secret)))
}

#[cfg(test)]
pub(crate) mod tests;
