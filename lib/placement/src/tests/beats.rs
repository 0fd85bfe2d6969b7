//! What the leader makes of beats, one by one.

use crate::gateways::{CLOSINGS_MAX, Gateways, LIVES_MAX};
use crate::state::WORK_RETRY_MS;
use crate::{Action, Event, Planner, PlannerSettings};
use megalith_model::answer::Topology;
use megalith_model::beat::Beat;
use megalith_model::command::{Command, Outcome, Refusal};
use megalith_model::ids::{ClusterId, GatewayId, LeaseId, VolumeId};
use megalith_model::settings::Settings;
use megalith_model::topology::Lease;

const LIFE_MS: u64 = 1_000;

fn lease(id: u64, gateway: u32) -> Lease {
    Lease {
        id: LeaseId(id),
        gateway: GatewayId(gateway),
        request: id,
    }
}

fn beat(gateway: u32, life: u64, leases: &[u64], reading: Option<u64>) -> Beat {
    Beat {
        gateway: GatewayId(gateway),
        life,
        leases: leases.iter().copied().map(LeaseId).collect(),
        reading,
    }
}

fn close(id: u64, gateway: u32) -> Command {
    Command::CloseLease {
        gateway: GatewayId(gateway),
        lease: LeaseId(id),
    }
}

#[test]
fn a_gateway_holds_no_lease_of_another() {
    let mut gateways = Gateways::new(0);
    gateways.learn(0, &[lease(1, 1), lease(2, 2)]);
    gateways.hear(900, &beat(2, 1, &[1, 2], None), LIFE_MS);
    assert_eq!(gateways.closings(LIFE_MS, LIFE_MS, &[]), [close(1, 1)]);
}

#[test]
fn who_is_silent_reads_nothing_any_more() {
    let mut gateways = Gateways::new(0);
    gateways.hear(100, &beat(1, 1, &[], Some(5)), LIFE_MS);
    assert_eq!(gateways.lowest_read(99 + LIFE_MS, LIFE_MS), Some(5));
    assert_eq!(gateways.lowest_read(100 + LIFE_MS, LIFE_MS), None);
}

#[test]
fn so_many_processes_of_a_gateway_are_remembered_and_the_oldest_goes() {
    let mut gateways = Gateways::new(0);
    // The first to speak has the greatest number.
    for at_ms in 0..=LIVES_MAX as u64 {
        let said = beat(1, 1_000 - at_ms, &[], Some(50 + at_ms));
        gateways.hear(at_ms, &said, LIFE_MS);
        let lowest = gateways.lowest_read(at_ms, LIFE_MS);
        let forgotten = u64::from(at_ms == LIVES_MAX as u64);
        assert_eq!(lowest, Some(50 + forgotten), "{at_ms}");
    }
}

#[test]
fn what_was_slept_through_counts_for_nobody() {
    let mut gateways = Gateways::new(0);
    gateways.learn(200, &[lease(1, 1)]);
    gateways.hear(300, &beat(2, 1, &[], Some(5)), LIFE_MS);
    gateways.sleep(5_000);
    assert!(!gateways.all_heard(4_999 + LIFE_MS, LIFE_MS));
    assert!(gateways.all_heard(5_000 + LIFE_MS, LIFE_MS));
    assert_eq!(gateways.lowest_read(5_299 + LIFE_MS, LIFE_MS), Some(5));
    assert_eq!(gateways.closings(5_199 + LIFE_MS, LIFE_MS, &[]), []);
    let closings = gateways.closings(5_200 + LIFE_MS, LIFE_MS, &[]);
    assert_eq!(closings, [close(1, 1)]);
}

#[test]
fn so_many_are_closed_at_a_time_and_none_twice() {
    let mut gateways = Gateways::new(0);
    let count = CLOSINGS_MAX as u64 + 5;
    let leases: Vec<Lease> = (1..=count).map(|id| lease(id, 1)).collect();
    gateways.learn(0, &leases);
    let all = |ids: std::ops::RangeInclusive<u64>| -> Vec<Command> {
        ids.map(|id| close(id, 1)).collect()
    };
    let most = gateways.closings(LIFE_MS, LIFE_MS, &[]);
    assert_eq!(most, all(1..=CLOSINGS_MAX as u64));
    // One of them is under way, and work that is no closing.
    let (one, other) = (close(1, 1), Command::WorkOff);
    let more = gateways.closings(LIFE_MS, LIFE_MS, &[&one, &other]);
    assert_eq!(more, all(2..=CLOSINGS_MAX as u64));
}

/// A leader in whose cluster one lease is open, when it gives that up; and the time then.
fn giving_up() -> (Planner, u64) {
    let settings = PlannerSettings {
        gateway_life_ms: LIFE_MS,
        ..PlannerSettings::default()
    };
    let mut planner = Planner::new(settings);
    planner.step(0, Event::BecameLeader { term: 1 });
    let topology = Topology {
        doomed: false,
        settings: Settings::default(),
        cluster: Some(ClusterId([1; 16])),
        nodes: Vec::new(),
        open_volumes: Vec::new(),
        next_volume: VolumeId(1),
        leases: vec![lease(1, 1)],
    };
    planner.step(0, Event::TopologyChanged(topology));
    assert_eq!(closes(&mut planner, LIFE_MS - 1, Event::Tick), 0);
    assert_eq!(closes(&mut planner, LIFE_MS, Event::Tick), 1);
    assert_eq!(closes(&mut planner, LIFE_MS, Event::Tick), 0, "under way");
    (planner, LIFE_MS)
}

fn closes(planner: &mut Planner, now_ms: u64, event: Event) -> usize {
    let actions = planner.step(now_ms, event);
    let proposes = |action: &&Action| **action == Action::Propose(close(1, 1));
    actions.iter().filter(proposes).count()
}

#[test]
fn a_lease_that_is_closed_is_known_to_be_before_the_topology_shows_it() {
    let (mut planner, now_ms) = giving_up();
    let (command, answer) = (close(1, 1), Some(Ok(Outcome::Done)));
    let done = Event::Proposed { command, answer };
    assert_eq!(closes(&mut planner, now_ms, done), 0);
    assert_eq!(closes(&mut planner, now_ms + 1_000, Event::Tick), 0);
}

#[test]
fn a_closing_that_failed_is_tried_again_after_a_while() {
    for answer in [None, Some(Err(Refusal::Internal("no".to_owned())))] {
        let (mut planner, now_ms) = giving_up();
        let command = close(1, 1);
        let failed = Event::Proposed { command, answer };
        assert_eq!(closes(&mut planner, now_ms, failed), 0);
        let again_ms = now_ms + WORK_RETRY_MS;
        assert_eq!(closes(&mut planner, again_ms - 1, Event::Tick), 0);
        assert_eq!(closes(&mut planner, again_ms, Event::Tick), 1);
    }
}
