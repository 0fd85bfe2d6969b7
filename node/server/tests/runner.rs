//! A whole node, started and stopped: joining, heartbeats, deletes, reports of damage.

mod support;

use megalith_client::{
    ChannelSettings, ClientError, DataClient, DataFault, DataSettings, Endpoint, ShardClient,
    ShardRoute,
};
use megalith_identity::Role;
use megalith_model::command::{Command, ShardFill, ShardMark, Verdict};
use megalith_model::ids::{BlobId, DiskId, Epoch, VolumeId};
use megalith_model::query::{DoubtView, HeldSegment, WantedShard};
use megalith_model::rows::DoubtRow;
use megalith_model::shard::{ShardId, row_digest};

use megalith_model::topology::{ClusterMap, Disk, Node, Slot};
use megalith_proto::v1 as proto;
use megalith_server::{
    ConfigError, ListenAddress, NodeConfig, NodeError, NodeSettings, Ports, Registration,
    RunningNode, init_disks, start,
};
use megalith_store::StoreSettings;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::{
    CLUSTER, Certificates, FakeMetadata, GATEWAY, NODE, Truth, digest, framed, map, route, shard,
};
use tokio::sync::watch;
use tokio::time::timeout;

/// Waits until a value is as wanted; a minute is for busy machines only.
async fn wait<T: Clone>(of: &watch::Sender<T>, wanted: impl FnMut(&T) -> bool) -> T {
    let mut values = of.subscribe();
    let found = timeout(Duration::from_secs(60), values.wait_for(wanted)).await;
    found.expect("in time").expect("the sender is held").clone()
}

/// The first shard of a blob in volume 1.
fn shard_of(blob: u64) -> ShardId {
    ShardId {
        volume: VolumeId(1),
        blob: BlobId(blob),
        segment: 0,
        slot: 0,
    }
}

struct Fixture {
    certificates: Certificates,
    truth: Arc<Truth>,
    disks: Vec<PathBuf>,
}

impl Fixture {
    fn new(disks: usize) -> Self {
        let certificates = Certificates::new();
        let path = |i| certificates.dir.path().join(format!("disks/{i}"));
        let disks: Vec<PathBuf> = (0..disks).map(path).collect();
        init_disks(CLUSTER, &disks).expect("formatted");
        Self {
            certificates,
            truth: Truth::new(),
            disks,
        }
    }

    fn config(&self) -> NodeConfig {
        let grants = [(Role::Storage, NODE.0), (Role::Metadata, NODE.0)];
        let both = self.certificates.issue(&grants);
        let settings = NodeSettings {
            store: StoreSettings {
                reserve: 1 << 20,
                ..StoreSettings::default()
            },
            heartbeat_interval: Duration::from_millis(20),
            claim_interval: Duration::from_millis(20),
            upkeep_interval: Duration::from_millis(20),
            fills_interval: Duration::from_millis(20),
            ..NodeSettings::default()
        };
        NodeConfig {
            node: NODE,
            zone: "north".into(),
            rpc: ListenAddress::new("127.0.0.1:0"),
            data: ListenAddress::new("127.0.0.1:0"),
            storage: both.clone(),
            metadata: both,
            disks: self.disks.clone(),
            members: vec![Endpoint {
                node: NODE,
                address: "127.0.0.1:0".into(),
            }],
            settings,
        }
    }

    async fn start(&self) -> Result<RunningNode, NodeError> {
        let config = self.config();
        let ports = Ports::bind(&config).await?;
        let part = FakeMetadata(self.truth.clone()).into_part();
        let mut node = start(config, ports, Some(part)).await?;
        node.disks_tried().await;
        Ok(node)
    }

    /// A blob that a gateway may write to a disk of the node.
    fn target(&self, node: &RunningNode, disk: DiskId, blob: u64) -> ShardRoute {
        let mut map: ClusterMap = map(self.truth.pushed.borrow().version + 1);
        let at = Slot { node: NODE, disk };
        map.writable[0].slots[0] = at;
        self.truth.pushed.send_replace(map);
        route(at, blob, node.data_addr.clone().expect("a data port"))
    }

