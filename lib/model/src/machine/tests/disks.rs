//! Who gets a disk: registration, judged disk by disk.

use super::{World, claim, disk_id, node, proof};
use crate::answer::concerns;
use crate::claim::{
    ADDRESS_LEN_MAX, DISKS_KNOWN_MAX, DiskProof, DiskRefusal, NODE_DISKS_KNOWN_MAX, NODE_DISKS_MAX,
    NodeClaim, RefusedDisk, ZONE_LEN_MAX,
};
use crate::command::{Command, Outcome, Refusal};
use crate::ids::{DiskId, Epoch, NodeId};
use crate::keys::RowKey;
use crate::machine::write_for_tests;
use crate::question;
use crate::rows::DiskRow;
use crate::table::Overlay;
use crate::topology::{Disk, Node};

const STRANGERS: DiskProof = DiskProof([0xee; 32]);

/// Registers, and returns what was refused.
fn refused(world: &mut World, claim: NodeClaim) -> Vec<RefusedDisk> {
    let id = claim.id;
    match world.done(Command::RegisterNode(claim)) {
        Outcome::Registered { node, refused } if node == id => refused,
        other => panic!("{other:?}"),
    }
}

fn row(world: &World, disk: DiskId) -> DiskRow {
    world.row(&RowKey::Disk(disk)).expect("there")
}

/// The node that lists a disk.
fn served_by(world: &World, disk: DiskId) -> Option<NodeId> {
    let row = row(world, disk);
    row.listed.then_some(row.node)
}

/// The node of that number, with these nodes' first disks.
fn with_disks(id: u32, of: &[u32]) -> Node {
    Node {
        disks: of
            .iter()
            .flat_map(|of| node(*of).disks)
            .collect::<Vec<Disk>>(),
        ..node(id)
    }
}

#[test]
fn a_disk_belongs_to_one_node_and_takes_its_places_along_when_it_moves() {
    let mut world = World::ready();
    let mover = claim(with_disks(7, &[1]));
    let served = RefusedDisk {
        disk: disk_id(1),
        why: DiskRefusal::Served(NodeId(1)),
    };
    assert_eq!(refused(&mut world, mover.clone()), [served]);
    assert_eq!(served_by(&world, disk_id(1)), Some(NodeId(1)));
    world.register(with_disks(1, &[]));
    world.audited();
    assert_eq!(refused(&mut world, mover), []);
    world.audited();
    let volume = world.volume_row(1);
    assert_eq!((volume.slots[0].node, volume.epoch), (NodeId(7), Epoch(1)));
    assert_eq!(served_by(&world, disk_id(1)), Some(NodeId(7)));
}

#[test]
fn without_its_superblock_a_disk_is_taken_by_nobody_whether_it_is_free_or_not() {
    let mut world = World::ready();
    let thief = NodeClaim::new(with_disks(7, &[1]), |_| STRANGERS);
    let refusal = RefusedDisk {
        disk: disk_id(1),
        why: DiskRefusal::OtherSuperblock,
    };
    for free in [false, true] {
        if free {
            world.register(with_disks(1, &[]));
            assert_eq!(served_by(&world, disk_id(1)), None);
        }
        let (before, volume) = (row(&world, disk_id(1)), world.volume_row(1));
        assert_eq!(refused(&mut world, thief.clone()), [refusal]);
        assert_eq!(row(&world, disk_id(1)), before, "free {free}");
        assert_eq!(world.volume_row(1), volume, "free {free}");
        let registered: Node = world.row(&RowKey::Node(NodeId(7))).expect("there");
        assert_eq!(registered.disks, []);
        let (disk, max) = (disk_id(1), 1);
        let queue = question::Deletes {
            disk,
            max,
            after: 0,
            urgent: false,
        }
        .into();
        let readable = concerns(&world.rows, &queue, NodeId(7)).expect("rows in memory");
        assert!(!readable, "free {free}");
        world.audited();
    }
    // The rightful node comes back with it.
    assert_eq!(refused(&mut world, claim(node(1))), []);
    assert_eq!(served_by(&world, disk_id(1)), Some(NodeId(1)));
    world.audited();
}

#[test]
fn a_refused_disk_keeps_none_of_the_others_out() {
    let mut world = World::ready();
    let found = refused(&mut world, claim(with_disks(7, &[8, 1, 9])));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].disk, disk_id(1));
    let registered: Node = world.row(&RowKey::Node(NodeId(7))).expect("there");
    assert_eq!(registered, with_disks(7, &[8, 9]));
    for own in [8, 9] {
        assert_eq!(served_by(&world, disk_id(own)), Some(NodeId(7)));
        assert_eq!(row(&world, disk_id(own)).proof, proof(disk_id(own)));
    }
    world.audited();
}

