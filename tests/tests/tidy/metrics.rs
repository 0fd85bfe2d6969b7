//! What the program counts and measures is described for those who watch it.

use super::none;
use super::tree::{is_test, root, sources};
use std::collections::BTreeSet;

const PAGE: &str = "deploy/metrics.md";

/// The first text in a macro call that begins behind `text`'s start: a metric's name.
fn name(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix('"')?.split('"').next()
}

#[test]
fn every_metric_is_in_the_metrics_page_and_no_other() {
    let page = std::fs::read_to_string(root().join(PAGE)).expect("the page");
    let documented: BTreeSet<(&str, &str)> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|');
            Some((
                cells.next()?.trim().trim_end_matches('`'),
                cells.next()?.trim(),
            ))
        })
        .collect();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        for kind in ["counter", "gauge", "histogram"] {
            let call = format!("metrics::{kind}!(");
            for behind in text.split(&*call).skip(1) {
                let Some(name) = name(behind) else {
                    wrong.push(format!("{}: a {kind} without a plain name", path.display()));
                    continue;
                };
                used.insert((name, kind));
                if !documented.contains(&(name, kind)) {
                    wrong.push(format!("{}: {name}, a {kind}: no row", path.display()));
                }
            }
        }
    }
    assert!(!used.is_empty(), "the search for metrics is broken");
    for (name, kind) in documented.difference(&used) {
        wrong.push(format!("{PAGE}: {name}, a {kind}: nothing counts it"));
    }
    none(
        &wrong,
        "deploy/metrics.md has one row for each metric, with its kind.",
    );
}
