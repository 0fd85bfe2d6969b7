//! The files and the crates of this repository.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What a working copy may contain but the repository doesn't.
const NOT_OURS: &[&str] = &[
    ".git",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "megalith-data",
    "target",
];

/// Returns the repository's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace's root")
        .to_owned()
}

/// Returns every file of ours by its path from the root, in order.
pub fn files() -> &'static [PathBuf] {
    static FILES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FILES.get_or_init(|| {
        let root = root();
        let mut found = Vec::new();
        let mut open = vec![root.clone()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(&dir).expect("our folders can be read") {
                let path = entry.expect("our folders can be read").path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if NOT_OURS.contains(&&*name) {
                    continue;
                }
                if path.is_dir() {
                    open.push(path);
                } else {
                    found.push(path.strip_prefix(&root).expect("below").to_owned());
                }
            }
        }
        found.sort();
        assert!(found.len() > 400, "the search for files is broken");
        found
    })
}

/// Returns every text file of ours that ends in one of `endings`, with its text.
pub fn texts(endings: &[&str]) -> Vec<(PathBuf, String)> {
    let root = root();
    let of_kind = |path: &&PathBuf| {
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        endings.contains(&&*ending)
    };
    let found: Vec<_> = files()
        .iter()
        .filter(of_kind)
        .map(|path| {
            let text = std::fs::read_to_string(root.join(path)).expect("sources are text");
            (path.clone(), text)
        })
        .collect();
    assert!(!found.is_empty(), "the search for {endings:?} is broken");
    found
}

/// Returns every Rust file of ours, with its text.
pub fn sources() -> &'static [(PathBuf, String)] {
    static SOURCES: OnceLock<Vec<(PathBuf, String)>> = OnceLock::new();
    SOURCES.get_or_init(|| texts(&["rs"]))
}

/// Returns true if a Rust file holds only tests: `tests.rs`, or any file below a `tests` folder.
pub fn is_test(path: &Path) -> bool {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    parts.any(|part| part == "tests" || part == "tests.rs")
}

/// A crate of the workspace, as described by its manifest.
pub struct Package {
    pub name: String,
    /// Its path from the root.
    pub folder: PathBuf,
    pub dependencies: Vec<Dependency>,
}

/// One line of a manifest.
pub struct Dependency {
    /// Its name as written in `Cargo.toml`.
    pub name: String,
    pub kind: Kind,
}

/// The table of a manifest that a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Dev,
    Build,
}

/// Returns the workspace's crates, as cargo reads them.
pub fn packages() -> &'static [Package] {
    static PACKAGES: OnceLock<Vec<Package>> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let text = cargo(&[
            "metadata",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ]);
        let read: serde_json::Value = serde_json::from_str(&text).expect("cargo prints JSON");
        let packages = read["packages"].as_array().expect("a list of packages");
        let found: Vec<_> = packages.iter().map(package).collect();
        assert!(found.len() > 10, "the search for crates is broken");
        found
    })
}

fn package(read: &serde_json::Value) -> Package {
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let manifest = PathBuf::from(text(&read["manifest_path"]));
    let folder = manifest.parent().expect("a manifest has a folder");
    let dependencies = read["dependencies"].as_array().expect("a list");
    Package {
        name: text(&read["name"]),
        folder: folder.strip_prefix(root()).expect("below").to_owned(),
        dependencies: dependencies
            .iter()
            .map(|dependency| Dependency {
                name: text(
                    dependency
                        .get("rename")
                        .filter(|name| name.is_string())
                        .unwrap_or(&dependency["name"]),
                ),
                kind: match dependency["kind"].as_str() {
                    None => Kind::Normal,
                    Some("dev") => Kind::Dev,
                    Some("build") => Kind::Build,
                    Some(other) => panic!("cargo knows a new kind of dependency: {other}"),
                },
            })
            .collect(),
    }
}

/// Runs cargo in the repository's folder and returns what it printed.
pub fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints text")
}
