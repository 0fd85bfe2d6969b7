//! `megalith meta`: the members of the metadata group, and backups of what they hold.

mod backup;
mod backup_bucket;
mod init;
mod repair;
mod stopped_node;

use super::json_text;
use crate::args::{How, MetaVerb, OutputFormat, Reach};
use crate::config::SettingsError;
use crate::out::{self, Output};
use crate::reach::{self, ReachError};
use crate::setup::InitError;
use backup::BackupVerbError;
use megalith_admin::members::{self, ChangeError};
use megalith_client::{ClientError, ClusterClient, MetaClient, now_ms};
use megalith_model::ids::NodeId;
use megalith_model::level::Level;
use megalith_model::member::MemberChange;
use repair::RepairVerbError;
use std::path::PathBuf;
use std::time::Duration;

/// Why the members could not be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error("ask the metadata leader")]
    Client(#[from] ClientError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("{0} names no `metadata.dir`: the node is no metadata member")]
    NoMember(PathBuf),
    /// The node isn't among its own members.
    #[error("{file}: node {node} is not among `metadata.members`")]
    NotNamed { file: PathBuf, node: u32 },
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    Repair(#[from] RepairVerbError),
    #[error(transparent)]
    Backup(#[from] BackupVerbError),
}

/// Runs the verb.
pub async fn run(verb: &MetaVerb) -> Result<Output, MetaError> {
    Ok(match verb {
        MetaVerb::List { output, reach } => list(*output, reach).await?.into(),
        MetaVerb::Add(one) => {
            let change_wanted = MemberChange::Add(NodeId(one.node));
            change(change_wanted, &one.how).await?.into()
        }
        MetaVerb::Remove(one) => {
            let change_wanted = MemberChange::Remove(NodeId(one.node));
            change(change_wanted, &one.how).await?.into()
        }
        MetaVerb::Replace { old, new, how } => {
            let (old, new) = (NodeId(*old), NodeId(new.unwrap_or(*old)));
            change(MemberChange::Replace { old, new }, how)
                .await?
                .into()
        }
        MetaVerb::ResetClock { reach } => reset_clock(reach).await?.into(),
        MetaVerb::RaiseLevel {
            level,
            without_silent,
            reach,
        } => raise_level(*level, *without_silent, reach).await?.into(),
        MetaVerb::Init(args) => init::run(args)?.into(),
        MetaVerb::Repair(args) => repair::run(args)?,
        MetaVerb::Backup(args) => Box::pin(backup::make(args)).await?.into(),
        MetaVerb::Restore(args) => backup::restore(args).await?.into(),
        MetaVerb::ReleaseRestore { reach } => release_restore(reach).await?.into(),
    })
}

async fn change(change: MemberChange, how: &How) -> Result<String, MetaError> {
    let reach = reach::open(&how.reach)?;
    let client = MetaClient::new(&reach.members, reach.tls, reach::call_settings());
    let ask = async || client.change_members(change).await;
    let wait = Duration::from_secs(how.wait_s);
    let done = members::change(ask, wait, |standing| out::remark(standing)).await?;
    Ok(format!("{done}\n"))
}

async fn reset_clock(reach: &Reach) -> Result<String, MetaError> {
    let reach = reach::open(reach)?;
    let client = MetaClient::new(&reach.members, reach.tls, reach::call_settings());
    let group_ms = members::reset_clock(&client).await?;
    let here_ms = now_ms();
    let apart_s = group_ms.abs_diff(here_ms) / 1_000;
    let side = if group_ms > here_ms {
        "ahead of"
    } else {
        "behind"
    };
    Ok(format!(
        "the group's time is its leader's now, {apart_s} s {side} this machine's clock\n"
    ))
}

async fn release_restore(reach: &Reach) -> Result<String, MetaError> {
    let reach = reach::open(reach)?;
    let client = MetaClient::new(&reach.members, reach.tls, reach::call_settings());
    members::release_restore(&client).await?;
    Ok("the restore is released: disks may delete what these rows don't name\n".to_owned())
}

async fn raise_level(
    level: Option<u32>,
    without_silent: bool,
    reach: &Reach,
) -> Result<String, MetaError> {
    let reach = reach::open(reach)?;
    let client = ClusterClient::new(&reach.members, reach.tls, reach::call_settings());
    let raised = client.raise_level(level.map(Level), without_silent).await?;
    Ok(format!("the cluster is at level {raised}\n"))
}

async fn list(output: OutputFormat, reach: &Reach) -> Result<String, MetaError> {
    let reach = reach::open(reach)?;
    let client = ClusterClient::new(&reach.members, reach.tls, reach::call_settings());
    let report = megalith_admin::verdict::report(&client.status().await?, None);
    Ok(match output {
        OutputFormat::Json => json_text(&report.metadata.members),
        OutputFormat::Text => super::status::members_text(&report),
    })
}
