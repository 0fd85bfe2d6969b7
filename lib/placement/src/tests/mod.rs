//! Transcripts: a script of events, and what the planner said to each.
//!
//! Script words: `TIME up` (this one leads), `down`, `register N[:zone[:disks]]`, `die N…` (no more
//! heartbeats), `live N…`, `close N…` (all disks full), `open N…`, `fill VOLUME GIB`, `sleep MS`
//! (no event reaches the planner), `-` (only time passes). Of gateways: `lease G…` (each takes one
//! more), `reads G INDEX` (0: nothing), `again G` (its process starts anew and holds nothing),
//! `mute G…` and `say G…`, `freeing` (which deletes may be done?). Between two lines there is a
//! tick every 100 ms, a heartbeat of each living node every 500 ms and a beat of each gateway every
//! second. The state machine answers proposals at once, over rows in memory.

mod beats;
mod gateways;
mod transcripts;
mod units;

use super::*;
use expect_test::Expect;
use megalith_model::answer::topology;
use megalith_model::claim::{DiskProof, NodeClaim};
use megalith_model::command::Envelope;
use megalith_model::entry::Entry;
use megalith_model::ids::{DiskId, GatewayId, LeaseId};
use megalith_model::keys::RowKey;
use megalith_model::machine::apply;
use megalith_model::rows::VolumeCounts;
use megalith_model::table::{MemRows, Overlay, Rows};
use megalith_model::topology::{Disk, Node};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What a gateway says of itself.
#[derive(Default)]
struct Gateway {
    life: u64,
    leases: Vec<LeaseId>,
    reading: Option<u64>,
    mute: bool,
}

struct World {
    rows: MemRows,
    planner: Planner,
    now_ms: u64,
    living: BTreeSet<u32>,
    closed: BTreeSet<u32>,
    gateways: BTreeMap<u32, Gateway>,
    /// The last map that is not shown yet: of several at the same time only the last is shown.
    map: String,
    out: String,
}

fn disk_id(node: u32, disk: u8) -> DiskId {
    let mut bytes = [disk; 16];
    bytes[..4].copy_from_slice(&node.to_be_bytes());
    DiskId(bytes)
}

impl World {
    fn new(settings: PlannerSettings) -> Self {
        Self {
            rows: MemRows::default(),
            planner: Planner::new(settings),
            now_ms: 0,
            living: BTreeSet::new(),
            closed: BTreeSet::new(),
            gateways: BTreeMap::new(),
            map: String::new(),
            out: String::new(),
        }
    }

    fn commit(&mut self, command: Command) -> Answer {
        let mut overlay = Overlay::new(&self.rows);
        let entry = Entry::new(1, Envelope { key: None, command });
        let answer = apply(&mut overlay, &entry).expect("rows in memory");
        let batch = overlay.into_batch();
        self.rows.write(batch);
        answer
    }

    /// Lets time pass until `to_ms`.
    fn pass(&mut self, to_ms: u64) {
        while self.now_ms + 100 <= to_ms {
            self.show_now();
            self.now_ms += 100;
            self.step(Event::Tick);
            if self.now_ms.is_multiple_of(500) {
                for node in self.living.clone() {
                    self.beat(node);
                }
            }
            if self.now_ms.is_multiple_of(1_000) {
                self.gateways_beat();
            }
        }
    }

    fn gateways_beat(&mut self) {
        let beat = |(number, gateway): (&u32, &Gateway)| Beat {
            gateway: GatewayId(*number),
            life: gateway.life,
            leases: gateway.leases.clone(),
            reading: gateway.reading,
        };
        let loud = self.gateways.iter().filter(|(_, gateway)| !gateway.mute);
        for beat in loud.map(beat).collect::<Vec<_>>() {
            self.step(Event::Beat(beat));
        }
    }

    fn lease(&mut self, number: u32) {
        let (gateway, request) = (GatewayId(number), self.now_ms);
        let opened = self.commit(Command::OpenLease { gateway, request });
        let Ok(Outcome::Lease(lease)) = opened else {
            panic!("no lease: {opened:?}");
        };
        self.gateways
            .entry(number)
            .or_default()
            .leases
            .push(lease.id);
        self.refresh();
    }

    fn gateway(&mut self, number: u32) -> &mut Gateway {
        self.gateways.entry(number).or_default()
    }

