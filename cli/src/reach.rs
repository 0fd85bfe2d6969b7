//! How an operator's command finds a cluster and identifies itself.

use crate::args::Reach;
use crate::config::{self, NoFlags, OperatorFile, SettingsError, VaultSection};
use crate::roots::{For, Named, RootsError};
use megalith_client::{CallSettings, Endpoint};
use megalith_identity::{IdentityError, TlsMaterial};
use megalith_keyring::root::Roots;
use megalith_model::ids::NodeId;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a cluster can't be reached with the given arguments.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    #[error("{0} is not there: name the cluster by --config FILE or --data DIRECTORY")]
    NoCluster(PathBuf),
    #[error(transparent)]
    Config(#[from] SettingsError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Roots(#[from] RootsError),
}

/// A cluster that can be called.
pub struct ReachedCluster {
    pub members: Vec<Endpoint>,
    pub tls: Arc<TlsMaterial>,
    file: PathBuf,
    root_key_file: Option<PathBuf>,
    vault: Option<VaultSection>,
}

impl ReachedCluster {
    /// Returns what opens the cluster's keys.
    pub fn roots(&self) -> Result<Roots, ReachError> {
        let named = Named {
            origin: self.file.display().to_string(),
            root_key_file: self.root_key_file.as_deref(),
            vault: self.vault.as_ref(),
        };
        Ok(named.open(For::Operator)?)
    }
}

/// Opens the cluster that `--config` or `--data` names.
pub fn open(reach: &Reach) -> Result<ReachedCluster, ReachError> {
    let file = match (&reach.config, &reach.data) {
        (Some(file), _) => file.clone(),
        (None, Some(data)) => data.join("operator.toml"),
        (None, None) => PathBuf::from("megalith-data").join("operator.toml"),
    };
    if !file.exists() {
        return Err(ReachError::NoCluster(file));
    }
    let settings: OperatorFile = config::load(Some(&file), NoFlags {})?;
    let origin = file.display().to_string();
    Ok(ReachedCluster {
        members: endpoints(&config::parse_members(&origin, &settings.metadata.members)?),
        tls: TlsMaterial::load(&settings.operator.tls_dir)?,
        file,
        root_key_file: settings.operator.root_key_file,
        vault: settings.vault,
    })
}

/// Returns the metadata members in the form that clients need.
pub fn endpoints(members: &[(u32, String)]) -> Vec<Endpoint> {
    let endpoint = |(id, address): &(u32, String)| Endpoint {
        node: NodeId(*id),
        address: address.clone(),
    };
    members.iter().map(endpoint).collect()
}

/// Returns how long an operator's command tries.
pub fn call_settings() -> CallSettings {
    CallSettings::default()
}
