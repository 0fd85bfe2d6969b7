//! Seals a cluster's key-encryption keys anew: under another root, or under the newest version of
//! the same key of a service.
//!
//! Row by row: each says by itself what has sealed it, so a run that was cut off is run again, and
//! gateways that know both roots serve meanwhile. No row is replaced before the new seal was opened
//! and holds the same key. What the old root sealed is not asked for again after a row has moved.

use megalith_client::{ClientError, Metadata, TypedCalls as _};
use megalith_crypto::{OpenedKek, SealedBy};
use megalith_keyring::root::{Root, RootError, Roots, sealed_by};
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_model::ids::ClusterId;
use megalith_model::question;
use megalith_model::rows::KekRow;
use megalith_model::sealed::mark;
use std::slice::from_ref;
use std::sync::Arc;

/// What became of the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Versions that were sealed anew.
    pub moved: Vec<u32>,
    /// Versions that were as they should be.
    pub kept: Vec<u32>,
}

/// Why not all keys were sealed anew. Those that were stay so, and the others as they were.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// The metadata group didn't answer.
    #[error("ask the metadata group")]
    Metadata(#[from] ClientError),
    #[error("the cluster has no key-encryption keys: its first gateway makes one")]
    NoKeks,
    /// There is no root of the kind that is to seal them.
    #[error("the settings name no {}", match .0 {
        SealedBy::RootKey => "root key (`root_key_file`)",
        SealedBy::Service => "key service (`vault`)",
    })]
    NoTarget(SealedBy),
    #[error("key-encryption key {version}: {action}")]
    Root {
        version: u32,
        action: &'static str,
        source: RootError,
    },
    /// What was just sealed opens to something else: the row was left as it was.
    #[error("key-encryption key {0} was sealed to something else: its row was left as it was")]
    Other(u32),
    #[error("key-encryption key {version}: the metadata group refused")]
    Refused { version: u32, source: Refusal },
}

/// Seals every key-encryption key under the root of kind `by`, and under its newest version.
///
/// # Errors
/// See [`ResealError`]. It can be run again.
pub async fn reseal(
    meta: &dyn Metadata,
    cluster: ClusterId,
    roots: &Roots,
    by: SealedBy,
) -> Result<Resealed, ResealError> {
    let target = roots.of_kind(by).ok_or(ResealError::NoTarget(by))?;
    let rows = meta.ask(question::Keks).await?;
    if rows.is_empty() {
        return Err(ResealError::NoKeks);
    }
    let mut done = Resealed::default();
    for row in rows {
        let version = row.version;
        let failed = |action| {
            move |source| ResealError::Root {
                version,
                action,
                source,
            }
        };
        let opened = roots.open(cluster, from_ref(&row)).await;
        let opened = opened.map_err(failed("open it"))?.remove(0);
        let sealed_kek = if sealed_by(&row) == by {
            match target.renew(&row).await.map_err(failed("seal it anew"))? {
                Some(sealed) => sealed,
                None => {
                    done.kept.push(version);
                    continue;
                }
            }
        } else {
            let sealed = target.seal(cluster, &opened).await;
            sealed.map_err(failed("seal it"))?
        };
        let was = mark(&row.sealed_kek);
        let new = KekRow { sealed_kek, ..row };
        prove(cluster, &target, &new, &opened).await?;
        let command = Command::ResealKek {
            version,
            was,
            sealed_kek: new.sealed_kek,
        };
        let answer = meta.propose(Envelope { key: None, command }).await?;
        answer.map_err(|source| ResealError::Refused { version, source })?;
        done.moved.push(version);
    }
    Ok(done)
}

/// Opens what was sealed, and compares.
async fn prove(
    cluster: ClusterId,
    target: &Arc<dyn Root>,
    new: &KekRow,
    expected: &OpenedKek,
) -> Result<(), ResealError> {
    let version = new.version;
    let opened = target.open(cluster, from_ref(new)).await;
    let opened = opened.map_err(|source| ResealError::Root {
        version,
        action: "open what was sealed anew",
        source,
    })?;
    match opened.as_slice() {
        [kek] if kek == expected => Ok(()),
        _ => Err(ResealError::Other(version)),
    }
}

#[cfg(test)]
mod tests;
