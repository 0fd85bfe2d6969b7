//! Members that come and go while writes go on.

use super::harness::{Cluster, settings, wait_for};
use super::{Load, all_there, check_rows};
use megalith_model::ids::NodeId;
use megalith_model::member::{ChangeStanding, MemberChange};

fn add(node: u32) -> MemberChange {
    MemberChange::Add(NodeId(node))
}

fn remove(node: u32) -> MemberChange {
    MemberChange::Remove(NodeId(node))
}

fn replace(old: u32, new: u32) -> MemberChange {
    let (old, new) = (NodeId(old), NodeId(new));
    MemberChange::Replace { old, new }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_come_and_go_under_load() {
    let mut cluster = Cluster::start(3, 1, 2, settings());
    let client = cluster.client();
    let load = Load::start(&client, 6);
    load.until(300).await;
    for member in [4, 5] {
        cluster.make_disk(member, 3);
        cluster.restart(member);
        cluster.change(add(member)).await.expect("added");
        load.more(30).await;
    }
    assert_eq!(cluster.voters().await, [1, 2, 3, 4, 5]);
    assert!(cluster.net.streams() >= 2, "they came by snapshots");
    // The leader hands over before it goes.
    let leader = cluster.leader().await;
    cluster.change(remove(leader)).await.expect("removed");
    cluster.stop(leader).await;
    load.more(30).await;
    // One whose disk is gone, by one that is new.
    let leader = cluster.leader().await;
    let left = cluster.voters().await;
    let gone = *left.iter().find(|&&node| node != leader).expect("others");
    cluster.crash(gone).await;
    cluster.make_disk(6, 3);
    cluster.restart(6);
    cluster.change(replace(gone, 6)).await.expect("replaced");
    cluster
        .change(replace(gone, 6))
        .await
        .expect("it is so already");
    load.more(30).await;
    let voters = cluster.voters().await;
    assert!(voters.contains(&6) && !voters.contains(&gone) && voters.len() == 4);
    let names = load.end().await;
    all_there(&client, &names).await;
    cluster.agree().await;
    check_rows(&cluster.rows(6));
    // It holds everything itself, also after a power cut of all.
    for member in voters.clone() {
        cluster.crash(member).await;
    }
    for member in voters {
        cluster.restart(member);
    }
    all_there(&client, &names).await;
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_change_at_a_time_and_none_that_ends_the_group() {
    let mut cluster = Cluster::start(3, 2, 0, settings());
    let client = cluster.client();
    client.create_account("first").await;
    let leader = cluster.leader().await;
    // Nobody knocks: it is waited for, nothing is changed.
    let step = async |change| cluster.running[&leader].change_members(change).await;
    assert!(matches!(step(add(9)).await, Ok(ChangeStanding::UnderWay(why)) if why.contains("ask")));
    assert!(matches!(
        step(replace(9, 8)).await,
        Ok(ChangeStanding::Refused(_))
    ));
    assert!(matches!(step(add(2)).await, Ok(ChangeStanding::Done(_))));
    assert!(matches!(step(remove(9)).await, Ok(ChangeStanding::Done(_))));
    for member in [4, 5] {
        cluster.make_disk(member, 3);
        cluster.restart(member);
    }
    // The lead may move meanwhile.
    let step = async |change| {
        let leader = cluster.leader().await;
        cluster.running[&leader].change_members(change).await
    };
    wait_for("a learner", async || {
        let leader = cluster.leader().await;
        let status = cluster.running[&leader].status().await?;
        let there = status.members.iter().any(|m| m.node == NodeId(4));
        if !there {
            // Once it is there, another step would make it a voter.
            let _ = step(add(4)).await;
        }
        there.then_some(())
    })
    .await;
    let refused = wait_for("the second change to be refused", async || {
        match step(add(5)).await {
            Ok(ChangeStanding::Refused(why)) => Some(why),
            Ok(ChangeStanding::Done(_) | ChangeStanding::UnderWay(_)) | Err(_) => None,
        }
    })
    .await;
    assert!(
        refused.contains("node 4") || refused.contains("4"),
        "{refused}"
    );
    assert!(refused.contains("one at a time"), "{refused}");
    cluster.change(add(4)).await.expect("added");
    cluster.change(add(5)).await.expect("added, now");
    assert_eq!(cluster.voters().await, [1, 2, 3, 4, 5]);
    // Four of five may go while those that stay are a majority that lives.
    for member in [4, 5] {
        cluster.crash(member).await;
    }
    wait_for("two members to be missed", async || {
        let leader = cluster.leader().await;
        let status = cluster.running[&leader].status().await?;
        let missed = status.members.iter().filter(|member| !member.alive);
        (missed.count() == 2).then_some(())
    })
    .await;
    let leader = cluster.leader().await;
    let other = leader % 3 + 1;
    wait_for(
        "a removal that would end the group to be refused",
        async || {
            let leader = cluster.leader().await;
            match cluster.running[&leader].change_members(remove(other)).await {
                Ok(ChangeStanding::Refused(why)) => why.contains("majority").then_some(()),
                Ok(ChangeStanding::Done(_)) => panic!("removed"),
                Ok(ChangeStanding::UnderWay(_)) | Err(_) => None,
            }
        },
    )
    .await;
}

/// A member that has died a moment ago still counts as alive: nothing is done on the strength of
/// that.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_right_after_a_death_does_not_take_the_dead_for_the_living() {
    let mut cluster = Cluster::start(3, 25, 0, settings());
    let leader = cluster.leader().await;
    let (dead, living) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.voter(dead).await;
    cluster.crash(dead).await;
    // Gone with its disk: without the third, the leader would be alone for good.
    let refused = cluster.change(remove(living)).await;
    let why = refused.expect_err("a removal that ends the group");
    assert!(why.contains("no majority"), "{why}");

    cluster.restart(dead);
    cluster.voter(dead).await;
    cluster.crash(dead).await;
    let leader = cluster.leader().await;
    wait_for("the dead member to be waited for", async || {
        match cluster.running[&leader]
            .change_members(replace(dead, dead))
            .await
        {
            Ok(ChangeStanding::UnderWay(why)) => why.contains("does not ask").then_some(()),
            Err(_) => None,
            other => panic!("{other:?}"),
        }
    })
    .await;
    cluster.restart(dead);
    let done = cluster.change(replace(dead, dead)).await.expect("renewed");
    assert!(done.contains("heard from"), "{done}");
}
