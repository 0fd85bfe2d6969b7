//! Objects: written, copied without bytes, deleted. Buckets keep one version of each key so far,
//! but the rows are already those of versioned buckets.

use super::context::{Machine, Step, malformed};
use super::counters::Change;
use super::{KEY_LEN_MAX, MachineError};
use crate::command::{Condition, ObjectBlobs, Outcome, PutObject, Refusal};
use crate::ids::{BlobId, BucketId, VersionId};
use crate::keys::RowKey;
use crate::rows::{BucketRow, Counters, NameRow, VersionRow};
use std::borrow::Cow;

/// Returns the key of a key's name row.
pub(super) fn name_key(bucket: BucketId, key: &[u8]) -> RowKey<'_> {
    RowKey::Name {
        bucket,
        key: Cow::Borrowed(key),
    }
}

/// Returns the key of the row of one version.
pub(super) fn version_key(bucket: BucketId, key: &[u8], version: VersionId) -> RowKey<'_> {
    RowKey::Version {
        bucket,
        key: Cow::Borrowed(key),
        version,
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
pub(super) fn check_condition(condition: Condition, current: Option<&NameRow>) -> Step<()> {
    let visible = current
        .filter(|name| !name.delete_marker)
        .map(|name| name.version);
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
        let row: Option<BucketRow> = self.read(&RowKey::Bucket(bucket))?;
        row.ok_or_else(|| Refusal::NoSuchBucket.into())
    }

    pub(super) fn put_object(&mut self, put: &PutObject) -> Step<Outcome> {
        let bucket = self.bucket(put.bucket)?;
        let current = self.may_put(put)?;
        let blobs = match &put.blobs {
            ObjectBlobs::New(new) => {
                self.add_blob(new)?;
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
    pub(super) fn may_put(&self, put: &PutObject) -> Step<Option<NameRow>> {
        check_key(&put.key)?;
        self.check_sealed_time(put.version.time_ms())?;
        let current: Option<NameRow> = self.read(&name_key(put.bucket, &put.key))?;
        check_condition(put.condition, current.as_ref())?;
        if self.exists(&version_key(put.bucket, &put.key, put.version))? {
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
        let source: Option<VersionRow> = self.read(&version_key(bucket, key, version))?;
        let Some(source) = source.filter(|row| !row.delete_marker) else {
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
        current: Option<NameRow>,
        blobs: Vec<BlobId>,
    ) -> Step<Outcome> {
        let mut change = Change {
            plus: Counters {
                objects: 1,
                versions: 1,
                bytes: put.size,
                uploads: 0,
            },
            minus: Counters::default(),
        };
        if let Some(old) = &current {
            change.minus = self.drop_version(put.bucket, &put.key, old)?;
        }
        let row = VersionRow {
            size: put.size,
            wrapped_key: put.wrapped_key.clone(),
            sealed_manifest: put.sealed_manifest.clone(),
            sealed_listing: put.sealed_listing.clone(),
            blobs,
            delete_marker: false,
        };
        self.write(&version_key(put.bucket, &put.key, put.version), &row);
        let name = NameRow {
            version: put.version,
            size: put.size,
            sealed_listing: put.sealed_listing.clone(),
            delete_marker: false,
        };
        self.write(&name_key(put.bucket, &put.key), &name);
        self.count(bucket, change)?;
        Ok(Outcome::Object {
            replaced: current.map(|old| old.version),
        })
    }

    /// Removes a current version's row and its blobs' references; returns what it counted for.
    fn drop_version(
        &mut self,
        bucket: BucketId,
        key: &[u8],
        name: &NameRow,
    ) -> Result<Counters, MachineError> {
        let version_key = version_key(bucket, key, name.version);
        let row: VersionRow = self.require(&version_key)?;
        self.delete(&version_key);
        let bytes = row.size;
        self.drop_blobs(row.blobs)?;
        Ok(Counters {
            objects: u64::from(!name.delete_marker),
            versions: 1,
            bytes,
            uploads: 0,
        })
    }

    pub(super) fn delete_object(
        &mut self,
        bucket: BucketId,
        key: &[u8],
        condition: Condition,
    ) -> Step<Outcome> {
        let bucket = self.bucket(bucket)?;
        check_key(key)?;
        let current: Option<NameRow> = self.read(&name_key(bucket.id, key))?;
        check_condition(condition, current.as_ref())?;
        let Some(name) = current else {
            return Ok(Outcome::Object { replaced: None });
        };
        let minus = self.drop_version(bucket.id, key, &name)?;
        self.delete(&name_key(bucket.id, key));
        let change = Change {
            plus: Counters::default(),
            minus,
        };
        self.count(&bucket, change)?;
        Ok(Outcome::Object {
            replaced: Some(name.version),
        })
    }
}
