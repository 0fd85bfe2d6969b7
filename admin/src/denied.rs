//! Shows and changes the deny list of certificates.

use megalith_client::{ClientError, Metadata, TypedCalls};
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_model::denied::{DeniedCertificate, DenyList, DenyListError};
use megalith_model::question;

/// Why the deny list was not shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeniedError {
    #[error(transparent)]
    List(#[from] DenyListError),
    /// There is nothing to allow again.
    #[error("{0} is not on the deny list; `megalith cert list` shows what is")]
    NotDenied(DeniedCertificate),
    #[error("ask the metadata group")]
    Client(#[source] ClientError),
    #[error("the deny list was not changed: {0}")]
    Refused(Refusal),
}

/// Returns the list.
pub async fn list(meta: &impl Metadata) -> Result<DenyList, DeniedError> {
    let list = meta.ask(question::DenyList).await;
    list.map_err(DeniedError::Client)
}

/// Denies certificates; returns the list as it is then. Denying twice is harmless.
///
/// # Errors
/// [`DeniedError::Client`] with [`ClientError::Rejected`] if that would deny the certificate that
/// asks for it, or a member of the metadata group as a whole. [`DeniedError::Refused`] with
/// [`Refusal::Changed`] if somebody else has changed the list meanwhile.
pub async fn deny(
    meta: &impl Metadata,
    certificate: DeniedCertificate,
) -> Result<DenyList, DeniedError> {
    let mut list = list(meta).await?;
    if !list.deny(certificate) {
        return Ok(list);
    }
    set(meta, list).await
}

/// Allows again what an entry has denied; returns the list as it is then.
///
/// # Errors
/// [`DeniedError::NotDenied`] if there is no such entry; else as [`deny`].
pub async fn allow(
    meta: &impl Metadata,
    certificate: DeniedCertificate,
) -> Result<DenyList, DeniedError> {
    let mut list = list(meta).await?;
    if !list.allow(&certificate) {
        return Err(DeniedError::NotDenied(certificate));
    }
    set(meta, list).await
}

async fn set(meta: &impl Metadata, mut list: DenyList) -> Result<DenyList, DeniedError> {
    list.check()?;
    list.revision = list.revision.saturating_add(1);
    let envelope = Envelope {
        key: None,
        command: Command::SetDenyList(list.clone()),
    };
    let answer = meta.propose(envelope).await;
    let answer = answer.map_err(DeniedError::Client)?;
    answer.map_err(DeniedError::Refused)?;
    Ok(list)
}
