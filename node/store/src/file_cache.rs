//! Finished files that are kept open: a bounded set, found by number.
//!
//! Owns which descriptors of finished files stay open. A look-up makes no path and costs the same
//! however many there are, and so does making room. Must never: hold more than its bound; give out
//! a file that was removed or replaced before it was asked for; close one that somebody reads.

use super::files::FileName;
use megalith_disk::File;
use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, UnitWeighter};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Open files, `open_max` at most. One that is needed again and again stays while a scrub passes
/// through all others. A reader's own handle keeps a file open beyond that.
pub(super) struct FileCache {
    open: Box<Open>,
    state: Mutex<State>,
}

type Open = dyn Fn(FileName) -> io::Result<Arc<dyn File>> + Send + Sync;

struct State {
    open: Cache<FileName, Arc<dyn File>, UnitWeighter, DefaultHashBuilder, Closing>,
    /// Grows with every file that is forgotten.
    forgotten: u64,
}

/// Collects the files that are to be closed, so that nobody waits for that.
struct Closing;

impl Lifecycle<FileName, Arc<dyn File>> for Closing {
    type RequestState = Vec<Arc<dyn File>>;

    fn begin_request(&self) -> Self::RequestState {
        Vec::new()
    }

    fn on_evict(&self, closed: &mut Self::RequestState, _name: FileName, file: Arc<dyn File>) {
        closed.push(file);
    }
}

impl FileCache {
    /// Makes an empty set. `open` opens a file that is not in it.
    pub(super) fn new(
        open_max: usize,
        open: impl Fn(FileName) -> io::Result<Arc<dyn File>> + Send + Sync + 'static,
    ) -> Self {
        let open_max = open_max.max(1);
        let state = State {
            open: Cache::with(
                open_max,
                open_max as u64,
                UnitWeighter,
                DefaultHashBuilder::default(),
                Closing,
            ),
            forgotten: 0,
        };
        Self {
            open: Box::new(open),
            state: Mutex::new(state),
        }
    }

    /// Returns a file that doesn't grow any more, open.
    pub(super) fn get(&self, name: FileName) -> io::Result<Arc<dyn File>> {
        let before = {
            let state = self.guard();
            if let Some(file) = state.open.get(&name) {
                return Ok(Arc::clone(file));
            }
            state.forgotten
        };
        let file = (self.open)(name)?;
        let mut state = self.guard();
        // If this one was removed or replaced meanwhile, nobody else may be given it.
        let closed = (state.forgotten == before)
            .then(|| state.open.insert_with_lifecycle(name, Arc::clone(&file)));
        drop(state);
        drop(closed);
        Ok(file)
    }

    /// Forgets a file that was removed or replaced.
    pub(super) fn forget(&self, name: FileName) {
        let mut state = self.guard();
        state.forgotten += 1;
        let forgotten = state.open.remove(&name);
        drop(state);
        drop(forgotten);
    }

    fn guard(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
