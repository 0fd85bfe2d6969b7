//! Who is told what, and what is refused before it is in the log.

use super::harness::{CLOCK_MS, Cluster, settings};
use crate::service::MetadataService;
use megalith_identity::{PeerIdentity, Role};
use megalith_model::claim::{DiskProof, NodeClaim};
use megalith_model::codec;
use megalith_model::command::{
    Command, CommandKey, Condition, Envelope, NewBlob, NewDoubt, NewSegment, ObjectBlobs,
    PutObject, Refusal,
};
use megalith_model::ids::{
    AccountId, BlobId, BucketId, ClusterId, DiskId, Epoch, GatewayId, NodeId, VersionId, VolumeId,
};
use megalith_model::machine::NAME_LEN_MAX;
use megalith_model::profile::Profile;
use megalith_model::query::Reply;
use megalith_model::question;
use megalith_model::shape::{CELL_LEN, Shape};
use megalith_model::shard::ShardId;
use megalith_model::topology::{Disk, Domain, Node, Slot};
use megalith_proto::v1;
use megalith_proto::v1::metadata_server::Metadata;
use std::sync::Arc;
use tonic::{Code, Request};

const GATEWAY: GatewayId = GatewayId(1);
const BOX: BucketId = BucketId(50_001);

fn disk(node: u32) -> DiskId {
    DiskId([node as u8; 16])
}

fn account(len: usize) -> Command {
    Command::CreateAccount {
        name: "a".repeat(len),
        request: 1,
    }
}

fn register(id: u32) -> Command {
    let node = Node {
        id: NodeId(id),
        rpc_address: String::new(),
        data_address: String::new(),
        zone: String::new(),
        disks: vec![Disk {
            id: disk(id),
            capacity: 1,
        }],
    };
    Command::RegisterNode(NodeClaim::new(node, |disk| DiskProof([disk.0[0]; 32])))
}

fn put() -> Command {
    let len = 3 * CELL_LEN;
    Command::PutObject(Box::new(PutObject {
        bucket: BOX,
        key: b"k".to_vec(),
        version: VersionId::new(CLOCK_MS, [1; 8]),
        size: 1,
        condition: Condition::None,
        wrapped_key: vec![],
        sealed_manifest: vec![],
        sealed_listing: vec![],
        blobs: ObjectBlobs::New(NewBlob {
            blob: BlobId(1),
            len,
            shape: Shape::Coded,
            segments: vec![NewSegment {
                volume: VolumeId(1),
                epoch: Epoch(1),
                len,
                digests: vec![[7; 16]; 3],
                owed: 0,
            }],
            inline: vec![],
            leftovers: vec![],
        }),
    }))
}

/// A shard on disk 1 of a volume on the first three nodes; the fourth has no slot in it.
fn doubtful() -> Vec<Command> {
    let slot = |id| Slot {
        node: NodeId(id),
        disk: disk(id),
    };
    let mut commands: Vec<Command> = (1..=4).map(register).collect();
    commands.extend([
        account(3),
        Command::OpenLease {
            gateway: GATEWAY,
            request: 1,
        },
        Command::CreateBucket {
            id: BOX,
            name: "box".into(),
            account: AccountId(1),
            sealed_owner: vec![],
        },
        Command::CreateVolume {
            profile: Profile::new(2, 1).expect("valid"),
            domain: Domain::Node,
            slots: (1..=3).map(slot).collect(),
            shrunk: false,
        },
        put(),
        Command::RaiseDoubts(vec![NewDoubt {
            shard: ShardId {
                volume: VolumeId(1),
                blob: BlobId(1),
                segment: 0,
                slot: 0,
            },
            disk: disk(1),
            epoch: Epoch(1),
            damaged: false,
        }]),
    ]);
    commands
}

fn envelope(command: Command) -> Envelope {
    let key = CommandKey {
        id: command.brings().unwrap_or(BlobId(0)),
        attempt: 1,
        gateway: GATEWAY,
    };
    Envelope {
        key: command.has_key().then_some(key),
        command,
    }
}

/// Asks for doubts as somebody with that certificate; how many there are.
async fn doubts(service: &MetadataService, role: Role, id: u32) -> Result<usize, Code> {
    let (after, max) = (None, 10);
    let query = codec::encode(&megalith_model::query::Query::from(question::Doubts {
        after,
        max,
    }));
    let mut request = Request::new(v1::QueryRequest {
        query: query.into(),
        ..v1::QueryRequest::default()
    });
    let peer = PeerIdentity::new(ClusterId([7; 16]), &[(role, id)]).expect("a role");
    request.extensions_mut().insert(Arc::new(peer));
    let reply = service.query(request).await.map_err(|said| said.code())?;
    match reply.into_inner().result {
        Some(v1::query_reply::Result::Reply(bytes)) => match codec::decode(&bytes) {
            Ok(Reply::Doubts(found)) => Ok(found.len()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storage_node_is_shown_no_doubts_but_its_own_and_those_that_it_judges() {
    let cluster = Cluster::start(1, 5, 0, settings());
    let leader = cluster.leader().await;
    let member = &cluster.running[&leader];
    for command in doubtful() {
        let answer = member.propose(&envelope(command)).await.expect("applied");
        answer.expect("accepted");
    }
    let service = member.metadata_service();
    for (role, id, seen) in [
        (Role::Operator, 1, Ok(1)),
        (Role::Storage, 1, Ok(1)),
        (Role::Storage, 2, Ok(1)),
        (Role::Storage, 4, Ok(0)),
        (Role::Storage, 9, Ok(0)),
        (Role::Gateway, 1, Err(Code::PermissionDenied)),
        (Role::Metadata, 1, Err(Code::PermissionDenied)),
    ] {
        assert_eq!(doubts(&service, role, id).await, seen, "{role} {id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_too_long_does_not_get_into_the_log() {
    let cluster = Cluster::start(1, 5, 0, settings());
    let leader = cluster.leader().await;
    let member = &cluster.running[&leader];
    let propose = async |len| {
        let answer = member.propose(&envelope(account(len))).await;
        (answer.expect("answered"), member.applied())
    };
    let (answer, before) = propose(NAME_LEN_MAX).await;
    answer.expect("accepted");
    let (answer, after) = propose(NAME_LEN_MAX + 1).await;
    assert!(matches!(answer, Err(Refusal::Malformed(_))), "{answer:?}");
    assert_eq!(after, before);
}
