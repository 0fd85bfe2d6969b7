//! Configuration files as people write them, and how they are read.

use super::*;
use expect_test::{Expect, expect};

fn load_text<T: DeserializeOwned>(text: &str, flags: impl Serialize) -> Result<T, String> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("node.toml");
    std::fs::write(&path, text).expect("write");
    let at = path.display().to_string();
    load(Some(&path), flags).map_err(|error| error.to_string().replace(&at, "node.toml"))
}

fn load_node(text: &str) -> Result<NodeFile, String> {
    load_text(text, NoFlags {})
}

fn load_gateway(text: &str) -> Result<GatewayFile, String> {
    load_text(text, NoFlags {})
}

const NODE: &str = "[node]\nid = 1\ntls_dir = \"t\"\n[metadata]\nmembers = [\"1=h:1\"]\n";
const GATEWAY: &str = "[metadata]\nmembers = [\"1=h:1\"]\n[gateway]\nid = 1\ntls_dir = \"t\"\n\
                       root_key_file = \"k\"\n";
const VAULT: &str = "[vault]\naddress = \"https://v\"\nkey = \"k\"\ntoken_file = \"t\"\n";

#[test]
fn unknown_key_is_refused_with_the_nearest_name() {
    let error = load_node("[node]\nid = 1\ntls_dir = \"t\"\nrpc_lisen = \"x:1\"").unwrap_err();
    assert_eq!(
        error,
        "node.toml: unknown key `node.rpc_lisen` (did you mean `rpc_listen`?)"
    );
    let error = load_node("[sotrage]\ndisks = []").unwrap_err();
    assert_eq!(
        error,
        "node.toml: unknown key `sotrage` (did you mean `storage`?)"
    );
}

#[test]
fn missing_and_mistyped_keys_are_named() {
    let error = load_node("[node]\nid = 1").unwrap_err();
    assert!(error.contains("tls_dir"), "{error}");
    let error = load_node("[node]\nid = \"one\"\ntls_dir = \"t\"").unwrap_err();
    assert!(error.contains("node.id"), "{error}");
}

