//! The cluster's level: who holds it back, who is let in, and who is told of it.

use super::super::levels::status;
use super::*;
use megalith_client::levels::range_to_wire;
use megalith_model::claim::{DiskProof, NodeClaim};
use megalith_model::codec;
use megalith_model::ids::DiskId;
use megalith_model::level::{LevelRange, LevelStatus, Process};
use megalith_model::member::Losses;
use megalith_model::topology::{Disk, Node};
use megalith_proto::v1::raise_level_reply::Result as Said;

fn range(highest: u32) -> LevelRange {
    LevelRange {
        lowest: Level::FIRST,
        highest: Level(highest),
    }
}

/// Of a member that runs levels 1 and 2, in a cluster at `now`.
fn levels(now: u32) -> Levels {
    let levels = Levels::new(range(2));
    levels.note_applied(Some(Level(now)));
    levels
}

fn member(node: u32, leader: bool) -> MemberStatus {
    MemberStatus {
        node: NodeId(node),
        id: node.into(),
        address: String::new(),
        leader,
        alive: true,
        learner: false,
        clock_ahead_ms: 0,
        matched: 1,
        committed: 1,
        losses: Losses::default(),
    }
}

fn node(id: u32, disks: u8) -> Node {
    let disk = |number| Disk {
        id: DiskId([number; 16]),
        capacity: 1,
    };
    Node {
        id: NodeId(id),
        rpc_address: String::new(),
        data_address: String::new(),
        zone: String::new(),
        disks: (0..disks).map(disk).collect(),
    }
}

fn lease(gateway: u32) -> Lease {
    Lease {
        id: LeaseId(1),
        gateway: GatewayId(gateway),
        request: 1,
    }
}

fn seen(status: &LevelStatus) -> Vec<(Process, Option<u32>)> {
    let processes = status.processes.iter();
    let highest = |known: LevelRange| known.highest.0;
    processes
        .map(|one| (one.process, one.known.map(highest)))
        .collect()
}

#[test]
fn members_nodes_with_disks_and_gateways_that_hold_or_listen_belong_to_the_cluster() {
    let levels = levels(1);
    let members = [member(1, true), member(2, false)];
    let nodes = [node(3, 2), node(4, 0)];
    let _listens = levels.listen(Process::Gateway(6), range(1));
    let found = status(&levels, &members, &nodes, &[lease(5)]);
    // It knows itself. A node without disks takes part in nothing.
    assert_eq!(
        seen(&found),
        [
            (Process::Member(1), Some(2)),
            (Process::Member(2), None),
            (Process::Storage(3), None),
            (Process::Gateway(5), None),
            (Process::Gateway(6), Some(1)),
        ]
    );
    assert_eq!((found.level, found.highest), (Level(1), Level(2)));
}

#[tokio::test]
async fn a_new_cluster_begins_at_what_all_its_first_members_run() {
    for (heard, begins_at) in [(None, 1), (Some(1), 1), (Some(2), 2), (Some(9), 2)] {
        let group = Late::of(Levels::new(range(2)));
        group.shared.applied.lock().expect("no panic").cluster = None;
        let members = vec![member(1, true), member(2, false)];
        *group.shared.members.lock().expect("no panic") = members;
        if let Some(highest) = heard {
            group.levels().hear(Process::Member(2), range(highest));
        }
        let stop = CancellationToken::new();
        let mut proposed = group.shared.proposed.subscribe();
        let _service = service(&group, &stop);
        let first = proposed.wait_for(|all| !all.is_empty()).await;
        let first = first.expect("it proposes").first().cloned();
        let init = Command::InitCluster {
            cluster: ClusterId([1; 16]),
            level: Level(begins_at),
        };
        assert_eq!(first, Some(init), "{heard:?} was heard");
        stop.cancel();
    }
}

async fn raise(service: &ClusterService<Late>, level: u32, without_silent: bool) -> Said {
    let request = v1::RaiseLevelRequest {
        level,
        without_silent,
    };
    let call = call_of(Role::Operator, 1, request);
    let reply = service.raise_level(call).await.expect("it leads");
    reply.into_inner().result.expect("says something")
}

