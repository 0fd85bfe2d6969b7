//! A storage node's edge with a real disk behind it, and a metadata member that says what a test
//! wants.

#![allow(
    dead_code,
    reason = "each test binary uses a part of it, so an expectation would fail"
)]

use megalith_client::{
    CallSettings, ChannelSettings, ClusterClient, DataClient, DataSettings, Endpoint, MapWatch,
    MetaClient, ShardClient, ShardRoute, framing,
};
use megalith_disk::RealFs;
use megalith_identity::{Authority, IssueRequest, Role, TlsMaterial};
use megalith_model::claim::NodeClaim;
use megalith_model::codec;
use megalith_model::command::{Answer, Command, Envelope, Outcome};
use megalith_model::ids::{BlobId, ClusterId, DiskId, Epoch, GatewayId, LeaseId, NodeId, VolumeId};
use megalith_model::profile::Profile;
use megalith_model::query::{DoubtView, HeldSegment, OwedPage, Query, Reply, WantedShard};
use megalith_model::question;
use megalith_model::shape::CELL_LEN;
use megalith_model::shard::{ShardId, ShardTarget};
use megalith_model::topology::{ClusterMap, Domain, Lease, Slot, Volume, VolumeState};
use megalith_proto::v1 as proto;
use megalith_serve::listener::Shutdown;
use megalith_server::MetadataPart;
use megalith_server::edge::{
    Admission, DataEdge, DataEdgeSettings, GrpcEdge, GrpcEdgeSettings, ShardService,
};
use megalith_store::{DiskHandle, Disks, StoreSettings, Superblock};
use proto::cluster_server::{Cluster, ClusterServer};
use proto::metadata_server::{Metadata, MetadataServer};
use proto::shard_control_server::ShardControlServer;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

pub const CLUSTER: ClusterId = ClusterId([3; 16]);
pub const DISK: DiskId = DiskId([7; 16]);
pub const NODE: NodeId = NodeId(1);
pub const GATEWAY: GatewayId = GatewayId(8);

/// An authority with the directories of those it signed for.
pub struct Certificates {
    pub dir: TempDir,
    pub authority: Authority,
}

impl Certificates {
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let authority = Authority::create(&dir.path().join("ca"), CLUSTER).expect("an authority");
        Self { dir, authority }
    }

    /// Makes a member's certificate and returns the directory it lies in.
    pub fn issue_dir(&self, grants: &[(Role, u32)]) -> PathBuf {
        let request = IssueRequest {
            grants: grants.to_vec(),
            hosts: vec!["localhost".into()],
            days: 1,
        };
        let name: String = grants
            .iter()
            .map(|(role, id)| format!("{role}-{id}"))
            .collect();
        let dir = self.dir.path().join(name);
        let bundle = self.authority.issue(&request).expect("a bundle");
        bundle.save(&dir).expect("saved");
        dir
    }

    pub fn issue(&self, grants: &[(Role, u32)]) -> Arc<TlsMaterial> {
        TlsMaterial::load(&self.issue_dir(grants)).expect("loaded")
    }
}

/// What the metadata member knows, and how often it was asked.
pub struct Truth {
    /// Pushed to those who watch.
    pub pushed: watch::Sender<ClusterMap>,
    /// Told to those who ask again; None: what is pushed.
    pub asked: watch::Sender<Option<ClusterMap>>,
    pub volumes: watch::Sender<Vec<Volume>>,
    pub calls: AtomicU64,
    pub joined: watch::Sender<Vec<NodeClaim>>,
    /// The disks that are not registered.
    pub refused: watch::Sender<Vec<proto::RefusedDisk>>,
    pub beats: watch::Sender<Vec<proto::HeartbeatRequest>>,
    /// The next heartbeats are of a node that isn't known.
    pub forgetful: AtomicBool,
    /// The cluster's level; 0 if it isn't told.
    pub level: AtomicU32,
    /// The disk's delete queue; acknowledged ones go.
    pub deletes: watch::Sender<Vec<(u64, ShardId)>>,
    pub proposed: watch::Sender<Vec<Command>>,
    /// What the slots of every volume should hold.
    pub held: watch::Sender<Vec<HeldSegment>>,
    /// Shards in doubt, until they are settled.
    pub doubts: watch::Sender<Vec<DoubtView>>,
    /// Owed shards, until they are filled.
    pub owed: watch::Sender<Vec<(ShardId, WantedShard)>>,
}

