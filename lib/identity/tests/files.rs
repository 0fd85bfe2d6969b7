//! The files of authorities and members: who may read them, what is refused, what a reload does.

mod common;

use common::*;
use megalith_identity::{
    Authority, Bundle, HttpsMaterial, IdentityError, PeerRefusal, Role, TlsMaterial,
};
use rustls::version::{TLS12, TLS13};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o777
}

#[test]
fn keys_are_readable_by_their_owner_alone() {
    let world = World::new();
    assert_eq!(mode(&world.path("ca")), 0o700);
    assert_eq!(mode(&world.path("ca").join("ca.key")), 0o600);

    // The key takes its mode neither from an older file nor from one left by a crash.
    let dir = world.path("node");
    fs::create_dir(&dir).expect("mkdir");
    for name in ["node.key", ".node.key.new"] {
        write(&dir.join(name), "old");
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o666)).expect("chmod");
    }
    world.save("node", &[(Role::Storage, 1)]);
    assert_eq!(mode(&dir.join("node.key")), 0o600);
    let mut names: Vec<_> = fs::read_dir(&dir)
        .expect("read dir")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("utf-8")
        })
        .collect();
    names.sort();
    assert_eq!(names, ["ca.crt", "node.crt", "node.key"]);
    assert!(Bundle::exists(&dir) && !Bundle::exists(&world.path("ca")));
}

#[test]
fn keys_are_not_printed() {
    let world = World::new();
    let bundle = world
        .authority
        .issue(&request(&[(Role::Storage, 1)], 1))
        .expect("issue");
    let secret = bundle
        .key_pem
        .expose()
        .lines()
        .nth(1)
        .expect("a line of key")
        .to_owned();
    bundle.save(&world.path("node")).expect("save");
    let material = TlsMaterial::load(&world.path("node")).expect("load");
    let config = material.client_config(None).expect("config");
    let shown = format!("{bundle:?} {:?} {material:?} {config:?}", world.authority);
    assert!(shown.contains("KeyPem(..)") && !shown.contains(&secret));
}

#[test]
fn a_bundle_and_an_authority_come_back_from_disk() {
    let world = World::new();
    let bundle = world
        .authority
        .issue(&request(&[(Role::Gateway, 4)], 1))
        .expect("issue");
    bundle.save(&world.path("g")).expect("save");
    assert_eq!(Bundle::load(&world.path("g")).expect("load"), bundle);

    assert!(Authority::exists(&world.path("ca")));
    let again = Authority::load(&world.path("ca")).expect("load");
    assert_eq!(again.cluster(), CLUSTER);
    let later = again
        .issue(&request(&[(Role::Gateway, 5)], 1))
        .expect("issue");
    assert_eq!(later.ca_pem, bundle.ca_pem);
    later.save(&world.path("g")).expect("save");
    TlsMaterial::load(&world.path("g")).expect("signed by the same key");

    let twice = Authority::create(&world.path("ca"), OTHER_CLUSTER);
    assert!(
        matches!(twice, Err(IdentityError::AuthorityExists { .. })),
        "{twice:?}"
    );
    assert_eq!(
        Authority::load(&world.path("ca"))
            .expect("untouched")
            .cluster(),
        CLUSTER
    );
}

#[test]
fn what_can_not_be_issued_is_refused() {
    let world = World::new();
    let outcome = |grants: &[(Role, u32)], host: &str, days| {
        let mut request = request(grants, days);
        request.hosts = vec![host.to_owned()];
        world.authority.issue(&request)
    };
    let node = [(Role::Storage, 1)];
    assert!(matches!(
        outcome(&[], "a", 1),
        Err(IdentityError::Grants(_))
    ));
    assert!(matches!(
        outcome(&node, "a", 0),
        Err(IdentityError::Lifetime { .. })
    ));
    for host in ["", "a b", "a/b", "bücher.example", "*", "http://a"] {
        let refused = outcome(&node, host, 1);
        assert!(
            matches!(refused, Err(IdentityError::Host { .. })),
            "{host}: {refused:?}"
        );
    }
    for host in ["node-1.example", "10.0.0.1", "::1", "*.s3.example"] {
        outcome(&node, host, 1).expect(host);
    }
    assert!(matches!(
        world.authority.issue_server(&[]),
        Err(IdentityError::Host { .. })
    ));
    // A certificate never outlives the authority, and an expired authority issues nothing.
    outcome(&node, "a", u32::MAX)
        .expect("cut")
        .save(&world.path("long"))
        .expect("save");
    let long = TlsMaterial::load(&world.path("long")).expect("load");
    assert!(long.expires() < SystemTime::now() + DAY * 3651);
    let late = world
        .authority
        .issue_at(&request(&node, 1), SystemTime::now() + DAY * 4000);
    assert!(
        matches!(late, Err(IdentityError::Lifetime { .. })),
        "{late:?}"
    );
}

