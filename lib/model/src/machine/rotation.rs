//! The rotation of key-encryption keys, judged when it is applied: the fence, the steps, and when
//! older versions may go ([`crate::rotation`]).

use super::context::{Machine, Step, damaged, malformed};
use super::{MachineError, sizes};
use crate::command::{Command, Outcome, Refusal};
use crate::keys::{self, KeyError, Meta, RowKey, Table};
use crate::rotation::{
    GRACE_MS_MAX, LEVEL, Resealed, Rotation, STEP_ROWS_MAX, STEP_SCAN_BYTES, STEP_SCAN_MAX,
    SealedRow, any_before, ranges_after, sealed_row,
};
use crate::rows::{AccessKeyRow, BucketRow, KekRow, UploadRow, VersionRow};
use crate::sealed::kek_version;
use crate::table::Rows;
use std::collections::BTreeMap;

const ROTATION: RowKey<'_> = RowKey::Meta(Meta::Rotation);

/// What is found from the cursor on, as far as one step looks.
pub(crate) struct Passage {
    /// Rows that an older version seals, in the order of their keys.
    pub(crate) before: Vec<Before>,
    /// The last row that was looked at; the cursor if there was none.
    last: Vec<u8>,
    /// True if no row follows it.
    ended: bool,
}

/// A row that an older version seals.
pub(crate) struct Before {
    pub(crate) row_key: Vec<u8>,
    pub(crate) row: SealedRow,
    /// The row before it; the cursor if it is the first.
    after: Vec<u8>,
}

