//! Checks that a crate's sources name everything that its manifest lists.

use crate::code::{code_of, path_starts, without_tests};
use crate::none;
use crate::tree::{Dependency, Kind, Package, is_test, packages, sources};
use std::collections::BTreeSet;
use std::path::Path;

/// (crate, dependency, why no source of ours names it)
const UNNAMED: &[(&str, &str, &str)] = &[
    ("megalith-model", "serde_bytes", "serde's macros name it"),
    ("megalith-proto", "bytes", "generated code names it"),
    ("megalith-proto", "prost", "generated code names it"),
    ("megalith-proto", "tonic-prost", "generated code names it"),
];

/// (package, the name that its code goes by)
const CALLED: &[(&str, &str)] = &[("md-5", "md5")];

/// Returns which sources may name a dependency of a kind.
fn looks_at(kind: Kind, within: &Path) -> bool {
    let room = within.iter().next().unwrap_or_default().to_string_lossy();
    match kind {
        Kind::Normal => {
            let aside = ["tests", "examples", "benches", "build.rs"].contains(&&*room);
            !aside && !is_test(within)
        }
        Kind::Dev => ["src", "tests", "examples", "benches"].contains(&&*room),
        Kind::Build => room == "build.rs",
    }
}

/// Returns the names that begin paths in a crate's sources, as far as `kind` may use them.
fn named(package: &Package, kind: Kind) -> BTreeSet<String> {
    // A crate may be in a folder of another crate.
    let inner: Vec<_> = packages()
        .iter()
        .filter(|other| other.folder != package.folder && other.folder.starts_with(&package.folder))
        .collect();
    let mut found = BTreeSet::new();
    for (path, text) in sources() {
        let Ok(within) = path.strip_prefix(&package.folder) else {
            continue;
        };
        let others = inner.iter().any(|other| path.starts_with(&other.folder));
        if others || !looks_at(kind, within) {
            continue;
        }
        let code = code_of(text);
        let code = match kind {
            Kind::Normal => without_tests(&code),
            Kind::Dev | Kind::Build => &code,
        };
        found.extend(
            path_starts(code)
                .into_iter()
                .map(|(_, name)| name.to_owned()),
        );
    }
    found
}

fn called(dependency: &Dependency) -> String {
    let listed = CALLED.iter().find(|(name, _)| *name == dependency.name);
    listed.map_or_else(
        || dependency.name.replace('-', "_"),
        |(_, called)| (*called).to_owned(),
    )
}

fn excepted(package: &Package, dependency: &Dependency) -> bool {
    let named =
        |(of, name, _): &&(&str, &str, &str)| *of == package.name && *name == dependency.name;
    UNNAMED.iter().any(|entry| named(&entry))
}

#[test]
fn what_is_listed_is_used() {
    let mut wrong = Vec::new();
    for package in packages() {
        let manifest = package.folder.join("Cargo.toml");
        for kind in [Kind::Normal, Kind::Dev, Kind::Build] {
            let names = named(package, kind);
            for dependency in package
                .dependencies
                .iter()
                .filter(|listed| listed.kind == kind)
            {
                let used = names.contains(&called(dependency));
                if !used && !excepted(package, dependency) {
                    let (manifest, name) = (manifest.display(), &dependency.name);
                    wrong.push(format!("{manifest}: {name} ({kind:?}): no source names it"));
                }
                if used && excepted(package, dependency) {
                    let name = &dependency.name;
                    wrong.push(format!("UNNAMED: {name} is named, the exception goes"));
                }
            }
        }
    }
    none(
        &wrong,
        "Take it out; what only tests name belongs under [dev-dependencies]; what only a macro \
         or generated code names belongs in UNNAMED, with its reason.",
    );
}

#[test]
fn exceptions_are_of_crates_and_lines_that_exist() {
    let mut wrong = Vec::new();
    for (of, name, _) in UNNAMED {
        let listed = packages().iter().filter(|package| package.name == *of);
        let mut listed = listed.flat_map(|package| &package.dependencies);
        if !listed.any(|dependency| dependency.name == *name) {
            wrong.push(format!("UNNAMED: {of} doesn't list {name}"));
        }
    }
    none(&wrong, "Take the exception out.");
}
