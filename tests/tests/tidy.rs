//! Rules about our own tree: which crate may use which, and what no file may hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crate → the workspace crates that it may list. Arrows point down; ARCHITECTURE.md says why.
const ARROWS: &[(&str, &[&str])] = &[
    ("megalith-proto", &[]),
    ("megalith-model", &[]),
    ("megalith-crypto", &[]),
    ("megalith-disk", &[]),
    ("megalith-placement", &["model"]),
    ("megalith-erasure", &["model"]),
    ("megalith-identity", &["model"]),
    ("megalith-serve", &["identity"]),
    ("megalith-client", &["proto", "model", "identity"]),
    ("megalith-keyring", &["client", "crypto", "model"]),
    ("megalith-store", &["disk", "model"]),
    (
        "megalith-metadata",
        &[
            "proto",
            "model",
            "placement",
            "identity",
            "client",
            "disk",
            "serve",
        ],
    ),
    ("megalith-upkeep", &["client", "model", "store"]),
    (
        "megalith-server",
        &[
            "proto",
            "model",
            "placement",
            "identity",
            "client",
            "disk",
            "serve",
            "store",
            "metadata",
            "upkeep",
        ],
    ),
    ("megalith-blobs", &["client", "crypto", "erasure", "model"]),
    (
        "megalith-gateway",
        &[
            "blobs", "client", "crypto", "identity", "keyring", "model", "serve",
        ],
    ),
    ("megalith-admin", &["client", "crypto", "keyring", "model"]),
    (
        "megalith-fuzz",
        &[
            "client", "disk", "gateway", "metadata", "model", "server", "store",
        ],
    ),
    (
        "megalith",
        &[
            "admin",
            "blobs",
            "client",
            "crypto",
            "disk",
            "gateway",
            "identity",
            "keyring",
            "metadata",
            "model",
            "placement",
            "server",
            "store",
        ],
    ),
];

/// Crates that decide and do nothing else.
const PURE: &[&str] = &[
    "megalith-model",
    "megalith-placement",
    "megalith-erasure",
    "megalith-crypto",
];
/// What a pure crate may not reach, however indirectly.
const EFFECTS: &[&str] = &["tokio", "tonic", "sled", "fjall", "hyper", "raft"];
const LINES_MAX: usize = 700;
const COLUMNS_MAX: usize = 100;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace's root")
        .to_owned()
}

/// The crates that `package` is built with, at most `depth` steps away.
fn dependencies(package: &str, depth: u32) -> BTreeSet<String> {
    let depth = depth.to_string();
    let arguments = [
        "tree",
        "--offline",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--depth",
    ];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args([&depth, "--format", "{p}", "--package", package])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("cargo prints text");
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != package)
        .map(str::to_owned)
        .collect()
}

#[test]
fn arrows_between_crates_point_one_way() {
    let allowed: BTreeMap<_, BTreeSet<String>> = ARROWS
        .iter()
        .map(|(name, to)| {
            (
                *name,
                to.iter().map(|to| format!("megalith-{to}")).collect(),
            )
        })
        .collect();
    for (name, allowed) in allowed {
        let ours: BTreeSet<String> = dependencies(name, 1)
            .into_iter()
            .filter(|dependency| dependency.starts_with("megalith"))
            .collect();
        let wrong: Vec<_> = ours.difference(&allowed).collect();
        assert!(wrong.is_empty(), "{name} must not use {wrong:?}");
    }
}

#[test]
fn pure_crates_reach_no_effects() {
    for name in PURE {
        let reached = dependencies(name, 99);
        assert!(
            !reached.is_empty(),
            "{name} has dependencies, or the search is broken"
        );
        for effect in EFFECTS {
            assert!(!reached.contains(*effect), "{name} must not reach {effect}");
        }
    }
}

#[test]
fn a_node_cannot_be_built_with_the_means_to_read_what_it_stores() {
    let reached = dependencies("megalith-server", 99);
    assert!(!reached.contains("megalith-crypto"));
}

#[test]
fn one_module_names_the_databases_and_one_names_raft() {
    let engine = Path::new("node/metadata/src/engine");
    let raft = Path::new("node/metadata/src/raft");
    for (path, text) in sources() {
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("//"))
        {
            let names = |name: &str| {
                line.contains(&format!("{name}::"))
                    && !line.contains(&format!("_{name}::"))
                    && !line.contains(&format!("::{name}::"))
                    && !line.contains("crate::")
                    && !line.contains("super::")
                    && !line.contains("self::")
            };
            assert!(
                !(names("sled") || names("fjall")) || path.starts_with(engine),
                "{}: {line}",
                path.display()
            );
            assert!(
                !line.starts_with("use raft::") || path.starts_with(raft),
                "{}: {line}",
                path.display()
            );
        }
    }
}

#[test]
fn files_are_short_and_finished() {
    let unfinished = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[ig", "nore"),
    ];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!(
                "{}: {lines} lines, look for the seam",
                path.display()
            ));
        }
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", path.display(), number + 1);
            let columns = line.chars().count();
            // The formatter keeps code within the columns; nobody but us looks at comments.
            let comment = line.trim_start().starts_with("//");
            let cannot_wrap = line.contains("//! |") || line.contains("http");
            if comment && !cannot_wrap && columns > COLUMNS_MAX {
                wrong.push(format!("{place}: {columns} columns"));
            }
            let marks = unfinished.iter().filter(|mark| line.contains(**mark));
            wrong.extend(marks.map(|mark| format!("{place}: {mark}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every Rust file of ours with its path from the root.
fn sources() -> Vec<(PathBuf, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = ["proto", "lib", "node", "gateway", "admin", "cli", "tests"]
        .iter()
        .map(|dir| root.join(dir))
        .collect();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("our folders can be read") {
            let path = entry.expect("our folders can be read").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).expect("sources are text");
                let path = path.strip_prefix(&root).expect("below the root").to_owned();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 30, "the search for sources is broken");
    found
}
