//! What a process's settings name to seal and open the cluster's keys: a root key in a file or in
//! the environment, a key service, or both.

use crate::config::VaultSection;
use crate::files;
use crate::guard;
use crate::setup::{self, InitError};
use crate::trust::{Trust, TrustError, client_config};
use megalith_client::chain;
use megalith_crypto::RootKey;
use megalith_keyring::root::{Hold, Root, Roots};
use megalith_keyring::vault::{TokenSource, VaultSettings, VaultSettingsError, VaultTransit};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// The root key itself, in its text form, where no file is named.
pub const ROOT_KEY_VARIABLE: &str = "MEGALITH_ROOT_KEY";
/// More than any token takes.
const TOKEN_BYTES_MAX: u64 = 16 << 10;

/// Why there is nothing to open keys with.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("settings `vault`")]
    Vault(#[from] VaultSettingsError),
    #[error("settings `vault.ca_file`")]
    Trust(#[from] TrustError),
    #[error("`vault.timeout_ms` is 0")]
    NoTime,
    /// Two root keys, and nothing says which one counts.
    #[error(
        "the settings name `root_key_file`, and the variable {ROOT_KEY_VARIABLE} is set: use one"
    )]
    Two,
    /// The settings name none.
    #[error(
        "{0} names no `{1}.root_key_file`, which this command needs, nor a table `vault`; nor is \
         the variable {ROOT_KEY_VARIABLE} set"
    )]
    None(String, &'static str),
}

/// Whose roots they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// It holds opened keys as long as its settings say.
    Gateway,
    /// It ends soon.
    Operator,
}

/// What settings name.
pub struct Named<'a> {
    /// The settings' file, for messages.
    pub origin: String,
    pub root_key_file: Option<&'a Path>,
    pub vault: Option<&'a VaultSection>,
}

impl Named<'_> {
    /// Reads the root key, and prepares for calls of the key service; calls nobody. From then on
    /// this process leaves no core dump.
    pub fn open(&self, whose: For) -> Result<Roots, RootsError> {
        // Before anything secret is opened.
        guard::no_dumps().map_err(InitError::Dumps)?;
        let local = self.local()?;
        let service = self.vault.map(|vault| service(vault, whose)).transpose()?;
        match (local, service) {
            (Some(local), None) => Ok(local),
            (Some(local), Some((root, hold))) => Ok(local.and_service(root, hold)),
            (None, Some((root, hold))) => Ok(Roots::service(root, hold)),
            (None, None) => {
                let section = match whose {
                    For::Gateway => "gateway",
                    For::Operator => "operator",
                };
                Err(RootsError::None(self.origin.clone(), section))
            }
        }
    }

    fn local(&self) -> Result<Option<Roots>, RootsError> {
        let variable = std::env::var(ROOT_KEY_VARIABLE).ok().map(Zeroizing::new);
        match (self.root_key_file, variable) {
            (Some(_), Some(_)) => Err(RootsError::Two),
            (Some(file), None) => Ok(Some(of_file(file)?)),
            (None, Some(text)) => {
                let key = RootKey::parse(&text).map_err(|source| InitError::RootKey {
                    path: variable_name().into(),
                    source,
                })?;
                Ok(Some(Roots::local(key, &variable_name())))
            }
            (None, None) => Ok(None),
        }
    }
}

fn variable_name() -> String {
    format!("${ROOT_KEY_VARIABLE}")
}

/// Reads the root key in a file.
pub fn of_file(file: &Path) -> Result<Roots, InitError> {
    let key = setup::read_root_key(file)?;
    Ok(Roots::local(key, &file.display().to_string()))
}

fn service(vault: &VaultSection, whose: For) -> Result<(Arc<dyn Root>, Hold), RootsError> {
    // By name, so that no key is read and then carried nowhere.
    let VaultSection {
        address,
        key,
        token_file,
        mount,
        ca_file,
        namespace,
        timeout_ms,
        hold_s,
    } = vault;
    if *timeout_ms == 0 {
        return Err(RootsError::NoTime);
    }
    let trust = match ca_file {
        Some(file) => Trust::Only(file),
        None => Trust::SystemAnd(None),
    };
    let settings = VaultSettings {
        address: address.clone(),
        mount: mount.clone(),
        key: key.clone(),
        namespace: namespace.clone(),
        token_file: token_file.display().to_string(),
        timeout: Duration::from_millis(*timeout_ms),
    };
    let path = token_file.clone();
    let token: TokenSource = Arc::new(move || {
        let read = files::read_secret(&path, TOKEN_BYTES_MAX);
        read.map_err(|error| chain(&error))
    });
    // A file that others may read is refused now, and not at the first call.
    files::read_secret(token_file, TOKEN_BYTES_MAX).map_err(InitError::File)?;
    let root = VaultTransit::new(settings, token, client_config(trust)?)?;
    let hold = match (whose, *hold_s) {
        (For::Operator, _) => Hold::Always,
        (For::Gateway, 0) => Hold::Never,
        (For::Gateway, seconds) => Hold::For(Duration::from_secs(seconds)),
    };
    Ok((Arc::new(root), hold))
}
