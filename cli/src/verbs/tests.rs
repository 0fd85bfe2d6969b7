//! Sets up and checks what was set up, as an operator does, in a temporary directory.

use super::{cert, config, gateway, meta, node, operator};
use crate::args::{Cli, ConfigVerb, GatewayVerb, NodeVerb, OperatorVerb, Verb};
use clap::Parser;
use megalith_client::chain;
use megalith_identity::{Authority, IssueRequest, PeerIdentity, Role};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory in which commands run; `@` in a command is that directory.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command that needs no cluster; returns what it says, with `@` for the directory.
    fn run(&self, line: &str) -> Result<String, String> {
        let here = self.0.path().display().to_string();
        let line = format!("megalith {}", line.replace('@', &here));
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|told| told.to_string())?;
        let said = match cli.verb {
            Verb::Node {
                verb: Some(NodeVerb::Init(args)),
                ..
            } => node::init(&args).map_err(|error| chain(&error)),
            Verb::Gateway {
                verb: Some(GatewayVerb::Init(args)),
                ..
            } => gateway::init(&args).map_err(|error| chain(&error)),
            Verb::Operator {
                verb: OperatorVerb::Init(args),
            } => operator::init(&args).map_err(|error| chain(&error)),
            Verb::Config {
                verb: ConfigVerb::Check { file },
            } => config::check(&file).map_err(|error| chain(&error)),
            Verb::Meta { verb } => tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime")
                .block_on(meta::run(&verb))
                .map(|answer| format!("{}exit code {}\n", answer.text, answer.code))
                .map_err(|error| chain(&error)),
            Verb::Cert { verb } => tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime")
                .block_on(cert::run(&verb))
                .map_err(|error| chain(&error)),
            other => panic!("{other:?} needs a cluster"),
        };
        let hide = |text: String| text.replace(&here, "@");
        said.map(hide).map_err(hide)
    }

    fn node(&self, number: u32, roles: &str) -> Result<String, String> {
        self.run(&format!(
            "node init --id {number} --dir @/n{number} --ca-dir @/ca --host localhost \
             --metadata-member 1=localhost:7001 {roles}"
        ))
    }

    fn gateway(&self, more: &str) -> Result<String, String> {
        self.run(&format!(
            "gateway init --id 1 --dir @/g --ca-dir @/ca --host localhost \
             --root-key-file @/root.key --metadata-member 1=localhost:7001 {more}"
        ))
    }

    fn operator(&self) -> Result<String, String> {
        self.run("operator init --dir @/o --ca-dir @/ca --metadata-member 1=localhost:7001")
    }

    fn check(&self, file: &str) -> Result<String, String> {
        self.run(&format!("config check @/{file}"))
    }

    fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.path(file);
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).expect("write");
    }
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("metadata");
    metadata.permissions().mode() & 0o777
}

#[test]
fn check_accepts_what_init_writes() {
    let at = Place::new();
    at.node(1, "--metadata").expect("a metadata member");
    at.node(2, "--disk @/d1 --disk @/d2")
        .expect("a storage node");
    at.gateway("--domain s3.example --health-listen 127.0.0.1:9100")
        .expect("a gateway");
    at.operator().expect("an operator");
    for (file, kind) in [
        ("n1/node.toml", "a node's"),
        ("n2/node.toml", "a node's"),
        ("g/gateway.toml", "a gateway's"),
        ("o/operator.toml", "an operator's"),
    ] {
        assert_eq!(
            at.check(file),
            Ok(format!("@/{file}: {kind} settings, sound\n"))
        );
    }
}

#[test]
fn init_says_how_to_go_on() {
    let at = Place::new();
    let said = at.node(2, "--disk @/d").expect("a node");
    assert!(said.ends_with("is set up; run it with\n  megalith node --config @/n2/node.toml\n"));
    let said = at.gateway("").expect("a gateway");
    assert!(
        said.ends_with("\n  megalith gateway --config @/g/gateway.toml\n"),
        "{said}"
    );
    let said = at.operator().expect("an operator");
    assert!(
        said.ends_with("\n  megalith status --config @/o/operator.toml\n"),
        "{said}"
    );
}

