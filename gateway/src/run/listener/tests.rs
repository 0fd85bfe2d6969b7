//! A listener on real sockets, over a cluster in memory.

use super::*;
use crate::run::Limits;
use crate::s3::tests::client::call;
use crate::s3::tests::world::World;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

struct Served {
    world: World,
    rim: Rim,
    address: std::net::SocketAddr,
}

async fn served(limits: Limits) -> Served {
    let world = World::new().await;
    let rim = Rim {
        limits,
        stop: CancellationToken::new(),
        abort: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    let face = Arc::clone(&world.face);
    let listening = Listening {
        socket,
        security: TransportSecurity::Plain,
        face,
        rim: rim.clone(),
    };
    rim.tasks.spawn(listening.run());
    Served {
        world,
        rim,
        address,
    }
}

/// Writes a signed request as bytes; the caller adds the body.
fn head(world: &World, method: &str, target: &str, body: &'static [u8]) -> Vec<u8> {
    let signed = call(method, target).body(body).sign(&world.ann);
    let request = signed.request(|builder| builder);
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(end) {
        let read = timeout(Duration::from_secs(10), stream.read(&mut buffer));
        let read = read.await.expect("in time").expect("bytes");
        assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_drain_lets_a_request_end_and_then_closes() {
    let served = served(Limits::default()).await;
    let mut stream = TcpStream::connect(served.address).await.expect("accepted");
    stream
        .write_all(&head(&served.world, "PUT", "/box", b""))
        .await
        .expect("sent");
    assert!(
        read_until(&mut stream, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    );
    stream
        .write_all(&head(&served.world, "PUT", "/box/k", b"hello"))
        .await
        .expect("sent");
    stream.write_all(b"he").await.expect("sent");
    // The request has begun once its body is asked for; the stop comes in the middle of it.
    tokio::task::yield_now().await;
    served.rim.stop.cancel();
    stream.write_all(b"llo").await.expect("sent");
    assert!(
        read_until(&mut stream, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(
        stream.read(&mut [0; 16]).await.expect("an end"),
        0,
        "the connection is closed"
    );
    served.rim.tasks.close();
    timeout(Duration::from_secs(10), served.rim.tasks.wait())
        .await
        .expect("all ended");
    assert!(
        TcpStream::connect(served.address).await.is_err(),
        "the listener is closed"
    );
}

#[tokio::test]
async fn slow_and_oversized_heads_are_closed() {
    let limits = Limits {
        head_timeout: Duration::from_millis(100),
        head_bytes_max: 8192,
        ..Limits::default()
    };
    let served = served(limits).await;
    let mut slow = TcpStream::connect(served.address).await.expect("accepted");
    slow.write_all(b"GET / HTTP/1.1\r\nhost:")
        .await
        .expect("sent");
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(10), slow.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "given up");
    let mut fat = TcpStream::connect(served.address).await.expect("accepted");
    let head = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx-fat: {}\r\n\r\n",
        "f".repeat(100_000)
    );
    // The other end may close before it has read everything.
    drop(fat.write_all(head.as_bytes()).await);
    let mut answer = Vec::new();
    let ended = timeout(Duration::from_secs(10), fat.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "given up");
    let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 431");
    assert!(refused, "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn connections_have_a_limit_and_the_next_one_waits() {
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let served = served(limits).await;
    let mut first = TcpStream::connect(served.address).await.expect("accepted");
    first
        .write_all(&head(&served.world, "GET", "/", b""))
        .await
        .expect("sent");
    read_until(&mut first, "ListAllMyBucketsResult>").await;
    let mut second = TcpStream::connect(served.address)
        .await
        .expect("in the backlog");
    second
        .write_all(&head(&served.world, "GET", "/", b""))
        .await
        .expect("sent");
    let early = timeout(Duration::from_millis(100), second.read(&mut [0; 16])).await;
    assert!(early.is_err(), "served beyond the limit");
    drop(first);
    read_until(&mut second, "ListAllMyBucketsResult>").await;
}

#[tokio::test]
async fn a_refusal_is_seen_though_the_body_is_still_being_sent() {
    let served = served(Limits::default()).await;
    let mut stream = TcpStream::connect(served.address).await.expect("accepted");
    // More than the buffers of both sides hold.
    let body = vec![0; 64_000_000];
    let head = format!(
        "PUT /nowhere/k HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream
        .write_all(&body)
        .await
        .expect("taken, though nobody wants it");
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_is_told_of_a_refusal_first() {
    let served = served(Limits::default()).await;
    let mut stream = TcpStream::connect(served.address).await.expect("accepted");
    let head = "PUT /nowhere/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\
                expect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_nothing_gets_an_answer_and_no_second_one() {
    let served = served(Limits::default()).await;
    let mut stream = TcpStream::connect(served.address).await.expect("accepted");
    let head = "PUT /nowhere/k HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\
                expect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

/// What the server says of itself on an HTTP/2 connection: its settings by number, and by how much
/// the connection's window is more than the 65,535 bytes that it begins with.
async fn settings_of_http2(stream: &mut TcpStream) -> (Vec<(u16, u32)>, u32) {
    // The preface, and no settings.
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(hello).await.expect("sent");
    let (mut settings, mut more) = (Vec::new(), None);
    while settings.is_empty() || more.is_none() {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        let len = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut frame = vec![0; len];
        stream.read_exact(&mut frame).await.expect("its bytes");
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |all, byte| all << 8 | u32::from(*byte))
        };
        match head[3] {
            4 => settings.extend(frame.chunks(6).map(|item| {
                let name = u16::from(item[0]) << 8 | u16::from(item[1]);
                (name, number(&item[2..]))
            })),
            8 => more = Some(number(&frame)),
            _other => {}
        }
    }
    (settings, more.expect("a window"))
}

#[tokio::test]
async fn an_http2_connection_holds_a_bounded_number_of_bytes() {
    let served = served(Limits::default()).await;
    let mut stream = TcpStream::connect(served.address).await.expect("accepted");
    let said = timeout(Duration::from_secs(10), settings_of_http2(&mut stream));
    let (settings, more) = said.await.expect("in time");
    // SETTINGS_MAX_CONCURRENT_STREAMS and SETTINGS_INITIAL_WINDOW_SIZE.
    assert!(settings.contains(&(3, STREAMS_MAX)), "{settings:?}");
    assert!(settings.contains(&(4, WINDOW_BYTES)), "{settings:?}");
    assert_eq!(65_535 + more, WINDOW_BYTES);
}
