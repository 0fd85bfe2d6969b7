//! The apply thread: committed entries become rows, and proposers get their answers.
//!
//! Owns the writing side of the tables. Runs beside the raft thread, so that appends and votes go
//! on whatever an apply costs. Must never: answer before the rows are written; go on after an entry
//! that it could not apply.

use crate::clock::GroupClock;
use crate::engine::{EngineError, Engines, drop_kept, engine_name};
use crate::levels::Levels;
use crate::log::{EntryKind, LogEntry, Mark};
use crate::tables::Tables;
use megalith_model::codec::DecodeError;
use megalith_model::command::{Answer, Refusal};
use megalith_model::entry;
use megalith_model::ids::NodeId;
use megalith_model::level::{Level, LevelRange, OutOfRange};
use megalith_model::machine::{self, MachineError};
use megalith_model::table::{Kept, Overlay, Rows, RowsError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{oneshot, watch};

/// Entries taken together at most, in bytes of log.
const WRITE_BYTES: usize = 4 << 20;
/// Changes written together, in bytes of rows; one entry more may join.
const CHANGE_BYTES: usize = 4 << 20;

/// Why a proposal has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This member doesn't lead.
    #[error("this member does not lead")]
    NotLeader {
        /// Who does, if that is known.
        hint: Option<NodeId>,
    },
    /// The command may or may not be applied: propose it again as it is.
    #[error("the fate of the command is not known")]
    Unknown,
    /// The command is longer than a log entry may be. It is not applied.
    #[error("the command is too large")]
    TooLarge,
    /// Too much is on its way. The command is not applied.
    #[error("too many commands are on their way")]
    Busy,
    /// The member has stopped.
    #[error("the metadata member has stopped")]
    Stopped,
}

/// Gets the answer of one proposal.
pub(super) type Waiter = oneshot::Sender<Result<Answer, ProposeError>>;

/// An entry or a state that can't be applied. The member must stop: its rows would no longer be
/// those of its peers.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The entry is none of ours.
    #[error("entry {index} can't be read")]
    Entry { index: u64, source: DecodeError },
    /// The engine failed, as on a dead disk: nothing is wrong with the entry.
    #[error("read the metadata tables for entry {index}")]
    Rows { index: u64, source: RowsError },
    /// The rows contradict the entry.
    #[error("entry {index} can't be applied")]
    Machine { index: u64, source: MachineError },
    /// The entry raises the level above what this program can run. It is not applied.
    #[error("entry {index} raises the level")]
    Level { index: u64, source: OutOfRange },
    /// A newer program's entry. It is not applied.
    #[error(
        "entry {index} is a newer program's: the cluster was at level {level} before it, and this \
         program runs {known}: upgrade it; its data is untouched, and a newer program goes on from \
         there"
    )]
    Newer {
        index: u64,
        level: Level,
        /// What this program can run.
        known: LevelRange,
        source: DecodeError,
    },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What the apply thread is told.
pub(super) enum ApplyTask {
    /// Committed entries, with those who wait for some of them.
    Entries {
        entries: Vec<LogEntry>,
        waiters: Vec<(u64, Waiter)>,
    },
    /// A fetched snapshot takes the place of all rows.
    Switch { staged: String, base: Mark },
    /// The end. `clean`: with a checkpoint.
    Stop { clean: bool },
}

/// What the apply thread reports.
pub(super) enum ApplyReport {
    /// The rows are there.
    Applied(Mark),
    /// The rows up to here survive a power cut.
    Checkpointed(Mark),
}

/// When the engine is checkpointed.
#[derive(Clone, Copy, Debug)]
pub struct ApplySettings {
    /// After this many entries. Default 100,000.
    pub checkpoint_entries: u64,
    /// After this many bytes of log. Default 64 MiB: less to replay, more to purge.
    pub checkpoint_bytes: u64,
}

impl Default for ApplySettings {
    fn default() -> Self {
        Self {
            checkpoint_entries: 100_000,
            checkpoint_bytes: 64 << 20,
        }
    }
}

