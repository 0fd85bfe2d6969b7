//! Accepts connections whose peer is known, within limits, and ends them.

use crate::Shares;
use megalith_identity::{IdentifiedStream, TlsMaterial, accept_within};
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Limits of one listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Connections of known peers at a time; more are closed at once.
    pub connections_max: usize,
    /// The same of one peer.
    pub connections_per_peer_max: u64,
    /// Handshakes at a time; more wait in the system's queue.
    pub handshakes_max: usize,
    pub handshake_deadline: Duration,
    /// A peer that takes none of our bytes for this long is cut off.
    pub write_deadline: Duration,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            connections_per_peer_max: 1024,
            handshakes_max: 256,
            handshake_deadline: Duration::from_secs(5),
            write_deadline: Duration::from_secs(10),
        }
    }
}

/// Ends listeners and their connections: first gracefully, then at once.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// No new connections; open ones end after the request in flight.
    pub polite: CancellationToken,
    /// Everything ends.
    pub hard: CancellationToken,
    /// The tasks that must end.
    pub tasks: TaskTracker,
}

impl Shutdown {
    /// Builds one for no task yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses new work, lets requests in flight end until `deadline`, then cuts them off.
    pub async fn stop(&self, deadline: Duration) {
        self.polite.cancel();
        self.tasks.close();
        if timeout(deadline, self.tasks.wait()).await.is_err() {
            tracing::info!(tasks = self.tasks.len(), "cut off what did not end in time");
        }
        self.hard.cancel();
        self.tasks.wait().await;
    }
}

/// Accepts connections until the shutdown and serves each on a task of its own. One whose peer is
/// denied meanwhile ends at once.
pub async fn listen<F>(
    listener: TcpListener,
    material: Arc<TlsMaterial>,
    settings: ListenerSettings,
    shutdown: Shutdown,
    serve: impl Fn(Guarded, CancellationToken) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let handshakes = Arc::new(Semaphore::new(settings.handshakes_max));
    let connections = Arc::new(Semaphore::new(settings.connections_max));
    let of_peers = Shares::default();
    let serve = Arc::new(serve);
    loop {
        let accepted = async {
            let permit = handshakes.clone().acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            (permit, listener.accept().await)
        };
        let (handshake, accepted) = tokio::select! {
            biased;
            () = shutdown.polite.cancelled() => return,
            accepted = accepted => accepted,
        };
        let tcp = match accepted {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                // Usually there are no file descriptors left: connections wait in the queue until
                // some are free.
                tracing::warn!(%error, "accept a connection");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (material, settings) = (material.clone(), settings.clone());
        let (connections, serve) = (connections.clone(), serve.clone());
        let of_peers = of_peers.clone();
        let (polite, hard) = (shutdown.polite.clone(), shutdown.hard.clone());
        shutdown.tasks.spawn(async move {
            let work = async {
                let stream = accept_within(tcp, &material, settings.handshake_deadline).await;
                drop(handshake);
                let stream = match stream {
                    Ok(stream) => stream,
                    Err(error) => {
                        let error: &dyn Error = &error;
                        tracing::debug!(error, "refused a connection");
                        return;
                    }
                };
                let share = of_peers.take(stream.peer(), 1, settings.connections_per_peer_max);
                let Some(_share) = share else {
                    tracing::warn!(peer = %stream.peer(), "too many connections of this peer");
                    return;
                };
                let Ok(_connection) = connections.try_acquire_owned() else {
                    tracing::warn!(peer = %stream.peer(), "too many connections");
                    return;
                };
                let peer = stream.peer().clone();
                let served = serve(Guarded::new(stream, settings.write_deadline), polite);
                tokio::select! {
                    biased;
                    () = material.denials().denied(&peer) => {
                        let serial = peer.serial();
                        tracing::warn!(%peer, %serial, "ended a connection of a denied certificate");
                    }
                    () = served => {}
                }
            };
            tokio::select! {
                () = hard.cancelled() => {}
                () = work => {}
            }
        });
    }
}

/// A connection that fails if its peer takes no bytes for too long.
pub struct Guarded {
    stream: IdentifiedStream,
    deadline: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    fn new(stream: IdentifiedStream, deadline: Duration) -> Self {
        Self {
            stream,
            deadline,
            waiting: None,
        }
    }

    /// Returns the connection, with its peer.
    #[must_use]
    pub fn stream(&self) -> &IdentifiedStream {
        &self.stream
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = None;
            return poll;
        }
        let deadline = self.deadline;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + deadline)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.judge(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, poll)
    }
}