impl Truth {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            pushed: watch::channel(map(1)).0,
            asked: watch::channel(None).0,
            volumes: watch::channel(vec![]).0,
            calls: AtomicU64::new(0),
            refused: watch::channel(Vec::new()).0,
            joined: watch::channel(vec![]).0,
            beats: watch::channel(vec![]).0,
            forgetful: AtomicBool::new(false),
            level: AtomicU32::new(0),
            deletes: watch::channel(vec![]).0,
            proposed: watch::channel(vec![]).0,
            held: watch::channel(vec![]).0,
            doubts: watch::channel(vec![]).0,
            owed: watch::channel(vec![]).0,
        })
    }
}

impl Truth {
    /// Takes what a command settles off the lists.
    fn settle(&self, command: &Command) {
        let settled: Vec<ShardId> = match command {
            Command::MarkOwed { marks, .. } => marks.iter().map(|mark| mark.shard).collect(),
            Command::DenyDoubts { shards, .. } => shards.clone(),
            Command::JudgeDoubts { verdicts, .. } => {
                verdicts.iter().map(|verdict| verdict.shard).collect()
            }
            Command::FillOwed { fills, .. } => fills.iter().map(|fill| fill.shard).collect(),
            _other => return,
        };
        self.doubts
            .send_modify(|doubts| doubts.retain(|doubt| !settled.contains(&doubt.shard)));
        self.owed
            .send_modify(|owed| owed.retain(|(shard, _)| !settled.contains(shard)));
    }
}

#[derive(Clone)]
pub struct FakeMetadata(pub Arc<Truth>);

impl FakeMetadata {
    /// Returns the member's part of a node. It never fails.
    pub fn into_part(self) -> MetadataPart {
        let serve = move |edge: GrpcEdge| {
            edge.with(MetadataServer::new(self.clone()))
                .with(ClusterServer::new(self))
        };
        MetadataPart {
            serve: Box::new(serve),
            // Its sender is gone.
            failure: tokio::sync::oneshot::channel().1,
            hand_over: Box::pin(async {}),
            stop: Box::pin(async {}),
        }
    }
}

#[tonic::async_trait]
impl Metadata for FakeMetadata {
    type BackupStream = futures::stream::Empty<Result<proto::SnapshotPiece, Status>>;

    async fn backup(
        &self,
        _request: Request<proto::SnapshotRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("no rows here"))
    }

    async fn propose(
        &self,
        request: Request<proto::ProposeRequest>,
    ) -> Result<Response<proto::ProposeReply>, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let envelope = request.into_inner().envelope;
        let envelope: Envelope = codec::decode(&envelope).expect("an envelope");
        if let Command::AckDeletes { through, .. } = envelope.command {
            let acknowledge = |rows: &mut Vec<(u64, ShardId)>| {
                rows.retain(|(sequence, _)| *sequence > through);
            };
            self.0.deletes.send_modify(acknowledge);
        }
        self.0.settle(&envelope.command);
        let note = |commands: &mut Vec<Command>| commands.push(envelope.command);
        self.0.proposed.send_modify(note);
        let answer: Answer = Ok(Outcome::Done);
        let answer = proto::propose_reply::Result::Answer(codec::encode(&answer).into());
        let result = Some(answer);
        Ok(Response::new(proto::ProposeReply {
            result,
            ..proto::ProposeReply::default()
        }))
    }

    async fn query(
        &self,
        request: Request<proto::QueryRequest>,
    ) -> Result<Response<proto::QueryReply>, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let query: Query = codec::decode(&request.into_inner().query).expect("a query");
        let reply = match query {
            Query::Volumes(question::Volumes { volumes }) => {
                let known = self.0.volumes.borrow().clone();
                let found = known
                    .into_iter()
                    .filter(|volume| volumes.contains(&volume.id));
                Reply::Volumes(found.collect())
            }
            Query::Deletes(question::Deletes { max, .. }) => {
                let rows = self.0.deletes.borrow().clone();
                Reply::Deletes(rows.into_iter().take(max as usize).collect())
            }
            Query::DiskVolumes(question::DiskVolumes { disk }) => {
                let mut volumes = self.0.volumes.borrow().clone();
                volumes.retain(|volume| volume.slots.iter().any(|slot| slot.disk == disk));
                Reply::Volumes(volumes)
            }
            Query::Held(question::Held { after, max, .. }) => {
                let held = self.0.held.borrow().clone();
                let rest = held
                    .into_iter()
                    .filter(|held| after.is_none_or(|after| (held.blob, held.segment) > after));
                Reply::Held(rest.take(max as usize).collect())
            }
            Query::Doubts(_) => Reply::Doubts(self.0.doubts.borrow().clone()),
            Query::Witnesses(question::Witnesses { shards, .. }) => {
                Reply::Witnesses(vec![megalith_model::query::Witness::Row; shards.len()])
            }
            Query::OwedShards(_) => Reply::OwedShards(OwedPage {
                shards: self.0.owed.borrow().clone(),
                next: None,
            }),
            other => panic!("{other:?}"),
        };
        let reply = codec::encode(&reply);
        let result = Some(proto::query_reply::Result::Reply(reply.into()));
        Ok(Response::new(proto::QueryReply {
            result,
            ..proto::QueryReply::default()
        }))
    }

    async fn change_members(
        &self,
        _request: Request<proto::ChangeMembersRequest>,
    ) -> Result<Response<proto::ChangeMembersReply>, Status> {
        Err(Status::unimplemented(
            "this group's members stay as they are",
        ))
    }
}

