//! A key in the Transit engine of HashiCorp Vault or OpenBao, as a root.
//!
//! Owns the calls and what their answers mean. Must never let the token or a plaintext into a
//! message, call anybody but the configured address, or speak without TLS to another machine. What
//! is encrypted names its cluster and version itself: `rewrap` takes no associated data (in OpenBao
//! and in Vault before 1.16), so that binding a KEK by that alone would end with the first rewrap.
//!
//! How the service answers: <https://openbao.org/api-docs/secret/transit/>,
//! <https://developer.hashicorp.com/vault/api-docs/secret/transit> and
//! <https://developer.hashicorp.com/vault/api-docs#http-status-codes>.

mod answer;
mod caller;

use crate::root::{Root, RootError};
use answer::{Called, Data, Fault, judge};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use caller::Caller;
use futures::future::BoxFuture;
use megalith_crypto::OpenedKek;
use megalith_crypto::keys::kek::{of_service, service_ciphertext};
use megalith_model::ids::ClusterId;
use megalith_model::machine::sizes::SEALED_KEK_LEN_MAX;
use megalith_model::rows::KekRow;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// Reads the token, or says why it can't. Asked for each call, so that a renewed one is used at
/// once.
pub type TokenSource = Arc<dyn Fn() -> Result<Zeroizing<String>, String> + Send + Sync>;

/// Where a key is.
#[derive(Clone, Debug)]
pub struct VaultSettings {
    /// `https://host:port`; `http` for this machine only.
    pub address: String,
    /// Where the Transit engine is mounted.
    pub mount: String,
    /// The key's name.
    pub key: String,
    /// The namespace, if the service has several.
    pub namespace: Option<String>,
    /// Where the token comes from, for messages.
    pub token_file: String,
    /// The time for one call, from its start to the end of its answer.
    pub timeout: Duration,
}

/// Settings that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultSettingsError {
    #[error("`address` {0:?} is not `https://host:port`")]
    Address(String),
    #[error("`address` {0:?} has no TLS, so it may only be of this machine: `https://…`")]
    Plain(String),
    #[error("`{name}` {value:?} has other letters than a-z, A-Z, 0-9, `_`, `-` and `.`")]
    Name { name: &'static str, value: String },
}

/// A key of the Transit engine.
pub struct VaultTransit {
    settings: VaultSettings,
    token: TokenSource,
    caller: Caller,
}

/// What the engine is called for.
#[derive(Clone, Copy)]
enum Operation {
    Encrypt,
    Decrypt,
    Rewrap,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Rewrap => "rewrap",
        }
    }
}

