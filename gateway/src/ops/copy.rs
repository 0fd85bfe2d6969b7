//! Copies objects within the cluster: wraps the data key again; no byte moves.

use super::conditions::{ReadConditions, WriteConditions};
use super::error::OpError;
use super::get::{FoundObject, GetRequest};
use super::ids::new_version;
use super::names::{check_key, check_user_metadata};
use super::put::{NewVersion, ObjectName};
use super::write::Description;
use super::{Caller, Rejection, Store};
use megalith_blobs::LeasedId;
use megalith_crypto::Manifest;
use megalith_crypto::manifest::Checksum;
use megalith_model::command::{Command, ObjectBlobs, PutObject, Refusal};
use std::sync::Arc;

/// How often a copy is tried if its source is replaced meanwhile.
const TRIES_MAX: usize = 3;

/// What to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySource {
    pub bucket: String,
    pub key: String,
    /// Its version, as the client wrote it.
    pub version: Option<String>,
    /// On which conditions to copy it.
    pub conditions: ReadConditions,
}

/// Where headers and user metadata come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataSource {
    Copied,
    Replaced(Description),
}

/// An object to copy.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    pub source: CopySource,
    pub bucket: String,
    pub key: String,
    /// Headers and user metadata of the copy.
    pub metadata: MetadataSource,
    /// On which conditions to write it.
    pub conditions: WriteConditions,
}

/// A copy that has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOutput {
    /// The ETag without quotes.
    pub etag: String,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    pub checksums: Vec<Checksum>,
}

impl CopySource {
    /// Finds and opens the source. A precondition that doesn't hold is an error here, even if a
    /// read would answer "not modified".
    pub(super) async fn find(
        &self,
        store: &Store,
        caller: Caller,
        with_blobs: bool,
    ) -> Result<FoundObject, OpError> {
        let request = GetRequest {
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            version: self.version.clone(),
            conditions: self.conditions.clone(),
            ..GetRequest::default()
        };
        match store.find(caller, &self.bucket, &request, with_blobs).await {
            Err(OpError::NotModified { .. }) => Err(OpError::PreconditionFailed(
                "x-amz-copy-source-If-None-Match",
            )),
            other => other,
        }
    }
}

impl Store {
    /// Copies an object.
    ///
    /// # Errors
    /// See [`OpError`]; [`OpError::InvalidRequest`] for a copy onto itself that changes nothing.
    pub async fn copy(&self, caller: Caller, request: &CopyRequest) -> Result<CopyOutput, OpError> {
        check_key(&request.key)?;
        let onto_itself =
            request.source.bucket == request.bucket && request.source.key == request.key;
        if onto_itself && request.metadata == MetadataSource::Copied {
            return Err(OpError::InvalidRequest(
                "This copy request is illegal because it is trying to copy an object to itself \
                 without changing the object's metadata, storage class, website redirect \
                 location or encryption attributes."
                    .to_owned(),
            ));
        }
        if let MetadataSource::Replaced(description) = &request.metadata {
            check_user_metadata(&description.user_metadata)?;
        }
        for _ in 0..TRIES_MAX {
            match self.copy_once(caller, request).await {
                Err(Rejection::Refused(Refusal::SourceGone)) => {}
                other => return other.map_err(OpError::from),
            }
        }
        Err(OpError::SlowDown(
            "the source of the copy is replaced again and again",
        ))
    }

    async fn copy_once(
        &self,
        caller: Caller,
        request: &CopyRequest,
    ) -> Result<CopyOutput, Rejection> {
        let failed = Rejection::Failed;
        let found = request
            .source
            .find(self, caller, false)
            .await
            .map_err(failed)?;
        let owned = self
            .bucket_now(caller, &request.bucket)
            .await
            .map_err(failed)?;
        let wish = request.conditions.clone().wish().map_err(failed)?;
        let object = ObjectName {
            bucket: owned.row.id,
            key: &request.key,
        };
        let first = self.condition(object, &wish).await.map_err(failed)?;
        let mut manifest = Manifest::clone(&found.manifest);
        if let MetadataSource::Replaced(description) = &request.metadata {
            manifest.headers = description.headers.clone();
            manifest.user_metadata = description.user_metadata.clone();
        }
        let blobs = ObjectBlobs::Shared {
            bucket: found.bucket,
            key: request.source.key.as_bytes().to_vec(),
            version: found.version,
        };
        let written = self.with_key(async |id: Arc<LeasedId>| {
            let timed = self.timed(async |time_ms| {
                let version = new_version(time_ms).map_err(failed)?;
                let new = NewVersion {
                    object,
                    version,
                    etag: &found.etag,
                };
                let sealed = self.seal(new, &found.key, &manifest, blobs.clone());
                let sealed = sealed.map_err(failed)?;
                let command = |condition| {
                    Command::PutObject(Box::new(PutObject {
                        condition,
                        ..sealed.clone()
                    }))
                };
                self.commit(&id, object, &wish, first, command).await?;
                Ok(time_ms)
            });
            timed.await
        });
        let modified_ms = written.await?;
        Ok(CopyOutput {
            etag: found.etag,
            modified_ms,
            checksums: manifest.checksums,
        })
    }
}
