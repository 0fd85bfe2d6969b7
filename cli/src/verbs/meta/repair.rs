//! `megalith meta repair`: says what is left of a metadata member that no peer can rebuild, and
//! keeps that if told so explicitly.

use super::stopped_node::{self, StoppedNodeError};
use crate::args::RepairArgs;
use crate::out::Output;
use crate::verbs::node::metadata;
use megalith_server::Repairs;
use std::fmt::Write;
use std::path::PathBuf;

/// Why the repair failed.
#[derive(Debug, thiserror::Error)]
pub enum RepairVerbError {
    /// The settings could not be read.
    #[error(transparent)]
    Node(#[from] StoppedNodeError),
    /// The directory could not be repaired.
    #[error("repair {dir}")]
    Repair {
        dir: PathBuf,
        source: megalith_server::RepairError,
    },
}

/// Runs the verb. Exit code 1 if there is something to repair and nothing was repaired.
pub fn run(args: &RepairArgs) -> Result<Output, RepairVerbError> {
    let member = stopped_node::open(&args.node)?;
    let (dir, engine) = (member.dir, metadata::engine(&member.settings.metadata));
    let failed = |source| RepairVerbError::Repair {
        dir: dir.clone(),
        source,
    };
    let found = megalith_server::examine_metadata(&dir, member.cluster, member.node, engine);
    let found = found.map_err(failed)?;
    if found.problem.is_none() && !args.alone {
        let whole = "the log is whole, there is nothing to repair";
        return Ok(format!("{}: {whole}\n", dir.display()).into());
    }
    let explained = explain(&found);
    let not_done = |why: &str| Output {
        text: format!("{explained}{why}\n"),
        code: 1,
    };
    if !found.others.is_empty() && !args.alone {
        return Ok(not_done(
            "The group has other members. While a majority of them lives, start the node: it is \
             rebuilt from them.\nOnly if they are lost for good: --alone --accept-loss.",
        ));
    }
    if !args.accept_loss {
        return Ok(not_done(
            "Nothing was changed. To go on with what is kept: --accept-loss",
        ));
    }
    let kept = found.repair().map_err(failed)?;
    let mut text = explained;
    text.push_str("Repaired: this is the only member of its group now.\n");
    if !kept.is_empty() {
        let _ = writeln!(
            text,
            "The files of the old log are in {kept}; nothing reads them any more."
        );
    }
    Ok(text.into())
}

fn explain(found: &Repairs) -> String {
    let mut lines = Vec::new();
    if let Some(problem) = &found.problem {
        lines.push(format!("problem:  {problem}"));
    }
    let others: Vec<String> = found.others.iter().map(ToString::to_string).collect();
    if !others.is_empty() {
        lines.push(format!("others:   {}", others.join(", ")));
    }
    lines.push(format!("rows:     as of log entry {}", found.rows));
    lines.push(format!(
        "kept:     everything up to log entry {}",
        found.kept
    ));
    let lost = found.known.saturating_sub(found.kept);
    lines.push(if lost > 0 {
        format!("lost:     {lost} entries are known to have come after it, perhaps more did")
    } else {
        "lost:     no later entry is known; some may have been acknowledged nevertheless".to_owned()
    });
    lines.push(String::new());
    lines.join("\n")
}
