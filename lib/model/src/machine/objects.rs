//! Objects: written, copied without bytes, deleted. Buckets keep one version of each key so far:
//! its row is that of the key's name.

use super::context::{Machine, Step, malformed};
use super::counters::Change;
use super::{KEY_LEN_MAX, MachineError};
use crate::command::{Condition, ObjectBlobs, Outcome, PutObject, Refusal};
use crate::ids::{BlobId, BucketId, VersionId};
use crate::keys::RowKey;
use crate::rows::{BucketRow, Counters, VersionRow};
use std::borrow::Cow;

/// Returns the key of a key's name row.
pub(super) fn name_key(bucket: BucketId, key: &[u8]) -> RowKey<'_> {
    RowKey::Name {
        bucket,
        key: Cow::Borrowed(key),
    }
}

/// Checks a key's length.
pub(super) fn check_key(key: &[u8]) -> Step<()> {
    if key.is_empty() || key.len() > KEY_LEN_MAX {
        return malformed(format!("a key of {} bytes", key.len()));
    }
    Ok(())
}

/// Checks a condition against the current version.
fn check_condition(condition: Condition, current: Option<&VersionRow>) -> Step<()> {
    let visible = current
        .filter(|row| !row.delete_marker)
        .map(|row| row.version);
    let holds = match condition {
        Condition::None => true,
        Condition::Absent => visible.is_none(),
        Condition::Version(version) => visible == Some(version),
    };
    if holds {
        Ok(())
    } else {
        Err(Refusal::Condition { current: visible }.into())
    }
}

impl Machine<'_, '_> {
    /// The bucket, or the refusal that there is none.
    pub(super) fn bucket(&self, bucket: BucketId) -> Step<BucketRow> {
        let row: Option<BucketRow> = self.read_kept(&RowKey::Bucket(bucket))?;
        row.ok_or_else(|| Refusal::NoSuchBucket.into())
    }

    pub(super) fn put_object(&mut self, put: &PutObject) -> Step<Outcome> {
        let bucket = self.bucket(put.bucket)?;
        let current = self.may_put(put)?;
        let blobs = match &put.blobs {
            ObjectBlobs::New(new) => {
                self.add_blob(put.bucket, new)?;
                vec![new.blob]
            }
            ObjectBlobs::Shared {
                bucket,
                key,
                version,
            } => self.share(put, *bucket, key, *version)?,
            ObjectBlobs::Parts => return malformed("parts belong to the completion of an upload"),
        };
        self.link(&bucket, put, current, blobs)
    }

    /// Checks an object's key, time and condition; returns the version that it would replace.
    pub(super) fn may_put(&self, put: &PutObject) -> Step<Option<VersionRow>> {
        check_key(&put.key)?;
        self.check_sealed_time(put.version.time_ms())?;
        let current: Option<VersionRow> = self.read(&name_key(put.bucket, &put.key))?;
        check_condition(put.condition, current.as_ref())?;
        if current
            .as_ref()
            .is_some_and(|row| row.version == put.version)
        {
            return malformed("this version of the key exists already");
        }
        Ok(current)
    }

    /// Adds a reference to each blob of a copy's source.
    fn share(
        &mut self,
        put: &PutObject,
        bucket: BucketId,
        key: &[u8],
        version: VersionId,
    ) -> Step<Vec<BlobId>> {
        let source: Option<VersionRow> = self.read(&name_key(bucket, key))?;
        let meant = |row: &VersionRow| row.version == version && !row.delete_marker;
        let Some(source) = source.filter(meant) else {
            return Err(Refusal::SourceGone.into());
        };
        if source.size != put.size {
            return malformed("a copy is as long as its source");
        }
        for blob in &source.blobs {
            self.reference(*blob)?;
        }
        Ok(source.blobs)
    }

    /// Makes the object current with `blobs`, whose references are already counted, and drops the
    /// version that was current before.
    pub(super) fn link(
        &mut self,
        bucket: &BucketRow,
        put: &PutObject,
        current: Option<VersionRow>,
        blobs: Vec<BlobId>,
    ) -> Step<Outcome> {
        let sequence = current.as_ref().map_or(0, |old| old.sequence);
        let mut change = Change {
            plus: Counters {
                objects: 1,
                versions: 1,
                bytes: put.size,
                uploads: 0,
            },
            minus: Counters::default(),
        };
        if let Some(old) = current {
            change.minus = self.drop_version(&name_key(put.bucket, &put.key), old)?;
        }
        let row = VersionRow {
            version: put.version,
            sequence: sequence + 1,
            size: put.size,
            wrapped_key: put.wrapped_key.clone(),
            sealed_manifest: put.sealed_manifest.clone(),
            sealed_listing: put.sealed_listing.clone(),
            blobs,
            lock: None,
            delete_marker: false,
        };
        self.write(&name_key(put.bucket, &put.key), &row);
        self.count(bucket, change)?;
        Ok(Outcome::Done)
    }

    /// Removes the references of a version whose row, that of `key`, goes; returns what it counted
    /// for.
    fn drop_version(
        &mut self,
        key: &RowKey<'_>,
        row: VersionRow,
    ) -> Result<Counters, MachineError> {
        self.count_unsealed(key, &[&row.wrapped_key, &row.sealed_listing])?;
        let counted = Counters {
            objects: u64::from(!row.delete_marker),
            versions: 1,
            bytes: row.size,
            uploads: 0,
        };
        self.drop_blobs(row.blobs)?;
        Ok(counted)
    }

    pub(super) fn delete_object(
        &mut self,
        bucket: BucketId,
        key: &[u8],
        condition: Condition,
    ) -> Step<Outcome> {
        let bucket = self.bucket(bucket)?;
        check_key(key)?;
        let current: Option<VersionRow> = self.read(&name_key(bucket.id, key))?;
        check_condition(condition, current.as_ref())?;
        let Some(row) = current else {
            return Ok(Outcome::Done);
        };
        let minus = self.drop_version(&name_key(bucket.id, key), row)?;
        self.delete(&name_key(bucket.id, key));
        let change = Change {
            plus: Counters::default(),
            minus,
        };
        self.count(&bucket, change)?;
        Ok(Outcome::Done)
    }
}