#[tonic::async_trait]
impl Cluster for FakeMetadata {
    async fn join(
        &self,
        request: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::JoinReply>, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let request = request.into_inner();
        if let Ok(node) = codec::decode(&request.node) {
            self.0.joined.send_modify(|nodes| nodes.push(node));
        }
        Ok(Response::new(proto::JoinReply {
            not_leader: None,
            level: 1,
            refused: self.0.refused.borrow().clone(),
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatReply>, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let request = request.into_inner();
        self.0.beats.send_modify(|beats| beats.push(request));
        Ok(Response::new(proto::HeartbeatReply {
            not_leader: None,
            level: self.0.level.load(Ordering::SeqCst),
            unknown_node: self.0.forgetful.swap(false, Ordering::SeqCst),
        }))
    }

    async fn beat(
        &self,
        _: Request<proto::BeatRequest>,
    ) -> Result<Response<proto::BeatReply>, Status> {
        Err(Status::unimplemented("no gateway speaks with this group"))
    }

    type WatchMapStream = Pin<Box<dyn Stream<Item = Result<proto::MapUpdate, Status>> + Send>>;

    async fn watch_map(
        &self,
        _: Request<proto::WatchMapRequest>,
    ) -> Result<Response<Self::WatchMapStream>, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let update = |map: ClusterMap| {
            let update = proto::map_update::Update::Map(codec::encode(&map).into());
            Ok(proto::MapUpdate {
                update: Some(update),
                members: Vec::new(),
                level: 0,
                denied: Vec::new().into(),
            })
        };
        let asked = self.0.asked.borrow().clone();
        let pushed = WatchStream::new(self.0.pushed.subscribe());
        Ok(Response::new(match asked {
            Some(map) => Box::pin(tokio_stream::once(map).chain(pushed).map(update)),
            None => Box::pin(pushed.map(update)),
        }))
    }

    async fn raise_level(
        &self,
        _: Request<proto::RaiseLevelRequest>,
    ) -> Result<Response<proto::RaiseLevelReply>, Status> {
        Err(Status::unimplemented("no level here"))
    }

    async fn status(
        &self,
        _: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusReply>, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(Default::default()))
    }

    async fn health(
        &self,
        _: Request<proto::HealthRequest>,
    ) -> Result<Response<proto::HealthReply>, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(Default::default()))
    }
}

/// A node with one disk, both ports open.
pub struct Edge {
    pub certificates: Certificates,
    /// The node's own.
    pub material: Arc<TlsMaterial>,
    pub truth: Arc<Truth>,
    pub rpc_address: String,
    pub data_address: String,
    pub disk: DiskHandle,
    pub shutdown: Shutdown,
    pub maps: MapWatch,
}

/// Volume 1, epoch 5: slot 0 is this node's disk.
pub fn volume(id: u64, epoch: u32) -> Volume {
    let slot = |node, disk| Slot { node, disk };
    Volume {
        id: VolumeId(id),
        profile: Profile::new(1, 1).expect("valid"),
        epoch: Epoch(epoch),
        state: VolumeState::Open,
        domain: Domain::Node,
        slots: vec![slot(NODE, DISK), slot(NodeId(2), DiskId([8; 16]))],
        bytes: 0,
        shrunk: false,
    }
}

/// A gateway's lease of the ids from 65,536 times `number` on.
pub fn lease(gateway: GatewayId, number: u64) -> Lease {
    Lease {
        id: LeaseId(number),
        gateway,
        request: 0,
    }
}

pub fn map(version: u64) -> ClusterMap {
    ClusterMap {
        term: 1,
        version,
        writable: vec![volume(1, 5)],
        leases: vec![lease(GATEWAY, 0)],
        ..ClusterMap::default()
    }
}

