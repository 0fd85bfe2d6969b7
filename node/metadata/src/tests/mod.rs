//! What a group of members promises, whatever is lost, cut off or left behind.

mod asks;
mod clocks;
mod damage;
mod denied;
mod harness;
mod levels;
mod members;
mod readers;
mod real;
mod slow;
mod steps;

use crate::engine::ChoiceError;
use crate::testing::{log_identity, seeds};
use crate::*;
use harness::{Client, Cluster, DIR, Rows, settings, wait_for};
use megalith_disk::FileSystem;
use megalith_disk::sim::{SimFault, SimFs, SimOp, SimRule};
use megalith_model::audit;
use megalith_model::command::{Command, Envelope};
use megalith_model::ids::NodeId;
use megalith_model::table::{MemRows, Overlay};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

impl MetaHandle {
    fn rows_for_tests(&self) -> Rows {
        harness::rows_of(self.tables_for_tests())
    }
}

fn name(number: u64) -> String {
    format!("account-{number:06}")
}

/// Writes accounts until told to stop; each is checked by a read right after its answer.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    checked: Arc<AtomicU64>,
    writers: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(client: &Client, writers: u64) -> Self {
        let (stop, answered): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let checked: Arc<AtomicU64> = Arc::default();
        let next = Arc::new(AtomicU64::new(0));
        let writer = |_| {
            let (client, stop, next) = (client.clone(), stop.clone(), next.clone());
            let (answered, checked) = (answered.clone(), checked.clone());
            tokio::spawn(async move {
                let mut done = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let name = name(number);
                    client.create_account(&name).await;
                    answered.fetch_add(1, Ordering::Relaxed);
                    if number % 3 == 0
                        && let Some(there) = client.has_account(&name, number / 3).await
                    {
                        assert!(there, "{name} was answered, and a later read lacks it");
                        checked.fetch_add(1, Ordering::Relaxed);
                    }
                    done.push(name);
                }
                done
            })
        };
        let writers = (0..writers).map(writer).collect();
        Self {
            stop,
            answered,
            checked,
            writers,
        }
    }

    async fn until(&self, answered: u64) {
        wait_for("answers", async || {
            (self.answered.load(Ordering::Relaxed) >= answered).then_some(())
        })
        .await;
    }

    async fn more(&self, count: u64) {
        self.until(self.answered.load(Ordering::Relaxed) + count)
            .await;
    }

    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut names = Vec::new();
        for writer in self.writers {
            names.extend(writer.await.expect("a writer"));
        }
        names
    }
}

async fn all_there(client: &Client, names: &[String]) {
    for (name, pick) in names.iter().zip(0..) {
        let there = wait_for("a read", async || client.has_account(name, pick).await).await;
        assert!(there, "{name} was answered and is gone");
    }
}

