//! `megalith meta`.

use super::{OutputFormat, Reach};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Verbs of `megalith meta`.
#[derive(Debug, Subcommand)]
pub enum MetaVerb {
    /// Show the members.
    List {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
        output: OutputFormat,
        /// Which cluster.
        #[command(flatten)]
        reach: Reach,
    },
    /// Make a running node a voter. It was set up by `megalith node init --metadata` and names this
    /// group's members in its settings.
    Add(OneMember),
    /// Remove a member from the group.
    Remove(OneMember),
    /// Replace one member by another in one step, or wait until a member whose disk was lost is
    /// back.
    Replace {
        /// The number of the node that leaves.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        old: u32,
        /// The number of the node that joins. Default: the same, on a new disk.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        new: Option<u32>,
        /// How and where.
        #[command(flatten)]
        how: How,
    },
    /// Set the time of the group to its leader's clock, also back: the repair after a wrong clock
    /// has moved it. First see that the clocks of all metadata nodes are right.
    ResetClock {
        /// Which cluster.
        #[command(flatten)]
        reach: Reach,
    },
    /// Raise the cluster's level after an upgrade, so that what is new in the programs may be used.
    /// There is no way back: older programs can't run the cluster any more.
    RaiseLevel {
        /// The level. Default: the highest that the leader's program runs.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        level: Option<u32>,
        /// Don't wait for storage nodes and gateways that aren't heard. Those that can't run the
        /// level stop themselves when they return.
        #[arg(long)]
        without_silent: bool,
        /// Which cluster.
        #[command(flatten)]
        reach: Reach,
    },
    /// Make a new metadata directory for a node whose disk was lost. The group takes the node in as
    /// a learner first; it never votes as if it were new.
    Init(MetaInitArgs),
    /// Save what can be saved of the only member of a group whose log is damaged. Offline.
    Repair(RepairArgs),
    /// Write all metadata, as of one moment, into a directory or a bucket; the cluster goes on
    /// meanwhile.
    Backup(BackupArgs),
    /// Make a member of a lost metadata group from a backup. Run it for every member, with the same
    /// backup.
    Restore(RestoreArgs),
    /// Say, after a restore, that its rows stay. From then on disks delete, after some days in
    /// their trash, what these rows don't name; a backup that does name it is of no use any more.
    ReleaseRestore {
        /// Which cluster.
        #[command(flatten)]
        reach: Reach,
    },
}

/// A member and what to wait for.
#[derive(Debug, Args)]
pub struct OneMember {
    /// The node's number.
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub node: u32,
    /// How and where.
    #[command(flatten)]
    pub how: How,
}

/// How long, and which cluster.
#[derive(Debug, Args)]
pub struct How {
    /// Seconds to wait for the change. Giving the command again continues the change.
    #[arg(long, default_value_t = 600)]
    pub wait_s: u64,
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
}

/// Arguments of `megalith meta init`.
#[derive(Debug, Args)]
pub struct MetaInitArgs {
    /// The file of the node.
    #[arg(long, env = "MEGALITH_CONFIG")]
    pub config: PathBuf,
}

/// Arguments of `megalith meta repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Which member.
    #[command(flatten)]
    pub node: StoppedNode,
    /// Make the repair, and give up what can't be kept.
    #[arg(long)]
    pub accept_loss: bool,
    /// Make this member the only one of its group although others are known. The others must never
    /// run again as they are: set them up again and add them.
    #[arg(long)]
    pub alone: bool,
}

/// Arguments of `megalith meta backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
    /// An empty or missing directory, or s3://bucket/prefix; endpoint and key of the bucket come
    /// from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_CA_BUNDLE.
    #[arg(long)]
    pub to: BackupPlace,
    /// Where a backup is kept on its way to a bucket. Default: the system's directory for temporary
    /// files.
    #[arg(long)]
    pub spool: Option<PathBuf>,
}

/// Arguments of `megalith meta restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Which member; its metadata directory is empty or gone.
    #[command(flatten)]
    pub node: StoppedNode,
    /// The backup's directory, or s3://bucket/prefix.
    #[arg(long)]
    pub from: BackupPlace,
    /// Where a backup from a bucket is kept on its way. Default: the system's directory for
    /// temporary files.
    #[arg(long)]
    pub spool: Option<PathBuf>,
}

/// A node's settings, from its file or from the directory of `megalith up`.
#[derive(Debug, Args)]
pub struct StoppedNode {
    /// The TOML file of the node, which must not run.
    #[arg(
        long,
        env = "MEGALITH_CONFIG",
        conflicts_with = "data",
        required_unless_present = "data"
    )]
    pub config: Option<PathBuf>,
    /// The directory of `megalith up`, in place of --config.
    #[arg(long)]
    pub data: Option<PathBuf>,
}

/// Where a backup is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPlace {
    Directory(PathBuf),
    /// Keys of a bucket that begin with a prefix and a slash.
    Bucket {
        name: String,
        /// Without a slash at either end; never empty.
        prefix: String,
    },
}

impl std::str::FromStr for BackupPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("s3://") else {
            return match text.split_once("://") {
                Some((scheme, _)) => Err(format!("{scheme}:// is no place for a backup")),
                None => Ok(Self::Directory(text.into())),
            };
        };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        if name.is_empty() || prefix.is_empty() {
            return Err("name a bucket and a prefix: s3://bucket/prefix".to_owned());
        }
        Ok(Self::Bucket {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl std::fmt::Display for BackupPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(dir) => dir.display().fmt(f),
            Self::Bucket { name, prefix } => write!(f, "s3://{name}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BackupPlace;

    #[test]
    fn a_place_is_a_directory_or_a_prefix_of_a_bucket() {
        let dir = "/backups/monday".parse::<BackupPlace>();
        assert_eq!(dir, Ok(BackupPlace::Directory("/backups/monday".into())));
        let bucket: BackupPlace = "s3://safe/meta/monday/".parse().expect("a place");
        assert_eq!(bucket.to_string(), "s3://safe/meta/monday");
        for bad in ["s3://", "s3://safe", "s3://safe/", "s3:///x", "gs://safe/x"] {
            bad.parse::<BackupPlace>().expect_err(bad);
        }
    }
}
