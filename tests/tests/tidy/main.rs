//! Rules about our own tree. A failure names the place and what to do about it.
//!
//! Owns: which crate may use which and where it lives (`arrows`), what a crate lists and names
//! (`dependencies`), what the linter must be told (`lints`), what goes around the file-system
//! trait (`write_paths`), what watchers are told of (`metrics`), which tests run which attack
//! (`attacks`), and how files look (`text`, `docs`, `python`, `anywhere`).
//! Must never: start a cluster or reach the network; everyone who changes a comment runs these.
//! Next: `tree` finds the files, `code` reads Rust as far as these rules need.

mod anywhere;
mod arrows;
mod attacks;
mod code;
mod dependencies;
mod docs;
mod lints;
mod metrics;
mod python;
mod text;
mod tree;
mod write_paths;

/// Fails with every place at which a rule is broken, one per line.
#[track_caller]
fn none(wrong: &[String], what_to_do: &str) {
    assert!(wrong.is_empty(), "\n{}\n{what_to_do}\n", wrong.join("\n"));
}
