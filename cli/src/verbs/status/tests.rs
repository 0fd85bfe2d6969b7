//! Transcripts: the leader's answer goes in; the text for people and the exit code come out.

mod keys;

use super::{answer, members_text};
use crate::args::OutputFormat;
use expect_test::{Expect, expect};
use megalith_admin::verdict;
use megalith_client::Endpoint;
use megalith_model::ids::{ClusterId, DiskId, Epoch, NodeId, VolumeId};
use megalith_model::level::{Level, LevelRange, LevelStatus, Process, ProcessLevels};
use megalith_model::member::{Losses, MemberStatus};
use megalith_model::profile::Profile;
use megalith_model::query::{DataStatus, VolumeStatus};
use megalith_model::rows::{Counters, VolumeCounts};
use megalith_model::shape::Shape;
use megalith_model::status::{ClusterStatus, DiskReport, NodeStatus};
use megalith_model::topology::{ClusterMap, Disk, Domain, Node, Slot, Volume, VolumeState};
use std::time::Duration;

const NODES: u32 = 3;

fn disk_id(node: u32) -> DiskId {
    DiskId([u8::try_from(node).expect("few nodes"); 16])
}

fn member(node: u32) -> MemberStatus {
    MemberStatus {
        node: NodeId(node),
        address: format!("meta-{node}:7001"),
        leader: node == 1,
        alive: true,
        matched: 90,
        committed: 90,
        learner: false,
        clock_ahead_ms: 0,
        id: u64::from(node),
        losses: Losses::default(),
    }
}

fn disk(node: u32) -> DiskReport {
    DiskReport {
        disk: disk_id(node),
        capacity: 100 << 30,
        used: 25 << 30,
        free: 74 << 30,
        closed: None,
        damaged_shards: 0,
        write_errors: 0,
        damaged_regions: 0,
        restored_files: 0,
        scrubbed_ms: 0,
        trash_shards: 0,
        trash_bytes: 0,
        commits: 0,
        commit_us: 0,
        turn_ms: 0,
    }
}

fn volume(number: u64) -> Volume {
    Volume {
        id: VolumeId(number),
        profile: Profile::new(2, 1).expect("a profile"),
        epoch: Epoch(1),
        state: VolumeState::Open,
        domain: Domain::Node,
        slots: (1..=NODES)
            .map(|node| Slot {
                node: NodeId(node),
                disk: disk_id(node),
            })
            .collect(),
        bytes: 5 << 20,
        shrunk: false,
    }
}

fn volume_status(number: u64) -> VolumeStatus {
    VolumeStatus {
        volume: volume(number),
        counts: VolumeCounts {
            coded: 40,
            ..VolumeCounts::default()
        },
        owed: Vec::new(),
    }
}

/// Three members, three nodes with one disk each, one open volume of 2+1: everything is fine.
fn well() -> ClusterStatus {
    let node = |node: u32| Node {
        id: NodeId(node),
        rpc_address: format!("store-{node}:7001"),
        data_address: format!("store-{node}:7002"),
        zone: String::new(),
        disks: vec![Disk {
            id: disk_id(node),
            capacity: 100 << 30,
        }],
    };
    ClusterStatus {
        cluster: ClusterId([7; 16]),
        members: (1..=3).map(member).collect(),
        nodes: (1..=NODES)
            .map(|node| NodeStatus {
                node: NodeId(node),
                alive: true,
                silent: Some(Duration::ZERO),
                disks: vec![disk(node)],
            })
            .collect(),
        data: DataStatus {
            counters: Counters {
                objects: 12,
                versions: 12,
                bytes: 9 << 20,
                uploads: 1,
            },
            buckets: 2,
            inline_blobs: 3,
            volumes: vec![volume_status(1)],
            ..DataStatus::default()
        },
        map: ClusterMap {
            term: 1,
            version: 1,
            nodes: (1..=NODES).map(node).collect(),
            alive: (1..=NODES).map(NodeId).collect(),
            writable: vec![volume(1)],
            ..ClusterMap::default()
        },
        level: levels(1, 1),
    }
}

/// A cluster of level 1, of whose programs the leader's runs up to `leader` and a gateway's up to
/// `gateway`.
fn levels(leader: u32, gateway: u32) -> LevelStatus {
    let runs = |process, highest| ProcessLevels {
        process,
        known: Some(LevelRange {
            lowest: Level(1),
            highest: Level(highest),
        }),
    };
    let mut processes: Vec<_> = (1..=3)
        .map(|node| runs(Process::Member(node), leader))
        .collect();
    processes.extend((1..=NODES).map(|node| runs(Process::Storage(node), leader)));
    processes.push(runs(Process::Gateway(1), gateway));
    LevelStatus {
        level: Level(1),
        highest: Level(leader),
        processes,
    }
}

