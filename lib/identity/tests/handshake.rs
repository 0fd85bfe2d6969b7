//! Who gets a connection, and who doesn't: over real TCP, with both ends' answers checked.

mod common;

use common::*;
use megalith_identity::{IdentityError, PeerRefusal, Role, TlsMaterial, connect_within};
use megalith_model::ids::{GatewayId, NodeId};
use rustls::version::{TLS12, TLS13};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn refusal<T: Debug>(outcome: Result<T, IdentityError>) -> PeerRefusal {
    match outcome {
        Err(IdentityError::Refused { reason, .. }) => reason,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Sees a server's refusal from the client's side: the connection opens, then breaks.
async fn first_read_fails(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> String {
    // The local socket may still take the write; only the answer counts.
    let _ = stream.write_all(b"request").await;
    let mut answer = Vec::new();
    let error = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("an end")
        .expect_err("no answer");
    assert!(answer.is_empty());
    error.to_string()
}

#[tokio::test]
async fn both_ends_learn_who_the_other_is() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 3), (Role::Metadata, 3)]);
    let gateway = world.member("gateway", &[(Role::Gateway, 9)]);
    let (server, client) = meet(&node, &gateway, Some((Role::Metadata, 3))).await;
    let (mut server, mut client) = (server.expect("accepted"), client.expect("connected"));

    assert_eq!(server.peer().gateway_id(), Some(GatewayId(9)));
    assert_eq!(server.peer().cluster(), CLUSTER);
    assert!(!server.peer().has(Role::Storage));
    assert_eq!(client.peer().node_id(), Some(NodeId(3)));
    assert!(client.peer().has(Role::Storage) && client.peer().has(Role::Metadata));

    let sent: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    let echo = async {
        let mut got = vec![0; sent.len()];
        server.read_exact(&mut got).await.expect("read");
        server.write_all(&got).await.expect("write");
        server.shutdown().await.expect("shutdown");
    };
    let call = async {
        client.write_all(&sent).await.expect("write");
        client.flush().await.expect("flush");
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.expect("read");
        back
    };
    let ((), back) = tokio::join!(echo, call);
    assert_eq!(back, sent);
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);
    let (listener, address) = listen().await;
    let config = Arc::new(stranger(world.authority.ca_pem(), None, &[&TLS13]));
    let (server, client) = tokio::join!(
        accept_one(&listener, &node),
        connect_stranger(&address, config)
    );
    assert_eq!(refusal(server), PeerRefusal::Missing);
    first_read_fails(&mut client.expect("TLS 1.3 clients finish first")).await;
}

#[tokio::test]
async fn older_tls_is_refused() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);
    let own = world
        .authority
        .issue(&request(&[(Role::Operator, 0)], 1))
        .expect("issue");
    let (listener, address) = listen().await;
    let config = Arc::new(stranger(world.authority.ca_pem(), Some(&own), &[&TLS12]));
    let (server, client) = tokio::join!(
        accept_one(&listener, &node),
        connect_stranger(&address, config)
    );
    assert!(
        matches!(server, Err(IdentityError::Handshake { .. })),
        "{server:?}"
    );
    client.expect_err("no TLS 1.2");
}

#[tokio::test]
async fn a_foreign_authority_is_refused_by_both_ends() {
    let (ours, theirs) = (World::new(), World::at(OTHER_CLUSTER, SystemTime::now()));
    let node = ours.member("node", &[(Role::Storage, 1)]);
    let foreign = theirs.member("node", &[(Role::Storage, 1)]);
    let (_, client) = meet(&foreign, &node, None).await;
    assert_eq!(refusal(client), PeerRefusal::ForeignAuthority);

    // A client that trusts us, with a certificate from another authority.
    let own = theirs
        .authority
        .issue(&request(&[(Role::Gateway, 1)], 1))
        .expect("issue");
    let config = Arc::new(stranger(ours.authority.ca_pem(), Some(&own), &[&TLS13]));
    let (listener, address) = listen().await;
    let (server, client) = tokio::join!(
        accept_one(&listener, &node),
        connect_stranger(&address, config)
    );
    assert_eq!(refusal(server), PeerRefusal::ForeignAuthority);
    first_read_fails(&mut client.expect("TLS 1.3 clients finish first")).await;
}

