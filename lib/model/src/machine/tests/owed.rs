//! Who may say what of shards on disks, and what is out of date.

use super::{BOX, World, coded_len, disk_id, node, put, put_command};
use crate::answer::tests::ask;
use crate::command::{
    Command, Condition, NewDoubt, ObjectBlobs, Refusal, ShardFill, ShardMark, Verdict,
};
use crate::ids::{BlobId, Epoch, NodeId, VolumeId};
use crate::keys::RowKey;
use crate::machine::{DISK_DOUBTS_MAX, DOUBT_SETTLED_MS};
use crate::query::DoubtView;
use crate::question;
use crate::rows::{BlobRow, DiskRow, DoubtRow, OwedRow, VolumeCounts};
use crate::shard::ShardId;

/// Blob 1 is coded 4+2, and 9 cells long: every slot holds a shard of it.
fn world() -> World {
    let mut world = World::ready();
    let blob = world.blob(1, coded_len(9), 1);
    world.done(put_command(put("a", 1, ObjectBlobs::New(blob))));
    world
}

pub(crate) fn shard(blob: u64, slot: u8) -> ShardId {
    ShardId {
        volume: VolumeId(1),
        blob: BlobId(blob),
        segment: 0,
        slot,
    }
}

/// Slot i of volume 1 is on disk i+1 of node i+1.
pub(crate) fn mark(shards: &[ShardId], damaged: bool) -> Command {
    let number = 1 + u32::from(shards[0].slot);
    let epoch = Epoch(1);
    Command::MarkOwed {
        node: NodeId(number),
        disk: disk_id(number),
        marks: shards
            .iter()
            .map(|shard| ShardMark {
                shard: *shard,
                epoch,
            })
            .collect(),
        damaged,
    }
}

fn fill(shard: ShardId, digest: u8) -> Command {
    let number = 1 + u32::from(shard.slot);
    Command::FillOwed {
        node: NodeId(number),
        disk: disk_id(number),
        fills: vec![ShardFill {
            shard,
            epoch: Epoch(1),
            digest: [digest; 16],
        }],
    }
}

fn doubt(shard: ShardId) -> Command {
    Command::RaiseDoubts(vec![NewDoubt {
        shard,
        disk: disk_id(1 + u32::from(shard.slot)),
        epoch: Epoch(1),
        damaged: false,
    }])
}

fn judge(judge: u32, shard: ShardId, whole: bool) -> Command {
    Command::JudgeDoubts {
        judge: NodeId(judge),
        disk: disk_id(1 + u32::from(shard.slot)),
        verdicts: vec![Verdict { shard, whole }],
    }
}

fn deny(shard: ShardId) -> Command {
    let number = 1 + u32::from(shard.slot);
    Command::DenyDoubts {
        node: NodeId(number),
        disk: disk_id(number),
        shards: vec![shard],
    }
}

/// What the blob's row and the owed row say of blob 1, with the volume's counts.
fn owed(world: &World) -> (u32, Option<(u32, u32)>, (u64, u64)) {
    let blob: BlobRow = world.row(&RowKey::Blob(BlobId(1))).expect("there");
    let owed: Option<OwedRow> = world.row(&RowKey::Owed {
        volume: VolumeId(1),
        blob: BlobId(1),
        segment: 0,
    });
    let counts: VolumeCounts = world
        .row(&RowKey::VolumeCounts(VolumeId(1)))
        .expect("there");
    (
        blob.segments[0].owed,
        owed.map(|row| (row.owed, row.damaged)),
        (counts.coded, counts.owed),
    )
}

fn doubts(world: &World) -> Vec<DoubtView> {
    let (after, max) = (None, 1_000);
    ask(&world.rows, question::Doubts { after, max })
}

