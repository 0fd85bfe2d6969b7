//! Multipart uploads. A part's blob has one reference, from its part row. Completion moves that
//! reference to the version; no byte is copied.

use super::PART_MAX;
use super::context::{Machine, Step, malformed};
use super::counters::Change;
use super::objects::check_key;
use crate::command::{Command, NewBlob, ObjectBlobs, Outcome, PutObject, Refusal};
use crate::ids::{BlobId, BucketId, UploadId};
use crate::keys::{self, RowKey};
use crate::rows::{BucketRow, Counters, DoomedRow, PartRow, UploadRow, UploadTarget};
use std::borrow::Cow;

/// Where an upload's row is: its object and its id.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) bucket: BucketId,
    pub(super) key: &'a [u8],
    pub(super) upload: UploadId,
}

impl<'a> Place<'a> {
    fn row(&self) -> RowKey<'a> {
        RowKey::Upload {
            bucket: self.bucket,
            key: Cow::Borrowed(self.key),
            upload: self.upload,
        }
    }
}

/// Returns the counters of one upload.
fn one_upload() -> Counters {
    Counters {
        uploads: 1,
        ..Counters::default()
    }
}

impl Machine<'_, '_> {
    /// Executes the commands of uploads.
    pub(super) fn execute_upload(&mut self, command: &Command) -> Step<Outcome> {
        match command {
            Command::CreateUpload {
                bucket,
                key,
                upload,
                wrapped_key,
                sealed_manifest,
            } => {
                let (bucket, upload) = (*bucket, *upload);
                let row = UploadRow {
                    wrapped_key: wrapped_key.clone(),
                    sealed_manifest: sealed_manifest.clone(),
                };
                let place = Place {
                    bucket,
                    key,
                    upload,
                };
                self.create_upload(place, &row)
            }
            Command::PutPart {
                bucket,
                key,
                upload,
                part,
                size,
                written_ms,
                sealed_part,
                blob,
            } => {
                self.check_sealed_time(*written_ms)?;
                let (bucket, upload) = (*bucket, *upload);
                let row = PartRow {
                    size: *size,
                    sealed_part: sealed_part.clone(),
                    blob: blob.blob,
                };
                let place = Place {
                    bucket,
                    key,
                    upload,
                };
                self.put_part(place, *part, &row, blob)
            }
            Command::CompleteUpload {
                upload,
                parts,
                object,
            } => self.complete_upload(*upload, parts, object),
            Command::AbortUpload {
                bucket,
                key,
                upload,
            } => {
                let (bucket, upload) = (*bucket, *upload);
                self.abort_upload(Place {
                    bucket,
                    key,
                    upload,
                })
            }
            _ => malformed("not a command of uploads"),
        }
    }

    fn create_upload(&mut self, place: Place<'_>, row: &UploadRow) -> Step<Outcome> {
        let bucket = self.bucket(place.bucket)?;
        check_key(place.key)?;
        self.check_sealed_time(place.upload.time_ms())?;
        let target_key = RowKey::UploadTarget(place.upload);
        // Parts may be left of one that has ended.
        if self.exists(&target_key)? || !self.is_empty(&keys::parts(place.upload))? {
            return malformed("this upload exists already");
        }
        self.write(&place.row(), row);
        let target = UploadTarget {
            bucket: place.bucket,
            key: place.key.to_vec(),
        };
        self.write(&target_key, &target);
        let change = Change {
            plus: one_upload(),
            minus: Counters::default(),
        };
        self.count(&bucket, change)?;
        Ok(Outcome::Done)
    }

    /// Returns the bucket of an upload in progress, or the refusal.
    fn upload_bucket(&self, place: Place<'_>) -> Step<BucketRow> {
        let bucket = self.bucket(place.bucket)?;
        if self.exists(&place.row())? {
            Ok(bucket)
        } else {
            Err(Refusal::NoSuchUpload.into())
        }
    }

    fn put_part(
        &mut self,
        place: Place<'_>,
        part: u32,
        row: &PartRow,
        blob: &NewBlob,
    ) -> Step<Outcome> {
        self.upload_bucket(place)?;
        if part == 0 || part > PART_MAX {
            return malformed(format!("part number {part}"));
        }
        self.add_blob(place.bucket, blob)?;
        let key = RowKey::Part {
            upload: place.upload,
            part,
        };
        if let Some(old) = self.read::<PartRow>(&key)? {
            self.dereference(old.blob)?;
        }
        self.write(&key, row);
        Ok(Outcome::Done)
    }

    fn complete_upload(
        &mut self,
        upload: UploadId,
        named: &[(u32, BlobId)],
        object: &PutObject,
    ) -> Step<Outcome> {
        let place = Place {
            bucket: object.bucket,
            key: &object.key,
            upload,
        };
        let bucket = self.upload_bucket(place)?;
        if object.blobs != ObjectBlobs::Parts {
            return malformed("the blobs of a completed upload are its parts");
        }
        if named.is_empty() || !named.is_sorted_by(|(a, _), (b, _)| a < b) {
            return malformed("part numbers ascend, and there is at least one");
        }
        let current = self.may_put(object)?;
        let mut blobs = Vec::with_capacity(named.len());
        for (number, blob) in named {
            let part = *number;
            match self.read::<PartRow>(&RowKey::Part { upload, part })? {
                Some(row) if row.blob == *blob => blobs.push(*blob),
                Some(_) | None => return Err(Refusal::NoSuchPart(part).into()),
            }
        }
        let linked = named.iter().map(|(number, _)| *number).collect();
        self.drop_parts(upload, linked)?;
        self.drop_upload(place, &bucket)?;
        self.link(&bucket, object, current, blobs)
    }

    fn abort_upload(&mut self, place: Place<'_>) -> Step<Outcome> {
        let bucket = self.upload_bucket(place)?;
        self.drop_parts(place.upload, Vec::new())?;
        self.drop_upload(place, &bucket)?;
        Ok(Outcome::Done)
    }

    /// Ends an upload whatever it holds. Its parts are doomed: they go with later commands.
    pub(super) fn end_upload(&mut self, place: Place<'_>, bucket: &BucketRow) -> Step<()> {
        self.doom(&DoomedRow::Parts {
            upload: place.upload,
            linked: Vec::new(),
        })?;
        self.drop_upload(place, bucket)
    }

    fn drop_upload(&mut self, place: Place<'_>, bucket: &BucketRow) -> Step<()> {
        if self.rotation()?.is_some()
            && let Some(row) = self.read::<UploadRow>(&place.row())?
        {
            self.count_unsealed(&place.row(), &[&row.wrapped_key])?;
        }
        self.delete(&place.row());
        self.delete(&RowKey::UploadTarget(place.upload));
        let change = Change {
            plus: Counters::default(),
            minus: one_upload(),
        };
        self.count(bucket, change)
    }
}