/// The queue to the apply thread, counted in bytes so that the raft thread knows when to wait.
pub(super) struct ApplyQueue {
    tasks: Sender<ApplyTask>,
    queued: Arc<AtomicU64>,
    bytes_max: u64,
}

impl ApplyQueue {
    pub(super) fn new(tasks: Sender<ApplyTask>, queued: Arc<AtomicU64>, bytes_max: u64) -> Self {
        Self {
            tasks,
            queued,
            bytes_max,
        }
    }

    /// True if more entries may be handed over.
    pub(super) fn has_room(&self) -> bool {
        self.queued.load(Ordering::Acquire) < self.bytes_max
    }

    /// Hands a task over. After the end of the thread nothing happens.
    pub(super) fn push(&self, task: ApplyTask) {
        self.queued.fetch_add(task.bytes(), Ordering::AcqRel);
        let _ = self.tasks.send(task);
    }
}

impl ApplyTask {
    fn bytes(&self) -> u64 {
        match self {
            Self::Entries { entries, .. } => entries.iter().map(|entry| entry.bytes() as u64).sum(),
            Self::Switch { .. } | Self::Stop { .. } => 0,
        }
    }
}

/// The thread's state.
pub(super) struct Applier {
    pub(super) tables: Arc<Tables>,
    pub(super) engines: Arc<dyn Engines>,
    pub(super) settings: ApplySettings,
    pub(super) tasks: Receiver<ApplyTask>,
    pub(super) queued: Arc<AtomicU64>,
    pub(super) report: Arc<dyn Fn(ApplyReport) + Send + Sync>,
    pub(super) topology_changes: watch::Sender<u64>,
    pub(super) clock: GroupClock,
    pub(super) levels: Levels,
    pub(super) since: Since,
    /// Of the engine that `tables` has. Nothing while a batch is on its way: after one that failed
    /// nobody knows what the rows are.
    pub(super) kept: Kept,
    /// Engines that are no longer in use, until the last snapshot of them is gone.
    pub(super) retired: Vec<(String, Weak<()>)>,
}

/// What was applied since the last checkpoint.
#[derive(Default)]
pub(super) struct Since {
    entries: u64,
    bytes: u64,
    running: Option<JoinHandle<Result<(), EngineError>>>,
}

impl Since {
    /// Of a process that has just started. What was applied before it nobody has counted: its first
    /// entries make a checkpoint due. A member that is killed again and again before it has applied
    /// enough for one would never purge its log, and read all of it at each start.
    pub(super) fn start(settings: &ApplySettings) -> Self {
        Self {
            entries: settings.checkpoint_entries,
            ..Self::default()
        }
    }
}

/// What waits for a batch to be written.
#[derive(Default)]
struct Round {
    answers: Vec<(Waiter, Answer)>,
    topology_changed: bool,
}

fn mark_of(entry: &LogEntry) -> Mark {
    Mark {
        index: entry.index,
        term: entry.term,
    }
}

fn stopped_at(index: u64, error: MachineError) -> ApplyError {
    match error {
        MachineError::Rows(source) => ApplyError::Rows { index, source },
        source @ (MachineError::Damaged { .. } | MachineError::Contradiction(_)) => {
            ApplyError::Machine { index, source }
        }
    }
}

impl Applier {
    /// Applies until told to stop or until something can't be applied.
    pub(super) fn run(mut self) -> Result<(), ApplyError> {
        let mut held = None;
        loop {
            let task = match held.take() {
                Some(task) => task,
                None => match self.tasks.recv() {
                    Ok(task) => task,
                    // The raft thread is gone without a word: so is the member.
                    Err(_) => ApplyTask::Stop { clean: false },
                },
            };
            match task {
                ApplyTask::Entries {
                    mut entries,
                    mut waiters,
                } => {
                    let mut bytes: usize = entries.iter().map(LogEntry::bytes).sum();
                    while bytes < WRITE_BYTES && held.is_none() {
                        match self.tasks.try_recv() {
                            Ok(ApplyTask::Entries {
                                entries: more,
                                waiters: theirs,
                            }) => {
                                bytes += more.iter().map(LogEntry::bytes).sum::<usize>();
                                entries.extend(more);
                                waiters.extend(theirs);
                            }
                            Ok(other) => held = Some(other),
                            Err(_) => break,
                        }
                    }
                    let begun = Instant::now();
                    self.apply(&entries, waiters)?;
                    metrics::histogram!("megalith_meta_apply_seconds").record(begun.elapsed());
                    self.queued.fetch_sub(bytes as u64, Ordering::AcqRel);
                    self.checkpoint_when_due(bytes as u64, entries.len() as u64)?;
                }
                ApplyTask::Switch { staged, base } => self.switch(&staged, base)?,
                ApplyTask::Stop { clean } => {
                    self.join_checkpoint()?;
                    if clean {
                        self.tables.engine().checkpoint()?;
                    }
                    return Ok(());
                }
            }
        }
    }

