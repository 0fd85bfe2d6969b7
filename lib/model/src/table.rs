//! Ordered rows as the deciding code sees them: something to read, and a batch of changes on top.
//!
//! Owns read-your-writes and rollback, and which rows need not be read again ([`Kept`]). Knows
//! nothing of the engine that keeps the rows, nor of what they mean.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;

/// The engine could not be read. The cause is in `source`.
#[derive(Debug, thiserror::Error)]
#[error("read metadata rows")]
pub struct RowsError {
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl RowsError {
    /// Wraps an engine's own error.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
        }
    }
}

/// An ordered key-value view that doesn't change while it is held.
pub trait Rows {
    /// Reads one row.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError>;

    /// As [`Rows::get`], for a short row that many commands read, such as a bucket's or a lease's.
    /// An [`Overlay`] reads it only once.
    fn get_kept(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.get(key)
    }

    /// Visits rows from `from` (inclusive) to `to` (exclusive) in key order until `visit` returns
    /// false. Visits nothing if `from >= to`.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError>;
}

/// Changes that are written together: the last change of each key, in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

/// Returns what a change of one key costs in memory; counts values and keys only.
fn change_bytes(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    key.len() + value.map_or(0, Vec::len)
}

impl Batch {
    /// Iterates over the changes in key order: `Some` puts, `None` deletes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.changes
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// Returns how many keys change.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Returns true if nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets the change of one key and returns the one it had (outer None: none).
    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Option<Option<Vec<u8>>> {
        self.bytes += change_bytes(&key, value.as_ref());
        let key_len = key.len();
        let old = self.changes.insert(key, value);
        if let Some(old) = &old {
            self.bytes -= key_len + old.as_ref().map_or(0, Vec::len);
        }
        old
    }

    /// Removes the change of one key.
    fn forget(&mut self, key: &[u8]) {
        if let Some(old) = self.changes.remove(key) {
            self.bytes -= change_bytes(key, old.as_ref());
        }
    }
}

impl IntoIterator for Batch {
    type Item = (Vec<u8>, Option<Vec<u8>>);
    type IntoIter = btree_map::IntoIter<Vec<u8>, Option<Vec<u8>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.changes.into_iter()
    }
}

/// A point that [`Overlay::rollback`] returns to.
#[derive(Debug)]
#[must_use = "a savepoint is given back by rollback or release"]
pub struct Savepoint(usize);

/// The most rows of [`Kept`]. They have a few hundred bytes each.
pub const KEPT_MAX: usize = 1_024;

/// What [`Rows::get_kept`] has read of the rows beneath an [`Overlay`], None for a row that isn't
/// there. It spares the next batch these reads.
///
/// It is true of the rows that it was read from, and only as long as nothing else changes them.
/// Whoever owns it gives it away with each batch ([`Overlay::resume`]), takes it back when the
/// batch is written ([`Overlay::into_parts`]), and drops it when other rows take the place of
/// these.
#[derive(Debug, Default)]
pub struct Kept(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Kept {
    /// Iterates over the rows in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.0
            .iter()
            .map(|(key, row)| (key.as_slice(), row.as_deref()))
    }

    /// Takes over what `batch` changes of these rows. Of too many nothing is kept.
    fn after(mut self, batch: &Batch) -> Self {
        if self.0.len() > KEPT_MAX {
            return Self::default();
        }
        for (key, row) in &mut self.0 {
            if let Some(change) = batch.changes.get(key) {
                row.clone_from(change);
            }
        }
        self
    }
}

/// A key and the change it had before (outer None: none).
type Undo = (Vec<u8>, Option<Option<Vec<u8>>>);

/// Rows with a batch of changes on top; reads see the changes.
pub struct Overlay<'a> {
    base: &'a dyn Rows,
    batch: Batch,
    undo: Vec<Undo>,
    savepoints: usize,
    /// Rows of `base`.
    kept: RefCell<Kept>,
}

impl<'a> Overlay<'a> {
    /// Lays an empty batch over `base`.
    #[must_use]
    pub fn new(base: &'a dyn Rows) -> Self {
        Self::resume(base, Kept::default())
    }

    /// As [`Overlay::new`], where the last batch was written. `kept` must be true of `base`.
    #[must_use]
    pub fn resume(base: &'a dyn Rows, kept: Kept) -> Self {
        Self {
            base,
            batch: Batch::default(),
            undo: Vec::new(),
            savepoints: 0,
            kept: RefCell::new(kept),
        }
    }

    /// Puts a row.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.set(key, Some(value));
    }

    /// Deletes a row, if it exists.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.set(key, None);
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        if self.savepoints == 0 {
            self.batch.set(key, value);
        } else {
            let old = self.batch.set(key.clone(), value);
            self.undo.push((key, old));
        }
    }

    /// Marks a point to return to. Savepoints nest; each is rolled back or released.
    pub fn savepoint(&mut self) -> Savepoint {
        self.savepoints += 1;
        Savepoint(self.undo.len())
    }

    /// Takes back every change made after the savepoint.
    pub fn rollback(&mut self, savepoint: Savepoint) {
        while self.undo.len() > savepoint.0 {
            let (key, old) = self.undo.pop().expect("longer than the savepoint");
            match old {
                Some(change) => {
                    self.batch.set(key, change);
                }
                None => self.batch.forget(&key),
            }
        }
        self.close();
    }

    /// Keeps every change made after the savepoint.
    pub fn release(&mut self, _savepoint: Savepoint) {
        self.close();
    }

    fn close(&mut self) {
        self.savepoints -= 1;
        if self.savepoints == 0 {
            self.undo.clear();
        }
    }

    /// Returns the changes so far.
    #[must_use]
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Returns the changes, for writing.
    #[must_use]
    pub fn into_batch(self) -> Batch {
        self.batch
    }

    /// Returns the changes, for writing, and what is true of the base once they are written. If
    /// they may not have been, it must be dropped.
    #[must_use]
    pub fn into_parts(self) -> (Batch, Kept) {
        let kept = self.kept.into_inner().after(&self.batch);
        (self.batch, kept)
    }
}

