//! Checks that nothing here depends on, or mentions, the machine that it was written on.

use crate::none;
use crate::tree::{files, root};

/// Paths of private machines, and addresses of private mirrors. They are split, so that this file
/// contains none of them.
const ELSEWHERE: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/tmp", "/wt"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("index", ".crates.io"),
    concat!("static", ".crates.io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("index", "-url"),
    concat!("replace", "-with"),
    concat!("sparse", "+http"),
];

/// The source that `Cargo.lock` must give for every package.
const REGISTRY: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let mut wrong = Vec::new();
    for path in files() {
        let bytes = std::fs::read(root().join(path)).expect("our files can be read");
        let text = String::from_utf8_lossy(&bytes);
        for (number, line) in text.lines().enumerate() {
            for name in ELSEWHERE.iter().filter(|name| line.contains(**name)) {
                wrong.push(format!("{}:{}: {name}", path.display(), number + 1));
            }
        }
    }
    none(
        &wrong,
        "Paths are relative to the repository; registries are the machine's affair.",
    );
}

#[test]
fn every_package_comes_from_the_public_registry() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("the lock file");
    let sources = || lock.lines().filter(|line| line.starts_with("source = "));
    assert!(sources().count() > 100, "the search for sources is broken");
    let wrong: Vec<_> = sources()
        .filter(|line| *line != REGISTRY)
        .map(|line| format!("Cargo.lock: {line}"))
        .collect();
    none(&wrong, "Lock against crates.io itself.");
}
