//! The deny list reaches every member: by the log, by a snapshot, and again at a start.

use super::harness::{Cluster, DEADLINE, settings};
use megalith_model::command::Command;
use megalith_model::denied::{DeniedCertificate, DenyList};
use megalith_model::ids::NodeId;
use megalith_model::member::MemberChange;
use megalith_model::role::Role;
use tokio::time::timeout;

async fn deny(cluster: &Cluster, revision: u64) {
    let mut list = DenyList {
        revision,
        ..DenyList::default()
    };
    for id in 1..=u32::try_from(revision).expect("small") {
        list.deny(DeniedCertificate {
            role: Role::Gateway,
            id,
            serial: None,
        });
    }
    let answer = cluster.client().propose(Command::SetDenyList(list)).await;
    answer.expect("denied");
}

/// Waits until a member knows this list, or a later one.
async fn knows(cluster: &Cluster, member: u32, revision: u64) {
    let mut known = cluster.running[&member].denied();
    let known = timeout(DEADLINE, known.wait_for(|list| list.revision >= revision)).await;
    let list = known.expect("in time").expect("it runs").clone();
    assert_eq!(
        (list.revision, list.denied.len() as u64),
        (revision, revision)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_member_follows_the_deny_list() {
    let mut cluster = Cluster::start(3, 5, 0, settings());
    deny(&cluster, 1).await;
    for member in 1..=3 {
        knows(&cluster, member, 1).await;
    }
    // One that was away hears of it when it is back.
    cluster.crash(3).await;
    deny(&cluster, 2).await;
    cluster.restart(3);
    knows(&cluster, 3, 2).await;
    // A new one has it with its rows.
    cluster.make_disk(4, 3);
    cluster.restart(4);
    let added = cluster.change(MemberChange::Add(NodeId(4))).await;
    added.expect("added");
    knows(&cluster, 4, 2).await;
    // What is in the rows at a start is in force at once.
    for member in 1..=4 {
        cluster.stop(member).await;
    }
    for member in 1..=4 {
        cluster.restart(member);
        assert_eq!(cluster.running[&member].denied().borrow().revision, 2);
    }
}
