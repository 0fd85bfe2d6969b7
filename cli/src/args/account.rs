//! `megalith account` and `megalith key`.

use super::{OutputFormat, Reach};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Verbs of `megalith account`.
#[derive(Debug, Subcommand)]
pub enum AccountVerb {
    /// Add an account.
    Create(NamedAccount),
    /// Show all accounts.
    List(Listed),
    /// Make an account's keys stop working.
    Disable(NamedAccount),
    /// Make them work again.
    Enable(NamedAccount),
}

/// An account's name.
#[derive(Debug, Args)]
pub struct NamedAccount {
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
    /// Add an access key; its secret is shown only this once.
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
    Disable(NamedKey),
    /// Make it work again.
    Enable(NamedKey),
    /// Make a new key-encryption key and have everything sealed again under it, in the background.
    /// The older ones are deleted when nothing needs them any more. Needs level 2.
    Rotate {
        /// For how many seconds the older keys stay when no row is sealed under them any more:
        /// readers under way may need them.
        #[arg(long, default_value_t = 60)]
        grace_seconds: u32,
        /// Wait until the older keys are deleted.
        #[arg(long)]
        wait: bool,
        /// Which cluster.
        #[command(flatten)]
        reach: Reach,
    },
    /// Seal all key-encryption keys anew: under another root, or under the newest version of its
    /// key. Can be run again if it was cut off.
    Reseal {
        /// What is to seal them; the operator's file must name it, and what has sealed them.
        #[arg(long, value_enum)]
        to: Target,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
        output: OutputFormat,
        /// Which cluster.
        #[command(flatten)]
        reach: Reach,
    },
    /// Prove that a root key, or a key service, opens this cluster, without changing anything.
    Check {
        /// The root key to try, such as the copy in a safe. Default: what the operator's file
        /// names, a key service included.
        #[arg(long)]
        root_key_file: Option<PathBuf>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
        output: OutputFormat,
        /// Which cluster.
        #[command(flatten)]
        reach: Reach,
    },
}

/// What may seal key-encryption keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// The key service of the table `vault`.
    Vault,
    /// The root key in `root_key_file`, or in the environment.
    RootKey,
}

/// An access key.
#[derive(Debug, Args)]
pub struct NamedKey {
    /// The access key's public half.
    pub access_key: String,
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
}
