//! `megalith gateway`.

use crate::config::defaults;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `megalith gateway`. Flags win over environment, environment over file.
#[derive(Debug, Args, Serialize)]
pub struct GatewayArgs {
    /// The gateway's TOML file.
    #[arg(long, env = "MEGALITH_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Overrides `gateway.*`.
    #[command(flatten)]
    pub gateway: GatewayFlags,
}

/// Flags that override `gateway.*`.
#[derive(Debug, Args, Serialize)]
pub struct GatewayFlags {
    /// Overrides `gateway.listen`.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Overrides `gateway.https_listen`.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_listen: Option<String>,
    /// Overrides `gateway.health_listen`.
    #[arg(long, alias = "admin-listen")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_listen: Option<String>,
}

/// Verbs of `megalith gateway`.
#[derive(Debug, Subcommand)]
pub enum GatewayVerb {
    /// Make a gateway's certificate and write its configuration file.
    Init(GatewayInitArgs),
}

/// Arguments of `megalith gateway init`.
#[derive(Debug, Args)]
pub struct GatewayInitArgs {
    /// The gateway's number, unique in the cluster, from 1.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub id: u32,
    /// Where to put `gateway.toml`, `tls/` and `https/`.
    #[arg(long)]
    pub dir: PathBuf,
    /// The cluster's certificate authority.
    #[arg(long)]
    pub ca_dir: PathBuf,
    /// Host names and addresses of the gateway, for its https certificate.
    #[arg(long = "host", required = true)]
    pub hosts: Vec<String>,
    /// The root key of the cluster's encryption; made if it doesn't exist. Losing it loses all
    /// data. Without it, add a table `vault` to the file that this writes, or set
    /// MEGALITH_ROOT_KEY where the gateway runs.
    #[arg(long)]
    pub root_key_file: Option<PathBuf>,
    /// Every metadata member as `id=host:port`.
    #[arg(long = "metadata-member", required = true)]
    pub members: Vec<String>,
    /// Address of the S3 listener; empty for none.
    #[arg(long, default_value = defaults::GATEWAY_LISTEN)]
    pub listen: String,
    /// Address of the S3 listener with TLS.
    #[arg(long)]
    pub https_listen: Option<String>,
    /// Address of `/health/live`, `/health/ready` and `/metrics`.
    #[arg(long, alias = "admin-listen")]
    pub health_listen: Option<String>,
    /// Domain under which `bucket.domain` names a bucket (once per domain).
    #[arg(long = "domain")]
    pub domains: Vec<String>,
    /// How many days the certificate is valid.
    #[arg(long, default_value_t = defaults::CERTIFICATE_DAYS)]
    pub days: u32,
}
