//! The metadata role of a node: its way to the other members and its services. What is in its
//! directory, `megalith_metadata::directory` knows.

use super::{MetadataPart, NodeConfig, Ports};
use crate::edge::GrpcEdge;
use futures::FutureExt;
use futures::future::BoxFuture;
use megalith_client::{ChannelSettings, channel, now_ms};
use megalith_disk::RealFs;
use megalith_identity::{Role, TlsMaterial};
use megalith_metadata::backup;
use megalith_metadata::directory;
use megalith_metadata::engine::EngineSettings;
use megalith_metadata::placement::{ClusterService, Placement};
use megalith_metadata::transport::{ConnectError, Connector, GrpcTransport, TransportSettings};
use megalith_metadata::{AddressBook, MemberMemory, MetaFailure, MetaParts, StartError};
use megalith_model::denied::DenyList;
use megalith_model::ids::NodeId;
use megalith_proto::v1::cluster_server::ClusterServer;
use megalith_proto::v1::metadata_server::MetadataServer;
use megalith_proto::v1::raft_transport_server::RaftTransportServer;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// The most bytes of one call.
const MESSAGE_LEN_MAX: usize = megalith_client::MESSAGE_LEN_MAX;

/// The metadata role's own settings.
#[derive(Clone, Debug)]
pub struct MetadataConfig {
    /// The role's directory, made by [`directory::init_metadata`].
    pub dir: PathBuf,
    /// What its caches and queues may use.
    pub memory: MemberMemory,
    /// The embedded database that keeps the rows.
    pub engine: EngineSettings,
    /// How volumes are made.
    pub planner: megalith_placement::PlannerSettings,
}

/// Starts the metadata role of a node whose ports are bound.
pub fn start_metadata(
    config: &NodeConfig,
    ports: &Ports,
    metadata: MetadataConfig,
) -> Result<MetadataPart, StartError> {
    if backup::unfinished(&metadata.dir) {
        return Err(StartError::NotInitialised { dir: metadata.dir });
    }
    let members = ports.members(config);
    let addresses: BTreeMap<NodeId, String> = members
        .into_iter()
        .map(|member| (member.node, member.address))
        .collect();
    let addresses = Arc::new(AddressBook::new(config.node, addresses));
    let cluster = config.metadata.identity().cluster();
    let stop = CancellationToken::new();
    let connector = MemberConnector {
        addresses: addresses.clone(),
        material: Arc::clone(&config.metadata),
    };
    let transport = GrpcTransport::new(
        Arc::new(connector),
        TransportSettings::default(),
        Handle::current(),
        stop.clone(),
    );
    let (failed, failure) = oneshot::channel();
    let failed = Mutex::new(Some(failed));
    let on_failure = move |failure: MetaFailure| {
        // The first failure is the cause of any later one.
        if let Some(failed) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = failed.send(failure);
        }
    };
    let engines = directory::engines(&metadata.dir, metadata.engine);
    let parts = MetaParts {
        fs: Arc::new(RealFs),
        dir: metadata.dir,
        identity: directory::identity(cluster, config.node),
        engines: Arc::new(engines),
        transport: Arc::new(transport),
        addresses,
        clock: Arc::new(now_ms),
        runtime: Handle::current(),
        on_failure: Arc::new(on_failure),
    };
    let handle = megalith_metadata::start(parts, &metadata.memory.settings())?;
    follow_denials(handle.denied(), &config.metadata, stop.clone());
    let placement = Placement::start(handle.clone(), cluster, metadata.planner, stop.clone());
    let services = (
        MetadataServer::new(handle.metadata_service())
            .max_decoding_message_size(MESSAGE_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX),
        ClusterServer::new(ClusterService::new(handle.clone(), placement, cluster))
            .max_encoding_message_size(MESSAGE_LEN_MAX),
        RaftTransportServer::new(handle.raft_service())
            .max_decoding_message_size(MESSAGE_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX),
    );
    Ok(MetadataPart {
        serve: Box::new(move |edge: GrpcEdge| {
            edge.with(services.0).with(services.1).with(services.2)
        }),
        failure,
        hand_over: {
            let handle = handle.clone();
            Box::pin(async move { handle.hand_over().await })
        },
        stop: Box::pin(async move {
            handle.stop().await;
            stop.cancel();
        }),
    })
}

/// Keeps the process's deny list as new as the member's rows. What they say at the start is in
/// force before anything is served.
fn follow_denials(
    mut lists: watch::Receiver<Arc<DenyList>>,
    material: &TlsMaterial,
    stop: CancellationToken,
) {
    let denials = material.denials().clone();
    let hear = move |list: Arc<DenyList>| denials.hear(Arc::unwrap_or_clone(list));
    hear(lists.borrow_and_update().clone());
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        while lists.changed().await.is_ok() {
            hear(lists.borrow_and_update().clone());
        }
    }));
}

/// Connects to other members under this member's certificate.
struct MemberConnector {
    addresses: Arc<AddressBook>,
    material: Arc<TlsMaterial>,
}

/// A peer whose address is not known.
#[derive(Debug, thiserror::Error)]
#[error("no address of {0} is known: neither the settings nor the group name one")]
struct NoAddress(NodeId);

impl Connector for MemberConnector {
    fn connect(&self, peer: NodeId) -> BoxFuture<'static, Result<Channel, ConnectError>> {
        let found = self.addresses.next(peer).map(|address| {
            let settings = ChannelSettings::default();
            channel(
                &address,
                (Role::Metadata, peer.0),
                &self.material,
                &settings,
            )
        });
        let found = found.ok_or_else(|| ConnectError {
            peer,
            source: NoAddress(peer).into(),
        });
        futures::future::ready(found).boxed()
    }
}