impl VaultTransit {
    /// Builds the client, and calls nobody. `tls` says whom to trust.
    ///
    /// # Errors
    /// See [`VaultSettingsError`].
    pub fn new(
        settings: VaultSettings,
        token: TokenSource,
        tls: rustls::ClientConfig,
    ) -> Result<Self, VaultSettingsError> {
        let VaultSettings { mount, key, .. } = &settings;
        for (name, value) in [("mount", mount), ("key", key)] {
            let allowed = |byte: u8| {
                let slash = byte == b'/' && name == "mount";
                slash || byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)
            };
            if value.is_empty() || !value.bytes().all(allowed) || value.contains("..") {
                let value = value.clone();
                return Err(VaultSettingsError::Name { name, value });
            }
        }
        let caller = Caller::new(&settings.address, tls, settings.timeout)?;
        Ok(Self {
            settings,
            token,
            caller,
        })
    }

    fn called(&self, operation: Operation) -> Called<'_> {
        let VaultSettings {
            address,
            mount,
            key,
            token_file,
            ..
        } = &self.settings;
        Called {
            service: format!("the key service at {address}"),
            path: format!("{mount}/{}/{key}", operation.name()),
            mount,
            key,
            token_file,
        }
    }

    /// Calls the engine, and counts the call.
    async fn call(&self, operation: Operation, request: Zeroizing<Vec<u8>>) -> Result<Data, Fault> {
        let started = Instant::now();
        let called = self.called(operation);
        let answered = self.answered(&called, request).await;
        let outcome = match &answered {
            Ok(_) => "ok",
            Err(Fault::Closed(_)) => "closed",
            Err(Fault::Root(error)) => error.outcome(),
        };
        let labels = [("operation", operation.name()), ("outcome", outcome)];
        metrics::counter!("megalith_root_key_calls_total", &labels).increment(1);
        metrics::histogram!("megalith_root_key_call_seconds", "operation" => operation.name())
            .record(started.elapsed().as_secs_f64());
        answered
    }

    async fn answered(
        &self,
        called: &Called<'_>,
        request: Zeroizing<Vec<u8>>,
    ) -> Result<Data, Fault> {
        let read = Arc::clone(&self.token);
        // A file may hang.
        let token = spawn_blocking(move || read()).await;
        let token = token.unwrap_or_else(|error| Err(error.to_string()));
        let token = token.map_err(RootError::Token)?;
        let namespace = self.settings.namespace.as_deref();
        let sent = self.caller.post(&called.path, &token, namespace, request);
        let (status, body) = sent.await.map_err(|why| called.unreachable(why))?;
        judge(called, status, &body)
    }

    fn foreign(&self, row: &KekRow) -> RootError {
        let (root, version) = (self.name(), row.version);
        RootError::Foreign { root, version }
    }

    fn strange(&self, operation: Operation) -> RootError {
        let why = "its answer is not one of the Transit engine";
        self.called(operation).unreachable(why.to_owned())
    }

    /// Marks a ciphertext as one of a service, if a row has room for it.
    fn stored(&self, operation: Operation, data: Data) -> Result<Vec<u8>, RootError> {
        let sealed = data.ciphertext.map(|text| of_service(&text));
        let fitting = sealed.filter(|sealed| sealed.len() <= SEALED_KEK_LEN_MAX);
        fitting.ok_or_else(|| self.strange(operation))
    }

    async fn seal_one(&self, cluster: ClusterId, kek: &OpenedKek) -> Result<Vec<u8>, RootError> {
        let plaintext = Zeroizing::new(STANDARD.encode(&kek.to_body(cluster.0)[..]));
        // Not through a JSON value, which would leave a copy behind.
        let request = format!(r#"{{"plaintext":"{}"}}"#, *plaintext);
        let data = self.call(Operation::Encrypt, Zeroizing::new(request.into_bytes()));
        let data = data.await.map_err(|fault| match fault {
            Fault::Root(error) => error,
            Fault::Closed(_) => self.strange(Operation::Encrypt),
        })?;
        self.stored(Operation::Encrypt, data)
    }

    async fn open_all(
        &self,
        cluster: ClusterId,
        rows: &[KekRow],
    ) -> Result<Vec<OpenedKek>, RootError> {
        let asked = |row: &KekRow| {
            self.ciphertext(row)
                .map(|text| json!({ "ciphertext": text }))
        };
        let mut asked = rows.iter().map(asked).collect::<Result<Vec<Value>, _>>()?;
        let request = match asked.len() {
            0 => return Ok(Vec::new()),
            1 => asked.remove(0),
            _ => json!({ "batch_input": asked }),
        };
        let request = Zeroizing::new(request.to_string().into_bytes());
        let data = self.call(Operation::Decrypt, request).await;
        let data = data.map_err(|fault| match fault {
            Fault::Root(error) => error,
            Fault::Closed(at) => match rows.get(at) {
                Some(row) => self.foreign(row),
                None => self.strange(Operation::Decrypt),
            },
        })?;
        if data.plaintexts.len() != rows.len() {
            return Err(self.strange(Operation::Decrypt));
        }
        let open = |(row, text): (&KekRow, &Zeroizing<String>)| {
            let body = Zeroizing::new(STANDARD.decode(text.as_bytes()).unwrap_or_default());
            let opened = OpenedKek::from_body(cluster.0, row.version, &body);
            opened.map_err(|_| self.foreign(row))
        };
        rows.iter().zip(&data.plaintexts).map(open).collect()
    }

    async fn renew_one(&self, row: &KekRow) -> Result<Option<Vec<u8>>, RootError> {
        let before = self.ciphertext(row)?;
        let request = json!({ "ciphertext": before }).to_string().into_bytes();
        let data = self.call(Operation::Rewrap, Zeroizing::new(request)).await;
        let data = data.map_err(|fault| match fault {
            Fault::Root(error) => error,
            Fault::Closed(_) => self.foreign(row),
        })?;
        let after = data.ciphertext.as_deref().and_then(key_version);
        if after.is_some() && after == key_version(before) {
            return Ok(None);
        }
        self.stored(Operation::Rewrap, data).map(Some)
    }

    fn ciphertext<'r>(&self, row: &'r KekRow) -> Result<&'r str, RootError> {
        service_ciphertext(&row.sealed_kek).ok_or_else(|| self.foreign(row))
    }
}

/// Returns the version of the service's key that a ciphertext names, as in `vault:v2:…`.
fn key_version(ciphertext: &str) -> Option<u32> {
    let version = ciphertext.split(':').nth(1)?.strip_prefix('v')?;
    version.parse().ok()
}

impl Root for VaultTransit {
    fn name(&self) -> String {
        let VaultSettings { address, key, .. } = &self.settings;
        format!("key {key:?} of the key service at {address}")
    }

    fn seal<'a>(
        &'a self,
        cluster: ClusterId,
        kek: &'a OpenedKek,
    ) -> BoxFuture<'a, Result<Vec<u8>, RootError>> {
        Box::pin(self.seal_one(cluster, kek))
    }

    fn open<'a>(
        &'a self,
        cluster: ClusterId,
        rows: &'a [KekRow],
    ) -> BoxFuture<'a, Result<Vec<OpenedKek>, RootError>> {
        Box::pin(self.open_all(cluster, rows))
    }

    fn renew<'a>(&'a self, row: &'a KekRow) -> BoxFuture<'a, Result<Option<Vec<u8>>, RootError>> {
        Box::pin(self.renew_one(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ciphertext_names_the_version_of_its_key() {
        assert_eq!(key_version("vault:v12:AAAA"), Some(12));
        assert_eq!(key_version("vault:12:AAAA"), None);
        assert_eq!(key_version("AAAA"), None);
        assert_eq!(key_version("vault:v1"), Some(1));
    }
}