#[test]
fn marking_owed_is_idempotent_and_passes_over_what_is_out_of_date() {
    let mut world = world();
    for (slot, damaged) in [(2, false), (2, true), (5, false), (2, false)] {
        world.done(mark(&[shard(1, slot), shard(77, slot)], damaged));
        world.audited();
    }
    assert_eq!(owed(&world), (0b10_0100, Some((0b10_0100, 0b100)), (0, 1)));
    // Other slots than the disk's, other volumes, other segments, an epoch that is still to come.
    let before = world.rows.clone();
    let foreign = ShardId {
        volume: VolumeId(9),
        ..shard(1, 1)
    };
    let behind = ShardId {
        segment: 1,
        ..shard(1, 1)
    };
    for wrong in [shard(1, 0), shard(1, 6), shard(1, 200), foreign, behind] {
        let Command::MarkOwed { marks, .. } = mark(&[wrong], false) else {
            panic!("a mark")
        };
        let (node, disk, damaged) = (NodeId(2), disk_id(2), false);
        world.done(Command::MarkOwed {
            node,
            disk,
            marks,
            damaged,
        });
    }
    let mut early = mark(&[shard(1, 1)], false);
    if let Command::MarkOwed { marks, .. } = &mut early {
        marks[0].epoch = Epoch(2);
    }
    world.done(early);
    assert_eq!(world.rows, before);
}

#[test]
fn only_the_node_that_serves_a_disk_speaks_for_it() {
    let mut world = world();
    world.done(mark(&[shard(1, 0)], false));
    world.done(doubt(shard(1, 1)));
    for command in [
        mark(&[shard(1, 1)], false),
        fill(shard(1, 0), 1),
        deny(shard(1, 1)),
    ] {
        let mut stolen = command.clone();
        match &mut stolen {
            Command::MarkOwed { node, .. }
            | Command::FillOwed { node, .. }
            | Command::DenyDoubts { node, .. } => *node = NodeId(3),
            other => panic!("{other:?}"),
        }
        let refused = world.try_apply(stolen);
        assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
        world.done(command);
        world.audited();
    }
}

#[test]
fn an_owed_shard_that_is_whole_again_counts_again() {
    let mut world = world();
    let clean = owed(&world);
    world.done(mark(&[shard(1, 2)], true));
    world.done(mark(&[shard(1, 4)], false));
    // Another digest is another shard.
    world.done(fill(shard(1, 2), 9));
    assert_eq!(owed(&world).0, 0b1_0100);
    world.done(fill(shard(1, 2), 1));
    assert_eq!(owed(&world), (0b1_0000, Some((0b1_0000, 0)), (0, 1)));
    world.audited();
    world.done(fill(shard(1, 4), 1));
    world.done(fill(shard(1, 4), 1));
    assert_eq!(owed(&world), clean);
    world.audited();
}

#[test]
fn a_disk_is_told_what_it_owes() {
    let mut world = world();
    for number in 2..=4 {
        let blob = world.blob(number, coded_len(9), 1);
        let put = put(&format!("k{number}"), number, ObjectBlobs::New(blob));
        world.done(put_command(put));
    }
    world.done(mark(&[shard(1, 2), shard(3, 2)], false));
    world.done(mark(&[shard(4, 5)], false));
    let (disk, after) = (disk_id(3), None);
    let page = ask(&world.rows, question::OwedShards { disk, after });
    let found: Vec<_> = page.shards.iter().map(|(shard, _)| *shard).collect();
    assert_eq!((found, page.next), (vec![shard(1, 2), shard(3, 2)], None));
    let (_, wanted) = page.shards[1];
    assert_eq!((wanted.digest, wanted.epoch), ([3; 16], Epoch(1)));
    assert_eq!(wanted.len, coded_len(2));
}

#[test]
fn a_doubt_marks_nothing_until_the_disks_own_node_has_looked() {
    let mut world = world();
    world.done(doubt(shard(1, 0)));
    world.done(doubt(shard(1, 0)));
    world.audited();
    assert_eq!(owed(&world).0, 0);
    let seen = doubts(&world);
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].judge(world.time_ms), seen[0].row.denied),
        (None, false)
    );
    assert_eq!(seen[0].wanted.expect("named").len, coded_len(3));
    // Another node's word counts only when the own node has had its time.
    world.done(judge(2, shard(1, 0), false));
    assert_eq!(owed(&world).0, 0);
    world.done(mark(&[shard(1, 0)], false));
    assert_eq!((owed(&world).0, doubts(&world)), (1, vec![]));
    // What is owed anyway, or gone, or nowhere, is in no doubt.
    for shard in [shard(1, 0), shard(77, 0), shard(1, 9)] {
        world.done(doubt(shard));
        assert_eq!(doubts(&world), vec![]);
    }
    world.audited();
}

