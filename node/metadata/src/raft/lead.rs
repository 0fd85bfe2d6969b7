//! Whether this member should lead, by its clock and its log's disk, and who should instead.

use super::driver::Driver;
use super::pace::{self, Pace, PaceLimits};
use crate::clock::{self, ClockStanding};
use ::raft::StateRole;
use std::time::{Duration, Instant};

impl Driver {
    /// Lets another voter lead before a planned stop, so that no request waits for an election.
    pub(super) fn hand_over(&mut self) {
        if self.raw.raft.state == StateRole::Leader
            && let Some(next) = self.successor()
        {
            self.raw.transfer_leader(next);
        }
    }

    /// Judges this member's clock by those of the other voters; true if it is wrong.
    pub(super) fn compare_clocks(&self, leads: bool) -> bool {
        let voters = &self.raw.store().log.conf().voters;
        let standing = if voters.contains(&self.member) {
            let others = voters.iter().filter(|&&id| id != self.member);
            let ahead: Vec<Option<i64>> = others.map(|id| self.clock_ahead(*id)).collect();
            clock::judge(&ahead)
        } else {
            ClockStanding::Unknown
        };
        self.clock.note_standing(standing, leads);
        matches!(standing, ClockStanding::Apart { .. })
    }

    /// True if this member's own clock is far from those of a majority.
    pub(super) fn has_wrong_clock(&self) -> bool {
        self.compare_clocks(false)
    }

    /// True if another member's clock is near those of the majority.
    pub(super) fn has_right_clock(&self, id: u64) -> bool {
        let own_ahead_ms = match self.clock.standing() {
            ClockStanding::Apart { ahead_ms } => ahead_ms,
            ClockStanding::Agrees | ClockStanding::Unknown => 0,
        };
        let apart = |ahead: i64| ahead.saturating_add(own_ahead_ms).saturating_abs();
        let ahead = self.clock_ahead(id);
        ahead.is_some_and(|ahead| apart(ahead) <= clock::APART_MAX_MS)
    }

    /// How far a living member's clock is ahead of this one's, in milliseconds.
    pub(super) fn clock_ahead(&self, id: u64) -> Option<i64> {
        let (showed, at) = self.clocks.get(&id)?;
        let own = self.at_start(self.clock.wall_ms());
        (*at >= self.alive_since()).then(|| showed.saturating_sub(own))
    }

    /// What a clock that shows `time_ms` now showed when this driver started.
    pub(super) fn at_start(&self, time_ms: u64) -> i64 {
        let now = i64::try_from(time_ms).unwrap_or(i64::MAX);
        let since = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        now.saturating_sub(since)
    }

    /// Hands the lead over if this member's log is synced slowly and a majority's is not: what
    /// waits for this disk would wait for every command. Once in a while: one disk may be as good
    /// as the other a moment later, and each change of leaders costs a moment too.
    pub(super) fn watch_disk(&mut self, now: Instant) {
        let conf = self.raw.store().log.conf();
        if !self.leads() || now < self.next_hand_over || conf.is_joint() {
            return;
        }
        let own = self.pace(now);
        let others = conf.voters.iter().filter(|&&id| id != self.member);
        let told: Vec<_> = others.clone().map(|&id| self.told_pace(id)).collect();
        let limits = PaceLimits {
            hangs: self.settings.disk_hangs,
            slow: self.settings.disk_slow,
        };
        if !pace::others_are_quicker(own, &told, limits) {
            return;
        }
        let fit = |&id: &u64| {
            let quicker = self
                .told_pace(id)
                .is_some_and(|told| own.is_far_behind(told));
            quicker && self.has_right_clock(id)
        };
        let matched = |&id: &u64| self.raw.raft.prs().get(id).map(|progress| progress.matched);
        let Some(next) = others.copied().filter(fit).max_by_key(matched) else {
            return;
        };
        tracing::warn!(
            ?own,
            ?told,
            next,
            "this member's log is synced slowly: another member is to lead"
        );
        metrics::counter!("megalith_meta_slow_disk_hand_overs_total").increment(1);
        self.next_hand_over = now + self.settings.hand_over_pause;
        self.raw.transfer_leader(next);
    }

    /// How this member's log disk does.
    pub(super) fn pace(&self, now: Instant) -> Pace {
        let waiting_since = self.appends.waiting_since();
        self.appends.times.pace(waiting_since, now)
    }

    /// What this member tells of its log disk, in milliseconds.
    pub(super) fn sync_ms(&self) -> u32 {
        let worst = self.pace(Instant::now()).worst().as_millis();
        u32::try_from(worst).unwrap_or(u32::MAX)
    }

    /// What a living member has told of its log disk.
    fn told_pace(&self, id: u64) -> Option<Duration> {
        let told = self.paces.get(&id).copied();
        told.filter(|_| self.is_alive(id))
    }
}
