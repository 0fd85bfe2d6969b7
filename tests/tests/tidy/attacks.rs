//! Checks that every test which `docs/attacks.md` names is there.

use crate::none;
use crate::tree::{root, texts};
use std::collections::BTreeSet;

const TABLE: &str = "docs/attacks.md";
/// Every attack on objects that a gateway encrypts.
const ATTACKS: [u32; 25] = [
    1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20, 22, 25, 26, 27, 28, 29, 30, 32,
];

/// A line of the table: its number, and the tests in its last column.
struct Line {
    attack: u32,
    tests: Vec<String>,
}

fn lines(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.trim_end_matches(" |").split(" | ");
        let attack = cells.next()?.parse().ok()?;
        // Names stand between back quotes: every second piece.
        let tests = cells.last()?.split('`').skip(1).step_by(2);
        let tests = tests.map(str::to_owned).collect();
        Some(Line { attack, tests })
    };
    text.lines().filter_map(line).collect()
}

/// Returns the names of all functions of Rust and Python.
fn functions() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, text) in texts(&["rs", "py"]) {
        for line in text.lines().map(str::trim_start) {
            let line = line.strip_prefix("async ").unwrap_or(line);
            let name = line.strip_prefix("fn ").or(line.strip_prefix("def "));
            if let Some((name, _)) = name.and_then(|name| name.split_once('(')) {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_attack_names_tests_that_are_there() {
    let text = std::fs::read_to_string(root().join(TABLE)).expect("the table");
    let lines = lines(&text);
    let attacks: Vec<u32> = lines.iter().map(|line| line.attack).collect();
    assert_eq!(attacks, ATTACKS, "{TABLE} has a line for each attack");
    let functions = functions();
    let mut wrong = Vec::new();
    for Line { attack, tests } in &lines {
        // An attack that no test runs says so in words.
        let missing = tests.iter().filter(|test| !functions.contains(*test));
        wrong.extend(missing.map(|test| format!("{TABLE}: {attack}: no test {test}")));
    }
    none(&wrong, "Name the test as it is called now.");
}
