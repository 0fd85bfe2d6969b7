//! What the scrub does next. Pure: the clock, the disk's files and what came of the last piece are
//! handed in, an action goes out.
//!
//! Two walks share the disk's time. The *pass* goes over all files in order, along a straight line
//! from its beginning to its deadline, never ahead of it. The *look* takes the files with something
//! new, newest first, a few times within the time that new data may stay unchecked. Both stand back
//! for traffic until their slack is used up.

use super::{ScrubSettings, ScrubStatus};
use megalith_model::ids::VolumeId;

/// Blocks checked in one piece (1 MiB).
const PIECE_BLOCKS: u32 = 256;
/// How long it stands back when there is traffic.
const STAND_BACK_MS: u64 = 200;
/// The longest it sleeps, so that it takes note of what changed.
const SLEEP_MAX_MS: u64 = 10_000;

/// A place on the disk, in the order of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) volume: VolumeId,
    pub(crate) seq: u32,
    pub(crate) block: u32,
}

impl Spot {
    pub(crate) const START: Self = Self {
        volume: VolumeId(0),
        seq: 0,
        block: 0,
    };
    /// Behind all files: the pass is finished.
    pub(crate) const END: Self = Self {
        volume: VolumeId(u64::MAX),
        seq: u32::MAX,
        block: u32::MAX,
    };

    fn file(self) -> (VolumeId, u32) {
        (self.volume, self.seq)
    }
}

/// A chunk file as the plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileFacts {
    pub(crate) volume: VolumeId,
    pub(crate) seq: u32,
    pub(crate) blocks: u32,
    pub(crate) lsn_max: u64,
}

impl FileFacts {
    fn file(&self) -> (VolumeId, u32) {
        (self.volume, self.seq)
    }
}

/// What the plan looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScrubView<'a> {
    /// All files, by volume and number.
    pub(crate) files: &'a [FileFacts],
    /// Everything up to this record number is in `files`.
    pub(crate) lsn: u64,
    /// Users asked for something since the last look.
    pub(crate) busy: bool,
}

/// What survives a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScrubProgress {
    /// Where the pass goes on.
    pub(crate) at: Spot,
    pub(crate) began_ms: u64,
    /// The pass runs as fast as it may.
    pub(crate) demanded: bool,
    pub(crate) passes: u64,
    pub(crate) finished_ms: u64,
    /// Everything up to this record number was checked at least once.
    pub(crate) fresh_lsn: u64,
    /// When the last finished look began.
    pub(crate) fresh_ms: u64,
    pub(crate) checked_bytes: u64,
    pub(crate) found_shards: u64,
}

impl Default for ScrubProgress {
    fn default() -> Self {
        Self {
            at: Spot::END,
            began_ms: 0,
            demanded: false,
            passes: 0,
            finished_ms: 0,
            fresh_lsn: 0,
            fresh_ms: 0,
            checked_bytes: 0,
            found_shards: 0,
        }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScrubAction {
    /// Check a piece and say what came of it by [`Plan::checked`].
    Check(Piece),
    /// Nothing for this many milliseconds.
    Wait(u64),
}

/// The walk that a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    Pass,
    /// At what is new.
    Look,
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) walk: Walk,
    pub(crate) from: Spot,
    pub(crate) blocks_max: u32,
    /// A look leaves out shards with a record number up to this one.
    pub(crate) newer_than: u64,
}

/// What came of a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Shards newly found damaged.
    pub(crate) found: u64,
    /// Where the file goes on; None at its end.
    pub(crate) next: Option<u32>,
}

/// The look under way.
#[derive(Debug)]
struct Look {
    began_ms: u64,
    /// Everything up to here is in the queue.
    lsn: u64,
    /// Oldest first: taken from the end.
    queue: Vec<(VolumeId, u32)>,
    block: u32,
}

/// The plan of one disk.
#[derive(Debug)]
pub(crate) struct Plan {
    progress: ScrubProgress,
    look: Option<Look>,
    /// No piece before this time: the rate.
    ready_ms: u64,
    /// Blocks of the pass that are done and blocks of all files, when last seen.
    done: u64,
    total: u64,
    late: bool,
    pass_ms: u64,
    look_ms: u64,
    bytes_per_s: u64,
}

