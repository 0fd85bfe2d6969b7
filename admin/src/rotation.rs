//! Begins rotations of key-encryption keys and says how far they are. Gateways do the work.

use megalith_client::{ClientError, Metadata, TypedCalls as _};
use megalith_keyring::root::{RootError, Roots};
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_model::ids::ClusterId;
use megalith_model::question;
use megalith_model::rotation::Rotation;
use std::slice::from_ref;

/// Why a rotation was not begun.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error("ask the metadata group")]
    Client(#[from] ClientError),
    /// There is no key to replace.
    #[error("the cluster has no key-encryption keys yet: its first gateway makes one")]
    NoKeks,
    /// Another root would seal a key that no gateway could open.
    #[error("open the cluster's newest key-encryption key")]
    Root(#[source] RootError),
    #[error("make a key-encryption key")]
    Make(#[source] RootError),
    #[error("the rotation was not begun: {0}")]
    Refused(Refusal),
}

/// Returns how far the rotation is, if there ever was one.
///
/// # Errors
/// [`RotationError::Client`].
pub async fn rotation(meta: &dyn Metadata) -> Result<Option<Rotation>, RotationError> {
    Ok(meta.ask(question::Rotation).await?)
}

/// Makes the next key-encryption key, sealed as the cluster's new ones are, and begins to seal
/// everything again under it. `grace_ms` is for how long the older ones stay when nothing needs
/// them any more.
///
/// # Errors
/// [`RotationError::Refused`] while another rotation has rows to pass, or below the level of
/// rotations; else see [`RotationError`].
pub async fn begin(
    meta: &dyn Metadata,
    cluster: ClusterId,
    roots: &Roots,
    grace_ms: u64,
) -> Result<Rotation, RotationError> {
    let keks = meta.ask(question::Keks).await?;
    let newest = keks.last().ok_or(RotationError::NoKeks)?;
    let opened = roots.open(cluster, from_ref(newest)).await;
    let opened = opened.map_err(RotationError::Root)?.remove(0);
    let version = newest.version + 1;
    // It carries what makes ids of access keys, as all do.
    let sealed_kek = roots.new_kek(cluster, version, Some(opened.ids().clone()));
    let sealed_kek = sealed_kek.await.map_err(RotationError::Make)?;
    let command = Command::RotateKek {
        version,
        sealed_kek,
        grace_ms,
    };
    let answer = meta.propose(Envelope { key: None, command }).await?;
    answer.map_err(RotationError::Refused)?;
    let begun = meta.ask(question::Rotation).await?;
    let lost = || ClientError::Malformed("a rotation was begun and is not there".to_owned());
    Ok(begun.ok_or_else(lost)?)
}
