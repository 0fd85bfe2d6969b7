//! `megalith settings`.

use super::{OutputFormat, Reach};
use clap::{Args, Subcommand};

/// Verbs of `megalith settings`.
#[derive(Debug, Subcommand)]
pub enum SettingsVerb {
    /// Show them.
    Get {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
        output: OutputFormat,
        /// Which cluster.
        #[command(flatten)]
        reach: Reach,
    },
    /// Change some; the others stay. It has effect at once.
    Set(SetArgs),
}

/// What to change.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// As `name=value`, such as `upload_days=30`.
    #[arg(required = true, value_name = "NAME=VALUE", value_parser = pair)]
    pub changes: Vec<(String, String)>,
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}
