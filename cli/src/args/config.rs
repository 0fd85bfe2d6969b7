//! `megalith config`.

use clap::Subcommand;
use std::path::PathBuf;

/// Verbs of `megalith config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Read a file as the process would and say what is wrong with it.
    Check {
        /// A node's, gateway's or operator's TOML file.
        file: PathBuf,
    },
}
