//! Writes one object from one body.

use super::checksum::Computed;
use super::conditions::{WriteConditions, WriteWish};
use super::error::OpError;
use super::ids::new_version;
use super::names::{check_key, check_user_metadata};
use super::write::{Body, CheckedBlob, Description, Writing};
use super::{Caller, Rejection, Store};
use megalith_crypto::manifest::{Checksum, ChecksumType};
use megalith_crypto::{
    DataKey, ListingContext, ListingEntry, Manifest, ManifestPart, ObjectContext,
};
use megalith_model::command::{Command, Condition, ObjectBlobs, PutObject, Refusal};
use megalith_model::ids::{BucketId, VersionId};

/// An object to write.
pub struct PutRequest {
    pub bucket: String,
    pub key: String,
    pub body: Body,
    /// Headers and user metadata.
    pub description: Description,
    /// On which conditions to write it.
    pub conditions: WriteConditions,
}

/// An object that has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOutput {
    /// The ETag without quotes.
    pub etag: String,
    /// The checksums that were computed.
    pub checksums: Vec<Checksum>,
}

/// An object's name, once its bucket is found.
#[derive(Clone, Copy)]
pub(super) struct ObjectName<'a> {
    pub(super) bucket: BucketId,
    pub(super) key: &'a str,
}

/// A version that is about to be written.
#[derive(Clone, Copy)]
pub(super) struct NewVersion<'a> {
    pub(super) object: ObjectName<'a>,
    pub(super) version: VersionId,
    /// Its ETag without quotes.
    pub(super) etag: &'a str,
}

impl Store {
    /// Writes an object. Returns when it is durable and visible to all readers.
    ///
    /// # Errors
    /// See [`OpError`]. After [`OpError::Unavailable`] the object may have been written.
    pub async fn put(&self, caller: Caller, request: PutRequest) -> Result<PutOutput, OpError> {
        let PutRequest {
            bucket,
            key,
            body,
            description,
            conditions,
        } = request;
        check_key(&key)?;
        check_user_metadata(&description.user_metadata)?;
        let wish = conditions.wish()?;
        let (name, wished) = (key.as_str(), &wish);
        let look = |bucket| self.condition(ObjectName { bucket, key: name }, wished);
        let (mut owned, first) = self.in_bucket(caller, &bucket, look).await?;
        let mut writing = self.take_body(caller, body).await?;
        loop {
            let object = ObjectName {
                bucket: owned.row.id,
                key: &key,
            };
            let put = self.put_once(object, &mut writing, &description, &wish, first);
            match put.await {
                Ok(output) => return Ok(output),
                Err(Rejection::Refused(Refusal::NoSuchBucket)) if owned.is_kept() => {
                    // The bucket is gone, or was created again under the same name.
                    owned = self.bucket_now(caller, &bucket).await?;
                    writing.once_more(OpError::SlowDown("the cluster changed during the write"))?;
                }
                Err(rejection) => writing.again(rejection)?,
            }
        }
    }

    async fn put_once(
        &self,
        object: ObjectName<'_>,
        writing: &mut Writing,
        description: &Description,
        wish: &WriteWish,
        first: Condition,
    ) -> Result<PutOutput, Rejection> {
        let failed = Rejection::Failed;
        let data_key = DataKey::generate().map_err(|error| failed(OpError::sealing(error)))?;
        let written = self.write(writing, &data_key, 0).await?;
        let CheckedBlob {
            id,
            blob,
            iv,
            computed,
        } = written;
        let manifest = Manifest {
            parts: vec![ManifestPart {
                number: 0,
                plain_len: plain_len(&blob).map_err(failed)?,
                blob: blob.blob.0,
                iv,
                checksums: Vec::new(),
                key: None,
            }],
            checksums: sealed_checksums(&computed),
            headers: description.headers.clone(),
            user_metadata: description.user_metadata.clone(),
            tags: Vec::new(),
        };
        let etag = hex::encode(computed.md5);
        let blobs = ObjectBlobs::New(blob);
        let committed = self.timed(async |time_ms| {
            let version = new_version(time_ms).map_err(failed)?;
            let new = NewVersion {
                object,
                version,
                etag: &etag,
            };
            let sealed = self.seal(new, &data_key, &manifest, blobs.clone());
            let sealed = sealed.await.map_err(failed)?;
            let command = |condition| {
                Command::PutObject(Box::new(PutObject {
                    condition,
                    ..sealed.clone()
                }))
            };
            self.commit(&id, object, wish, first, command).await
        });
        committed.await?;
        Ok(PutOutput {
            etag,
            checksums: manifest.checksums,
        })
    }

    /// Seals all that is stored of a version besides its bytes. Leaves its condition open.
    pub(super) async fn seal(
        &self,
        new: NewVersion<'_>,
        data_key: &DataKey,
        manifest: &Manifest,
        blobs: ObjectBlobs,
    ) -> Result<PutObject, OpError> {
        let NewVersion {
            object: ObjectName { bucket, key },
            version,
            etag,
        } = new;
        let context = ObjectContext {
            cluster: self.keys().cluster().0,
            bucket: bucket.0,
            key: key.as_bytes(),
            version: version.0,
        };
        let size = manifest
            .total_len()
            .ok_or_else(|| OpError::Internal("an object without a length".to_owned()))?;
        let entry = ListingEntry {
            etag: etag.to_owned(),
            checksum_algorithms: manifest
                .checksums
                .iter()
                .map(|checksum| checksum.algorithm.clone())
                .collect(),
            checksum_type: checksum_type(&manifest.checksums),
            storage_class: "STANDARD".to_owned(),
        };
        let listed = ListingContext {
            key: key.as_bytes(),
            version: version.0,
            plain_len: size,
        };
        let listing = self.keys().listing(bucket).await?;
        let ring = self.keys().ring().await?;
        Ok(PutObject {
            bucket,
            key: key.as_bytes().to_vec(),
            version,
            size,
            condition: Condition::None,
            wrapped_key: ring.wrap(data_key, &context).map_err(OpError::sealing)?,
            sealed_manifest: manifest
                .seal(data_key, &context)
                .map_err(OpError::sealing)?,
            sealed_listing: listing.seal(listed, &entry).map_err(OpError::sealing)?,
            blobs,
        })
    }
}

/// What an object's checksums cover.
pub(super) fn checksum_type(checksums: &[Checksum]) -> Option<ChecksumType> {
    checksums.first().map(|checksum| checksum.covers)
}

pub(super) fn sealed_checksums(computed: &Computed) -> Vec<Checksum> {
    computed
        .checksums
        .iter()
        .map(super::checksum::Value::sealed)
        .collect()
}

/// A new blob's plaintext length.
pub(super) fn plain_len(blob: &megalith_model::command::NewBlob) -> Result<u64, OpError> {
    megalith_crypto::cell::plain_len(blob.len)
        .map_err(|_| OpError::Internal("a blob of a length that none has".to_owned()))
}
