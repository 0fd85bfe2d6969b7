//! How [`DataClient`] treats nodes that lie, crawl or hang up.

mod support;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use megalith_client::wire::{ReceiptBody, digest_text};
use megalith_client::{DataClient, DataError, DataFault, DataSettings, ShardRoute, framing};
use megalith_identity::{IdentifiedStream, Role};
use megalith_model::ids::{BlobId, DiskId, Epoch, NodeId, VolumeId};
use megalith_model::shape::CELL_LEN;
use megalith_model::shard::{ShardId, ShardTarget};
use megalith_model::topology::Slot;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{Certificates, Server, dead_address, serve};

const CELL: usize = CELL_LEN as usize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

const NODE: NodeId = NodeId(4);

fn client(certificates: &Certificates) -> DataClient {
    let settings = DataSettings {
        first_byte_deadline: Duration::from_millis(300),
        idle_deadline: Duration::from_millis(300),
        receipt_deadline: Duration::from_millis(300),
        ..DataSettings::default()
    };
    DataClient::new(certificates.issue(Role::Gateway, 1), settings)
}

fn target(server: &Server) -> ShardRoute {
    ShardRoute {
        target: ShardTarget {
            at: Slot {
                node: NODE,
                disk: DiskId([7; 16]),
            },
            shard: ShardId {
                volume: VolumeId(1),
                blob: BlobId(2),
                segment: 0,
                slot: 3,
            },
        },
        address: server.address.clone(),
        epoch: Epoch(5),
    }
}

fn fault<T: std::fmt::Debug>(answer: Result<T, DataError>) -> DataFault {
    answer.expect_err("a failure").fault
}

