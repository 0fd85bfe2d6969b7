//! Compares what a cluster keeps twice, while it serves: rows with rows, and rows with disks.
//!
//! The rows are one view of one member's engine, read page by page at the pace that the member
//! allows; `megalith_model::check` judges them as they come by. Each disk is compared with what the
//! rows say it holds, a page at a time; whatever looks wrong is looked at a second time, because
//! objects come and go meanwhile. Nothing is changed, and no object's name or key is told.
//! `report` is what is found, `rows` and `disks` find it.

mod disks;
mod page;
mod report;
mod rows;

pub use report::{CheckReport, DiskReport, RowFinding, RowsReport, ShardFinding, Verdict};

use megalith_client::{BackupClient, ClientError, ClusterClient, MetaClient, ShardClient, chain};
use megalith_model::ids::DiskId;
use std::error::Error;

/// How to reach what is compared.
pub struct CheckClients {
    pub cluster: ClusterClient,
    pub meta: MetaClient,
    pub shards: ShardClient,
    pub rows: BackupClient,
    /// How many members `rows` knows.
    pub members: usize,
}

/// What to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Rows and all disks.
    All,
    /// Rows only.
    Rows,
    /// One disk with the rows, and no rows with each other.
    Disk(DiskId),
}

/// Why a check did not begin.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("ask the metadata group where the disks are")]
    Status(#[source] ClientError),
    #[error("no node has disk {0}")]
    NoDisk(DiskId),
}

/// Compares. `tell` hears how far it is, in words.
///
/// # Errors
/// Only if it can't begin; what can't be compared later is a part of the report.
pub async fn check(
    clients: &CheckClients,
    scope: Scope,
    tell: &mut (dyn FnMut(String) + Send),
) -> Result<CheckReport, CheckError> {
    let mut report = CheckReport::default();
    match scope {
        Scope::All | Scope::Rows => match rows::compare(clients, tell).await {
            Ok(rows) => report.rows = Some(rows),
            Err(error) => report.left_out.push(format!("the rows: {}", words(&error))),
        },
        Scope::Disk(_) => {}
    }
    let only = match scope {
        Scope::Rows => return Ok(report.judged()),
        Scope::Disk(disk) => Some(disk),
        Scope::All => None,
    };
    let map = clients
        .cluster
        .fetch_map()
        .await
        .map_err(CheckError::Status)?;
    let mut any = false;
    for node in &map.nodes {
        for disk in node
            .disks
            .iter()
            .filter(|disk| only.is_none_or(|id| id == disk.id))
        {
            any = true;
            report
                .disks
                .push(disks::compare(clients, node, disk.id, tell).await);
        }
    }
    match only {
        Some(disk) if !any => Err(CheckError::NoDisk(disk)),
        Some(_) | None => Ok(report.judged()),
    }
}

fn words(error: &(dyn Error + 'static)) -> String {
    chain(error)
}
