//! The client's side: a worker for each peer keeps one stream of messages to it.

use super::{Connector, SnapshotPieces, Transport};
use crate::log::node_of;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use megalith_model::ids::NodeId;
use megalith_proto::v1;
use megalith_proto::v1::raft_transport_client::RaftTransportClient;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

/// The most bytes of one message between members; raft's own limit is far below.
pub(super) const MESSAGE_LEN_MAX: usize = 16 << 20;
/// Messages handed to the connection ahead of the peer.
const STREAM_LEN: usize = 64;

/// What one process may choose about its connections to other members.
#[derive(Clone, Copy, Debug)]
pub struct TransportSettings {
    /// Messages that may wait for one peer. Default 4,096.
    pub queue_len: usize,
    /// Bytes of messages that may wait for one peer. Default 64 MiB.
    pub queue_bytes: usize,
    /// The first pause after a failed connection; doubles. Default 50 ms.
    pub backoff_min: Duration,
    /// The longest pause. Default 1 s: a peer that comes back should be heard at once.
    pub backoff_max: Duration,
    /// A connection takes at most so long. Default 2 s.
    pub connect_deadline: Duration,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            queue_len: 4096,
            queue_bytes: 64 << 20,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            connect_deadline: Duration::from_secs(2),
        }
    }
}

/// Members connected by gRPC.
pub struct GrpcTransport {
    connector: Arc<dyn Connector>,
    settings: TransportSettings,
    runtime: Handle,
    stop: CancellationToken,
    peers: Mutex<HashMap<NodeId, Peer>>,
}

/// The queue of one peer.
struct Peer {
    queue: mpsc::Sender<v1::RaftMessage>,
    bytes: Arc<AtomicUsize>,
}

impl GrpcTransport {
    /// Connects by `connector`; workers run on `runtime` until `stop`.
    #[must_use]
    pub fn new(
        connector: Arc<dyn Connector>,
        settings: TransportSettings,
        runtime: Handle,
        stop: CancellationToken,
    ) -> Self {
        Self {
            connector,
            settings,
            runtime,
            stop,
            peers: Mutex::new(HashMap::new()),
        }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, node: NodeId) -> Peer {
        let (queue, messages) = mpsc::channel(self.settings.queue_len);
        let bytes = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            node,
            connector: self.connector.clone(),
            settings: self.settings,
            messages,
            bytes: bytes.clone(),
        };
        let stop = self.stop.clone();
        self.runtime.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = worker.run() => {}
            }
        });
        Peer { queue, bytes }
    }
}

impl GrpcTransport {
    fn connect(&self, peer: NodeId) -> BoxFuture<'static, Result<Channel, Status>> {
        let connecting = self.connector.connect(peer);
        let deadline = self.settings.connect_deadline;
        async move {
            tokio::time::timeout(deadline, connecting)
                .await
                .map_err(|_| Status::unavailable("no connection in time"))?
                .map_err(|error| Status::unavailable(error.to_string()))
        }
        .boxed()
    }
}

impl Transport for GrpcTransport {
    fn send(&self, message: v1::RaftMessage) -> bool {
        let Some(node) = node_of(message.to) else {
            return false;
        };
        let mut peers = self.peers();
        let peer = peers.entry(node).or_insert_with(|| self.start(node));
        let bytes = weight(&message);
        if peer.bytes.load(Ordering::Relaxed) + bytes > self.settings.queue_bytes {
            return false;
        }
        peer.bytes.fetch_add(bytes, Ordering::Relaxed);
        let queued = peer.queue.try_send(message).is_ok();
        if !queued {
            peer.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        queued
    }

    fn snapshot(
        &self,
        peer: NodeId,
        request: v1::SnapshotRequest,
    ) -> BoxFuture<'static, Result<SnapshotPieces, Status>> {
        let connecting = self.connect(peer);
        async move {
            let channel = connecting.await?;
            let mut client =
                RaftTransportClient::new(channel).max_decoding_message_size(MESSAGE_LEN_MAX);
            let pieces = client.snapshot(request).await?.into_inner();
            Ok(pieces.boxed())
        }
        .boxed()
    }

    fn knock(
        &self,
        peer: NodeId,
        request: v1::KnockRequest,
    ) -> BoxFuture<'static, Result<v1::KnockReply, Status>> {
        let connecting = self.connect(peer);
        async move {
            let mut client = RaftTransportClient::new(connecting.await?);
            Ok(client.knock(request).await?.into_inner())
        }
        .boxed()
    }
}

/// Sends what is queued for one peer.
struct Worker {
    node: NodeId,
    connector: Arc<dyn Connector>,
    settings: TransportSettings,
    messages: mpsc::Receiver<v1::RaftMessage>,
    bytes: Arc<AtomicUsize>,
}

impl Worker {
    async fn run(mut self) {
        let mut pause = self.settings.backoff_min;
        loop {
            let error = match self.stream(&mut pause).await {
                Ok(()) => return,
                Err(error) => error,
            };
            tracing::debug!(peer = %self.node, error, "no stream to a metadata member");
            // What waits is old by the time there is a connection again.
            while let Ok(message) = self.messages.try_recv() {
                self.bytes.fetch_sub(weight(&message), Ordering::Relaxed);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.settings.backoff_max);
        }
    }

    /// Connects and sends until the stream breaks. Ok if the sender has gone.
    async fn stream(&mut self, pause: &mut Duration) -> Result<(), String> {
        let connecting = self.connector.connect(self.node);
        let channel = tokio::time::timeout(self.settings.connect_deadline, connecting)
            .await
            .map_err(|_| "no connection in time".to_owned())?
            .map_err(|error| format!("{error}: {}", error.source))?;
        let mut client =
            RaftTransportClient::new(channel).max_encoding_message_size(MESSAGE_LEN_MAX);
        let (sender, stream) = mpsc::channel(STREAM_LEN);
        let call = client.messages(ReceiverStream::new(stream));
        tokio::pin!(call);
        loop {
            let next = async {
                let permit = sender.reserve().await.ok()?;
                // Cancel-safe: nothing is taken off the queue without a place to put it.
                Some((permit, self.messages.recv().await))
            };
            tokio::select! {
                ended = &mut call => {
                    return Err(match ended {
                        Ok(_) => "the peer ended the stream".to_owned(),
                        Err(status) => status.to_string(),
                    });
                }
                next = next => {
                    let (permit, message) = next.ok_or("the stream is closed")?;
                    let Some(message) = message else { return Ok(()) };
                    self.bytes.fetch_sub(weight(&message), Ordering::Relaxed);
                    permit.send(message);
                    *pause = self.settings.backoff_min;
                }
            }
        }
    }
}

/// What a message costs while it waits.
pub(crate) fn weight(message: &v1::RaftMessage) -> usize {
    let entries = message.entries.iter();
    128 + entries
        .map(|entry| 64 + entry.data.len() + entry.context.len())
        .sum::<usize>()
}
