//! Turns what the leader says into a verdict with reasons. Pure.

mod keys;
mod missing;
mod owed;
mod slow;

use crate::report::{
    DataReport, DiskStatus, Health, LeaseReport, LevelReport, MarginReport, MemberReport,
    MetadataReport, NodeReport, Report, VolumeReport,
};
use megalith_client::Endpoint;
use megalith_model::level::LevelStatus;
use megalith_model::margin;
use megalith_model::rotation::Rotation;
use megalith_model::status::{ClusterStatus, DiskReport, NodeStatus};
use megalith_model::topology::{Domain, Lease, VolumeState};

/// From this difference on, in seconds, a clock is worth a note.
const CLOCK_NOTED_S: u64 = 5;
/// From this difference on, in seconds, a member with such a clock doesn't lead.
const CLOCK_WRONG_S: u64 = 60;

/// Collects reasons with the health that each implies.
#[derive(Default)]
struct Verdict(Vec<(Health, String)>);

impl Verdict {
    fn degraded(&mut self, reason: String) {
        self.0.push((Health::Degraded, reason));
    }

    fn not_serving(&mut self, reason: String) {
        self.0.push((Health::NotServing, reason));
    }

    /// Returns the worst health, and the reasons, worst first.
    fn close(mut self) -> (Health, Vec<String>) {
        self.0.sort_by_key(|(health, _)| std::cmp::Reverse(*health));
        let worst = self
            .0
            .first()
            .map_or(Health::Healthy, |(health, _)| *health);
        (
            worst,
            self.0.into_iter().map(|(_, reason)| reason).collect(),
        )
    }
}

/// Returns the report for a cluster of which no metadata member answered.
pub fn unreachable(members: &[Endpoint], error: &str) -> Report {
    let asked: Vec<String> = members
        .iter()
        .map(|member| member.address.clone())
        .collect();
    Report {
        health: Health::NotServing,
        reasons: vec![format!(
            "no metadata leader answers ({}): {error}",
            asked.join(", ")
        )],
        notes: Vec::new(),
        cluster: None,
        level: None,
        keys: None,
        metadata: MetadataReport::default(),
        nodes: Vec::new(),
        volumes: Vec::new(),
        data: DataReport::default(),
        leases: Vec::new(),
    }
}

/// Returns the report on the leader's answer.
pub fn report(status: &ClusterStatus, rotation: Option<&Rotation>) -> Report {
    let mut verdict = Verdict::default();
    let mut notes = Vec::new();
    let metadata = metadata(status, &mut verdict, &mut notes);
    let nodes: Vec<NodeReport> = status
        .nodes
        .iter()
        .map(|node| judge_node(status, node, &mut verdict, &mut notes))
        .collect();
    missing::judge(status, &mut verdict, &mut notes);
    slow::judge(status, &mut verdict);
    let volumes = volumes(status, &mut verdict, &mut notes);
    let data = data(status, &mut verdict, &mut notes);
    let keys = rotation.map(|rotation| keys::judge(rotation, &mut verdict, &mut notes));
    let (health, reasons) = verdict.close();
    Report {
        health,
        reasons,
        notes,
        cluster: Some(status.cluster.to_string()),
        level: Some(level(&status.level)),
        keys,
        metadata,
        nodes,
        volumes,
        data,
        leases: status.map.leases.iter().map(lease).collect(),
    }
}

fn lease(lease: &Lease) -> LeaseReport {
    LeaseReport {
        lease: lease.id.0,
        gateway: lease.gateway.0,
    }
}

fn level(status: &LevelStatus) -> LevelReport {
    let holders = status.held_back_by(status.highest);
    LevelReport {
        level: status.level.0,
        highest: status.highest.0,
        held_back_by: holders.iter().map(ToString::to_string).collect(),
    }
}

fn metadata(
    status: &ClusterStatus,
    verdict: &mut Verdict,
    notes: &mut Vec<String>,
) -> MetadataReport {
    // A node that has lost its log is listed twice until its new life votes: report it once.
    let learns = |node| status.members.iter().any(|m| m.learner && m.node == node);
    let shown = status
        .members
        .iter()
        .filter(|m| m.learner || !learns(m.node));
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let members: Vec<MemberReport> = shown
        .map(|member| MemberReport {
            node: member.node.0,
            address: member.address.clone(),
            leader: member.leader,
            alive: member.alive,
            behind: member.committed.saturating_sub(member.matched),
            clock_ahead_ms: member.clock_ahead_ms,
            voter: !member.learner,
            lost: some(&member.losses.lost),
            kept: some(&member.losses.kept),
            tables: some(&member.losses.tables),
        })
        .collect();
    for member in &members {
        judge_member(member, verdict, notes);
    }
    if members.len() == 1 {
        notes.push("one metadata member: losing its disk loses the metadata".to_owned());
    }
    MetadataReport { members }
}