#[test]
fn a_node_loses_a_disk_whose_superblock_is_another_now() {
    let mut world = World::ready();
    let made_anew = NodeClaim::new(node(1), |_| STRANGERS);
    assert_eq!(refused(&mut world, made_anew).len(), 1);
    let row = row(&world, disk_id(1));
    assert_eq!((row.listed, row.proof), (false, proof(disk_id(1))));
    world.audited();
}

#[test]
fn what_a_node_says_of_itself_is_bounded() {
    let mut world = World::ready();
    let long = |len| "a".repeat(len);
    let fits = Node {
        rpc_address: long(ADDRESS_LEN_MAX),
        data_address: long(ADDRESS_LEN_MAX),
        zone: long(ZONE_LEN_MAX),
        ..node(7)
    };
    world.register(fits.clone());
    let mut tries = vec![fits; 5];
    tries[0].rpc_address.push('a');
    tries[1].data_address.push('a');
    tries[2].zone.push('a');
    tries[3].zone = "north\u{1b}[2J".into();
    tries[4].disks = with_disks(7, &[8, 8]).disks;
    for node in tries {
        let answer = world.try_apply(Command::RegisterNode(claim(node)));
        assert!(matches!(answer, Err(Refusal::Malformed(_))), "{answer:?}");
    }
}

#[test]
fn no_process_is_told_a_proof() {
    let mut world = World::new();
    let secret = DiskProof(*b"a proof that nobody may ever see");
    let of = node(1);
    world.done(Command::RegisterNode(NodeClaim::new(of, |_| secret)));
    let topology = crate::answer::topology(&world.rows).expect("rows");
    let told = crate::codec::encode(&topology.nodes[0]);
    let holds = |bytes: &[u8]| bytes.windows(32).any(|part| part == secret.0);
    assert!(!holds(&told));
    assert!(holds(&crate::codec::encode(&row(&world, disk_id(1)))));
    assert!(!format!("{:?}", row(&world, disk_id(1))).contains("97"));
}

/// Ids that nobody has formatted, from a number on.
fn made_up(first: usize, count: usize) -> Vec<Disk> {
    let disk = |number: usize| {
        let mut id = [0xdd; 16];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        Disk {
            id: DiskId(id),
            capacity: 1 << 40,
        }
    };
    (first..first + count).map(disk).collect()
}

fn with(id: u32, disks: Vec<Disk>) -> NodeClaim {
    claim(Node { disks, ..node(id) })
}

fn no_room(disks: &[Disk]) -> Vec<RefusedDisk> {
    let why = DiskRefusal::NoRoom;
    let refused = |disk: &Disk| RefusedDisk { disk: disk.id, why };
    disks.iter().map(refused).collect()
}

#[test]
fn a_node_can_make_up_so_many_disks_and_no_more() {
    let mut world = World::ready();
    let many = with(7, made_up(0, NODE_DISKS_MAX + 1));
    let answer = world.try_apply(Command::RegisterNode(many));
    assert!(matches!(answer, Err(Refusal::Malformed(_))), "{answer:?}");
    let rows = NODE_DISKS_KNOWN_MAX;
    for first in (0..rows - 1).step_by(NODE_DISKS_MAX) {
        let count = NODE_DISKS_MAX.min(rows - 1 - first);
        assert_eq!(refused(&mut world, with(7, made_up(first, count))), []);
    }
    // One more is met, the others are not.
    let new = made_up(rows - 1, 3);
    assert_eq!(
        refused(&mut world, with(7, new.clone())),
        no_room(&new[1..])
    );
    assert!(!world.exists(&RowKey::Disk(new[1].id)));
    assert_eq!(served_by(&world, new[0].id), Some(NodeId(7)));
    // What is known comes back, and so does a disk of another node that moves here.
    world.register(with_disks(1, &[]));
    let mut known = made_up(0, 2);
    known.extend(node(1).disks);
    assert_eq!(refused(&mut world, with(7, known)), []);
    assert_eq!(served_by(&world, disk_id(1)), Some(NodeId(7)));
    // Others are not kept from new disks by it.
    assert_eq!(refused(&mut world, with(2, made_up(rows + 10, 1))), []);
    world.audited();
}

#[test]
fn all_nodes_together_have_so_many_disks_and_no_more() {
    let mut world = World::ready();
    let mut overlay = Overlay::new(&world.rows);
    // Six are there.
    for disk in made_up(0, DISKS_KNOWN_MAX - 7) {
        let row = DiskRow {
            id: disk.id,
            node: NodeId(9),
            ..row(&world, disk_id(1))
        };
        let key = RowKey::Disk(disk.id);
        write_for_tests(&mut overlay, &key, &row).expect("rows in memory");
    }
    let batch = overlay.into_batch();
    world.rows.write(batch);
    let mut new = node(1).disks;
    new.extend(made_up(DISKS_KNOWN_MAX, 2));
    assert_eq!(
        refused(&mut world, with(1, new.clone())),
        no_room(&new[2..])
    );
    assert_eq!(served_by(&world, new[1].id), Some(NodeId(1)));
}
