//! Rules about the node's own source.

use std::path::{Path, PathBuf};

/// What goes around the trait: the real file system itself, engines of other people's making that
/// open their own files (caches that are rebuilt from the log), and copies that leave the node.
const EXCEPT: &[&str] = &["fs/real.rs", "meta/engine/", "meta/backup"];

/// Everything that a write path goes through and that must be among the files looked at.
const LOOKED_AT: &[&str] = &[
    "store/core.rs",
    "store/superblock.rs",
    "store/scrub/ledger.rs",
    "meta/log/append.rs",
    "meta/log/open.rs",
    "meta/snapshot/fetch.rs",
    "meta/member/card.rs",
    "meta/member/rebuild.rs",
    "run/disks.rs",
    "run/metadata.rs",
];

const BANNED: &[&str] = &[
    "std::fs",
    "tokio::fs",
    "rustix::",
    "OpenOptions",
    "fs::File::",
    "fs::write",
    "fs::rename",
    "fs::remove",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("source folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let of_tests = name.ends_with("tests") || name.ends_with("tests.rs");
        if path.is_dir() && !of_tests {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !of_tests {
            found.push(path);
        }
    }
}

/// No write path may bypass the file-system trait: the power-cut tests would not see it.
#[test]
fn nothing_that_must_survive_a_power_cut_touches_the_file_system_directly() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut seen = Vec::new();
    for path in &files {
        let name = path
            .strip_prefix(&root)
            .expect("below the root")
            .to_string_lossy();
        if EXCEPT.iter().any(|except| name.starts_with(except)) {
            continue;
        }
        let text = std::fs::read_to_string(path).expect("source");
        // Tests at the end of a file may do as they like.
        let code = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        for banned in BANNED {
            assert!(!code.contains(banned), "{name} uses {banned}");
        }
        seen.push(name.into_owned());
    }
    for name in LOOKED_AT {
        assert!(
            seen.iter().any(|seen| seen == name),
            "{name} was not looked at"
        );
    }
}
