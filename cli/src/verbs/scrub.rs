//! `megalith scrub`: shows how far the disks' scrub is, and begins a pass.

use super::json_text;
use crate::args::{OutputFormat, ScrubVerb};
use crate::out::Output;
use crate::reach::{self, ReachError};
use megalith_admin::scrub::{self, DiskScrub, NodeScrub, ScrubError};
use megalith_client::{ChannelSettings, ClusterClient, ShardClient, now_ms};
use std::fmt::Write;
use std::time::Duration;

/// A node that is silent for longer is shown as silent.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// Why the scrub could not be shown or begun.
#[derive(Debug, thiserror::Error)]
pub enum ScrubVerbError {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error(transparent)]
    Scrub(#[from] ScrubError),
}

/// Runs the verb. Exit code 1 if a node did not answer.
pub async fn run(verb: &ScrubVerb) -> Result<Output, ScrubVerbError> {
    let (args, start) = match verb {
        ScrubVerb::Start(args) => (args, true),
        ScrubVerb::Status(args) => (args, false),
    };
    let reach = reach::open(&args.reach)?;
    let cluster = ClusterClient::new(&reach.members, reach.tls.clone(), reach::call_settings());
    let shards = ShardClient::new(reach.tls, ChannelSettings::default(), CALL_DEADLINE);
    let answers = scrub::ask(&cluster, &shards, args.node, start).await?;
    Ok(answer(&answers, args.output, now_ms()))
}

fn answer(answers: &[NodeScrub], output: OutputFormat, now_ms: u64) -> Output {
    let all = answers.iter().all(|answer| answer.error.is_none());
    Output {
        text: match output {
            OutputFormat::Json => json_text(answers),
            OutputFormat::Text => text(answers, now_ms),
        },
        code: u8::from(!all),
    }
}

/// Returns the report for people.
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

/// Returns a time span in its largest unit.
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

    #[test]
    fn a_silent_node_makes_the_exit_code_1() {
        let node = |error: Option<&str>| NodeScrub {
            node: 1,
            error: error.map(str::to_owned),
            disks: Vec::new(),
        };
        let code = |answers: &[NodeScrub]| answer(answers, OutputFormat::Json, 0).code;
        assert_eq!(code(&[node(None)]), 0);
        assert_eq!(code(&[node(None), node(Some("refused"))]), 1);
    }

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        assert_eq!(span(119_999), "119 s");
        assert_eq!(span(120_000), "2 min");
        assert_eq!(span(7_200_000), "2 h");
        assert_eq!(span(172_800_000), "2 days");
    }
}
