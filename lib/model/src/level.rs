//! The cluster's level: which commands, and which versions of rows, may be used in it.
//!
//! Programs of several versions work together while a cluster is upgraded. What is new must wait
//! until every process can read it: the level is the row that says so
//! ([`crate::keys::Meta::Level`]), and a command raises it when all can. Without the row it is
//! level 1. Each program knows a range of levels, [`KNOWN`], and stops itself where the cluster's
//! level is outside.
//!
//! The row and the commands that carry a level keep their form for ever: every program must be able
//! to read that it is too old. `docs/decisions/levels.md` says why it is done like this.

use crate::command::{Command, Envelope};
use crate::rotation;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The levels that this program can run.
pub const KNOWN: LevelRange = LevelRange {
    lowest: Level::FIRST,
    highest: Level(2),
};

/// A cluster's level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Level(pub u32);

impl Level {
    /// Of a cluster without a row that says another.
    pub const FIRST: Self = Self(1);
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The levels that a program can run, both ends counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LevelRange {
    pub lowest: Level,
    pub highest: Level,
}

impl Default for LevelRange {
    fn default() -> Self {
        KNOWN
    }
}

impl fmt::Display for LevelRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lowest == self.highest {
            return write!(f, "level {}", self.lowest);
        }
        write!(f, "levels {} to {}", self.lowest, self.highest)
    }
}

/// A cluster whose level a program can't run. The program stops itself; nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster is at level {level}, and this program runs {known}: {}", self.advice())]
pub struct OutOfRange {
    pub level: Level,
    /// What the program can run.
    pub known: LevelRange,
}

impl OutOfRange {
    fn advice(&self) -> &'static str {
        if self.level > self.known.highest {
            "upgrade it; its data is untouched, and a newer program goes on from there"
        } else {
            "run an older one, and raise the level with `megalith meta raise-level` first"
        }
    }
}

impl LevelRange {
    /// Fails if a program of this range can't run in a cluster of that level.
    pub fn check(self, level: Level) -> Result<(), OutOfRange> {
        if (self.lowest..=self.highest).contains(&level) {
            return Ok(());
        }
        Err(OutOfRange { level, known: self })
    }

    /// Fails if a command takes the cluster to a level that a program of this range can't run.
    /// Asked before the command is applied.
    pub fn check_command(self, envelope: &Envelope) -> Result<(), OutOfRange> {
        match raised_to(&envelope.command) {
            Some(level) if level > self.highest => Err(OutOfRange { level, known: self }),
            Some(_) | None => Ok(()),
        }
    }
}

/// The level that a command may take the cluster to.
fn raised_to(command: &Command) -> Option<Level> {
    if let Command::RaiseLevel { level } | Command::InitCluster { level, .. } = command {
        Some(*level)
    } else {
        None
    }
}

impl Command {
    /// The level from which this command may be used; below it apply refuses it. A new command gets
    /// the next level: older members can't read it.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::InitCluster { .. }
            | Self::RegisterNode(_)
            | Self::CreateVolume { .. }
            | Self::CloseVolume { .. }
            | Self::PutKek { .. }
            | Self::OpenLease { .. }
            | Self::CloseLease { .. }
            | Self::CreateAccount { .. }
            | Self::SetAccountEnabled { .. }
            | Self::PutAccessKey { .. }
            | Self::CreateBucket { .. }
            | Self::DeleteBucket(_)
            | Self::PutObject(_)
            | Self::DeleteObject { .. }
            | Self::CreateUpload { .. }
            | Self::PutPart { .. }
            | Self::CompleteUpload { .. }
            | Self::AbortUpload { .. }
            | Self::MarkOwed { .. }
            | Self::AckDeletes { .. }
            | Self::Nothing
            | Self::ResetClock
            | Self::FillOwed { .. }
            | Self::RaiseDoubts(_)
            | Self::DenyDoubts { .. }
            | Self::JudgeDoubts { .. }
            | Self::WorkOff
            | Self::RaiseLevel { .. }
            | Self::DiscardBlob { .. }
            | Self::SetSettings(_)
            | Self::ExpireUploads { .. }
            | Self::ReleaseRestore
            | Self::SetDenyList(_) => Level::FIRST,
            Self::RotateKek { .. }
            | Self::Reseal { .. }
            | Self::DropKeks { .. }
            | Self::ResealKek { .. } => rotation::LEVEL,
        }
    }
}

/// A process that holds a level back, or may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Process {
    /// A metadata member, by its node.
    Member(u32),
    /// A storage node.
    Storage(u32),
    Gateway(u32),
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(node) => write!(f, "metadata member {node}"),
            Self::Storage(node) => write!(f, "storage node {node}"),
            Self::Gateway(gateway) => write!(f, "gateway {gateway}"),
        }
    }
}

/// What the leader knows of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessLevels {
    pub process: Process,
    /// What it can run, as it said itself; None if it isn't heard.
    pub known: Option<LevelRange>,
}

impl ProcessLevels {
    /// Returns true if this process could not go on at `level`, as far as is known.
    #[must_use]
    pub fn holds_back(&self, level: Level) -> bool {
        self.known.is_none_or(|known| known.check(level).is_err())
    }
}

impl fmt::Display for ProcessLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known {
            Some(known) => write!(f, "{} runs {known}", self.process),
            None => write!(f, "{} is not heard", self.process),
        }
    }
}

/// The cluster's level, and what each process could run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelStatus {
    pub level: Level,
    /// The highest one that the leader's program can run.
    pub highest: Level,
    /// Every process that belongs to the cluster, in order.
    pub processes: Vec<ProcessLevels>,
}

impl LevelStatus {
    /// The processes that hold `level` back.
    #[must_use]
    pub fn held_back_by(&self, level: Level) -> Vec<ProcessLevels> {
        let processes = self.processes.iter().copied();
        processes.filter(|one| one.holds_back(level)).collect()
    }

    /// Judges whether the level may be raised to `level`. With `without_silent`, processes that
    /// aren't heard don't count: those that can't run the level stop themselves when they return.
    /// A metadata member always counts.
    ///
    /// Fails with the reason, in words for the operator.
    pub fn may_raise(&self, level: Level, without_silent: bool) -> Result<(), String> {
        if level < self.level {
            let now = self.level;
            return Err(format!(
                "the cluster is at level {now}; it is never lowered"
            ));
        }
        if level > self.highest {
            let highest = self.highest;
            return Err(format!(
                "the leader's program runs no level above {highest}"
            ));
        }
        let silent_storage =
            |one: &ProcessLevels| one.known.is_none() && !matches!(one.process, Process::Member(_));
        let mut holders = self.held_back_by(level);
        holders.retain(|one| !(without_silent && silent_storage(one)));
        if holders.is_empty() {
            return Ok(());
        }
        let holders: Vec<String> = holders.iter().map(ToString::to_string).collect();
        Err(format!(
            "level {level} is held back: {}",
            holders.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests;
