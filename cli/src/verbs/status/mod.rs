//! `megalith status`: asks the metadata leader and judges what it says.

mod text;

use crate::args::{OutputFormat, StatusArgs};
use crate::reach::{self, ReachError};
use megalith_admin::report::{Health, Report};
use megalith_admin::verdict;
use megalith_client::ClusterClient;
use std::process::ExitCode;

/// Renders the metadata members alone, lines ended.
pub fn members_text(report: &Report) -> String {
    text::render_members(report)
}

/// Runs the verb.
pub async fn run(args: &StatusArgs) -> Result<ExitCode, ReachError> {
    let reach = reach::open(&args.reach)?;
    let client = ClusterClient::new(&reach.members, reach.tls.clone(), reach::call_settings());
    let report = match client.status().await {
        Ok(status) => verdict::report(&status),
        Err(error) => verdict::unreachable(&reach.members, &crate::chain(&error)),
    };
    match args.output {
        OutputFormat::Json => {
            let json = serde_json::to_string_pretty(&report).expect("a report is plain data");
            println!("{json}");
        }
        OutputFormat::Text => print!("{}", text::render(&report)),
    }
    Ok(exit_code(report.health))
}

/// Returns the exit code that says how well the cluster is.
fn exit_code(health: Health) -> ExitCode {
    ExitCode::from(health as u8)
}
