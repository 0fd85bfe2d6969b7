//! What gateways said lately: whose leases are still held, and how far back is still read.
//!
//! A lease is closed when its gateway has not named it for one gateway's life: the gateway is
//! silent, or has ended and come back without it. A leader that is not yet in office for that long
//! may not have heard everybody, and closes nothing.

use megalith_model::beat::Beat;
use megalith_model::command::Command;
use megalith_model::ids::{GatewayId, LeaseId};
use megalith_model::topology::Lease;
use std::collections::BTreeMap;

/// The most closings of leases that are proposed at a time.
pub(super) const CLOSINGS_MAX: usize = 16;
/// The most processes of one gateway's number that are remembered.
pub(super) const LIVES_MAX: usize = 8;

/// What a process of a gateway last said.
#[derive(Debug)]
struct Said {
    at_ms: u64,
    reading: Option<u64>,
}

/// A lease that is open.
#[derive(Debug)]
struct Open {
    gateway: GatewayId,
    /// When its gateway last named it, or when this leader first saw it.
    named_ms: u64,
}

/// What one leader knows of the gateways.
#[derive(Debug)]
pub(super) struct Gateways {
    /// Since when this leader listens.
    since_ms: u64,
    /// By gateway and life.
    heard: BTreeMap<(GatewayId, u64), Said>,
    open: BTreeMap<LeaseId, Open>,
    /// When leases may be closed again.
    pub(super) close_at_ms: u64,
}

impl Gateways {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            since_ms: now_ms,
            heard: BTreeMap::new(),
            open: BTreeMap::new(),
            close_at_ms: 0,
        }
    }

    /// Time in which the planner did not run is nobody's silence.
    pub(super) fn sleep(&mut self, slept_ms: u64) {
        self.since_ms += slept_ms;
        for said in self.heard.values_mut() {
            said.at_ms += slept_ms;
        }
        for open in self.open.values_mut() {
            open.named_ms += slept_ms;
        }
    }

    /// Takes in which leases are open.
    pub(super) fn learn(&mut self, now_ms: u64, leases: &[Lease]) {
        let mut known = std::mem::take(&mut self.open);
        let open = |lease: &Lease| {
            let (gateway, named_ms) = (lease.gateway, now_ms);
            let known = known.remove(&lease.id);
            (lease.id, known.unwrap_or(Open { gateway, named_ms }))
        };
        self.open = leases.iter().map(open).collect();
    }

    /// Takes in a beat. A lease that isn't the gateway's is not held by it, whatever it says.
    pub(super) fn hear(&mut self, now_ms: u64, beat: &Beat, life_ms: u64) {
        self.heard.retain(|_, said| now_ms < said.at_ms + life_ms);
        let (gateway, reading) = (beat.gateway, beat.reading);
        let said = Said {
            at_ms: now_ms,
            reading,
        };
        self.heard.insert((gateway, beat.life), said);
        let lives = self.heard.range((gateway, 0)..=(gateway, u64::MAX));
        if lives.clone().count() > LIVES_MAX {
            let oldest = lives.min_by_key(|(_, said)| said.at_ms);
            if let Some(oldest) = oldest.map(|(life, _)| *life) {
                self.heard.remove(&oldest);
            }
        }
        for lease in &beat.leases {
            if let Some(open) = self.open.get_mut(lease)
                && open.gateway == gateway
            {
                open.named_ms = now_ms;
            }
        }
    }

    /// Forgets a lease that is closed.
    pub(super) fn closed(&mut self, lease: LeaseId) {
        self.open.remove(&lease);
    }

    /// Returns whether every gateway that lives has been heard by now.
    pub(super) fn all_heard(&self, now_ms: u64, life_ms: u64) -> bool {
        now_ms >= self.since_ms.saturating_add(life_ms)
    }

    /// Returns the lowest index at which a gateway reads that was heard within its life.
    pub(super) fn lowest_read(&self, now_ms: u64, life_ms: u64) -> Option<u64> {
        let heard = |said: &&Said| now_ms < said.at_ms.saturating_add(life_ms);
        let heard = self.heard.values().filter(heard);
        heard.filter_map(|said| said.reading).min()
    }

    /// Returns the leases to close.
    pub(super) fn closings(
        &self,
        now_ms: u64,
        life_ms: u64,
        in_flight: &[&Command],
    ) -> Vec<Command> {
        if !self.all_heard(now_ms, life_ms) || now_ms < self.close_at_ms {
            return Vec::new();
        }
        let close = |(lease, open): (&LeaseId, &Open)| Command::CloseLease {
            gateway: open.gateway,
            lease: *lease,
        };
        let closing = |command: &&&Command| matches!(command, Command::CloseLease { .. });
        let room = CLOSINGS_MAX.saturating_sub(in_flight.iter().filter(closing).count());
        let given_up = self
            .open
            .iter()
            .filter(|(_, open)| now_ms >= open.named_ms.saturating_add(life_ms));
        let new = given_up
            .map(close)
            .filter(|command| !in_flight.contains(&command));
        new.take(room).collect()
    }
}
