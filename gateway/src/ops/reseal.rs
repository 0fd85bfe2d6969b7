//! One gateway's part in a rotation of key-encryption keys: it seals rows again, a step at a time.
//!
//! What a step may change, and when it is done, is judged where it is applied
//! ([`megalith_model::rotation`]).

use super::error::OpError;
use super::{Rejection, Store, judged, owner};
use megalith_crypto::{CryptoError, KeyRing, ListingContext, ObjectContext, UploadContext};
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_model::query::ResealPage;
use megalith_model::question;
use megalith_model::rotation::{Resealed, Rotation, SealedRow};

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stepped {
    /// There are no rows to pass, or there is no rotation.
    Nothing,
    /// The same rows were another gateway's, too.
    Overtaken,
    /// So many rows were sealed again; so many did not open.
    Rows { resealed: usize, closed: usize },
}

impl Store {
    /// How far the rotation is, if there ever was one.
    pub(crate) async fn rotation(&self) -> Result<Option<Rotation>, OpError> {
        self.ask(question::Rotation).await
    }

    /// Seals the next rows again. Another gateway may do the same at the same time: then one of the
    /// two steps is refused.
    ///
    /// Its key is taken before the ring, so that a ring that a restore has outdated seals nothing.
    pub(crate) async fn reseal_step(&self) -> Result<Stepped, OpError> {
        let id = self.new_key().await?;
        let ResealPage { rotation, rows } = self.ask(question::ToReseal).await?;
        let Some(rotation) = rotation else {
            return Ok(Stepped::Nothing);
        };
        let to = rotation.to;
        self.keys().renew(to).await?;
        let ring = self.keys().ring().await?;
        let cluster = self.keys().cluster().0;
        let work = move || {
            let rows = rows.into_iter();
            rows.map(|(row_key, row)| resealed(&ring, cluster, row_key, &row))
                .collect::<Result<Vec<_>, _>>()
        };
        let rows = tokio::task::spawn_blocking(work);
        let rows = rows
            .await
            .map_err(|error| OpError::Internal(format!("seal rows again: {error}")))?
            .map_err(OpError::sealing)?;
        let closed = rows.iter().filter(|row| row.records.is_empty()).count();
        let stepped = Stepped::Rows {
            resealed: rows.len() - closed,
            closed,
        };
        match self.propose(&id, Command::Reseal { to, rows }).await {
            Ok(()) => Ok(stepped),
            Err(Rejection::Refused(Refusal::Changed)) => Ok(Stepped::Overtaken),
            Err(rejection) => Err(rejection.into()),
        }
    }

    /// Deletes the keys before `version`.
    pub(crate) async fn drop_keks(&self, before: u32) -> Result<(), OpError> {
        Ok(self.propose_unkeyed(Command::DropKeks { before }).await?)
    }

    /// Returns the group's time, in milliseconds since 1970.
    pub(crate) fn group_ms(&self) -> u64 {
        self.now_ms()
    }

    /// Proposes a command that is not a client's.
    async fn propose_unkeyed(&self, command: Command) -> Result<(), Rejection> {
        let envelope = Envelope { key: None, command };
        let answer = self.shared.components.meta.propose(envelope).await;
        judged(answer).map(drop)
    }
}

/// Seals the records of one row again. One that doesn't open leaves the row as it is.
fn resealed(
    ring: &KeyRing,
    cluster: [u8; 16],
    row_key: Vec<u8>,
    row: &SealedRow,
) -> Result<Resealed, CryptoError> {
    let records = match again(ring, cluster, row) {
        Err(CryptoError::Unauthentic) => {
            let (kind, id) = kind(row);
            tracing::error!(kind, id, "a sealed row does not open: its key is kept");
            Vec::new()
        }
        other => other?,
    };
    Ok(Resealed {
        row_key,
        was: row.digest(),
        records,
    })
}

fn again(ring: &KeyRing, cluster: [u8; 16], row: &SealedRow) -> Result<Vec<Vec<u8>>, CryptoError> {
    Ok(match row {
        SealedRow::Version {
            bucket,
            key,
            version,
            size,
            wrapped_key,
            sealed_listing,
        } => {
            let object = ObjectContext {
                cluster,
                bucket: bucket.0,
                key,
                version: version.0,
            };
            let listed = ListingContext {
                key,
                version: version.0,
                plain_len: *size,
            };
            let listing = ring.listing(bucket.0);
            vec![
                ring.rewrap(wrapped_key, &object)?,
                listing.reseal(listed, sealed_listing)?,
            ]
        }
        SealedRow::Upload {
            bucket,
            key,
            upload,
            wrapped_key,
        } => {
            let upload = UploadContext {
                cluster,
                bucket: bucket.0,
                key,
                upload: upload.0,
            };
            vec![ring.rewrap_upload(wrapped_key, &upload)?]
        }
        SealedRow::Bucket {
            bucket,
            name,
            sealed_owner,
        } => vec![owner::reseal(ring, *bucket, name, sealed_owner)?],
        SealedRow::AccessKey {
            access_key,
            sealed_credential,
        } => vec![ring.credentials().reseal(access_key, sealed_credential)?],
    })
}

/// Says which row it is, without a user's words.
fn kind(row: &SealedRow) -> (&'static str, String) {
    match row {
        SealedRow::Version { version, .. } => ("version", version.to_string()),
        SealedRow::Upload { upload, .. } => ("upload", upload.to_string()),
        SealedRow::Bucket { bucket, .. } => ("bucket", bucket.to_string()),
        SealedRow::AccessKey { access_key, .. } => ("access key", access_key.clone()),
    }
}
