//! Checks a cluster's rows against each other while they come by, in memory that does not grow with
//! the objects.
//!
//! `audit` holds a few words for each blob and looks rows up as it likes: it is for tests. This one
//! sees every row once, in two runs over one view of the rows: first those behind [`BEGIN_AFTER`]
//! (volumes, disks, deletes, uploads, buckets, …), then those before (names, blobs and what finds
//! them). What is counted in one place and kept in another goes through the `ledger`; if that finds
//! a difference, a closer look at the same rows names it.
//!
//! Memory: 32 MiB, and for each volume about 1.5 KiB, for each bucket 16 bytes, for each upload in
//! progress 16, for each queued delete 24 ([`DELETES_MAX`] of them), for each remembered command of
//! an open lease 8, for each part of an upload that has ended 32. A closer look takes at most
//! 128 MiB more.

mod finding;
mod keks;
mod large;
mod ledger;
mod small;
#[cfg(test)]
pub(crate) mod tests;

pub use finding::{FINDINGS_MAX, Finding, Findings, Rule};
pub use ledger::Suspects;

use crate::ids::VolumeId;
use crate::keys::{RowKey, Table};
use crate::kinds::Stored;
use crate::machine::decode_row;
use crate::rows::{Counters, DoomedQueue, Totals, VolumeCounts, VolumeRow};
use keks::Keks;
use ledger::{Ledger, Reach};
use small::Small;
use std::collections::BTreeMap;

/// The first run begins with the first row behind this key; the second ends before it.
pub const BEGIN_AFTER: &[u8] = &[Table::Volumes as u8];

/// The most queued deletes that are compared with the rows; 1.5 GiB of queue would be too much.
pub const DELETES_MAX: usize = 8 << 20;

/// Takes rows and says what contradicts what.
pub struct RowCheck {
    ledger: Ledger,
    findings: Findings,
    rows: u64,
    small: Small,
    keks: Keks,
    volumes: BTreeMap<VolumeId, VolumeSeen>,
    /// What is counted for the totals.
    totals: Totals,
    kept_totals: Totals,
    doomed: DoomedQueue,
    /// The bucket whose names or versions come by, and what was counted of it.
    bucket: Option<(crate::ids::BucketId, Counters)>,
}

/// A volume, as far as it was seen.
#[derive(Default)]
struct VolumeSeen {
    row: Option<VolumeRow>,
    kept: Option<VolumeCounts>,
    /// Counted from the rows of blobs.
    counted: Option<VolumeCounts>,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Checked {
    pub findings: Findings,
    /// Where a closer look ([`RowCheck::closer`]) at the same rows will find more. Empty after a
    /// closer look.
    pub suspects: Suspects,
    /// How many rows came by.
    pub rows: u64,
    /// How many rows each version of the key-encryption keys seals; a row under two counts for the
    /// older one.
    pub sealed: BTreeMap<u32, u64>,
    /// What could not be compared, or not named: why the check isn't complete.
    pub left_out: Vec<String>,
}

impl Default for RowCheck {
    fn default() -> Self {
        Self::with(Ledger::new(ledger::CELLS))
    }
}

impl RowCheck {
    /// A closer look at rows in which a check has found suspects. It repeats what else the first
    /// look has found.
    #[must_use]
    pub fn closer(suspects: Suspects) -> Self {
        Self::with(Ledger::closer(suspects))
    }

    fn with(ledger: Ledger) -> Self {
        Self {
            ledger,
            findings: Findings::default(),
            rows: 0,
            small: Small::default(),
            keks: Keks::default(),
            volumes: BTreeMap::new(),
            totals: Totals::default(),
            kept_totals: Totals::default(),
            doomed: DoomedQueue::default(),
            bucket: None,
        }
    }

    /// Takes the next row. Rows come in the order of their keys, first those behind
    /// [`BEGIN_AFTER`], then the others from the first one on.
    pub fn row(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        let parsed = match RowKey::decode(key) {
            Ok(parsed) if parsed.encode() == key => parsed,
            Ok(_) | Err(_) => {
                let table = key.first().copied().and_then(Table::from_number);
                let what = match table {
                    Some(table) => format!("in the table {table:?}"),
                    None => "in no table that this program knows".to_owned(),
                };
                return self.findings.add(Rule::Key, what);
            }
        };
        if key > BEGIN_AFTER {
            self.small_row(key, &parsed, value);
        } else {
            self.large_row(key, &parsed, value);
        }
    }

    /// Decodes a row; one that can't be read is a finding.
    fn read<T: Stored>(&mut self, key: &[u8], value: &[u8]) -> Option<T> {
        match decode_row(key, value) {
            Ok(row) => Some(row),
            Err(error) => {
                self.findings.add(Rule::Row, error.to_string());
                None
            }
        }
    }

    fn check(&mut self, holds: bool, rule: Rule, what: impl FnOnce() -> String) {
        if !holds {
            self.findings.add(rule, what());
        }
    }

    /// Ends the first run: everything that the second one looks at is known.
    pub fn second_run(&mut self) {
        self.end_small();
    }

    /// Ends the check.
    #[must_use]
    pub fn finish(mut self) -> Checked {
        self.end_large();
        self.end_keks();
        let mut findings = self.findings;
        let mut left_out = Vec::new();
        let (suspects, reach) = self.ledger.finish(&mut findings);
        if reach == Reach::Part {
            left_out.push("too much differs to name all of it".to_owned());
        }
        if self.small.deletes_left_out > 0 {
            let left = self.small.deletes_left_out;
            left_out.push(format!("{left} queued deletes were not compared with rows"));
        }
        Checked {
            findings,
            suspects,
            rows: self.rows,
            sealed: self.keks.rows(),
            left_out,
        }
    }
}
