//! Peers that speak no TLS, speak half of it, or say nothing.

mod common;

use common::*;
use megalith_identity::{IdentityError, Role, accept_within, connect_within};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn bytes_that_are_not_tls_end_the_connection_at_once() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);
    let mut noise = vec![0_u8; 300_000];
    let mut state = 1_u32;
    for byte in &mut noise {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    let huge_record = [&[22, 3, 3, 0xff, 0xff][..], &[1; 70_000]].concat();
    let cases = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        noise,
        huge_record,
        vec![],
    ];
    for bytes in cases {
        let (listener, address) = listen().await;
        let client = async {
            let mut tcp = TcpStream::connect(&address).await.expect("connect");
            // The server may hang up during the write.
            let _ = tcp.write_all(&bytes).await;
            let _ = tcp.shutdown().await;
            let mut answer = Vec::new();
            let _ = tcp.read_to_end(&mut answer).await;
            answer
        };
        let (server, answer) = tokio::join!(accept_one(&listener, &node), client);
        assert!(
            matches!(server, Err(IdentityError::Handshake { .. })),
            "{server:?}"
        );
        assert!(answer.len() < 16, "more than an alert: {answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_stalls_is_dropped_at_the_deadline() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);
    // Nothing; the head of a record; a record that announces a long hello and never sends it.
    for bytes in [&[][..], &[22, 3], &[22, 3, 1, 0, 5, 1, 0, 40, 0, 3]] {
        let (listener, address) = listen().await;
        let mut tcp = TcpStream::connect(&address).await.expect("connect");
        tcp.write_all(bytes).await.expect("write");
        let (accepted, _) = listener.accept().await.expect("accept");
        let server = accept_within(accepted, &node, SHORT).await;
        assert!(
            matches!(server, Err(IdentityError::Timeout { .. })),
            "{server:?}"
        );
        // The connection was dropped: the client sees its end.
        let end = tokio::time::timeout(PATIENCE, tcp.read(&mut [0; 1]))
            .await
            .expect("an end");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}

#[tokio::test]
async fn servers_that_are_rude_are_errors() {
    let world = World::new();
    let node = world.member("node", &[(Role::Storage, 1)]);

    let (listener, address) = listen().await;
    let silent = connect_within(&address, &node, None, SHORT).await;
    assert!(
        matches!(silent, Err(IdentityError::Timeout { .. })),
        "{silent:?}"
    );
    drop(listener);
    let closed = connect_within(&address, &node, None, PATIENCE).await;
    assert!(
        matches!(closed, Err(IdentityError::Connect { .. })),
        "{closed:?}"
    );

    let (listener, address) = listen().await;
    let plain = async {
        let (mut tcp, _) = listener.accept().await.expect("accept");
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("write");
        tcp
    };
    let (_tcp, client) = tokio::join!(plain, connect_within(&address, &node, None, PATIENCE));
    assert!(
        matches!(client, Err(IdentityError::Handshake { .. })),
        "{client:?}"
    );

    for nonsense in ["", "localhost", "localhost:x", "no host:1"] {
        let client = connect_within(nonsense, &node, None, PATIENCE).await;
        assert!(
            matches!(client, Err(IdentityError::Connect { .. })),
            "{nonsense}: {client:?}"
        );
    }
}
