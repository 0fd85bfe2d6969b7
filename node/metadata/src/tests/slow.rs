//! Log disks that hang: the rest of the member goes on, nothing is promised that they don't hold,
//! and the lead goes where they answer.

mod promises;

use super::harness::{Cluster, settings, wait_for};
use super::{Load, all_there, check_rows, name};
use crate::raft::Input;
use crate::testing::seeds;
use crate::*;
use megalith_disk::sim::{Hold, SimOp};
use megalith_model::command::{Command, Envelope};
use megalith_model::ids::NodeId;
use megalith_model::member::MemberChange;
use megalith_proto::v1;
use std::time::Duration;

fn creation(name: &str) -> Envelope {
    Envelope {
        key: None,
        command: Command::CreateAccount {
            name: name.to_owned(),
            request: 0,
        },
    }
}

/// Three members that lead whatever their disks do, and of whom one leads.
async fn three() -> (Cluster, u32) {
    let mut settings = settings();
    settings.raft.disk_hangs = Duration::MAX;
    settings.raft.disk_slow = Duration::MAX;
    let cluster = Cluster::start(3, 1, 0, settings);
    cluster.client().create_account("first").await;
    let leader = cluster.leader().await;
    (cluster, leader)
}

fn hang(cluster: &Cluster, member: u32) -> Hold {
    cluster.disks[&member].fs.hold(SimOp::Sync, ".log")
}

async fn hangs(hold: &Hold) {
    wait_for("a sync to hang", async || {
        (hold.waiting() > 0).then_some(())
    })
    .await;
}

async fn status(cluster: &Cluster, member: u32) -> RaftStatus {
    cluster.running[&member].status().await.expect("status")
}

/// Waits until a member says that its disk has not answered for this long.
async fn has_hung(cluster: &Cluster, member: u32, for_ms: u32) {
    wait_for("a disk to hang for a while", async || {
        (status(cluster, member).await.sync_ms >= for_ms).then_some(())
    })
    .await;
}

/// The numbers of raft's kinds of messages.
const HEARTBEAT: u32 = 8;
const TIMEOUT_NOW: u32 = 14;

/// A message of raft's to a member, as `from` could send it.
fn message(kind: u32, from: u32, to: u32, term: u64) -> v1::RaftMessage {
    v1::RaftMessage {
        kind,
        from: from.into(),
        to: to.into(),
        term,
        ..v1::RaftMessage::default()
    }
}

fn tell(cluster: &Cluster, member: u32, message: v1::RaftMessage) {
    let raft = cluster.running[&member].raft_for_tests();
    raft.send(Input::Message(message)).expect("there is room");
}

