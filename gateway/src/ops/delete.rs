//! Deleting objects.

use super::conditions::{EtagMatch, WriteWish};
use super::error::OpError;
use super::ids::check_version;
use super::names::check_key;
use super::put::ObjectName;
use super::{Caller, Store};
use megalith_blobs::LeasedId;
use megalith_model::command::Command;
use megalith_model::ids::BucketId;
use std::sync::Arc;

/// One object to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRequest {
    pub key: String,
    /// `versionId`, as the client wrote it.
    pub version: Option<String>,
    /// `If-Match`
    pub if_match: Option<EtagMatch>,
}

impl Store {
    /// Deletes an object; if there is none, it succeeds.
    ///
    /// # Errors
    /// [`OpError::PreconditionFailed`] also if there is a condition but no object.
    pub async fn delete(
        &self,
        caller: Caller,
        bucket: &str,
        request: &DeleteRequest,
    ) -> Result<(), OpError> {
        let delete = |bucket| self.delete_in(bucket, request);
        self.in_bucket(caller, bucket, delete).await.map(drop)
    }

    async fn delete_in(&self, bucket: BucketId, request: &DeleteRequest) -> Result<(), OpError> {
        let object = ObjectName {
            bucket,
            key: &request.key,
        };
        check_key(object.key)?;
        check_version(request.version.as_deref())?;
        let wish = request
            .if_match
            .clone()
            .map_or(WriteWish::Always, WriteWish::Matching);
        let gone = |error| match error {
            OpError::NoSuchKey => OpError::PreconditionFailed("If-Match"),
            other => other,
        };
        let first = self.condition(object, &wish).await.map_err(gone)?;
        let command = |condition| Command::DeleteObject {
            bucket,
            key: object.key.as_bytes().to_vec(),
            condition,
        };
        let (command, wish) = (&command, &wish);
        let delete =
            |id: Arc<LeasedId>| async move { self.commit(&id, object, wish, first, command).await };
        let deleted = self.with_key(delete).await;
        deleted.map_err(|rejection| gone(rejection.into()))
    }
}
