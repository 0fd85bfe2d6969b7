//! Checks the linter's settings, so that no one can weaken them unnoticed.

use crate::arrows::PURE;
use crate::none;
use crate::tree::root;
use std::collections::BTreeSet;
use std::path::Path;

/// The bans of the pure crates. Each of these crates has a link `clippy.toml` to this file, because
/// clippy reads only the nearest file.
const PURE_BANS: &str = "lib/pure-clippy.toml";

/// What a pure crate must not do: one ban for each kind of effect.
const EFFECTS: &[&str] = &[
    "std::time::SystemTime::now",
    "std::time::Instant::now",
    "std::fs::read",
    "std::fs::File",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::thread::spawn",
    "std::env::var",
    "getrandom::fill",
    "aws_lc_rs::rand::fill",
    "aws_lc_rs::rand::SystemRandom",
];

/// The lints that are off by default and that this project relies on.
const SWITCHED_ON: &[&str] = &["all", "too_many_lines", "await_holding_lock"];

/// The modules that decide who may do what: a new variant must not slip through there.
const JUDGES: &[&str] = &[
    "gateway/src/auth/mod.rs",
    "lib/identity/src/peer.rs",
    "lib/identity/src/verify.rs",
    "node/metadata/src/service/grpc.rs",
    "node/server/src/edge/access.rs",
];

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table(path: impl AsRef<Path>) -> toml::Table {
    read(path).parse().expect("TOML")
}

/// Returns every path that a clippy file bans.
fn bans(table: &toml::Table) -> BTreeSet<String> {
    [
        "disallowed-methods",
        "disallowed-types",
        "disallowed-macros",
    ]
    .iter()
    .filter_map(|list| table.get(*list)?.as_array())
    .flatten()
    .map(|ban| {
        let reason = ban.get("reason").and_then(toml::Value::as_str);
        assert!(
            reason.is_some_and(|reason| !reason.is_empty()),
            "{ban}: no reason"
        );
        ban["path"].as_str().expect("a path").to_owned()
    })
    .collect()
}

#[test]
fn a_pure_crate_is_kept_from_every_effect() {
    let (all, pure) = (table("clippy.toml"), table(PURE_BANS));
    let mut wrong = Vec::new();
    for folder in PURE {
        // A copy would do as well; different content would not.
        if read(Path::new(folder).join("clippy.toml")) != read(PURE_BANS) {
            wrong.push(format!("{folder}/clippy.toml: not {PURE_BANS}"));
        }
    }
    let banned = bans(&pure);
    for missing in bans(&all).difference(&banned) {
        wrong.push(format!(
            "{PURE_BANS}: lacks {missing}, which the root's has"
        ));
    }
    for missing in EFFECTS.iter().filter(|effect| !banned.contains(**effect)) {
        wrong.push(format!("{PURE_BANS}: lacks {missing}"));
    }
    for (key, value) in all.iter().filter(|(key, _)| !key.starts_with("disallowed")) {
        if pure.get(key) != Some(value) {
            wrong.push(format!(
                "{PURE_BANS}: {key} isn't {value}, as the root's is"
            ));
        }
    }
    none(
        &wrong,
        "A crate's own file replaces the root's: it repeats what stands there.",
    );
}

#[test]
fn the_lints_that_the_house_relies_on_are_on() {
    let manifest = table("Cargo.toml");
    let lints = &manifest["workspace"]["lints"]["clippy"];
    let mut wrong = Vec::new();
    for lint in SWITCHED_ON {
        let set = lints.get(lint);
        let level = set.and_then(|set| set.as_str().or_else(|| set.get("level")?.as_str()));
        if !matches!(level, Some("warn" | "deny" | "forbid")) {
            wrong.push(format!("Cargo.toml: clippy::{lint} is off"));
        }
    }
    for package in crate::tree::packages() {
        let path = package.folder.join("Cargo.toml");
        let own = table(&path);
        let inherits = own.get("lints").and_then(|lints| lints.get("workspace"));
        if inherits != Some(&toml::Value::Boolean(true)) {
            wrong.push(format!("{}: no `[lints] workspace = true`", path.display()));
        }
    }
    none(&wrong, "Switch them on.");
}

#[test]
fn who_judges_names_every_variant() {
    let mut wrong = Vec::new();
    for judge in JUDGES {
        let code = crate::code::code_of(&read(judge));
        let head = code.split("\nuse ").next().unwrap_or_default();
        if !(head.contains("#![deny(") && head.contains("clippy::wildcard_enum_match_arm")) {
            wrong.push(format!(
                "{judge}: doesn't deny clippy::wildcard_enum_match_arm"
            ));
        }
    }
    none(
        &wrong,
        "A module that judges access opens with that `#![deny(…)]`.",
    );
}