fn judge_member(member: &MemberReport, verdict: &mut Verdict, notes: &mut Vec<String>) {
    let node = member.node;
    if !member.alive {
        verdict.degraded(format!("metadata member {node} is not heard from"));
    }
    let apart_s = member.clock_ahead_ms.unsigned_abs() / 1_000;
    let side = if member.clock_ahead_ms > 0 {
        "ahead of"
    } else {
        "behind"
    };
    let apart = format!("the clock of metadata member {node} is {apart_s} s {side} the leader's");
    if apart_s >= CLOCK_WRONG_S {
        verdict.degraded(format!("{apart}: set it right, or the member can't lead"));
    } else if apart_s >= CLOCK_NOTED_S {
        notes.push(apart);
    }
    match (&member.lost, &member.kept, member.voter) {
        (Some(lost), _, false) => verdict.degraded(format!(
            "metadata member {node} has lost its log and is being rebuilt from its peers, it does \
             not vote: {lost}"
        )),
        (None, _, false) => {
            notes.push(format!(
                "metadata member {node} is a learner: it does not vote yet"
            ));
        }
        (Some(lost), Some(kept), true) => notes.push(format!(
            "metadata member {node} was rebuilt from its peers; the files of the lost log are in \
             {kept} until somebody removes them: {lost}"
        )),
        (_, None, true) | (None, Some(_), true) => {}
    }
    if let Some(why) = &member.tables {
        notes.push(format!(
            "the tables of metadata member {node} were damaged and made again: {why}"
        ));
    }
}

fn judge_node(
    status: &ClusterStatus,
    node: &NodeStatus,
    verdict: &mut Verdict,
    notes: &mut Vec<String>,
) -> NodeReport {
    let id = node.node.0;
    if !node.alive {
        let silent = node
            .silent
            .map_or("never yet by this leader".into(), |silent| {
                format!("for {} s", silent.as_secs())
            });
        verdict.degraded(format!("storage node {id} is not heard from ({silent})"));
    }
    for disk in &node.disks {
        if let Some(reason) = &disk.closed {
            let disk = disk.disk;
            verdict.degraded(format!(
                "disk {disk} of node {id} takes no new shards: {reason}"
            ));
        }
        if disk.write_errors > 0 {
            let (disk, errors) = (disk.disk, disk.write_errors);
            verdict.degraded(format!(
                "disk {disk} of node {id} had {errors} failed writes"
            ));
        }
        if disk.damaged_shards > 0 {
            let (disk, shards) = (disk.disk, disk.damaged_shards);
            verdict.degraded(format!(
                "disk {disk} of node {id} has {shards} damaged shards"
            ));
        }
        if disk.damaged_regions > 0 {
            let (disk, pieces) = (disk.disk, disk.damaged_regions);
            verdict.degraded(format!(
                "disk {disk} of node {id} has {pieces} damaged pieces in its chunk files"
            ));
        }
        if disk.restored_files > 0 {
            let (disk, files) = (disk.disk, disk.restored_files);
            notes.push(format!(
                "disk {disk} of node {id} had {files} damaged files that were written anew"
            ));
        }
        if disk.trash_shards > 0 {
            let (disk, shards, bytes) = (disk.disk, disk.trash_shards, disk.trash_bytes);
            notes.push(format!(
                "disk {disk} of node {id} keeps {shards} shards ({bytes} bytes) that nothing names \
                 in its trash"
            ));
        }
    }
    let zone = status
        .map
        .node(node.node)
        .map(|known| known.zone.clone())
        .unwrap_or_default();
    NodeReport {
        node: id,
        zone,
        alive: node.alive,
        silent_ms: node
            .silent
            .and_then(|silent| u64::try_from(silent.as_millis()).ok())
            .unwrap_or(u64::MAX),
        disks: node.disks.iter().map(disk).collect(),
    }
}

