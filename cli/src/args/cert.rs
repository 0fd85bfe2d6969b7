//! `megalith cert`.

use super::{OutputFormat, Reach};
use crate::config::defaults;
use clap::{Args, Subcommand};
use megalith_model::denied::Serial;
use megalith_model::role::Role;
use std::path::PathBuf;

/// Verbs of `megalith cert`.
#[derive(Debug, Subcommand)]
pub enum CertVerb {
    /// Issue one certificate for one role of a node, a gateway or an operator.
    Issue(IssueArgs),
    /// Refuse a certificate everywhere in the cluster from now on, also on open connections.
    Deny(NamedCertificate),
    /// Take an entry off the deny list.
    Allow(NamedCertificate),
    /// Show which certificates are denied.
    List {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
        output: OutputFormat,
        /// Which cluster.
        #[command(flatten)]
        reach: Reach,
    },
    /// Show role, id and serial number of a certificate's file.
    Show {
        /// The file, such as `tls/node.crt`.
        file: PathBuf,
    },
}

/// A certificate to issue.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// What its holder does: storage, metadata, gateway or operator.
    #[arg(long, value_parser = role)]
    pub role: Role,
    /// The holder's number; 0 is an operator's only.
    #[arg(long)]
    pub id: u32,
    /// Where to put `ca.crt`, `node.crt` and `node.key`; there may be none yet.
    #[arg(long)]
    pub dir: PathBuf,
    /// The cluster's certificate authority.
    #[arg(long)]
    pub ca_dir: PathBuf,
    /// Host names and addresses of the holder.
    #[arg(long = "host")]
    pub hosts: Vec<String>,
    /// How many days the certificate is valid.
    #[arg(long, default_value_t = defaults::CERTIFICATE_DAYS)]
    pub days: u32,
}

/// One certificate, or all of a member.
#[derive(Debug, Args)]
pub struct NamedCertificate {
    /// What its holder does: storage, metadata, gateway or operator.
    #[arg(long, value_parser = role)]
    pub role: Role,
    /// The holder's number.
    #[arg(long)]
    pub id: u32,
    /// Only the one with this serial number, in hexadecimal digits; without it all of that role
    /// and number.
    #[arg(long)]
    pub serial: Option<Serial>,
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
}

fn role(text: &str) -> Result<Role, String> {
    let names = Role::ALL.map(Role::name).join(", ");
    Role::from_name(text).ok_or_else(|| format!("a role is one of {names}"))
}
