//! The cluster's level as a client hears it, and how levels travel.
//!
//! Every answer of the metadata group says the cluster's level. What a process hears is kept beside
//! the roster that its clients share; one that can't run the level waits for [`Roster::outgrown`]
//! and stops itself.

use crate::convert::MalformedMessage;
use crate::roster::Roster;
use megalith_model::level::{
    KNOWN, Level, LevelRange, LevelStatus, OutOfRange, Process, ProcessLevels,
};
use megalith_proto::v1 as proto;

impl Roster {
    /// The cluster's level as it was last heard; before that the lowest that this program runs.
    #[must_use]
    pub fn level(&self) -> Level {
        self.levels().borrow().unwrap_or(KNOWN.lowest)
    }

    /// Notes the level of an answer; 0 says nothing. A level never falls.
    pub(crate) fn hear_level(&self, told: u32) {
        let level = Some(Level(told)).filter(|_| told > 0);
        self.levels().send_if_modified(|held| {
            let newer = level > *held;
            if newer {
                *held = level;
            }
            newer
        });
    }

    /// Waits until the cluster is at a level that this program can't run. Never ends if it is not.
    pub async fn outgrown(&self) -> OutOfRange {
        let mut levels = self.levels().subscribe();
        loop {
            if let Err(outgrown) = self.check_level() {
                return outgrown;
            }
            if levels.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Fails if the cluster is at a level that this program can't run, as far as was heard.
    pub(crate) fn check_level(&self) -> Result<(), OutOfRange> {
        match *self.levels().borrow() {
            Some(level) => KNOWN.check(level),
            None => Ok(()),
        }
    }
}

/// Reads what a process says that it can run. One that says nothing runs the first level.
#[must_use]
pub fn range_from_wire(levels: Option<&proto::LevelRange>) -> LevelRange {
    let first = LevelRange {
        lowest: Level::FIRST,
        highest: Level::FIRST,
    };
    levels.map_or(first, |levels| LevelRange {
        lowest: Level(levels.lowest),
        highest: Level(levels.highest),
    })
}

/// As a process says what it can run.
#[must_use]
pub fn range_to_wire(known: LevelRange) -> proto::LevelRange {
    proto::LevelRange {
        lowest: known.lowest.0,
        highest: known.highest.0,
    }
}

/// As the leader says who can run which levels.
pub(crate) fn status_to_wire(status: &LevelStatus) -> proto::LevelStatus {
    use proto::process_levels::Process as Told;
    let processes = status.processes.iter().map(|one| proto::ProcessLevels {
        process: Some(match one.process {
            Process::Member(node) => Told::Member(node),
            Process::Storage(node) => Told::Storage(node),
            Process::Gateway(gateway) => Told::Gateway(gateway),
        }),
        levels: one.known.map(range_to_wire),
    });
    proto::LevelStatus {
        level: status.level.0,
        highest: status.highest.0,
        processes: processes.collect(),
    }
}

pub(crate) fn status_from_wire(
    status: proto::LevelStatus,
) -> Result<LevelStatus, MalformedMessage> {
    use proto::process_levels::Process as Told;
    let read = |one: proto::ProcessLevels| {
        let process = match one.process {
            Some(Told::Member(node)) => Process::Member(node),
            Some(Told::Storage(node)) => Process::Storage(node),
            Some(Told::Gateway(gateway)) => Process::Gateway(gateway),
            None => return Err(MalformedMessage::new("a process without a name")),
        };
        let known = one.levels.as_ref();
        Ok(ProcessLevels {
            process,
            known: known.map(|levels| range_from_wire(Some(levels))),
        })
    };
    Ok(LevelStatus {
        level: Level(status.level),
        highest: Level(status.highest),
        processes: status
            .processes
            .into_iter()
            .map(read)
            .collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_process_hears_that_the_cluster_has_outgrown_it() {
        let roster = Roster::new(&[]);
        assert_eq!(roster.level(), KNOWN.lowest);
        roster.hear_level(0);
        assert!(roster.outgrown().now_or_never().is_none());
        roster.hear_level(KNOWN.highest.0);
        assert!(roster.check_level().is_ok());
        roster.hear_level(KNOWN.highest.0 + 1);
        // An old word changes nothing.
        roster.hear_level(KNOWN.highest.0);
        let outgrown = roster.outgrown().now_or_never().expect("at once");
        assert_eq!(outgrown.level, Level(KNOWN.highest.0 + 1));
        assert_eq!(roster.check_level(), Err(outgrown));
    }
}