#[test]
fn a_denied_doubt_is_judged_by_another_node_of_the_volume() {
    for whole in [true, false] {
        let mut world = world();
        world.register(node(7));
        world.done(doubt(shard(1, 0)));
        world.done(deny(shard(1, 0)));
        assert_eq!(doubts(&world)[0].judge(world.time_ms), Some(NodeId(2)));
        for stranger in [1, 7] {
            let refused = world.try_apply(judge(stranger, shard(1, 0), false));
            assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
        }
        world.done(judge(2, shard(1, 0), whole));
        assert_eq!(owed(&world).0, u32::from(!whole));
        assert_eq!(doubts(&world), vec![]);
        world.audited();
    }
}

#[test]
fn a_doubt_that_nobody_settles_goes_from_node_to_node() {
    let mut world = world();
    world.done(doubt(shard(1, 4)));
    let mut turns = Vec::new();
    for _ in 0..7 {
        world.time_ms += DOUBT_SETTLED_MS;
        let judge = doubts(&world)[0].judge(world.time_ms);
        turns.push(judge.expect("somebody's turn").0);
    }
    assert_eq!(turns, [1, 2, 3, 4, 6, 1, 2]);
    world.done(judge(3, shard(1, 4), false));
    assert_eq!(owed(&world).0, 0b1_0000);
}

#[test]
fn doubts_about_a_deleted_object_end_and_are_bounded() {
    let mut world = world();
    world.done(doubt(shard(1, 0)));
    world.done(Command::DeleteObject {
        bucket: BOX,
        key: b"a".to_vec(),
        condition: Condition::None,
    });
    assert_eq!(doubts(&world)[0].wanted, None);
    world.done(deny(shard(1, 0)));
    assert_eq!(doubts(&world), vec![]);
    world.audited();
    world.lease();
    for id in 2..2 + u64::from(DISK_DOUBTS_MAX) + 5 {
        let blob = world.blob(id, coded_len(9), 1);
        let put = put(&format!("k{id}"), id, ObjectBlobs::New(blob));
        world.done(put_command(put));
        world.done(doubt(shard(id, 0)));
    }
    let disk: DiskRow = world.row(&RowKey::Disk(disk_id(1))).expect("there");
    assert_eq!(disk.doubts, DISK_DOUBTS_MAX);
    let row: Option<DoubtRow> = world.row(&RowKey::Doubt {
        disk: disk_id(1),
        shard: shard(2, 0),
    });
    assert!(row.is_some());
    world.audited();
}

#[test]
fn a_doubt_that_nobody_else_can_judge_ends_with_its_denial() {
    let mut world = World::new();
    world.register(node(1));
    world.done(super::account("ann", 1));
    world.lease();
    world.done(super::bucket(BOX.0, "box", 1));
    world.volume(1, 0);
    let blob = world.blob(1, coded_len(9), 1);
    world.done(put_command(put("a", 1, ObjectBlobs::New(blob))));
    world.done(doubt(shard(1, 0)));
    world.done(deny(shard(1, 0)));
    assert_eq!((owed(&world).0, doubts(&world)), (0, vec![]));
    world.audited();
}

#[test]
fn a_denied_doubt_that_is_raised_again_later_is_looked_at_again() {
    let mut world = world();
    world.done(doubt(shard(1, 0)));
    world.done(deny(shard(1, 0)));
    world.done(doubt(shard(1, 0)));
    assert!(doubts(&world)[0].row.denied);
    world.time_ms += 10 * DOUBT_SETTLED_MS;
    world.done(doubt(shard(1, 0)));
    let seen = doubts(&world);
    assert_eq!((seen.len(), seen[0].row.denied), (1, false));
    world.audited();
}
