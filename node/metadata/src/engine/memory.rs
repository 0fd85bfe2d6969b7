//! Engines in memory, for tests: rows that forget everything since their last checkpoint at a
//! crash.

use super::{EngineError, EngineView, Engines, MetaEngine};
use crate::log::Mark;
use megalith_model::table::{Batch, Rows, RowsError};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Table = BTreeMap<Vec<u8>, Vec<u8>>;

/// Engines in memory. Clones share them, so that they outlive a member.
#[derive(Clone, Default)]
pub struct MemEngines {
    engines: Arc<Mutex<BTreeMap<String, Arc<MemEngine>>>>,
    without_snapshots: bool,
}

struct MemEngine {
    state: Mutex<State>,
    without_snapshots: bool,
}

#[derive(Default)]
struct State {
    live: Stand,
    checkpointed: Stand,
}

/// Rows at one place of the log. Copied by the first write after somebody else holds it.
#[derive(Clone, Default)]
struct Stand {
    rows: Arc<Table>,
    applied: Mark,
}

impl MemEngines {
    /// Engines that have no snapshots.
    #[must_use]
    pub fn without_snapshots() -> Self {
        Self {
            without_snapshots: true,
            ..Self::default()
        }
    }

    fn make(&self, state: State) -> Arc<MemEngine> {
        Arc::new(MemEngine {
            state: Mutex::new(state),
            without_snapshots: self.without_snapshots,
        })
    }

    /// Takes every engine back to its last checkpoint, as a power cut may. Whoever has one open
    /// goes on with an engine that will not be opened again.
    pub fn crash(&self) {
        for engine in guard(&self.engines).values_mut() {
            let checkpointed = guard(&engine.state).checkpointed.clone();
            let live = checkpointed.clone();
            *engine = self.make(State { live, checkpointed });
        }
    }

    /// The last entry whose rows a crash leaves; 0 for none.
    #[must_use]
    pub fn checkpointed(&self) -> u64 {
        let engines = guard(&self.engines);
        let checkpointed = engines
            .values()
            .map(|engine| guard(&engine.state).checkpointed.applied.index);
        checkpointed.max().unwrap_or(0)
    }

    /// Loses every engine, as a wiped disk does.
    pub fn lose(&self) {
        guard(&self.engines).clear();
    }
}

impl Engines for MemEngines {
    fn names(&self) -> Result<Vec<String>, EngineError> {
        Ok(guard(&self.engines).keys().cloned().collect())
    }

    fn open(&self, name: &str) -> Result<Arc<dyn MetaEngine>, EngineError> {
        Ok(guard(&self.engines)
            .entry(name.to_owned())
            .or_insert_with(|| self.make(State::default()))
            .clone())
    }

    fn rename(&self, source: &str, target: &str) -> Result<(), EngineError> {
        let mut engines = guard(&self.engines);
        let engine = engines.remove(source).ok_or_else(|| EngineError {
            action: "rename",
            name: source.to_owned(),
            damaged: false,
            source: "no such engine".into(),
        })?;
        engines.insert(target.to_owned(), engine);
        Ok(())
    }

    fn wipe(&self, name: &str) -> Result<(), EngineError> {
        guard(&self.engines).remove(name);
        Ok(())
    }
}

impl MetaEngine for MemEngine {
    fn write(&self, batch: &Batch, applied: Mark) -> Result<(), EngineError> {
        let mut state = guard(&self.state);
        let rows = Arc::make_mut(&mut state.live.rows);
        for (key, change) in batch.iter() {
            match change {
                Some(value) => rows.insert(key.to_vec(), value.to_vec()),
                None => rows.remove(key),
            };
        }
        state.live.applied = applied;
        Ok(())
    }

    fn snapshot(&self) -> Option<Box<dyn EngineView>> {
        let live = || guard(&self.state).live.clone();
        (!self.without_snapshots).then(|| Box::new(live()) as Box<dyn EngineView>)
    }

    fn checkpoint(&self) -> Result<(), EngineError> {
        let mut state = guard(&self.state);
        state.checkpointed = state.live.clone();
        Ok(())
    }

    fn approximate_len(&self) -> u64 {
        let state = guard(&self.state);
        let rows = state.live.rows.iter();
        rows.map(|(key, value)| (key.len() + value.len()) as u64)
            .sum()
    }
}

impl EngineView for MemEngine {
    fn applied(&self) -> Mark {
        guard(&self.state).live.applied
    }
}

impl Rows for MemEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        guard(&self.state).live.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        guard(&self.state).live.scan(from, to, visit)
    }
}

impl EngineView for Stand {
    fn applied(&self) -> Mark {
        self.applied
    }
}

impl Rows for Stand {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        if from >= to {
            return Ok(());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in self.rows.range::<[u8], _>(bounds) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
