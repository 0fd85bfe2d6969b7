//! Multipart uploads. Parts are blobs under the upload's data key; completing links them.

mod complete;
mod lists;
mod parts;

pub use complete::{CompleteOutput, CompleteRequest, NamedPart, PART_BYTES_MIN};
pub use lists::{ListPartsOutput, ListUploadsOutput, ListUploadsRequest, ListedPart, ListedUpload};
pub use parts::{PartCopyRequest, PartOutput, PartRequest};

use super::checksum::Algorithm;
use super::error::OpError;
use super::ids::new_upload;
use super::names::{check_key, check_user_metadata};
use super::write::Description;
use super::{Caller, Rejection, Store};
use megalith_blobs::LeasedId;
use megalith_crypto::manifest::{Checksum, ChecksumType, ContentHeaders};
use megalith_crypto::{DataKey, Manifest, ObjectContext, UploadContext};
use megalith_model::command::Command;
use megalith_model::ids::{BucketId, UploadId};
use megalith_model::question;
use std::sync::Arc;

/// The most parts of an upload.
pub const PARTS_MAX: u32 = 10_000;

/// An upload as requests name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadName {
    pub bucket: String,
    pub key: String,
    /// The upload's id, as the client wrote it.
    pub upload: String,
}

/// An upload to begin.
#[derive(Clone, Debug)]
pub struct CreateUploadRequest {
    pub bucket: String,
    pub key: String,
    /// Headers and user metadata of the future object.
    pub description: Description,
    /// The checksum that the parts and the object must have, and what it covers.
    pub checksum: Option<(Algorithm, ChecksumType)>,
}

/// An upload that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedUpload {
    /// Its id, as clients see it.
    pub upload: String,
}

/// An upload, found and opened.
struct Opened {
    bucket: BucketId,
    key: String,
    upload: UploadId,
    data_key: DataKey,
    headers: ContentHeaders,
    user_metadata: Vec<(String, String)>,
    checksum: Option<(Algorithm, ChecksumType)>,
}

impl Store {
    /// Begins an upload.
    ///
    /// # Errors
    /// See [`OpError`].
    pub async fn create_upload(
        &self,
        caller: Caller,
        request: CreateUploadRequest,
    ) -> Result<CreatedUpload, OpError> {
        let CreateUploadRequest {
            bucket,
            key,
            description,
            checksum,
        } = request;
        check_key(&key)?;
        check_user_metadata(&description.user_metadata)?;
        if let Some((algorithm, covers)) = checksum
            && !algorithm.allows(covers)
        {
            return Err(OpError::InvalidRequest(format!(
                "The checksum type is not supported by the {} algorithm.",
                algorithm.name()
            )));
        }
        let bucket = self.bucket_now(caller, &bucket).await?.row.id;
        let data_key = DataKey::generate().map_err(OpError::sealing)?;
        let wished = checksum.map(|(algorithm, covers)| Checksum {
            algorithm: algorithm.name().to_owned(),
            value: String::new(),
            covers,
        });
        let manifest = Manifest {
            checksums: wished.into_iter().collect(),
            headers: description.headers,
            user_metadata: description.user_metadata,
            ..Manifest::default()
        };
        let failed = |error| Rejection::Failed(OpError::sealing(error));
        let created = self.with_key(async |id: Arc<LeasedId>| {
            let timed = self.timed(async |time_ms| {
                let upload = new_upload(time_ms).map_err(Rejection::Failed)?;
                let context = self.upload_context(bucket, &key, upload);
                let ring = self.keys().ring().await;
                let ring = ring.map_err(|error| Rejection::Failed(error.into()))?;
                let wrapped_key = ring.wrap_upload(&data_key, &context).map_err(failed)?;
                let sealed_manifest = manifest.seal(&data_key, &as_object(&context));
                let command = Command::CreateUpload {
                    bucket,
                    key: key.clone().into_bytes(),
                    upload,
                    wrapped_key,
                    sealed_manifest: sealed_manifest.map_err(failed)?,
                };
                self.propose(&id, command).await?;
                Ok(upload)
            });
            timed.await
        });
        Ok(CreatedUpload {
            upload: created.await?.to_string(),
        })
    }

    /// Drops an upload and its parts.
    ///
    /// # Errors
    /// [`OpError::NoSuchUpload`].
    pub async fn abort_upload(&self, caller: Caller, name: &UploadName) -> Result<(), OpError> {
        let bucket = self.bucket_now(caller, &name.bucket).await?.row.id;
        let upload = parse_upload(&name.upload)?;
        let abort = Command::AbortUpload {
            bucket,
            key: name.key.as_bytes().to_vec(),
            upload,
        };
        let abort = |key: Arc<LeasedId>| {
            let abort = abort.clone();
            async move { self.propose(&key, abort).await }
        };
        self.with_key(abort).await?;
        Ok(())
    }

    /// Finds an upload of the caller and opens it.
    async fn open_upload(&self, caller: Caller, name: &UploadName) -> Result<Opened, OpError> {
        check_key(&name.key)?;
        let open = |bucket| async move {
            let upload = parse_upload(&name.upload)?;
            self.open_upload_in(bucket, &name.key, upload).await
        };
        let (_, opened) = self.in_bucket(caller, &name.bucket, open).await?;
        Ok(opened)
    }

    async fn open_upload_in(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
    ) -> Result<Opened, OpError> {
        let asked = question::Upload {
            bucket,
            key: key.as_bytes().to_vec(),
            upload,
        };
        let row = self.ask(asked).await?.ok_or(OpError::NoSuchUpload)?;
        let context = self.upload_context(bucket, key, upload);
        let data_key = self
            .keys()
            .unwrap_upload(&row.wrapped_key, &context)
            .await?;
        let manifest = Manifest::open(&data_key, &as_object(&context), 0, &row.sealed_manifest)
            .map_err(|_| OpError::Damaged("upload"))?;
        let checksum = manifest.checksums.first().map(|wished| {
            let algorithm =
                Algorithm::parse(&wished.algorithm).ok_or(OpError::Damaged("upload"))?;
            Ok::<_, OpError>((algorithm, wished.covers))
        });
        Ok(Opened {
            bucket,
            key: key.to_owned(),
            upload,
            data_key,
            headers: manifest.headers,
            user_metadata: manifest.user_metadata,
            checksum: checksum.transpose()?,
        })
    }

    fn upload_context<'a>(
        &self,
        bucket: BucketId,
        key: &'a str,
        upload: UploadId,
    ) -> UploadContext<'a> {
        UploadContext {
            cluster: self.keys().cluster().0,
            bucket: bucket.0,
            key: key.as_bytes(),
            upload: upload.0,
        }
    }
}

/// An upload's description is sealed under the upload's own data key, as if for a version with the
/// upload's id. The version that the upload becomes has another id (see `version_of_upload`), and
/// no other key seals both, so neither can replace the other.
fn as_object<'a>(upload: &UploadContext<'a>) -> ObjectContext<'a> {
    ObjectContext {
        cluster: upload.cluster,
        bucket: upload.bucket,
        key: upload.key,
        version: upload.upload,
    }
}

fn parse_upload(text: &str) -> Result<UploadId, OpError> {
    text.parse().map_err(|_| OpError::NoSuchUpload)
}

/// Checks a part's number.
fn check_part_number(number: i64) -> Result<u32, OpError> {
    match u32::try_from(number) {
        Ok(number) if (1..=PARTS_MAX).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(OpError::InvalidArgument(
            "Part number must be an integer between 1 and 10000, inclusive".to_owned(),
        )),
    }
}
