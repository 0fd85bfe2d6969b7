//! Shared by the verbs that serve: their errors, how to find their file, and when to stop.

use super::account::AccountError;
use crate::config::SettingsError;
use crate::descriptors::TooFew;
use crate::files::{self, FileError};
use crate::reach::ReachError;
use crate::roots::RootsError;
use crate::setup::InitError;
use megalith_client::chain;
use megalith_gateway::run::GatewayError;
use megalith_identity::IdentityError;
use megalith_server::NodeError;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often certificates are checked for changes.
pub const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(60);

/// Why a role could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error(transparent)]
    Config(#[from] SettingsError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("metadata in {path}")]
    Metadata {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The first access key could not be made.
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    #[error("{0}")]
    Log(String),
    /// Metrics can't be collected.
    #[error("start collecting metrics: {0}")]
    Metrics(String),
    /// The cluster did not become writable.
    #[error("the cluster takes no writes after {} s: {why}", .waited.as_secs())]
    NotWritable {
        /// How long the command waited.
        waited: Duration,
        /// The cluster's reason.
        why: String,
    },
}

/// Returns the file of the role to run.
pub fn given(file: Option<&Path>) -> Result<&Path, SettingsError> {
    let message = "a role needs its file: --config FILE, or the environment's MEGALITH_CONFIG";
    file.ok_or_else(|| SettingsError::invalid("settings", message))
}

/// Says of each of a process's certificate keys that others may read or change it.
pub fn warn_of_open_keys<'a>(keys: impl IntoIterator<Item = &'a PathBuf>) {
    for why in keys.into_iter().filter_map(|key| files::key_is_open(key)) {
        tracing::warn!("{why}");
    }
}

/// Resolves `host:port`; None for an empty text.
pub fn address(key: &str, text: &str) -> Result<Option<SocketAddr>, SettingsError> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| SettingsError::invalid("settings", format!("`{key}`: {text}: {error}")))?;
    Ok(found.next())
}

/// Ctrl-C and SIGTERM, caught from the moment that this is made: they end nothing by themselves any
/// more.
pub struct StopSignals {
    /// None if it can't be caught; then only Ctrl-C stops cleanly.
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

impl StopSignals {
    /// Catches them. To be called before anything that should end in order is begun.
    #[must_use]
    pub fn catch() -> Self {
        let caught = |kind, name| {
            let caught = signal(kind);
            caught
                .inspect_err(|error| {
                    let error = chain(error);
                    tracing::error!(error, name, "a signal can't be caught");
                })
                .ok()
        };
        Self {
            terminate: caught(SignalKind::terminate(), "SIGTERM"),
            interrupt: caught(SignalKind::interrupt(), "SIGINT"),
        }
    }

    /// Waits for one of them; one that came before counts.
    pub async fn wait(&mut self) {
        async fn of(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => {
                    signal.recv().await;
                }
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = of(&mut self.terminate) => {}
            () = of(&mut self.interrupt) => {}
        }
    }
}
