//! A process with a certificate for each of its roles: what its listener shows to whom, and that
//! each certificate is renewed and denied by itself.

mod common;

use common::*;
use megalith_identity::{ClientStream, IdentityError, PeerRefusal, Role, TlsMaterial};
use megalith_model::denied::{DeniedCertificate, DenyList, Serial};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Node 3, which keeps shards and votes.
struct Machine {
    storage: Arc<TlsMaterial>,
    metadata: Arc<TlsMaterial>,
    /// Of the port that both roles share.
    port: Arc<TlsMaterial>,
}

impl Machine {
    fn new(world: &World) -> Self {
        let storage = world.member("storage", &[(Role::Storage, 3)]);
        let dir = world.save("metadata", &[(Role::Metadata, 3)]);
        let metadata = storage.load_beside(&dir).expect("load");
        let port = metadata.also_showing(&storage);
        Self {
            storage,
            metadata,
            port,
        }
    }
}

fn serial_of(material: &TlsMaterial) -> Serial {
    material.identity().serial()
}

async fn shown(
    server: &TlsMaterial,
    client: &TlsMaterial,
    expected: Option<(Role, u32)>,
) -> Result<Serial, IdentityError> {
    let (_server, client) = meet(server, client, expected).await;
    client.map(|client: ClientStream| client.peer().serial())
}

fn reason_of<T>(outcome: Result<T, IdentityError>) -> Option<PeerRefusal> {
    match outcome {
        Err(IdentityError::Refused { reason, .. }) => Some(reason),
        _other => None,
    }
}

#[tokio::test]
async fn who_calls_a_role_sees_the_certificate_of_that_role() {
    let world = World::new();
    let machine = Machine::new(&world);
    let gateway = world.member("gateway", &[(Role::Gateway, 9)]);
    let (storage, metadata) = (serial_of(&machine.storage), serial_of(&machine.metadata));
    assert_ne!(storage, metadata);
    for (expected, found) in [
        (Some((Role::Storage, 3)), storage),
        (Some((Role::Metadata, 3)), metadata),
        // Who asks for nobody sees the first one.
        (None, metadata),
    ] {
        let shown = shown(&machine.port, &gateway, expected).await;
        assert_eq!(shown.expect("accepted"), found, "{expected:?}");
    }
    // A role that neither has, and another member's number.
    for expected in [(Role::Gateway, 3), (Role::Storage, 4), (Role::Metadata, 4)] {
        let reason = reason_of(shown(&machine.port, &gateway, Some(expected)).await);
        let (role, id) = expected;
        let found = match role {
            Role::Storage => &machine.storage,
            Role::Metadata | Role::Gateway | Role::Operator => &machine.metadata,
        };
        let found = Box::new(found.identity().as_ref().clone());
        assert_eq!(reason, Some(PeerRefusal::OtherIdentity { role, id, found }));
    }
    // Neither certificate alone is the other role.
    for (alone, role) in [
        (&machine.storage, Role::Metadata),
        (&machine.metadata, Role::Storage),
    ] {
        let reason = reason_of(shown(alone, &gateway, Some((role, 3))).await);
        assert!(matches!(reason, Some(PeerRefusal::OtherIdentity { .. })));
    }
}

#[tokio::test]
async fn a_certificate_with_both_roles_is_shown_to_all() {
    let world = World::new();
    let both = world.member("both", &[(Role::Storage, 3), (Role::Metadata, 3)]);
    let gateway = world.member("gateway", &[(Role::Gateway, 9)]);
    let storage = world.member("storage", &[(Role::Storage, 3)]);
    for port in [
        both.clone(),
        both.also_showing(&both),
        both.also_showing(&storage),
    ] {
        for expected in [Some((Role::Storage, 3)), Some((Role::Metadata, 3)), None] {
            let shown = shown(&port, &gateway, expected).await.expect("accepted");
            assert_eq!(shown, serial_of(&both));
        }
    }
}

#[tokio::test]
async fn each_certificate_is_renewed_by_itself() {
    let world = World::new();
    let machine = Machine::new(&world);
    let gateway = world.member("gateway", &[(Role::Gateway, 9)]);
    let (storage, metadata) = (serial_of(&machine.storage), serial_of(&machine.metadata));
    world.save("storage", &[(Role::Storage, 3)]);
    assert!(!machine.metadata.reload().expect("reload"));
    assert!(machine.storage.reload().expect("reload"));
    assert_ne!(serial_of(&machine.storage), storage);
    for (role, found) in [
        (Role::Storage, serial_of(&machine.storage)),
        (Role::Metadata, metadata),
    ] {
        let shown = shown(&machine.port, &gateway, Some((role, 3))).await;
        assert_eq!(shown.expect("accepted"), found, "{role}");
    }
}

