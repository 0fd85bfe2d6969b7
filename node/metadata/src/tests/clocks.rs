//! Members with wrong clocks: the majority's time counts, and no row is given another.

use super::harness::{CLOCK_MS, Cluster, settings, wait_for};
use crate::ClockStanding;
use megalith_model::command::{Command, Outcome};
use megalith_model::rows::AccountRow;
use std::sync::atomic::Ordering;

const YEAR_MS: u64 = 365 * 24 * 3_600_000;
const NOW_MS: u64 = 50 * YEAR_MS;

/// Creates an account; returns when that was by the group's time.
async fn created_ms(cluster: &Cluster, name: &str) -> u64 {
    let create = Command::CreateAccount {
        name: name.to_owned(),
        request: 0,
    };
    match cluster.client().propose(create).await {
        Ok(Outcome::Account(AccountRow { created_ms, .. })) => created_ms,
        other => panic!("{other:?}"),
    }
}

/// Creates an account, and checks that this was at `NOW_MS`. A leader that has not heard a majority
/// yet reckons on from what is applied, so some time may have passed.
async fn created_now(cluster: &Cluster, name: &str) {
    let made = created_ms(cluster, name).await;
    assert!((NOW_MS..NOW_MS + 60_000).contains(&made), "{name}: {made}");
}

/// Members whose clocks show `NOW_MS`.
fn members(count: u32, seed: u64) -> Cluster {
    let mut cluster = Cluster::make(count, seed, 0, settings());
    for member in 1..=count {
        cluster.clock(member).store(NOW_MS, Ordering::Relaxed);
        cluster.restart(member);
    }
    cluster
}

async fn stop(mut cluster: Cluster) {
    assert!(cluster.failures().is_empty(), "{:?}", cluster.failures());
    let members: Vec<u32> = cluster.running.keys().copied().collect();
    for member in members {
        cluster.stop(member).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_with_a_wrong_clock_hands_the_lead_over_and_stamps_nothing() {
    for wrong_ms in [NOW_MS + YEAR_MS, NOW_MS - YEAR_MS, u64::MAX] {
        let mut cluster = members(3, 1);
        created_now(&cluster, "first").await;
        let leader = cluster.leader().await;
        cluster.clock(leader).store(wrong_ms, Ordering::Relaxed);
        wait_for("another member to lead", async || {
            (cluster.leader().await != leader).then_some(())
        })
        .await;
        for number in 0..20 {
            let name = format!("later-{number}");
            created_now(&cluster, &name).await;
        }
        let status = cluster.running[&leader].status().await.expect("status");
        assert!(
            matches!(status.clock, ClockStanding::Apart { .. }),
            "{status:?}"
        );
        // Set right, it may lead again.
        cluster.clock(leader).store(NOW_MS + 5, Ordering::Relaxed);
        wait_for("its clock to agree", async || {
            let status = cluster.running[&leader].status().await?;
            (status.clock == ClockStanding::Agrees).then_some(())
        })
        .await;
        stop(cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_with_a_wrong_clock_is_never_elected() {
    let mut cluster = members(3, 2);
    let first = cluster.leader().await;
    let wrong = if first == 1 { 2 } else { 1 };
    cluster
        .clock(wrong)
        .store(NOW_MS + YEAR_MS, Ordering::Relaxed);
    for round in 0..3 {
        let leader = cluster.leader().await;
        assert_ne!(leader, wrong);
        cluster.running[&leader].hand_over().await;
        let name = format!("round-{round}");
        created_now(&cluster, &name).await;
    }
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_that_disagree_reckon_on_from_what_they_agreed_on() {
    let mut cluster = members(3, 3);
    created_now(&cluster, "first").await;
    let leader = cluster.leader().await;
    let others: Vec<u32> = (1..=3).filter(|member| *member != leader).collect();
    cluster.crash(others[0]).await;
    cluster
        .clock(others[1])
        .store(NOW_MS - YEAR_MS, Ordering::Relaxed);
    cluster
        .clock(leader)
        .store(NOW_MS + YEAR_MS, Ordering::Relaxed);
    wait_for("nobody to know the time", async || {
        let status = cluster.running[&leader].status().await?;
        (status.clock == ClockStanding::Unknown).then_some(())
    })
    .await;
    let made = created_ms(&cluster, "second").await;
    assert!(made.abs_diff(NOW_MS) < 120_000, "{made}");
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_operator_sets_back_what_a_single_member_has_moved() {
    let mut cluster = Cluster::start(1, 4, 0, settings());
    cluster.clock(1).store(NOW_MS + YEAR_MS, Ordering::Relaxed);
    assert_eq!(created_ms(&cluster, "moved").await, NOW_MS + YEAR_MS);
    cluster.clock(1).store(NOW_MS, Ordering::Relaxed);
    // Time never runs back by itself...
    assert_eq!(created_ms(&cluster, "kept").await, NOW_MS + YEAR_MS);
    let reset = cluster.client().propose(Command::ResetClock).await;
    assert_eq!(reset, Ok(Outcome::Done));
    assert_eq!(created_ms(&cluster, "reset").await, NOW_MS);
    // ...and a restart does not forget it.
    cluster.clock(1).store(CLOCK_MS, Ordering::Relaxed);
    cluster.crash(1).await;
    cluster.restart(1);
    assert_eq!(created_ms(&cluster, "restarted").await, NOW_MS);
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reset_is_not_undone_by_commands_on_their_way() {
    for seed in 0..5 {
        let mut cluster = Cluster::start(1, seed, 0, settings());
        cluster.clock(1).store(NOW_MS + YEAR_MS, Ordering::Relaxed);
        created_ms(&cluster, "moved").await;
        cluster.clock(1).store(NOW_MS, Ordering::Relaxed);
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                let client = cluster.client();
                tokio::spawn(async move {
                    for number in 0..40 {
                        client.create_account(&format!("w{writer}-{number}")).await;
                    }
                })
            })
            .collect();
        let reset = cluster.client().propose(Command::ResetClock).await;
        assert_eq!(reset, Ok(Outcome::Done));
        assert_eq!(created_ms(&cluster, "reset").await, NOW_MS, "seed {seed}");
        for writer in writers {
            writer.await.expect("no panic");
        }
        assert_eq!(created_ms(&cluster, "later").await, NOW_MS, "seed {seed}");
        stop(cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_wrong_clocks_of_five_do_not_pass_the_lead_to_each_other() {
    for other in 1..=5 {
        let mut cluster = members(5, u64::from(other));
        created_now(&cluster, "first").await;
        let leader = cluster.leader().await;
        let wrong = [
            leader,
            if other == leader {
                leader % 5 + 1
            } else {
                other
            },
        ];
        for member in wrong {
            let clock = cluster.clock(member);
            clock.store(NOW_MS + YEAR_MS, Ordering::Relaxed);
        }
        for number in 0..10 {
            let name = format!("later-{number}");
            created_now(&cluster, &name).await;
        }
        assert!(!wrong.contains(&cluster.leader().await), "{wrong:?}");
        stop(cluster).await;
    }
}
