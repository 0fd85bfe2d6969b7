//! What requests hold besides an object's bytes is within the memory that all share.

use super::client::{Answer, Signed, answer, answer_streamed, call};
use super::with_bucket_in;
use super::world::World;
use crate::ops::checksum::{Algorithm, digest};
use crate::s3::Window;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::Request;
use http_body::Frame;
use megalith_blobs::Payer;
use std::future::Future;
use std::io;
use std::time::Duration;

const KIB: u64 = 1024;
/// Somebody else.
const OTHER: Payer = Payer::Known(99);

/// A document that deletes nothing that is there.
fn document(len: usize) -> String {
    let object = "<Object><Key>none</Key></Object>";
    let padding = len.saturating_sub(object.len() + 17);
    format!("<Delete>{object}{}</Delete>", " ".repeat(padding))
}

/// Sends a first piece of a body, and then nothing.
fn stuck(signed: &Signed, piece: Bytes) -> Request<BoxStream<'static, Piece>> {
    let pieces = stream::iter([Ok(Frame::data(piece))]).chain(stream::pending());
    signed.request(|builder| builder).map(|_| pieces.boxed())
}

type Piece = Result<Frame<Bytes>, io::Error>;

/// Lets a request go on until it waits for its client.
fn begin<F: Future + Unpin>(request: &mut F) {
    for _ in 0..10 {
        assert!(request.now_or_never().is_none(), "answered already");
    }
}

#[tokio::test]
async fn documents_that_find_no_memory_are_put_off() {
    let world = with_bucket_in(World::with_memory(700 * KIB).await).await;
    let send = |len| {
        let delete = call("POST", "/box?delete").body(document(len));
        let sum = STANDARD.encode(digest(Algorithm::Crc32, &delete.body));
        delete.header("x-amz-checksum-crc32", &sum)
    };
    assert_eq!(send(100_000).send(&world).await.status, 200);
    let refused = send(200_000).send(&world).await;
    assert_eq!(refused.error(), (503, "SlowDown".into()));
    assert_eq!(world.shelf.memory.used(), 0, "given back");
    assert_eq!(send(100_000).send(&world).await.status, 200);
}

#[tokio::test]
async fn a_document_holds_memory_as_it_comes() {
    let world = with_bucket_in(World::new().await).await;
    let signed = call("POST", "/box?delete")
        .body(document(4_000_000))
        .sign(&world.ann);
    let mut waits = Box::pin(answer_streamed(&world, stuck(&signed, Bytes::from("<"))));
    begin(&mut waits);
    assert_eq!(world.shelf.memory.used() / KIB, 3 * 64, "and its head");
    drop(waits);
    assert_eq!(world.shelf.memory.used(), 0);
    let piece = Bytes::from(document(4_000_000)).slice(..1_000_000);
    let mut waits = Box::pin(answer_streamed(&world, stuck(&signed, piece)));
    begin(&mut waits);
    assert_eq!(world.shelf.memory.used() / KIB, 3 * 1024, "and its head");
}

#[tokio::test]
async fn the_bodies_of_a_connection_share_its_window() {
    let world = with_bucket_in(World::with_memory(4 * 650 * KIB).await).await;
    let window = Window::new(256 * KIB);
    let put = |key: &str, window: &Window| {
        let target = format!("/box/{key}");
        let signed = call("PUT", &target).body("some").sign(&world.ann);
        let mut request = stuck(&signed, Bytes::from("so"));
        request.extensions_mut().insert(window.clone());
        Box::pin(answer_streamed(&world, request))
    };
    let mut first = put("a", &window);
    begin(&mut first);
    let one = world.shelf.memory.used();
    assert!(one >= 256 * KIB);
    let mut second = put("b", &window);
    begin(&mut second);
    assert!(world.shelf.memory.used() < 256 * KIB + 150 * KIB);
    // Another connection has another window, and there is no room for it.
    let refused = put("c", &Window::new(256 * KIB)).await;
    assert_eq!(refused.error(), (503, "SlowDown".into()));
    drop(first);
    assert!(
        world.shelf.memory.used() >= 256 * KIB,
        "the second one needs it"
    );
    drop(second);
    assert_eq!(world.shelf.memory.used(), 0);
    // A request without a body needs no window.
    let signed = call("GET", "/box/none").sign(&world.ann);
    let mut request = signed.request(|builder| builder);
    request.extensions_mut().insert(window.clone());
    let held = world.shelf.memory.try_incoming(OTHER, 500 * KIB);
    let held = held.expect("room");
    let absent = answer(&world, request).await;
    assert_eq!(absent.error(), (404, "NoSuchKey".into()));
    drop(held);
}

