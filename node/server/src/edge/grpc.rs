//! The gRPC listener: finds the service of a call after its peer is known and allowed.
//!
//! Everything here comes before any service, so that an unknown method is refused like a forbidden
//! one and no service has to think of it.

use super::access;
use super::held::{HeldBytes, Holding, Metered};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use megalith_identity::{PeerIdentity, Role, TlsMaterial};
use megalith_serve::listener::{Guarded, ListenerSettings, Shutdown, listen};
use megalith_serve::{Share, Shares};
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

/// The most bytes of a call's head.
const HEAD_LEN_MAX: u32 = 16 * 1024;
/// Bytes a peer may send on one call, and on all, before they are read.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Limits of the gRPC listener.
#[derive(Clone, Debug)]
pub struct GrpcEdgeSettings {
    pub listener: ListenerSettings,
    /// Calls at a time on one connection.
    pub calls_max: u32,
    /// Calls at a time of one peer, on all its connections. A call lasts until its answer is out.
    pub calls_per_peer_max: u64,
    /// The same of a gateway, which calls for all its clients.
    pub calls_per_gateway_max: u64,
    /// Of them those whose answers have no end, such as maps.
    pub streams_per_peer_max: u64,
    /// Bytes of requests of one peer that are on the way at a time.
    pub bytes_per_peer_max: u64,
    /// A silent connection is asked whether it lives this often.
    pub keep_alive_interval: Duration,
    /// A peer that doesn't answer that within this time is cut off.
    pub keep_alive_timeout: Duration,
    /// At a shutdown calls in flight have so long; streams have no other end.
    pub drain_deadline: Duration,
}

impl Default for GrpcEdgeSettings {
    fn default() -> Self {
        Self {
            listener: ListenerSettings {
                connections_per_peer_max: 256,
                ..ListenerSettings::default()
            },
            calls_max: 1024,
            calls_per_peer_max: 256,
            calls_per_gateway_max: 2048,
            streams_per_peer_max: 64,
            bytes_per_peer_max: 64 * 1024 * 1024,
            keep_alive_interval: Duration::from_secs(5),
            keep_alive_timeout: Duration::from_secs(5),
            drain_deadline: Duration::from_secs(2),
        }
    }
}

type BoxedService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The services of one node, to be served on one listener.
#[derive(Clone)]
pub struct GrpcEdge {
    services: HashMap<&'static str, BoxedService>,
    settings: GrpcEdgeSettings,
    calls: Shares,
    streams: Shares,
    bytes: Shares,
}

impl GrpcEdge {
    /// Builds an edge without services.
    #[must_use]
    pub fn new(settings: GrpcEdgeSettings) -> Self {
        Self {
            services: HashMap::new(),
            settings,
            calls: Shares::default(),
            streams: Shares::default(),
            bytes: Shares::default(),
        }
    }

    /// Adds a generated service.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.services
            .insert(S::NAME, BoxCloneSyncService::new(service));
        self
    }

    /// Serves until the shutdown.
    pub async fn serve(
        self,
        listener: TcpListener,
        material: Arc<TlsMaterial>,
        shutdown: Shutdown,
    ) {
        let settings = self.settings.listener.clone();
        let edge = Arc::new(self);
        let serve = move |stream, stop| serve_connection(edge.clone(), stream, stop);
        listen(listener, material, settings, shutdown, serve).await;
    }

    /// Answers one call, or refuses it before any service has seen it.
    async fn call(&self, peer: Arc<PeerIdentity>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        if !access::may_call(path, &peer) {
            tracing::warn!(%peer, path, "refused a call");
            return Status::permission_denied("this role may not call this method").into_http();
        }
        // Allowed by the table, so it has the form /service/method.
        let name = path.split('/').nth(1).unwrap_or_default();
        let Some(service) = self.services.get(name) else {
            return Status::unimplemented("this node does not have that role").into_http();
        };
        let Some((shares, bytes)) = self.shares(&peer, path) else {
            tracing::debug!(%peer, path, "too many calls of this peer");
            return Status::resource_exhausted("too many calls of this peer").into_http();
        };
        let mut request = match &bytes {
            Some(bytes) => request.map(|body| Body::new(Metered::new(body, bytes.clone()))),
            None => request.map(Body::new),
        };
        request.extensions_mut().insert(peer);
        // The bytes are given back when there is an answer: until then the message is in memory.
        match service.clone().oneshot(request).await {
            Ok(response) => response.map(|body| Body::new(Holding::new(body, shares))),
            Err(never) => match never {},
        }
    }

    /// Takes what a call needs of its peer's shares; None if the peer has too many calls.
    fn shares(&self, peer: &PeerIdentity, path: &str) -> Option<(Vec<Share>, Option<HeldBytes>)> {
        let settings = &self.settings;
        let calls_max = match peer.has(Role::Gateway) {
            true => settings.calls_per_gateway_max,
            false => settings.calls_per_peer_max,
        };
        let mut shares = vec![self.calls.take(peer, 1, calls_max)?];
        if access::has_no_end(path) {
            shares.push(self.streams.take(peer, 1, settings.streams_per_peer_max)?);
        }
        // What members send each other without an end is taken in as it comes.
        let bytes = match access::is_between_members(path) {
            true => None,
            false => Some(self.bytes.take(peer, 0, settings.bytes_per_peer_max)?),
        };
        Some((shares, bytes.map(|bytes| Arc::new(Mutex::new(bytes)))))
    }
}

async fn serve_connection(edge: Arc<GrpcEdge>, stream: Guarded, stop: CancellationToken) {
    let peer = stream.stream().peer().clone();
    let settings = edge.settings.clone();
    let service = hyper::service::service_fn(move |request| {
        let (edge, peer) = (edge.clone(), peer.clone());
        async move { Ok::<_, Infallible>(edge.call(peer, request).await) }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_LEN_MAX)
        .max_concurrent_streams(settings.calls_max)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(settings.keep_alive_interval)
        .keep_alive_timeout(settings.keep_alive_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(settings.drain_deadline, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "gRPC connection ended");
    }
}
