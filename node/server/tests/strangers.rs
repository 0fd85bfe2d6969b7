//! Who isn't known and allowed gets no answer from either port.

mod support;

use megalith_client::{ChannelSettings, ClientError, DataClient, DataFault, DataSettings, channel};
use megalith_identity::{Authority, IssueRequest, Role, TlsMaterial, connect};
use megalith_model::denied::{DeniedCertificate, DenyList};
use megalith_model::shard::ShardId;
use megalith_server::edge::DataEdgeSettings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::{CLUSTER, DISK, Edge, NODE, digest, framed, shard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

/// Reads to the end of a connection; what an error cuts short counts as read.
async fn answer_of(mut stream: impl AsyncReadExt + Unpin) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let ended = tokio::time::timeout(Duration::from_secs(20), read).await;
    assert!(ended.is_ok(), "the connection was left open");
    answer
}

const REQUEST: &[u8] = b"GET /v1/shards HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn without_a_certificate_there_is_no_answer() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let ca = CertificateDer::from_pem_slice(edge.certificates.authority.ca_pem().as_bytes());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.expect("a certificate")).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let calls = edge.truth.calls.load(Ordering::SeqCst);
    for address in [&edge.rpc_address, &edge.data_address] {
        // In clear: at most a TLS alert comes back.
        let mut tcp = TcpStream::connect(address).await.expect("connected");
        tcp.write_all(REQUEST).await.expect("sent");
        let answer = answer_of(tcp).await;
        assert!(
            answer.len() < 16 && !answer.starts_with(b"HTTP"),
            "{answer:?}"
        );
        // By TLS, without a certificate.
        let tcp = TcpStream::connect(address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("a name");
        if let Ok(mut tls) = connector.connect(name, tcp).await {
            // With TLS 1.3 the refusal may come after our first bytes.
            let _refused = tls.write_all(REQUEST).await;
            assert_eq!(answer_of(tls).await, b"");
        }
    }
    assert_eq!(edge.truth.calls.load(Ordering::SeqCst), calls);
}

#[tokio::test]
async fn a_certificate_of_another_authority_opens_nothing() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let dir = edge.certificates.dir.path().join("foreign");
    // Even one that says the same cluster.
    let authority = Authority::create(&dir.join("ca"), CLUSTER).expect("an authority");
    let request = IssueRequest {
        grants: vec![(Role::Gateway, support::GATEWAY.0), (Role::Storage, 2)],
        hosts: vec![],
        days: 1,
    };
    let mut bundle = authority.issue(&request).expect("a bundle");
    bundle.save(&dir).expect("saved");
    let distrusting = TlsMaterial::load(&dir).expect("loaded");
    let bytes = shard(10);
    let client = DataClient::new(distrusting, DataSettings::default());
    let target = edge.target(100);
    let put = client.put_small(&target, 10, framed(&bytes), digest(&bytes));
    assert_eq!(
        put.await.expect_err("refused").fault,
        DataFault::Unreachable
    );
    assert!(!edge.has(&edge.target(100)).await);
    // One that trusts us, though we don't trust it.
    bundle.ca_pem.push_str(edge.certificates.authority.ca_pem());
    bundle.save(&dir).expect("saved");
    let trusting = TlsMaterial::load(&dir).expect("loaded");
    let client = DataClient::new(trusting.clone(), DataSettings::default());
    let put = client.put_small(&target, 10, framed(&bytes), digest(&bytes));
    let error = put.await.expect_err("refused");
    assert_eq!(error.fault, DataFault::Unreachable, "{error}");
    assert!(!edge.has(&edge.target(100)).await);
    let calls = edge.truth.calls.load(Ordering::SeqCst);
    let code = call(&edge, trusting, "/megalith.v1.Cluster/Status").await;
    assert_ne!(code, Code::Ok);
    assert_eq!(edge.truth.calls.load(Ordering::SeqCst), calls);
}

/// What begins an HTTP/2 connection, with an empty frame of settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn an_idle_connection_ends_when_its_peer_is_denied() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let stolen = edge.certificates.issue(&[(Role::Gateway, 8)]);
    let mut held = Vec::new();
    for (address, first) in [(&edge.rpc_address, PREFACE), (&edge.data_address, REQUEST)] {
        let stream = connect(address, &stolen, None).await;
        let mut stream = stream.expect("a connection");
        stream.write_all(first).await.expect("sent");
        stream.read_u8().await.expect("the node speaks to it");
        held.push(stream);
    }
    let mut list = DenyList {
        revision: 1,
        ..DenyList::default()
    };
    list.deny(DeniedCertificate {
        role: Role::Gateway,
        id: 8,
        serial: None,
    });
    assert!(edge.material.denials().hear(list));
    for stream in held {
        answer_of(stream).await;
    }
}