pub async fn bind() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

pub fn open_disk(certificates: &Certificates) -> DiskHandle {
    let root = certificates.dir.path().join("disk");
    std::fs::create_dir(&root).expect("a directory");
    let superblock = Superblock::new(CLUSTER, DISK, 1, [5; 32]);
    DiskHandle::format(&RealFs, &root, &superblock).expect("formatted");
    let settings = StoreSettings {
        reserve: 1 << 20,
        ..StoreSettings::default()
    };
    DiskHandle::open(Arc::new(RealFs), &root, CLUSTER, Some(DISK), settings).expect("opened")
}

impl Edge {
    pub async fn start(settings: DataEdgeSettings) -> Self {
        Self::start_with(settings, GrpcEdgeSettings::default()).await
    }

    pub async fn start_with(settings: DataEdgeSettings, grpc: GrpcEdgeSettings) -> Self {
        let certificates = Certificates::new();
        let disk = open_disk(&certificates);
        let disks = Arc::new(Disks::new([disk.clone()]));
        let truth = Truth::new();
        let material = certificates.issue(&[(Role::Storage, NODE.0), (Role::Metadata, NODE.0)]);
        let shutdown = Shutdown::new();
        let (rpc, rpc_address) = bind().await;
        let fake = FakeMetadata(truth.clone());
        let grpc = GrpcEdge::new(grpc)
            .with(MetadataServer::new(fake.clone()))
            .with(ClusterServer::new(fake))
            .with(ShardControlServer::new(ShardService::new(disks.clone())));
        tokio::spawn(grpc.serve(rpc, material.clone(), shutdown.clone()));
        let members = [Endpoint {
            node: NODE,
            address: rpc_address.clone(),
        }];
        let calls = CallSettings {
            query_deadline: Duration::from_secs(3),
            ..CallSettings::default()
        };
        let meta = MetaClient::new(&members, material.clone(), calls.clone());
        let cluster = ClusterClient::new(&members, material.clone(), calls);
        let maps = MapWatch::start(cluster);
        maps.wait_for(|map| map.version == 1).await;
        let admission = Admission::new(NODE, maps.clone(), meta);
        let (data, data_address) = bind().await;
        let edge = DataEdge::new(disks, admission, settings, shutdown.clone());
        tokio::spawn(edge.serve(data, material.clone()));
        Self {
            certificates,
            material,
            truth,
            rpc_address,
            data_address,
            disk,
            shutdown,
            maps,
        }
    }

    pub fn client(&self, role: Role, id: u32) -> DataClient {
        let material = self.certificates.issue(&[(role, id)]);
        DataClient::new(material, DataSettings::default())
    }

    pub fn gateway(&self) -> DataClient {
        self.client(Role::Gateway, GATEWAY.0)
    }

    pub fn shards(&self, role: Role, id: u32) -> ShardClient {
        let material = self.certificates.issue(&[(role, id)]);
        ShardClient::new(material, ChannelSettings::default(), Duration::from_secs(5))
    }

    /// Slot 0 of volume 1 in epoch 5: where everything is right.
    pub fn target(&self, blob: u64) -> ShardRoute {
        let at = Slot {
            node: NODE,
            disk: DISK,
        };
        route(at, blob, self.data_address.clone())
    }

    /// True if the disk has anything under that name.
    pub async fn has(&self, target: &ShardRoute) -> bool {
        let shard = target.target.shard;
        self.disk.stat(shard).await.expect("a stat").is_some()
    }
}

/// The way to slot 0 of volume 1 in epoch 5, if that is where it lies.
pub fn route(at: Slot, blob: u64, address: String) -> ShardRoute {
    let shard = ShardId {
        volume: VolumeId(1),
        blob: BlobId(blob),
        segment: 0,
        slot: 0,
    };
    ShardRoute {
        target: ShardTarget { at, shard },
        address,
        epoch: Epoch(5),
    }
}

/// A route with something changed.
pub fn changed(route: &ShardRoute, change: impl FnOnce(&mut ShardRoute)) -> ShardRoute {
    let mut route = route.clone();
    change(&mut route);
    route
}

/// Bytes without a period, the same each time.
pub fn shard(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    };
    (0..len).map(next).collect()
}

/// The framed cells of a shard.
pub fn framed(shard: &[u8]) -> Vec<bytes::Bytes> {
    shard
        .chunks(CELL_LEN as usize)
        .map(|cell| framing::frame(cell.to_vec()))
        .collect()
}

pub fn digest(shard: &[u8]) -> [u8; 32] {
    *blake3::hash(shard).as_bytes()
}
