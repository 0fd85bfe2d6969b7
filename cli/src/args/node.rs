//! `megalith node`.

use crate::config::defaults;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `megalith node`. Flags win over environment, environment over file.
#[derive(Debug, Args, Serialize)]
pub struct NodeArgs {
    /// The node's TOML file.
    #[arg(long, env = "MEGALITH_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Overrides `node.*`.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Flags that override `node.*`.
#[derive(Debug, Args, Serialize)]
pub struct NodeFlags {
    /// Overrides `node.rpc_listen`.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_listen: Option<String>,
    /// Overrides `node.data_listen`.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_listen: Option<String>,
    /// Overrides `node.zone`.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// Verbs of `megalith node`.
#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Make a node's certificates, format its disks and write its configuration file.
    Init(NodeInitArgs),
}

/// Arguments of `megalith node init`.
#[derive(Debug, Args)]
pub struct NodeInitArgs {
    /// The node's number, unique in the cluster, from 1.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub id: u32,
    /// Where to put `node.toml`, `tls/`, and with --disk and --metadata also `tls-metadata/`.
    #[arg(long)]
    pub dir: PathBuf,
    /// The cluster's certificate authority; made if it doesn't exist. Keep it off the servers.
    #[arg(long)]
    pub ca_dir: PathBuf,
    /// Host names and addresses of the node, for its certificate.
    #[arg(long = "host", required = true)]
    pub hosts: Vec<String>,
    /// A directory to format as a disk (once per disk).
    #[arg(long = "disk")]
    pub disks: Vec<PathBuf>,
    /// Make this node a metadata member; its number must be among --metadata-member.
    #[arg(long)]
    pub metadata: bool,
    /// Every metadata member as `id=host:port`.
    #[arg(long = "metadata-member", required = true)]
    pub members: Vec<String>,
    /// Storage nodes to wait for before the first volume is made.
    #[arg(long, default_value_t = 0)]
    pub expected_nodes: u32,
    /// Address of the gRPC listener.
    #[arg(long, default_value = defaults::RPC_LISTEN)]
    pub rpc_listen: String,
    /// Address of the shard data listener.
    #[arg(long, default_value = defaults::DATA_LISTEN)]
    pub data_listen: String,
    /// Address under which others reach the gRPC listener.
    #[arg(long)]
    pub rpc_advertise: Option<String>,
    /// Address under which others reach the data listener.
    #[arg(long)]
    pub data_advertise: Option<String>,
    /// Failure domain above the node.
    #[arg(long, default_value = "")]
    pub zone: String,
    /// How many days a certificate is valid.
    #[arg(long, default_value_t = defaults::CERTIFICATE_DAYS)]
    pub days: u32,
}