#[test]
fn files_that_do_not_fit_are_named() {
    let world = World::new();
    let dir = world.save("node", &[(Role::Storage, 1)]);
    let other = world.save("other", &[(Role::Storage, 2)]);
    let keep = fs::read_to_string(dir.join("node.key")).expect("read");

    fs::copy(other.join("node.key"), dir.join("node.key")).expect("copy");
    let mismatch = TlsMaterial::load(&dir).expect_err("another key");
    assert!(
        matches!(mismatch, IdentityError::KeyMismatch { .. }),
        "{mismatch:?}"
    );
    write(&dir.join("node.key"), "nonsense");
    let nonsense = TlsMaterial::load(&dir).expect_err("no key").to_string();
    assert!(
        nonsense.contains("node.key") && nonsense.contains("private key"),
        "{nonsense}"
    );
    write(&dir.join("node.key"), &keep);
    TlsMaterial::load(&dir).expect("whole again");

    write(&dir.join("ca.crt"), "");
    let empty = TlsMaterial::load(&dir)
        .expect_err("no authority")
        .to_string();
    assert!(empty.contains("ca.crt"), "{empty}");
    fs::remove_file(dir.join("ca.crt")).expect("remove");
    let missing = TlsMaterial::load(&dir).expect_err("no file").to_string();
    assert!(missing.contains("ca.crt"), "{missing}");

    let ca = world.path("ca");
    fs::copy(other.join("node.key"), ca.join("ca.key")).expect("copy");
    let mismatch = Authority::load(&ca).expect_err("another key");
    assert!(
        matches!(mismatch, IdentityError::KeyMismatch { .. }),
        "{mismatch:?}"
    );
    fs::copy(other.join("node.crt"), ca.join("ca.crt")).expect("copy");
    let member = Authority::load(&ca).expect_err("a member is no authority");
    assert!(
        matches!(member, IdentityError::Content { .. }),
        "{member:?}"
    );
}

