//! What a check found, in the form that `megalith check -o json` prints.

use megalith_model::check::Finding;
use megalith_model::ids::{BucketId, DiskId};
use megalith_model::shard::ShardId;
use serde::Serialize;
use std::collections::BTreeMap;

/// How a check ended; its exit code is [`Verdict::code`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything was compared, and nothing is wrong.
    Clean,
    /// Something is wrong. Not everything may have been compared.
    Found,
    /// What was compared is well, but something could not be.
    #[default]
    Incomplete,
}

impl Verdict {
    /// The exit code of the command: 0 clean, 3 found, 1 incomplete.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Found => 3,
            Self::Incomplete => 1,
        }
    }
}

/// What a check found; its keys are stable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    pub verdict: Verdict,
    /// Absent if the rows were not asked for, or could not be read.
    pub rows: Option<RowsReport>,
    pub disks: Vec<DiskReport>,
    /// What could not be compared, and why; see also each disk.
    pub left_out: Vec<String>,
}

/// What the rows say of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowsReport {
    /// The entry of the log that they stand for.
    pub entry: u64,
    /// How many there are.
    pub rows: u64,
    /// How many each version of the key-encryption keys seals; one under two counts for the older.
    pub sealed: BTreeMap<u32, u64>,
    /// Contradictions, the first 10,000.
    pub findings: Vec<RowFinding>,
    /// How many there are besides.
    pub more: u64,
}

/// A contradiction between rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowFinding {
    /// The rule's short name, which stays.
    pub rule: &'static str,
    /// In words.
    pub what: String,
}

impl From<Finding> for RowFinding {
    fn from(finding: Finding) -> Self {
        Self {
            rule: finding.rule.name(),
            what: finding.to_string(),
        }
    }
}

/// A disk compared with the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskReport {
    pub disk: String,
    pub node: u32,
    /// Volumes with a slot on it.
    pub volumes: u64,
    /// Shards that it should hold.
    pub shards: u64,
    /// Not there, the first 1,000.
    pub missing: Vec<ShardFinding>,
    /// There and damaged, the first 1,000.
    pub damaged: Vec<ShardFinding>,
    /// There, and named by no row, no delete queue and no open lease, the first 1,000.
    pub unnamed: Vec<ShardFinding>,
    /// How many of all three there are besides.
    pub more: u64,
    /// Why it was not compared to its end; absent if it was.
    pub error: Option<String>,
}

/// The most findings of one kind that a disk's report names.
const NAMED_MAX: usize = 1_000;

/// What is wrong with a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    Missing,
    Damaged,
    Unnamed,
}

impl DiskReport {
    pub(super) fn add(&mut self, fault: Fault, shard: ShardId, disk: DiskId, of: Option<BucketId>) {
        let list = match fault {
            Fault::Missing => &mut self.missing,
            Fault::Damaged => &mut self.damaged,
            Fault::Unnamed => &mut self.unnamed,
        };
        if list.len() < NAMED_MAX {
            list.push(ShardFinding::new(shard, disk, of));
        } else {
            self.more += 1;
        }
    }

    fn found(&self) -> bool {
        !(self.missing.is_empty() && self.damaged.is_empty() && self.unnamed.is_empty())
    }
}

/// A shard that something is wrong with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardFinding {
    pub volume: u64,
    /// The id under which the shard is filed.
    pub blob: u64,
    pub segment: u32,
    pub slot: u8,
    pub disk: String,
    /// The bucket that the blob was written for, as a decimal number; absent if no row says so.
    pub bucket: Option<String>,
}

impl ShardFinding {
    fn new(shard: ShardId, disk: DiskId, bucket: Option<BucketId>) -> Self {
        Self {
            volume: shard.volume.0,
            blob: shard.blob.0,
            segment: shard.segment,
            slot: shard.slot,
            disk: disk.to_string(),
            bucket: bucket.map(|bucket| bucket.0.to_string()),
        }
    }
}

impl CheckReport {
    /// Sets the verdict by what is in the report.
    #[must_use]
    pub fn judged(mut self) -> Self {
        let rows = self.rows.as_ref();
        let found = rows.is_some_and(|rows| !rows.findings.is_empty())
            || self.disks.iter().any(DiskReport::found);
        let whole = self.left_out.is_empty() && self.disks.iter().all(|disk| disk.error.is_none());
        self.verdict = match (found, whole) {
            (true, _) => Verdict::Found,
            (false, true) => Verdict::Clean,
            (false, false) => Verdict::Incomplete,
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::{BlobId, VolumeId};

    #[test]
    fn what_is_found_counts_more_than_what_is_left_out() {
        let clean = CheckReport::default().judged();
        assert_eq!(clean.verdict, Verdict::Clean);
        let error = Some("silent".to_owned());
        let silent = DiskReport {
            error,
            ..DiskReport::default()
        };
        let mut report = CheckReport {
            disks: vec![silent],
            ..CheckReport::default()
        };
        assert_eq!(report.clone().judged().verdict, Verdict::Incomplete);
        let shard = ShardId {
            volume: VolumeId(1),
            blob: BlobId(2),
            segment: 0,
            slot: 3,
        };
        for _ in 0..=NAMED_MAX {
            report.disks[0].add(Fault::Unnamed, shard, DiskId([1; 16]), None);
        }
        assert_eq!(
            (report.disks[0].unnamed.len(), report.disks[0].more),
            (NAMED_MAX, 1)
        );
        assert_eq!(report.judged().verdict, Verdict::Found);
    }
}
