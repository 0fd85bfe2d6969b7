//! `megalith check`: compares rows, sums, counters and disks while the cluster serves.

use super::json_text;
use crate::args::{CheckArgs, OutputFormat};
use crate::out::{self, Output};
use crate::reach::{self, ReachError};
use megalith_admin::check::{
    self, CheckClients, CheckError, CheckReport, DiskReport, Scope, ShardFinding, Verdict,
};
use megalith_client::{BackupClient, ChannelSettings, ClusterClient, MetaClient, ShardClient};
use std::fmt::Write;
use std::time::Duration;

/// A disk that is silent for longer is not compared.
const CALL_DEADLINE: Duration = Duration::from_secs(15);

/// Why a check did not begin.
#[derive(Debug, thiserror::Error)]
pub enum CheckVerbError {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// Runs the verb; the exit code is that of the verdict.
pub async fn run(args: &CheckArgs) -> Result<Output, CheckVerbError> {
    let reach = reach::open(&args.reach)?;
    let members = reach.members.len();
    let settings = reach::call_settings();
    let clients = CheckClients {
        cluster: ClusterClient::new(&reach.members, reach.tls.clone(), settings.clone()),
        meta: MetaClient::new(&reach.members, reach.tls.clone(), settings),
        shards: ShardClient::new(reach.tls.clone(), ChannelSettings::default(), CALL_DEADLINE),
        rows: BackupClient::new(reach.members, reach.tls),
        members,
    };
    let scope = match args.disk {
        Some(disk) => Scope::Disk(disk),
        None if args.rows_only => Scope::Rows,
        None => Scope::All,
    };
    let quiet = args.quiet;
    let mut tell = |words: String| {
        if !quiet {
            out::remark(words);
        }
    };
    let report = check::check(&clients, scope, &mut tell).await?;
    Ok(Output {
        text: match args.output {
            OutputFormat::Json => json_text(&report),
            OutputFormat::Text => text(&report),
        },
        code: report.verdict.code(),
    })
}

/// Returns the report for people.
fn text(report: &CheckReport) -> String {
    let mut out = String::new();
    if let Some(rows) = &report.rows {
        let found = rows.findings.len() as u64 + rows.more;
        let _ = writeln!(
            out,
            "rows: {} as of entry {}, {found} contradictions",
            rows.rows, rows.entry
        );
        for (version, count) in &rows.sealed {
            let _ = writeln!(out, "  {count} sealed under key-encryption key {version}");
        }
        for finding in &rows.findings {
            let _ = writeln!(out, "  {}", finding.what);
        }
        more(&mut out, rows.more);
    }
    for disk in &report.disks {
        disk_text(&mut out, disk);
    }
    for left in &report.left_out {
        let _ = writeln!(out, "not compared: {left}");
    }
    let verdict = match report.verdict {
        Verdict::Clean => "clean",
        Verdict::Found => "something is wrong",
        Verdict::Incomplete => "incomplete: what was compared is well",
    };
    let _ = writeln!(out, "{verdict}");
    out
}

fn disk_text(out: &mut String, disk: &DiskReport) {
    let _ = writeln!(
        out,
        "disk {} of node {}: {} volumes, {} shards",
        disk.disk, disk.node, disk.volumes, disk.shards
    );
    let kinds = [
        ("missing", &disk.missing),
        ("damaged", &disk.damaged),
        ("unnamed", &disk.unnamed),
    ];
    for (kind, found) in kinds {
        for shard in found {
            let _ = writeln!(out, "  {kind}: {}", place(shard));
        }
    }
    more(out, disk.more);
    if let Some(error) = &disk.error {
        let _ = writeln!(out, "  not compared to its end: {error}");
    }
}

fn more(out: &mut String, more: u64) {
    if more > 0 {
        let _ = writeln!(out, "  and {more} more");
    }
}

fn place(shard: &ShardFinding) -> String {
    let ShardFinding {
        volume,
        blob,
        segment,
        slot,
        bucket,
        disk: _,
    } = shard;
    let of = bucket.as_ref().map(|bucket| format!(" of bucket {bucket}"));
    let of = of.unwrap_or_default();
    format!("volume {volume}, blob {blob}, segment {segment}, slot {slot}{of}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_admin::check::{RowFinding, RowsReport};

    #[test]
    fn the_report_names_what_is_wrong_and_what_was_left_out() {
        let shard = ShardFinding {
            volume: 1,
            blob: 2,
            segment: 0,
            slot: 3,
            disk: "d1".to_owned(),
            bucket: Some("77".to_owned()),
        };
        let finding = RowFinding {
            rule: "totals",
            what: "the totals: kept 1, counted 2".to_owned(),
        };
        let report = CheckReport {
            rows: Some(RowsReport {
                entry: 9,
                rows: 100,
                sealed: [(2, 30)].into(),
                findings: vec![finding],
                more: 0,
            }),
            disks: vec![DiskReport {
                disk: "d1".to_owned(),
                node: 1,
                volumes: 2,
                shards: 50,
                missing: vec![shard],
                more: 4,
                error: Some("silent".to_owned()),
                ..DiskReport::default()
            }],
            left_out: vec!["something".to_owned()],
            ..CheckReport::default()
        };
        assert_eq!(
            text(&report.judged()),
            "rows: 100 as of entry 9, 1 contradictions\n  30 sealed under key-encryption key \
             2\n  the totals: kept 1, counted 2\n\
             disk d1 of node 1: 2 volumes, 50 shards\n  missing: volume 1, blob 2, segment 0, \
             slot 3 of bucket 77\n  and 4 more\n  not compared to its end: silent\n\
             not compared: something\nsomething is wrong\n"
        );
    }
}