impl Rows for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        match self.batch.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.base.get(key),
        }
    }

    fn get_kept(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        if let Some(change) = self.batch.changes.get(key) {
            return Ok(change.clone());
        }
        if let Some(row) = self.kept.borrow().0.get(key) {
            return Ok(row.clone());
        }
        let row = self.base.get(key)?;
        self.kept.borrow_mut().0.insert(key.to_vec(), row.clone());
        Ok(row)
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
        let mut changes = self.batch.changes.range::<[u8], _>(bounds).peekable();
        let mut going = true;
        self.base.scan(from, to, &mut |key, value| {
            while let Some((changed, change)) =
                changes.next_if(|(changed, _)| changed.as_slice() < key)
            {
                if let Some(put) = change {
                    going = visit(changed, put);
                    if !going {
                        return false;
                    }
                }
            }
            going = match changes.next_if(|(changed, _)| changed.as_slice() == key) {
                Some((_, Some(put))) => visit(key, put),
                Some((_, None)) => true,
                None => visit(key, value),
            };
            going
        })?;
        for (changed, change) in changes {
            if !going {
                break;
            }
            if let Some(put) = change {
                going = visit(changed, put);
            }
        }
        Ok(())
    }
}

/// Rows in memory: for tests, and for callers that need no disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemRows(BTreeMap<Vec<u8>, Vec<u8>>);

impl MemRows {
    /// Writes a batch.
    pub fn write(&mut self, batch: Batch) {
        for (key, change) in batch {
            match change {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }

    /// All rows in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

impl Rows for MemRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        if from < to {
            let bounds = (Bound::Included(from), Bound::Excluded(to));
            for (key, value) in self.0.range::<[u8], _>(bounds) {
                if !visit(key, value) {
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A put or delete of one of few keys, a savepoint, or its end.
    #[derive(Clone, Debug)]
    enum Op {
        Set(u8, Option<u8>),
        Savepoint,
        Rollback,
        Release,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0_u8..12, prop::option::of(any::<u8>())).prop_map(|(k, v)| Op::Set(k, v)),
            1 => Just(Op::Savepoint),
            1 => Just(Op::Rollback),
            1 => Just(Op::Release),
        ]
    }

    fn rows(of: &dyn Rows, from: u8, to: u8, max: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        of.scan(&[from], &[to], &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            found.len() < max
        })
        .expect("rows in memory");
        found
    }

    proptest! {
        #[test]
        fn an_overlay_reads_as_if_it_were_written(
            base in prop::collection::btree_map(0_u8..12, any::<u8>(), 0..12),
            ops in prop::collection::vec(op(), 0..40),
            (from, to, max) in (0_u8..12, 0_u8..13, 1_usize..14),
        ) {
            let plain = base.iter().map(|(key, value)| (vec![*key], vec![*value])).collect();
            let base = MemRows(plain);
            let mut expected = base.clone();
            let mut overlay = Overlay::new(&base);
            let mut savepoints = Vec::new();
            for op in ops {
                // Read before and between the changes.
                prop_assert_eq!(overlay.get_kept(&[from]).ok(), expected.get(&[from]).ok());
                match op {
                    Op::Set(key, Some(value)) => {
                        expected.0.insert(vec![key], vec![value]);
                        overlay.put(vec![key], vec![value]);
                    }
                    Op::Set(key, None) => {
                        expected.0.remove([key].as_slice());
                        overlay.delete(vec![key]);
                    }
                    Op::Savepoint => savepoints.push((overlay.savepoint(), expected.clone())),
                    Op::Rollback => {
                        if let Some((savepoint, before)) = savepoints.pop() {
                            overlay.rollback(savepoint);
                            expected = before;
                        }
                    }
                    Op::Release => {
                        if let Some((savepoint, _)) = savepoints.pop() {
                            overlay.release(savepoint);
                        }
                    }
                }
            }
            prop_assert_eq!(rows(&overlay, from, to, max), rows(&expected, from, to, max));
            prop_assert_eq!(overlay.get(&[from]).ok(), expected.get(&[from]).ok());
            prop_assert_eq!(overlay.get_kept(&[from]).ok(), expected.get(&[from]).ok());
            let (batch, kept) = overlay.into_parts();
            let bytes: usize = batch.iter().map(|(k, v)| k.len() + v.map_or(0, <[u8]>::len)).sum();
            prop_assert_eq!(batch.bytes(), bytes);
            let mut written = base.clone();
            written.write(batch);
            prop_assert_eq!(&written, &expected);
            for (key, row) in kept.iter() {
                prop_assert_eq!(written.get(key).ok(), Some(row.map(<[u8]>::to_vec)));
            }
            let resumed = Overlay::resume(&written, kept);
            for key in 0..12 {
                prop_assert_eq!(resumed.get_kept(&[key]).ok(), expected.get(&[key]).ok());
            }
        }
    }

    #[test]
    fn of_too_many_rows_nothing_is_kept() {
        let rows = MemRows::default();
        let mut overlay = Overlay::new(&rows);
        for most in [KEPT_MAX, KEPT_MAX + 1] {
            for number in 0..most {
                let read = overlay.get_kept(&number.to_be_bytes());
                assert_eq!(read.expect("rows in memory"), None);
            }
            let (_, kept) = overlay.into_parts();
            assert_eq!(kept.iter().count(), if most == KEPT_MAX { most } else { 0 });
            overlay = Overlay::resume(&rows, kept);
        }
    }
}
