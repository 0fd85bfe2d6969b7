//! s3s's view of us: which operations there are. Each is a few lines in a module of its kind;
//! all others answer NotImplemented, which is s3s's default.

use super::convert::account_number;
use super::error::s3_error;
use super::refuse::expected_owner;
use super::{buckets, lists, objects, read, uploads};
use crate::auth::{CredentialError, Credentials};
use crate::ops::{Caller, OpError, Store};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use std::sync::Arc;

/// The operations as s3s calls them.
#[derive(Clone)]
pub struct Api {
    pub(super) store: Store,
    pub(super) credentials: Arc<Credentials>,
    pub(super) region: Arc<str>,
}

impl Api {
    /// Builds the face over the operations.
    #[must_use]
    pub fn new(store: Store, credentials: Arc<Credentials>, region: &str) -> Self {
        Self {
            store,
            credentials,
            region: region.into(),
        }
    }

    /// Finds who signed a request, and checks once more for which region and service.
    pub(super) async fn caller<T>(&self, request: &S3Request<T>) -> S3Result<Caller> {
        if let Some(Verified(caller)) = request.extensions.get() {
            return Ok(*caller);
        }
        let denied = || s3_error(OpError::AccessDenied);
        let credentials = request.credentials.as_ref().ok_or_else(denied)?;
        let region = request.region.as_ref().map(s3s::region::Region::as_str);
        if region != Some(&*self.region) || request.service.as_deref() != Some("s3") {
            return Err(denied());
        }
        let known = self
            .credentials
            .find(&credentials.access_key)
            .await
            .map_err(credential_error)?;
        Ok(known.caller)
    }

    /// Finds who signed a request, where it also says whose bucket it expects.
    pub(super) async fn caller_of<T>(
        &self,
        request: &S3Request<T>,
        expected: Option<&String>,
    ) -> S3Result<Caller> {
        let caller = self.caller(request).await?;
        expected_owner(caller, expected)?;
        Ok(caller)
    }
}

/// Who signed a request that was verified once already. Only [`super::service`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Verified(pub(super) Caller);

/// Gives s3s the secrets that requests are verified with.
pub(super) struct Secrets(pub(super) Arc<Credentials>);

#[async_trait::async_trait]
impl S3Auth for Secrets {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let known = self.0.find(access_key).await.map_err(credential_error)?;
        tracing::trace!(
            account = account_number(known.caller),
            "a request names its key"
        );
        Ok(SecretKey::from(known.secret.expose()))
    }
}

pub(super) fn credential_error(error: CredentialError) -> S3Error {
    match error {
        CredentialError::Unknown => S3Error::with_message(
            S3ErrorCode::InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records.",
        ),
        CredentialError::Unavailable(why) => s3_error(OpError::Unavailable(why)),
    }
}

/// Forwards an operation to the function that serves it.
macro_rules! forward {
    ($($name:ident: $input:ty => $output:ty = $serve:path;)+) => {
        #[async_trait::async_trait]
        impl S3 for Api {
            $(
                async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    $serve(self, request).await
                }
            )+
        }
    };
}

forward! {
    create_bucket: CreateBucketInput => CreateBucketOutput = buckets::create;
    head_bucket: HeadBucketInput => HeadBucketOutput = buckets::head;
    delete_bucket: DeleteBucketInput => DeleteBucketOutput = buckets::delete;
    list_buckets: ListBucketsInput => ListBucketsOutput = buckets::list;
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput = buckets::location;
    get_bucket_versioning: GetBucketVersioningInput => GetBucketVersioningOutput
        = buckets::versioning;
    get_bucket_acl: GetBucketAclInput => GetBucketAclOutput = buckets::acl;
    put_object: PutObjectInput => PutObjectOutput = objects::put;
    copy_object: CopyObjectInput => CopyObjectOutput = objects::copy;
    delete_object: DeleteObjectInput => DeleteObjectOutput = objects::delete;
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput = objects::delete_many;
    get_object: GetObjectInput => GetObjectOutput = read::get;
    head_object: HeadObjectInput => HeadObjectOutput = read::head;
    get_object_acl: GetObjectAclInput => GetObjectAclOutput = read::acl;
    get_object_attributes: GetObjectAttributesInput => GetObjectAttributesOutput
        = read::attributes;
    list_objects: ListObjectsInput => ListObjectsOutput = lists::objects;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output = lists::objects_v2;
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput
        = uploads::create;
    upload_part: UploadPartInput => UploadPartOutput = uploads::part;
    upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput = uploads::part_copy;
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput
        = uploads::complete;
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput
        = uploads::abort;
    list_parts: ListPartsInput => ListPartsOutput = lists::parts;
    list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput
        = lists::uploads;
}