/// Calls any method with an empty message; the code that comes back.
async fn call(edge: &Edge, material: Arc<TlsMaterial>, path: &'static str) -> Code {
    let expected = (Role::Metadata, NODE.0);
    let settings = ChannelSettings::default();
    let channel = channel(&edge.rpc_address, expected, &material, &settings);
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("ready");
    let path = http::uri::PathAndQuery::from_static(path);
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    match client.unary(Request::new(()), path, codec).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn a_role_calls_its_methods_and_no_other() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let calls = || edge.truth.calls.load(Ordering::SeqCst);
    let before = calls();
    let storage = edge.certificates.issue(&[(Role::Storage, 2)]);
    let operator = edge.certificates.issue(&[(Role::Operator, 0)]);
    let refused = [
        (&storage, "/megalith.v1.Cluster/Status"),
        (&storage, "/megalith.v1.ShardControl/Scrub"),
        (&storage, "/megalith.v1.RaftTransport/Messages"),
        (&operator, "/megalith.v1.Cluster/Join"),
        (&operator, "/megalith.v1.Cluster/Heartbeat"),
        (&operator, "/megalith.v1.Cluster/Nothing"),
        (&operator, "/megalith.v1.Nothing/Status"),
        (&operator, "/megalith.v1.Cluster/Status/"),
        (&operator, "/"),
        (&operator, "/grpc.health.v1.Health/Check"),
    ];
    for (material, path) in refused {
        let code = call(&edge, material.clone(), path).await;
        assert_eq!(code, Code::PermissionDenied, "{path}");
    }
    assert_eq!(calls(), before, "a service has seen a refused call");
    assert_eq!(
        call(&edge, operator, "/megalith.v1.Cluster/Status").await,
        Code::Ok
    );
    assert_eq!(
        call(&edge, storage, "/megalith.v1.Cluster/Join").await,
        Code::Ok
    );
    assert_eq!(calls(), before + 2);
    // Allowed, but this node doesn't have the role.
    let metadata = edge.certificates.issue(&[(Role::Metadata, 3)]);
    let code = call(&edge, metadata, "/megalith.v1.RaftTransport/Snapshot").await;
    assert_eq!(code, Code::Unimplemented);
}

#[tokio::test]
async fn operators_have_no_business_on_the_data_port() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let bytes = shard(10);
    for role in [Role::Operator, Role::Metadata] {
        let client = edge.client(role, 9);
        let target = edge.target(100);
        let put = client.put_small(&target, 10, framed(&bytes), digest(&bytes));
        assert_eq!(put.await.expect_err("refused").fault, DataFault::Forbidden);
        let get = client.get_cells(&target, 10, 0, 1);
        assert_eq!(get.await.expect_err("refused").fault, DataFault::Forbidden);
    }
    assert!(!edge.has(&edge.target(100)).await);
}

#[tokio::test]
async fn the_shard_service_answers_those_who_may_ask() {
    let edge = Edge::start(DataEdgeSettings::default()).await;
    let (target, bytes) = (edge.target(100), shard(100_000));
    let put = edge.gateway();
    let put = put.put_small(&target, 100_000, framed(&bytes), digest(&bytes));
    put.await.expect("a receipt");
    let name = target.target.shard;
    let absent = ShardId { segment: 1, ..name };
    let address = edge.rpc_address.as_str();
    let gateway = edge.shards(Role::Gateway, support::GATEWAY.0);
    let stats = gateway.stat(NODE, address, DISK, &[absent, name]).await;
    let stats = stats.expect("an answer");
    assert_eq!(stats[0], None);
    let found = stats[1].expect("there");
    assert_eq!((found.len, found.digest), (100_000, Some(digest(&bytes))));
    let end = gateway.list(NODE, address, DISK, name.volume, None, 10);
    let end = end.await;
    assert!(matches!(end, Err(ClientError::Rejected(_))), "{end:?}");
    let storage = edge.shards(Role::Storage, 2);
    let page = storage
        .list(NODE, address, DISK, name.volume, None, 10)
        .await;
    assert_eq!(page.expect("a page").shards, [name]);
}