#[test]
fn everything_made_under_one_authority_is_of_one_cluster() {
    let at = Place::new();
    let cluster = |said: String| {
        let (_, rest) = said.split_once("of cluster ").expect("says which");
        rest.split_whitespace().next().expect("an id").to_owned()
    };
    let node = cluster(at.node(2, "--disk @/d").expect("a node"));
    assert_eq!(node.len(), 32);
    assert_eq!(cluster(at.gateway("").expect("a gateway")), node);
    assert_ne!(cluster(Place::new().operator().expect("another")), node);
}

#[test]
fn secrets_are_for_their_owner_only() {
    let at = Place::new();
    at.node(2, "--disk @/d").expect("a node");
    at.gateway("").expect("a gateway");
    for secret in [
        "root.key",
        "ca/ca.key",
        "n2/tls/node.key",
        "g/tls/node.key",
        "g/https/node.key",
    ] {
        assert_eq!(mode(&at.path(secret)), 0o600, "{secret}");
    }
}

#[test]
fn what_is_there_is_never_replaced() {
    let at = Place::new();
    at.gateway("").expect("a gateway");
    let key = std::fs::read(at.path("root.key")).expect("a root key");
    let again = at.gateway("").expect_err("is there");
    assert_eq!(
        again,
        "@/g/gateway.toml is there already: nothing was changed"
    );
    std::fs::remove_file(at.path("g/gateway.toml")).expect("remove");
    let again = at.gateway("").expect_err("its certificate is there");
    assert_eq!(
        again,
        "@/g/tls/node.crt is there already: nothing was changed"
    );
    std::fs::remove_dir_all(at.path("g")).expect("remove");
    at.gateway("").expect("another gateway");
    assert_eq!(std::fs::read(at.path("root.key")).expect("a root key"), key);
}

#[test]
fn a_directory_with_something_in_it_is_not_formatted() {
    let at = Place::new();
    std::fs::create_dir(at.path("d")).expect("a directory");
    std::fs::write(at.path("d/precious"), "x").expect("a file");
    let error = at.node(2, "--disk @/d").expect_err("not empty");
    assert!(error.starts_with("set up @/d: "), "{error}");
    assert!(at.path("d/precious").exists() && !at.path("n2/node.toml").exists());
}

