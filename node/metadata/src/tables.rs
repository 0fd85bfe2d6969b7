//! The tables of a running member: one engine, read by many, written by the apply thread alone.
//!
//! Owns the gate between them: whoever reads several rows reads them at one point of the log. Keeps
//! snapshot sessions told of what changes. Must never hold the gate while anything waits for a
//! peer.

use crate::engine::{EngineError, MetaEngine};
use crate::log::{Conf, Mark};
use crate::snapshot::Session;
use megalith_model::table::Batch;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use tokio::sync::watch;

/// The engine with its gate.
pub struct Tables {
    current: RwLock<Current>,
    sessions: Mutex<Vec<Weak<Session>>>,
    applied: watch::Sender<Mark>,
    /// The members, as of `applied` or later.
    conf: Mutex<Conf>,
}

struct Current {
    name: String,
    engine: Arc<dyn MetaEngine>,
    /// False while the rows are being fetched from a peer: there is nothing to read.
    whole: bool,
}

impl Tables {
    /// Opens the gate of an engine; `whole` is false if its rows must still be fetched.
    #[must_use]
    pub fn new(name: String, engine: Arc<dyn MetaEngine>, whole: bool, conf: Conf) -> Self {
        let (applied, _) = watch::channel(engine.applied());
        Self {
            current: RwLock::new(Current {
                name,
                engine,
                whole,
            }),
            sessions: Mutex::new(Vec::new()),
            applied,
            conf: Mutex::new(conf),
        }
    }

    /// Reads at one point of the log. None while the rows are being fetched.
    pub fn read<R>(&self, read: impl FnOnce(&dyn MetaEngine) -> R) -> Option<R> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.whole.then(|| read(current.engine.as_ref()))
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

    /// Writes a batch; every session learns of its keys at the same point.
    pub(super) fn write(&self, batch: &Batch, applied: Mark) -> Result<(), EngineError> {
        let current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        for session in self.live_sessions() {
            session.note(batch);
        }
        current.engine.write(batch, applied)?;
        drop(current);
        self.applied.send_replace(applied);
        Ok(())
    }

    /// Puts another engine in place. Returns the old one's name; it is no longer read.
    pub(super) fn replace(&self, name: String, engine: Arc<dyn MetaEngine>) -> String {
        let applied = engine.applied();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        for session in self.live_sessions() {
            session.fail();
        }
        let old = std::mem::replace(
            &mut *current,
            Current {
                name,
                engine,
                whole: true,
            },
        );
        drop(current);
        self.applied.send_replace(applied);
        old.name
    }

    /// There is nothing to read until the rows have been fetched again.
    pub(super) fn forget(&self) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.whole = false;
        for session in self.live_sessions() {
            session.fail();
        }
        drop(current);
        self.set_conf(Conf::default());
    }

    /// From here on `session` is told of every write.
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
