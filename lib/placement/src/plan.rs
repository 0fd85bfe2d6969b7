//! Compares what is with what should be: volumes to make and to close.

use super::domains::{Aim, VolumeKind, aim};
use super::state::{Leading, View};
use super::{Action, PlannerSettings, choose, map};
use megalith_model::command::Command;
use megalith_model::ids::VolumeId;
use megalith_model::topology::Volume;

fn kind_of(volume: &Volume) -> VolumeKind {
    VolumeKind {
        profile: volume.profile,
        domain: volume.domain,
    }
}

/// The result of planning.
struct Plan {
    commands: Vec<Command>,
    whole: bool,
    refusal: Option<String>,
    wished: Option<VolumeKind>,
}

impl View<'_> {
    pub(super) fn writable(&self, volume: &Volume) -> bool {
        volume.slots.iter().all(|slot| self.takes(slot))
    }

    pub(super) fn full(&self, volume: &Volume) -> bool {
        volume.bytes >= self.topology.settings.volume_bytes
    }

    /// Returns how many volumes of that kind take blobs and have room.
    fn ready(&self, kind: VolumeKind) -> usize {
        self.topology
            .open_volumes
            .iter()
            .filter(|v| kind_of(v) == kind && !self.full(v) && self.writable(v))
            .count()
    }
}

impl Leading {
    /// Decides, and remembers its proposals.
    pub(super) fn plan(&mut self, now_ms: u64, settings: &PlannerSettings) -> Vec<Action> {
        self.expire(now_ms);
        let Some(topology) = self.topology.take() else {
            return Vec::new();
        };
        let view = View::new(self, &topology, now_ms, settings);
        let plan = self.decide(&view);
        let map = map::make(&view, plan.wished, plan.refusal);

        let mut actions = Vec::new();
        if let Some(map) = map::next(self.published.as_ref(), self.term, map) {
            self.published = Some(map.clone());
            actions.push(Action::PublishMap(map));
        }
        self.whole_since_ms = match (plan.whole, self.whole_since_ms) {
            (false, _) => None,
            (true, Some(since_ms)) => Some(since_ms),
            (true, None) => Some(now_ms),
        };
        let mut commands = plan.commands;
        let working = self.in_flight.iter().any(|(_, c)| *c == Command::WorkOff);
        if topology.doomed && !working && now_ms >= self.work_at_ms {
            commands.push(Command::WorkOff);
        }
        let ending = |(_, c): &(u64, Command)| matches!(c, Command::ExpireUploads { .. });
        let uploads = std::mem::take(&mut self.old_uploads);
        if !uploads.is_empty() && now_ms >= self.work_at_ms && !self.in_flight.iter().any(ending) {
            commands.push(Command::ExpireUploads { uploads });
        }
        let in_flight: Vec<&Command> = self.in_flight.iter().map(|(_, c)| c).collect();
        let life_ms = settings.gateway_life_ms;
        commands.extend(self.gateways.closings(now_ms, life_ms, &in_flight));
        for command in commands {
            self.in_flight.push((now_ms, command.clone()));
            actions.push(Action::Propose(command));
        }
        self.topology = Some(topology);
        actions
    }

    fn decide(&self, view: &View<'_>) -> Plan {
        let mut plan = Plan {
            commands: Vec::new(),
            whole: false,
            refusal: None,
            wished: None,
        };
        let aim = match aim(view) {
            Ok(aim) => aim,
            Err(why) => {
                plan.refusal = Some(why);
                return plan;
            }
        };
        plan.wished = Some(aim.wished);
        plan.whole = view.ready(aim.wished) >= view.settings.open_target;
        let shrunk = matches!(&aim.target, Ok(target) if *target != aim.wished);
        if let Some(why) = hold(view, shrunk) {
            let writable = view.topology.open_volumes.iter().any(|v| view.writable(v));
            plan.refusal = (!writable).then_some(why);
            return plan;
        }
        let target = match &aim.target {
            Ok(target) => *target,
            Err(why) => {
                plan.refusal = Some(why.clone());
                return plan;
            }
        };
        if view.now_ms >= self.retry_at_ms {
            plan.commands = self.creations(view, &aim, target);
            plan.commands
                .extend(self.closings(view, &aim, target, plan.whole));
        }
        plan
    }

    /// Returns the volumes to make, so that `open_target` of the best possible kind are writable.
    fn creations(&self, view: &View<'_>, aim: &Aim, target: VolumeKind) -> Vec<Command> {
        let mut proposed: Vec<Command> = self
            .in_flight
            .iter()
            .map(|(_, command)| command.clone())
            .filter(|command| matches!(command, Command::CreateVolume { .. }))
            .collect();
        let on_their_way = proposed.len();
        let same = proposed.iter().filter(|command| match command {
            Command::CreateVolume {
                profile, domain, ..
            } => (*profile, *domain) == (target.profile, target.domain),
            _ => false,
        });
        let mut count = view.ready(target) + same.count();
        while count < view.settings.open_target {
            let ahead = proposed.len() as u64;
            let number = VolumeId(view.topology.next_volume.0.saturating_add(ahead));
            let Some(slots) = choose::choose(view, aim, target, number, &proposed) else {
                break;
            };
            proposed.push(Command::CreateVolume {
                profile: target.profile,
                domain: target.domain,
                slots,
                shrunk: target != aim.wished,
            });
            count += 1;
        }
        proposed.split_off(on_their_way)
    }

    /// Returns the volumes to close: full ones once another can take over, and those of another
    /// kind once enough of the wished kind are writable.
    fn closings(
        &self,
        view: &View<'_>,
        aim: &Aim,
        target: VolumeKind,
        whole: bool,
    ) -> Vec<Command> {
        let lingered = self.whole_since_ms.is_some_and(|since_ms| {
            view.now_ms >= since_ms.saturating_add(view.settings.shrunk_linger_ms)
        });
        let mut closings = Vec::new();
        for volume in &view.topology.open_volumes {
            let replaced = if view.full(volume) {
                view.ready(target) > 0
            } else if kind_of(volume) == aim.wished {
                false
            } else {
                whole && (!volume.shrunk || lingered)
            };
            let close = Command::CloseVolume {
                volume: volume.id,
                epoch: volume.epoch,
            };
            if replaced && !self.in_flight.iter().any(|(_, command)| *command == close) {
                closings.push(close);
            }
        }
        closings
    }
}

/// Says why it is better to wait a moment before making or closing volumes.
fn hold(view: &View<'_>, shrunk: bool) -> Option<String> {
    let registered = view.storage_nodes().count();
    if view.awaited {
        return Some("waiting for the first heartbeat of every storage node".into());
    }
    if shrunk && view.returning {
        return Some("waiting a moment for further nodes that come back".into());
    }
    let forming = view.topology.next_volume <= VolumeId(1);
    let urgent = !forming && !view.topology.open_volumes.iter().any(|v| view.writable(v));
    if view.settled || urgent {
        return None;
    }
    Some(match view.settings.expected_nodes {
        Some(expected) if registered < expected => {
            format!("waiting for storage nodes: {registered} of {expected} are registered")
        }
        Some(_) | None => {
            format!("waiting for further storage nodes: {registered} are registered so far")
        }
    })
}
