//! Which crate may use which, where each lives, and which modules alone may name a library.

use crate::code::{code_of, path_starts};
use crate::none;
use crate::tree::{Kind, cargo, files, packages, root, sources};
use std::collections::BTreeSet;
use std::path::Path;

/// A crate's folder, and which of our crates it may list (by the last part of their names). Arrows
/// point down; `ARCHITECTURE.md` says why.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("lib/model", &[]),
    ("lib/crypto", &[]),
    ("lib/sigv4", &[]),
    ("lib/disk", &[]),
    ("lib/placement", &["model"]),
    ("lib/erasure", &["model"]),
    ("lib/identity", &["model"]),
    ("lib/serve", &["identity"]),
    ("lib/client", &["proto", "model", "identity"]),
    ("lib/keyring", &["client", "crypto", "model"]),
    ("node/store", &["disk", "model"]),
    (
        "node/metadata",
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
    ("node/upkeep", &["client", "model", "store"]),
    (
        "node/server",
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
    ("gateway/blobs", &["client", "crypto", "erasure", "model"]),
    (
        "gateway",
        &[
            "blobs", "client", "crypto", "identity", "keyring", "model", "serve", "sigv4",
        ],
    ),
    ("admin", &["client", "crypto", "keyring", "model"]),
    (
        "cli",
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
    ("tests", &[]),
    ("tests/load", &["sigv4"]),
    (
        "tests/fuzz",
        &[
            "client", "disk", "gateway", "metadata", "model", "server", "sigv4", "store",
        ],
    ),
];

/// Crates that only decide. Their `clippy.toml` is checked in `lints`.
pub const PURE: &[&str] = &[
    "lib/model",
    "lib/placement",
    "lib/erasure",
    "lib/crypto",
    "lib/sigv4",
];

/// What a pure crate may not depend on, even indirectly.
const EFFECTS: &[&str] = &["tokio", "tonic", "sled", "fjall", "hyper", "raft"];

/// The folders at the top. A new one is a decision about the design, not a detail.
const ROOMS: &[&str] = &[
    ".ci", ".config", "admin", "cli", "deploy", "docs", "gateway", "lib", "node", "proto", "tests",
];

/// Folders without a crate that people look for by these names.
const FIXED: &[&str] = &[
    "docs/decisions",
    "docs/formats",
    "gateway/src/auth",
    "gateway/src/ops",
    "gateway/src/run",
    "gateway/src/s3",
    "tests/bench",
    "tests/cluster",
    "tests/faults",
    "tests/harness",
    "tests/s3",
];

/// The crates of a library, and the one folder that may name them.
const NAMED_IN: &[(&[&str], &str)] = &[
    (&["sled", "fjall"], "node/metadata/src/engine"),
    (&["raft", "raft_proto"], "node/metadata/src/raft"),
];

/// Returns the name of the crate in a folder: `megalith-` and the folder's last part.
fn name_of(folder: &str) -> String {
    match folder.rsplit('/').next() {
        // The crate that makes the binary has the binary's name.
        Some("cli") => "megalith".to_owned(),
        last => format!("megalith-{}", last.unwrap_or_default()),
    }
}

#[test]
fn every_crate_is_listed_and_called_after_its_folder() {
    let mut wrong = Vec::new();
    for package in packages() {
        let folder = package.folder.to_string_lossy();
        if !ARROWS.iter().any(|(listed, _)| *listed == folder) {
            wrong.push(format!("{folder}: not in ARROWS"));
        }
        if name_of(&folder) != package.name {
            let (right, name) = (name_of(&folder), &package.name);
            wrong.push(format!("{folder}/Cargo.toml: called {name}, not {right}"));
        }
    }
    for (folder, _) in ARROWS {
        if !packages()
            .iter()
            .any(|package| package.folder == Path::new(folder))
        {
            wrong.push(format!("ARROWS: no crate of the workspace is in {folder}"));
        }
    }
    none(
        &wrong,
        "Keep ARROWS in tests/tests/tidy/arrows.rs, the folders and the names in step.",
    );
}

#[test]
fn arrows_between_crates_are_those_that_are_drawn() {
    let mut wrong = Vec::new();
    for package in packages() {
        let folder = package.folder.to_string_lossy();
        let drawn = ARROWS.iter().find(|(listed, _)| *listed == folder);
        let drawn: BTreeSet<String> = drawn
            .into_iter()
            .flat_map(|(_, uses)| *uses)
            .map(|used| format!("megalith-{used}"))
            .collect();
        let listed: BTreeSet<String> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == Kind::Normal)
            .map(|dependency| dependency.name.clone())
            .filter(|name| name.starts_with("megalith"))
            .collect();
        for name in listed.difference(&drawn) {
            wrong.push(format!("{folder}/Cargo.toml: must not use {name}"));
        }
        for name in drawn.difference(&listed) {
            wrong.push(format!("ARROWS: {folder} doesn't use {name}"));
        }
    }
    none(
        &wrong,
        "A new arrow needs a reason in ARCHITECTURE.md; one that nobody uses goes.",
    );
}

#[test]
fn the_rooms_are_where_people_look_for_them() {
    let mut wrong = Vec::new();
    let found: BTreeSet<_> = files()
        .iter()
        .filter(|path| path.components().count() > 1)
        .filter_map(|path| path.iter().next())
        .map(|room| room.to_string_lossy())
        .collect();
    for room in &found {
        if !ROOMS.contains(&&**room) {
            wrong.push(format!("{room}/: no room of the design"));
        }
    }
    for room in ROOMS {
        if !found.contains(*room) {
            wrong.push(format!("{room}/: missing"));
        }
    }
    for folder in FIXED {
        if !files().iter().any(|path| path.starts_with(folder)) {
            wrong.push(format!("{folder}/: missing or empty"));
        }
    }
    none(
        &wrong,
        "The layout is drawn in ARCHITECTURE.md; ROOMS and FIXED follow it.",
    );
}

#[test]
fn the_architecture_page_lists_the_crates() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the page");
    // | `megalith-model` | `lib/model` | what it is | …
    let drawn: BTreeSet<(String, String)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `megalith"))
        .map(|row| {
            let mut cells = row.split('|');
            let mut cell = || cells.next().unwrap_or_default().trim().replace('`', "");
            (format!("megalith{}", cell()), cell())
        })
        .collect();
    let real: BTreeSet<(String, String)> = packages()
        .iter()
        .map(|package| {
            let folder = package.folder.to_string_lossy().into_owned();
            (package.name.clone(), folder)
        })
        .collect();
    let mut wrong = Vec::new();
    for (name, folder) in real.difference(&drawn) {
        wrong.push(format!("ARCHITECTURE.md: no row `{name}` in `{folder}`"));
    }
    for (name, folder) in drawn.difference(&real) {
        wrong.push(format!("ARCHITECTURE.md: `{name}` isn't in `{folder}`"));
    }
    none(&wrong, "Mend the table of crates.");
}

