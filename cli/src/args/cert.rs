//! `megalith cert`.

use super::{OutputFormat, Reach};
use clap::{Args, Subcommand};
use megalith_model::denied::Serial;
use megalith_model::role::Role;
use std::path::PathBuf;

/// Verbs of `megalith cert`.
#[derive(Debug, Subcommand)]
pub enum CertVerb {
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
