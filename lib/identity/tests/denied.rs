//! Denied certificates: at the handshake, on open connections, and what the denied one learns.

mod common;

use common::*;
use megalith_identity::{
    ClientStream, IdentifiedStream, IdentityError, PeerRefusal, Role, TlsMaterial,
};
use megalith_model::denied::{DeniedCertificate, DenyList, Serial};
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn list(revision: u64, denied: &[(Role, u32, Option<Serial>)]) -> DenyList {
    let mut list = DenyList {
        revision,
        ..DenyList::default()
    };
    for &(role, id, serial) in denied {
        assert!(list.deny(DeniedCertificate { role, id, serial }));
    }
    list
}

fn is_denied<T>(outcome: Result<T, IdentityError>) -> bool {
    let reason = match outcome {
        Err(IdentityError::Refused { reason, .. }) => reason,
        _other => return false,
    };
    reason == PeerRefusal::Denied
}

/// Both ends of a connection that nobody refuses.
async fn met(server: &TlsMaterial, client: &TlsMaterial) -> (IdentifiedStream, ClientStream) {
    let (accepted, connected) = meet(server, client, None).await;
    (accepted.expect("accepted"), connected.expect("met"))
}

/// Sends a byte there and back.
async fn talk(server: &TlsMaterial, client: &TlsMaterial) {
    let (mut accepted, mut connected) = met(server, client).await;
    connected.write_all(b"?").await.expect("write");
    assert_eq!(accepted.read_u8().await.expect("read"), b'?');
    accepted.write_all(b"!").await.expect("write");
    assert_eq!(connected.read_u8().await.expect("read"), b'!');
}

/// Calls a server that denies the client. With TLS 1.3 a client hears of it with its first read.
async fn refused_at_first_read(server: &TlsMaterial, client: &TlsMaterial) {
    let before = client.denials().is_own_denied();
    let (accepted, connected) = meet(server, client, None).await;
    assert!(is_denied(accepted));
    assert_eq!(client.denials().is_own_denied(), before, "not heard yet");
    let mut connected = connected.expect("the client finishes first");
    let read = tokio::time::timeout(PATIENCE, connected.read_u8()).await;
    read.expect("an end").expect_err("refused");
}

#[tokio::test]
async fn a_denied_certificate_is_refused_by_both_ends_and_learns_it() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 3), (Role::Metadata, 3)]);
    let gateway = world.member("gateway", &[(Role::Gateway, 9)]);
    talk(&node, &gateway).await;
    assert!(node.denials().hear(list(1, &[(Role::Gateway, 9, None)])));

    refused_at_first_read(&node, &gateway).await;
    assert!(gateway.denials().is_own_denied());
    assert!(!node.denials().is_own_denied());

    // Who is denied is not called either, whoever it says it is.
    let (_, connected) = meet(&gateway, &node, None).await;
    assert!(is_denied(connected));

    // Others are welcome, and so is this one once it is allowed again.
    talk(&node, &world.member("other", &[(Role::Gateway, 8)])).await;
    assert!(node.denials().hear(list(2, &[])));
    talk(&node, &gateway).await;
    assert!(!gateway.denials().is_own_denied());
}

#[tokio::test]
async fn only_a_metadata_member_says_that_a_certificate_is_denied() {
    let world = World::new();
    let member = world.member("member", &[(Role::Metadata, 1)]);
    let store = world.member("store", &[(Role::Storage, 3)]);
    let gateway = world.member("gateway", &[(Role::Gateway, 9)]);
    // A node that is stolen, or alone in its opinion, stops nobody.
    store.denials().hear(list(1, &[(Role::Gateway, 9, None)]));
    refused_at_first_read(&store, &gateway).await;
    assert!(!gateway.denials().is_own_denied());
    talk(&member, &gateway).await;

    // And one that has not heard yet does not take back what a member has said.
    member.denials().hear(list(1, &[(Role::Gateway, 9, None)]));
    refused_at_first_read(&member, &gateway).await;
    assert!(gateway.denials().is_own_denied());
    store.denials().hear(list(2, &[]));
    talk(&store, &gateway).await;
    assert!(gateway.denials().is_own_denied());
    member.denials().hear(list(2, &[]));
    talk(&member, &gateway).await;
    assert!(!gateway.denials().is_own_denied());
}

#[tokio::test]
async fn one_role_of_a_certificate_denies_all_of_it() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 3), (Role::Metadata, 3)]);
    let gateway = world.member("gateway", &[(Role::Gateway, 9)]);
    gateway.denials().hear(list(1, &[(Role::Storage, 3, None)]));
    let (_, connected) = meet(&node, &gateway, Some((Role::Metadata, 3))).await;
    assert!(is_denied(connected));
}

#[tokio::test]
async fn a_new_certificate_of_the_same_member_is_welcome() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 3)]);
    let stolen = world.member("stolen", &[(Role::Gateway, 9)]);
    let new = world.member("new", &[(Role::Gateway, 9)]);
    let serial = stolen.identity().serial();
    assert_ne!(serial, new.identity().serial());
    assert!(
        node.denials()
            .hear(list(1, &[(Role::Gateway, 9, Some(serial))]))
    );
    let (accepted, _) = meet(&node, &stolen, None).await;
    assert!(is_denied(accepted));
    talk(&node, &new).await;
}

#[tokio::test]
async fn an_older_list_changes_nothing() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 3)]);
    let gateway = world.member("gateway", &[(Role::Gateway, 9)]);
    assert!(node.denials().hear(list(2, &[(Role::Gateway, 9, None)])));
    for late in [list(1, &[]), list(2, &[])] {
        assert!(!node.denials().hear(late));
    }
    let (accepted, _) = meet(&node, &gateway, None).await;
    assert!(is_denied(accepted));
}

#[tokio::test]
async fn an_open_connection_passes_on_no_byte_once_its_peer_is_denied() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 3)]);
    let gateway = world.member("gateway", &[(Role::Gateway, 9)]);
    let (mut accepted, mut connected) = met(&node, &gateway).await;
    connected.write_all(b"before").await.expect("write");
    let mut got = [0; 6];
    accepted.read_exact(&mut got).await.expect("read");

    assert!(node.denials().hear(list(1, &[(Role::Gateway, 9, None)])));
    connected.write_all(b"after").await.expect("nobody told it");
    let read = tokio::time::timeout(PATIENCE, accepted.read(&mut got)).await;
    let error = read.expect("at once").expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let error = accepted.write_all(b"answer").await.expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    // It stays so: an operator's change of mind needs a new connection.
    assert_eq!(&got, b"before");
}

#[tokio::test]
async fn an_open_call_to_a_denied_server_ends() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 3)]);
    let gateway = world.member("gateway", &[(Role::Gateway, 9)]);
    let (mut accepted, mut connected) = met(&node, &gateway).await;
    accepted.write_all(b"stolen").await.expect("write");
    assert!(gateway.denials().hear(list(1, &[(Role::Storage, 3, None)])));
    let error = connected.read_u8().await.expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}
