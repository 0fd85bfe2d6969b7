//! What each command does, one file for each family of verbs.
//!
//! A verb returns its answer as text and an exit code; only `out` prints. The processes that serve
//! (`up`, `node`, `gateway`) return when a signal stops them.

mod account;
mod cert;
mod check;
mod config;
mod disk;
mod gateway;
mod key;
mod meta;
mod node;
mod operator;
mod role;
mod scrub;
mod settings;
mod status;
mod up;

#[cfg(test)]
mod tests;

use crate::args::{ConfigVerb, GatewayVerb, NodeVerb, OperatorVerb, Verb};
use crate::out::Output;
use serde::Serialize;
use std::error::Error;

/// Runs a command to its end.
pub async fn run(verb: Verb) -> Result<Output, Box<dyn Error>> {
    Ok(match verb {
        Verb::Up(args) => up::run(&args).await?.into(),
        Verb::Node {
            verb: Some(NodeVerb::Init(args)),
            ..
        } => node::init(&args)?.into(),
        Verb::Node { verb: None, run } => node::run(&run).await?.into(),
        Verb::Gateway {
            verb: Some(GatewayVerb::Init(args)),
            ..
        } => gateway::init(&args)?.into(),
        Verb::Gateway { verb: None, run } => gateway::run(&run).await?.into(),
        Verb::Operator {
            verb: OperatorVerb::Init(args),
        } => operator::init(&args)?.into(),
        Verb::Status(args) => status::run(&args).await?,
        Verb::Scrub { verb } => scrub::run(&verb).await?,
        Verb::Check(args) => check::run(&args).await?,
        Verb::Settings { verb } => settings::run(&verb).await?.into(),
        Verb::Disk { verb } => disk::run(&verb)?.into(),
        Verb::Account { verb } => account::run(&verb).await?.into(),
        Verb::Key { verb } => key::run(&verb).await?.into(),
        Verb::Cert { verb } => cert::run(&verb).await?.into(),
        Verb::Meta { verb } => meta::run(&verb).await?,
        Verb::Config {
            verb: ConfigVerb::Check { file },
        } => config::check(&file)?.into(),
    })
}

/// Returns a report for programs: JSON over several lines.
fn json_text<T: Serialize + ?Sized>(report: &T) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report is plain data");
    text.push('\n');
    text
}

/// Returns one row of a list for programs: JSON on its own line.
fn json_line(row: &serde_json::Value) -> String {
    format!("{row}\n")
}