async fn heartbeat(service: &ClusterService<Late>, node: u32, known: LevelRange) -> u32 {
    let request = v1::HeartbeatRequest {
        node,
        disks: Vec::new(),
        levels: Some(range_to_wire(known)),
    };
    let call = call_of(Role::Storage, node, request);
    let reply = service.heartbeat(call).await.expect("it leads");
    reply.into_inner().level
}

#[tokio::test]
async fn the_leader_raises_the_level_only_when_nobody_holds_it_back() {
    let (group, stop) = (Late::of(levels(1)), CancellationToken::new());
    let members = vec![member(1, true), member(2, false)];
    *group.shared.members.lock().expect("no panic") = members;
    let nodes = vec![node(3, 1), node(4, 1)];
    group.shared.applied.lock().expect("no panic").nodes = nodes;
    let service = service(&group, &stop);
    let refused = async |without_silent, why: &str| {
        let said = raise(&service, 2, without_silent).await;
        assert_eq!(said, Said::Refused(format!("level 2 is held back: {why}")));
        let raised = |command: &Command| matches!(command, Command::RaiseLevel { .. });
        assert!(!group.shared.proposed.borrow().iter().any(raised));
    };
    let silent = "metadata member 2 is not heard";
    refused(true, silent).await;
    group.levels().hear(Process::Member(2), range(2));
    heartbeat(&service, 3, range(1)).await;
    refused(true, "storage node 3 runs level 1").await;
    heartbeat(&service, 3, range(2)).await;
    refused(false, "storage node 4 is not heard").await;
    // The operator says that this one is gone. Without a number it is the highest.
    assert_eq!(raise(&service, 0, true).await, Said::Level(2));
    let raise = Command::RaiseLevel { level: Level(2) };
    assert_eq!(group.shared.proposed.borrow().last(), Some(&raise));
    stop.cancel();
}

fn join(id: u32, known: LevelRange) -> Call<v1::JoinRequest> {
    let claim = NodeClaim::new(node(id, 1), |_| DiskProof([1; 32]));
    let request = v1::JoinRequest {
        node: codec::encode(&claim).into(),
        levels: Some(range_to_wire(known)),
    };
    call_of(Role::Storage, id, request)
}

#[tokio::test]
async fn a_node_that_cannot_run_the_level_is_not_let_in() {
    let (group, stop) = (Late::of(levels(2)), CancellationToken::new());
    let service = service(&group, &stop);
    let refused = service.join(join(3, range(1))).await.expect_err("too old");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let advice = "the cluster is at level 2, and this program runs level 1: upgrade it";
    assert!(refused.message().starts_with(advice), "{refused}");
    let registers = |command: &Command| matches!(command, Command::RegisterNode(_));
    assert!(!group.shared.proposed.borrow().iter().any(registers));
    // It is heard all the same: it holds the next level back.
    assert_eq!(group.levels().of(Process::Storage(3)), Some(range(1)));
    // The group here answers no registration.
    let asked = service
        .join(join(3, range(2)))
        .await
        .expect_err("no answer");
    assert_eq!(asked.code(), tonic::Code::Unavailable);
    assert!(group.shared.proposed.borrow().iter().any(registers));
    stop.cancel();
}

#[tokio::test]
async fn every_answer_tells_the_level_and_a_gateway_is_heard_while_it_has_the_map() {
    let (group, stop) = (Late::of(levels(2)), CancellationToken::new());
    let service = service(&group, &stop);
    assert_eq!(heartbeat(&service, 3, range(2)).await, 2);
    let beat = v1::BeatRequest {
        gateway: 7,
        ..v1::BeatRequest::default()
    };
    let beat = service.beat(call_of(Role::Gateway, 7, beat)).await;
    assert_eq!(beat.expect("it leads").into_inner().level, 2);
    let request = v1::WatchMapRequest {
        levels: Some(range_to_wire(range(2))),
    };
    let stream = service.watch_map(call_of(Role::Gateway, 7, request)).await;
    let mut updates = stream.expect("a stream").into_inner();
    let update = updates.next().await.expect("an update").expect("a map");
    assert_eq!(update.level, 2);
    assert_eq!(group.levels().of(Process::Gateway(7)), Some(range(2)));
    // So does one that does not lead.
    group.shared.leadership.send_replace(Leadership::default());
    let asked = service.join(join(3, range(2))).await.expect("an answer");
    let asked = asked.into_inner();
    assert_eq!((asked.level, asked.not_leader.is_some()), (2, true));
    stop.cancel();
}
