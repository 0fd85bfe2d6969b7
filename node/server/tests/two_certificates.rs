//! A machine with disks and a metadata member: a certificate for each, and neither is the other.

mod support;

use http::uri::PathAndQuery;
use megalith_client::{ChannelSettings, Endpoint, channel};
use megalith_identity::{Role, TlsMaterial, connect};
use megalith_server::{
    ConfigError, ListenAddress, NodeConfig, NodeSettings, Ports, Registration, RunningNode,
    init_disks, start,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use support::{CLUSTER, Certificates, FakeMetadata, NODE, Truth};
use tokio::time::timeout;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

struct Machine {
    certificates: Certificates,
    storage: Arc<TlsMaterial>,
    metadata: Arc<TlsMaterial>,
    disk: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let certificates = Certificates::new();
        let disk = certificates.dir.path().join("disk");
        init_disks(CLUSTER, std::slice::from_ref(&disk)).expect("formatted");
        let issue = |role| certificates.issue_dir(&[(role, NODE.0)]);
        let storage = TlsMaterial::load(&issue(Role::Storage)).expect("loaded");
        let metadata = storage.load_beside(&issue(Role::Metadata));
        let metadata = metadata.expect("loaded");
        Self {
            certificates,
            storage,
            metadata,
            disk,
        }
    }

    fn config(&self) -> NodeConfig {
        let mut settings = NodeSettings::default();
        settings.store.reserve = 1 << 20;
        settings.heartbeat_interval = Duration::from_millis(20);
        NodeConfig {
            node: NODE,
            zone: String::new(),
            rpc: ListenAddress::new("127.0.0.1:0"),
            data: ListenAddress::new("127.0.0.1:0"),
            storage: self.storage.clone(),
            metadata: self.metadata.clone(),
            disks: vec![self.disk.clone()],
            members: vec![Endpoint {
                node: NODE,
                address: "127.0.0.1:0".into(),
            }],
            settings,
        }
    }

    /// Starts both roles; the metadata member says what a test wants.
    async fn start(&self) -> RunningNode {
        let config = self.config();
        let ports = Ports::bind(&config).await.expect("bound");
        let part = FakeMetadata(Truth::new()).into_part();
        start(config, ports, Some(part)).await.expect("started")
    }
}

/// Calls any method of a role with an empty message; the code that comes back.
async fn call(address: &str, role: Role, material: &Arc<TlsMaterial>, path: &'static str) -> Code {
    let settings = ChannelSettings::default();
    let channel = channel(address, (role, NODE.0), material, &settings);
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("ready");
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    let path = PathAndQuery::from_static(path);
    match client.unary(Request::new(()), path, codec).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

const BETWEEN_MEMBERS: [&str; 3] = [
    "/megalith.v1.RaftTransport/Messages",
    "/megalith.v1.RaftTransport/Snapshot",
    "/megalith.v1.RaftTransport/Knock",
];

#[tokio::test]
async fn the_storage_certificate_of_a_member_is_no_member() {
    let machine = Machine::new();
    let node = machine.start().await;
    for path in BETWEEN_MEMBERS
        .into_iter()
        .chain(["/megalith.v1.Metadata/Backup"])
    {
        let code = call(&node.rpc_addr, Role::Metadata, &machine.storage, path).await;
        assert_eq!(code, Code::PermissionDenied, "{path}");
    }
    // A member's passes; this test's member has no such service.
    for path in BETWEEN_MEMBERS {
        let code = call(&node.rpc_addr, Role::Metadata, &machine.metadata, path).await;
        assert_eq!(code, Code::Unimplemented, "{path}");
    }
    // Nor is the member's a storage node's.
    let join = "/megalith.v1.Cluster/Join";
    let code = call(&node.rpc_addr, Role::Metadata, &machine.metadata, join).await;
    assert_eq!(code, Code::PermissionDenied);
    let code = call(&node.rpc_addr, Role::Metadata, &machine.storage, join).await;
    assert_eq!(code, Code::Ok);
    node.stop().await;
}

#[tokio::test]
async fn each_port_shows_the_certificate_of_the_role_that_is_called() {
    let machine = Machine::new();
    let node = machine.start().await;
    // It dials its own member as a storage node.
    let mut registration = node.registration();
    let heard = registration.wait_for(|state| *state == Registration::Heard);
    let heard = timeout(Duration::from_secs(60), heard).await;
    heard.expect("in time").map(drop).expect("running");

    let gateway = machine.certificates.issue(&[(Role::Gateway, 8)]);
    let data = node.data_addr.clone().expect("a data port");
    let (storage, metadata) = (machine.storage.identity(), machine.metadata.identity());
    for (address, expected, found) in [
        (&node.rpc_addr, Some((Role::Storage, NODE.0)), &storage),
        (&node.rpc_addr, Some((Role::Metadata, NODE.0)), &metadata),
        (&node.rpc_addr, None, &metadata),
        (&data, Some((Role::Storage, NODE.0)), &storage),
        (&data, None, &storage),
    ] {
        let stream = connect(address, &gateway, expected).await;
        let stream = stream.expect("connected");
        assert_eq!(stream.peer().serial(), found.serial(), "{expected:?}");
    }
    // There is no member behind the data port.
    let refused = connect(&data, &gateway, Some((Role::Metadata, NODE.0))).await;
    refused.map(drop).expect_err("refused");
    node.stop().await;
}

#[test]
fn each_role_needs_its_own_certificate() {
    let machine = Machine::new();
    machine.config().check(true).expect("sound");
    for (swap, wrong) in [
        ((&machine.metadata, &machine.metadata), Role::Storage),
        ((&machine.storage, &machine.storage), Role::Metadata),
    ] {
        let config = NodeConfig {
            storage: swap.0.clone(),
            metadata: swap.1.clone(),
            ..machine.config()
        };
        let error = config.check(true).expect_err("refused");
        let ConfigError::Certificate { role, node, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((role, node), (wrong, NODE));
    }
}