/// Reads every request with its body and answers what `answer` says; counts connections.
async fn answering(
    certificates: &Certificates,
    connections: &Arc<AtomicUsize>,
    answer: impl Fn(usize) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) -> Server {
    let material = certificates.issue(Role::Storage, NODE.0);
    let connections = connections.clone();
    serve(material, move |stream: IdentifiedStream| {
        let number = connections.fetch_add(1, Ordering::SeqCst);
        let answer = answer.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let answer = answer.clone();
            async move {
                let _read = request.into_body().collect().await;
                Ok::<_, Infallible>(answer(number))
            }
        });
        async move {
            let _ended = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

fn respond(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

fn cells(shard: &[u8]) -> Vec<u8> {
    let framed = |cell: &[u8]| framing::frame(cell.to_vec());
    shard.chunks(CELL).flat_map(framed).collect()
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let certificates = Certificates::new();
    let connections = Arc::default();
    let body = cells(&[5; 100_000]);
    let answer = move |_| respond(StatusCode::OK, body.clone());
    let server = answering(&certificates, &connections, answer).await;
    let (client, target) = (client(&certificates), target(&server));
    for _ in 0..5 {
        let got = client.get_cells(&target, 100_000, 0, 2).await;
        assert_eq!(got.expect("cells").concat(), [5; 100_000]);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    // One request in flight on each.
    let both = tokio::join!(
        client.get_cells(&target, 100_000, 0, 2),
        client.get_cells(&target, 100_000, 0, 2),
    );
    assert!(both.0.is_ok() && both.1.is_ok());
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn cells_that_changed_on_their_way_are_never_handed_out() {
    let certificates = Certificates::new();
    let good = cells(&[5; 100_000]);
    for at in [0, CELL - 1, CELL + 1, 70_000, good.len() - 1] {
        let mut body = good.clone();
        body[at] ^= 4;
        let answer = move |_| respond(StatusCode::OK, body.clone());
        let server = answering(&certificates, &Arc::default(), answer).await;
        let (client, target) = (client(&certificates), target(&server));
        let got = client.get_cells(&target, 100_000, 0, 2);
        assert_eq!(fault(got.await), DataFault::Damaged, "byte {at}");
    }
    for body in [
        good[..good.len() - 1].to_vec(),
        [&good[..], b"x"].concat(),
        vec![],
    ] {
        let answer = move |_| respond(StatusCode::OK, body.clone());
        let server = answering(&certificates, &Arc::default(), answer).await;
        let (client, target) = (client(&certificates), target(&server));
        let got = client.get_cells(&target, 100_000, 0, 2);
        assert_eq!(fault(got.await), DataFault::Damaged);
    }
}

#[tokio::test]
async fn a_receipt_for_something_else_is_no_receipt() {
    let certificates = Certificates::new();
    let shard = [1; 10];
    let digest = *blake3::hash(&shard).as_bytes();
    let receipt = |length, digest: &[u8; 32], epoch| {
        let body = ReceiptBody {
            length,
            digest: digest_text(digest),
            epoch,
        };
        serde_json::to_vec(&body).expect("JSON")
    };
    let right = receipt(10, &digest, 5);
    let wrong = [
        receipt(11, &digest, 5),
        receipt(10, &[0; 32], 5),
        receipt(10, &digest, 6),
        b"{}".to_vec(),
        b"yes".to_vec(),
        vec![b' '; 100_000],
    ];
    for (body, good) in wrong
        .into_iter()
        .map(|body| (body, false))
        .chain([(right, true)])
    {
        let answer = move |_| respond(StatusCode::OK, body.clone());
        let server = answering(&certificates, &Arc::default(), answer).await;
        let (client, target) = (client(&certificates), target(&server));
        let put = client.put_small(&target, 10, vec![framing::frame(shard.to_vec())], digest);
        match put.await {
            Ok(receipt) => assert!(good && receipt.digest == digest),
            Err(error) => assert!(!good && error.fault == DataFault::Protocol, "{error}"),
        }
    }
}

#[tokio::test]
async fn every_kind_of_refusal_is_known() {
    let certificates = Certificates::new();
    let present = Some(Epoch(9));
    let kinds = [
        DataFault::Malformed,
        DataFault::Forbidden,
        DataFault::NotFound,
        DataFault::StaleEpoch { present },
        DataFault::StaleEpoch { present: None },
        DataFault::Conflict,
        DataFault::LeaseClosed,
        DataFault::Checksum,
        DataFault::Damaged,
        DataFault::Io,
        DataFault::Busy,
        DataFault::Full,
        DataFault::Timeout,
    ];
    for kind in kinds {
        let epoch = match kind {
            DataFault::StaleEpoch { present } => present.map(|epoch| epoch.0),
            _ => None,
        };
        let body = megalith_client::wire::ErrorBody {
            kind: kind.name().into(),
            message: "so it is".into(),
            epoch,
        };
        let body = serde_json::to_vec(&body).expect("JSON");
        let status = StatusCode::from_u16(kind.status().expect("on the wire")).expect("valid");
        let answer = move |_| respond(status, body.clone());
        let server = answering(&certificates, &Arc::default(), answer).await;
        let got = client(&certificates)
            .get_cells(&target(&server), 10, 0, 1)
            .await;
        let error = got.expect_err("refused");
        assert_eq!((error.fault, error.node), (kind, NODE));
        assert_eq!(error.message, "so it is");
    }
}

/// Reads a request's head.
async fn read_head(stream: &mut IdentifiedStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return head,
        }
    }
    head
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_once() {
    let certificates = Certificates::new();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let body = cells(&[5; 10]);
    let material = certificates.issue(Role::Storage, NODE.0);
    // The first connection answers once and closes when it gets the next request: as late as
    // possible.
    let server = serve(material, move |mut stream| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let body = body.clone();
        async move {
            let answers = if number == 0 { 1 } else { 100 };
            for _ in 0..answers {
                if read_head(&mut stream).await.is_empty() {
                    return;
                }
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let answer = [head.as_bytes(), &body].concat();
                stream.write_all(&answer).await.expect("sent");
            }
            read_head(&mut stream).await;
        }
    })
    .await;
    let (client, target) = (client(&certificates), target(&server));
    for _ in 0..4 {
        let got = client.get_cells(&target, 10, 0, 1).await;
        assert_eq!(got.expect("cells").concat(), [5; 10]);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn silence_costs_a_bounded_time() {
    let certificates = Certificates::new();
    let material = certificates.issue(Role::Storage, NODE.0);
    // Takes everything and never answers; to a read, sends part of an answer.
    let server = serve(material, |mut stream| async move {
        let head = read_head(&mut stream).await;
        if head.starts_with(b"GET /v1/shards/07070707070707070707070707070707/1/2/1/") {
            let part = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n01234";
            stream.write_all(part).await.expect("sent");
        }
        let mut taken = vec![0; 65_536];
        while stream.read(&mut taken).await.is_ok_and(|taken| taken > 0) {}
    })
    .await;
    let (client, mut target) = (client(&certificates), target(&server));
    assert_eq!(
        fault(client.get_cells(&target, 10, 0, 1).await),
        DataFault::Timeout
    );
    target.target.shard.segment = 1;
    assert_eq!(
        fault(client.get_cells(&target, 10, 0, 1).await),
        DataFault::Timeout
    );
    let shard = [1; 10];
    let pieces = vec![framing::frame(shard.to_vec())];
    let put = client.put_small(&target, 10, pieces.clone(), [0; 32]);
    assert_eq!(fault(put.await), DataFault::Timeout);
    // A slow caller isn't the node's fault; a node that never sends a receipt is at fault.
    let (send, body) = mpsc::channel(1);
    let (digest, wanted) = oneshot::channel();
    let put = client.put_shard(&target, 10, body, wanted);
    let feed = async {
        // Longer than any of the node's deadlines.
        let blamed = timeout(Duration::from_millis(900), send.closed()).await;
        assert!(
            blamed.is_err(),
            "the caller was slow, and blamed on the node"
        );
        send.send(pieces[0].clone()).await.expect("taken");
        digest.send([0; 32]).expect("taken");
        send.closed().await;
    };
    let (end, ()) = tokio::join!(put, feed);
    assert_eq!(fault(end), DataFault::Timeout);
}

#[tokio::test]
async fn a_node_that_stops_reading_is_given_up() {
    let certificates = Certificates::new();
    let material = certificates.issue(Role::Storage, NODE.0);
    let server = serve(material, |mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let (send, body) = mpsc::channel(1);
    let (_digest, wanted) = oneshot::channel();
    let (client, target) = (client(&certificates), target(&server));
    let put = client.put_shard(&target, 60_000_000, body, wanted);
    let feed = async {
        let cell = framing::frame(vec![7; CELL]);
        while send.send(cell.clone()).await.is_ok() {}
    };
    let (end, ()) = tokio::join!(put, feed);
    assert_eq!(fault(end), DataFault::Timeout);
}

#[tokio::test]
async fn whoever_is_not_the_node_gets_nothing() {
    let certificates = Certificates::new();
    let connections = Arc::default();
    let answer = |_| respond(StatusCode::OK, cells(&[5; 10]));
    let server = answering(&certificates, &connections, answer).await;
    let mut other = target(&server);
    other.target.at.node = NodeId(5);
    let client = client(&certificates);
    assert_eq!(
        fault(client.get_cells(&other, 10, 0, 1).await),
        DataFault::Unreachable
    );
    other.address = dead_address().await;
    assert_eq!(
        fault(client.get_cells(&other, 10, 0, 1).await),
        DataFault::Unreachable
    );
}
