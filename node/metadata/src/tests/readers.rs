//! Slow readers, slow answers, members that fetch all rows, and much to do at once: none of it
//! stops the rest.

use super::harness::{Cluster, POLL, settings, wait_for};
use super::{Load, all_there, check_rows, name};
use crate::engine::{END_KEY, FIRST_KEY};
use crate::raft::Input;
use megalith_disk::sim::SimOp;
use megalith_model::command::{Command, Envelope};
use megalith_model::ids::NodeId;
use megalith_model::member::MemberChange;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commits_go_on_while_queries_hold_their_scans_open() {
    let cluster = Cluster::start(3, 31, 0, settings());
    let client = cluster.client();
    client.create_account(&name(0)).await;
    let mut readers = Vec::new();
    let (mut reading, mut let_go) = (Vec::new(), Vec::new());
    for handle in cluster.running.values() {
        let handle = handle.clone();
        wait_for("the first row", async || {
            (handle.applied() > 1).then_some(())
        })
        .await;
        let (begun, is_reading) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        reading.push(is_reading);
        let_go.push(go);
        readers.push(spawn_blocking(move || {
            let mut rows = 0;
            let read = handle.tables_for_tests().read(|engine| {
                let visit = &mut |_: &[u8], _: &[u8]| {
                    if rows == 0 {
                        begun.send(()).expect("the test waits");
                        let _ = may_go.recv();
                    }
                    rows += 1;
                    true
                };
                engine.scan(FIRST_KEY, END_KEY, visit)
            });
            read.expect("whole").expect("scan");
            rows
        }));
    }
    for is_reading in reading {
        spawn_blocking(move || is_reading.recv().expect("it reads"))
            .await
            .expect("no panic");
    }
    let names: Vec<_> = (1..40).map(name).collect();
    let writes = async {
        for name in &names {
            client.create_account(name).await;
        }
        all_there(&client, &names).await;
    };
    let written = timeout(Duration::from_secs(20), writes).await;
    drop(let_go);
    for reader in readers {
        assert!(reader.await.expect("no panic") > 0);
    }
    written.expect("no commit waits for a reader");
}

/// Rows change many times faster than they are sent: what a snapshot lacks comes by the log,
/// which stays for as long as that, whatever else would let it go.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_is_replaced_while_rows_change_faster_than_they_are_sent() {
    let mut settings = settings();
    settings.source.bytes_per_second = 8 << 10;
    settings.source.piece_bytes = 1 << 10;
    settings.raft.log_behind_bytes = 0;
    settings.raft.snapshot_patience = Duration::from_secs(5);
    let mut cluster = Cluster::start(3, 32, 0, settings);
    let client = cluster.client();
    let (next, end) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    // None of them reads: the new member answers no reads before it has all rows.
    let writer = |_| {
        let (client, next, end) = (client.clone(), next.clone(), end.clone());
        tokio::spawn(async move {
            while !end.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                client.create_account(&name(number)).await;
                sleep(POLL).await;
            }
        })
    };
    let writers: Vec<_> = (0..8).map(writer).collect();
    let written = async |count| {
        let enough = next.load(Ordering::Relaxed) + count;
        wait_for("writes", async || {
            (next.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    };
    written(300).await;
    let leader = cluster.leader().await;
    let gone = leader % 3 + 1;
    cluster.crash(gone).await;
    cluster.make_disk(4, 3);
    cluster.restart(4);
    let (old, new) = (NodeId(gone), NodeId(4));
    let change = MemberChange::Replace { old, new };
    let before = next.load(Ordering::Relaxed);
    cluster.change(change).await.expect("replaced");
    let meanwhile = next.load(Ordering::Relaxed) - before;
    let streams = cluster.net.streams();
    written(100).await;
    end.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    assert!(meanwhile > 300, "{meanwhile} writes are few");
    assert!(streams <= 2, "{streams} snapshots were begun");
    let some = (0..next.load(Ordering::Relaxed)).step_by(20);
    let names: Vec<_> = some.map(name).collect();
    all_there(&client, &names).await;
    cluster.agree().await;
    check_rows(&cluster.rows(4));
}

/// Every answer of a peer comes later than the question is asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_are_answered_though_each_answer_comes_after_the_retry() {
    let mut settings = settings();
    settings.raft.election_ticks = 60;
    let retry = settings.raft.tick * 4;
    let cluster = Cluster::start(3, 33, 0, settings);
    let client = cluster.client();
    client.create_account(&name(1)).await;
    cluster.net.delay(retry);
    for member in 1..=3_u64 {
        for _ in 0..3 {
            let name = name(1);
            let read = timeout(Duration::from_secs(3), client.has_account(&name, member));
            assert_eq!(read.await.expect("in time"), Some(true));
        }
    }
}

/// Its driver waits for the disk: nobody else can have answered anything meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_only_voter_answers_reads_while_its_disk_hangs() {
    let cluster = Cluster::start(1, 34, 0, settings());
    let client = cluster.client();
    client.create_account(&name(1)).await;
    assert_eq!(client.has_account(&name(1), 0).await, Some(true));
    let hold = cluster.disks[&1].fs.hold(SimOp::Sync, "");
    let handle = cluster.running[&1].clone();
    let command = Command::CreateAccount {
        name: name(2),
        request: 0,
    };
    let envelope = Envelope { key: None, command };
    let written = tokio::spawn(async move { handle.propose(&envelope).await });
    wait_for("the disk to hang", async || {
        (hold.waiting() > 0).then_some(())
    })
    .await;
    for (number, there) in [(1, true), (2, false)] {
        let name = name(number);
        let read = timeout(Duration::from_secs(2), client.has_account(&name, 0));
        assert_eq!(read.await.expect("in time"), Some(there));
    }
    drop(hold);
    written
        .await
        .expect("no panic")
        .expect("an answer")
        .expect("a new name");
    assert_eq!(client.has_account(&name(2), 0).await, Some(true));
    // After its end it knows nothing any more.
    cluster.running[&1].stop().await;
    assert_eq!(client.has_account(&name(1), 0).await, None);
}

