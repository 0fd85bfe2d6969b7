//! Listeners: accepting, TLS, HTTP/1.1 and HTTP/2, draining.

use super::Rim;
use super::idle::{Impatient, Unread, Watched};
use crate::s3::{Cut, Face, PeerAddress, Window};
use http::header::{CONNECTION, EXPECT};
use http::uri::Scheme;
use http::{HeaderValue, Request, Version};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use megalith_identity::HttpsMaterial;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// How long to wait after a failed accept (if there are no file descriptors, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The most headers of a request: two KiB of user metadata may be hundreds of headers.
const HEADERS_MAX: usize = 1024;
/// The most requests of one HTTP/2 connection at a time. Each may hold a head.
const STREAMS_MAX: u32 = 32;
/// The most bytes of bodies that an HTTP/2 connection holds before they are read; memory is
/// reserved for them.
const WINDOW_BYTES: u32 = 256 * 1024;
/// The most bytes of an answer that wait for an HTTP/2 client, for each request.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Whether a listener's connections are encrypted.
pub(super) enum TransportSecurity {
    Plain,
    Tls(Arc<HttpsMaterial>),
}

/// A listener at work.
pub(super) struct Listening {
    pub(super) socket: TcpListener,
    pub(super) security: TransportSecurity,
    pub(super) face: Arc<Face>,
    pub(super) rim: Rim,
}

impl Listening {
    /// Accepts connections until the stop.
    pub(super) async fn run(self) {
        let room = Arc::new(Semaphore::new(self.rim.limits.connections_max));
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.rim.stop.cancelled() => return,
                accepted = self.accept(&room) => accepted,
            };
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let acceptor = match &self.security {
                TransportSecurity::Plain => None,
                TransportSecurity::Tls(material) => {
                    Some(TlsAcceptor::from(material.server_config()))
                }
            };
            let (face, rim) = (Arc::clone(&self.face), self.rim.clone());
            self.rim.tasks.spawn(async move {
                // Held as long as the connection lives.
                let _permit = permit;
                connection(stream, acceptor, face, rim).await;
            });
        }
    }

    async fn accept(
        &self,
        room: &Arc<Semaphore>,
    ) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        let permit = Arc::clone(room)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, _) = self.socket.accept().await?;
        // A connection that is gone already must not hold up the others, as a failed accept does.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection waits for full packets");
        }
        Ok((stream, permit))
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, face: Arc<Face>, rim: Rim) {
    let unread = Unread::default();
    let peer = stream.peer_addr().ok().map(PeerAddress);
    let stream = Impatient::new(stream, rim.limits.idle_timeout, unread.clone());
    match acceptor {
        None => serve(stream, (peer, Scheme::HTTP), unread, face, rim).await,
        Some(acceptor) => {
            let handshake = timeout(rim.limits.handshake_timeout, acceptor.accept(stream));
            match handshake.await {
                Ok(Ok(stream)) => {
                    serve(stream, (peer, Scheme::HTTPS), unread, face, rim).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        }
    }
}

/// Serves one connection until it ends, the drain ends it, or its deadline breaks it off.
async fn serve<S>(
    stream: S,
    (peer, scheme): (Option<PeerAddress>, Scheme),
    unread: Unread,
    face: Arc<Face>,
    rim: Rim,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let window = Window::new(u64::from(WINDOW_BYTES));
    let cut = Cut::default();
    let cut_by_reader = cut.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (face, unread) = (Arc::clone(&face), unread.clone());
        let is_http1 = request.version() < Version::HTTP_2;
        // A body without bytes is never asked for, so a client that waits to be asked gets its
        // answer instead. botocore then takes that status line for the next answer's as well.
        let never_asked = request.headers().contains_key(EXPECT) && request.body().is_end_stream();
        let mut request = request.map(|body| Watched::new(body, unread.clone()));
        request.extensions_mut().insert(scheme.clone());
        request.extensions_mut().insert(cut_by_reader.clone());
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        if !is_http1 {
            request.extensions_mut().insert(window.clone());
        }
        async move {
            let mut response = face.answer(request).await;
            if is_http1 && (unread.is_set() || never_asked) {
                // The connection is closed, so the client must not send its next request on it.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(rim.limits.head_timeout)
        .max_buf_size(rim.limits.head_bytes_max)
        .max_headers(HEADERS_MAX)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(rim.limits.head_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(rim.limits.head_timeout)
        .keep_alive_timeout(rim.limits.idle_timeout);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut serving => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection broke");
                }
                return;
            }
            () = rim.abort.cancelled() => return,
            () = cut.wanted() => return,
            () = rim.stop.cancelled(), if !draining => {
                draining = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests;