#[test]
fn arguments_that_contradict_each_other_change_nothing() {
    let at = Place::new();
    let error = at.node(2, "").expect_err("no role");
    assert_eq!(
        error,
        "a node needs a role: --disk (storage), --metadata, or both"
    );
    let error = at.node(2, "--metadata").expect_err("not among the members");
    assert_eq!(error, "--metadata: node 2 is not among --metadata-member");
    let error = at
        .node(2, "--disk @/d --metadata-member nonsense")
        .expect_err("no member");
    assert!(
        error.contains("`nonsense` is not `id=host:port`"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(at.0.path()).expect("list").count(), 0);
}

#[test]
fn check_names_what_is_wrong() {
    let at = Place::new();
    at.gateway("").expect("a gateway");
    let file = "g/gateway.toml";
    at.change(file, "listen = \"0.0.0.0:9000\"", "listen = \"nonsense\"");
    let error = at.check(file).expect_err("no address");
    assert!(error.contains("`gateway.listen`: nonsense: "), "{error}");
    at.change(file, "\"nonsense\"", "\"0.0.0.0:9000\"");
    let shared = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(at.path("root.key"), shared).expect("mode");
    let error = at.check(file).expect_err("a root key for a group");
    assert!(error.starts_with("@/root.key holds a secret"), "{error}");
    let own = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(at.path("root.key"), own).expect("mode");
    std::fs::write(at.path("root.key"), "short").expect("write");
    let error = at.check(file).expect_err("no root key");
    assert!(error.starts_with("root key @/root.key: "), "{error}");
    std::fs::remove_file(at.path("root.key")).expect("remove");
    let error = at.check(file).expect_err("no root key");
    assert!(error.starts_with("read @/root.key: "), "{error}");
    let error = at.check("nothing.toml").expect_err("no file");
    assert!(error.starts_with("read @/nothing.toml: "), "{error}");
}

#[test]
fn check_finds_members_that_make_no_sense() {
    let at = Place::new();
    at.operator().expect("an operator");
    at.change("o/operator.toml", "1=localhost:7001", "1:localhost:7001");
    let error = at.check("o/operator.toml").expect_err("no member");
    assert!(error.contains("is not `id=host:port`"), "{error}");
}

#[test]
fn check_accepts_a_file_from_before_the_health_listener_had_its_name() {
    let at = Place::new();
    at.gateway("--health-listen 127.0.0.1:9100")
        .expect("a gateway");
    at.change("g/gateway.toml", "health_listen", "admin_listen");
    at.check("g/gateway.toml").expect("an older file is sound");
}

#[test]
fn a_lost_metadata_directory_is_made_once() {
    let at = Place::new();
    at.node(1, "--metadata").expect("a member");
    let again = at
        .run("meta init --config @/n1/node.toml")
        .expect_err("is there");
    assert!(again.starts_with("set up @/n1/metadata: "), "{again}");
    std::fs::remove_dir_all(at.path("n1/metadata")).expect("lost");
    let said = at.run("meta init --config @/n1/node.toml").expect("made");
    assert_eq!(
        said,
        "@/n1/metadata is made; once its node runs, the group takes it in\nexit code 0\n"
    );
}

#[test]
fn verbs_on_a_member_refuse_a_node_that_is_none() {
    let at = Place::new();
    at.node(2, "--disk @/d").expect("a storage node");
    for line in [
        "meta init --config @/n2/node.toml",
        "meta repair --config @/n2/node.toml",
        "meta restore --from @/backup --config @/n2/node.toml",
    ] {
        let error = at.run(line).expect_err(line);
        assert!(error.contains("names no `metadata.dir`"), "{line}: {error}");
    }
}

#[test]
fn a_member_that_its_own_file_does_not_name_is_refused() {
    let at = Place::new();
    at.node(1, "--metadata").expect("a member");
    at.change("n1/node.toml", "1=localhost", "3=localhost");
    for line in [
        "meta init --config @/n1/node.toml",
        "meta restore --from @/backup --config @/n1/node.toml",
    ] {
        let error = at.run(line).expect_err(line);
        assert!(
            error.contains("is not among `metadata.members`"),
            "{line}: {error}"
        );
    }
}

#[test]
fn nothing_is_repaired_in_a_whole_log() {
    let at = Place::new();
    at.node(1, "--metadata").expect("a member");
    let said = at
        .run("meta repair --config @/n1/node.toml --accept-loss")
        .expect("examined");
    assert_eq!(
        said,
        "@/n1/metadata: the log is whole, there is nothing to repair\nexit code 0\n"
    );
}

#[test]
fn a_backup_that_is_not_there_leaves_no_member_behind() {
    let at = Place::new();
    at.node(1, "--metadata").expect("a member");
    std::fs::remove_dir_all(at.path("n1/metadata")).expect("lost");
    at.run("meta restore --from @/nothing --config @/n1/node.toml")
        .expect_err("no backup");
    assert!(!at.path("n1/metadata/log").exists());
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_named_with_the_way_out() {
    let at = Place::new();
    let data = at.path("nothing").display().to_string();
    for line in [
        "status",
        "scrub status",
        "account list",
        "key list",
        "meta list",
        "meta add 2",
    ] {
        let words = format!("megalith {line} --data {data}");
        let cli = Cli::try_parse_from(words.split_whitespace()).expect("a command");
        let error = super::run(cli.verb).await.expect_err(line);
        assert_eq!(
            chain(&*error),
            format!(
                "{data}/operator.toml is not there: name the cluster by --config FILE or --data \
                 DIRECTORY"
            )
        );
    }
}

#[tokio::test]
async fn accounts_need_the_root_key() {
    let at = Place::new();
    at.operator().expect("an operator without a root key");
    let file = at.path("o/operator.toml").display().to_string();
    let words = format!("megalith account list --config {file}");
    let cli = Cli::try_parse_from(words.split_whitespace()).expect("a command");
    let error = super::run(cli.verb).await.expect_err("no root key");
    let why = "names no `operator.root_key_file`, which this command needs, nor a table `vault`; \
               nor is the variable MEGALITH_ROOT_KEY set";
    assert_eq!(chain(&*error), format!("{file} {why}"));
}

#[test]
fn a_node_with_both_roles_gets_a_certificate_for_each() {
    let at = Place::new();
    let grants = |dir: &str| {
        let file = at.path(dir).join("node.crt");
        let text = std::fs::read_to_string(&file).expect("a certificate");
        let identity = PeerIdentity::of_pem(&text, &file).expect("an identity");
        identity.grants().to_vec()
    };
    at.node(1, "--metadata --disk @/d1").expect("made");
    assert_eq!(grants("n1/tls"), [(Role::Storage, 1)]);
    assert_eq!(grants("n1/tls-metadata"), [(Role::Metadata, 1)]);
    assert!(at.check("n1/node.toml").is_ok());
    // What a member on a new disk needs is found, too.
    std::fs::remove_dir_all(at.path("n1/metadata")).expect("removed");
    let again = at.run("meta init --config @/n1/node.toml");
    assert!(again.is_ok(), "{again:?}");

    // A node with one role has one, under the usual name.
    at.node(2, "--disk @/d2").expect("made");
    assert_eq!(grants("n2/tls"), [(Role::Storage, 2)]);
    assert!(!at.path("n2/tls-metadata").exists());

    // One certificate is not taken for the other.
    let file = at.path("n1/node.toml");
    let text = std::fs::read_to_string(&file).expect("settings");
    let keys = ["/n1/tls-metadata\"", "/n1/tls\""];
    for (from, to, lacking) in [
        (keys[0], keys[1], "metadata node-1"),
        (keys[1], keys[0], "storage node-1"),
    ] {
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replace(from, to)).expect("written");
        let refused = at.check("n1/node.toml").expect_err("a role lacks");
        assert!(
            refused.contains(&format!("{lacking} is needed")),
            "{refused}"
        );
    }
}

#[test]
fn a_machine_with_one_certificate_gets_two() {
    let at = Place::new();
    at.node(1, "--metadata --disk @/d1").expect("made");
    // As it was set up before: one certificate for both roles.
    let authority = Authority::load(&at.path("ca")).expect("an authority");
    let request = IssueRequest {
        grants: vec![(Role::Storage, 1), (Role::Metadata, 1)],
        hosts: Vec::new(),
        days: 30,
    };
    let both = authority.issue(&request).expect("issued");
    both.save(&at.path("n1/tls")).expect("saved");
    // With both roles in it, the member's own helps nothing, and whoever looks is told so.
    let sound = "@/n1/node.toml: a node's settings, sound\n";
    let said = at.check("n1/node.toml").expect("it runs");
    assert!(said.starts_with(sound), "{said}");
    assert!(said.contains("whoever steals it is a member"), "{said}");
    let own = format!("tls_dir = \"{}\"\n", at.path("n1/tls-metadata").display());
    at.change("n1/node.toml", &own, "");
    std::fs::remove_dir_all(at.path("n1/tls-metadata")).expect("removed");
    assert_eq!(at.check("n1/node.toml").as_deref(), Ok(sound));

    for (role, dir) in [("storage", "new"), ("metadata", "n1/tls-metadata")] {
        let said = at.run(&format!(
            "cert issue --role {role} --id 1 --ca-dir @/ca --dir @/{dir}"
        ));
        let said = said.expect("issued");
        let start = format!("@/{dir} holds a new certificate:\n--role {role} --id 1 --serial ");
        assert!(said.starts_with(&start), "{said}");
        assert_eq!(said.lines().count(), 2, "{said}");
    }
    std::fs::remove_dir_all(at.path("n1/tls")).expect("removed");
    std::fs::rename(at.path("new"), at.path("n1/tls")).expect("renamed");
    at.change(
        "n1/node.toml",
        "[metadata]\n",
        &format!("[metadata]\n{own}"),
    );
    assert_eq!(at.check("n1/node.toml").as_deref(), Ok(sound));
    assert_eq!(mode(&at.path("n1/tls/node.key")), 0o600);
}

#[test]
fn a_certificate_is_issued_by_an_authority_that_is_there_and_over_no_other() {
    let at = Place::new();
    let issue = |more: &str| at.run(&format!("cert issue --dir @/tls {more}"));
    issue("--role gateway --id 7 --ca-dir @/ca").expect_err("no authority");
    assert!(!at.path("ca").exists() && !at.path("tls").exists());
    at.operator().expect("makes the authority");
    let why = issue("--role storage --id 0 --ca-dir @/ca").expect_err("no such node");
    assert_eq!(why, "--id: storage 0 is nobody; numbers begin at 1");
    issue("--role operator --id 0 --ca-dir @/ca").expect("issued");
    let key = std::fs::read(at.path("tls/node.key")).expect("a key");
    let why = issue("--role gateway --id 7 --ca-dir @/ca").expect_err("there is one");
    assert_eq!(why, "@/tls/node.crt is there already: nothing was changed");
    assert_eq!(std::fs::read(at.path("tls/node.key")).expect("a key"), key);
}
