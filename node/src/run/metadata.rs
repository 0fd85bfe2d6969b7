//! The metadata role of a node: its directory, its way to the other members, its services.

use super::{MetadataPart, NodeConfig, Ports, now_ms};
use crate::fs::{FileSystem, RealFs};
use crate::meta::backup;
use crate::meta::engine::{DiskHome, EngineSettings};
use crate::meta::log::LogIdentity;
use crate::meta::placement::{ClusterService, Placement};
use crate::meta::transport::{ConnectError, Connector, GrpcTransport, TransportSettings};
use crate::meta::{self, MetaFailure, MetaParts, MetaSettings, MetaStore, StartError};
use crate::server::GrpcEdge;
use futures::FutureExt;
use futures::future::BoxFuture;
use megalith_client::{ChannelSettings, channel};
use megalith_identity::{Role, TlsMaterial};
use megalith_model::driver;
use megalith_model::ids::{ClusterId, GroupId, NodeId};
use megalith_proto::v1::cluster_server::ClusterServer;
use megalith_proto::v1::metadata_server::MetadataServer;
use megalith_proto::v1::raft_transport_server::RaftTransportServer;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Where the tables are, below the role's directory.
pub(super) const ENGINE_DIR: &str = "state";
/// The most bytes of one call.
const MESSAGE_LEN_MAX: usize = megalith_client::MESSAGE_LEN_MAX;

/// The metadata role's own settings.
#[derive(Clone, Debug)]
pub struct MetadataConfig {
    /// The role's directory, made by [`init_metadata`].
    pub dir: PathBuf,
    /// The embedded database that keeps the rows.
    pub engine: EngineSettings,
    /// How volumes are made.
    pub placement: driver::Settings,
}

fn identity(cluster: ClusterId, member: NodeId) -> LogIdentity {
    LogIdentity {
        cluster,
        member,
        group: GroupId(0),
    }
}

/// Makes the directory of a member that has never voted. `voters` are the first members, the same
/// for all of them.
pub fn init_metadata(
    dir: &Path,
    cluster: ClusterId,
    member: NodeId,
    voters: &[NodeId],
) -> Result<(), StartError> {
    let engines = dir.join(ENGINE_DIR);
    let made = match RealFs.create_dir(&engines) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _there => Ok(()),
    };
    made.map_err(|source| StartError::Io {
        action: "create",
        path: engines,
        source,
    })?;
    MetaStore::init(Arc::new(RealFs), dir, identity(cluster, member), voters)
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
    let cluster = config.material.identity().cluster();
    let stop = CancellationToken::new();
    let connector = MemberConnector {
        addresses: addresses.clone(),
        material: Arc::clone(&config.material),
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
    let engines = metadata.dir.join(ENGINE_DIR);
    let parts = MetaParts {
        fs: Arc::new(RealFs),
        dir: metadata.dir,
        identity: identity(cluster, config.node),
        home: Arc::new(DiskHome::new(engines, metadata.engine)),
        transport: Arc::new(transport),
        addresses,
        clock: Arc::new(now_ms),
        runtime: Handle::current(),
        on_failure: Arc::new(on_failure),
    };
    let handle = meta::start(parts, &MetaSettings::default())?;
    let placement = Placement::start(handle.clone(), cluster, metadata.placement, stop.clone());
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
        stop: Box::pin(async move {
            hand_over(&handle).await;
            handle.stop().await;
            stop.cancel();
        }),
    })
}

/// Spares the group an election timeout where this member leads.
async fn hand_over(handle: &meta::MetaHandle) {
    let Some(status) = handle.status().await.filter(|status| status.role.leads) else {
        return;
    };
    let own = handle.identity().member;
    let others = status
        .members
        .iter()
        .filter(|member| member.node != own && !member.learner);
    let next = others
        .filter(|member| member.alive)
        .max_by_key(|member| member.matched);
    let Some(next) = next else { return };
    let mut role = handle.leader_changes();
    if handle.transfer_leader(next.node).is_ok() {
        let handed = role.wait_for(|role| !role.leads);
        // Without it the others find a leader by themselves, a second later.
        let _ = tokio::time::timeout(HAND_OVER_DEADLINE, handed).await;
    }
}

const HAND_OVER_DEADLINE: std::time::Duration = std::time::Duration::from_secs(1);

/// Connects to other members under this node's certificate.
struct MemberConnector {
    addresses: BTreeMap<NodeId, String>,
    material: Arc<TlsMaterial>,
}

/// A peer that no setting names.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not among the metadata members of the configuration")]
struct NotConfigured(NodeId);

impl Connector for MemberConnector {
    fn connect(&self, peer: NodeId) -> BoxFuture<'static, Result<Channel, ConnectError>> {
        let found = self.addresses.get(&peer).map(|address| {
            let settings = ChannelSettings::default();
            channel(address, (Role::Metadata, peer.0), &self.material, &settings)
        });
        let found = found.ok_or_else(|| ConnectError {
            peer,
            source: NotConfigured(peer).into(),
        });
        futures::future::ready(found).boxed()
    }
}