#[tokio::test]
async fn an_authority_that_copies_our_names_is_refused() {
    let (ours, copy) = (World::new(), World::new());
    let node = ours.member("node", &[(Role::Storage, 1)]);
    let fake = copy.member("node", &[(Role::Storage, 1)]);
    let (server, client) = meet(&fake, &node, Some((Role::Storage, 1))).await;
    let reason = refusal(client);
    assert!(
        matches!(
            reason,
            PeerRefusal::BadSignature | PeerRefusal::ForeignAuthority
        ),
        "{reason}"
    );
    assert!(server.is_err());

    let own = copy
        .authority
        .issue(&request(&[(Role::Gateway, 1)], 1))
        .expect("issue");
    let config = Arc::new(stranger(ours.authority.ca_pem(), Some(&own), &[&TLS13]));
    let (listener, address) = listen().await;
    let (server, _) = tokio::join!(
        accept_one(&listener, &node),
        connect_stranger(&address, config)
    );
    let reason = refusal(server);
    assert!(
        matches!(
            reason,
            PeerRefusal::BadSignature | PeerRefusal::ForeignAuthority
        ),
        "{reason}"
    );
}

#[tokio::test]
async fn another_cluster_under_the_same_authority_is_refused_by_both_ends() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);
    let bundle = world.forge(&[uri(OTHER_CLUSTER, "storage", 1)]);
    bundle.save(&world.path("other")).expect("save");
    let other = TlsMaterial::load(&world.path("other")).expect("load");

    let (server, client) = meet(&other, &node, Some((Role::Storage, 1))).await;
    assert_eq!(
        refusal(client),
        PeerRefusal::OtherCluster {
            found: OTHER_CLUSTER,
            own: CLUSTER
        }
    );
    assert!(
        matches!(server, Err(IdentityError::RefusedByPeer { .. })),
        "{server:?}"
    );

    let config = Arc::new(stranger(world.authority.ca_pem(), Some(&bundle), &[&TLS13]));
    let (listener, address) = listen().await;
    let (server, client) = tokio::join!(
        accept_one(&listener, &node),
        connect_stranger(&address, config)
    );
    assert_eq!(
        refusal(server),
        PeerRefusal::OtherCluster {
            found: OTHER_CLUSTER,
            own: CLUSTER
        }
    );
    first_read_fails(&mut client.expect("TLS 1.3 clients finish first")).await;
}

#[tokio::test]
async fn certificates_that_break_the_rules_of_identities_are_refused() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);
    type Fits = fn(&PeerRefusal) -> bool;
    let cases: [(&[String], Fits); 6] = [
        (&[], |r| *r == PeerRefusal::NoIdentity),
        (&["spiffe://x/storage/1".into()], |r| {
            *r == PeerRefusal::NoIdentity
        }),
        (&[uri(CLUSTER, "root", 1)], |r| {
            matches!(r, PeerRefusal::Malformed(_))
        }),
        (&[format!("megalith://{CLUSTER}")], |r| {
            matches!(r, PeerRefusal::Malformed(_))
        }),
        (
            &[uri(CLUSTER, "storage", 1), uri(OTHER_CLUSTER, "gateway", 1)],
            |r| matches!(r, PeerRefusal::Malformed(_)),
        ),
        (
            &[uri(CLUSTER, "storage", 1), uri(CLUSTER, "storage", 2)],
            |r| matches!(r, PeerRefusal::Malformed(_)),
        ),
    ];
    for (uris, fits) in cases {
        let bundle = world.forge(uris);
        let config = Arc::new(stranger(world.authority.ca_pem(), Some(&bundle), &[&TLS13]));
        let (listener, address) = listen().await;
        let (server, _) = tokio::join!(
            accept_one(&listener, &node),
            connect_stranger(&address, config)
        );
        let reason = refusal(server);
        assert!(fits(&reason), "{uris:?}: {reason}");
    }
}

#[tokio::test]
async fn a_peer_that_is_not_the_one_called_is_refused() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 2)]);
    let gateway = world.member("gateway", &[(Role::Gateway, 1)]);
    for expected in [(Role::Storage, 1), (Role::Metadata, 2), (Role::Gateway, 2)] {
        let (server, client) = meet(&node, &gateway, Some(expected)).await;
        let PeerRefusal::OtherIdentity { role, id, found } = refusal(client) else {
            panic!("expected another identity");
        };
        assert_eq!((role, id), expected);
        assert_eq!(*found, *node.identity());
        assert!(
            matches!(server, Err(IdentityError::RefusedByPeer { .. })),
            "{server:?}"
        );
    }
    for expected in [Some((Role::Storage, 2)), None] {
        let (server, client) = meet(&node, &gateway, expected).await;
        server.expect("accepted");
        client.expect("connected");
    }
}

