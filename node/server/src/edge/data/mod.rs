//! The data listener: shard bytes over HTTP/1.1, as `docs/formats/data-plane.md` says.
//!
//! `request` reads heads, `put` and `get` do the work, `answer` writes what comes of it.

mod answer;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod get;
mod put;
mod request;

pub(super) use answer::Refused;

use super::access;
use super::admission::Admission;
use answer::DataAnswer;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use megalith_client::DataFault;
use megalith_identity::{PeerIdentity, TlsMaterial};
use megalith_serve::Shares;
use megalith_serve::listener::{Guarded, ListenerSettings, Shutdown, listen};
use megalith_store::Disks;
use request::Wanted;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The most bytes of a request's head.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// The most header fields of a request, and of its trailers.
const FIELDS_MAX: usize = 32;
/// hyper's buffers: room for some cells, so that bytes move in few pieces.
const BUFFER_LEN_MAX: usize = 512 * 1024;

/// Limits of the data listener.
#[derive(Clone, Debug)]
pub struct DataEdgeSettings {
    pub listener: ListenerSettings,
    /// Bytes of cells that one peer may have read and not taken yet, in all its requests.
    pub read_bytes_per_peer_max: u64,
    /// The same of a gateway, which reads for all its clients.
    pub read_bytes_per_gateway_max: u64,
    /// For a whole head to come; an idle connection is closed after it too.
    pub head_deadline: Duration,
    /// Between two pieces of a body.
    pub body_deadline: Duration,
    /// How long to discard the rest of a body after an early refusal.
    pub linger_deadline: Duration,
    /// The most bytes to discard of it.
    pub linger_len_max: u64,
}

impl Default for DataEdgeSettings {
    fn default() -> Self {
        Self {
            listener: ListenerSettings::default(),
            read_bytes_per_peer_max: 64 * 1024 * 1024,
            read_bytes_per_gateway_max: 512 * 1024 * 1024,
            head_deadline: Duration::from_secs(60),
            body_deadline: Duration::from_secs(10),
            linger_deadline: Duration::from_secs(2),
            linger_len_max: 8 * 1024 * 1024,
        }
    }
}

/// Shards of this node's disks, to be written and read.
pub struct DataEdge {
    disks: Arc<Disks>,
    admission: Admission,
    settings: DataEdgeSettings,
    shutdown: Shutdown,
    /// Bytes that have been read for peers.
    reads: Shares,
}

impl DataEdge {
    /// Builds the edge before `disks`; `admission` judges every write.
    #[must_use]
    pub fn new(
        disks: Arc<Disks>,
        admission: Admission,
        settings: DataEdgeSettings,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            disks,
            admission,
            settings,
            shutdown,
            reads: Shares::default(),
        }
    }

    /// Serves until the shutdown.
    pub async fn serve(self, listener: TcpListener, material: Arc<TlsMaterial>) {
        let (settings, shutdown) = (self.settings.listener.clone(), self.shutdown.clone());
        let edge = Arc::new(self);
        let serve = move |stream, stop| serve_connection(edge.clone(), stream, stop);
        listen(listener, material, settings, shutdown, serve).await;
    }

    async fn answer(
        &self,
        peer: &PeerIdentity,
        request: Request<Incoming>,
    ) -> Response<DataAnswer> {
        if !access::has_one(peer, access::DATA_ROLES) {
            tracing::warn!(%peer, "refused a request for shards");
            let refused = Refused::new(DataFault::Forbidden, "this role has no business here");
            return answer::refusal(&refused);
        }
        let (head, body) = request.into_parts();
        match request::read(&head) {
            Ok(Wanted::Put(wanted)) => put::put(self, peer, wanted, body).await,
            Ok(Wanted::Get(wanted)) => get::get(self, peer, wanted).await,
            Err(refused) => {
                self.linger(body);
                answer::refusal(&refused)
            }
        }
    }

    /// Throws the rest of a body away for a moment, so that the answer that was given early isn't
    /// lost in the reset that closing a socket with unread bytes causes.
    fn linger(&self, body: Incoming) {
        let (deadline, limit) = (self.settings.linger_deadline, self.settings.linger_len_max);
        let stop = self.shutdown.hard.clone();
        self.shutdown.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = tokio::time::timeout(deadline, put::discard(body, limit)) => {}
            }
        });
    }
}

async fn serve_connection(edge: Arc<DataEdge>, stream: Guarded, stop: CancellationToken) {
    let peer = stream.stream().peer().clone();
    let head_deadline = edge.settings.head_deadline;
    let service = hyper::service::service_fn(move |request| {
        let (edge, peer) = (edge.clone(), peer.clone());
        async move { Ok::<_, Infallible>(edge.answer(&peer, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_deadline)
        .max_headers(FIELDS_MAX)
        .max_header_size(HEAD_LEN_MAX)
        .max_buf_size(BUFFER_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "data connection ended");
    }
}
