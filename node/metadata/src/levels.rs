//! The cluster's level at one member, and what other processes have said that they can run.
//!
//! What was heard is in memory only, and a leader judges by it whether the level may be raised. A
//! gateway counts as heard while its stream of maps is open.

use megalith_model::level::{KNOWN, Level, LevelRange, OutOfRange, Process};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A process that has said nothing for so long isn't heard.
const HEARD_FOR: Duration = Duration::from_secs(10);

/// The level, and who can run which. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Levels {
    shared: Arc<Shared>,
}

struct Shared {
    known: LevelRange,
    /// As applied here; None before the cluster is named.
    level: watch::Sender<Option<Level>>,
    heard: Mutex<BTreeMap<Process, Heard>>,
}

struct Heard {
    known: LevelRange,
    last: Instant,
    /// How many streams it has open.
    streams: usize,
}

impl Heard {
    fn is_current(&self) -> bool {
        self.streams > 0 || self.last.elapsed() < HEARD_FOR
    }
}

/// A process that listens; it counts as heard until this is dropped.
pub struct Listening {
    levels: Levels,
    process: Process,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut heard = self.levels.heard();
        if let Some(one) = heard.get_mut(&self.process) {
            one.streams = one.streams.saturating_sub(1);
        }
    }
}

impl Default for Levels {
    fn default() -> Self {
        Self::new(KNOWN)
    }
}

impl Levels {
    /// For a member that can run `known`.
    #[must_use]
    pub fn new(known: LevelRange) -> Self {
        let shared = Shared {
            known,
            level: watch::channel(None).0,
            heard: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<Process, Heard>> {
        let heard = self.shared.heard.lock();
        heard.unwrap_or_else(PoisonError::into_inner)
    }

    /// What this member can run.
    #[must_use]
    pub fn known(&self) -> LevelRange {
        self.shared.known
    }

    /// The cluster's level as applied here; the first before the cluster is named.
    #[must_use]
    pub fn level(&self) -> Level {
        self.shared.level.borrow().unwrap_or(Level::FIRST)
    }

    /// The same as others are told it: 0 before the cluster is named.
    #[must_use]
    pub fn told(&self) -> u32 {
        self.shared.level.borrow().map_or(0, |level| level.0)
    }

    /// The level as it changes.
    pub fn watch(&self) -> watch::Receiver<Option<Level>> {
        self.shared.level.subscribe()
    }

    /// Fails if a peer's word for the level is none that this member can run.
    pub(crate) fn check_told(&self, told: u32) -> Result<(), OutOfRange> {
        match told {
            0 => Ok(()),
            level => self.known().check(Level(level)),
        }
    }

    /// Fails if a process can't run the cluster's level. Before the cluster is named all can.
    pub fn check_process(&self, known: LevelRange) -> Result<(), OutOfRange> {
        match *self.shared.level.borrow() {
            Some(level) => known.check(level),
            None => Ok(()),
        }
    }

    pub(crate) fn note_applied(&self, level: Option<Level>) {
        self.shared.level.send_if_modified(|old| {
            let changed = *old != level;
            if let (Some(old), Some(level)) = (*old, level.filter(|_| changed)) {
                tracing::info!(%old, %level, "the cluster's level is raised");
            }
            *old = level;
            changed
        });
    }

    /// Notes what a process has said that it can run.
    pub fn hear(&self, process: Process, known: LevelRange) {
        let mut heard = self.heard();
        let one = heard.entry(process).or_insert(Heard {
            known,
            last: Instant::now(),
            streams: 0,
        });
        (one.known, one.last) = (known, Instant::now());
    }

    /// As [`Self::hear`], for a process that is there until the result is dropped.
    #[must_use]
    pub fn listen(&self, process: Process, known: LevelRange) -> Listening {
        self.hear(process, known);
        let levels = self.clone();
        if let Some(one) = levels.heard().get_mut(&process) {
            one.streams += 1;
        }
        Listening { levels, process }
    }

    /// What a process can run, if it is heard.
    #[must_use]
    pub fn of(&self, process: Process) -> Option<LevelRange> {
        let heard = self.heard();
        let one = heard.get(&process).filter(|one| one.is_current());
        one.map(|one| one.known)
    }

    /// The gateways that are heard.
    #[must_use]
    pub fn gateways(&self) -> Vec<Process> {
        let mut heard = self.heard();
        heard.retain(|process, one| one.is_current() || !matches!(process, Process::Gateway(_)));
        let gateways = heard.keys().copied();
        gateways
            .filter(|process| matches!(process, Process::Gateway(_)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Process = Process::Gateway(1);

    #[test]
    fn a_gateway_is_heard_while_it_listens() {
        let levels = Levels::default();
        assert_eq!(levels.of(GATEWAY), None);
        let known = LevelRange {
            lowest: Level(1),
            highest: Level(5),
        };
        let listening = [levels.listen(GATEWAY, KNOWN), levels.listen(GATEWAY, known)];
        // Its newest word counts.
        assert_eq!(levels.of(GATEWAY), Some(known));
        let silence = |levels: &Levels| {
            let mut heard = levels.heard();
            let one = heard.get_mut(&GATEWAY).expect("known");
            one.last = Instant::now() - HEARD_FOR;
        };
        silence(&levels);
        let [first, second] = listening;
        drop(first);
        assert_eq!(levels.gateways(), [GATEWAY]);
        drop(second);
        assert_eq!(levels.of(GATEWAY), None);
        assert_eq!(levels.gateways(), []);
    }

    #[test]
    fn before_the_cluster_is_named_it_has_no_level() {
        let levels = Levels::default();
        let newer = LevelRange {
            lowest: Level(2),
            highest: Level(3),
        };
        assert_eq!((levels.told(), levels.level()), (0, Level(1)));
        assert_eq!(levels.check_process(newer), Ok(()));
        levels.note_applied(Some(Level(1)));
        assert_eq!(levels.told(), 1);
        assert!(levels.check_process(newer).is_err());
        levels.note_applied(Some(Level(2)));
        assert_eq!(levels.check_process(newer), Ok(()));
        let beyond = KNOWN.highest.0 + 1;
        assert!(levels.check_told(beyond).is_err() && levels.check_told(0).is_ok());
    }
}
