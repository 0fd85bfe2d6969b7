//! Checks that files which a node must find again after a power cut are written through the
//! file-system trait of `megalith-disk`: the tests that cut the power see nothing else.

use crate::code::{code_of, without_tests};
use crate::none;
use crate::tree::{is_test, sources};

/// Where a node's files are written.
const ROOMS: &[&str] = &[
    "lib/disk/src",
    "node/metadata/src",
    "node/server/src",
    "node/store/src",
    "node/upkeep/src",
];

/// Files that bypass the trait: the real file system itself, third-party engines that open their
/// own files (caches that are rebuilt from the log), and copies that leave the node.
const EXCEPT: &[&str] = &[
    "lib/disk/src/real.rs",
    "node/metadata/src/engine",
    "node/metadata/src/backup",
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

#[test]
fn nothing_that_must_survive_a_power_cut_touches_the_file_system_directly() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, text) in sources() {
        let of_rooms = ROOMS.iter().any(|room| path.starts_with(room));
        let excepted = EXCEPT.iter().any(|except| path.starts_with(except));
        if !of_rooms || excepted || is_test(path) {
            continue;
        }
        seen += 1;
        let code = code_of(text);
        for (index, line) in without_tests(&code).lines().enumerate() {
            for banned in BANNED.iter().filter(|banned| line.contains(**banned)) {
                wrong.push(format!("{}:{}: {banned}", path.display(), index + 1));
            }
        }
    }
    assert!(
        seen > 80,
        "the search for write paths is broken: {seen} files"
    );
    none(&wrong, "Write through `megalith_disk::FileSystem`.");
}
