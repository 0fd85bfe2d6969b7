//! What may be written on the command line: lines, and what they are parsed to.

use super::{Cli, GatewayVerb, MetaVerb, NodeVerb, OutputFormat, Verb};
use crate::config::defaults;
use clap::{Command, CommandFactory, Parser};
use expect_test::{Expect, expect};

fn parse(line: &str) -> Result<Verb, clap::Error> {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.verb)
}

/// The first line of the refusal.
fn refused(line: &str, expected: Expect) {
    let told = parse(line).expect_err(line).to_string();
    expected.assert_eq(told.lines().next().unwrap_or_default());
}

/// Calls `see` with every command of the tree and the words that lead to it.
fn walk(command: &Command, path: &str, see: &mut impl FnMut(&Command, &str)) {
    see(command, path);
    for verb in command.get_subcommands() {
        walk(verb, &format!("{path} {}", verb.get_name()), see);
    }
}

#[test]
fn the_definition_contradicts_itself_nowhere() {
    Cli::command().debug_assert();
}

#[test]
fn these_are_all_verbs() {
    let mut verbs = String::new();
    walk(&Cli::command(), "megalith", &mut |command, path| {
        if !command.has_subcommands() {
            verbs.push_str(path);
            verbs.push('\n');
        }
    });
    expect![[r#"
        megalith up
        megalith node init
        megalith gateway init
        megalith operator init
        megalith status
        megalith scrub start
        megalith scrub status
        megalith check
        megalith settings get
        megalith settings set
        megalith disk rebuild-superblock
        megalith account create
        megalith account list
        megalith account disable
        megalith account enable
        megalith key create
        megalith key list
        megalith key disable
        megalith key enable
        megalith key rotate
        megalith key reseal
        megalith key check
        megalith cert issue
        megalith cert deny
        megalith cert allow
        megalith cert list
        megalith cert show
        megalith meta list
        megalith meta add
        megalith meta remove
        megalith meta replace
        megalith meta reset-clock
        megalith meta raise-level
        megalith meta init
        megalith meta repair
        megalith meta backup
        megalith meta restore
        megalith meta release-restore
        megalith config check
    "#]]
    .assert_eq(&verbs);
}

#[test]
fn every_verb_and_every_argument_has_help() {
    walk(&Cli::command(), "megalith", &mut |command, path| {
        assert!(command.get_about().is_some(), "{path} says nothing");
        for argument in command.get_arguments() {
            let name = argument.get_id();
            assert!(argument.get_help().is_some(), "{path} {name} says nothing");
        }
    });
}

#[test]
fn help_of_every_verb_is_an_answer_and_no_error() {
    let mut paths = Vec::new();
    walk(&Cli::command(), "megalith", &mut |_, path| {
        paths.push(path.to_owned());
    });
    for path in paths {
        let told = parse(&format!("{path} --help")).expect_err("help ends parsing");
        assert_eq!(told.exit_code(), 0, "{path}");
        assert!(told.to_string().contains("Usage: megalith"), "{path}");
    }
}

#[test]
fn an_unknown_flag_or_verb_is_refused_by_name() {
    refused(
        "megalith status --colour",
        expect!["error: unexpected argument '--colour' found"],
    );
    refused(
        "megalith stats",
        expect!["error: unrecognized subcommand 'stats'"],
    );
    let told = parse("megalith up --disk 3").expect_err("no such flag");
    assert!(told.to_string().contains("'--disks'"), "{told}");
    assert_eq!(told.exit_code(), 2);
}

#[test]
fn what_is_missing_is_named() {
    let told = |line: &str| parse(line).expect_err(line).to_string();
    for (line, missing) in [
        ("megalith node init --id 1 --dir d --ca-dir c", "--host"),
        (
            "megalith node init --id 1 --dir d --ca-dir c",
            "--metadata-member",
        ),
        (
            "megalith gateway init --id 1 --dir d --ca-dir c",
            "--metadata-member",
        ),
        ("megalith operator init --dir d", "--ca-dir"),
        ("megalith key create", "--account"),
        ("megalith disk rebuild-superblock", "<DISK>"),
        ("megalith account create", "<NAME>"),
        ("megalith meta backup", "--to"),
        ("megalith meta repair", "--config"),
        ("megalith config check", "<FILE>"),
    ] {
        assert!(told(line).contains(missing), "{line}: {}", told(line));
    }
}

#[test]
fn numbers_are_from_1_and_disks_at_most_64() {
    let rest = "--dir d --ca-dir c --host h --metadata-member 1=h:1";
    parse(&format!("megalith node init --id 0 {rest}")).expect_err("no node 0");
    parse(&format!("megalith node init --id 1 {rest}")).expect("a node");
    parse("megalith meta add 0").expect_err("no member 0");
    parse("megalith up --disks 0").expect_err("no disk");
    parse("megalith up --disks 64").expect("64 disks");
    refused(
        "megalith up --disks 65",
        expect!["error: invalid value '65' for '--disks <DISKS>': 65 is not in 1..=64"],
    );
}

#[test]
fn a_cluster_is_named_by_one_of_two_ways() {
    refused(
        "megalith status --config f --data d",
        expect!["error: the argument '--config <CONFIG>' cannot be used with '--data <DATA>'"],
    );
    let Ok(Verb::Status(args)) = parse("megalith status") else {
        panic!("neither is needed");
    };
    assert_eq!((args.reach.config, args.reach.data), (None, None));
    assert_eq!(args.output, OutputFormat::Text);
}

#[test]
fn running_and_setting_up_do_not_mix() {
    let rest = "--id 1 --dir d --ca-dir c --host h --metadata-member 1=h:1";
    for (role, more) in [("node", ""), ("gateway", "--root-key-file k")] {
        parse(&format!("megalith {role} init {rest} {more}")).expect("sets up");
        refused(
            &format!("megalith {role} --config f init {rest} {more}"),
            expect!["error: the subcommand 'init' cannot be used with '--config <CONFIG>'"],
        );
    }
    let Ok(Verb::Node { verb: None, run }) = parse("megalith node --config f --zone z") else {
        panic!("runs");
    };
    assert_eq!(run.node.zone.as_deref(), Some("z"));
}

#[test]
fn only_flags_that_were_given_override_a_file() {
    let Ok(Verb::Gateway { run, .. }) = parse("megalith gateway --config f --listen h:1") else {
        panic!("runs");
    };
    let json = serde_json::to_string(&run).expect("plain data");
    assert_eq!(json, r#"{"gateway":{"listen":"h:1"}}"#);
}

#[test]
fn the_health_listener_is_understood_by_its_old_name() {
    for flag in ["--health-listen", "--admin-listen"] {
        let Ok(Verb::Up(up)) = parse(&format!("megalith up {flag} h:1")) else {
            panic!("{flag}");
        };
        assert_eq!(up.health_listen.as_deref(), Some("h:1"));
        let Ok(Verb::Gateway { run, .. }) = parse(&format!("megalith gateway {flag} h:1")) else {
            panic!("{flag}");
        };
        assert_eq!(run.gateway.health_listen.as_deref(), Some("h:1"));
    }
}

#[test]
fn what_init_writes_by_default_is_what_a_file_means_by_default() {
    let members = "--host h --metadata-member 1=h:1";
    let node = format!("megalith node init --id 1 --dir d --ca-dir c {members}");
    let Ok(Verb::Node {
        verb: Some(NodeVerb::Init(node)),
        ..
    }) = parse(&node)
    else {
        panic!("sets up");
    };
    assert_eq!(node.rpc_listen, defaults::RPC_LISTEN);
    assert_eq!(node.data_listen, defaults::DATA_LISTEN);
    let gateway =
        format!("megalith gateway init --id 1 --dir d --ca-dir c --root-key-file k {members}");
    let Ok(Verb::Gateway {
        verb: Some(GatewayVerb::Init(gateway)),
        ..
    }) = parse(&gateway)
    else {
        panic!("sets up");
    };
    assert_eq!(gateway.listen, defaults::GATEWAY_LISTEN);
    assert_eq!(gateway.days, defaults::CERTIFICATE_DAYS);
}

#[test]
fn a_member_may_be_replaced_by_itself() {
    let parsed = |line: &str| match parse(line) {
        Ok(Verb::Meta {
            verb: MetaVerb::Replace { old, new, how },
        }) => (old, new, how.wait_s),
        other => panic!("{other:?}"),
    };
    assert_eq!(parsed("megalith meta replace 2"), (2, None, 600));
    assert_eq!(
        parsed("megalith meta replace 2 4 --wait-s 5"),
        (2, Some(4), 5)
    );
}

#[test]
fn output_is_text_or_json() {
    parse("megalith meta list -o json").expect("json");
    refused(
        "megalith meta list -o yaml",
        expect!["error: invalid value 'yaml' for '--output <OUTPUT>'"],
    );
}
