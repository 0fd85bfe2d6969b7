//! `megalith meta repair`: says what is left of a metadata member that no peer can rebuild, and
//! keeps that at an explicit word.

use super::node::{NodeError, StoppedNode};
use crate::metadata;
use clap::Args;
use megalith_server::Repairs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `megalith meta repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Which member.
    #[command(flatten)]
    pub node: StoppedNode,
    /// Make the repair, and give up what it can't keep.
    #[arg(long)]
    pub accept_loss: bool,
    /// Make this member the only one of its group although others are known. They must never run
    /// again as they are: set them up anew and add them.
    #[arg(long)]
    pub alone: bool,
}

/// The repair failed.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The settings.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The directory.
    #[error("repair {dir}")]
    Repair {
        /// Which.
        dir: PathBuf,
        /// Why not.
        source: megalith_server::RepairError,
    },
}

/// Runs the verb. 1 where something is to be repaired and nothing was.
pub fn run(args: &RepairArgs) -> Result<ExitCode, RepairError> {
    let member = args.node.member()?;
    let (dir, engine) = (member.dir, metadata::engine(&member.settings.metadata));
    let failed = |source| RepairError::Repair {
        dir: dir.clone(),
        source,
    };
    let found = megalith_server::examine_metadata(&dir, member.cluster, member.node, engine);
    let found = found.map_err(failed)?;
    if found.problem.is_none() && !args.alone {
        println!(
            "{}: the log is whole, there is nothing to repair",
            dir.display()
        );
        return Ok(ExitCode::SUCCESS);
    }
    explain(&found);
    if !found.others.is_empty() && !args.alone {
        println!(
            "The group has other members. While a majority of them lives, start the node: it is \
             rebuilt from them.\nOnly where they are lost for good: --alone --accept-loss."
        );
        return Ok(ExitCode::FAILURE);
    }
    if !args.accept_loss {
        println!("Nothing was changed. To go on with what is kept: --accept-loss");
        return Ok(ExitCode::FAILURE);
    }
    let kept = found.repair().map_err(failed)?;
    println!("Repaired: this is the only member of its group now.");
    if !kept.is_empty() {
        println!("The files of the old log are in {kept}; nothing reads them any more.");
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(found: &Repairs) {
    if let Some(problem) = &found.problem {
        println!("problem:  {problem}");
    }
    let others: Vec<String> = found.others.iter().map(ToString::to_string).collect();
    if !others.is_empty() {
        println!("others:   {}", others.join(", "));
    }
    println!("rows:     as of log entry {}", found.rows);
    println!("kept:     everything up to log entry {}", found.kept);
    let lost = found.known.saturating_sub(found.kept);
    if lost > 0 {
        println!("lost:     {lost} entries are known to have come after it, perhaps more did");
    } else {
        println!("lost:     no later entry is known; some may have been acknowledged nevertheless");
    }
}
