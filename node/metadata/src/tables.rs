//! The tables of a running member: one engine, read by many, written by the apply thread alone.
//!
//! Owns that whoever reads several rows reads them at one point of the log: in a snapshot of the
//! engine, so that no read stops a write. An engine without snapshots is read behind a gate that
//! keeps writes out; only then must sessions be told of what changes. Must never hold the gate
//! while anything waits for a peer.

use crate::engine::{EngineError, EngineView, MetaEngine};
use crate::log::{Conf, Mark};
use crate::snapshot::Session;
use megalith_model::table::Batch;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use tokio::sync::watch;

/// The engine, and the gate of one without snapshots.
pub struct Tables {
    current: RwLock<Current>,
    /// Of streams over an engine without snapshots.
    sessions: Mutex<Vec<Weak<Session>>>,
    applied: watch::Sender<Mark>,
    /// The members, as of `applied` or later.
    conf: Mutex<Conf>,
}

struct Current {
    name: String,
    engine: Arc<dyn MetaEngine>,
    /// True if it has no snapshots: this lock is then the gate.
    gated: bool,
    /// False while the rows are being fetched from a peer: there is nothing to read.
    whole: bool,
    /// Rises when other rows take the place of these.
    generation: u64,
    /// Every snapshot of the engine has one too.
    read: Arc<()>,
}

/// All rows at one applied mark, while writes go on.
pub struct TablesSnapshot {
    view: Box<dyn EngineView>,
    /// Of the tables, when it was made.
    generation: u64,
    /// Behind the view, so that it is closed after it.
    _engine: Arc<dyn MetaEngine>,
    /// Last: the engine's files may go when nobody has one any more.
    _read: Arc<()>,
}

impl TablesSnapshot {
    /// The rows, and how far the log is applied to them.
    pub(super) fn view(&self) -> &dyn EngineView {
        self.view.as_ref()
    }
}

impl Tables {
    /// Lets an engine be read; `whole` is false if its rows must still be fetched.
    #[must_use]
    pub fn new(name: String, engine: Arc<dyn MetaEngine>, whole: bool, conf: Conf) -> Self {
        let (applied, _) = watch::channel(engine.applied());
        Self {
            current: RwLock::new(Current {
                gated: engine.snapshot().is_none(),
                name,
                engine,
                whole,
                generation: 0,
                read: Arc::default(),
            }),
            sessions: Mutex::new(Vec::new()),
            applied,
            conf: Mutex::new(conf),
        }
    }

    /// Reads at one point of the log: what is applied, or a moment older. None while the rows are
    /// being fetched.
    pub fn read<R>(&self, read: impl FnOnce(&dyn EngineView) -> R) -> Option<R> {
        if let Some(snapshot) = self.snapshot() {
            return Some(read(snapshot.view()));
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        // The lock keeps writers out only of an engine without snapshots. Another one may have been
        // put in its place since: whoever asks again gets a snapshot of it.
        (current.whole && current.gated).then(|| read(current.engine.as_ref()))
    }

    /// All rows as they are now. None of an engine without snapshots, and while the rows are being
    /// fetched.
    pub(super) fn snapshot(&self) -> Option<TablesSnapshot> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let engine = current.whole.then(|| current.engine.clone())?;
        let (generation, read) = (current.generation, current.read.clone());
        // A snapshot may have to wait for a write, and nobody for the snapshot.
        drop(current);
        Some(TablesSnapshot {
            view: engine.snapshot()?,
            generation,
            _engine: engine,
            _read: read,
        })
    }

    /// False if other rows have taken the place of those of `snapshot`.
    pub(super) fn is_current(&self, snapshot: &TablesSnapshot) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.whole && current.generation == snapshot.generation
    }

    /// How far the log is applied; changes after the rows are there.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Mark> {
        self.applied.subscribe()
    }

    /// The members, as of what is applied or later.
    #[must_use]
    pub fn conf(&self) -> Conf {
        guard(&self.conf).clone()
    }

    /// Notes changed members; before the entry that made them so is applied.
    pub(super) fn set_conf(&self, conf: Conf) {
        *guard(&self.conf) = conf;
    }

    /// The engine, for the apply thread: the only one that writes or replaces it.
    pub(super) fn engine(&self) -> Arc<dyn MetaEngine> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .engine
            .clone()
    }

    /// Writes a batch. Waits for readers only if the engine has no snapshots; then every session
    /// learns of the batch's keys at the same point.
    pub(super) fn write(&self, batch: &Batch, applied: Mark) -> Result<(), EngineError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let (engine, gated) = (current.engine.clone(), current.gated);
        drop(current);
        if gated {
            let gate = self.current.write().unwrap_or_else(PoisonError::into_inner);
            for session in self.live_sessions() {
                session.note(batch);
            }
            engine.write(batch, applied)?;
            drop(gate);
        } else {
            engine.write(batch, applied)?;
        }
        self.applied.send_replace(applied);
        Ok(())
    }

    /// Puts another engine in place. Returns the name of the old one, and what is there as long as
    /// a snapshot that was made before is held.
    pub(super) fn replace(&self, name: String, engine: Arc<dyn MetaEngine>) -> (String, Weak<()>) {
        let applied = engine.applied();
        let gated = engine.snapshot().is_none();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        for session in self.live_sessions() {
            session.fail();
        }
        let generation = current.generation + 1;
        let old = std::mem::replace(
            &mut *current,
            Current {
                name,
                engine,
                gated,
                whole: true,
                generation,
                read: Arc::default(),
            },
        );
        drop(current);
        self.applied.send_replace(applied);
        (old.name, Arc::downgrade(&old.read))
    }

    /// There is nothing to read until the rows have been fetched again.
    pub(super) fn forget(&self) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.whole = false;
        current.generation += 1;
        for session in self.live_sessions() {
            session.fail();
        }
        drop(current);
        self.set_conf(Conf::default());
    }

    /// From here on `session` is told of every write to an engine without snapshots.
    pub(super) fn watch(&self, session: &Arc<Session>) {
        guard(&self.sessions).push(Arc::downgrade(session));
    }

    fn live_sessions(&self) -> Vec<Arc<Session>> {
        let mut sessions = guard(&self.sessions);
        sessions.retain(|session| session.strong_count() > 0);
        sessions.iter().filter_map(Weak::upgrade).collect()
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
