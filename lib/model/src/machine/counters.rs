//! Exact counts, changed by the same log entry that changes the things counted.

use super::MachineError;
use super::context::{Machine, Step, malformed};
use crate::keys::{Meta, RowKey};
use crate::rows::{BucketRow, Counters, Totals};

/// What a command adds to a bucket's counts and what it subtracts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub(super) plus: Counters,
    pub(super) minus: Counters,
}

/// Returns the error for a count that would fall below zero.
pub(super) fn below_zero(what: &str) -> MachineError {
    MachineError::Contradiction(format!("{what} would fall below zero"))
}

fn changed(now: u64, plus: u64, minus: u64, what: &str) -> Step<u64> {
    let Some(sum) = now.checked_add(plus) else {
        return malformed(format!("{what} would overflow"));
    };
    Ok(sum.checked_sub(minus).ok_or_else(|| below_zero(what))?)
}

impl Change {
    fn apply(&self, counters: &mut Counters) -> Step<()> {
        let (now, plus, minus) = (*counters, &self.plus, &self.minus);
        *counters = Counters {
            objects: changed(now.objects, plus.objects, minus.objects, "objects")?,
            versions: changed(now.versions, plus.versions, minus.versions, "versions")?,
            bytes: changed(now.bytes, plus.bytes, minus.bytes, "bytes")?,
            uploads: changed(now.uploads, plus.uploads, minus.uploads, "uploads")?,
        };
        Ok(())
    }
}

impl Machine<'_, '_> {
    /// Changes the counters of a bucket, of its account and of the whole cluster.
    pub(super) fn count(&mut self, bucket: &BucketRow, change: Change) -> Step<()> {
        let keys = [
            RowKey::BucketCounters(bucket.id),
            RowKey::AccountCounters(bucket.account),
        ];
        for key in keys {
            let mut counters: Counters = self.read(&key)?.unwrap_or_default();
            change.apply(&mut counters)?;
            self.write(&key, &counters);
        }
        let mut totals = self.totals()?;
        change.apply(&mut totals.counters)?;
        self.write(&RowKey::Meta(Meta::Totals), &totals);
        Ok(())
    }

    pub(super) fn totals(&self) -> Result<Totals, MachineError> {
        let kept = self.read_kept(&RowKey::Meta(Meta::Totals))?;
        Ok(kept.unwrap_or_default())
    }

    /// Changes the totals that belong to no bucket.
    pub(super) fn change_totals(
        &mut self,
        change: impl FnOnce(&mut Totals) -> Option<()>,
    ) -> Result<(), MachineError> {
        let mut totals = self.totals()?;
        change(&mut totals).ok_or_else(|| below_zero("a total"))?;
        self.write(&RowKey::Meta(Meta::Totals), &totals);
        Ok(())
    }
}

/// Adds one.
pub(super) fn up(count: &mut u64) -> Option<()> {
    *count = count.checked_add(1)?;
    Some(())
}

/// Subtracts one; None at zero.
pub(super) fn down(count: &mut u64) -> Option<()> {
    *count = count.checked_sub(1)?;
    Some(())
}
