//! What is gone for every reader, and still has rows: the blobs of a large version, the parts of an
//! upload that has ended. Commands of the leader work it off, a bounded piece at a time, so that no
//! entry changes more than a few thousand rows, whatever it removes.

use super::context::{Machine, Step};
use super::{MachineError, PART_MAX};
use crate::command::Outcome;
use crate::ids::{BlobId, UploadId};
use crate::keys::{self, Meta, RowKey};
use crate::rows::{BlobRow, DoomedQueue, DoomedRow, PartRow};

/// The most blobs that a command removes at once; more are doomed.
pub(super) const DROPPED_MAX: usize = 8;
/// After so many segments one piece of work ends.
const SEGMENTS_MAX: usize = 256;
/// The most rows of parts in one piece of work.
const PARTS_MAX: usize = 64;

impl Machine<'_, '_> {
    fn doomed_queue(&self) -> Result<DoomedQueue, MachineError> {
        Ok(self.read(&RowKey::Meta(Meta::Doomed))?.unwrap_or_default())
    }

    pub(super) fn doom(&mut self, row: &DoomedRow) -> Result<(), MachineError> {
        let mut queue = self.doomed_queue()?;
        self.write(&RowKey::Doomed(queue.next), row);
        queue.next += 1;
        self.write(&RowKey::Meta(Meta::Doomed), &queue);
        Ok(())
    }

    /// Removes a reference to each blob: now if they are few, else later.
    pub(super) fn drop_blobs(&mut self, mut blobs: Vec<BlobId>) -> Result<(), MachineError> {
        if blobs.len() > DROPPED_MAX {
            return self.doom(&DoomedRow::Blobs(blobs));
        }
        while let Some(blob) = blobs.pop() {
            self.dereference(blob)?;
        }
        Ok(())
    }

    /// Removes the parts of an upload that has ended. Those in `linked`, whose numbers ascend, have
    /// left their blobs to a version.
    pub(super) fn drop_parts(
        &mut self,
        upload: UploadId,
        linked: Vec<u32>,
    ) -> Result<(), MachineError> {
        let row = DoomedRow::Parts { upload, linked };
        if self.few_parts(upload)? {
            let left = self.work_off_row(row)?;
            return match left {
                None => Ok(()),
                Some(row) => self.doom(&row),
            };
        }
        self.doom(&row)
    }

    fn few_parts(&self, upload: UploadId) -> Result<bool, MachineError> {
        let found = self.page::<PartRow>(&keys::parts(upload), DROPPED_MAX + 1)?;
        Ok(found.len() <= DROPPED_MAX)
    }

    /// Works off a piece of what is doomed, the oldest first.
    pub(super) fn work_off(&mut self) -> Step<Outcome> {
        let mut queue = self.doomed_queue()?;
        if queue.first < queue.next {
            let key = RowKey::Doomed(queue.first);
            let row: DoomedRow = self.require(&key)?;
            match self.work_off_row(row)? {
                Some(left) => self.write(&key, &left),
                None => {
                    self.delete(&key);
                    queue.first += 1;
                    self.write(&RowKey::Meta(Meta::Doomed), &queue);
                }
            }
        }
        let left = queue.first < queue.next;
        Ok(Outcome::WorkedOff { left })
    }

    /// Returns what is left of a row after one piece of work.
    fn work_off_row(&mut self, row: DoomedRow) -> Result<Option<DoomedRow>, MachineError> {
        let mut segments = 0;
        match row {
            DoomedRow::Blobs(mut blobs) => {
                while segments < SEGMENTS_MAX
                    && let Some(blob) = blobs.pop()
                {
                    segments += self.drop_counted(blob)?;
                }
                Ok((!blobs.is_empty()).then_some(DoomedRow::Blobs(blobs)))
            }
            DoomedRow::Parts { upload, linked } => {
                let found = self.page::<PartRow>(&keys::parts(upload), PARTS_MAX)?;
                let all = found.len() < PARTS_MAX;
                let mut done = 0;
                for (key, part) in &found {
                    if segments >= SEGMENTS_MAX {
                        break;
                    }
                    let number = part_number(key)?;
                    if linked.binary_search(&number).is_err() {
                        segments += self.drop_counted(part.blob)?;
                    }
                    self.delete(&RowKey::Part {
                        upload,
                        part: number,
                    });
                    done += 1;
                }
                let ended = all && done == found.len();
                Ok((!ended).then_some(DoomedRow::Parts { upload, linked }))
            }
            DoomedRow::Spent { lease, from } => {
                let next = self.forget_page(lease, from)?;
                Ok(next.map(|from| DoomedRow::Spent { lease, from }))
            }
        }
    }

    /// Removes a reference to a blob; returns how much work that may have been, in segments.
    fn drop_counted(&mut self, blob: BlobId) -> Result<usize, MachineError> {
        // One that is missing must not keep all that follows from being worked off.
        let Some(row) = self.read::<BlobRow>(&RowKey::Blob(blob))? else {
            return Ok(1);
        };
        self.dereference(blob)?;
        Ok(row.segments.len().max(1))
    }
}

/// Takes the number of a part out of its row's key.
pub(super) fn part_number(key: &[u8]) -> Result<u32, MachineError> {
    match RowKey::decode(key) {
        Ok(RowKey::Part { part, .. }) if part <= PART_MAX => Ok(part),
        Ok(_) | Err(_) => Err(MachineError::Contradiction(
            "a part's key is malformed".into(),
        )),
    }
}
