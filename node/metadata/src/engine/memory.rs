//! Engines in memory, for tests: rows that forget everything since their last checkpoint at a
//! crash.

use super::{EngineError, Engines, MetaEngine};
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
}

#[derive(Default)]
struct MemEngine {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: (Table, Mark),
    checkpointed: (Table, Mark),
}

impl MemEngines {
    /// Takes every engine back to its last checkpoint, as a power cut may. Whoever has one open
    /// goes on with an engine that will not be opened again.
    pub fn crash(&self) {
        for engine in guard(&self.engines).values_mut() {
            let checkpointed = guard(&engine.state).checkpointed.clone();
            let live = checkpointed.clone();
            *engine = Arc::new(MemEngine {
                state: Mutex::new(State { live, checkpointed }),
            });
        }
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
            .or_default()
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
        for (key, change) in batch.iter() {
            match change {
                Some(value) => state.live.0.insert(key.to_vec(), value.to_vec()),
                None => state.live.0.remove(key),
            };
        }
        state.live.1 = applied;
        Ok(())
    }

    fn applied(&self) -> Mark {
        guard(&self.state).live.1
    }

    fn checkpoint(&self) -> Result<(), EngineError> {
        let mut state = guard(&self.state);
        state.checkpointed = state.live.clone();
        Ok(())
    }

    fn approximate_len(&self) -> u64 {
        let state = guard(&self.state);
        state
            .live
            .0
            .iter()
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum()
    }
}

impl Rows for MemEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(guard(&self.state).live.0.get(key).cloned())
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
        let state = guard(&self.state);
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in state.live.0.range::<[u8], _>(bounds) {
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
