//! What a member whose disk hangs or fails says: votes and answers wait for the disk, and a
//! question where to read does not. And when the lead stays with it.

use super::super::harness::DEADLINE;
use super::*;
use megalith_disk::sim::{SimFault, SimRule};
use tokio::sync::oneshot;

const VOTE: u32 = 5;
const PRE_VOTE: u32 = 17;

/// A candidate asks a member whose disk hangs, as after a leader has handed over: so it is no
/// matter that the member hears a leader. Nothing is said in the candidate's term before the disk
/// has answered.
async fn waits_for_the_disk(kind: u32) {
    let (cluster, leader) = three().await;
    let slow = leader % 3 + 1;
    let candidate = slow % 3 + 1;
    let hold = hang(&cluster, slow);
    cluster.client().create_account("second").await;
    hangs(&hold).await;
    let seen = wait_for("the follower to hear of that", async || {
        let seen = status(&cluster, slow).await;
        (seen.unsynced > 0).then_some(seen)
    })
    .await;
    let term = seen.role.term + 1;
    let mut asks = message(kind, candidate, slow, term);
    asks.context = "CampaignTransfer".into();
    (asks.log_term, asks.index) = (seen.role.term, seen.committed + 1_000);
    tell(&cluster, slow, asks);
    let now = status(&cluster, slow).await;
    assert_eq!(now.role.term == term, kind == VOTE, "{now:?}");
    has_hung(&cluster, slow, 300).await;
    assert!(cluster.net.term(slow.into()) < term);
    drop(hold);
    wait_for("its vote", async || {
        (cluster.net.term(slow.into()) >= term).then_some(())
    })
    .await;
    cluster.agree().await;
    stop(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_vote_is_not_given_before_the_disk_has_kept_it() {
    waits_for_the_disk(VOTE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_is_a_vote_promised() {
    waits_for_the_disk(PRE_VOTE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_to_read_is_asked_while_the_disk_hangs() {
    let (cluster, leader) = three().await;
    let slow = leader % 3 + 1;
    let hold = hang(&cluster, slow);
    cluster.client().create_account("second").await;
    hangs(&hold).await;
    let (asker, answer) = oneshot::channel();
    let raft = cluster.running[&slow].raft_for_tests();
    raft.send(Input::Read(asker)).expect("there is room");
    let told = tokio::time::timeout(DEADLINE, answer).await;
    told.expect("in time").expect("where to read");
    assert!(hold.waiting() > 0, "it hangs still");
    drop(hold);
    stop(cluster).await;
}

/// Without anybody else its own disk is the majority.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_failed_sync_held_is_not_answered() {
    let cluster = Cluster::start(1, 1, 0, settings());
    cluster.client().create_account("first").await;
    let applied = cluster.running[&1].applied();
    let fails = SimRule::once(SimOp::Sync, ".log", SimFault::Io);
    cluster.disks[&1].fs.inject(fails);
    let answer = cluster.running[&1].propose(&creation("second")).await;
    assert_eq!(answer, Err(ProposeError::Unknown));
    wait_for("the member to stop", async || {
        cluster.failures().first().map(|(member, _)| *member)
    })
    .await;
    assert_eq!(cluster.running[&1].applied(), applied);
}

/// A member that led once and whose disk hung: it has handed the lead over, and its disk has
/// answered since.
async fn after_a_hand_over() -> (Cluster, u32) {
    let mut settings = settings();
    settings.raft.disk_hangs = Duration::from_millis(200);
    settings.raft.hand_over_pause = Duration::from_secs(3_600);
    let cluster = Cluster::start(3, 1, 0, settings);
    cluster.client().create_account("first").await;
    let hung = cluster.leader().await;
    let hold = hang(&cluster, hung);
    cluster
        .client()
        .propose(creation("second").command)
        .await
        .ok();
    wait_for("another leader", async || {
        let role = status(&cluster, hung).await.role;
        (!role.leads && role.leader.is_some()).then_some(())
    })
    .await;
    drop(hold);
    (cluster, hung)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_lead_is_not_handed_over_twice_in_the_pause() {
    let (cluster, hung) = after_a_hand_over().await;
    let term = wait_for("it to lead again", async || {
        let role = status(&cluster, hung).await.role;
        if let Some(NodeId(leader)) = role.leader.filter(|_| !role.leads) {
            tell(
                &cluster,
                hung,
                message(TIMEOUT_NOW, leader, hung, role.term),
            );
        }
        role.leads.then_some(role.term)
    })
    .await;
    let hold = hang(&cluster, hung);
    let handle = cluster.running[&hung].clone();
    let answer = tokio::spawn(async move { handle.propose(&creation("third")).await });
    hangs(&hold).await;
    has_hung(&cluster, hung, 1_000).await;
    let role = status(&cluster, hung).await.role;
    assert!(role.leads && role.term == term, "{role:?}");
    drop(hold);
    let answer = answer.await.expect("no panic");
    answer.expect("it leads").expect("a new name");
    cluster.agree().await;
    stop(cluster).await;
}

/// What a dead member told of its disk makes no majority.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_lead_stays_when_the_third_member_is_dead() {
    let mut settings = settings();
    settings.raft.disk_hangs = Duration::from_millis(200);
    let mut cluster = Cluster::start(3, 1, 0, settings);
    cluster.client().create_account("first").await;
    let leader = cluster.leader().await;
    let dead = leader % 3 + 1;
    cluster.crash(dead).await;
    wait_for("it to be taken for dead", async || {
        let members = status(&cluster, leader).await.members;
        let mut members = members.iter();
        members
            .any(|member| member.node == NodeId(dead) && !member.alive)
            .then_some(())
    })
    .await;
    let before = status(&cluster, leader).await.role;
    let hold = hang(&cluster, leader);
    let handle = cluster.running[&leader].clone();
    let answer = tokio::spawn(async move { handle.propose(&creation("second")).await });
    hangs(&hold).await;
    has_hung(&cluster, leader, 1_000).await;
    assert_eq!(status(&cluster, leader).await.role, before);
    drop(hold);
    let answer = answer.await.expect("no panic");
    answer.expect("it leads").expect("a new name");
    cluster.restart(dead);
    cluster.agree().await;
    stop(cluster).await;
}