fn disk(report: &DiskReport) -> DiskStatus {
    // By name, so that nothing that a disk reports is forgotten here.
    let DiskReport {
        disk,
        capacity,
        used,
        free,
        closed,
        damaged_shards,
        write_errors,
        damaged_regions,
        restored_files,
        scrubbed_ms,
        trash_shards,
        trash_bytes,
        commits,
        commit_us,
        turn_ms,
    } = report;
    DiskStatus {
        disk: disk.to_string(),
        capacity: *capacity,
        used: *used,
        free: *free,
        closed: closed.clone(),
        damaged_shards: *damaged_shards,
        write_errors: *write_errors,
        damaged_regions: *damaged_regions,
        restored_files: *restored_files,
        scrubbed_ms: *scrubbed_ms,
        trash_shards: *trash_shards,
        trash_bytes: *trash_bytes,
        commits: *commits,
        commit_us: *commit_us,
        turn_ms: *turn_ms,
    }
}

fn volumes(
    status: &ClusterStatus,
    verdict: &mut Verdict,
    notes: &mut Vec<String>,
) -> Vec<VolumeReport> {
    let volumes: Vec<VolumeReport> = status
        .data
        .volumes
        .iter()
        .map(|of| VolumeReport {
            volume: of.volume.id.0,
            profile: of.volume.profile.to_string(),
            state: match of.volume.state {
                VolumeState::Open => "open",
                VolumeState::Closed => "closed",
            },
            epoch: of.volume.epoch.0,
            domain: match of.volume.domain {
                Domain::Node => "node",
                Domain::Disk => "disk",
            },
            shrunk: of.volume.shrunk,
            bytes: of.volume.bytes,
            living: of
                .volume
                .slots
                .iter()
                .filter(|slot| margin::is_served(&status.map, slot))
                .count(),
            members: of.volume.slots.len(),
        })
        .collect();
    if status.map.writable.is_empty() {
        let why = status
            .map
            .refusal
            .as_deref()
            .unwrap_or("none has been made yet");
        if status.map.degraded.is_empty() {
            verdict.not_serving(format!("no volume takes writes: {why}"));
        } else {
            verdict.degraded(format!(
                "only volumes with a member missing take writes: {why}"
            ));
        }
    }
    let shrunk = volumes
        .iter()
        .filter(|volume| volume.shrunk && volume.bytes > 0)
        .count();
    if shrunk > 0 {
        notes.push(format!(
            "{shrunk} volumes have fewer data shards than the cluster's profile: fully \
             protected, at more space, until they are encoded again"
        ));
    }
    if volumes.iter().any(|volume| volume.domain == "disk") {
        notes.push(
            "volumes are spread over disks, not nodes: losing a node isn't covered".to_owned(),
        );
    }
    if volumes.iter().any(|volume| volume.profile.ends_with("+0")) {
        notes.push("volumes have no parity: losing a disk loses data".to_owned());
    }
    volumes
}

fn data(status: &ClusterStatus, verdict: &mut Verdict, notes: &mut Vec<String>) -> DataReport {
    let data = &status.data;
    let by_margin: Vec<MarginReport> = margin::margins_in(data, &status.map)
        .into_iter()
        .map(|(margin, segments)| MarginReport { margin, segments })
        .collect();
    let unreadable: u64 = by_margin
        .iter()
        .filter(|row| row.margin < 0)
        .map(|row| row.segments)
        .sum();
    if unreadable > 0 {
        verdict.not_serving(format!(
            "{unreadable} segments can't be read now: too few shards live"
        ));
    }
    let short = margin::shortfall(data, &|slot| margin::is_served(&status.map, slot));
    if let Some(worst) = short.worst {
        let segments = short.segments;
        verdict.degraded(format!(
            "{segments} segments lack shards that are out of reach: the worst may lose {worst} more"
        ));
    }
    if data.damaged_shards > 0 {
        let shards = data.damaged_shards;
        verdict.degraded(format!(
            "{shards} shards were found damaged and are not yet repaired"
        ));
    }
    let owed_by_disk = owed::by_disk(data);
    if data.owed_segments > 0 {
        verdict.degraded(owed::said(data.owed_segments, &owed_by_disk));
    }
    if data.deletes_pending > 100_000 {
        notes.push(format!(
            "{} deletes wait for their disks",
            data.deletes_pending
        ));
    }
    if data.restored {
        notes.push(
            "the metadata was restored from a backup: no disk deletes what these rows don't name, \
             until `megalith meta release-restore`"
                .to_owned(),
        );
    }
    DataReport {
        buckets: data.buckets,
        objects: data.counters.objects,
        bytes: data.counters.bytes,
        uploads: data.counters.uploads,
        inline_blobs: data.inline_blobs,
        owed_segments: data.owed_segments,
        owed_by_disk,
        damaged_shards: data.damaged_shards,
        deletes_pending: data.deletes_pending,
        restored: data.restored,
        segments_by_margin: by_margin,
    }
}
