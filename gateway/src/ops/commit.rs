//! Conditional writes: turning ETags, which are sealed, into versions that apply can judge.

use super::conditions::WriteWish;
use super::error::OpError;
use super::put::ObjectName;
use super::{Rejection, Store};
use megalith_blobs::LeasedId;
use megalith_crypto::ListingContext;
use megalith_model::command::{Command, Condition, Refusal};
use std::future::Future;

/// How often a condition is checked again because others have written meanwhile.
const TRIES_MAX: usize = 8;
/// How often something is sealed: anew if the group finds the time too far from its own, or the
/// key replaced.
const SEALS_MAX: usize = 3;

impl Store {
    /// Turns a precondition into one that apply can check; fails now if it already does not hold.
    pub(super) async fn condition(
        &self,
        object: ObjectName<'_>,
        wish: &WriteWish,
    ) -> Result<Condition, OpError> {
        match wish {
            WriteWish::Always => Ok(Condition::None),
            WriteWish::Absent => match self.current(object, false).await? {
                Some(_) => Err(OpError::PreconditionFailed("If-None-Match")),
                None => Ok(Condition::Absent),
            },
            WriteWish::Matching(wanted) => {
                let view = self
                    .current(object, false)
                    .await?
                    .ok_or(OpError::NoSuchKey)?;
                let version = view.row.version;
                let listed = ListingContext {
                    key: object.key.as_bytes(),
                    version: version.0,
                    plain_len: view.row.size,
                };
                let sealed = &view.row.sealed_listing;
                let entry = self.open_listing(object.bucket, listed, sealed).await?;
                if wanted.matches(&entry.etag) {
                    Ok(Condition::Version(version))
                } else {
                    Err(OpError::PreconditionFailed("If-Match"))
                }
            }
        }
    }

    /// Proposes a write under the key `id` with its condition; if others have written meanwhile,
    /// checks again whether the condition still holds.
    pub(super) async fn commit(
        &self,
        id: &LeasedId,
        object: ObjectName<'_>,
        wish: &WriteWish,
        first: Condition,
        command: impl Fn(Condition) -> Command + Send,
    ) -> Result<(), Rejection> {
        let mut condition = first;
        for _ in 0..TRIES_MAX {
            match self.propose(id, command(condition)).await {
                Err(Rejection::Refused(Refusal::Condition { .. })) => {
                    condition = self
                        .condition(object, wish)
                        .await
                        .map_err(Rejection::Failed)?;
                }
                other => return other,
            }
        }
        Err(Rejection::Failed(OpError::ConditionalConflict))
    }

    /// Seals the group's time into what `propose` writes, and proposes it. The gateway only reckons
    /// that time, and may not have heard of a newer key-encryption key; a refusal has told it, and
    /// it is sealed anew then.
    pub(super) async fn timed<T, F>(&self, propose: impl Fn(u64) -> F) -> Result<T, Rejection>
    where
        F: Future<Output = Result<T, Rejection>>,
    {
        let mut time_ms = self.now_ms();
        for _ in 1..SEALS_MAX {
            match propose(time_ms).await {
                Err(Rejection::Refused(Refusal::SealedTime { now_ms })) => time_ms = now_ms,
                Err(Rejection::Refused(Refusal::KekReplaced { newest })) => {
                    let renewed = self.keys().renew(newest).await;
                    renewed.map_err(|error| Rejection::Failed(error.into()))?;
                }
                other => return other,
            }
        }
        propose(time_ms).await
    }
}