#[tokio::test]
async fn expired_certificates_are_refused_by_both_ends() {
    let now = SystemTime::now();
    let past = now - DAY * 60;
    let world = World::at(CLUSTER, past);
    let lasting = world.member_at("lasting", (past, 365), now);
    // Its clock stands still, so it considers itself valid.
    let expired = world.member_at("expired", (past, 30), past);

    let (server, client) = meet(&expired, &lasting, None).await;
    let reason = refusal(client);
    let PeerRefusal::Expired { at: Some(at) } = reason else {
        panic!("{reason}")
    };
    let end = past + DAY * 30;
    assert_eq!(
        at,
        end.duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs()
    );
    assert!(server.expect_err("refused").to_string().contains("expired"));

    let (server, client) = meet(&lasting, &expired, None).await;
    assert!(matches!(refusal(server), PeerRefusal::Expired { .. }));
    let told = first_read_fails(&mut client.expect("TLS 1.3 clients finish first")).await;
    assert!(
        told.contains("refused our certificate: it is expired"),
        "{told}"
    );
}

#[tokio::test]
async fn certificates_from_the_future_are_refused() {
    let now = SystemTime::now();
    let world = World::at(CLUSTER, now - DAY);
    let (lasting, future) = (
        world.member("lasting", &[(Role::Storage, 1)]),
        now + DAY * 20,
    );
    let early = world.member_at("early", (future, 30), future);
    let (_, client) = meet(&early, &lasting, None).await;
    assert!(matches!(
        refusal(client),
        PeerRefusal::NotYetValid { from: Some(_) }
    ));
    let (server, _) = meet(&lasting, &early, None).await;
    assert!(matches!(refusal(server), PeerRefusal::NotYetValid { .. }));
}

#[tokio::test]
async fn an_https_certificate_opens_nothing_inside_the_cluster() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);
    let https = world
        .authority
        .issue_server(&["localhost".into()])
        .expect("issue");

    let config = Arc::new(stranger(world.authority.ca_pem(), Some(&https), &[&TLS13]));
    let (listener, address) = listen().await;
    let (server, _) = tokio::join!(
        accept_one(&listener, &node),
        connect_stranger(&address, config)
    );
    assert_eq!(refusal(server), PeerRefusal::WrongPurpose);

    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(strange_server(&https)));
    let (server, client) = tokio::join!(
        async {
            acceptor
                .accept(listener.accept().await.expect("accept").0)
                .await
        },
        connect_within(&address, &node, None, PATIENCE)
    );
    assert_eq!(refusal(client), PeerRefusal::NoIdentity);
    assert!(server.is_err());
}

#[tokio::test]
async fn a_client_that_asks_for_http_2_is_told_that_it_is_spoken() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);
    let own = world
        .authority
        .issue(&request(&[(Role::Gateway, 1)], 1))
        .expect("issue");
    let node = node.speaking(&["h2"]);
    let (listener, address) = listen().await;
    for (asked, told) in [(vec![], None), (vec![b"h2".to_vec()], Some(&b"h2"[..]))] {
        let mut config = stranger(world.authority.ca_pem(), Some(&own), &[&TLS13]);
        config.alpn_protocols = asked;
        let (server, client) = tokio::join!(
            accept_one(&listener, &node),
            connect_stranger(&address, Arc::new(config))
        );
        let (_server, client) = (server.expect("accepted"), client.expect("connected"));
        assert_eq!(client.get_ref().1.alpn_protocol(), told);
    }
}

#[tokio::test]
async fn sessions_are_never_resumed() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);
    let own = world
        .authority
        .issue(&request(&[(Role::Gateway, 1)], 1))
        .expect("issue");
    // A client that tries to resume, as rustls does by default.
    let config = Arc::new(stranger(world.authority.ca_pem(), Some(&own), &[&TLS13]));
    let (listener, address) = listen().await;
    for _ in 0..3 {
        let (server, client) = tokio::join!(
            accept_one(&listener, &node),
            connect_stranger(&address, config.clone())
        );
        let (mut server, mut client) = (server.expect("accepted"), client.expect("connected"));
        server.write_all(b"x").await.expect("write");
        client.read_u8().await.expect("tickets come before data");
        let kind = client.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(rustls::HandshakeKind::Full));
    }
}