async fn stop(mut cluster: Cluster) {
    assert!(cluster.failures().is_empty(), "{:?}", cluster.failures());
    let members: Vec<u32> = cluster.running.keys().copied().collect();
    for member in members {
        cluster.stop(member).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_whose_disk_hangs_hears_everything_and_promises_nothing() {
    let (cluster, leader) = three().await;
    let slow = leader % 3 + 1;
    let hold = hang(&cluster, slow);
    for number in 0..50 {
        cluster.client().create_account(&name(number)).await;
    }
    hangs(&hold).await;
    let committed = status(&cluster, leader).await.committed;
    let heard = wait_for("the follower to hear of all that", async || {
        let heard = status(&cluster, slow).await;
        (heard.committed >= committed).then_some(heard)
    })
    .await;
    assert!(heard.log.1 < committed, "its disk holds less: {heard:?}");
    // What it answers to heartbeats keeps it alive; it has acknowledged only what it holds.
    has_hung(&cluster, slow, 1_000).await;
    assert!(hold.waiting() > 0);
    let seen = status(&cluster, leader).await;
    let seen = seen.members.iter().find(|m| m.node == NodeId(slow));
    let seen = seen.expect("a member").clone();
    assert!(seen.alive && seen.matched <= heard.log.1, "{seen:?}");
    assert!(cluster.running[&slow].applied() <= heard.log.1);
    drop(hold);
    cluster.agree().await;
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_while_the_disk_hangs_is_one_append() {
    let mut cluster = Cluster::start(1, 1, 0, settings());
    cluster.client().create_account("first").await;
    let fs = cluster.disks[&1].fs.clone();
    let hold = hang(&cluster, 1);
    let propose = |number: u64| {
        let handle = cluster.running[&1].clone();
        tokio::spawn(async move { handle.propose(&creation(&name(number))).await })
    };
    let first = propose(0);
    hangs(&hold).await;
    let before = fs.syncs();
    let others: Vec<_> = (1..200).map(propose).collect();
    let durable = status(&cluster, 1).await.log.1;
    let all_wait = async || (status(&cluster, 1).await.unsynced >= 200).then_some(());
    wait_for("all to be in raft's log", all_wait).await;
    assert!(!first.is_finished(), "it is not durable");
    drop(hold);
    for answer in [first].into_iter().chain(others) {
        let answer = answer.await.expect("no panic");
        answer.expect("it leads").expect("a new name");
    }
    assert_eq!(status(&cluster, 1).await.log.1, durable + 200);
    // The two appends, and the notes and checkpoints beside them.
    assert!(fs.syncs() - before < 20, "{} syncs", fs.syncs() - before);
    cluster.crash(1).await;
    cluster.restart(1);
    let names: Vec<_> = (0..200).map(name).collect();
    all_there(&cluster.client(), &names).await;
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_lead_goes_from_a_disk_that_hangs_to_one_that_does_not() {
    let mut settings = settings();
    settings.raft.disk_hangs = Duration::from_millis(200);
    let cluster = Cluster::start(3, 1, 0, settings);
    let client = cluster.client();
    client.create_account("first").await;
    let hung = cluster.leader().await;
    let term = status(&cluster, hung).await.role.term;
    let hold = hang(&cluster, hung);
    // It is answered by whoever leads then.
    let names: Vec<_> = (0..30).map(name).collect();
    for name in &names {
        client.propose(creation(name).command).await.ok();
    }
    assert!(hold.waiting() > 0, "it hangs still");
    let next = status(&cluster, hung).await.role;
    // Nobody had to wait for an election timeout, for none passed: it was told who leads.
    assert!(!next.leads && next.leader.is_some(), "{next:?}");
    assert_eq!(next.term, term + 1);
    drop(hold);
    all_there(&client, &names).await;
    cluster.agree().await;
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_lead_stays_when_all_disks_hang() {
    let mut settings = settings();
    settings.raft.disk_hangs = Duration::from_millis(300);
    settings.raft.hand_over_pause = Duration::ZERO;
    let cluster = Cluster::start(3, 1, 0, settings);
    cluster.client().create_account("first").await;
    let leader = cluster.leader().await;
    let before = status(&cluster, leader).await.role;
    let holds: Vec<_> = (1..=3).map(|member| hang(&cluster, member)).collect();
    let propose = |number: u64| {
        let handle = cluster.running[&leader].clone();
        tokio::spawn(async move { handle.propose(&creation(&name(number))).await })
    };
    let mut answers = vec![propose(0)];
    for hold in &holds {
        hangs(hold).await;
    }
    for number in 1..20 {
        has_hung(&cluster, leader, 300 + 50 * number).await;
        // While it hands over it would take nothing.
        answers.push(propose(number.into()));
    }
    for member in 1..=3 {
        has_hung(&cluster, member, 1_500).await;
        let role = status(&cluster, member).await.role;
        assert_eq!((role.term, role.leader), (before.term, before.leader));
    }
    drop(holds);
    for answer in answers {
        let answer = answer.await.expect("no panic");
        answer.expect("it leads still").expect("a new name");
    }
    cluster.agree().await;
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_stands_for_election_before_its_disk_has_answered() {
    let (cluster, leader) = three().await;
    let slow = leader % 3 + 1;
    let hold = hang(&cluster, slow);
    cluster.client().create_account("second").await;
    hangs(&hold).await;
    let before = status(&cluster, slow).await.role;
    let now = message(TIMEOUT_NOW, leader, slow, before.term);
    tell(&cluster, slow, now);
    assert_eq!(status(&cluster, slow).await.role, before);
    // Nor when it hears nobody any more.
    cluster.net.cut_off(slow, true);
    has_hung(&cluster, slow, 2_000).await;
    assert_eq!(status(&cluster, slow).await.role, before);
    drop(hold);
    wait_for("it to stand then", async || {
        let role = status(&cluster, slow).await.role;
        role.leader.is_none().then_some(())
    })
    .await;
    cluster.net.cut_off(slow, false);
    cluster.agree().await;
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_is_cut_back_only_when_nothing_is_on_its_way() {
    let (cluster, old) = three().await;
    let hold = hang(&cluster, old);
    // These reach nobody, and others take their places.
    cluster.net.cut_off(old, true);
    let handle = cluster.running[&old].clone();
    let lost: Vec<_> = (0..20)
        .map(|number| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.propose(&creation(&name(number))).await })
        })
        .collect();
    hangs(&hold).await;
    let others: Vec<_> = (1..=3).filter(|&member| member != old).collect();
    let leads = |member: &u32| cluster.running[member].leader_changes().borrow().leads;
    wait_for("another leader", async || {
        others.iter().any(leads).then_some(())
    })
    .await;
    for number in 100..120 {
        wait_for("an answer", async || {
            let leader = others.iter().find(|&member| leads(member))?;
            let creation = creation(&name(number));
            cluster.running[leader].propose(&creation).await.ok()
        })
        .await
        .expect("a new name");
    }
    cluster.net.cut_off(old, false);
    takes_nothing(&cluster, old).await;
    assert!(cluster.failures().is_empty(), "{:?}", cluster.failures());
    drop(hold);
    cluster.agree().await;
    for lost in lost {
        let answer = lost.await.expect("no panic");
        assert_eq!(answer, Err(ProposeError::Unknown));
    }
    let names: Vec<_> = (100..120).map(name).collect();
    all_there(&cluster.client(), &names).await;
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_life_begins_when_nothing_of_the_last_is_on_its_way() {
    let (cluster, leader) = three().await;
    let slow = leader % 3 + 1;
    let hold = hang(&cluster, slow);
    cluster.client().create_account("second").await;
    hangs(&hold).await;
    let before = status(&cluster, slow).await;
    cluster.net.silence(before.id);
    // It has acknowledged what it does not have.
    let mut beat = message(HEARTBEAT, leader, slow, before.role.term);
    beat.commit = before.committed + 1_000;
    tell(&cluster, slow, beat);
    let load = Load::start(&cluster.client(), 4);
    load.until(20).await;
    drop(hold);
    cluster.another_life(slow, before.id).await;
    assert!(cluster.net.spoke().is_empty(), "its former life spoke");
    let names = load.end().await;
    all_there(&cluster.client(), &names).await;
    cluster.agree().await;
    check_rows(&cluster.rows(slow));
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_only_voter_does_not_speak_in_a_term_that_its_disk_may_forget() {
    let mut cluster = Cluster::start(1, 1, 0, settings());
    for number in 0..100 {
        cluster.client().create_account(&name(number)).await;
    }
    // One that never gets a snapshot stays a learner.
    cluster.net.break_streams(u64::MAX);
    cluster.make_disk(2, 1);
    cluster.restart(2);
    wait_for("a learner", async || {
        let _asked = cluster.running[&1]
            .change_members(MemberChange::Add(NodeId(2)))
            .await;
        let status = status(&cluster, 1).await;
        let mut members = status.members.iter();
        members.any(|member| member.learner).then_some(())
    })
    .await;
    let term = cluster.net.term(1);
    cluster.crash(1).await;
    let hold = cluster.disks[&1].fs.hold(SimOp::Write, ".log");
    cluster.restart(1);
    wait_for("it to lead", async || {
        let role = status(&cluster, 1).await.role;
        (role.leads && role.term > term).then_some(())
    })
    .await;
    hangs(&hold).await;
    has_hung(&cluster, 1, 300).await;
    assert_eq!(cluster.net.term(1), term);
    drop(hold);
    wait_for("it to speak", async || {
        (cluster.net.term(1) > term).then_some(())
    })
    .await;
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_takes_no_more_than_may_wait_for_its_disk() {
    let mut settings = settings();
    settings.raft.unsynced_bytes_max = 2_000;
    let cluster = Cluster::start(3, 1, 0, settings);
    cluster.client().create_account("first").await;
    let leader = cluster.leader().await;
    let slow = leader % 3 + 1;
    let hold = hang(&cluster, slow);
    for number in 0..200 {
        cluster.client().create_account(&name(number)).await;
    }
    hangs(&hold).await;
    has_hung(&cluster, slow, 300).await;
    let unsynced = status(&cluster, slow).await.unsynced;
    assert!((1..100).contains(&unsynced), "{unsynced}");
    drop(hold);
    cluster.agree().await;
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_stops_lets_its_directory_go_when_the_disk_has_answered() {
    let mut cluster = Cluster::start(1, 1, 0, settings());
    cluster.client().create_account("first").await;
    let hold = hang(&cluster, 1);
    let handle = cluster.running[&1].clone();
    let proposer = handle.clone();
    let answer = tokio::spawn(async move { proposer.propose(&creation("second")).await });
    hangs(&hold).await;
    let stopped = tokio::spawn(async move { handle.stop().await });
    takes_nothing(&cluster, 1).await;
    assert!(matches!(
        cluster.try_restart(1),
        Err(StartError::InUse { .. })
    ));
    drop(hold);
    stopped.await.expect("no panic");
    // What was on its way is answered before the end.
    let answer = answer.await.expect("no panic");
    answer.expect("it leads").expect("a new name");
    cluster.disks[&1].fs.kill();
    cluster.restart(1);
    all_there(&cluster.client(), &["second".to_owned()]).await;
    stop(cluster).await;
}

/// Waits until a member's driver waits for its disk.
async fn takes_nothing(cluster: &Cluster, member: u32) {
    let handle = &cluster.running[&member];
    let asked = || tokio::time::timeout(Duration::from_millis(100), handle.status());
    wait_for("the driver to take nothing more", async || {
        let answered = asked().await.is_ok_and(|status| status.is_some());
        (!answered).then_some(())
    })
    .await;
}

/// The power of all fails while appends of some are on their way and others wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_answered_is_lost_by_power_cuts_while_disks_hang() {
    for seed in seeds(3) {
        let (mut cluster, _) = three().await;
        let client = cluster.client();
        let load = Load::start(&client, 8);
        for round in 0..3 {
            load.more(40).await;
            let slow = u32::try_from((seed + round) % 3 + 1).expect("small");
            let hold = hang(&cluster, slow);
            hangs(&hold).await;
            if cluster.leader().await != slow {
                // Few: reads there wait for the disk.
                load.more(10).await;
            }
            for (member, disk) in &cluster.disks {
                disk.fs.crash(seed + round * 3 + u64::from(*member));
            }
            drop(hold);
            cluster.power_cut().await;
        }
        load.more(40).await;
        let names = load.end().await;
        all_there(&client, &names).await;
        cluster.agree().await;
        check_rows(&cluster.rows(1));
        stop(cluster).await;
    }
}
