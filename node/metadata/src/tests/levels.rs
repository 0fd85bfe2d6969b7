//! Members whose programs run different levels: one that is too old stops itself, and nothing else
//! stops.

use super::harness::{Cluster, settings, wait_for};
use super::name;
use crate::testing::log_identity;
use crate::*;
use megalith_client::levels::range_to_wire;
use megalith_disk::sim::SimOp;
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_model::ids::NodeId;
use megalith_model::keys::{Meta, RowKey};
use megalith_model::level::{Level, LevelRange, OutOfRange, Process};
use megalith_proto::v1;

fn range(highest: u32) -> LevelRange {
    LevelRange {
        lowest: Level::FIRST,
        highest: Level(highest),
    }
}

/// Starts a member with a program that runs levels up to `highest`.
fn run(cluster: &mut Cluster, member: u32, highest: u32) {
    cluster.settings.levels = range(highest);
    cluster.restart(member);
}

/// Three members, of which the third has an older program.
async fn mixed(seed: u64) -> Cluster {
    let mut cluster = Cluster::make(3, seed, 0, settings());
    for (member, highest) in [(1, 2), (2, 2), (3, 1)] {
        run(&mut cluster, member, highest);
    }
    let client = cluster.client();
    for number in 0..10 {
        client.create_account(&name(number)).await;
    }
    cluster
}

async fn raise(cluster: &Cluster) {
    let raise = Command::RaiseLevel { level: Level(2) };
    let answer = cluster.client().propose(raise).await;
    answer.expect("raised");
}

/// Waits until a member has stopped itself, and only that one; returns what it says.
async fn stopped(cluster: &Cluster, member: u32) -> String {
    let why = wait_for("a member to stop itself", async || {
        let failures = cluster.failures();
        assert!(failures.iter().all(|(failed, _)| *failed == member));
        failures.first().map(|(_, why)| match why {
            MetaFailure::Apply(ApplyError::Level { source, .. })
            | MetaFailure::Raft(RaftError::Level(source)) => source.to_string(),
            other => panic!("{other:?}"),
        })
    });
    why.await
}

fn too_old() -> String {
    let (level, known) = (Level(2), range(1));
    OutOfRange { level, known }.to_string()
}

fn has_level(cluster: &Cluster, member: u32) -> bool {
    let key = RowKey::Meta(Meta::Level).encode();
    cluster.rows(member).contains_key(&key)
}

