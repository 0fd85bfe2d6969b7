//! A cluster's certificates, and servers that say what a test wants.

#![allow(
    dead_code,
    reason = "each test binary uses a part of it, so an expectation would fail in some"
)]

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use megalith_client::{CallSettings, Endpoint};
use megalith_identity::{Authority, IssueRequest, Role, TlsMaterial, accept};
use megalith_model::ids::{ClusterId, NodeId};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tonic::body::Body;
use tower::Service;

/// An authority, and the directories of those it has signed for.
pub struct Certificates {
    dir: TempDir,
    authority: Authority,
}

impl Certificates {
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let authority = Authority::create(&dir.path().join("ca"), ClusterId([3; 16]));
        Self {
            dir,
            authority: authority.expect("an authority"),
        }
    }

    pub fn issue(&self, role: Role, id: u32) -> Arc<TlsMaterial> {
        let request = IssueRequest {
            grants: vec![(role, id)],
            hosts: vec!["localhost".into()],
            days: 1,
        };
        let dir = self.dir.path().join(format!("{role}-{id}"));
        let bundle = self.authority.issue(&request).expect("a bundle");
        bundle.save(&dir).expect("saved");
        TlsMaterial::load(&dir).expect("loaded")
    }
}

/// A running server; stops, with its connections, when dropped.
pub struct Server {
    pub address: String,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves a generated service as the member that `material` names.
pub async fn serve_grpc<S>(material: Arc<TlsMaterial>, service: S) -> Server
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    serve(material, move |stream| {
        let service = TowerToHyperService::new(service.clone());
        async move {
            let _ended = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

/// Serves connections as the member that `material` names.
pub async fn serve<F>(
    material: Arc<TlsMaterial>,
    serve: impl Fn(megalith_identity::IdentifiedStream) -> F + Send + 'static,
) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (tcp, _) = listener.accept().await.expect("accepted");
            if let Ok(stream) = accept(tcp, &material).await {
                connections.spawn(serve(stream));
            }
        }
    });
    Server { address, task }
}

pub fn endpoint(node: u32, address: &str) -> Endpoint {
    Endpoint {
        node: NodeId(node),
        address: address.to_owned(),
    }
}

/// Returns an address without a listener.
pub async fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    listener.local_addr().expect("an address").to_string()
}

/// Short enough for tests of silence, long enough for a busy machine to answer.
pub fn quick() -> CallSettings {
    CallSettings {
        propose_deadline: Duration::from_secs(5),
        query_deadline: Duration::from_secs(5),
        attempt_deadline: Duration::from_millis(500),
        hedge_after: Duration::from_millis(50),
        ..CallSettings::default()
    }
}