    /// The node's report of these blobs' shards.
    fn marked(&self, disk: DiskId, blobs: &[u64]) -> Command {
        let epoch = Epoch(5);
        let mark = |blob: &u64| ShardMark {
            shard: shard_of(*blob),
            epoch,
        };
        Command::MarkOwed {
            node: NODE,
            disk,
            marks: blobs.iter().map(mark).collect(),
            damaged: true,
        }
    }

    /// Says that the metadata knows the volumes of the map.
    fn know_volumes(&self) {
        let volumes = self.truth.pushed.borrow().writable.clone();
        self.truth.volumes.send_replace(volumes);
    }

    fn gateway(&self) -> DataClient {
        let material = self.certificates.issue(&[(Role::Gateway, GATEWAY.0)]);
        DataClient::new(material, DataSettings::default())
    }
}

#[tokio::test]
async fn a_node_joins_lives_and_joins_again_when_it_was_forgotten() {
    let fixture = Fixture::new(2);
    let node = fixture.start().await.expect("started");
    let mut registration = node.registration();
    let heard = registration.wait_for(|state| *state == Registration::Heard);
    let heard = timeout(Duration::from_secs(60), heard).await;
    heard.expect("in time").map(drop).expect("running");
    let joined = wait(&fixture.truth.joined, |nodes| !nodes.is_empty()).await;
    let own = &joined[0];
    assert_eq!(
        (own.id, own.zone.as_str(), own.disks.len()),
        (NODE, "north", 2)
    );
    assert_eq!(own.rpc_address, node.rpc_addr);
    assert_eq!(Some(&own.data_address), node.data_addr.as_ref());
    assert!(!own.rpc_address.ends_with(":0") && !own.data_address.ends_with(":0"));
    let beats = wait(&fixture.truth.beats, |beats| beats.len() > 2).await;
    assert!(
        beats
            .iter()
            .all(|beat| beat.node == NODE.0 && beat.disks.len() == 2)
    );
    assert!(beats[0].disks.iter().all(|disk| disk.capacity > 0));
    fixture.truth.forgetful.store(true, Ordering::SeqCst);
    wait(&fixture.truth.joined, |nodes| nodes.len() == 2).await;
    node.stop().await;
    let last = fixture
        .truth
        .beats
        .borrow()
        .last()
        .cloned()
        .expect("heartbeats");
    assert!(
        last.disks
            .iter()
            .all(|disk| disk.closed && disk.reason.contains("stopping"))
    );
    // Everything is free again: the disks' locks, the ports.
    fixture.start().await.expect("started again").stop().await;
}

#[tokio::test]
async fn a_node_stops_itself_when_the_cluster_outgrows_it() {
    let fixture = Fixture::new(1);
    let mut node = fixture.start().await.expect("started");
    wait(&fixture.truth.beats, |beats| !beats.is_empty()).await;
    let told = fixture.truth.beats.borrow()[0].levels;
    let known = megalith_model::level::KNOWN;
    let highest = known.highest.0;
    assert_eq!(told.map(|told| told.highest), Some(highest));
    fixture.truth.level.store(highest + 1, Ordering::SeqCst);
    let why = timeout(Duration::from_secs(60), node.wait()).await;
    match why.expect("in time") {
        NodeError::Level(outgrown) => assert_eq!(outgrown.level.0, highest + 1),
        other => panic!("{other:?}"),
    }
    node.stop().await;
}

#[tokio::test]
async fn deletes_are_done_before_they_are_acknowledged() {
    let fixture = Fixture::new(1);
    let node = fixture.start().await.expect("started");
    let disk = fixture.disks[0].clone();
    let disk = init_disks(CLUSTER, &[disk]).expect("formatted before")[0];
    let bytes = shard(100_000);
    let client = fixture.gateway();
    let mut rows = Vec::new();
    for blob in 100..103 {
        let target = fixture.target(&node, disk, blob);
        let put = client.put_small(&target, 100_000, framed(&bytes), digest(&bytes));
        put.await.expect("a receipt");
        let row = ShardId {
            volume: VolumeId(1),
            blob: BlobId(blob),
            segment: 0,
            slot: 0,
        };
        rows.push((blob - 90, row));
    }
    // One of them is not there at all: deleted is deleted.
    rows[1].1.segment = 77;
    fixture.truth.deletes.send_replace(rows);
    let proposed = wait(&fixture.truth.proposed, |commands| !commands.is_empty()).await;
    assert_eq!(
        proposed,
        [Command::AckDeletes {
            node: NODE,
            disk,
            through: 12
        }]
    );
    for (blob, there) in [(100, false), (101, true), (102, false)] {
        let target = fixture.target(&node, disk, blob);
        let got = client.get_cells(&target, 100_000, 0, 2).await;
        match got {
            Ok(_) => assert!(there, "{blob}"),
            Err(error) => assert_eq!((error.fault, there), (DataFault::NotFound, false)),
        }
    }
    node.stop().await;
}

