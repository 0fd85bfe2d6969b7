//! `megalith up`.

use clap::Args;
use std::path::PathBuf;

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
    #[arg(long, alias = "admin-listen")]
    pub health_listen: Option<String>,
    /// Number of local disks (directories below --data) on the first run.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub disks: u16,
    /// Log level, or filter per module.
    #[arg(long, default_value = "warn")]
    pub log: String,
}