/// Returns the crates that the crate in `folder` is built with.
fn reached(folder: &str) -> BTreeSet<String> {
    let name = name_of(folder);
    let arguments = [
        "tree",
        "--offline",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--package",
        &name,
    ];
    let found: BTreeSet<_> = cargo(&arguments)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|reached| *reached != name)
        .map(str::to_owned)
        .collect();
    assert!(!found.is_empty(), "the search for crates is broken");
    found
}

#[test]
fn pure_crates_reach_no_effects() {
    let mut wrong = Vec::new();
    for folder in PURE {
        let reached = reached(folder);
        for effect in EFFECTS.iter().filter(|effect| reached.contains(**effect)) {
            wrong.push(format!("{folder}: reaches {effect}"));
        }
    }
    none(&wrong, "`cargo tree -i CRATE` says by which way.");
}

#[test]
fn a_node_cannot_be_built_with_the_means_to_read_what_it_stores() {
    assert!(!reached("node/server").contains("megalith-crypto"));
}

#[test]
fn metadata_and_store_never_learn_of_each_other() {
    assert!(!reached("node/metadata").contains("megalith-store"));
    assert!(!reached("node/store").contains("megalith-metadata"));
}

#[test]
fn one_module_names_the_databases_and_one_names_raft() {
    let mut wrong = Vec::new();
    for (names, folder) in NAMED_IN {
        let mut at_home = 0;
        for (path, text) in sources() {
            let code = code_of(text);
            let hits = path_starts(&code);
            let hits = hits.iter().filter(|(_, start)| names.contains(start));
            if path.starts_with(folder) {
                at_home += hits.count();
                continue;
            }
            wrong.extend(hits.map(|(line, name)| {
                format!("{}:{line}: names {name}, not in {folder}", path.display())
            }));
        }
        assert!(at_home > 0, "the search for {names:?} is broken");
    }
    none(
        &wrong,
        "Ask the module for what you need; a module of ours of that name is `crate::NAME`.",
    );
}
