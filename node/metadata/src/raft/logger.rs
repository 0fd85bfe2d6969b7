//! raft's log lines, as ours.

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record, o};

struct Tracing;

impl Drain for Tracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error => {
                tracing::error!(target: "raft", "{}", record.msg());
            }
            Level::Warning => tracing::warn!(target: "raft", "{}", record.msg()),
            Level::Info => tracing::debug!(target: "raft", "{}", record.msg()),
            // Whole messages are printed at these levels, with the entries in them.
            Level::Debug | Level::Trace => {}
        }
        Ok(())
    }
}

pub(super) fn logger() -> Logger {
    Logger::root(Tracing, o!())
}
