//! `megalith disk`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Verbs of `megalith disk`.
#[derive(Debug, Subcommand)]
pub enum DiskVerb {
    /// Make the superblock again for a disk that has lost both copies. The chunk files say which
    /// disk it is; nothing is written if they don't agree. The disk's node must not run.
    RebuildSuperblock(RebuildArgs),
}

/// Arguments of `megalith disk rebuild-superblock`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// The directory of the disk.
    pub disk: PathBuf,
    /// Say which disk it is, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
}