/// A node falls silent: the leader removes it from the map and its volume from the writable ones.
fn silence(status: &mut ClusterStatus, node: u32) {
    let silent = status.nodes.iter_mut().find(|of| of.node == NodeId(node));
    let silent = silent.expect("a node");
    (silent.alive, silent.silent) = (false, Some(Duration::from_secs(75)));
    status.map.alive.retain(|id| *id != NodeId(node));
}

/// Checks the text up to the metadata members, and the exit code.
fn check_verdict(change: impl FnOnce(&mut ClusterStatus), expected: Expect) {
    let mut status = well();
    change(&mut status);
    let said = answer(&verdict::report(&status, None), OutputFormat::Text);
    let (told, _) = said.text.split_once("\n\n").expect("members follow");
    expected.assert_eq(&format!("{told}\nexit code {}\n", said.code));
}

/// Returns the paragraph that begins with `title`.
fn paragraph(status: &ClusterStatus, title: &str) -> String {
    let said = answer(&verdict::report(status, None), OutputFormat::Text);
    let found = said.text.split("\n\n").find(|text| text.starts_with(title));
    let mut text = found.unwrap_or_default().trim_end().to_owned();
    text.push('\n');
    text
}

#[test]
fn healthy() {
    let said = answer(&verdict::report(&well(), None), OutputFormat::Text);
    expect![[r#"
        cluster 07070707070707070707070707070707: healthy

        level 1

        metadata members
          1     leader    meta-1:7001              up to date
          2     follower  meta-2:7001              up to date
          3     follower  meta-3:7001              up to date

        storage nodes
          1     alive
                disk 01010101010101010101010101010101  75.0 GiB free of 100.0 GiB
          2     alive
                disk 02020202020202020202020202020202  75.0 GiB free of 100.0 GiB
          3     alive
                disk 03030303030303030303030303030303  75.0 GiB free of 100.0 GiB

        volumes (1)
          1     2+1    open    3/3 slots live  5.0 MiB

        data
          12 objects, 9.0 MiB in 2 buckets; 1 uploads in progress
          3 small objects kept with the metadata
                  40 segments: 1 more shard may be lost
        exit code 0
    "#]]
    .assert_eq(&format!("{}exit code {}\n", said.text, said.code));
}

#[test]
fn a_silent_node_with_a_volume_left_to_write_to_is_degraded() {
    check_verdict(
        |status| {
            silence(status, 2);
            status.map.degraded = std::mem::take(&mut status.map.writable);
            status.map.refusal = Some("2 of 3 nodes live".to_owned());
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: degraded
              ! storage node 2 is not heard from (for 75 s)
              ! only volumes with a member missing take writes: 2 of 3 nodes live
              ! 40 segments lack shards that are out of reach: the worst may lose 0 more
            exit code 1
        "#]],
    );
}

#[test]
fn no_volume_to_write_to_is_not_serving() {
    check_verdict(
        |status| {
            status.map.writable.clear();
            status.map.refusal = Some("1 of 3 nodes lives".to_owned());
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: NOT SERVING
              ! no volume takes writes: 1 of 3 nodes lives
            exit code 2
        "#]],
    );
}

#[test]
fn a_cluster_that_has_made_no_volume_yet_is_not_serving() {
    check_verdict(
        |status| {
            status.map.writable.clear();
            status.data.volumes.clear();
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: NOT SERVING
              ! no volume takes writes: none has been made yet
            exit code 2
        "#]],
    );
}

#[test]
fn more_members_lost_than_parity_is_not_serving_and_the_worst_comes_first() {
    check_verdict(
        |status| {
            silence(status, 2);
            silence(status, 3);
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: NOT SERVING
              ! 40 segments can't be read now: too few shards live
              ! storage node 2 is not heard from (for 75 s)
              ! storage node 3 is not heard from (for 75 s)
            exit code 2
        "#]],
    );
}

#[test]
fn a_full_disk_is_degraded() {
    check_verdict(
        |status| {
            status.nodes[1].disks[0].closed = Some("less than the reserve is free".to_owned());
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: degraded
              ! disk 02020202020202020202020202020202 of node 2 takes no new shards: less than the reserve is free
            exit code 1
        "#]],
    );
}

#[test]
fn a_disk_with_errors_and_rot_is_degraded_and_what_healed_is_a_note() {
    check_verdict(
        |status| {
            let disk = &mut status.nodes[0].disks[0];
            (disk.write_errors, disk.damaged_shards) = (2, 3);
            (disk.damaged_regions, disk.restored_files) = (4, 5);
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: degraded
              ! disk 01010101010101010101010101010101 of node 1 had 2 failed writes
              ! disk 01010101010101010101010101010101 of node 1 has 3 damaged shards
              ! disk 01010101010101010101010101010101 of node 1 has 4 damaged pieces in its chunk files
              - disk 01010101010101010101010101010101 of node 1 had 5 damaged files that were written anew
            exit code 1
        "#]],
    );
}

#[test]
fn what_is_in_the_trash_and_a_restore_are_notes() {
    check_verdict(
        |status| {
            let disk = &mut status.nodes[0].disks[0];
            (disk.trash_shards, disk.trash_bytes) = (2, 300);
            status.data.restored = true;
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: healthy
              - disk 01010101010101010101010101010101 of node 1 keeps 2 shards (300 bytes) that nothing names in its trash
              - the metadata was restored from a backup: no disk deletes what these rows don't name, until `megalith meta release-restore`
            exit code 0
        "#]],
    );
}

#[test]
fn a_metadata_member_that_is_not_heard_from_is_degraded() {
    check_verdict(
        |status| status.members[2].alive = false,
        expect![[r#"
        cluster 07070707070707070707070707070707: degraded
          ! metadata member 3 is not heard from
        exit code 1
    "#]],
    );
}

#[test]
fn a_new_learner_is_a_note() {
    check_verdict(
        |status| {
            let mut new = member(4);
            new.learner = true;
            status.members.push(new);
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: healthy
              - metadata member 4 is a learner: it does not vote yet
            exit code 0
        "#]],
    );
}

#[test]
fn a_member_that_lost_its_log_is_degraded_and_shown_once() {
    let lose = |status: &mut ClusterStatus| {
        let mut again = member(3);
        (again.learner, again.id, again.matched) = (true, 33, 10);
        again.losses.lost = "a record is damaged".to_owned();
        status.members[2].alive = false;
        status.members.push(again);
    };
    check_verdict(
        lose,
        expect![[r#"
        cluster 07070707070707070707070707070707: degraded
          ! metadata member 3 has lost its log and is being rebuilt from its peers, it does not vote: a record is damaged
        exit code 1
    "#]],
    );
    let mut status = well();
    lose(&mut status);
    expect![[r#"

        metadata members
          1     leader    meta-1:7001              up to date
          2     follower  meta-2:7001              up to date
          3     learner   meta-3:7001              80 entries behind
    "#]]
    .assert_eq(&members_text(&verdict::report(&status, None)));
}

#[test]
fn a_rebuilt_member_leaves_a_note_until_its_files_are_removed() {
    check_verdict(
        |status| {
            let member = &mut status.members[1];
            member.losses.lost = "a record is damaged".to_owned();
            member.losses.kept = "/meta/lost-1".to_owned();
            member.losses.tables = "a block is damaged".to_owned();
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: healthy
              - metadata member 2 was rebuilt from its peers; the files of the lost log are in /meta/lost-1 until somebody removes them: a record is damaged
              - the tables of metadata member 2 were damaged and made again: a block is damaged
            exit code 0
        "#]],
    );
}

#[test]
fn one_member_and_one_node_are_told_what_that_means() {
    check_verdict(
        |status| {
            status.members.truncate(1);
            let volume = &mut status.data.volumes[0].volume;
            volume.domain = Domain::Disk;
            volume.profile = Profile::new(3, 0).expect("a profile");
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: healthy
              - one metadata member: losing its disk loses the metadata
              - volumes are spread over disks, not nodes: losing a node isn't covered
              - volumes have no parity: losing a disk loses data
            exit code 0
        "#]],
    );
}

#[test]
fn owed_and_damaged_shards_are_degraded() {
    check_verdict(
        |status| {
            status.data.owed_segments = 2;
            status.data.damaged_shards = 1;
            let of = &mut status.data.volumes[0];
            of.counts.owed = 2;
            of.owed = vec![(Shape::Coded, 2, 0b1, 2)];
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: degraded
              ! 1 shards were found damaged and are not yet repaired
              ! 2 segments lack shards that should exist (owed): 2 on disk 01010101010101010101010101010101 of node 1
            exit code 1
        "#]],
    );
}

#[test]
fn segments_are_counted_by_what_may_still_be_lost() {
    let mut status = well();
    expect![[r#"
        data
          12 objects, 9.0 MiB in 2 buckets; 1 uploads in progress
          3 small objects kept with the metadata
                  40 segments: 1 more shard may be lost
    "#]]
    .assert_eq(&paragraph(&status, "data"));
    silence(&mut status, 1);
    expect![[r#"
        data
          12 objects, 9.0 MiB in 2 buckets; 1 uploads in progress
          3 small objects kept with the metadata
                  40 segments: readable, nothing more may be lost
    "#]]
    .assert_eq(&paragraph(&status, "data"));
}

#[test]
fn deletes_are_noted_only_when_they_pile_up() {
    check_verdict(
        |status| status.data.deletes_pending = 100_000,
        expect![[r#"
            cluster 07070707070707070707070707070707: healthy
            exit code 0
        "#]],
    );
    check_verdict(
        |status| status.data.deletes_pending = 100_001,
        expect![[r#"
            cluster 07070707070707070707070707070707: healthy
              - 100001 deletes wait for their disks
            exit code 0
        "#]],
    );
}

#[test]
fn shrunk_volumes_are_noted_once_they_hold_something() {
    check_verdict(
        |status| {
            status.data.volumes[0].volume.shrunk = true;
            status.data.volumes.push(volume_status(2));
            let empty = &mut status.data.volumes[1].volume;
            (empty.shrunk, empty.bytes) = (true, 0);
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: healthy
              - 1 volumes have fewer data shards than the cluster's profile: fully protected, at more space, until they are encoded again
            exit code 0
        "#]],
    );
}

#[test]
fn only_the_newest_volumes_are_shown_to_people() {
    let mut status = well();
    status.data.volumes = (1..=14).map(volume_status).collect();
    status.data.volumes[0].volume.state = VolumeState::Closed;
    let shown = paragraph(&status, "volumes");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 1 + 12 + 1, "{shown}");
    assert_eq!(lines[0], "volumes (14)");
    assert!(lines[1].trim_start().starts_with("14 "), "{shown}");
    assert_eq!(lines[13], "  … and 2 older ones (-o json)");
}

#[test]
fn nodes_show_zone_and_what_is_wrong_with_a_disk() {
    let mut status = well();
    status.map.nodes[0].zone = "rack-1".to_owned();
    silence(&mut status, 3);
    status.nodes[1].disks[0].closed = Some("read-only".to_owned());
    status.nodes[1].disks[0].damaged_shards = 7;
    expect![[r#"
        storage nodes
          1     alive  zone rack-1
                disk 01010101010101010101010101010101  75.0 GiB free of 100.0 GiB
          2     alive
                disk 02020202020202020202020202020202  75.0 GiB free of 100.0 GiB  CLOSED: read-only  7 damaged shards seen
          3     SILENT
                disk 03030303030303030303030303030303  75.0 GiB free of 100.0 GiB
    "#]].assert_eq(&paragraph(&status, "storage nodes"));
}

#[test]
fn a_member_that_lags_is_shown_with_how_far() {
    let mut status = well();
    status.members[1].matched = 80;
    expect![[r#"

        metadata members
          1     leader    meta-1:7001              up to date
          2     follower  meta-2:7001              10 entries behind
          3     follower  meta-3:7001              up to date
    "#]]
    .assert_eq(&members_text(&verdict::report(&status, None)));
}

#[test]
fn nobody_answers() {
    let members = [1, 2].map(|node| Endpoint {
        node: NodeId(node),
        address: format!("meta-{node}:7001"),
    });
    let report = verdict::unreachable(&members, "connection refused");
    let said = answer(&report, OutputFormat::Text);
    expect![[r#"
        cluster: NOT SERVING
          ! no metadata leader answers (meta-1:7001, meta-2:7001): connection refused
        exit code 2
    "#]]
    .assert_eq(&format!("{}exit code {}\n", said.text, said.code));
    assert_eq!(answer(&report, OutputFormat::Json).code, 2);
}

#[test]
fn who_holds_the_level_back_is_named() {
    let mut status = well();
    let mut shown = paragraph(&status, "level");
    status.level = levels(2, 2);
    shown += &paragraph(&status, "level");
    status.level = levels(2, 1);
    status.level.processes[4].known = None;
    shown += &paragraph(&status, "level");
    expect![[r#"
        level 1
        level 1; every process runs 2, too: `megalith meta raise-level`
        level 1; 2 is held back
          storage node 2 is not heard
          gateway 1 runs level 1
    "#]]
    .assert_eq(&shown);
}

#[test]
fn the_keys_of_the_json_are_stable() {
    let report = verdict::report(&well(), Some(&keys::rotated()));
    let said = answer(&report, OutputFormat::Json).text;
    let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let keys = |at: &str| {
        let object = json.pointer(at).and_then(serde_json::Value::as_object);
        let mut keys: Vec<&String> = object.expect("an object").keys().collect();
        keys.sort();
        format!("{at}: {keys:?}\n")
    };
    let shown: String = [
        "",
        "/level",
        "/keys",
        "/metadata/members/0",
        "/nodes/0",
        "/nodes/0/disks/0",
    ]
    .into_iter()
    .chain(["/volumes/0", "/data", "/data/segments_by_margin/0"])
    .map(keys)
    .collect();
    expect![[r#"
        : ["cluster", "data", "health", "keys", "leases", "level", "metadata", "nodes", "notes", "reasons", "volumes"]
        /level: ["held_back_by", "highest", "level"]
        /keys: ["begun_ms", "closed", "dropped_ms", "left", "passed_all", "resealed", "version"]
        /metadata/members/0: ["address", "alive", "behind", "clock_ahead_ms", "kept", "leader", "lost", "node", "tables", "voter"]
        /nodes/0: ["alive", "disks", "node", "silent_ms", "zone"]
        /nodes/0/disks/0: ["capacity", "closed", "commit_us", "commits", "damaged_regions", "damaged_shards", "disk", "free", "restored_files", "scrubbed_ms", "trash_bytes", "trash_shards", "turn_ms", "used", "write_errors"]
        /volumes/0: ["bytes", "domain", "epoch", "living", "members", "profile", "shrunk", "state", "volume"]
        /data: ["buckets", "bytes", "damaged_shards", "deletes_pending", "inline_blobs", "objects", "owed_by_disk", "owed_segments", "restored", "segments_by_margin", "uploads"]
        /data/segments_by_margin/0: ["margin", "segments"]
    "#]].assert_eq(&shown);
    assert_eq!(json["health"], "healthy");
}

#[test]
fn a_slow_disk_and_one_that_hangs_are_named_among_the_others() {
    check_verdict(
        |status| {
            for node in &mut status.nodes {
                (node.disks[0].commits, node.disks[0].commit_us) = (40, 200_000);
            }
            (
                status.nodes[0].disks[0].commits,
                status.nodes[0].disks[0].commit_us,
            ) = (1, 2_000_000);
            status.nodes[2].disks[0].turn_ms = 4_200;
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: degraded
              ! disk 01010101010101010101010101010101 of node 1 is slow: a write takes 2000 ms, 5.0 ms on others
              ! disk 03030303030303030303030303030303 of node 3 hangs: a write has not come back for 4 s
            exit code 1
        "#]],
    );
}

/// A node goes on without one of its disks: it registers with the others, of which it has none.
fn lose_disk(status: &mut ClusterStatus, node: u32) {
    let of = |id| usize::try_from(id).expect("small") - 1;
    status.map.nodes[of(node)].disks.clear();
    status.nodes[of(node)].disks.clear();
}

#[test]
fn a_missing_disk_of_a_living_node_is_named_with_what_it_held() {
    check_verdict(
        |status| lose_disk(status, 2),
        expect![[r#"
        cluster 07070707070707070707070707070707: degraded
          ! disk 02020202020202020202020202020202 of node 2 is missing, and with it shards of 40 segments in 1 volume
          ! 40 segments lack shards that are out of reach: the worst may lose 0 more
        exit code 1
    "#]],
    );
    let mut status = well();
    lose_disk(&mut status, 2);
    expect![[r#"
        volumes (1)
          1     2+1    open    2/3 slots live  5.0 MiB
    "#]]
    .assert_eq(&paragraph(&status, "volumes"));
}

#[test]
fn a_missing_disk_of_an_empty_closed_volume_is_a_note() {
    check_verdict(
        |status| {
            lose_disk(status, 2);
            status.data.volumes[0].counts = VolumeCounts::default();
            status.data.volumes[0].volume.state = VolumeState::Closed;
        },
        expect![[r#"
            cluster 07070707070707070707070707070707: healthy
              - disk 02020202020202020202020202020202 of node 2 is missing, and with it 1 volume without shards
            exit code 0
        "#]],
    );
}