#[tokio::test]
async fn a_certificate_in_the_others_directory_is_not_taken_up() {
    let world = World::new();
    let machine = Machine::new(&world);
    let gateway = world.member("gateway", &[(Role::Gateway, 9)]);
    let (storage, metadata) = ((Role::Storage, 3), (Role::Metadata, 3));
    let both = world.member("both", &[storage, metadata]);
    for (material, dir, wrong) in [
        (&machine.storage, "storage", metadata),
        (&machine.metadata, "metadata", storage),
        // It runs two roles, and goes on with both until it is started with two certificates.
        (&both, "both", storage),
        (&both, "both", metadata),
    ] {
        let before = serial_of(material);
        world.save(dir, &[wrong]);
        let error = material.reload().expect_err("a role less");
        assert!(
            matches!(error, IdentityError::IdentityChanged { .. }),
            "{error}"
        );
        assert_eq!(serial_of(material), before);
    }
    for (role, found) in [
        (Role::Storage, &machine.storage),
        (Role::Metadata, &machine.metadata),
    ] {
        let shown = shown(&machine.port, &gateway, Some((role, 3))).await;
        assert_eq!(shown.expect("accepted"), serial_of(found), "{role}");
    }
}

#[tokio::test]
async fn another_clusters_certificate_is_not_loaded_beside() {
    let (world, other) = (
        World::new(),
        World::at(OTHER_CLUSTER, std::time::SystemTime::now()),
    );
    let storage = world.member("storage", &[(Role::Storage, 3)]);
    let dir = other.save("metadata", &[(Role::Metadata, 3)]);
    let error = storage.load_beside(&dir).expect_err("another cluster");
    let IdentityError::OwnCertificate { reason, .. } = error else {
        panic!("{error}");
    };
    let (found, own) = (OTHER_CLUSTER, CLUSTER);
    assert_eq!(reason, PeerRefusal::OtherCluster { found, own });
}

/// Sends a byte there and back; the error that the client gets.
async fn talk(
    server: &TlsMaterial,
    client: &TlsMaterial,
    expected: Option<(Role, u32)>,
) -> Option<String> {
    let (accepted, connected) = meet(server, client, expected).await;
    let mut connected = match connected {
        Ok(connected) => connected,
        Err(error) => return Some(error.to_string()),
    };
    if let Ok(mut accepted) = accepted {
        accepted.write_all(b"!").await.expect("write");
    }
    connected
        .read_u8()
        .await
        .err()
        .map(|error| error.to_string())
}

#[tokio::test]
async fn one_of_them_is_denied_and_the_other_goes_on() {
    let world = World::new();
    let machine = Machine::new(&world);
    // Only a metadata member is believed that one is denied.
    let member = world.member("member", &[(Role::Metadata, 4)]);
    let (storage, metadata) = (&machine.storage, &machine.metadata);
    let mut list = DenyList {
        revision: 1,
        ..DenyList::default()
    };
    list.deny(DeniedCertificate {
        role: Role::Storage,
        id: 3,
        serial: Some(serial_of(storage)),
    });
    assert!(member.denials().hear(list.clone()));

    // What it dials with.
    assert!(talk(&member, storage, None).await.is_some());
    assert!(storage.denials().is_own_denied());
    assert_eq!(talk(&member, metadata, None).await, None);
    assert!(!metadata.denials().is_own_denied());
    assert!(storage.denials().is_own_denied(), "the other was heard");

    // What its port shows.
    let to = |role| talk(&machine.port, &member, Some((role, 3)));
    assert_eq!(to(Role::Metadata).await, None);
    let refused = to(Role::Storage).await.expect("refused");
    assert!(refused.contains("denied"), "{refused}");

    // Whichever hears of the list, both follow it, and the process refuses its own other half.
    assert!(metadata.denials().hear(list.clone()));
    assert!(!storage.denials().hear(list), "known already");
    assert!(
        talk(&machine.port, storage, Some((Role::Metadata, 3)))
            .await
            .is_some()
    );
    assert_eq!(
        talk(&machine.port, metadata, Some((Role::Metadata, 3))).await,
        None
    );

    // Each learns by itself that it is allowed again.
    let allowed = DenyList {
        revision: 2,
        ..DenyList::default()
    };
    assert!(member.denials().hear(allowed));
    assert_eq!(talk(&member, storage, None).await, None);
    assert!(!storage.denials().is_own_denied());
}
