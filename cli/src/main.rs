//! The `megalith` binary: reads arguments and configuration, starts roles, prints answers.
//!
//! Decides nothing about data. Exit codes: 0 well, 1 failed (`status`: degraded), 2 bad arguments
//! (`status`: not serving).

mod args;
mod config;
mod files;
mod iam;
mod init;
mod logging;
mod meta;
mod metadata;
mod reach;
mod run;
mod scrub;
mod status;
mod up;

use args::{Cli, ConfigVerb, GatewayVerb, NodeVerb, OperatorVerb, Verb};
use clap::Parser;
use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(Box::pin(dispatch(cli.verb))) {
        Ok(code) => code,
        Err(error) => fail(error.as_ref()),
    }
}

async fn dispatch(verb: Verb) -> Result<ExitCode, Box<dyn Error>> {
    match verb {
        Verb::Up(args) => up::run(&args).await?,
        Verb::Node {
            verb: Some(NodeVerb::Init(args)),
            ..
        } => init::node(&args)?,
        Verb::Node { verb: None, run } => run::node(&run).await?,
        Verb::Gateway {
            verb: Some(GatewayVerb::Init(args)),
            ..
        } => init::gateway(&args)?,
        Verb::Gateway { verb: None, run } => run::gateway(&run).await?,
        Verb::Operator {
            verb: OperatorVerb::Init(args),
        } => init::operator(&args)?,
        Verb::Status(args) => return Ok(status::run(&args).await?),
        Verb::Scrub { verb } => return Ok(scrub::run(&verb).await?),
        Verb::Account { verb } => iam::account(&verb).await?,
        Verb::Key { verb } => iam::key(&verb).await?,
        Verb::Meta { verb } => return Ok(meta::run(&verb).await?),
        Verb::Config {
            verb: ConfigVerb::Check { file },
        } => {
            println!("{}: {}", file.display(), run::check(&file)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn fail(error: &dyn Error) -> ExitCode {
    eprintln!("megalith: {}", chain(error));
    ExitCode::FAILURE
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
