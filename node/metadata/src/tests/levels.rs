//! Members whose programs run different levels: one that is too old stops itself, and nothing else
//! stops.

use super::harness::{Cluster, settings, wait_for};
use super::name;
use crate::*;
use megalith_model::command::Command;
use megalith_model::keys::{Meta, RowKey};
use megalith_model::level::{Level, LevelRange, OutOfRange};

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
    run(&mut cluster, 1, 2);
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
    cluster.crash(2).await;
    cluster.stop(1).await;
}
