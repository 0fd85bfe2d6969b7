//! `megalith status`: asks the metadata leader and judges its answer.

mod text;

#[cfg(test)]
mod tests;

pub use text::members as members_text;

use super::json_text;
use crate::args::{OutputFormat, StatusArgs};
use crate::out::Output;
use crate::reach::{self, ReachError, ReachedCluster};
use megalith_admin::report::{Health, Report};
use megalith_admin::verdict;
use megalith_client::{CallSettings, ClusterClient, MetaClient, TypedCalls as _, chain};
use megalith_model::question;
use megalith_model::rotation::{self, Rotation};
use megalith_model::status::ClusterStatus;
use std::time::Duration;

/// How long a leader is looked for: longer than an election takes, as a rule.
const DEADLINE: Duration = Duration::from_secs(5);

/// Runs the verb.
pub async fn run(args: &StatusArgs) -> Result<Output, ReachError> {
    let reach = reach::open(&args.reach)?;
    let calls = CallSettings {
        query_deadline: DEADLINE,
        attempt_deadline: DEADLINE / 4,
        ..reach::call_settings()
    };
    let client = ClusterClient::new(&reach.members, reach.tls.clone(), calls.clone());
    let report = match client.status().await {
        Ok(status) => {
            let rotation = rotation_of(&reach, &status, calls).await;
            verdict::report(&status, rotation.as_ref())
        }
        Err(error) => verdict::unreachable(&reach.members, &chain(&error)),
    };
    Ok(answer(&report, args.output))
}

/// How far the rotation of key-encryption keys is, as far as the cluster knows the question. A
/// group that can't answer it is in the report anyhow.
async fn rotation_of(
    reach: &ReachedCluster,
    status: &ClusterStatus,
    calls: CallSettings,
) -> Option<Rotation> {
    if status.level.level < rotation::LEVEL {
        return None;
    }
    let meta = MetaClient::new(&reach.members, reach.tls.clone(), calls);
    meta.ask(question::Rotation).await.ok().flatten()
}

fn answer(report: &Report, output: OutputFormat) -> Output {
    Output {
        text: match output {
            OutputFormat::Json => json_text(report),
            OutputFormat::Text => text::render(report),
        },
        code: exit_code(report.health),
    }
}

/// Returns the exit code, which says how well the cluster is.
fn exit_code(health: Health) -> u8 {
    match health {
        Health::Healthy => 0,
        Health::Degraded => 1,
        Health::NotServing => 2,
    }
}
