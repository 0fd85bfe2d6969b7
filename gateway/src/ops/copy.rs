//! Copies objects within the cluster: wraps the data key again; no byte moves. Only a checksum that
//! the source doesn't have is computed from its bytes.

use super::checksum::Algorithm;
use super::conditions::{ReadConditions, WriteConditions};
use super::error::OpError;
use super::get::{FoundObject, GetRequest, get_error};
use super::ids::new_version;
use super::names::{check_key, check_user_metadata};
use super::put::{NewVersion, ObjectName, sealed_checksums};
use super::write::{BODY_BYTES_MAX, Description, computed, hashes_of};
use super::{Caller, Rejection, Store};
use futures::StreamExt as _;
use megalith_blobs::{Hasher, LeasedId};
use megalith_crypto::Manifest;
use megalith_crypto::manifest::{Checksum, ChecksumType};
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
    /// The checksum that the copy must have; None keeps that of the source.
    pub checksum: Option<Algorithm>,
    /// Whether it is to be kept otherwise than its source, if only by name: encryption, class.
    pub kept_otherwise: bool,
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
        let changes = request.kept_otherwise || request.checksum.is_some();
        if onto_itself && request.metadata == MetadataSource::Copied && !changes {
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

    /// Returns a checksum of a whole object: the one that it has, or one computed from its bytes.
    async fn checksum_of(
        &self,
        found: &FoundObject,
        algorithm: Algorithm,
    ) -> Result<Checksum, OpError> {
        let fits = |checksum: &&Checksum| {
            checksum.algorithm == algorithm.name() && checksum.covers == ChecksumType::FullObject
        };
        if let Some(known) = found.manifest.checksums.iter().find(fits) {
            return Ok(known.clone());
        }
        if found.size > BODY_BYTES_MAX {
            return Err(OpError::InvalidRequest(format!(
                "The specified copy source is larger than the maximum allowable size for a copy \
                 source: {BODY_BYTES_MAX}"
            )));
        }
        let mut hasher = Hasher::new(hashes_of([algorithm].into_iter()));
        let plaintext = self.read(found, 0..found.size).await;
        let mut plaintext = plaintext.map_err(get_error)?;
        while let Some(piece) = plaintext.next().await {
            hasher.update(&piece.map_err(get_error)?);
        }
        let computed = sealed_checksums(&computed(&hasher.finish()));
        let first = computed.into_iter().next();
        first.ok_or_else(|| OpError::Internal("a checksum was not computed".to_owned()))
    }

    async fn copy_once(
        &self,
        caller: Caller,
        request: &CopyRequest,
    ) -> Result<CopyOutput, Rejection> {
        let failed = Rejection::Failed;
        let found = request
            .source
            .find(self, caller, request.checksum.is_some())
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
        if let Some(algorithm) = request.checksum {
            let checksum = self.checksum_of(&found, algorithm).await.map_err(failed)?;
            if !manifest.checksums.contains(&checksum) {
                // Those of its parts are of another algorithm.
                for part in &mut manifest.parts {
                    part.checksums.clear();
                }
            }
            manifest.checksums = vec![checksum];
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
                let sealed = sealed.await.map_err(failed)?;
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
