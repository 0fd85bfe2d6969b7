//! One peer, however greedy, takes only its share of a node's memory and connections.

mod support;

use megalith_client::{ChannelSettings, DataFault, channel};
use megalith_identity::{Role, TlsMaterial, connect_within};
use megalith_model::shape::CELL_LEN;
use megalith_proto::v1 as proto;
use megalith_serve::listener::ListenerSettings;
use megalith_server::edge::{DataEdgeSettings, GrpcEdgeSettings};
use proto::cluster_client::ClusterClient;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use support::{Edge, NODE, digest, framed, shard};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;

fn few(connections: u64) -> ListenerSettings {
    ListenerSettings {
        connections_per_peer_max: connections,
        ..ListenerSettings::default()
    }
}

fn client(edge: &Edge, material: &Arc<TlsMaterial>) -> ClusterClient<Channel> {
    let expected = (Role::Metadata, NODE.0);
    let settings = ChannelSettings::default();
    ClusterClient::new(channel(&edge.rpc_address, expected, material, &settings))
        .max_encoding_message_size(64 << 20)
}

/// Calls until it is answered well: what was given back may take a moment to be seen.
async fn in_the_end<T, F>(mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, tonic::Status>>,
{
    let tries = async {
        loop {
            match call().await {
                Ok(done) => return done,
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), tries)
        .await
        .expect("in time")
}

#[tokio::test]
async fn a_peer_has_only_so_many_streams_and_calls() {
    let limits = GrpcEdgeSettings {
        streams_per_peer_max: 2,
        calls_per_peer_max: 3,
        ..GrpcEdgeSettings::default()
    };
    let edge = Edge::start_with(DataEdgeSettings::default(), limits).await;
    let greedy = edge.certificates.issue(&[(Role::Storage, 2)]);
    let other = edge.certificates.issue(&[(Role::Storage, 3)]);
    let watch = |material| {
        // Each on a connection of its own.
        let mut client = client(&edge, material);
        async move {
            client
                .watch_map(proto::WatchMapRequest { levels: None })
                .await
        }
    };
    let first = watch(&greedy).await.expect("a stream");
    let _second = watch(&greedy).await.expect("a stream");
    let refused = watch(&greedy).await.expect_err("a third");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let _of_other = watch(&other).await.expect("another peer has its own");
    let health = |material| {
        let mut client = client(&edge, material);
        async move { client.health(proto::HealthRequest {}).await }
    };
    // Two of three calls are the streams.
    health(&greedy).await.expect("a call");
    drop(first);
    let _again = in_the_end(|| watch(&greedy)).await;
}

#[tokio::test]
async fn a_peer_has_only_so_many_bytes_on_the_way() {
    let limits = GrpcEdgeSettings {
        bytes_per_peer_max: 1 << 20,
        ..GrpcEdgeSettings::default()
    };
    let edge = Edge::start_with(DataEdgeSettings::default(), limits).await;
    let greedy = edge.certificates.issue(&[(Role::Storage, 2)]);
    let join = |len: usize| {
        let mut client = client(&edge, &greedy);
        let node = vec![0; len].into();
        async move { client.join(proto::JoinRequest { node, levels: None }).await }
    };
    for _ in 0..3 {
        let refused = join(3 << 20).await.expect_err("too many bytes");
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        in_the_end(|| join(1 << 19)).await;
    }
}

#[tokio::test]
async fn a_peer_has_only_so_many_connections_to_either_port() {
    let data = DataEdgeSettings {
        listener: few(2),
        ..DataEdgeSettings::default()
    };
    let rpc = GrpcEdgeSettings {
        listener: few(2),
        ..GrpcEdgeSettings::default()
    };
    let edge = Edge::start_with(data, rpc).await;
    let greedy = edge.certificates.issue(&[(Role::Storage, 2)]);
    let other = edge.certificates.issue(&[(Role::Storage, 3)]);
    for address in [&edge.rpc_address, &edge.data_address] {
        let connect = |material: Arc<TlsMaterial>| async move {
            let expected = Some((Role::Storage, NODE.0));
            let limit = Duration::from_secs(20);
            let connected = connect_within(address, &material, expected, limit).await;
            connected.expect("a handshake")
        };
        let mut kept = [
            connect(greedy.clone()).await,
            connect(greedy.clone()).await,
            connect(other.clone()).await,
        ];
        let mut third = connect(greedy.clone()).await;
        let mut byte = [0];
        // A node greets those whom it serves over HTTP/2; a refused connection says nothing.
        let ended = match timeout(Duration::from_secs(20), third.read(&mut byte)).await {
            Ok(Ok(1)) => panic!("{address}: the third was served"),
            Ok(Ok(_) | Err(_)) => true,
            Err(_) => false,
        };
        assert!(ended, "{address}: the third was left open");
        for stream in &mut kept {
            let open = poll_fn(|cx| {
                let mut space = [0; 512];
                let mut buffer = tokio::io::ReadBuf::new(&mut space);
                let read = tokio::io::AsyncRead::poll_read(Pin::new(stream), cx, &mut buffer);
                let ended = read.is_ready() && buffer.filled().is_empty();
                std::task::Poll::Ready(!ended)
            });
            assert!(open.await, "{address}: one within the limit was closed");
        }
    }
}

#[tokio::test]
async fn a_peer_has_only_so_many_bytes_read_for_it() {
    let cells = |count: u64| count * CELL_LEN;
    let data = DataEdgeSettings {
        read_bytes_per_peer_max: cells(2),
        read_bytes_per_gateway_max: cells(4),
        ..DataEdgeSettings::default()
    };
    let edge = Edge::start(data).await;
    let bytes = shard(cells(6) as usize);
    let (target, len) = (edge.target(100), bytes.len() as u64);
    let put = edge.gateway();
    let put = put.put_small(&target, len, framed(&bytes), digest(&bytes));
    put.await.expect("a receipt");
    for (role, fits) in [(Role::Gateway, 4), (Role::Storage, 2)] {
        let client = edge.client(role, 2);
        for _ in 0..3 {
            let read = client.get_cells(&target, len, 0, fits).await;
            assert_eq!(read.expect("read").len() as u64, fits);
            let refused = client.get_cells(&target, len, 0, fits + 1).await;
            assert_eq!(refused.expect_err("too many").fault, DataFault::Busy);
        }
    }
}
