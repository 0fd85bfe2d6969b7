//! Conditional writes: turning ETags, which are sealed, into versions that apply can judge.

use super::conditions::WriteWish;
use super::error::OpError;
use super::{Rejection, Store, internal_reply};
use megalith_crypto::{KeyRing, ListingEntry};
use megalith_model::command::{Command, Condition, Outcome, Refusal};
use megalith_model::ids::{BucketId, VersionId};
use megalith_model::query::{ObjectView, Query, Reply};

/// How often a condition is looked at anew because others wrote meanwhile.
const TRIES_MAX: usize = 8;

impl Store {
    /// Asks for an object's current version.
    pub(super) async fn current(
        &self,
        bucket: BucketId,
        key: &str,
        with_blobs: bool,
    ) -> Result<Option<Box<ObjectView>>, OpError> {
        let key = key.as_bytes().to_vec();
        let query = Query::Object {
            bucket,
            key,
            version: None,
            with_blobs,
        };
        match self.query(query).await? {
            Reply::Object(view) => Ok(view),
            _ => Err(internal_reply()),
        }
    }

    /// Opens what a listing shows of a version.
    pub(super) async fn open_listing(
        &self,
        bucket: BucketId,
        key: &[u8],
        version: VersionId,
        sealed: &[u8],
    ) -> Result<ListingEntry, OpError> {
        if let Ok(entry) = self.keys().listing(bucket).open(key, version.0, sealed) {
            return Ok(entry);
        }
        let open = |ring: &KeyRing| ring.listing(bucket.0).open(key, version.0, sealed);
        Ok(self.keys().opened("list row", open).await?)
    }

    /// Finds what apply is to judge a write by; refuses at once what can't hold now.
    pub(super) async fn condition(
        &self,
        bucket: BucketId,
        key: &str,
        wish: &WriteWish,
    ) -> Result<Condition, OpError> {
        match wish {
            WriteWish::Always => Ok(Condition::None),
            WriteWish::Absent => match self.current(bucket, key, false).await? {
                Some(_) => Err(OpError::PreconditionFailed("If-None-Match")),
                None => Ok(Condition::Absent),
            },
            WriteWish::Matching(wanted) => {
                let view = self
                    .current(bucket, key, false)
                    .await?
                    .ok_or(OpError::NoSuchKey)?;
                let sealed = &view.row.sealed_listing;
                let entry = self
                    .open_listing(bucket, key.as_bytes(), view.version, sealed)
                    .await?;
                if wanted.matches(&entry.etag) {
                    Ok(Condition::Version(view.version))
                } else {
                    Err(OpError::PreconditionFailed("If-Match"))
                }
            }
        }
    }

    /// Proposes a write under its condition; where others wrote meanwhile, looks again whether
    /// the condition still holds.
    pub(super) async fn commit(
        &self,
        time_ms: u64,
        (bucket, key): (BucketId, &str),
        wish: &WriteWish,
        first: Condition,
        command: impl Fn(Condition) -> Command + Send,
    ) -> Result<Outcome, Rejection> {
        let mut condition = first;
        for _ in 0..TRIES_MAX {
            match self.propose(time_ms, command(condition)).await {
                Err(Rejection::Refused(Refusal::Condition { .. })) => {
                    condition = self
                        .condition(bucket, key, wish)
                        .await
                        .map_err(Rejection::Failed)?;
                }
                other => return other,
            }
        }
        Err(Rejection::Failed(OpError::ConditionalConflict))
    }
}
