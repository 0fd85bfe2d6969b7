//! Members over real connections.

use super::*;
use crate::engine::MemEngines;
use crate::testing::log_identity;
use crate::*;
use futures::FutureExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use megalith_disk::FileSystem;
use megalith_disk::sim::SimFs;
use megalith_model::command::{Command, Envelope};
use megalith_model::query::Reply;
use megalith_model::question;
use megalith_proto::v1::raft_transport_client::RaftTransportClient;
use megalith_proto::v1::raft_transport_server::RaftTransportServer;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Code, Request};

const DEADLINE: Duration = Duration::from_secs(60);

type Addresses = Arc<Mutex<HashMap<(u32, u32), SocketAddr>>>;

/// Connects over plain TCP. In place of certificates, each caller has a port of its own.
struct Plain {
    member: u32,
    addresses: Addresses,
}

impl Connector for Plain {
    fn connect(&self, peer: NodeId) -> BoxFuture<'static, Result<Channel, ConnectError>> {
        let addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let address = addresses.get(&(self.member, peer.0)).copied();
        async move {
            let failed = |source| ConnectError { peer, source };
            let address = address.ok_or_else(|| failed("no address".into()))?;
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .map_err(|error| failed(error.into()))?;
            endpoint
                .connect()
                .await
                .map_err(|error| failed(error.into()))
        }
        .boxed()
    }
}

/// Serves a member to one caller until `stop`. Returns where.
async fn serve(service: RaftService, caller: Option<u32>, stop: CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let tag = move |mut request: Request<()>| -> Result<Request<()>, Status> {
        if let Some(caller) = caller {
            request.extensions_mut().insert(PeerNode(caller));
        }
        Ok(request)
    };
    let service = RaftTransportServer::with_interceptor(service, tag);
    tokio::spawn(async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let (stream, _) = accepted.expect("accept");
            let (service, stop) = (TowerToHyperService::new(service.clone()), stop.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let serving = server.serve_connection(TokioIo::new(stream), service);
                // Broken by the other side, or cut off at the stop.
                let _ = stop.run_until_cancelled(serving).await;
            });
        }
    });
    address
}

struct Group {
    members: BTreeMap<u32, MetaHandle>,
    addresses: Addresses,
    stops: BTreeMap<u32, CancellationToken>,
}

impl Group {
    async fn start() -> Self {
        let addresses = Addresses::default();
        let voters = [NodeId(1), NodeId(2), NodeId(3)];
        let mut members = BTreeMap::new();
        for member in 1..=3 {
            let fs: Arc<dyn FileSystem> = Arc::new(SimFs::new(1 << 28));
            let dir = Path::new("/meta");
            fs.create_dir(dir).expect("create");
            MetaStore::init(fs.clone(), dir, log_identity(member), &voters).expect("init");
            let connector = Plain {
                member,
                addresses: addresses.clone(),
            };
            let transport = GrpcTransport::new(
                Arc::new(connector),
                TransportSettings::default(),
                Handle::current(),
                CancellationToken::new(),
            );
            let parts = MetaParts {
                fs,
                dir: dir.to_owned(),
                identity: log_identity(member),
                engines: Arc::new(MemEngines::default()),
                transport: Arc::new(transport),
                addresses: Arc::new(AddressBook::new(NodeId(member), BTreeMap::new())),
                clock: Arc::new(|| 1),
                runtime: Handle::current(),
                on_failure: Arc::new(|failure| panic!("{failure}")),
            };
            let mut settings = MetaSettings::default();
            settings.raft.tick = Duration::from_millis(10);
            members.insert(member, start(parts, &settings).expect("start"));
        }
        let mut group = Self {
            members,
            addresses,
            stops: BTreeMap::new(),
        };
        for member in 1..=3 {
            group.listen(member).await;
        }
        group
    }

    /// Serves a member on new ports; those it had are closed.
    async fn listen(&mut self, member: u32) {
        let stop = CancellationToken::new();
        if let Some(old) = self.stops.insert(member, stop.clone()) {
            old.cancel();
        }
        for caller in (1..=3).filter(|&caller| caller != member) {
            let service = self.members[&member].raft_service();
            let address = serve(service, Some(caller), stop.clone()).await;
            let mut addresses = self
                .addresses
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            addresses.insert((caller, member), address);
        }
    }

    async fn create_account(&self, name: &str) {
        let command = Command::CreateAccount {
            name: name.to_owned(),
            request: 0,
        };
        let envelope = Envelope { key: None, command };
        let end = Instant::now() + DEADLINE;
        loop {
            for member in self.members.values() {
                if let Ok(answer) = member.propose(&envelope).await {
                    // Refused if an earlier attempt of unknown fate went through.
                    drop(answer);
                    return;
                }
            }
            assert!(Instant::now() < end, "nobody takes {name}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn accounts(&self, member: u32) -> usize {
        let end = Instant::now() + DEADLINE;
        loop {
            let query = question::Accounts {
                after: String::new(),
                max: 100,
            };
            match self.members[&member].query(query.into()).await {
                Ok(Reply::Accounts(found)) => return found.len(),
                Ok(_other) => panic!("another reply"),
                Err(_) => assert!(Instant::now() < end, "member {member} can't be read"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_group_works_over_connections_that_move() {
    let mut group = Group::start().await;
    for round in 0..4 {
        for account in 0..5 {
            group
                .create_account(&format!("account-{round}-{account}"))
                .await;
        }
        for member in 1..=3 {
            assert_eq!(
                group.accounts(member).await,
                (round + 1) * 5,
                "member {member}"
            );
        }
        // The same member at another address: its peers must look it up again.
        group
            .listen(1 + u32::try_from(round).expect("small") % 3)
            .await;
    }
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("address");
    endpoint.connect().await.expect("connect")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_in_anothers_name_is_refused() {
    let group = Group::start().await;
    let service = group.members[&1].raft_service();
    let stop = CancellationToken::new();
    let send = async |caller, from, group| {
        let address = serve(service.clone(), caller, stop.clone()).await;
        let mut client = RaftTransportClient::new(connect(address).await);
        let message = v1::RaftMessage {
            kind: 8,
            to: 1,
            from,
            group,
            ..Default::default()
        };
        client
            .messages(futures::stream::iter([message]))
            .await
            .map_err(|status| status.code())
    };
    assert_eq!(
        send(Some(2), 3, 0).await.err(),
        Some(Code::PermissionDenied)
    );
    assert_eq!(send(None, 2, 0).await.err(), Some(Code::PermissionDenied));
    assert_eq!(send(Some(2), 2, 7).await.err(), Some(Code::InvalidArgument));
    assert_eq!(send(Some(2), 2, 0).await.err(), None);
    let address = serve(service, None, stop).await;
    let mut client = RaftTransportClient::new(connect(address).await);
    let refused = client
        .snapshot(v1::SnapshotRequest::default())
        .await
        .expect_err("a stranger");
    assert_eq!(refused.code(), Code::PermissionDenied);
}