    fn step(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.planner.step(self.now_ms, event) {
                match action {
                    Action::PublishMap(map) => self.show_map(&map),
                    Action::Propose(command) => {
                        self.show_command(&command);
                        let answer = Some(self.commit(command.clone()));
                        events.push(Event::Proposed { command, answer });
                    }
                }
            }
        }
    }

    fn refresh(&mut self) {
        let topology = topology(&self.rows).expect("rows in memory");
        self.step(Event::TopologyChanged(topology));
    }

    fn show_map(&mut self, map: &ClusterMap) {
        let volumes = |volumes: &[Volume]| -> String {
            let shown: Vec<String> = volumes
                .iter()
                .map(|v| format!("{}:{}", v.id.0, v.profile))
                .collect();
            shown.join(" ")
        };
        let alive: Vec<String> = map.alive.iter().map(|node| node.0.to_string()).collect();
        self.map.clear();
        let (version, alive) = (map.version, alive.join(" "));
        let _ = write!(self.map, "  {} map {version}: alive {alive}", self.now_ms);
        for (name, list) in [("writable", &map.writable), ("degraded", &map.degraded)] {
            if !list.is_empty() {
                let _ = write!(self.map, " | {name} {}", volumes(list));
            }
        }
        if let Some(refusal) = &map.refusal {
            let _ = write!(self.map, " | refusal: {refusal}");
        }
        self.map.push('\n');
    }

    fn show_now(&mut self) {
        self.out.push_str(&std::mem::take(&mut self.map));
    }

    fn show_command(&mut self, command: &Command) {
        let shown = match command {
            Command::CreateVolume {
                profile,
                domain,
                slots,
                shrunk,
            } => {
                let slots: Vec<String> = slots.iter().map(|m| m.node.0.to_string()).collect();
                let shrunk = if *shrunk { " shrunk" } else { "" };
                format!(
                    "create {profile}{shrunk} over {domain:?}s: {}",
                    slots.join(" ")
                )
            }
            Command::CloseVolume { volume, .. } => format!("close {volume}"),
            Command::CloseLease { gateway, lease } => format!("close {lease} of {gateway}"),
            other => format!("{other:?}"),
        };
        self.show_now();
        let _ = writeln!(self.out, "  {} {shown}", self.now_ms);
    }

    fn beat(&mut self, node: u32) {
        let row: Option<Node> = self
            .rows
            .get(&RowKey::Node(NodeId(node)).encode())
            .expect("rows in memory")
            .map(|bytes| megalith_model::codec::decode(&bytes).expect("a node"));
        let closed = self.closed.contains(&node);
        let disks = row
            .expect("registered")
            .disks
            .iter()
            .map(|disk| DiskReport {
                disk: disk.id,
                free: disk.capacity,
                closed: closed.then(|| "full".to_owned()),
                ..DiskReport::default()
            })
            .collect();
        let node = NodeId(node);
        self.step(Event::Heartbeat { node, disks });
    }

    fn run(&mut self, word: &str, rest: &[&str]) {
        let numbers = || rest.iter().map(|text| text.parse::<u32>().expect("number"));
        match word {
            "up" => {
                self.step(Event::BecameLeader { term: 3 });
                self.refresh();
            }
            "down" => self.step(Event::LostLeader),
            "register" => {
                for text in rest {
                    let node = node(text);
                    self.living.insert(node.id.0);
                    let command = Command::RegisterNode(claim(node));
                    self.commit(command).expect("registered");
                    self.refresh();
                }
            }
            "die" => numbers().for_each(|node| {
                self.living.remove(&node);
            }),
            "live" => numbers().for_each(|node| {
                self.living.insert(node);
                self.beat(node);
            }),
            "close" => numbers().for_each(|node| {
                self.closed.insert(node);
                self.beat(node);
            }),
            "open" => numbers().for_each(|node| {
                self.closed.remove(&node);
                self.beat(node);
            }),
            "fill" => {
                let numbers: Vec<u32> = numbers().collect();
                self.fill(numbers[0].into(), numbers[1]);
            }
            "lease" => numbers().for_each(|number| self.lease(number)),
            "reads" => {
                let numbers: Vec<u32> = numbers().collect();
                let index = Some(u64::from(numbers[1])).filter(|index| *index > 0);
                self.gateway(numbers[0]).reading = index;
            }
            "again" => numbers().for_each(|number| {
                let life = self.gateway(number).life + 1;
                *self.gateway(number) = Gateway {
                    life,
                    ..Gateway::default()
                };
            }),
            "mute" => numbers().for_each(|number| self.gateway(number).mute = true),
            "say" => numbers().for_each(|number| self.gateway(number).mute = false),
            "freeing" => {
                let shown = match self.planner.freeing(self.now_ms, 1) {
                    Some(freeing) => format!("lowest read {:?}", freeing.lowest_read),
                    None => "no deletes yet".to_owned(),
                };
                let _ = writeln!(self.out, "  {} {shown}", self.now_ms);
            }
            "sleep" => self.now_ms += u64::from(numbers().next().expect("milliseconds")),
            "-" => {}
            other => panic!("no such word: {other}"),
        }
    }

    fn fill(&mut self, volume: u64, gib: u32) {
        let mut overlay = Overlay::new(&self.rows);
        let key = RowKey::VolumeCounts(megalith_model::ids::VolumeId(volume)).encode();
        let bytes = overlay.get(&key).expect("rows").expect("there");
        let mut counts: VolumeCounts = megalith_model::codec::decode(&bytes).expect("counts");
        counts.bytes = u64::from(gib) << 30;
        overlay.put(key, megalith_model::codec::encode(&counts));
        let batch = overlay.into_batch();
        self.rows.write(batch);
        self.refresh();
    }
}

fn claim(node: Node) -> NodeClaim {
    NodeClaim::new(node, |disk| DiskProof([disk.0[0]; 32]))
}

/// `number[:zone[:disks]]`
fn node(text: &str) -> Node {
    let mut fields = text.split(':');
    let id: u32 = fields.next().and_then(|t| t.parse().ok()).expect("number");
    let zone = fields.next().unwrap_or("").to_owned();
    let disks: u8 = fields.next().map_or(1, |t| t.parse().expect("disks"));
    Node {
        id: NodeId(id),
        rpc_address: String::new(),
        data_address: String::new(),
        zone,
        disks: (0..disks)
            .map(|disk| Disk {
                id: disk_id(id, disk),
                capacity: 1 << 40,
            })
            .collect(),
    }
}

fn check_with(settings: PlannerSettings, script: &str, expected: Expect) {
    let mut world = World::new(settings);
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        world.pass(words[0].parse().expect("milliseconds"));
        world.show_now();
        let _ = writeln!(world.out, "{line}");
        world.run(words[1], &words[2..]);
    }
    world.show_now();
    expected.assert_eq(&world.out);
}

fn check(script: &str, expected: Expect) {
    check_with(PlannerSettings::default(), script, expected);
}

fn expecting(nodes: usize) -> PlannerSettings {
    PlannerSettings {
        expected_nodes: Some(nodes),
        ..PlannerSettings::default()
    }
}
