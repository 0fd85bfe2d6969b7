//! `megalith scrub`.

use super::{OutputFormat, Reach};
use clap::{Args, Subcommand};

/// Verbs of `megalith scrub`.
#[derive(Debug, Subcommand)]
pub enum ScrubVerb {
    /// Check every byte of the disks now, as fast as their rate allows.
    Start(ScrubArgs),
    /// Show how far the check of each disk is.
    Status(ScrubArgs),
}

/// Which disks.
#[derive(Debug, Args)]
pub struct ScrubArgs {
    /// Only this node's.
    #[arg(long)]
    pub node: Option<u32>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
}
