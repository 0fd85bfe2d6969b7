//! The tables of one metadata member: ordered rows, written together with how far the log is
//! applied.
//!
//! Owns the choice of the embedded store: only `fjall_engine` and `sled_engine` name theirs
//! (`docs/decisions/metadata-engine.md` says why fjall is the default). An engine is a cache:
//! it may lose its newest writes at a crash, as long as rows and `applied` go together, and it can
//! be made again from the log or from a peer. Must never: decide what a row means; show a batch in
//! part to a reader that opens it after a crash.
//!
//! [`Engines`] keeps the engines of a member by name; `choice` says which one to open.

mod choice;
mod disk;
mod files;
mod fjall_engine;
mod memory;
mod sled_engine;

#[cfg(test)]
mod conformance;

pub use choice::{Choice, ChoiceError, choose, engine_name, partial_name, staged_name};
pub(crate) use choice::{drop_kept, engine_bases, set_aside};
pub use disk::{DiskEngines, EngineKind, EngineSettings};
pub use memory::MemEngines;

use crate::log::Mark;
use megalith_model::table::{Batch, Rows};
use std::sync::Arc;

/// The first key an engine may be asked for.
pub const FIRST_KEY: &[u8] = &[1];
/// A key after every row's.
pub const END_KEY: &[u8] = &[0xff];

/// An engine that failed. The member can't go on with it.
#[derive(Debug, thiserror::Error)]
#[error("{action} metadata engine {name}")]
pub struct EngineError {
    pub action: &'static str,
    pub name: String,
    /// True if the engine's bytes are at fault, false if the machine is: what can't be
    /// opened for want of a permission or of memory is not thrown away.
    pub damaged: bool,
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Rows, and how far the log is applied to them.
pub trait EngineView: Rows + Send + Sync {
    /// How far the log is applied; index 0 for a new engine.
    fn applied(&self) -> Mark;
}

/// Ordered rows and how far the log is applied to them.
///
/// Single calls are atomic; whoever needs several reads at one point of the log takes a snapshot,
/// or keeps writers out meanwhile if the engine has none. Keys begin with a byte from 1 to 254.
pub trait MetaEngine: EngineView {
    /// Writes a batch and `applied` together: after a crash either both are there or neither, and
    /// a later write is never there without an earlier one. Not durable before a checkpoint.
    fn write(&self, batch: &Batch, applied: Mark) -> Result<(), EngineError>;

    /// All rows at one applied mark: writes go on and are not seen. Made in no time; what it shows
    /// takes space until it is dropped. None, always, of an engine that has no snapshots.
    fn snapshot(&self) -> Option<Box<dyn EngineView>>;

    /// Makes every write so far survive a power cut. May run beside writes.
    fn checkpoint(&self) -> Result<(), EngineError>;

    /// Bytes on disk, roughly.
    fn approximate_len(&self) -> u64;
}

/// A member's engines by name. Names are of `[a-z0-9-]`.
pub trait Engines: Send + Sync {
    /// The names there are, sorted.
    fn names(&self) -> Result<Vec<String>, EngineError>;

    /// Opens an engine, or makes a new one. It must not be open already.
    fn open(&self, name: &str) -> Result<Arc<dyn MetaEngine>, EngineError>;

    /// Renames an engine that isn't open. Durable on return.
    fn rename(&self, source: &str, target: &str) -> Result<(), EngineError>;

    /// Removes an engine that isn't open; one that isn't there is fine.
    fn wipe(&self, name: &str) -> Result<(), EngineError>;
}