#[test]
fn members_are_id_and_address() {
    let parse = |texts: &[&str]| {
        parse_members(
            "f",
            &texts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        parse(&["1=a:7001"]).expect("valid"),
        [(1, "a:7001".to_owned())]
    );
    for bad in [
        &["a:7001"][..],
        &["0=a:1"],
        &["1=a"],
        &["1=:7"],
        &["1=a:1", "1=b:1"],
        &[],
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
}

fn refused<T: std::fmt::Debug>(loaded: Result<T, String>, expected: Expect) {
    expected.assert_eq(&loaded.expect_err("refused"));
}

#[test]
fn every_section_refuses_keys_that_it_does_not_have() {
    refused(
        load_node(&format!("{NODE}[storage]\ndisk = [\"d\"]")),
        expect!["node.toml: unknown key `storage.disk` (did you mean `disks`?)"],
    );
    refused(
        load_node(&NODE.replace("[metadata]", "[metadata]\nengin = \"sled\"")),
        expect!["node.toml: unknown key `metadata.engin` (did you mean `engine`?)"],
    );
    refused(
        load_node(&format!("{NODE}[log]\nlevle = \"info\"")),
        expect!["node.toml: unknown key `log.levle` (did you mean `level`?)"],
    );
    refused(
        load_gateway(&format!("{GATEWAY}regoin = \"x\"")),
        expect!["node.toml: unknown key `gateway.regoin` (did you mean `region`?)"],
    );
    refused(
        load_text::<OperatorFile>("[operator]\ntls = \"t\"", NoFlags {}),
        expect!["node.toml: unknown key `operator.tls` (known: tls_dir, root_key_file)"],
    );
}

#[test]
fn a_value_that_is_none_of_the_known_is_named() {
    refused(
        load_node(&NODE.replace("[metadata]", "[metadata]\nengine = \"rocks\"")),
        expect![
            "node.toml: `metadata.engine`: unknown variant: found `rocks`, expected ``fjall` or `sled``"
        ],
    );
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    let error = load_node("[node\nid = 1").expect_err("no TOML");
    assert!(
        error.starts_with("node.toml: TOML parse error at line 1"),
        "{error}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let missing = Path::new("/nowhere/node.toml");
    let error = load::<NodeFile, _>(Some(missing), NoFlags {}).expect_err("missing");
    assert_eq!(
        error.to_string(),
        "read the configuration file /nowhere/node.toml"
    );
}

#[test]
fn what_a_node_does_not_set_is_the_documented_default() {
    let file = load_node(&format!("{NODE}[storage]\ndisks = [\"d\"]")).expect("sound");
    assert_eq!(file.node.rpc_listen, "0.0.0.0:7001");
    assert_eq!(file.node.data_listen, "0.0.0.0:7002");
    let storage = file.storage.expect("storage");
    assert_eq!((storage.scrub_days, storage.scrub_new_hours), (30, 24));
    assert_eq!(
        (storage.scrub_bytes_per_s, storage.reserve_bytes),
        (32 << 20, None)
    );
    assert_eq!(storage.finish_after_s, 600);
    let metadata = file.metadata;
    assert_eq!((metadata.engine, metadata.dir), (Engine::Fjall, None));
    assert_eq!((metadata.memory_bytes, metadata.cache_bytes), (None, None));
    assert_eq!(
        (metadata.gateway_life_s, metadata.delete_after_s),
        (60, 900)
    );
    assert_eq!(
        (metadata.delete_at_last_s, metadata.deletes_waiting_max),
        (86_400, 1_000_000)
    );
    assert_eq!(
        (file.log.level.as_str(), file.log.format),
        ("info", LogFormat::Text)
    );
}

#[test]
fn what_a_gateway_does_not_set_is_as_if_made_in_code() {
    let read = load_gateway(GATEWAY).expect("sound").gateway;
    let made = GatewaySection::new(1, "t".into(), Some("k".into()));
    let text = |section| toml::to_string(section).expect("plain tables");
    assert_eq!(text(&read), text(&made));
    assert_eq!(
        (read.listen.as_str(), read.region.as_str()),
        ("0.0.0.0:9000", "us-east-1")
    );
    assert_eq!(read.memory_bytes, None);
}

#[test]
fn a_key_service_needs_little_and_has_the_documented_defaults() {
    let file = load_gateway(&format!("{GATEWAY}{VAULT}")).expect("sound");
    let vault = file.vault.expect("named");
    assert_eq!(
        (vault.mount.as_str(), vault.timeout_ms, vault.hold_s),
        ("transit", 5_000, 300)
    );
    assert_eq!((vault.ca_file, vault.namespace), (None, None));
    assert!(load_gateway(GATEWAY).expect("sound").vault.is_none());
}

#[test]
fn flags_win_over_the_file_and_leave_the_rest() {
    #[derive(Serialize)]
    struct Flags {
        gateway: Section,
    }
    #[derive(Serialize)]
    struct Section {
        listen: &'static str,
    }
    let gateway = Section { listen: "flag:1" };
    let text = format!("{GATEWAY}listen = \"file:1\"\nhttps_listen = \"file:2\"");
    let file: GatewayFile = load_text(&text, Flags { gateway }).expect("sound");
    assert_eq!(file.gateway.listen, "flag:1");
    assert_eq!(file.gateway.https_listen, "file:2");
}

#[test]
fn the_health_listener_is_understood_by_its_old_name() {
    let old = load_gateway(&format!("{GATEWAY}admin_listen = \"h:1\"")).expect("sound");
    let new = load_gateway(&format!("{GATEWAY}health_listen = \"h:1\"")).expect("sound");
    assert_eq!(old.gateway.health_listen, "h:1");
    assert_eq!(new.gateway.health_listen, "h:1");
    let both = format!("{GATEWAY}admin_listen = \"h:1\"\nhealth_listen = \"h:2\"");
    refused(
        load_gateway(&both),
        expect![
            "node.toml: `gateway.admin_listen` is the old name of `gateway.health_listen`: name one"
        ],
    );
}

#[test]
fn a_flag_wins_over_the_old_name_in_a_file() {
    let flags = serde_json::json!({ "gateway": { "health_listen": "flag:1" } });
    let text = format!("{GATEWAY}admin_listen = \"\"");
    let file: GatewayFile = load_text(&text, flags).expect("sound");
    assert_eq!(file.gateway.health_listen, "flag:1");
}

#[test]
fn members_that_make_no_sense_are_refused_with_their_origin() {
    let parse = |texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        parse_members("f", &texts).map_err(|error| error.to_string())
    };
    refused(
        parse(&["1=h"]),
        expect!["f: `1=h` is not `id=host:port` with an id from 1"],
    );
    refused(parse(&[]), expect!["f: no metadata member is named"]);
    refused(
        parse(&["1=a:1", "1=b:1"]),
        expect!["f: metadata member 1 is there twice"],
    );
    assert!(parse(&["1=[::1]:7001"]).is_ok());
    assert!(parse(&["1=a:70000"]).is_err());
}

/// The keys that a section has, as its refusal of another one tells them.
fn known<T: DeserializeOwned + std::fmt::Debug>(section: &str, before: &str) -> Vec<String> {
    let text = format!("{before}zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz = 1\n");
    let told = load_text::<T>(&text, NoFlags {}).expect_err("no such key");
    let (_, list) = told.split_once("(known: ").expect(&told);
    let keys = list.trim_end_matches(')').split(", ");
    keys.map(|key| format!("{section}.{key}")).collect()
}

#[test]
fn every_key_is_in_the_configuration_page_and_no_other() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/configuration.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let check = |heading: &str, keys: &[Vec<String>]| {
        let (_, part) = page.split_once(heading).expect(heading);
        let part = part.split("\n## ").next().unwrap_or_default();
        let rows = part.lines().filter(|line| line.starts_with("| `"));
        let firsts = rows.filter_map(|row| row.split('|').nth(1));
        let mut documented: Vec<&str> = firsts
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect();
        let mut keys: Vec<&str> = keys.iter().flatten().map(String::as_str).collect();
        documented.sort_unstable();
        keys.sort_unstable();
        assert_eq!(documented, keys, "deploy/configuration.md, {heading}");
    };
    let log = known::<NodeFile>("log", &format!("{NODE}[log]\n"));
    check(
        "## `megalith node`",
        &[
            known::<NodeFile>("node", "[node]\nid = 1\ntls_dir = \"t\"\n"),
            known::<NodeFile>("storage", &format!("{NODE}[storage]\ndisks = []\n")),
            known::<NodeFile>("metadata", NODE),
            log,
        ],
    );
    let members = "[metadata]\nmembers = [\"1=h:1\"]\n";
    check(
        "## `megalith gateway`",
        &[
            known::<GatewayFile>("gateway", GATEWAY),
            known::<GatewayFile>(
                "metadata",
                &format!("{GATEWAY}{members}").replacen(members, "", 1),
            ),
            known::<GatewayFile>("vault", &format!("{GATEWAY}{VAULT}")),
            vec!["log.*".to_owned()],
        ],
    );
    check(
        "## Operator",
        &[
            known::<OperatorFile>("operator", "[operator]\ntls_dir = \"t\"\n"),
            known::<OperatorFile>("metadata", members),
            vec!["vault.*".to_owned()],
        ],
    );
}
