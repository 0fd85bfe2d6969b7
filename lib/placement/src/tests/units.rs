//! What a transcript can't show: proposals in flight, and even spreading.

use super::{World, claim, expecting, node};
use crate::{Action, Event, PlannerSettings};
use megalith_model::answer::topology;
use megalith_model::command::Command;
use megalith_model::ids::NodeId;
use megalith_model::status::DiskReport;
use std::collections::BTreeMap;

#[test]
fn a_proposal_in_flight_is_not_repeated() {
    let mut world = World::new(expecting(1));
    world
        .commit(Command::RegisterNode(claim(node("1::6"))))
        .expect("registered");
    world.planner.step(0, Event::BecameLeader { term: 1 });
    let known = topology(&world.rows).expect("rows");
    world.planner.step(0, Event::TopologyChanged(known.clone()));
    let disks: Vec<DiskReport> = known.nodes[0]
        .disks
        .iter()
        .map(|disk| DiskReport {
            disk: disk.id,
            free: 1 << 40,
            ..DiskReport::default()
        })
        .collect();
    let proposals = |actions: Vec<Action>| -> Vec<Command> {
        actions
            .into_iter()
            .filter_map(|action| match action {
                Action::Propose(command) => Some(command),
                Action::PublishMap(_) => None,
            })
            .collect()
    };
    let node = NodeId(1);
    let beat = |world: &mut World, now_ms| {
        let disks = disks.clone();
        world.planner.step(now_ms, Event::Heartbeat { node, disks });
        proposals(world.planner.step(now_ms, Event::Tick))
    };
    let disks_now = disks.clone();
    let event = Event::Heartbeat {
        node,
        disks: disks_now,
    };
    let first = proposals(world.planner.step(10, event));
    assert_eq!(first.len(), 2);
    assert_eq!(beat(&mut world, 1_000), []);
    // One is lost: after a pause only that one is proposed again.
    let lost = Event::Proposed {
        command: first[0].clone(),
        answer: None,
    };
    assert_eq!(proposals(world.planner.step(1_500, lost)), []);
    assert_eq!(beat(&mut world, 2_400), []);
    assert_eq!(beat(&mut world, 2_600).len(), 1);
}

#[test]
fn slots_take_every_place_as_often_and_load_spreads() {
    let mut world = World::new(PlannerSettings {
        open_target: 60,
        ..expecting(9)
    });
    for id in 1..=9 {
        world
            .commit(Command::RegisterNode(claim(node(&id.to_string()))))
            .expect("registered");
    }
    world.run("up", &[]);
    for node in 1..=9 {
        world.beat(node);
    }
    let volumes = topology(&world.rows).expect("rows").open_volumes;
    assert_eq!(volumes.len(), 60);
    let mut volumes_on: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut parity_on: BTreeMap<NodeId, u32> = BTreeMap::new();
    for volume in &volumes {
        for (place, slot) in volume.slots.iter().enumerate() {
            *volumes_on.entry(slot.node).or_default() += 1;
            *parity_on.entry(slot.node).or_default() += u32::from(place >= 4);
        }
    }
    assert!(
        volumes_on.values().all(|count| *count == 40),
        "{volumes_on:?}"
    );
    assert!(
        parity_on.values().all(|count| (6..=21).contains(count)),
        "{parity_on:?}"
    );
}

#[test]
fn a_disk_is_closed_by_its_own_node_only() {
    let mut world = World::new(expecting(2));
    for id in ["1", "2"] {
        world
            .commit(Command::RegisterNode(claim(node(id))))
            .expect("registered");
    }
    world.planner.step(0, Event::BecameLeader { term: 1 });
    let known = topology(&world.rows).expect("rows");
    world.planner.step(0, Event::TopologyChanged(known.clone()));
    let closed_after = |world: &mut World, teller: u32, of: usize| {
        let disks = vec![DiskReport {
            disk: known.nodes[of].disks[0].id,
            closed: Some("so I say".into()),
            ..DiskReport::default()
        }];
        let node = NodeId(teller);
        let actions = world.planner.step(10, Event::Heartbeat { node, disks });
        let mut maps = actions.into_iter().filter_map(|action| match action {
            Action::PublishMap(map) => Some(map.closed_disks),
            Action::Propose(_) => None,
        });
        maps.next_back()
    };
    assert!(closed_after(&mut world, 1, 1).is_none_or(|closed| closed.is_empty()));
    let own = known.nodes[1].disks[0].id;
    assert_eq!(closed_after(&mut world, 2, 1), Some(vec![own]));
}

#[test]
fn old_uploads_are_ended_once_and_not_in_haste() {
    let mut world = World::new(expecting(1));
    world.planner.step(0, Event::BecameLeader { term: 1 });
    let known = topology(&world.rows).expect("rows");
    world.planner.step(0, Event::TopologyChanged(known));
    let uploads = vec![megalith_model::ids::UploadId([1; 16])];
    let command = Command::ExpireUploads {
        uploads: uploads.clone(),
    };
    let mut found = |now_ms| {
        let event = Event::OldUploads(uploads.clone());
        let actions = world.planner.step(now_ms, event).into_iter();
        let ending = |action: &Action| *action == Action::Propose(command.clone());
        let count = actions.filter(ending).count();
        for _ in 0..count {
            let lost = Event::Proposed {
                command: command.clone(),
                answer: None,
            };
            world.planner.step(now_ms, lost);
        }
        count
    };
    assert_eq!(found(1_000), 1);
    // The last one was lost: not at once again, and volumes don't wait for it.
    assert_eq!(found(2_000), 0);
    assert_eq!(found(11_500), 1);
}
