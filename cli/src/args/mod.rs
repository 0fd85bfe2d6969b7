//! The command line.

use crate::meta::MetaVerb;
use crate::scrub::ScrubVerb;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;

/// A distributed object store: S3 in front, encrypted and erasure-coded shards behind.
#[derive(Debug, Parser)]
#[command(name = "megalith", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a whole cluster in one process on local directories.
    Up(UpArgs),
    /// Run a storage and/or metadata node, or set one up.
    #[command(args_conflicts_with_subcommands = true)]
    Node {
        /// A verb other than running.
        #[command(subcommand)]
        verb: Option<NodeVerb>,
        /// How to run.
        #[command(flatten)]
        run: NodeArgs,
    },
    /// Run an S3 gateway, or set one up.
    #[command(args_conflicts_with_subcommands = true)]
    Gateway {
        /// A verb other than running.
        #[command(subcommand)]
        verb: Option<GatewayVerb>,
        /// How to run.
        #[command(flatten)]
        run: GatewayArgs,
    },
    /// Make the certificate and file that `status`, `account` and `key` work with.
    Operator {
        /// The only verb so far.
        #[command(subcommand)]
        verb: OperatorVerb,
    },
    /// Show the cluster's health. Exit code 0: healthy, 1: degraded, 2: not serving.
    Status(StatusArgs),
    /// The check of every byte on the disks against its checksum.
    Scrub {
        /// What to do about it.
        #[command(subcommand)]
        verb: ScrubVerb,
    },
    /// Owners of buckets and access keys.
    Account {
        /// What to do with them.
        #[command(subcommand)]
        verb: AccountVerb,
    },
    /// Access keys for the S3 API.
    Key {
        /// What to do with them.
        #[command(subcommand)]
        verb: KeyVerb,
    },
    /// The members of the metadata group, and backups of what they hold.
    Meta {
        /// What to do.
        #[command(subcommand)]
        verb: MetaVerb,
    },
    /// Look at configuration files.
    Config {
        /// The only verb so far.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
}

/// Arguments of `megalith up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Directory of the whole cluster; made on the first run.
    #[arg(long, default_value = "megalith-data")]
    pub data: PathBuf,
    /// Address of the S3 listener.
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub listen: String,
    /// Address of the S3 listener with TLS (certificate by the cluster's own CA).
    #[arg(long)]
    pub https_listen: Option<String>,
    /// Address of `/health/live`, `/health/ready` and `/metrics`.
    #[arg(long)]
    pub admin_listen: Option<String>,
    /// Number of local disks (directories below --data) on the first run.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub disks: u16,
    /// Log level, or filter per module.
    #[arg(long, default_value = "warn")]
    pub log: String,
}

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
    /// Make a node's certificate, format its disks and write its configuration file.
    Init(NodeInitArgs),
}

/// Arguments of `megalith node init`.
#[derive(Debug, Args)]
pub struct NodeInitArgs {
    /// The node's number, unique in the cluster, from 1.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub id: u32,
    /// Where to put `node.toml` and `tls/`.
    #[arg(long)]
    pub dir: PathBuf,
    /// The cluster's certificate authority; made if it isn't there. Keep it off the servers.
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
    #[arg(long, default_value = "0.0.0.0:7001")]
    pub rpc_listen: String,
    /// Address of the shard data listener.
    #[arg(long, default_value = "0.0.0.0:7002")]
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
    /// Days that the certificate is valid.
    #[arg(long, default_value_t = 3650)]
    pub days: u32,
}

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
    /// Overrides `gateway.admin_listen`.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_listen: Option<String>,
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
    /// The root key of the cluster's encryption; made if it isn't there. Losing it loses all data.
    #[arg(long)]
    pub root_key_file: PathBuf,
    /// Every metadata member as `id=host:port`.
    #[arg(long = "metadata-member", required = true)]
    pub members: Vec<String>,
    /// Address of the S3 listener; empty for none.
    #[arg(long, default_value = "0.0.0.0:9000")]
    pub listen: String,
    /// Address of the S3 listener with TLS.
    #[arg(long)]
    pub https_listen: Option<String>,
    /// Address of `/health/live`, `/health/ready` and `/metrics`.
    #[arg(long)]
    pub admin_listen: Option<String>,
    /// Domain under which `bucket.domain` names a bucket (once per domain).
    #[arg(long = "domain")]
    pub domains: Vec<String>,
    /// Days that the certificate is valid.
    #[arg(long, default_value_t = 3650)]
    pub days: u32,
}

/// Verbs of `megalith operator`.
#[derive(Debug, Subcommand)]
pub enum OperatorVerb {
    /// Make an operator's certificate and write its configuration file.
    Init(OperatorInitArgs),
}

/// Arguments of `megalith operator init`.
#[derive(Debug, Args)]
pub struct OperatorInitArgs {
    /// Where to put `operator.toml` and `tls/`.
    #[arg(long)]
    pub dir: PathBuf,
    /// The cluster's certificate authority.
    #[arg(long)]
    pub ca_dir: PathBuf,
    /// The root key's file, for `account` and `key`.
    #[arg(long)]
    pub root_key_file: Option<PathBuf>,
    /// Every metadata member as `id=host:port`.
    #[arg(long = "metadata-member", required = true)]
    pub members: Vec<String>,
    /// Days that the certificate is valid.
    #[arg(long, default_value_t = 3650)]
    pub days: u32,
}

/// Which cluster an operator's command is for.
#[derive(Debug, Args)]
pub struct Reach {
    /// The operator's TOML file.
    #[arg(long, env = "MEGALITH_CONFIG", conflicts_with = "data")]
    pub config: Option<PathBuf>,
    /// The directory of `megalith up`. Default: `megalith-data` here.
    #[arg(long)]
    pub data: Option<PathBuf>,
}

/// Arguments of `megalith status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Verbs of `megalith account`.
#[derive(Debug, Subcommand)]
pub enum AccountVerb {
    /// Add an account.
    Create(Named),
    /// Show all accounts.
    List(Listed),
    /// Make an account's keys stop working.
    Disable(Named),
    /// Make them work again.
    Enable(Named),
}

/// An account's name.
#[derive(Debug, Args)]
pub struct Named {
    /// The account.
    pub name: String,
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
}

/// A list.
#[derive(Debug, Args)]
pub struct Listed {
    /// Only this account's.
    #[arg(long)]
    pub account: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
}

/// Verbs of `megalith key`.
#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Add an access key; its secret is shown this once.
    Create {
        /// The account it acts for.
        #[arg(long)]
        account: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
        output: OutputFormat,
        /// Which cluster.
        #[command(flatten)]
        reach: Reach,
    },
    /// Show access keys, without secrets.
    List(Listed),
    /// Make a key stop working.
    Disable(KeyNamed),
    /// Make it work again.
    Enable(KeyNamed),
}

/// An access key.
#[derive(Debug, Args)]
pub struct KeyNamed {
    /// The access key's public half.
    pub access_key: String,
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
}

/// Verbs of `megalith config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Read a file as the process would and say what is wrong with it.
    Check {
        /// A node's, gateway's or operator's TOML file.
        file: PathBuf,
    },
}