/// Looks through the rows behind the cursor, as far as one step goes.
pub(crate) fn look_through(rows: &dyn Rows, rotation: &Rotation) -> Result<Passage, MachineError> {
    let mut passage = Passage {
        before: Vec::new(),
        last: rotation.cursor.clone(),
        ended: false,
    };
    let (mut looked, mut bytes, mut failed) = (0, 0, None);
    for range in ranges_after(&rotation.cursor) {
        let mut more = true;
        rows.scan(&range.from, &range.to, &mut |row_key, value| {
            more = looked < STEP_SCAN_MAX
                && bytes < STEP_SCAN_BYTES
                && passage.before.len() < STEP_ROWS_MAX;
            if !more {
                return false;
            }
            (looked, bytes) = (looked + 1, bytes + value.len());
            let after = std::mem::replace(&mut passage.last, row_key.to_vec());
            match sealed_at(row_key, value) {
                Ok(row) if row.is_before(rotation.to) => passage.before.push(Before {
                    row_key: row_key.to_vec(),
                    row,
                    after,
                }),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if !more {
            return Ok(passage);
        }
    }
    passage.ended = true;
    Ok(passage)
}

fn sealed_at(row_key: &[u8], value: &[u8]) -> Result<SealedRow, MachineError> {
    let key = RowKey::decode(row_key).map_err(malformed_key)?;
    let row = sealed_row(&key, value).map_err(|source| damaged(row_key, source))?;
    row.ok_or_else(|| MachineError::Contradiction("nothing of this table is sealed".into()))
}

fn malformed_key(error: KeyError) -> MachineError {
    MachineError::Contradiction(error.to_string())
}

impl Machine<'_, '_> {
    /// How far the rotation is, if there ever was one.
    pub(super) fn rotation(&self) -> Result<Option<Rotation>, MachineError> {
        self.read_kept(&ROTATION)
    }

    /// Refuses to store what a replaced version sealed, which nobody would seal again before its
    /// key is deleted; and what a version sealed that isn't there, as after a restore from a backup
    /// that is older than the key.
    pub(super) fn check_fence(&self, command: &Command) -> Step<()> {
        let records = command.sealed_records();
        if records.is_empty() || self.level < LEVEL {
            return Ok(());
        }
        if let Some(rotation) = self.rotation()?
            && any_before(&records, rotation.to)
        {
            let newest = rotation.to;
            return Err(Refusal::KekReplaced { newest }.into());
        }
        for version in records.iter().filter_map(|record| kek_version(record)) {
            if self.read_kept::<KekRow>(&RowKey::Kek(version))?.is_none() {
                return Err(match self.kek_versions()?.last() {
                    Some(newest) => Refusal::KekReplaced { newest: *newest },
                    None => Refusal::KeksLost,
                }
                .into());
            }
        }
        Ok(())
    }

    /// Takes a row out of the count of a rotation, if it is in it: the row goes, or its sealed
    /// `records` are replaced.
    pub(super) fn count_unsealed(
        &mut self,
        key: &RowKey<'_>,
        records: &[&[u8]],
    ) -> Result<(), MachineError> {
        let Some(mut rotation) = self.rotation()? else {
            return Ok(());
        };
        if !any_before(records, rotation.to) {
            return Ok(());
        }
        let passed = rotation.has_passed(&key.encode());
        // Access keys are counted once they are passed.
        if passed || !matches!(key, RowKey::AccessKey(_)) {
            rotation.left = rotation.left.saturating_sub(1);
        }
        if passed {
            rotation.closed = rotation.closed.saturating_sub(1);
        }
        self.write_rotation(rotation);
        Ok(())
    }

    /// Begins a rotation.
    pub(super) fn rotate_kek(
        &mut self,
        version: u32,
        sealed_kek: &[u8],
        grace_ms: u64,
    ) -> Step<Outcome> {
        if grace_ms > GRACE_MS_MAX {
            return malformed("a grace of more than a day");
        }
        let key = RowKey::Kek(version);
        if let Some(known) = self.read::<KekRow>(&key)? {
            // The same command once more changes nothing.
            return if known.sealed_kek == sealed_kek {
                Ok(Outcome::Done)
            } else {
                Err(Refusal::NameTaken.into())
            };
        }
        if let Some(Rotation {
            to,
            passed_all: false,
            ..
        }) = self.rotation()?
        {
            let why = "it has rows to pass".to_owned();
            return Err(Refusal::Rotating { to, why }.into());
        }
        let versions = self.kek_versions()?;
        if versions.last().copied().map(|newest| newest + 1) != Some(version) {
            return malformed("a rotation makes the version after the newest one");
        }
        let totals = self.totals()?;
        let counted = totals.counters;
        let row = KekRow {
            version,
            sealed_kek: sealed_kek.to_vec(),
        };
        self.write(&key, &row);
        self.write_rotation(Rotation {
            to: version,
            begun_ms: self.now_ms,
            grace_ms,
            cursor: Vec::new(),
            passed_all: false,
            resealed: 0,
            left: counted.versions + counted.uploads + totals.buckets,
            closed: 0,
            clear_since_ms: None,
            dropped_ms: None,
        });
        Ok(Outcome::Done)
    }

    /// One step: seals again what `rows` say and moves the cursor up to the first row that an older
    /// version seals and `rows` don't name. A row that has changed since it was read is skipped,
    /// because of the fence nothing older can have taken its place.
    pub(super) fn reseal(&mut self, to: u32, rows: &[Resealed]) -> Step<Outcome> {
        let mut rotation = match self.rotation()? {
            Some(rotation) if rotation.to == to && !rotation.passed_all => rotation,
            // A late step.
            Some(_) | None => return Err(Refusal::Changed.into()),
        };
        let named: BTreeMap<&[u8], &Resealed> = rows
            .iter()
            .map(|row| (row.row_key.as_slice(), row))
            .collect();
        let Passage {
            before,
            mut last,
            mut ended,
        } = look_through(self.rows, &rotation)?;
        for Before {
            row_key,
            row,
            after,
        } in before
        {
            let Some(new) = named.get(row_key.as_slice()) else {
                (last, ended) = (after, false);
                break;
            };
            let is_key = matches!(row, SealedRow::AccessKey { .. });
            if new.was != row.digest() {
                return Err(Refusal::Changed.into());
            }
            if new.records.is_empty() {
                rotation.closed += 1;
                rotation.left += u64::from(is_key);
            } else {
                check_resealed(&row.records(), &new.records, to)?;
                self.replace(&row_key, &new.records)?;
                rotation.resealed += 1;
                rotation.left = rotation.left.saturating_sub(u64::from(!is_key));
            }
        }
        if ended {
            rotation.cursor = Vec::new();
            rotation.passed_all = true;
        } else if last == rotation.cursor {
            return Err(Refusal::Changed.into());
        } else {
            rotation.cursor = last;
        }
        self.write_rotation(rotation);
        Ok(Outcome::Done)
    }

    /// Deletes the versions before `before`.
    pub(super) fn drop_keks(&mut self, before: u32) -> Step<Outcome> {
        let Some(mut rotation) = self.rotation()? else {
            return malformed("there was no rotation");
        };
        if rotation.to != before {
            return Err(Refusal::Changed.into());
        }
        if rotation.dropped_ms.is_some() {
            return Ok(Outcome::Done);
        }
        let needed = |why: &str| {
            let (to, why) = (rotation.to, why.to_owned());
            Err(Refusal::Rotating { to, why }.into())
        };
        match rotation.may_drop_from_ms() {
            None => return needed("rows are sealed under older keys"),
            Some(from_ms) if self.now_ms < from_ms => {
                return needed("readers under way may need older keys");
            }
            Some(_) => {}
        }
        for version in self.kek_versions()? {
            if version < before {
                self.delete(&RowKey::Kek(version));
            }
        }
        rotation.dropped_ms = Some(self.now_ms);
        self.write_rotation(rotation);
        Ok(Outcome::Done)
    }

    fn kek_versions(&self) -> Step<Vec<u32>> {
        let max = sizes::KEK_VERSION_MAX as usize;
        let rows = self.page::<KekRow>(&keys::table(Table::Keks), max)?;
        Ok(rows.iter().map(|(_, row)| row.version).collect())
    }

    /// Writes how far the rotation is, and since when it is clear.
    fn write_rotation(&mut self, mut rotation: Rotation) {
        let clear = rotation.passed_all && rotation.closed == 0;
        if clear {
            rotation.clear_since_ms = rotation.clear_since_ms.or(Some(self.now_ms));
        }
        self.write(&ROTATION, &rotation);
    }

    /// Replaces the sealed records of a row.
    fn replace(&mut self, row_key: &[u8], records: &[Vec<u8>]) -> Step<()> {
        let key = RowKey::decode(row_key).map_err(malformed_key)?;
        match (&key, records) {
            (RowKey::Name { .. } | RowKey::Version { .. }, [wrapped_key, sealed_listing]) => {
                let mut row: VersionRow = self.require(&key)?;
                row.wrapped_key.clone_from(wrapped_key);
                row.sealed_listing.clone_from(sealed_listing);
                self.write(&key, &row);
            }
            (RowKey::Upload { .. }, [wrapped_key]) => {
                let mut row: UploadRow = self.require(&key)?;
                row.wrapped_key.clone_from(wrapped_key);
                self.write(&key, &row);
            }
            (RowKey::Bucket(_), [sealed_owner]) => {
                let mut row: BucketRow = self.require(&key)?;
                row.sealed_owner.clone_from(sealed_owner);
                self.write(&key, &row);
            }
            (RowKey::AccessKey(_), [sealed_credential]) => {
                let mut row: AccessKeyRow = self.require(&key)?;
                row.sealed_credential.clone_from(sealed_credential);
                self.write(&key, &row);
            }
            _ => return malformed("a row has other sealed records"),
        }
        Ok(())
    }
}

/// Checks that `new` can be `old` sealed again: as many records, as long, under `to`.
fn check_resealed(old: &[&[u8]], new: &[Vec<u8>], to: u32) -> Step<()> {
    let same = |(old, new): (&&[u8], &Vec<u8>)| {
        // A record that nobody sealed stays as it is.
        kek_version(old).map_or(*old == new.as_slice(), |_| {
            old.len() == new.len() && kek_version(new) == Some(to)
        })
    };
    if old.len() == new.len() && old.iter().zip(new).all(same) {
        return Ok(());
    }
    malformed("a row's records are not the same ones sealed again")
}