/// Sends a body, a byte every tenth of a second, as long as it is asked for.
async fn dribble(world: &World, len: u64) -> Answer {
    let signed = call("PUT", "/box/slow").payload("UNSIGNED-PAYLOAD");
    let mut request = signed.sign(&world.ann).request(|builder| builder);
    request.headers_mut().insert("content-length", len.into());
    let pieces = stream::iter(0..len).then(|_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(Frame::data(Bytes::from_static(b".")))
    });
    answer_streamed(world, request.map(|_| pieces.boxed())).await
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_ended_only_if_memory_is_short() {
    let world = with_bucket_in(World::with_memory(1024 * KIB).await).await;
    // Forty seconds each.
    assert_eq!(dribble(&world, 400).await.status, 200);
    let held = world
        .shelf
        .memory
        .try_reserve(OTHER, 600 * KIB)
        .expect("room");
    let begun = tokio::time::Instant::now();
    assert_eq!(dribble(&world, 250).await.status, 200);
    assert_eq!(
        dribble(&world, 400).await.error(),
        (400, "RequestTimeout".into())
    );
    let took = begun.elapsed().as_secs();
    assert!((25 + 30..=25 + 32).contains(&took), "{took} s");
    drop(held);
    assert_eq!(world.shelf.memory.used(), 0);
}

/// One account's requests that wait for their bodies leave places for others.
#[tokio::test]
async fn one_account_does_not_take_the_last_places() {
    let world = with_bucket_in(World::new().await).await;
    let theirs = || call("GET", "/").send_as(&world, &world.bob);
    assert_eq!(theirs().await.status, 200);
    let put = |number: usize| {
        let target = format!("/box/{number}");
        let signed = call("PUT", &target).body("some").sign(&world.ann);
        Box::pin(answer_streamed(&world, stuck(&signed, Bytes::from("so"))))
    };
    let mut held = Vec::new();
    let refused = loop {
        let mut waits = put(held.len());
        match (0..10).find_map(|_| (&mut waits).now_or_never()) {
            Some(answer) => break answer,
            None => held.push(waits),
        }
    };
    assert_eq!(refused.error(), (503, "SlowDown".into()));
    assert_eq!(held.len(), 75, "of a hundred");
    assert_eq!(theirs().await.status, 200);
    drop(held);
    assert_eq!(call("GET", "/").send(&world).await.status, 200);
    assert_eq!(world.shelf.memory.used(), 0);
}

/// A head counts, though nobody knows yet whose it is.
#[tokio::test]
async fn heads_that_find_no_memory_are_put_off() {
    let world = with_bucket_in(World::with_memory(400 * KIB).await).await;
    let large = || call("GET", "/").header("x-padding", &"p".repeat(40_000));
    assert_eq!(large().send(&world).await.status, 200);
    let held = world.shelf.memory.try_incoming(OTHER, 60 * KIB);
    let held = held.expect("room");
    assert_eq!(large().send(&world).await.error(), (503, "SlowDown".into()));
    drop(held);
    assert_eq!(large().send(&world).await.status, 200);
    assert_eq!(world.shelf.memory.used(), 0);
}
