//! `megalith scrub`: how far the disks' scrub is, and beginning a pass now. Asks every storage node
//! itself; one that does not answer is named and the others are shown.

use crate::args::{OutputFormat, Reach};
use crate::reach::{self, ReachError};
use clap::{Args, Subcommand};
use megalith_client::{ChannelSettings, ClientError, ClusterClient, ScrubReport, ShardClient};
use megalith_model::topology::Node;
use serde::Serialize;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// A node that is silent for so long is left out.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

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

/// The nodes can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// The cluster.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// Its standing, which says where the nodes are.
    #[error("ask the metadata group where the nodes are")]
    Status(#[source] ClientError),
    /// A number that no node has.
    #[error("no node {0} in this cluster")]
    NoNode(u32),
}

/// What a node said; keys are stable.
#[derive(Debug, Serialize)]
struct NodeScrub {
    node: u32,
    /// Why it did not answer.
    error: Option<String>,
    disks: Vec<DiskScrub>,
}

#[derive(Debug, Serialize)]
struct DiskScrub {
    disk: String,
    demanded: bool,
    began_ms: u64,
    done_permille: u32,
    passes: u64,
    finished_ms: u64,
    fresh_ms: u64,
    checked_bytes: u64,
    found_shards: u64,
    late: bool,
    damaged_shards: u64,
    damaged_regions: u64,
    indexes_rebuilt: u64,
}

/// Runs the verb. Exit code 1 where a node did not answer.
pub async fn run(verb: &ScrubVerb) -> Result<ExitCode, ScrubError> {
    let (args, start) = match verb {
        ScrubVerb::Start(args) => (args, true),
        ScrubVerb::Status(args) => (args, false),
    };
    let reach = reach::open(&args.reach)?;
    let cluster = ClusterClient::new(&reach.members, reach.tls.clone(), reach::call_settings());
    let status = cluster.status().await.map_err(ScrubError::Status)?;
    let mut nodes: Vec<Node> = status.map.nodes.clone();
    if let Some(number) = args.node {
        nodes.retain(|node| node.id.0 == number);
        if nodes.is_empty() {
            return Err(ScrubError::NoNode(number));
        }
    }
    let shards = ShardClient::new(reach.tls.clone(), ChannelSettings::default(), CALL_DEADLINE);
    let asked = nodes.iter().map(|node| async {
        let answer = shards.scrub(node.id, &node.rpc_address, None, start).await;
        let (disks, error) = match answer {
            Ok(disks) => (disks, None),
            Err(error) => (Vec::new(), Some(crate::chain(&error))),
        };
        NodeScrub {
            node: node.id.0,
            error,
            disks: disks.into_iter().map(DiskScrub::from).collect(),
        }
    });
    let mut answers = Vec::with_capacity(nodes.len());
    for answer in asked {
        answers.push(answer.await);
    }
    match args.output {
        OutputFormat::Json => {
            let json = serde_json::to_string_pretty(&answers).expect("a report is plain data");
            println!("{json}");
        }
        OutputFormat::Text => print!("{}", text(&answers, now_ms())),
    }
    let all = answers.iter().all(|answer| answer.error.is_none());
    Ok(ExitCode::from(u8::from(!all)))
}

impl From<ScrubReport> for DiskScrub {
    fn from(report: ScrubReport) -> Self {
        Self {
            disk: report.disk.to_string(),
            demanded: report.demanded,
            began_ms: report.began_ms,
            done_permille: report.done_permille,
            passes: report.passes,
            finished_ms: report.finished_ms,
            fresh_ms: report.fresh_ms,
            checked_bytes: report.checked_bytes,
            found_shards: report.found_shards,
            late: report.late,
            damaged_shards: report.damaged_shards,
            damaged_regions: report.damaged_regions,
            indexes_rebuilt: report.indexes_rebuilt,
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// The report for people.
fn text(answers: &[NodeScrub], now_ms: u64) -> String {
    let mut out = String::new();
    for answer in answers {
        let _ = writeln!(out, "node {}", answer.node);
        if let Some(error) = &answer.error {
            let _ = writeln!(out, "  does not answer: {error}");
        }
        for disk in &answer.disks {
            let _ = writeln!(out, "  disk {}", disk.disk);
            let _ = writeln!(out, "    {}", progress(disk, now_ms));
            let _ = writeln!(
                out,
                "    {} damaged shards known, {} found by the scrub, {} damaged pieces, \
                 {} index files rebuilt",
                disk.damaged_shards, disk.found_shards, disk.damaged_regions, disk.indexes_rebuilt
            );
        }
    }
    out
}

fn progress(disk: &DiskScrub, now_ms: u64) -> String {
    let ago = |at_ms: u64| match at_ms {
        0 => "never".to_owned(),
        at_ms => format!("{} ago", span(now_ms.saturating_sub(at_ms))),
    };
    let (done, tenth) = (disk.done_permille / 10, disk.done_permille % 10);
    let demanded = if disk.demanded { ", on demand" } else { "" };
    let late = if disk.late { ", LATE" } else { "" };
    format!(
        "pass {} begun {}, {done}.{tenth} % done{demanded}{late}; last one finished {}",
        disk.passes + u64::from(disk.done_permille < 1000),
        ago(disk.began_ms),
        ago(disk.finished_ms),
    )
}

/// A span in its largest unit.
fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_says_how_far_each_disk_is_and_who_is_silent() {
        let disk = DiskScrub {
            disk: "d1".to_owned(),
            demanded: true,
            began_ms: 1_000_000,
            done_permille: 123,
            passes: 4,
            finished_ms: 0,
            fresh_ms: 0,
            checked_bytes: 1,
            found_shards: 2,
            late: false,
            damaged_shards: 1,
            damaged_regions: 0,
            indexes_rebuilt: 3,
        };
        let answers = [
            NodeScrub {
                node: 1,
                error: None,
                disks: vec![disk],
            },
            NodeScrub {
                node: 2,
                error: Some("refused".to_owned()),
                disks: vec![],
            },
        ];
        assert_eq!(
            text(&answers, 1_000_000 + 3 * 3_600_000),
            "node 1\n  disk d1\n    pass 5 begun 3 h ago, 12.3 % done, on demand; last one \
             finished never\n    1 damaged shards known, 2 found by the scrub, 0 damaged pieces, \
             3 index files rebuilt\nnode 2\n  does not answer: refused\n"
        );
    }
}
