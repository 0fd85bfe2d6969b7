//! Starting roles from their settings, and stopping them by a signal.

use crate::args::{GatewayArgs, NodeArgs};
use crate::config::{
    self, ConfigError, GatewayFile, NoFlags, NodeFile, OperatorFile, StorageSection,
};
use crate::files::FileError;
use crate::iam::IamError;
use crate::init::{self, InitError};
use crate::logging;
use crate::reach::{self, ReachError};
use megalith_client::{CallSettings, ClusterClient};
use megalith_disk::{FileSystem, RealFs};
use megalith_gateway::run::{
    GatewayConfig, GatewayError, HealthListen, HttpsListen, Limits, MetricsText, RunningGateway,
};
use megalith_identity::{IdentityError, TlsMaterial};
use megalith_model::ids::{GatewayId, NodeId};
use megalith_server::{ListenAddress, NodeConfig, NodeError, NodeSettings, RunningNode};
use megalith_store::ScrubSettings;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often certificates are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(60);
const GIB: u64 = 1 << 30;

/// A role could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
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
    /// The first access key.
    #[error(transparent)]
    Iam(#[from] IamError),
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
    #[error("{0}")]
    Log(String),
    /// Metrics can't be collected.
    #[error("start collecting metrics: {0}")]
    Metrics(String),
    /// The cluster did not become writable.
    #[error("the cluster takes no writes after {} s: {why}", .waited.as_secs())]
    NotWritable {
        /// How long it was waited for.
        waited: Duration,
        /// The cluster's own words.
        why: String,
    },
}

/// Runs `megalith node` until a signal comes.
pub async fn node(args: &NodeArgs) -> Result<(), RunError> {
    let settings: NodeFile = config::load(Some(given(args.config.as_deref())?), args)?;
    logging::start(&settings.log).map_err(RunError::Log)?;
    let mut node = start_node(settings).await?;
    tracing::info!(rpc = node.rpc_addr, data = node.data_addr, "node serves");
    tokio::select! {
        () = until_signal() => node.stop().await,
        error = node.wait() => return Err(error.into()),
    }
    Ok(())
}

/// Runs `megalith gateway` until a signal comes.
pub async fn gateway(args: &GatewayArgs) -> Result<(), RunError> {
    let settings: GatewayFile = config::load(Some(given(args.config.as_deref())?), args)?;
    logging::start(&settings.log).map_err(RunError::Log)?;
    let gateway = start_gateway(&settings).await?;
    tracing::info!(http = ?gateway.http_addr, https = ?gateway.https_addr, "gateway serves");
    until_signal().await;
    gateway.stop().await;
    tracing::info!("gateway stopped");
    Ok(())
}

/// The file of a role that is to be run.
fn given(file: Option<&Path>) -> Result<&Path, ConfigError> {
    let message = "a role needs its file: --config FILE, or the environment's MEGALITH_CONFIG";
    file.ok_or_else(|| ConfigError::invalid("settings", message))
}

/// Starts a node from its settings.
pub async fn start_node(settings: NodeFile) -> Result<RunningNode, RunError> {
    let origin = "node settings";
    let members = config::parse_members(origin, &settings.metadata.members)?;
    let tls = TlsMaterial::load(&settings.node.tls_dir)?;
    drop(tls.spawn_reload(CERTIFICATE_INTERVAL, std::future::pending()));
    let mut node_settings = NodeSettings::default();
    let disks = settings
        .storage
        .as_ref()
        .map(|storage| storage.disks.clone())
        .unwrap_or_default();
    let reserve = settings
        .storage
        .as_ref()
        .and_then(|storage| storage.reserve_bytes);
    node_settings.store.reserve = reserve.unwrap_or_else(|| default_reserve(&disks));
    if let Some(storage) = &settings.storage {
        node_settings.store.scrub = scrub_settings(origin, storage)?;
    }
    let config = NodeConfig {
        node: NodeId(settings.node.id),
        zone: settings.node.zone.clone(),
        rpc: ListenAddress {
            bind: settings.node.rpc_listen.clone(),
            advertise: settings.node.rpc_advertise.clone(),
        },
        data: ListenAddress {
            bind: settings.node.data_listen.clone(),
            advertise: settings.node.data_advertise.clone(),
        },
        material: tls,
        disks,
        members: reach::endpoints(&members),
        settings: node_settings,
    };
    let ports = megalith_server::Ports::bind(&config).await?;
    let metadata = match &settings.metadata.dir {
        Some(dir) => Some(crate::metadata::start(
            &config,
            &ports,
            dir,
            &settings.metadata,
        )?),
        None => None,
    };
    Ok(megalith_server::start(config, ports, metadata).await?)
}

fn scrub_settings(origin: &str, storage: &StorageSection) -> Result<ScrubSettings, ConfigError> {
    let keys = [
        ("scrub_days", u64::from(storage.scrub_days)),
        ("scrub_new_hours", u64::from(storage.scrub_new_hours)),
        ("scrub_bytes_per_s", storage.scrub_bytes_per_s),
    ];
    if let Some((key, _)) = keys.iter().find(|(_, value)| *value == 0) {
        let message = format!("`storage.{key}` is 0: rot would never be found");
        return Err(ConfigError::invalid(origin, message));
    }
    Ok(ScrubSettings {
        cycle: Duration::from_secs(24 * 3600 * u64::from(storage.scrub_days)),
        fresh_within: Duration::from_secs(3600 * u64::from(storage.scrub_new_hours)),
        bytes_per_s_max: storage.scrub_bytes_per_s,
    })
}