impl Plan {
    pub(crate) fn new(settings: &ScrubSettings, progress: ScrubProgress) -> Self {
        let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            progress,
            look: None,
            ready_ms: 0,
            done: 0,
            total: 0,
            late: false,
            // Two passes and the slack of each fit into a cycle.
            pass_ms: (ms(settings.cycle) / 20 * 9).max(1),
            // Written just after a look began, begun a third later, done within another third.
            look_ms: (ms(settings.fresh_within) / 3).max(1),
            bytes_per_s: settings.bytes_per_s_max.max(1),
        }
    }

    pub(crate) fn progress(&self) -> ScrubProgress {
        self.progress
    }

    /// Begins a pass over everything, as fast as the rate allows.
    pub(crate) fn demand(&mut self, now_ms: u64) {
        self.begin_pass(now_ms);
        self.progress.demanded = true;
        self.ready_ms = 0;
    }

    pub(crate) fn status(&self) -> ScrubStatus {
        let progress = &self.progress;
        let done = match progress.at == Spot::END {
            true => 1000,
            false => (self.done * 1000 / self.total.max(1)).min(999),
        };
        ScrubStatus {
            demanded: progress.demanded,
            began_ms: progress.began_ms,
            done_permille: if progress.began_ms == 0 { 0 } else { done },
            passes: progress.passes,
            finished_ms: progress.finished_ms,
            fresh_ms: progress.fresh_ms,
            checked_bytes: progress.checked_bytes,
            found_shards: progress.found_shards,
            late: self.late,
        }
    }

    /// Decides what is done now.
    pub(crate) fn step(&mut self, now_ms: u64, view: ScrubView<'_>) -> ScrubAction {
        self.mind_the_clock(now_ms);
        if now_ms < self.ready_ms {
            return ScrubAction::Wait((self.ready_ms - now_ms).min(SLEEP_MAX_MS));
        }
        self.measure(view.files);
        let first = self.look_step(now_ms, view);
        if let Some(action @ ScrubAction::Check(_)) = first {
            return action;
        }
        // A look that stands back lets the pass stand back too.
        match (self.pass_step(now_ms, view), first) {
            (ScrubAction::Wait(one), Some(ScrubAction::Wait(other))) => {
                ScrubAction::Wait(one.min(other))
            }
            (_, Some(wait)) if view.busy => wait,
            (action, _) => action,
        }
    }

    /// Takes note of what came of a piece.
    pub(crate) fn checked(&mut self, now_ms: u64, piece: Piece, checked: Checked, busy: bool) {
        self.progress.checked_bytes += checked.bytes;
        self.progress.found_shards += checked.found;
        // Against traffic at half the rate.
        let share = if busy { 2000 } else { 1000 };
        let cost = u128::from(checked.bytes) * share / u128::from(self.bytes_per_s);
        self.ready_ms = now_ms.saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
        match piece.walk {
            Walk::Look => self.look_checked(piece, checked),
            Walk::Pass => {
                // The file's number is never used again: what is behind its end is new.
                let block = checked.next.unwrap_or(u32::MAX);
                self.progress.at = Spot {
                    block,
                    ..piece.from
                };
            }
        }
    }

    fn measure(&mut self, files: &[FileFacts]) {
        let at = self.progress.at;
        (self.done, self.total) = (0, 0);
        for file in files {
            self.total += u64::from(file.blocks);
            if file.file() < at.file() {
                self.done += u64::from(file.blocks);
            } else if file.file() == at.file() {
                self.done += u64::from(file.blocks.min(at.block));
            }
        }
    }

    /// A clock that was set back must not stop the scrub.
    fn mind_the_clock(&mut self, now_ms: u64) {
        let progress = &mut self.progress;
        progress.began_ms = progress.began_ms.min(now_ms);
        progress.fresh_ms = progress.fresh_ms.min(now_ms);
        self.ready_ms = self.ready_ms.min(now_ms.saturating_add(SLEEP_MAX_MS));
        if let Some(look) = &mut self.look {
            look.began_ms = look.began_ms.min(now_ms);
        }
    }

    /// None if there is nothing new to be looked at for now.
    fn look_step(&mut self, now_ms: u64, view: ScrubView<'_>) -> Option<ScrubAction> {
        let due = self.progress.fresh_ms == 0
            || now_ms >= self.progress.fresh_ms.saturating_add(self.look_ms);
        if self.look.is_none() && due {
            let known = self.progress.fresh_lsn;
            let mut new: Vec<&FileFacts> = view
                .files
                .iter()
                .filter(|file| file.lsn_max > known)
                .collect();
            new.sort_by_key(|file| file.lsn_max);
            self.look = Some(Look {
                began_ms: now_ms,
                lsn: view.lsn,
                queue: new.into_iter().map(FileFacts::file).collect(),
                block: 0,
            });
        }
        let look = self.look.as_mut()?;
        // Files may be gone by now, with what lived in them elsewhere.
        let there = |id: (VolumeId, u32)| {
            let found = view.files.binary_search_by_key(&id, FileFacts::file);
            found.is_ok()
        };
        while look.queue.pop_if(|id| !there(*id)).is_some() {
            look.block = 0;
        }
        let Some((volume, seq)) = look.queue.last().copied() else {
            self.progress.fresh_lsn = self.progress.fresh_lsn.max(look.lsn);
            self.progress.fresh_ms = look.began_ms;
            self.look = None;
            return None;
        };
        let slack = now_ms < look.began_ms.saturating_add(self.look_ms);
        if view.busy && slack {
            return Some(ScrubAction::Wait(STAND_BACK_MS));
        }
        Some(ScrubAction::Check(Piece {
            from: Spot {
                volume,
                seq,
                block: look.block,
            },
            walk: Walk::Look,
            blocks_max: PIECE_BLOCKS,
            newer_than: self.progress.fresh_lsn,
        }))
    }

    fn look_checked(&mut self, piece: Piece, checked: Checked) {
        let of_piece = |look: &&mut Look| look.queue.last() == Some(&piece.from.file());
        let Some(look) = self.look.as_mut().filter(of_piece) else {
            return;
        };
        match checked.next {
            Some(block) => look.block = block,
            None => {
                look.queue.pop();
                look.block = 0;
            }
        }
    }

    fn pass_step(&mut self, now_ms: u64, view: ScrubView<'_>) -> ScrubAction {
        let next_ms = self.progress.began_ms.saturating_add(self.pass_ms);
        if self.progress.at == Spot::END {
            if self.progress.began_ms > 0 && now_ms < next_ms {
                return ScrubAction::Wait((next_ms - now_ms).min(SLEEP_MAX_MS));
            }
            self.begin_pass(now_ms);
        }
        let at = self.progress.at;
        let after = view.files.partition_point(|file| {
            file.file() < at.file() || (file.file() == at.file() && at.block >= file.blocks)
        });
        let Some(file) = view.files.get(after) else {
            self.progress.at = Spot::END;
            self.progress.passes += 1;
            self.progress.finished_ms = now_ms;
            self.progress.demanded = false;
            self.late = false;
            return ScrubAction::Wait(1);
        };
        self.late = now_ms > next_ms.saturating_add(self.pass_ms / 10);
        let wait = match self.progress.demanded {
            true => 0,
            false => self.wait_for_line(now_ms, view.busy),
        };
        if wait > 0 {
            return ScrubAction::Wait(wait.min(SLEEP_MAX_MS));
        }
        let block = if file.file() == at.file() {
            at.block
        } else {
            0
        };
        ScrubAction::Check(Piece {
            from: Spot {
                volume: file.volume,
                seq: file.seq,
                block,
            },
            walk: Walk::Pass,
            blocks_max: PIECE_BLOCKS,
            newer_than: 0,
        })
    }

    /// How long until the next piece is due, and while there is traffic until it is overdue.
    fn wait_for_line(&self, now_ms: u64, busy: bool) -> u64 {
        let share = u128::from(self.pass_ms) * u128::from(self.done + 1);
        let offset = share / u128::from(self.total.max(1));
        let offset = u64::try_from(offset).unwrap_or(u64::MAX).min(self.pass_ms);
        let due_ms = self.progress.began_ms.saturating_add(offset);
        if now_ms < due_ms {
            due_ms - now_ms
        } else if busy && now_ms - due_ms < self.pass_ms / 10 {
            STAND_BACK_MS
        } else {
            0
        }
    }

    fn begin_pass(&mut self, now_ms: u64) {
        self.progress.at = Spot::START;
        self.progress.began_ms = now_ms.max(1);
    }
}
