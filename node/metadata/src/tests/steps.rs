//! The power fails at each step of the log in turn: writes, syncs, new log files, removed ones. Or
//! a step takes without end.

use super::harness::{Cluster, settings, wait_for};
use super::{all_there, name};
use megalith_disk::sim::SimOp;
use megalith_model::command::{Command, Envelope};
use std::time::Duration;
use tokio::time::timeout;

/// A member that doesn't notice that its disk is gone would hang the test.
const NOTICE: Duration = Duration::from_secs(20);

fn creation(name: &str) -> Envelope {
    Envelope {
        key: None,
        command: Command::CreateAccount {
            name: name.to_owned(),
            request: 0,
        },
    }
}

/// Proposes one command after the other until the leader's disk stops at its `step`th change.
/// Returns what was answered; what came last may have come true or not.
async fn until_the_disk_stops(
    cluster: &Cluster,
    leader: u32,
    step: u64,
    next: &mut u64,
) -> Vec<String> {
    let handle = cluster.running[&leader].clone();
    cluster.disks[&leader].fs.stop_at(step);
    let mut answered = Vec::new();
    loop {
        let name = name(*next);
        *next += 1;
        let answer = timeout(NOTICE, handle.propose(&creation(&name))).await;
        match answer.expect("the member notices") {
            Ok(answer) => {
                answer.expect("a new name");
                answered.push(name);
            }
            Err(_unknown) => return answered,
        }
    }
}

async fn cut_at_every_step(members: u32, steps: u64) {
    let mut cluster = Cluster::start(members, 1, 0, settings());
    let client = cluster.client();
    let (mut next, mut answered) = (0, Vec::new());
    for step in 1..=steps {
        let leader = cluster.leader().await;
        let fresh = until_the_disk_stops(&cluster, leader, step, &mut next).await;
        cluster.crash(leader).await;
        cluster.restart(leader);
        all_there(&client, &fresh).await;
        answered.extend(fresh);
    }
    assert!(answered.len() as u64 > steps, "the steps are of proposals");
    all_there(&client, &answered).await;
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_only_member_loses_nothing_by_a_power_cut_at_any_step() {
    cut_at_every_step(1, 80).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leaders_of_three_lose_nothing_by_a_power_cut_at_any_step() {
    cut_at_every_step(3, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_whose_disk_hangs_is_replaced_and_loses_nothing() {
    let cluster = Cluster::start(3, 1, 0, settings());
    let mut answered = Vec::new();
    let hung = cluster.leader().await;
    for number in 0..20 {
        answered.push(name(number));
        let answer = cluster.running[&hung]
            .propose(&creation(&name(number)))
            .await;
        answer.expect("it leads").expect("a new name");
    }
    let hold = cluster.disks[&hung].fs.hold(SimOp::Sync, "");
    let handle = cluster.running[&hung].clone();
    let unknown = tokio::spawn(async move { handle.propose(&creation(&name(999))).await });
    let leads = |member: &u32| cluster.running[member].leader_changes().borrow().leads;
    let next = wait_for("another leader", async || {
        let mut others = cluster.running.keys().filter(|&&member| member != hung);
        others.find(|member| leads(member)).copied()
    });
    let next = next.await;
    assert!(hold.waiting() > 0, "its log waits for the sync");
    for number in 20..60 {
        let answer = cluster.running[&next]
            .propose(&creation(&name(number)))
            .await;
        if let Ok(answer) = answer {
            answer.expect("a new name");
            answered.push(name(number));
        }
    }
    assert!(answered.len() > 40, "two members go on");
    drop(hold);
    // It may have come true or not.
    let _ = unknown.await.expect("no panic");
    all_there(&cluster.client(), &answered).await;
    cluster.agree().await;
}

/// None of its lives applies enough for a checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_killed_again_and_again_keeps_a_short_log() {
    let mut settings = settings();
    settings.apply.checkpoint_entries = 1_000;
    let mut cluster = Cluster::start(1, 1, 0, settings);
    let mut next = 0;
    for life in 0..20 {
        let leader = cluster.leader().await;
        let handle = cluster.running[&leader].clone();
        for _ in 0..30 {
            let answer = handle.propose(&creation(&name(next))).await;
            answer.expect("it leads").expect("a new name");
            next += 1;
        }
        wait_for("the log to be short", async || {
            let log_bytes = handle.status().await?.log_bytes;
            (log_bytes < 40 << 10).then_some(())
        })
        .await;
        drop(handle);
        cluster.crash(leader).await;
        cluster.restart(leader);
        eprintln!("life {life} is over");
    }
    let answered: Vec<String> = (0..next).map(name).collect();
    all_there(&cluster.client(), &answered).await;
}
