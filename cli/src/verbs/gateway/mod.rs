//! `megalith gateway`: an S3 gateway, run until a signal comes.

mod init;
mod metrics;

pub use init::init;

use super::role::{
    CERTIFICATE_INTERVAL, RoleError, StopSignals, address, given, warn_of_open_keys,
};
use crate::args::GatewayArgs;
use crate::cgroup::memory_limit;
use crate::config::defaults::gateway_memory_bytes;
use crate::config::{self, GatewayFile, GatewaySection, SettingsError};
use crate::roots::{For, Named};
use crate::{descriptors, guard, logging, reach};
use megalith_gateway::run::{GatewayConfig, HealthListen, HttpsListen, Limits, RunningGateway};
use megalith_identity::TlsMaterial;
use megalith_model::ids::GatewayId;

/// Runs `megalith gateway` until a signal comes.
pub async fn run(args: &GatewayArgs) -> Result<(), RoleError> {
    let settings: GatewayFile = config::load(Some(given(args.config.as_deref())?), args)?;
    logging::start(&settings.log).map_err(RoleError::Log)?;
    descriptors::raise()?;
    guard::no_swap();
    let mut stop = StopSignals::catch();
    let gateway = tokio::select! {
        started = start(&settings) => started?,
        () = stop.wait() => return Ok(()),
    };
    tracing::info!(http = ?gateway.http_addr, https = ?gateway.https_addr, "gateway serves");
    let ended = tokio::select! {
        () = stop.wait() => Ok(()),
        error = gateway.wait() => Err(error),
    };
    gateway.stop().await;
    tracing::info!("gateway stopped");
    Ok(ended?)
}

/// Starts a gateway from its settings.
pub async fn start(settings: &GatewayFile) -> Result<RunningGateway, RoleError> {
    let origin = "gateway settings";
    // By name, so that no key is read and then carried nowhere.
    let GatewaySection {
        id,
        tls_dir,
        root_key_file,
        listen,
        https_listen,
        https_cert,
        https_key,
        health_listen,
        domains,
        region,
        memory_bytes,
    } = &settings.gateway;
    let named = Named {
        origin: origin.to_owned(),
        root_key_file: root_key_file.as_deref(),
        vault: settings.vault.as_ref(),
    };
    let members = config::parse_members(origin, &settings.metadata.members)?;
    let tls = TlsMaterial::load(tls_dir)?;
    let own_key = tls_dir.join("node.key");
    warn_of_open_keys(https_key.iter().chain([&own_key]));
    drop(tls.spawn_reload(CERTIFICATE_INTERVAL, std::future::pending()));
    let https = match address("gateway.https_listen", https_listen)? {
        None => None,
        Some(listen) => match (https_cert, https_key) {
            (Some(certificate), Some(key)) => Some(HttpsListen {
                listen,
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => {
                let message = "`gateway.https_listen` needs `gateway.https_cert` and `https_key`";
                return Err(SettingsError::invalid(origin, message).into());
            }
        },
    };
    let health = match address("gateway.health_listen", health_listen)? {
        Some(listen) => Some(HealthListen {
            listen,
            metrics: Some(metrics::start()?),
        }),
        None => None,
    };
    let memory_bytes = memory_bytes.unwrap_or_else(|| gateway_memory_bytes(memory_limit()));
    tracing::info!(memory_bytes, "memory for bodies in flight");
    let config = GatewayConfig {
        id: GatewayId(*id),
        http: address("gateway.listen", listen)?,
        https,
        health,
        base_domains: domains.clone(),
        region: region.clone(),
        metadata: reach::endpoints(&members),
        tls,
        roots: named.open(For::Gateway)?,
        pipeline: megalith_blobs::PipelineSettings {
            memory_bytes_max: memory_bytes,
            ..megalith_blobs::PipelineSettings::default()
        },
        limits: Limits::default(),
    };
    Ok(megalith_gateway::run::start(config).await?)
}
