//! A whole node: its disks, its listeners, its registration, started and stopped together.
//!
//! Owns what the end of a task means: listeners, registration and upkeep run until the stop; one
//! that ends by itself is a defect, ends the node ([`RunningNode::wait`]) and leaves the restart to
//! whoever runs it.

mod config;
mod deny_file;
mod disks;
pub mod edge;
mod keeper;
mod metadata;
mod registration;

pub use config::{ConfigError, ListenAddress, NodeConfig, NodeSettings, check_certificates};
pub use disks::{RebuiltSuperblock, init_disks, rebuild_superblock};
pub use megalith_metadata::directory::{examine_metadata, init_metadata, restore_metadata};
pub use megalith_metadata::{RepairError, Repairs};
pub use megalith_upkeep::orphans::OrphanSettings;
pub use metadata::{MetadataConfig, start_metadata};
pub use registration::Registration;

use crate::edge::{Admission, DataEdge, GrpcEdge, ShardService};
use crate::keeper::{Keeper, Upkeep};
use crate::registration::Registrar;
use megalith_client::{
    CallSettings, ClusterClient, DataClient, DataSettings, Endpoint, MapWatch, MetaClient, Roster,
};
use megalith_disk::RealFs;
use megalith_metadata::MetaFailure;
use megalith_model::claim::NodeClaim;
use megalith_model::ids::DiskId;
use megalith_model::level::OutOfRange;
use megalith_proto::v1::shard_control_server::ShardControlServer;
use megalith_serve::listener::Shutdown;
use megalith_store::{Disks, RebuildError, StoreError};
use megalith_upkeep::doubts;
use megalith_upkeep::doubts::Peers;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// A heartbeat is old news after this; the next one says more.
const HEARTBEAT_DEADLINE: Duration = Duration::from_secs(2);

