//! The newest cluster map, kept at hand.
//!
//! A task follows the leader's stream. It also tells all clients that share the roster who the
//! members are, and its own connections which certificates are denied. It ends when the last
//! [`MapWatch`] is dropped. Keep-alive on the connection notices a dead or frozen leader; a deposed
//! one sends a redirect.

use crate::backoff::Backoff;
use crate::cluster::{ClusterClient, MapStream, said_of_update};
use crate::error::{ClientError, chain};
use crate::group::{Endpoint, Member, Said};
use megalith_model::codec;
use megalith_model::ids::NodeId;
use megalith_model::level::OutOfRange;
use megalith_model::topology::ClusterMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long there may be no stream before it is said.
const SAID_AFTER: Duration = Duration::from_secs(5);

/// Holds the newest map. Cheap to clone.
#[derive(Clone)]
pub struct MapWatch {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: ClusterClient,
    newest: watch::Sender<Arc<ClusterMap>>,
    /// How many refreshes have begun.
    begun: AtomicU64,
    /// The number (see `begun`) of the last refresh that succeeded; locked while one runs.
    succeeded: Mutex<u64>,
    task: JoinHandle<()>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MapWatch {
    /// Starts to follow the leader's map. Until the first one arrives the map is empty, of term 0
    /// and version 0.
    #[must_use]
    pub fn start(cluster: ClusterClient) -> Self {
        let (newest, _) = watch::channel(Arc::new(ClusterMap::default()));
        let task = tokio::spawn(follow(cluster.clone(), newest.clone()));
        Self {
            shared: Arc::new(Shared {
                cluster,
                newest,
                begun: AtomicU64::new(0),
                succeeded: Mutex::new(0),
                task,
            }),
        }
    }

    /// Returns the newest map.
    #[must_use]
    pub fn current(&self) -> Arc<ClusterMap> {
        self.shared.newest.borrow().clone()
    }

    /// Returns a receiver that sees newer maps; it may skip some.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterMap>> {
        self.shared.newest.subscribe()
    }

    /// Waits until the cluster is at a level that this program can't run: then the process stops
    /// itself.
    pub async fn outgrown(&self) -> OutOfRange {
        self.shared.cluster.outgrown().await
    }

    /// Waits for a map that satisfies `wanted`. Never ends if none comes: the caller sets a
    /// deadline.
    pub async fn wait_for(&self, wanted: impl Fn(&ClusterMap) -> bool) -> Arc<ClusterMap> {
        let mut maps = self.subscribe();
        let found = maps.wait_for(|map| wanted(map)).await;
        found.expect("we hold the sender").clone()
    }

    /// Asks the leader for its map now, and returns the newest known. Callers that ask at the same
    /// time share one call.
    pub async fn refresh(&self) -> Result<Arc<ClusterMap>, ClientError> {
        let shared = &*self.shared;
        let seen = shared.begun.load(Ordering::SeqCst);
        let mut succeeded = shared.succeeded.lock().await;
        // A refresh that began after our call has brought what we want.
        if *succeeded <= seen {
            let number = shared.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let map = shared.cluster.fetch_map().await?;
            keep(&shared.newest, map);
            *succeeded = number;
        }
        Ok(self.current())
    }
}

fn keep(newest: &watch::Sender<Arc<ClusterMap>>, map: ClusterMap) {
    newest.send_if_modified(|held| {
        let newer = map.is_newer_than(held);
        if newer {
            *held = Arc::new(map);
        }
        newer
    });
}

async fn follow(cluster: ClusterClient, newest: watch::Sender<Arc<ClusterMap>>) {
    let mut backoff = Backoff::new();
    let mut failed: Vec<NodeId> = Vec::new();
    // Since when there has been no stream, and whether that was said.
    let (mut lost, mut told) = (None, false);
    loop {
        let Some((member, stream)) = cluster.watch_once(&failed).await else {
            sleep(backoff.step()).await;
            failed.clear();
            continue;
        };
        let mut got_map = false;
        // A member that restarts is no news: another one has the stream soon.
        let since = *lost.get_or_insert_with(Instant::now);
        let end = match stream {
            MapStream::Failed(reason) => End::Lost(reason),
            MapStream::Open(stream) => read(&cluster, &member, stream, &newest, &mut got_map).await,
        };
        if got_map {
            backoff = Backoff::new();
            failed.clear();
            lost = None;
            if std::mem::take(&mut told) {
                tracing::info!("members give the cluster map again");
            }
        }
        match end {
            End::Redirected(Some(leader)) if !failed.contains(&leader) => {
                // Two members that name each other must not cause a busy loop.
                failed.push(member.node);
            }
            End::Redirected(_) => failed.push(member.node),
            End::Lost(reason) => {
                cluster.group().demote(&member);
                failed.push(member.node);
                tracing::debug!(node = member.node.0, reason, "no stream of the cluster map");
                if !got_map && !told && since.elapsed() >= SAID_AFTER {
                    let silent_s = since.elapsed().as_secs();
                    tracing::warn!(
                        node = member.node.0,
                        reason,
                        silent_s,
                        "no member gives the cluster map"
                    );
                    told = true;
                }
            }
        }
    }
}

enum End {
    Redirected(Option<NodeId>),
    Lost(String),
}

async fn read(
    cluster: &ClusterClient,
    member: &Member,
    mut stream: Box<tonic::Streaming<megalith_proto::v1::MapUpdate>>,
    newest: &watch::Sender<Arc<ClusterMap>>,
    got_map: &mut bool,
) -> End {
    loop {
        // The first update comes at once, later ones when something changes.
        let next = if *got_map {
            stream.message().await
        } else {
            let limit = cluster.group().settings.attempt_deadline;
            match timeout(limit, stream.message()).await {
                Ok(next) => next,
                Err(_) => return End::Lost(format!("silent for {limit:?}")),
            }
        };
        let update = match next {
            Ok(Some(update)) => {
                let members = update.members.iter().map(|member| Endpoint {
                    node: NodeId(member.node),
                    address: member.address.clone(),
                });
                cluster.group().tell(members.collect());
                cluster.group().hear_denied(&update);
                cluster.group().roster.hear_level(update.level);
                said_of_update(update)
            }
            Ok(None) => return End::Lost("the stream ended".into()),
            Err(status) => return End::Lost(chain(&status)),
        };
        match update {
            Ok(Said::Answer(bytes)) => match codec::decode(&bytes) {
                Ok(map) => {
                    *got_map = true;
                    cluster.group().prefer(crate::group::Ask::Leader, member);
                    keep(newest, map);
                }
                Err(error) => return End::Lost(format!("an unreadable map: {error}")),
            },
            Ok(Said::NotLeader(hint)) => {
                return End::Redirected(cluster.group().follow(member, &hint));
            }
            Ok(Said::Again(why)) => return End::Lost(why.into()),
            Err(status) => return End::Lost(chain(&status)),
        }
    }
}
