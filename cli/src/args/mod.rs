//! The command line: what may be written after `megalith`, one file for each family of verbs.
//!
//! Owns the words and their help. Imports types and defaults, never a verb: verbs import their
//! arguments from here.

mod account;
mod cert;
mod check;
mod config;
mod disk;
mod gateway;
mod meta;
mod node;
mod operator;
mod scrub;
mod settings;
mod status;
mod up;

#[cfg(test)]
mod tests;

pub use account::{AccountVerb, KeyVerb, Listed, Target};
pub use cert::{CertVerb, IssueArgs, NamedCertificate};
pub use check::CheckArgs;
pub use config::ConfigVerb;
pub use disk::{DiskVerb, RebuildArgs};
pub use gateway::{GatewayArgs, GatewayInitArgs, GatewayVerb};
pub use meta::{
    BackupArgs, BackupPlace, How, MetaInitArgs, MetaVerb, RepairArgs, RestoreArgs, StoppedNode,
};
pub use node::{NodeArgs, NodeInitArgs, NodeVerb};
pub use operator::{OperatorInitArgs, OperatorVerb};
pub use scrub::ScrubVerb;
pub use settings::{SetArgs, SettingsVerb};
pub use status::StatusArgs;
pub use up::UpArgs;

use clap::{Args, Parser, Subcommand, ValueEnum};
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
    /// Check every byte on the disks against its checksum, or show how far that is.
    Scrub {
        /// What to do about it.
        #[command(subcommand)]
        verb: ScrubVerb,
    },
    /// Compare rows, sums, counters and disks. Exit code 0: clean, 3: something is wrong, 1: it
    /// could not be completed.
    Check(CheckArgs),
    /// What all processes of the cluster share, such as how large a volume gets.
    Settings {
        /// What to do with them.
        #[command(subcommand)]
        verb: SettingsVerb,
    },
    /// A disk of this machine, while its node is stopped.
    Disk {
        /// What to do about it.
        #[command(subcommand)]
        verb: DiskVerb,
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
    /// Certificates that the cluster refuses, such as those of a stolen machine.
    Cert {
        /// What to do with them.
        #[command(subcommand)]
        verb: CertVerb,
    },
    /// The members of the metadata group, and backups of what they hold.
    Meta {
        /// What to do.
        #[command(subcommand)]
        verb: MetaVerb,
    },
    /// Check configuration files.
    Config {
        /// The only verb so far.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
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

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}