    fn apply(
        &mut self,
        entries: &[LogEntry],
        waiters: Vec<(u64, Waiter)>,
    ) -> Result<(), ApplyError> {
        let engine = self.tables.engine();
        let applied = engine.applied();
        let mut round = Round::default();
        let mut overlay = Overlay::resume(engine.as_ref(), std::mem::take(&mut self.kept));
        let mut waiters = waiters.into_iter().peekable();
        for entry in entries.iter().filter(|entry| entry.index > applied.index) {
            if entry.kind != EntryKind::Normal || entry.data.is_empty() {
                continue;
            }
            let index = entry.index;
            let decoded = entry::decode(index, &entry.data)
                .map_err(|source| self.unreadable(index, source))?;
            let known = self.levels.known();
            known
                .check_command(&decoded.envelope)
                .map_err(|source| ApplyError::Level { index, source })?;
            let answer =
                machine::apply(&mut overlay, &decoded).map_err(|error| stopped_at(index, error))?;
            if let Err(refusal) = &answer {
                alarm(index, refusal);
            }
            let command = &decoded.envelope.command;
            round.topology_changed |= answer.is_ok() && command.changes_topology();
            while waiters.next_if(|(waited, _)| *waited < index).is_some() {}
            if let Some((_, waiter)) = waiters.next_if(|(waited, _)| *waited == index) {
                round.answers.push((waiter, answer));
            }
            // Entries of few bytes can change many rows: memory is bounded by what they change.
            if overlay.batch().bytes() >= CHANGE_BYTES {
                self.write(overlay, mark_of(entry), std::mem::take(&mut round))?;
                overlay = Overlay::resume(engine.as_ref(), std::mem::take(&mut self.kept));
            }
        }
        match entries.last().filter(|last| last.index > applied.index) {
            Some(last) => self.write(overlay, mark_of(last), round),
            None => Ok(()),
        }
    }

    /// Why an entry stops this member.
    fn unreadable(&self, index: u64, source: DecodeError) -> ApplyError {
        if !source.is_newer() {
            return ApplyError::Entry { index, source };
        }
        ApplyError::Newer {
            index,
            level: self.levels.level(),
            known: self.levels.known(),
            source,
        }
    }

    /// Writes what entries up to `mark` change, and then answers them.
    fn write(&mut self, overlay: Overlay<'_>, mark: Mark, round: Round) -> Result<(), ApplyError> {
        let clock_ms = read_clock(&overlay, mark)?;
        let level = read_level(&overlay, mark)?;
        let (batch, kept) = overlay.into_parts();
        self.tables.write(&batch, mark)?;
        self.kept = kept;
        self.clock.note_applied(clock_ms);
        self.levels.note_applied(level);
        (self.report)(ApplyReport::Applied(mark));
        // First: whoever hears the answer may need the map that it leads to.
        if round.topology_changed {
            self.topology_changes.send_modify(|changes| *changes += 1);
        }
        for (waiter, answer) in round.answers {
            // Nobody waits any more: fine.
            let _ = waiter.send(Ok(answer));
        }
        Ok(())
    }