/// A node that could not be started, or made.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration contradicts itself.
    #[error("configuration")]
    Config(#[source] ConfigError),
    /// A disk can't be used.
    #[error("disk {}", path.display())]
    Disk { path: PathBuf, source: StoreError },
    /// A superblock is not made again.
    #[error("rebuild the superblock of {}", path.display())]
    Rebuild { path: PathBuf, source: RebuildError },
    /// Two directories are one disk.
    #[error("{} is disk {disk}, which is open already", path.display())]
    SameDisk { path: PathBuf, disk: DiskId },
    /// A directory can't be made.
    #[error("create {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    /// A port can't be had.
    #[error("listen on {address}")]
    Listen { address: String, source: io::Error },
    /// The metadata role has stopped by itself.
    #[error("the metadata role has stopped")]
    Metadata(#[source] MetaFailure),
    /// The cluster is at a level that this program can't run.
    #[error(transparent)]
    Level(#[from] OutOfRange),
    /// A task ended that has no end.
    #[error("the node's {task} ended by itself")]
    Ended { task: String },
}

/// The metadata role, started by its own module, to be served on the node's listener.
pub struct MetadataPart {
    pub serve: Box<dyn FnOnce(GrpcEdge) -> GrpcEdge + Send>,
    /// Says that it has stopped by itself.
    pub failure: oneshot::Receiver<MetaFailure>,
    /// Lets another member lead, while everything is still served.
    pub hand_over: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Ends it, once nothing is served any more.
    pub stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A node that runs. Dropped without a stop it ends as in a crash.
pub struct RunningNode {
    /// By which others reach its gRPC listener.
    pub rpc_addr: String,
    /// By which others reach its data listener; None without disks.
    pub data_addr: Option<String>,
    registration: watch::Receiver<Registration>,
    tried: watch::Receiver<usize>,
    disks_wanted: usize,
    tasks: JoinSet<&'static str>,
    shutdown: Shutdown,
    drain_deadline: Duration,
    disks: Arc<Disks>,
    metadata: Option<MetadataEnd>,
    /// Ends if the node must stop by itself.
    must_end: Pin<Box<dyn Future<Output = NodeError> + Send>>,
}

/// How the metadata role is ended: before the listeners, and after them.
struct MetadataEnd {
    hand_over: Pin<Box<dyn Future<Output = ()> + Send>>,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// The ports of a node, bound before anything else so that the metadata role knows its address.
pub struct Ports {
    rpc: TcpListener,
    data: Option<TcpListener>,
    /// By which others reach the gRPC listener.
    pub rpc_addr: String,
    /// By which others reach the data listener; None without disks.
    pub data_addr: Option<String>,
}

impl Ports {
    /// Binds the ports of a node.
    pub async fn bind(config: &NodeConfig) -> Result<Self, NodeError> {
        let (rpc, rpc_addr) = bind(&config.rpc).await?;
        let (data, data_addr) = match config.disks.is_empty() {
            true => (None, None),
            false => {
                let (data, address) = bind(&config.data).await?;
                (Some(data), Some(address))
            }
        };
        Ok(Self {
            rpc,
            data,
            rpc_addr,
            data_addr,
        })
    }

    /// Returns the members of the metadata group, this node under the port that it has bound.
    #[must_use]
    pub fn members(&self, config: &NodeConfig) -> Vec<Endpoint> {
        let mut members = config.members.clone();
        for own in members
            .iter_mut()
            .filter(|member| member.node == config.node)
        {
            own.address.clone_from(&self.rpc_addr);
        }
        members
    }
}

async fn bind(address: &ListenAddress) -> Result<(TcpListener, String), NodeError> {
    let failed = |source| NodeError::Listen {
        address: address.bind.clone(),
        source,
    };
    let listener = TcpListener::bind(&address.bind).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, address.told(port)))
}

/// Starts a node on ports it has bound: serves, opens its disks beside that, and goes on trying to
/// join its cluster, whether or not that can be reached now.
pub async fn start(
    config: NodeConfig,
    ports: Ports,
    metadata: Option<MetadataPart>,
) -> Result<RunningNode, NodeError> {
    let is_member = metadata.is_some();
    config.check(is_member).map_err(NodeError::Config)?;
    let disks = Arc::new(Disks::default());
    let tried = Arc::new(watch::Sender::new(0));
    let members = ports.members(&config);
    let shutdown = Shutdown::new();
    let mut tasks = JoinSet::new();

    let mut grpc = GrpcEdge::new(config.settings.grpc.clone());
    let mut stop_metadata = None;
    let mut failure = None;
    if let Some(part) = metadata {
        grpc = (part.serve)(grpc);
        stop_metadata = Some(MetadataEnd {
            hand_over: part.hand_over,
            stop: part.stop,
        });
        failure = Some(part.failure);
    }
    let mut maps = None;
    let (state, registration) = watch::channel(Registration::Joining);
    if let (Some(data), Some(data_addr)) = (ports.data, &ports.data_addr) {
        grpc = grpc.with(ShardControlServer::new(ShardService::new(disks.clone())));
        let node = NodeClaim {
            id: config.node,
            rpc_address: ports.rpc_addr.clone(),
            data_address: data_addr.clone(),
            zone: config.zone.clone(),
            disks: Vec::new(),
        };
        let part = StoragePart {
            config: &config,
            members: &members,
            node,
            listener: data,
            disks: &disks,
            shutdown: &shutdown,
            state,
            tried: &tried,
        };
        maps = Some(part.start(&mut tasks));
    }
    let (material, ended) = (config.rpc_material(is_member), shutdown.clone());
    tasks.spawn(async move {
        grpc.serve(ports.rpc, material, ended).await;
        "gRPC listener"
    });
    tracing::info!(
        node = config.node.0,
        rpc = ports.rpc_addr,
        data = ports.data_addr,
        "node runs"
    );
    Ok(RunningNode {
        rpc_addr: ports.rpc_addr,
        data_addr: ports.data_addr,
        registration,
        tried: tried.subscribe(),
        disks_wanted: config.disks.len(),
        tasks,
        shutdown,
        drain_deadline: config.settings.drain_deadline,
        disks,
        metadata: stop_metadata,
        must_end: Box::pin(must_end(failure, maps)),
    })
}

/// Ends if the metadata role has stopped by itself, or the cluster has outgrown this program.
async fn must_end(
    failure: Option<oneshot::Receiver<MetaFailure>>,
    maps: Option<MapWatch>,
) -> NodeError {
    let failed = async {
        match failure {
            Some(failure) => match failure.await {
                Ok(failure) => NodeError::Metadata(failure),
                // It was stopped: no news.
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    };
    let outgrown = async {
        match maps {
            Some(maps) => maps.outgrown().await.into(),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        failed = failed => failed,
        outgrown = outgrown => outgrown,
    }
}

/// The storage role of a node: what it is made of.
struct StoragePart<'a> {
    config: &'a NodeConfig,
    members: &'a [Endpoint],
    node: NodeClaim,
    listener: TcpListener,
    disks: &'a Arc<Disks>,
    shutdown: &'a Shutdown,
    state: watch::Sender<Registration>,
    tried: &'a Arc<watch::Sender<usize>>,
}

impl StoragePart<'_> {
    /// Starts what a node with disks does; returns the maps that it follows.
    fn start(self, tasks: &mut JoinSet<&'static str>) -> MapWatch {
        let Self {
            config,
            members,
            node,
            listener,
            disks,
            shutdown,
            state,
            tried,
        } = self;
        let settings = config.settings.clone();
        let (material, calls) = (config.storage.clone(), settings.calls.clone());
        keep_denials(config, tasks);
        let roster = Roster::new(members);
        let meta = MetaClient::new(&roster, material.clone(), calls.clone());
        let heartbeats = CallSettings {
            query_deadline: HEARTBEAT_DEADLINE,
            attempt_deadline: HEARTBEAT_DEADLINE / 2,
            ..calls.clone()
        };
        // Heartbeats have their own connections: nothing shall hold them up.
        let beats = ClusterClient::new(&roster, material.clone(), heartbeats);
        let maps = MapWatch::start(ClusterClient::new(&roster, material.clone(), calls));
        let peers = Peers {
            data: DataClient::new(material.clone(), DataSettings::default()),
            maps: maps.clone(),
        };
        let admission = Admission::new(node.id, maps.clone(), meta.clone());
        let edge = DataEdge::new(
            disks.clone(),
            admission,
            settings.data.clone(),
            shutdown.clone(),
        );
        tasks.spawn(async move {
            edge.serve(listener, material).await;
            "data listener"
        });
        let (id, own, every) = (node.id, disks.clone(), settings.upkeep_interval);
        let upkeep = Upkeep {
            node: id,
            meta: meta.clone(),
            interval: every,
            fills_interval: settings.fills_interval,
            orphans: settings.orphans,
        };
        keep_disks(config, disks, upkeep, tried, tasks);
        tasks.spawn(async move {
            doubts::run(id, meta, own, peers, every).await;
            "doubts"
        });
        let (own, stopping) = (disks.clone(), shutdown.polite.clone());
        let (wanted, tried) = (config.disks.len(), tried.subscribe());
        tasks.spawn(async move {
            Registrar::new(beats, node, own, settings, state, tried)
                .run(wanted, stopping)
                .await;
            "registration"
        });
        maps
    }
}

/// Opens each disk beside everything else, and keeps it open.
fn keep_disks(
    config: &NodeConfig,
    disks: &Arc<Disks>,
    upkeep: Upkeep,
    tried: &Arc<watch::Sender<usize>>,
    tasks: &mut JoinSet<&'static str>,
) {
    let keeper = Keeper {
        cluster: config.storage.identity().cluster(),
        store: config.settings.store.clone(),
        retry_interval: config.settings.claim_interval,
        disks: disks.clone(),
        upkeep,
        tried: tried.clone(),
    };
    for path in config.disks.clone() {
        let keeper = keeper.clone();
        tasks.spawn(async move {
            keeper.run(path).await;
            "keeper of a disk"
        });
    }
}

/// Takes over the deny list that the disks have, and keeps every later one on them.
fn keep_denials(config: &NodeConfig, tasks: &mut JoinSet<&'static str>) {
    let denials = config.storage.denials().clone();
    if let Some(list) = deny_file::load(&RealFs, &config.disks) {
        denials.hear(list);
    }
    let kept = deny_file::keep(Arc::new(RealFs), config.disks.clone(), denials);
    tasks.spawn(async move {
        kept.await;
        "keeping the deny list"
    });
}

impl RunningNode {
    /// Returns how the node stands with the cluster, as it changes.
    #[must_use]
    pub fn registration(&self) -> watch::Receiver<Registration> {
        self.registration.clone()
    }

    /// Waits until every disk was opened, or could not be, for the first time.
    pub async fn disks_tried(&mut self) {
        let wanted = self.disks_wanted;
        // The sender lives as long as the node.
        let _ = self.tried.wait_for(|tried| *tried >= wanted).await;
    }

    /// Waits until the node ends by itself: by a defect, or because the cluster is at a level that
    /// this program can't run.
    pub async fn wait(&mut self) -> NodeError {
        let ended = tokio::select! {
            biased;
            why = &mut self.must_end => return why,
            ended = self.tasks.join_next() => ended,
        };
        let task = match ended {
            Some(Ok(task)) => task.to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "last task".to_owned(),
        };
        NodeError::Ended { task }
    }

    /// Stops in order: takes no new work, lets what is in flight end within the drain's deadline,
    /// makes durable what was accepted, closes the disks.
    pub async fn stop(mut self) {
        let stop_metadata = match self.metadata.take() {
            Some(end) => {
                end.hand_over.await;
                Some(end.stop)
            }
            None => None,
        };
        self.shutdown.stop(self.drain_deadline).await;
        // The listeners have ended; registration and upkeep are cut off wherever they are.
        self.tasks.shutdown().await;
        for disk in self.disks.all() {
            disk.stop().await;
        }
        if let Some(stop) = stop_metadata {
            stop.await;
        }
        tracing::info!("node stopped");
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        self.shutdown.polite.cancel();
        self.shutdown.hard.cancel();
    }
}

/// Returns random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
