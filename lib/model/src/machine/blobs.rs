//! Blobs: checked when they arrive, counted while rows name them, queued for deletion when the last
//! name goes. A blob either has a row or stands in the delete queues, never both.

use super::context::{Machine, Step, malformed};
use super::counters::{below_zero, down, up};
use super::{INLINE_LEN_LIMIT, MachineError};
use crate::command::NewBlob;
use crate::ids::{BlobId, BucketId};
use crate::keys::RowKey;
use crate::rows::{BlobRow, SegmentRow};
use crate::shape::Shape;

impl Machine<'_, '_> {
    /// Takes in a blob that a gateway has just written for a bucket, with one reference. Its id is
    /// the command's key, so no blob has it yet.
    pub(super) fn add_blob(&mut self, bucket: BucketId, new: &NewBlob) -> Step<()> {
        let proposal = self.proposal_of(new.blob)?;
        check_shape(new)?;
        let segments = match new.shape {
            Shape::Inline => {
                self.change_totals(|totals| up(&mut totals.inline_blobs))?;
                Vec::new()
            }
            Shape::Copies | Shape::Coded => self.add_segments(new)?,
        };
        let row = BlobRow {
            bucket,
            proposal,
            references: 1,
            len: new.len,
            shape: new.shape,
            segments,
            inline: new.inline.clone(),
        };
        self.write(&RowKey::Blob(new.blob), &row);
        self.discard(new.blob, &new.leftovers)
    }

    fn add_segments(&mut self, new: &NewBlob) -> Step<Vec<SegmentRow>> {
        let mut rows = Vec::with_capacity(new.segments.len());
        for (number, segment) in (0..).zip(&new.segments) {
            let last = rows.len() + 1 == new.segments.len();
            rows.push(self.add_segment(new, number, segment, last)?);
        }
        Ok(rows)
    }

    /// Adds a reference to a blob.
    pub(super) fn reference(&mut self, blob: BlobId) -> Step<()> {
        let key = RowKey::Blob(blob);
        let mut row: BlobRow = self.require(&key)?;
        let Some(references) = row.references.checked_add(1) else {
            return malformed("too many references to one blob");
        };
        row.references = references;
        self.write(&key, &row);
        Ok(())
    }

    /// Removes a reference; with the last one the blob goes and its shards' deletes are queued.
    pub(super) fn dereference(&mut self, blob: BlobId) -> Result<(), MachineError> {
        let key = RowKey::Blob(blob);
        let mut row: BlobRow = self.require(&key)?;
        row.references = row
            .references
            .checked_sub(1)
            .ok_or_else(|| below_zero("references"))?;
        if row.references > 0 {
            self.write(&key, &row);
            return Ok(());
        }
        self.delete(&key);
        self.outlive(blob, &row)?;
        match row.shape {
            Shape::Inline => {
                self.change_totals(|totals| down(&mut totals.inline_blobs))?;
            }
            Shape::Copies | Shape::Coded => {
                for (number, segment) in (0..).zip(&row.segments) {
                    self.drop_segment(blob, row.shape, number, segment)?;
                }
            }
        }
        Ok(())
    }
}

/// Checks what can be checked without rows.
fn check_shape(new: &NewBlob) -> Step<()> {
    if new.shape != Shape::Inline && !new.inline.is_empty() {
        return malformed("inline bytes of a blob that isn't inline");
    }
    match new.shape {
        Shape::Inline => {
            if !new.segments.is_empty() {
                return malformed("an inline blob has no segments");
            }
            if new.inline.len() as u64 != new.len || new.len > INLINE_LEN_LIMIT {
                return malformed("inline bytes are not as long as stated, or too long");
            }
        }
        Shape::Copies => {
            if new.segments.len() != 1 {
                return malformed("a copied blob has one segment");
            }
        }
        Shape::Coded => {
            if new.segments.is_empty() {
                return malformed("a coded blob has segments");
            }
        }
    }
    if new.shape != Shape::Inline {
        let sum = new
            .segments
            .iter()
            .try_fold(0_u64, |sum, segment| sum.checked_add(segment.len));
        if sum != Some(new.len) {
            return malformed("the segments don't add up to the blob");
        }
    }
    Ok(())
}