    /// Starts a checkpoint beside the applying, one at a time.
    fn checkpoint_when_due(&mut self, bytes: u64, entries: u64) -> Result<(), ApplyError> {
        self.wipe_retired()?;
        self.since.bytes = self.since.bytes.saturating_add(bytes);
        self.since.entries = self.since.entries.saturating_add(entries);
        if self
            .since
            .running
            .as_ref()
            .is_some_and(JoinHandle::is_finished)
        {
            self.join_checkpoint()?;
        }
        let due = self.since.entries >= self.settings.checkpoint_entries
            || self.since.bytes >= self.settings.checkpoint_bytes;
        if !due || self.since.running.is_some() {
            return Ok(());
        }
        let (engine, report) = (self.tables.engine(), self.report.clone());
        let checkpoint = move || {
            let mark = engine.applied();
            engine.checkpoint()?;
            drop(engine);
            report(ApplyReport::Checkpointed(mark));
            Ok(())
        };
        let thread = std::thread::Builder::new()
            .name("meta-checkpoint".into())
            .spawn(checkpoint);
        let running = thread.map_err(|source| EngineError {
            action: "checkpoint",
            name: "thread".into(),
            damaged: false,
            source: source.into(),
        })?;
        self.since = Since {
            entries: 0,
            bytes: 0,
            running: Some(running),
        };
        Ok(())
    }

    /// Wipes the engines that nobody reads any more. What is left at the end goes at the next
    /// start.
    fn wipe_retired(&mut self) -> Result<(), EngineError> {
        let retired = std::mem::take(&mut self.retired);
        for (name, read) in retired {
            if read.strong_count() > 0 {
                self.retired.push((name, read));
            } else {
                self.engines.wipe(&name)?;
            }
        }
        Ok(())
    }

    fn join_checkpoint(&mut self) -> Result<(), ApplyError> {
        match self.since.running.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error.into()),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }

    fn switch(&mut self, staged: &str, base: Mark) -> Result<(), ApplyError> {
        self.join_checkpoint()?;
        let name = engine_name(base);
        self.engines.wipe(&name)?;
        self.engines.rename(staged, &name)?;
        let engine = self.engines.open(&name)?;
        let applied = engine.applied();
        self.clock
            .note_applied(read_clock(engine.as_ref(), applied)?);
        self.levels
            .note_applied(read_level(engine.as_ref(), applied)?);
        // An engine of that name was wiped above.
        self.retired.retain(|(retired, _)| *retired != name);
        self.kept = Kept::default();
        let (old, read) = self.tables.replace(name.clone(), engine);
        if old != name {
            self.retired.push((old, read));
        }
        self.wipe_retired()?;
        drop_kept(self.engines.as_ref())?;
        self.since.entries = 0;
        self.since.bytes = 0;
        (self.report)(ApplyReport::Applied(applied));
        // It was durable before it was staged.
        (self.report)(ApplyReport::Checkpointed(applied));
        self.topology_changes.send_modify(|changes| *changes += 1);
        Ok(())
    }
}

/// Reads the group's time from the rows, which are at `applied`.
pub(super) fn read_clock(rows: &dyn Rows, applied: Mark) -> Result<u64, ApplyError> {
    machine::clock(rows).map_err(|source| ApplyError::Machine {
        index: applied.index,
        source,
    })
}

/// Raises an alarm for a refusal that no user's mistake explains.
fn alarm(index: u64, refusal: &Refusal) {
    match refusal {
        Refusal::Internal(what) => {
            tracing::error!(
                index,
                what,
                "an entry is refused: the metadata contradicts itself"
            );
            metrics::counter!("megalith_meta_contradictions_total").increment(1);
        }
        Refusal::KeyUsed { blob } => {
            tracing::error!(index, %blob, "a gateway uses a key for two commands");
            metrics::counter!("megalith_meta_keys_used_twice_total").increment(1);
        }
        _ => {}
    }
}

/// Reads the cluster's level from the rows, which are at `applied`.
fn read_level(rows: &dyn Rows, applied: Mark) -> Result<Option<Level>, ApplyError> {
    machine::level_of_cluster(rows).map_err(|source| ApplyError::Machine {
        index: applied.index,
        source,
    })
}

#[cfg(test)]
mod tests;