/// Every read is checked against what was answered before it, at any of the members: one that was
/// the only voter notices when it is no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_only_voter_becomes_one_of_three_and_then_none() {
    let mut cluster = Cluster::start(1, 35, 0, settings());
    let client = cluster.client();
    let load = Load::start(&client, 6);
    load.until(200).await;
    for member in [2, 3] {
        cluster.make_disk(member, 1);
        cluster.restart(member);
        let change = MemberChange::Add(NodeId(member));
        cluster.change(change).await.expect("added");
        load.more(60).await;
    }
    let change = MemberChange::Remove(NodeId(1));
    cluster.change(change).await.expect("removed");
    // It still runs, and is asked like the others.
    load.more(80).await;
    let checked = load.checked.load(Ordering::Relaxed);
    assert!(checked > 50, "few reads were checked: {checked}");
    let names = load.end().await;
    cluster.stop(1).await;
    all_there(&client, &names).await;
    cluster.agree().await;
}

/// The queue of proposals and reads is full all the time, at every member. That of messages has
/// room for whatever comes while a driver gets no time: of a busy machine's cores, not of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_get_through_while_the_queue_of_proposals_is_full() {
    let mut settings = settings();
    settings.raft.inbox_len = 8;
    settings.raft.messages_len = usize::MAX;
    settings.raft.messages_bytes = usize::MAX;
    settings.raft.election_ticks = 100;
    let cluster = Cluster::start(3, 36, 0, settings);
    let client = cluster.client();
    client.create_account(&name(1)).await;
    let before = cluster.running[&1].status().await.expect("status").role;
    let end = Arc::new(AtomicBool::new(false));
    let mut busy = Vec::new();
    for handle in cluster.running.values() {
        let handle = handle.clone();
        let end = end.clone();
        busy.push(std::thread::spawn(move || {
            let mut refused = 0_u64;
            while !end.load(Ordering::Relaxed) {
                let read = Input::Read(oneshot::channel().0);
                if handle.raft_for_tests().send(read).is_err() {
                    refused += 1;
                    std::thread::park_timeout(Duration::from_micros(20));
                }
            }
            refused
        }));
    }
    sleep(Duration::from_secs(2)).await;
    end.store(true, Ordering::Relaxed);
    for busy in busy {
        assert!(busy.join().expect("no panic") > 100, "it was not full");
    }
    assert_eq!(cluster.net.refused(), 0);
    let after = wait_for("room in the queue", async || {
        cluster.running[&1].status().await
    });
    let after = after.await.role;
    assert_eq!(after, before, "nobody stood for election");
    client.create_account(&name(2)).await;
}