/// Changes a byte where `needle` is, in every file below `dir` that holds it; says in how many.
fn corrupt(dir: &Path, needle: &[u8]) -> usize {
    let mut changed = 0;
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            changed += corrupt(&path, needle);
            continue;
        }
        let mut content = std::fs::read(&path).expect("readable");
        let found = content
            .windows(needle.len())
            .position(|bytes| bytes == needle);
        if let Some(at) = found {
            content[at] ^= 1;
            std::fs::write(&path, content).expect("written");
            changed += 1;
        }
    }
    changed
}

#[tokio::test]
async fn damage_that_a_read_finds_is_reported_once() {
    let fixture = Fixture::new(1);
    let node = fixture.start().await.expect("started");
    let disk = init_disks(CLUSTER, &fixture.disks).expect("formatted before")[0];
    let bytes = shard(200_000);
    let client = fixture.gateway();
    let target = fixture.target(&node, disk, 100);
    let put = client.put_small(&target, 200_000, framed(&bytes), digest(&bytes));
    put.await.expect("a receipt");
    assert_eq!(corrupt(&fixture.disks[0], &bytes[70_000..70_200]), 1);
    fixture.know_volumes();
    let read = client.get_cells(&target, 200_000, 1, 1).await;
    let fault = read.map(|_| "cells").map_err(|error| error.fault);
    assert_eq!(fault, Err(DataFault::Damaged));
    let proposed = wait(&fixture.truth.proposed, |commands| !commands.is_empty()).await;
    assert_eq!(proposed, [fixture.marked(disk, &[100])]);
    // The next looks have nothing new to say.
    let beats = fixture.truth.beats.borrow().len();
    wait(&fixture.truth.beats, |sent| sent.len() > beats + 5).await;
    assert_eq!(fixture.truth.proposed.borrow().len(), 1);
    let damaged = |sent: &Vec<megalith_proto::v1::HeartbeatRequest>| {
        sent.last()
            .is_some_and(|beat| beat.disks[0].damaged_shards == 1)
    };
    wait(&fixture.truth.beats, damaged).await;
    node.stop().await;
}

/// Removes every chunk file below `dir`.
fn remove_chunks(dir: &Path) -> usize {
    let mut removed = 0;
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            removed += remove_chunks(&path);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "chunk")
        {
            std::fs::remove_file(&path).expect("removed");
            removed += 1;
        }
    }
    removed
}

#[tokio::test]
async fn shards_lost_without_a_trace_are_found_by_comparing_at_the_start() {
    let fixture = Fixture::new(1);
    let node = fixture.start().await.expect("started");
    let disk = init_disks(CLUSTER, &fixture.disks).expect("formatted before")[0];
    let bytes = shard(3000);
    let client = fixture.gateway();
    let mut held = Vec::new();
    for blob in 100..103 {
        let target = fixture.target(&node, disk, blob);
        let put = client.put_small(&target, 3000, framed(&bytes), digest(&bytes));
        put.await.expect("a receipt");
        held.push(HeldSegment {
            blob: BlobId(blob),
            segment: 0,
            slots: 0b1,
        });
    }
    // Of this one the metadata knows already.
    held[1].slots = 0;
    fixture.truth.held.send_replace(held);
    fixture.know_volumes();
    node.stop().await;
    assert!(fixture.truth.proposed.borrow().is_empty(), "all was there");
    assert_eq!(remove_chunks(&fixture.disks[0]), 1);
    let node = fixture.start().await.expect("it starts without the file");
    let proposed = wait(&fixture.truth.proposed, |commands| !commands.is_empty()).await;
    assert_eq!(proposed, [fixture.marked(disk, &[100, 102])]);
    node.stop().await;
}