/// Ends the cluster when all members are on the same rows.
async fn end(mut cluster: Cluster) {
    cluster.client().create_account(&name(9_999)).await;
    cluster.agree().await;
    assert!(cluster.failures().is_empty(), "{:?}", cluster.failures());
    for member in cluster.running.keys().copied().collect::<Vec<_>>() {
        assert!(has_level(&cluster, member));
        cluster.stop(member).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_stops_itself_where_the_level_leaves_its_program_behind() {
    let mut cluster = mixed(1).await;
    raise(&cluster).await;
    assert_eq!(stopped(&cluster, 3).await, too_old());
    assert!(!has_level(&cluster, 3), "nothing of it is applied");
    // The others go on.
    cluster.client().create_account(&name(100)).await;
    // Started again it stops at the same place.
    cluster.crash(3).await;
    run(&mut cluster, 3, 1);
    assert_eq!(stopped(&cluster, 3).await, too_old());
    assert!(!has_level(&cluster, 3));
    // A newer program goes on from there.
    cluster.crash(3).await;
    run(&mut cluster, 3, 2);
    end(cluster).await;
}

/// So that a leader knows who holds the level back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_say_what_they_run_when_they_knock_and_in_every_message() {
    let cluster = mixed(5).await;
    for (id, highest) in [(1, 2), (2, 2), (3, 1)] {
        let told = wait_for("a message", async || cluster.net.levels(id)).await;
        assert_eq!(told, range_to_wire(range(highest)), "{id}");
    }
    let leader = cluster.leader().await;
    let member = &cluster.running[&leader];
    let heard = |id| member.levels().of(Process::Member(id));
    assert_eq!(heard(3), (leader != 3).then_some(range(1)));
    let message = v1::RaftMessage {
        levels: Some(range_to_wire(range(4))),
        ..v1::RaftMessage::default()
    };
    member.take_message(NodeId(3), message);
    assert_eq!(heard(3), Some(range(4)));
    let knock = v1::KnockRequest {
        group: log_identity(leader).group.0,
        id: 3,
        levels: Some(range_to_wire(range(5))),
        ..v1::KnockRequest::default()
    };
    let reply = member.knock(NodeId(3), knock).await.expect("an answer");
    assert_eq!(heard(3), Some(range(5)));
    let own = if leader == 3 { range(1) } else { range(2) };
    assert_eq!(reply.levels, Some(range_to_wire(own)));
}

/// What is above the level is refused before the log: older members could not read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_command_above_the_level_does_not_get_into_the_log() {
    let cluster = Cluster::start(1, 6, 0, settings());
    cluster.client().create_account(&name(1)).await;
    let member = &cluster.running[&1];
    let before = member.applied();
    // No command needs more than the first level yet: so the cluster is below it.
    let level = Level(0);
    member.levels().note_applied(Some(level));
    let command = Command::CreateAccount {
        name: name(2),
        request: 0,
    };
    let answer = member.propose(&Envelope { key: None, command }).await;
    let needs = Level::FIRST;
    assert_eq!(answer, Ok(Err(Refusal::Level { needs, level })));
    assert_eq!(member.applied(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_program_that_is_too_old_does_not_start_on_rows_of_a_higher_level() {
    let mut cluster = Cluster::make(1, 2, 0, settings());
    run(&mut cluster, 1, 2);
    raise(&cluster).await;
    cluster.stop(1).await;
    let before = cluster.disks[&1].engines.clone();
    cluster.settings.levels = range(1);
    let refused = cluster.try_restart(1).expect_err("too old");
    assert!(matches!(refused, StartError::Level(_)), "{refused:?}");
    assert_eq!(refused.to_string(), too_old());
    drop(before);
    // A newer one knows the level before anything else is applied.
    let hold = cluster.disks[&1].fs.hold(SimOp::Write, ".log");
    run(&mut cluster, 1, 2);
    assert_eq!(cluster.running[&1].levels().told(), 2);
    drop(hold);
    end(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_of_a_higher_level_is_not_taken() {
    let mut cluster = mixed(3).await;
    cluster.agree().await;
    let before = cluster.rows(3);
    let has = cluster.running[&3].applied();
    cluster.stop(3).await;
    raise(&cluster).await;
    // Until the log is purged beyond what the member has.
    let mut number = 100;
    wait_for("the log to be purged", async || {
        number += 1;
        let long = format!("{}{}", "n".repeat(200), name(number));
        cluster.client().create_account(&long).await;
        let leader = cluster.leader().await;
        let status = cluster.running[&leader].status().await?;
        (status.log.0 > has + 1).then_some(())
    })
    .await;
    run(&mut cluster, 3, 1);
    assert_eq!(stopped(&cluster, 3).await, too_old());
    assert_eq!(cluster.rows(3), before);
    cluster.crash(3).await;
    run(&mut cluster, 3, 2);
    end(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_member_does_not_join_a_cluster_that_has_outgrown_it() {
    let mut cluster = Cluster::make(1, 4, 0, settings());
    run(&mut cluster, 1, 2);
    raise(&cluster).await;
    cluster.make_disk(2, 1);
    run(&mut cluster, 2, 1);
    assert_eq!(stopped(&cluster, 2).await, too_old());
    assert_eq!(cluster.voters().await, [1]);
    // Nor is anything else said to one that asks, but the level.
    let knock = v1::KnockRequest {
        group: log_identity(1).group.0,
        id: 2,
        levels: Some(range_to_wire(range(1))),
        ..v1::KnockRequest::default()
    };
    let reply = cluster.running[&1].knock(NodeId(2), knock).await;
    let reply = reply.expect("an answer");
    let standing = v1::KnockStanding::Unspecified;
    assert_eq!((reply.level, reply.standing()), (2, standing));
    cluster.crash(2).await;
    cluster.stop(1).await;
}