/// 1 GiB, or a twentieth of the smallest disk where that is less.
fn default_reserve(disks: &[PathBuf]) -> u64 {
    let sizes = disks
        .iter()
        .filter_map(|disk| RealFs.space(disk).ok().map(|space| space.capacity));
    sizes.min().map_or(GIB, |smallest| GIB.min(smallest / 20))
}

/// Starts a gateway from its settings.
pub async fn start_gateway(settings: &GatewayFile) -> Result<RunningGateway, RunError> {
    let section = &settings.gateway;
    let origin = "gateway settings";
    let members = config::parse_members(origin, &settings.metadata.members)?;
    let tls = TlsMaterial::load(&section.tls_dir)?;
    drop(tls.spawn_reload(CERTIFICATE_INTERVAL, std::future::pending()));
    let https = match (
        address("gateway.https_listen", &section.https_listen)?,
        section,
    ) {
        (None, _) => None,
        (Some(listen), section) => match (&section.https_cert, &section.https_key) {
            (Some(certificate), Some(key)) => Some(HttpsListen {
                listen,
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => {
                let message = "`gateway.https_listen` needs `gateway.https_cert` and `https_key`";
                return Err(ConfigError::invalid(origin, message).into());
            }
        },
    };
    let health = match address("gateway.admin_listen", &section.admin_listen)? {
        Some(listen) => Some(HealthListen {
            listen,
            metrics: Some(metrics()?),
        }),
        None => None,
    };
    let config = GatewayConfig {
        id: GatewayId(section.id),
        http: address("gateway.listen", &section.listen)?,
        https,
        health,
        base_domains: section.domains.clone(),
        region: section.region.clone(),
        metadata: reach::endpoints(&members),
        tls,
        root_key: init::read_root_key(&section.root_key_file)?,
        pipeline: megalith_blobs::PipelineSettings {
            memory_bytes_max: section.memory_bytes,
            ..megalith_blobs::PipelineSettings::default()
        },
        limits: Limits::default(),
    };
    Ok(megalith_gateway::run::start(config).await?)
}

/// Starts collecting metrics; returns what renders them.
fn metrics() -> Result<MetricsText, RunError> {
    let recorder = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| RunError::Metrics(error.to_string()))?;
    Ok(Arc::new(move || recorder.render()))
}

/// Resolves `host:port`; empty is none.
fn address(key: &str, text: &str) -> Result<Option<SocketAddr>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| ConfigError::invalid("settings", format!("`{key}`: {text}: {error}")))?;
    Ok(found.next())
}

/// Waits until the cluster takes writes.
pub async fn writable(operator: &Path, deadline: Duration) -> Result<(), RunError> {
    let settings: OperatorFile = config::load(Some(operator), NoFlags {})?;
    let members = config::parse_members("operator settings", &settings.metadata.members)?;
    let tls = TlsMaterial::load(&settings.operator.tls_dir)?;
    let client = ClusterClient::new(&reach::endpoints(&members), tls, CallSettings::default());
    let watch = megalith_client::MapWatch::start(client);
    let ready = watch.wait_for(|map| !map.writable.is_empty());
    if tokio::time::timeout(deadline, ready).await.is_err() {
        let refusal = watch.current().refusal.clone();
        let why = refusal.unwrap_or_else(|| "no volume was made".to_owned());
        return Err(RunError::NotWritable {
            waited: deadline,
            why,
        });
    }
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM.
pub async fn until_signal() {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::error!(%error, "SIGTERM can't be caught; only Ctrl-C stops cleanly");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Reads a file as its process would; returns what kind it is.
pub fn check(file: &Path) -> Result<&'static str, RunError> {
    let text = crate::files::read(file)?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        ConfigError::invalid(&file.display().to_string(), error.message())
    })?;
    let origin = file.display().to_string();
    let (kind, members) = if table.contains_key("gateway") {
        let settings: GatewayFile = config::load(Some(file), NoFlags {})?;
        init::read_root_key(&settings.gateway.root_key_file)?;
        address("gateway.listen", &settings.gateway.listen)?;
        TlsMaterial::load(&settings.gateway.tls_dir)?;
        ("a gateway's settings, sound", settings.metadata.members)
    } else if table.contains_key("operator") {
        let settings: OperatorFile = config::load(Some(file), NoFlags {})?;
        TlsMaterial::load(&settings.operator.tls_dir)?;
        ("an operator's settings, sound", settings.metadata.members)
    } else {
        let settings: NodeFile = config::load(Some(file), NoFlags {})?;
        TlsMaterial::load(&settings.node.tls_dir)?;
        ("a node's settings, sound", settings.metadata.members)
    };
    config::parse_members(&origin, &members)?;
    Ok(kind)
}