/// What the metadata says of a shard of these bytes.
fn wanted(bytes: &[u8]) -> WantedShard {
    WantedShard {
        len: bytes.len() as u64,
        digest: row_digest(&digest(bytes)),
        epoch: Epoch(5),
    }
}

fn doubt(disk: DiskId, blob: u64, wanted: Option<WantedShard>) -> DoubtView {
    DoubtView {
        disk,
        shard: shard_of(blob),
        row: DoubtRow {
            since_ms: 1,
            epoch: Epoch(5),
            damaged: false,
            denied: false,
        },
        judges: Vec::new(),
        wanted,
    }
}

#[tokio::test]
async fn a_node_looks_at_the_shards_that_a_gateway_could_not_read() {
    let fixture = Fixture::new(1);
    let node = fixture.start().await.expect("started");
    let disk = init_disks(CLUSTER, &fixture.disks).expect("formatted before")[0];
    let bytes = shard(200_000);
    let client = fixture.gateway();
    for blob in [100, 101] {
        let target = fixture.target(&node, disk, blob);
        let put = client.put_small(&target, 200_000, framed(&bytes), digest(&bytes));
        put.await.expect("a receipt");
    }
    let ours = |damaged, blob| Command::MarkOwed {
        node: NODE,
        disk,
        marks: vec![ShardMark {
            shard: shard_of(blob),
            epoch: Epoch(5),
        }],
        damaged,
    };
    let denied = |blob| Command::DenyDoubts {
        node: NODE,
        disk,
        shards: vec![shard_of(blob)],
    };
    let other = shard(199_999);
    for (blob, wanted, said) in [
        (100, Some(wanted(&bytes)), denied(100)),
        // Whatever it holds there, it is not what the row names.
        (101, Some(wanted(&other)), ours(true, 101)),
        (102, Some(wanted(&bytes)), ours(false, 102)),
        // Nothing names it any more.
        (103, None, denied(103)),
    ] {
        fixture.truth.proposed.send_replace(vec![]);
        fixture
            .truth
            .doubts
            .send_replace(vec![doubt(disk, blob, wanted)]);
        let proposed = wait(&fixture.truth.proposed, |commands| !commands.is_empty()).await;
        assert_eq!(proposed, [said]);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_judge_has_no_verdict_on_a_disk_that_is_away() {
    // The node that judges reaches itself under the name of the other.
    let fixture = Fixture::new(1);
    let node = fixture.start().await.expect("started");
    let away = DiskId([0xee; 16]);
    let mut map = map(fixture.truth.pushed.borrow().version + 1);
    map.alive = vec![NODE];
    map.nodes = vec![Node {
        id: NODE,
        rpc_address: node.rpc_addr.clone(),
        data_address: node.data_addr.clone().expect("a data port"),
        zone: String::new(),
        disks: vec![Disk {
            id: away,
            capacity: 1,
        }],
    }];
    fixture.truth.pushed.send_replace(map);
    let denied = |mut doubt: DoubtView| {
        doubt.row.denied = true;
        doubt.judges = vec![NODE];
        doubt
    };
    let judged = denied(doubt(away, 100, Some(wanted(b"bytes"))));
    let gone = denied(doubt(away, 101, None));
    fixture.truth.doubts.send_replace(vec![judged, gone]);
    let proposed = wait(&fixture.truth.proposed, |commands| !commands.is_empty()).await;
    let verdict = Command::JudgeDoubts {
        judge: NODE,
        disk: away,
        verdicts: vec![Verdict {
            shard: shard_of(101),
            whole: true,
        }],
    };
    assert_eq!(proposed, [verdict]);
    let calls = fixture.truth.calls.load(Ordering::SeqCst);
    let later = || fixture.truth.calls.load(Ordering::SeqCst) > calls + 20;
    timeout(Duration::from_secs(60), async {
        while !later() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("some rounds more");
    assert_eq!(
        fixture.truth.proposed.borrow().len(),
        1,
        "no verdict on a disk that is away"
    );
    node.stop().await;
}

#[tokio::test]
async fn an_owed_shard_that_is_here_and_whole_is_told() {
    let fixture = Fixture::new(1);
    let node = fixture.start().await.expect("started");
    let disk = init_disks(CLUSTER, &fixture.disks).expect("formatted before")[0];
    let bytes = shard(200_000);
    let client = fixture.gateway();
    let target = fixture.target(&node, disk, 100);
    let put = client.put_small(&target, 200_000, framed(&bytes), digest(&bytes));
    put.await.expect("a receipt");
    let other = shard(199_999);
    fixture.truth.owed.send_replace(vec![
        (shard_of(99), wanted(&bytes)),
        (shard_of(100), wanted(&bytes)),
        (shard_of(100), wanted(&other)),
    ]);
    let proposed = wait(&fixture.truth.proposed, |commands| !commands.is_empty()).await;
    let fills = vec![ShardFill {
        shard: shard_of(100),
        epoch: Epoch(5),
        digest: row_digest(&digest(&bytes)),
    }];
    let filled = Command::FillOwed {
        node: NODE,
        disk,
        fills,
    };
    assert_eq!(proposed, [filled]);
    node.stop().await;
}

#[tokio::test]
async fn a_disk_that_is_not_here_says_nothing_of_its_shards() {
    let fixture = Fixture::new(1);
    let node = fixture.start().await.expect("started");
    let away = DiskId([0xee; 16]);
    let target = fixture.target(&node, away, 100);
    let read = fixture.gateway().get_cells(&target, 1_000, 0, 1).await;
    let fault = read.map(|_| "cells").map_err(|error| error.fault);
    assert_eq!(fault, Err(DataFault::Io));
    node.stop().await;
}

#[tokio::test]
async fn an_operator_alone_has_the_disks_scrubbed() {
    let fixture = Fixture::new(2);
    let node = fixture.start().await.expect("started");
    let client = |role, number| {
        let material = fixture.certificates.issue(&[(role, number)]);
        ShardClient::new(
            material,
            ChannelSettings::default(),
            Duration::from_secs(60),
        )
    };
    let gateway = client(Role::Gateway, GATEWAY.0);
    let refused = gateway.scrub(NODE, &node.rpc_addr, None, true).await;
    assert!(
        matches!(refused, Err(ClientError::Rejected(_))),
        "{refused:?}"
    );
    let operator = client(Role::Operator, 1);
    let before = operator
        .scrub(NODE, &node.rpc_addr, None, false)
        .await
        .expect("an answer");
    assert_eq!(before.len(), 2);
    let disk = before[0].disk;
    operator
        .scrub(NODE, &node.rpc_addr, Some(disk), true)
        .await
        .expect("begun");
    let passes = before[0].passes;
    let done = async {
        loop {
            let now = operator
                .scrub(NODE, &node.rpc_addr, Some(disk), false)
                .await;
            let now = now.expect("an answer");
            assert_eq!((now.len(), now[0].disk), (1, disk));
            if now[0].passes > passes && !now[0].demanded {
                return;
            }
        }
    };
    timeout(Duration::from_secs(60), done)
        .await
        .expect("in time");
    node.stop().await;
}

#[tokio::test]
async fn a_disk_that_the_cluster_refuses_is_reported_as_such_until_it_takes_it() {
    let fixture = Fixture::new(2);
    let ids = init_disks(CLUSTER, &fixture.disks).expect("they are disks already");
    let refused = proto::RefusedDisk {
        disk: ids[0].0.to_vec().into(),
        why: "it is served by node-9".into(),
    };
    fixture.truth.refused.send_replace(vec![refused]);
    let node = fixture.start().await.expect("started");
    let closed = |beats: &Vec<proto::HeartbeatRequest>, wanted: &[&str]| {
        let last = beats.last();
        last.is_some_and(|beat| {
            let of = |id: DiskId| beat.disks.iter().find(|disk| disk.disk == id.0[..]);
            let said: Vec<&str> = ids
                .iter()
                .filter_map(|id| of(*id).map(|disk| disk.reason.as_str()))
                .collect();
            said == wanted
        })
    };
    let why = "refused by the cluster: it is served by node-9";
    wait(&fixture.truth.beats, |beats| closed(beats, &[why, ""])).await;
    // It asks again by itself, with the same proofs.
    let claims = fixture.truth.joined.borrow().len();
    wait(&fixture.truth.joined, |nodes| nodes.len() > claims + 1).await;
    fixture.truth.refused.send_replace(Vec::new());
    wait(&fixture.truth.beats, |beats| closed(beats, &["", ""])).await;
    node.stop().await;
}

/// Moves a disk's directory away, as when its file system isn't mounted; an empty one is left.
fn unmount(disk: &Path) {
    std::fs::rename(disk, disk.with_extension("away")).expect("moved");
    std::fs::create_dir(disk).expect("an empty directory");
}

fn mount(disk: &Path) {
    std::fs::remove_dir(disk).expect("nothing was written there");
    std::fs::rename(disk.with_extension("away"), disk).expect("moved");
}

#[tokio::test]
async fn disks_that_are_not_there_are_left_out_until_they_are() {
    let fixture = Fixture::new(2);
    let joined = |disks: usize| {
        wait(&fixture.truth.joined, move |nodes| {
            nodes.last().is_some_and(|node| node.disks.len() == disks)
        })
    };
    // None at all: the metadata role of the node is served all the same, and it joins.
    for disk in &fixture.disks {
        unmount(disk);
    }
    let node = fixture.start().await.expect("started");
    joined(0).await;
    for (number, disk) in (1..).zip(&fixture.disks) {
        mount(disk);
        joined(number).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_disk_that_goes_under_a_running_node_is_taken_back() {
    let fixture = Fixture::new(1);
    let node = fixture.start().await.expect("started");
    let disk = init_disks(CLUSTER, &fixture.disks).expect("formatted before")[0];
    let client = fixture.gateway();
    let write = async |blob| {
        let bytes = shard(9_000);
        let target = fixture.target(&node, disk, blob);
        let put = client.put_small(&target, 9_000, framed(&bytes), digest(&bytes));
        put.await.map(drop).map_err(|error| error.fault)
    };
    let is_open = |open: bool| {
        wait(&fixture.truth.beats, move |beats| {
            let last = beats.last().and_then(|beat| beat.disks.first());
            last.is_some_and(|disk| disk.reason.is_empty() == open)
        })
    };
    write(100).await.expect("a receipt");
    is_open(true).await;
    unmount(&fixture.disks[0]);
    is_open(false).await;
    assert!(write(101).await.is_err());
    mount(&fixture.disks[0]);
    is_open(true).await;
    write(102).await.expect("a receipt");
    let target = fixture.target(&node, disk, 100);
    let read = client.get_cells(&target, 9_000, 0, 1).await;
    assert!(read.is_ok(), "what was there before is there");
    node.stop().await;
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let fixture = Fixture::new(1);
    let good = fixture.config();
    assert_eq!(good.check(true), Ok(()));
    let wrong = |change: fn(&mut NodeConfig), metadata| {
        let mut config = fixture.config();
        change(&mut config);
        config.check(metadata).expect_err("refused")
    };
    let other = wrong(|config| config.node = megalith_model::ids::NodeId(2), true);
    assert!(matches!(other, ConfigError::Certificate { .. }));
    assert_eq!(
        wrong(|config| config.disks.clear(), false),
        ConfigError::NoRole
    );
    assert_eq!(
        wrong(|config| config.members.clear(), true),
        ConfigError::NoMembers
    );
    let twice = wrong(|config| config.disks.push(config.disks[0].clone()), true);
    assert!(matches!(twice, ConfigError::RepeatedDisk { .. }));
    let twice = wrong(
        |config| config.members.push(config.members[0].clone()),
        true,
    );
    assert!(matches!(twice, ConfigError::RepeatedMember { .. }));
    let long = wrong(|config| config.zone = "z".repeat(65), true);
    assert!(matches!(long, ConfigError::Zone { .. }));
    let hidden = wrong(|config| config.rpc.bind = "0.0.0.0:1".into(), true);
    assert!(matches!(hidden, ConfigError::Address { .. }));
}
