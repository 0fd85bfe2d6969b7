//! `megalith operator`.

use crate::config::defaults;
use clap::{Args, Subcommand};
use std::path::PathBuf;

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
    /// How many days the certificate is valid.
    #[arg(long, default_value_t = defaults::CERTIFICATE_DAYS)]
    pub days: u32,
}
