//! `megalith check`.

use super::{OutputFormat, Reach};
use clap::Args;
use megalith_model::ids::DiskId;

/// What to compare.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Only the rows with each other, no disk.
    #[arg(long, conflicts_with = "disk")]
    pub rows_only: bool,
    /// Only this disk with the rows; its id is in `megalith status -o json`.
    #[arg(long)]
    pub disk: Option<DiskId>,
    /// Say nothing about how far it is.
    #[arg(short, long)]
    pub quiet: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
}
