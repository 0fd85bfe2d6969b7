//! `megalith meta`: the members of the metadata group, and backups of what they hold.
//!
//! A change is asked for again and again until the leader says that it is done; breaking it off
//! does no harm, and the same command goes on with it.

mod backup;
mod bucket;
mod bucket_http;
mod init;
mod node;
mod repair;

use crate::args::{OutputFormat, Reach};
use crate::config::ConfigError;
use crate::init::InitError;
use crate::reach::{self, ReachError};
use backup::{BackupArgs, BackupVerbError, RestoreArgs};
use clap::{Args, Subcommand};
use megalith_client::{ChangeStanding, ClientError, ClusterClient, MemberChange, MetaClient};
use megalith_model::ids::NodeId;
use repair::{RepairArgs, RepairError};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two questions how far a change is.
const PAUSE: Duration = Duration::from_millis(300);
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
    /// Make a member none any more.
    Remove(OneMember),
    /// Put one member in the place of another in one step, or wait until one whose disk is gone has
    /// come back.
    Replace {
        /// The number of the node that goes.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        old: u32,
        /// The number of the node that comes. Default: the same, on a new disk.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        new: Option<u32>,
        /// How and where.
        #[command(flatten)]
        how: How,
    },
    /// Make a node's metadata directory anew, after its disk was lost. The group takes the node in
    /// as a learner first; it never votes as if it were new.
    Init(init::MetaInitArgs),
    /// Save the only member of a group whose log is damaged, as far as that goes. Offline.
    Repair(RepairArgs),
    /// Write all metadata, as of one moment, into a directory or a bucket; the cluster goes on
    /// meanwhile.
    Backup(BackupArgs),
    /// Make a lost metadata group's member from a backup; on every member, with the same backup.
    Restore(RestoreArgs),
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
    /// Seconds to wait for the change; it goes on when the command is given again.
    #[arg(long, default_value_t = 600)]
    pub wait_s: u64,
    /// Which cluster.
    #[command(flatten)]
    pub reach: Reach,
}

/// The members could not be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// Reaching the cluster.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// Asking it.
    #[error("ask the metadata leader")]
    Client(#[from] ClientError),
    /// It said no.
    #[error("the metadata leader refuses: {0}")]
    Refused(String),
    /// It takes longer.
    #[error("not done after {} s: {last}; the same command goes on with it", .waited.as_secs())]
    NotDone {
        /// How long it was waited for.
        waited: Duration,
        /// How far it is.
        last: String,
    },
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node is none.
    #[error("{0} names no `metadata.dir`: the node is no metadata member")]
    NoMember(PathBuf),
    /// The node isn't among its own members.
    #[error("{file}: node {node} is not among `metadata.members`")]
    NotNamed {
        /// The settings.
        file: PathBuf,
        /// The node.
        node: u32,
    },
    /// The directory.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The repair.
    #[error(transparent)]
    Repair(#[from] RepairError),
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupVerbError),
}

/// Runs the verb.
pub async fn run(verb: &MetaVerb) -> Result<ExitCode, MetaError> {
    match verb {
        MetaVerb::List { output, reach } => list(*output, reach).await?,
        MetaVerb::Add(one) => change(MemberChange::Add(NodeId(one.node)), &one.how).await?,
        MetaVerb::Remove(one) => change(MemberChange::Remove(NodeId(one.node)), &one.how).await?,
        MetaVerb::Replace { old, new, how } => {
            let (old, new) = (NodeId(*old), NodeId(new.unwrap_or(*old)));
            change(MemberChange::Replace { old, new }, how).await?;
        }
        MetaVerb::Init(args) => init::run(args)?,
        MetaVerb::Repair(args) => return Ok(repair::run(args)?),
        MetaVerb::Backup(args) => Box::pin(backup::make(args)).await?,
        MetaVerb::Restore(args) => backup::restore(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn change(change: MemberChange, how: &How) -> Result<(), MetaError> {
    let reach = reach::open(&how.reach)?;
    let client = MetaClient::new(&reach.members, reach.tls.clone(), reach::call_settings());
    let (started, wait) = (Instant::now(), Duration::from_secs(how.wait_s));
    let mut last = String::new();
    loop {
        let now = match client.change_members(change).await {
            Ok(ChangeStanding::Done(how)) => {
                println!("{how}");
                return Ok(());
            }
            Ok(ChangeStanding::Refused(why)) => return Err(MetaError::Refused(why)),
            Ok(ChangeStanding::UnderWay(how)) => how,
            // An election, for example: what is under way goes on.
            Err(ClientError::Unavailable(why)) => format!("no leader answers: {why}"),
            Err(error) => return Err(error.into()),
        };
        if now != last {
            eprintln!("{now}");
            last = now;
        }
        if started.elapsed() >= wait {
            return Err(MetaError::NotDone { waited: wait, last });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn list(output: OutputFormat, reach: &Reach) -> Result<(), MetaError> {
    let reach = reach::open(reach)?;
    let client = ClusterClient::new(&reach.members, reach.tls.clone(), reach::call_settings());
    let report = megalith_admin::verdict::report(&client.status().await?);
    match output {
        OutputFormat::Json => {
            let json = serde_json::to_string_pretty(&report.metadata.members);
            println!("{}", json.expect("a report is plain data"));
        }
        OutputFormat::Text => print!("{}", crate::status::members_text(&report)),
    }
    Ok(())
}