#[test]
fn a_member_does_not_start_with_a_certificate_that_peers_would_refuse() {
    let past = SystemTime::now() - DAY * 60;
    let world = World::at(CLUSTER, past);
    let reason = |bundle: Bundle| {
        bundle.save(&world.path("node")).expect("save");
        match TlsMaterial::load(&world.path("node")) {
            Err(IdentityError::OwnCertificate { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let node = request(&[(Role::Storage, 1)], 30);
    let expired = reason(world.authority.issue_at(&node, past).expect("issue"));
    assert!(matches!(expired, PeerRefusal::Expired { .. }), "{expired}");
    let future = SystemTime::now() + DAY;
    let early = reason(world.authority.issue_at(&node, future).expect("issue"));
    assert!(matches!(early, PeerRefusal::NotYetValid { .. }), "{early}");
    let https = reason(
        world
            .authority
            .issue_server(&["localhost".into()])
            .expect("issue"),
    );
    assert_eq!(https, PeerRefusal::WrongPurpose);
    let mut foreign = World::at(OTHER_CLUSTER, past)
        .authority
        .issue(&node)
        .expect("issue");
    foreign.ca_pem = world.authority.ca_pem().to_owned();
    assert_eq!(reason(foreign), PeerRefusal::ForeignAuthority);
}

#[tokio::test]
async fn a_reload_counts_for_new_connections_and_never_changes_who_we_are() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);
    let gateway = world.member("gateway", &[(Role::Gateway, 1)]);
    assert!(!node.reload().expect("same files"));
    let (config, client_config) = (
        node.server_config(),
        node.client_config(None).expect("config"),
    );

    world.save("node", &[(Role::Storage, 1), (Role::Metadata, 1)]);
    let (_, before) = meet(&node, &gateway, None).await;
    assert!(!before.expect("connected").peer().has(Role::Metadata));
    assert!(node.reload().expect("reload"));
    let (_, after) = meet(&node, &gateway, None).await;
    assert!(after.expect("connected").peer().has(Role::Metadata));
    let (server, _client) = meet(&gateway, &node, None).await;
    assert!(
        server.expect("accepted").peer().has(Role::Metadata),
        "as a client too"
    );
    assert!(
        Arc::ptr_eq(&config, &node.server_config()),
        "configurations handed out follow"
    );
    drop(client_config);

    world.save("node", &[(Role::Storage, 2)]);
    let changed = node.reload().expect_err("another node");
    assert!(
        matches!(changed, IdentityError::IdentityChanged { .. }),
        "{changed:?}"
    );
    write(&world.path("node").join("node.crt"), "torn");
    node.reload().expect_err("no certificate");
    let (_, still) = meet(&node, &gateway, Some((Role::Metadata, 1))).await;
    still.expect("the old one stays");
}

#[tokio::test]
async fn two_authorities_are_trusted_while_one_replaces_the_other() {
    let (old, new) = (World::new(), World::new());
    let both = format!("{}{}", old.authority.ca_pem(), new.authority.ca_pem());
    let member = |world: &World, grants| {
        let dir = world.save("node", grants);
        write(&dir.join("ca.crt"), &both);
        TlsMaterial::load(&dir).expect("load")
    };
    let node = member(&old, &[(Role::Storage, 1)]);
    let gateway = member(&new, &[(Role::Gateway, 1)]);
    let (server, client) = meet(&node, &gateway, Some((Role::Storage, 1))).await;
    server.expect("accepted");
    client.expect("connected");

    // The old authority is removed on one side: from then on its members are refused there.
    write(&new.path("node").join("ca.crt"), new.authority.ca_pem());
    assert!(gateway.reload().expect("reload"));
    let (_, client) = meet(&node, &gateway, None).await;
    client.expect_err("no longer trusted");
}

#[tokio::test]
async fn the_watch_picks_up_a_new_certificate_and_stops() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);
    // The change comes after the first reading and before the watch starts: it must not be missed.
    world.save("node", &[(Role::Storage, 1), (Role::Metadata, 1)]);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let watch = node.spawn_reload(Duration::from_millis(5), async { drop(stopped.await) });
    until(|| node.identity().has(Role::Metadata)).await;
    // The watch survives files that don't fit together.
    write(&world.path("node").join("node.key"), "torn");
    world.save(
        "node",
        &[(Role::Storage, 1), (Role::Metadata, 1), (Role::Operator, 0)],
    );
    until(|| node.identity().has(Role::Operator)).await;
    stop.send(()).expect("still watching");
    tokio::time::timeout(PATIENCE, watch)
        .await
        .expect("an end")
        .expect("no panic");
}

async fn until(state: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !state() {
        assert!(Instant::now() < deadline, "the state never came");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn https_serves_both_versions_and_its_new_certificate() {
    let world = World::new();
    let issue = || {
        world
            .authority
            .issue_server(&["localhost".into(), "127.0.0.1".into()])
    };
    issue()
        .expect("issue")
        .save(&world.path("https"))
        .expect("save");
    let (cert, key) = (
        world.path("https").join("node.crt"),
        world.path("https").join("node.key"),
    );
    let https = HttpsMaterial::load(&cert, &key, &["h2", "http/1.1"]).expect("load");
    let shown = async |version: &'static rustls::SupportedProtocolVersion, alpn: &str| {
        let (listener, address) = listen().await;
        let mut config = stranger(world.authority.ca_pem(), None, &[version]);
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(https.server_config());
        let (server, client) = tokio::join!(
            async {
                acceptor
                    .accept(listener.accept().await.expect("accept").0)
                    .await
            },
            connect_stranger(&address, Arc::new(config))
        );
        server.expect("accepted");
        let client = client.expect("connected");
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        client.get_ref().1.peer_certificates().expect("shown")[0].to_vec()
    };
    let first = shown(&TLS13, "h2").await;
    assert_eq!(shown(&TLS12, "http/1.1").await, first);
    issue()
        .expect("issue")
        .save(&world.path("https"))
        .expect("save");
    assert!(https.reload().expect("reload"));
    assert!(!https.reload().expect("reload"));
    assert_ne!(shown(&TLS13, "h2").await, first);
    write(&key, "torn");
    https.reload().expect_err("no key");
    shown(&TLS13, "http/1.1").await;
}
