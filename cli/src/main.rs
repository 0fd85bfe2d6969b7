//! The `megalith` binary: reads arguments and configuration, starts roles, prints answers.
//!
//! Decides nothing about data. Layout: `args` (what may be written after `megalith`), `config`
//! (files and defaults), `verbs` (what each command does, one file for each family), `reach` (how
//! an operator's command finds its cluster), `roots` (what opens its keys), `trust` (whose
//! certificates are believed), `setup` (certificates, keys, first directories), `cgroup`,
//! `descriptors`, `guard` (keys stay in memory), `files`, `logging` and `out`, and the process's
//! `allocator`. A verb imports its arguments; arguments import no verb.
//!
//! Exit codes: 0 succeeded, 1 failed (`status`: degraded; `scrub`: a node did not answer), 2 bad
//! arguments (`status`: not serving), 3 (`check`): something is wrong. 141 if the reader closed the
//! pipe before the answer was written, as for any program that SIGPIPE ends: the command has done
//! its work, but the answer was not read. If standard error is closed, its lines are lost and the
//! exit code stays the same. The processes that serve (`up`, `node`, `gateway`) go on in either
//! case.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod allocator;
mod args;
mod cgroup;
mod config;
mod descriptors;
mod files;
mod guard;
mod logging;
mod out;
mod reach;
mod roots;
mod setup;
mod trust;
mod verbs;

use args::Cli;
use clap::Parser;
use megalith_client::chain;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return out::usage(&told),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(Box::pin(verbs::run(cli.verb))) {
        Ok(output) => out::end(&output),
        Err(error) => fail(error.as_ref()),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    out::remark(format_args!("megalith: {}", chain(error)));
    ExitCode::FAILURE
}
