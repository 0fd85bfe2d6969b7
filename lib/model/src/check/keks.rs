//! Which key-encryption keys seal the rows, and whether they are there.

use super::RowCheck;
use super::finding::Rule;
use crate::rotation::Rotation;
use crate::sealed::kek_version;
use std::collections::{BTreeMap, BTreeSet};

/// What was seen of key-encryption keys.
#[derive(Default)]
pub(super) struct Keks {
    /// Versions in the table.
    there: BTreeSet<u32>,
    /// Rows by the oldest version that seals any of them: access keys, and all others.
    sealed: BTreeMap<u32, [u64; 2]>,
    /// Versions that records name.
    named: BTreeSet<u32>,
    pub(super) rotation: Option<Rotation>,
}

impl Keks {
    pub(super) fn is_there(&mut self, version: u32) {
        self.there.insert(version);
    }

    /// Counts a row with these sealed records.
    pub(super) fn sealed(&mut self, is_access_key: bool, records: &[&[u8]]) {
        let versions = || records.iter().filter_map(|record| kek_version(record));
        let Some(oldest) = versions().min() else {
            return;
        };
        self.named.extend(versions());
        let [access_keys, others] = self.sealed.entry(oldest).or_default();
        *if is_access_key { access_keys } else { others } += 1;
    }

    /// Returns how many rows each version seals; a row under two counts for the older one.
    pub(super) fn rows(&self) -> BTreeMap<u32, u64> {
        let sums = self.sealed.iter();
        sums.map(|(version, rows)| (*version, rows.iter().sum()))
            .collect()
    }
}

impl RowCheck {
    pub(super) fn end_keks(&mut self) {
        let keks = std::mem::take(&mut self.keks);
        for version in keks.named.difference(&keks.there) {
            let what = format!("records are sealed under version {version}, which isn't there");
            self.findings.add(Rule::Kek, what);
        }
        if let Some(rotation) = &keks.rotation {
            let before = keks.sealed.range(..rotation.to);
            let [access_keys, others] = before.fold([0; 2], |sums, (_, rows)| {
                [sums[0] + rows[0], sums[1] + rows[1]]
            });
            let passed_all = rotation.passed_all;
            // Of access keys, only those that are passed are counted.
            let left = others..=others + access_keys;
            let right = if passed_all {
                rotation.left == *left.end() && rotation.closed == rotation.left
            } else {
                left.contains(&rotation.left)
            };
            self.check(right, Rule::Kek, || {
                format!(
                    "the rotation to version {} counts {} rows that are left, {} of them closed; \
                     there are {others}, and {access_keys} access keys",
                    rotation.to, rotation.left, rotation.closed
                )
            });
        }
        self.keks = keks;
    }
}
