//! Slow readers, and members that fetch all rows, while writes go on.

use super::harness::{Cluster, settings, wait_for};
use super::{Load, all_there, check_rows, name};
use crate::engine::{END_KEY, FIRST_KEY};
use megalith_model::ids::NodeId;
use megalith_model::member::MemberChange;
use std::sync::mpsc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commits_go_on_while_queries_hold_their_scans_open() {
    let cluster = Cluster::start(3, 31, 0, settings());
    let client = cluster.client();
    client.create_account(&name(0)).await;
    let mut readers = Vec::new();
    let (mut reading, mut let_go) = (Vec::new(), Vec::new());
    for handle in cluster.running.values().cloned() {
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

/// Rows change several times faster than they are sent: what a snapshot lacks comes by the log,
/// which stays for as long as that, whatever else would let it go.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_is_replaced_while_rows_change_faster_than_they_are_sent() {
    let mut settings = settings();
    settings.source.bytes_per_second = 64 << 10;
    settings.raft.log_behind_bytes = 0;
    settings.raft.snapshot_patience = Duration::from_secs(5);
    let mut cluster = Cluster::start(3, 32, 0, settings);
    let client = cluster.client();
    let load = Load::start(&client, 8);
    load.until(600).await;
    let leader = cluster.leader().await;
    let gone = leader % 3 + 1;
    cluster.crash(gone).await;
    cluster.make_disk(4, 3);
    cluster.restart(4);
    let (old, new) = (NodeId(gone), NodeId(4));
    let change = MemberChange::Replace { old, new };
    cluster.change(change).await.expect("replaced");
    let streams = cluster.net.streams();
    cluster.voter(4).await;
    load.more(100).await;
    let names = load.end().await;
    assert!(streams <= 2, "{streams} snapshots were begun");
    all_there(&client, &names).await;
    cluster.agree().await;
    check_rows(&cluster.rows(4));
}
