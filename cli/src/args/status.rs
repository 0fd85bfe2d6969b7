//! `megalith status`.

use super::{OutputFormat, Reach};
use clap::Args;

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