fn check_rows(rows: &Rows) {
    let mut kept = MemRows::default();
    let mut overlay = Overlay::new(&kept);
    for (key, value) in rows {
        overlay.put(key.clone(), value.clone());
    }
    let batch = overlay.into_batch();
    kept.write(batch);
    assert_eq!(audit::audit(&kept).expect("audit"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_answered_is_lost_by_losses_kills_and_a_power_cut() {
    for seed in seeds(3) {
        let mut cluster = Cluster::start(3, seed, 5, settings());
        let client = cluster.client();
        let load = Load::start(&client, 8);
        for _ in 0..4 {
            load.more(60).await;
            let leader = cluster.leader().await;
            cluster.crash(leader).await;
            load.more(30).await;
            cluster.restart(leader);
        }
        load.more(30).await;
        assert!(
            load.checked.load(Ordering::Relaxed) > 20,
            "seed {seed}: few reads were checked"
        );
        let names = load.end().await;
        cluster.power_cut().await;
        all_there(&client, &names).await;
        cluster.agree().await;
        check_rows(&cluster.rows(1));
        for member in 1..=3 {
            cluster.stop(member).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_behind_the_log_catches_up_while_writes_go_on() {
    let mut cluster = Cluster::start(3, 1, 2, settings());
    let client = cluster.client();
    let load = Load::start(&client, 8);
    load.until(50).await;
    let leader = cluster.leader().await;
    let away = if leader == 3 { 2 } else { 3 };
    let seen = cluster.running[&away].applied();
    cluster.crash(away).await;
    wait_for("the log to be purged", async || {
        let leader = cluster.leader().await;
        let status = cluster.running[&leader].status().await?;
        (status.log.0 > seen + 200).then_some(())
    })
    .await;
    cluster.net.break_streams(2);
    cluster.restart(away);
    let leader = cluster.leader().await;
    cluster
        .caught_up(away, cluster.running[&leader].applied())
        .await;
    assert!(
        cluster.net.streams() >= 3,
        "it came back by snapshot, over broken streams"
    );
    load.more(100).await;
    let names = load.end().await;
    cluster.agree().await;
    check_rows(&cluster.rows(away));
    // It holds everything itself, also after a power cut.
    cluster.power_cut().await;
    all_there(&client, &names).await;
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_rows_are_fetched_while_the_log_goes_on() {
    let mut cluster = Cluster::start(3, 2, 0, settings());
    let client = cluster.client();
    let load = Load::start(&client, 8);
    load.until(400).await;
    let leader = cluster.leader().await;
    let broken = if leader == 1 { 2 } else { 1 };
    cluster.crash(broken).await;
    cluster.disks[&broken].engines.lose();
    cluster.restart(broken);
    load.more(50).await;
    let leader = cluster.leader().await;
    cluster
        .caught_up(broken, cluster.running[&leader].applied())
        .await;
    let names = load.end().await;
    cluster.agree().await;
    let status = cluster.running[&broken].status().await.expect("status");
    assert!(!status.rebuilding);
    cluster.crash(broken).await;
    cluster.restart(broken);
    all_there(&client, &names).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_member_alone_leads_at_once_and_keeps_everything() {
    let mut cluster = Cluster::start(1, 3, 0, settings());
    let client = cluster.client();
    for number in 0..300 {
        client.create_account(&name(number)).await;
        if number % 100 == 99 {
            cluster.crash(1).await;
            cluster.restart(1);
        }
    }
    let names: Vec<_> = (0..300).map(name).collect();
    all_there(&client, &names).await;
    let status = cluster.running[&1].status().await.expect("status");
    assert!(status.log.0 > 1, "the log was purged");
    cluster.stop(1).await;
    cluster.disks[&1].engines.lose();
    let refused = cluster.try_restart(1);
    assert!(matches!(
        refused,
        Err(StartError::Choice(ChoiceError::Alone { .. }))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failed_sync_stops_the_member_and_not_the_group() {
    let mut cluster = Cluster::start(3, 4, 0, settings());
    let client = cluster.client();
    let load = Load::start(&client, 4);
    load.until(30).await;
    let leader = cluster.leader().await;
    cluster.disks[&leader]
        .fs
        .inject(SimRule::once(SimOp::Sync, ".log", SimFault::Io));
    wait_for("the member to stop", async || {
        (!cluster.failures().is_empty()).then_some(())
    })
    .await;
    {
        let failures = cluster.failures();
        assert_eq!(failures[0].0, leader);
        assert!(
            matches!(failures[0].1, MetaFailure::Raft(_)),
            "{:?}",
            failures[0].1
        );
    }
    load.more(50).await;
    // The disk has forgotten what the failed sync held.
    cluster.crash(leader).await;
    cluster.restart(leader);
    load.more(50).await;
    let names = load.end().await;
    all_there(&client, &names).await;
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_member_refuses() {
    let mut cluster = Cluster::start(3, 5, 0, settings());
    let leader = cluster.leader().await;
    let follower = if leader == 1 { 2 } else { 1 };
    let envelope = |len| Envelope {
        key: None,
        command: Command::CreateAccount {
            name: "x".repeat(len),
            request: 0,
        },
    };
    let large = cluster.running[&leader]
        .propose(&envelope(PROPOSAL_BYTES_MAX + 1))
        .await;
    assert_eq!(large, Err(ProposeError::TooLarge));
    wait_for("the follower to know its leader", async || {
        let answer = cluster.running[&follower].propose(&envelope(5)).await;
        let expected = Err(ProposeError::NotLeader {
            hint: Some(NodeId(leader)),
        });
        (answer == expected).then_some(())
    })
    .await;
    assert!(matches!(
        cluster.try_restart(leader),
        Err(StartError::InUse { .. })
    ));
    cluster.stop(follower).await;
    let disk = cluster.disks.get_mut(&follower).expect("made");
    disk.fs = SimFs::new(1 << 20);
    disk.engines.lose();
    disk.fs.create_dir(Path::new(DIR)).expect("create");
    // An empty directory may be a disk that isn't mounted: nothing is made there.
    assert!(matches!(
        cluster.try_restart(follower),
        Err(StartError::NotInitialised { .. })
    ));
    let left = cluster.disks[&follower].fs.list(Path::new(DIR));
    assert_eq!(left.expect("list"), []);
}

#[test]
fn a_directory_is_made_once() {
    let fs: Arc<dyn FileSystem> = Arc::new(megalith_disk::sim::SimFs::new(1 << 20));
    let dir = Path::new(DIR);
    fs.create_dir(dir).expect("create");
    assert!(!MetaStore::is_initialised(fs.as_ref(), dir).expect("look"));
    let init = || MetaStore::init(fs.clone(), dir, log_identity(1), &[NodeId(1)]);
    init().expect("init");
    assert!(MetaStore::is_initialised(fs.as_ref(), dir).expect("look"));
    assert!(matches!(init(), Err(StartError::Initialised { .. })));
}

/// Cuts the making of a directory off at every step: it is made again, or is there whole.
#[test]
fn a_directory_half_made_is_made_again() {
    for step in 1..40 {
        let sim = megalith_disk::sim::SimFs::new(1 << 20);
        let fs: Arc<dyn FileSystem> = Arc::new(sim.clone());
        let dir = Path::new(DIR);
        fs.create_dir(dir).expect("create");
        fs.sync_dir(Path::new("/")).expect("sync");
        let init = || MetaStore::init(fs.clone(), dir, log_identity(1), &[NodeId(1)]);
        sim.stop_at(step);
        let first = init();
        sim.crash(step);
        if MetaStore::is_initialised(fs.as_ref(), dir).expect("look") {
            let opened = log::MetaLog::open(
                fs.clone(),
                &dir.join("log"),
                log_identity(1),
                log::LogSettings::default(),
            );
            assert_eq!(opened.expect("whole").conf().voters, [1], "step {step}");
        } else {
            assert!(first.is_err(), "step {step}");
            init().unwrap_or_else(|error| panic!("step {step}: {error}"));
        }
    }
}
