//! Proves that a root key opens a cluster: before the copy in a safe is needed, and changing
//! nothing.

use megalith_client::{ClientError, Metadata, TypedCalls as _};
use megalith_crypto::{KeyRing, RootKey};
use megalith_model::ids::ClusterId;
use megalith_model::query::PAGE_ROWS_MAX;
use megalith_model::question;
use megalith_model::rows::{AccessKeyRow, KekRow};

/// What a root key has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Versions of all key-encryption keys of the cluster, in order; at least one.
    pub keks: Vec<u32>,
    /// How many access keys there are; all of them open under those.
    pub access_keys: u64,
}

/// Why a root key is not proven to open a cluster.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// The metadata group didn't answer.
    #[error("ask the metadata group")]
    Metadata(#[from] ClientError),
    /// The table of key-encryption keys is empty.
    #[error(
        "the cluster has no key-encryption keys: it is new, and its first gateway makes one, or \
         they are lost"
    )]
    NoKeks,
    /// The root key is another one, or belongs to another cluster.
    #[error(
        "it is not this cluster's root key: it opens none of the cluster's {} key-encryption keys",
        .0.len()
    )]
    Foreign(Vec<u32>),
    /// Some open, so the root key is the right one.
    #[error("it is this cluster's root key, but key-encryption keys don't open: versions {0:?}")]
    DamagedKeks(Vec<u32>),
    /// Key-encryption keys are there, and one that sealed an access key is not, or the record was
    /// altered.
    #[error(
        "it opens the cluster's key-encryption keys, but of {of} access keys {} don't open under \
         them, among them {}", .closed.len(), .closed[0]
    )]
    ClosedAccessKeys {
        /// Their public halves; at least one.
        closed: Vec<String>,
        /// How many access keys there are.
        of: u64,
    },
}

/// Opens with `root` whatever can be opened without an object: all key-encryption keys, and under
/// them all access keys.
///
/// # Errors
/// See [`RootKeyError`].
pub async fn check(
    meta: &dyn Metadata,
    cluster: ClusterId,
    root: &RootKey,
) -> Result<Opened, RootKeyError> {
    let ring_rows = meta.ask(question::Keks).await?;
    let ring = ring(cluster, root, &ring_rows)?;
    let sealer = ring.credentials();
    let (mut access_keys, mut closed) = (0, Vec::new());
    let mut after = String::new();
    loop {
        let asked = question::AccessKeys {
            account: None,
            after,
            max: PAGE_ROWS_MAX,
        };
        let page: Vec<AccessKeyRow> = meta.ask(asked).await?;
        access_keys += page.len() as u64;
        let sealed = |row: &&AccessKeyRow| {
            let opened = sealer.open(&row.access_key, &row.sealed_credential);
            opened.is_err()
        };
        closed.extend(page.iter().filter(sealed).map(|row| row.access_key.clone()));
        match page.last() {
            Some(last) if page.len() >= PAGE_ROWS_MAX as usize => {
                after = last.access_key.clone();
            }
            Some(_) | None => break,
        }
    }
    if !closed.is_empty() {
        let of = access_keys;
        return Err(RootKeyError::ClosedAccessKeys { closed, of });
    }
    Ok(Opened {
        keks: ring_rows.iter().map(|row| row.version).collect(),
        access_keys,
    })
}

fn ring(cluster: ClusterId, root: &RootKey, rows: &[KekRow]) -> Result<KeyRing, RootKeyError> {
    let all: Vec<(u32, &[u8])> = rows
        .iter()
        .map(|row| (row.version, row.sealed_kek.as_slice()))
        .collect();
    if all.is_empty() {
        return Err(RootKeyError::NoKeks);
    }
    let opens = |kek: &(u32, &[u8])| KeyRing::open(root, cluster.0, &[*kek]).is_ok();
    let closed: Vec<u32> = all
        .iter()
        .filter(|kek| !opens(kek))
        .map(|(version, _)| *version)
        .collect();
    if closed.len() == all.len() {
        return Err(RootKeyError::Foreign(closed));
    }
    match KeyRing::open(root, cluster.0, &all) {
        Ok(ring) => Ok(ring),
        Err(_) => Err(RootKeyError::DamagedKeks(closed)),
    }
}

#[cfg(test)]
mod tests;
