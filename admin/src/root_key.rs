//! Proves that a root opens a cluster: before the copy of a root key in a safe is needed, and
//! changing nothing. Seals keys anew under another root ([`reseal`]).

pub mod reseal;

use megalith_client::{ClientError, Metadata, TypedCalls as _};
use megalith_crypto::{CryptoError, KeyRing, OpenedKek};
use megalith_keyring::root::{RootError, Roots};
use megalith_model::ids::ClusterId;
use megalith_model::query::PAGE_ROWS_MAX;
use megalith_model::question;
use megalith_model::rows::{AccessKeyRow, KekRow};

/// What a root has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Versions of all key-encryption keys of the cluster, in order; at least one.
    pub keks: Vec<u32>,
    /// How many access keys there are; all of them open under those.
    pub access_keys: u64,
}

/// Why a root is not proven to open a cluster.
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
    /// The root is out of reach, so nothing is known.
    #[error("it is not known whether it opens this cluster")]
    Unknown(#[source] RootError),
    /// It is another one, or belongs to another cluster.
    #[error(
        "it is not this cluster's root key: it opens none of the cluster's {} key-encryption keys",
        .0.len()
    )]
    Foreign(Vec<u32>),
    /// Some open, so the root key is the right one.
    #[error("it is this cluster's root key, but key-encryption keys don't open: versions {0:?}")]
    DamagedKeks(Vec<u32>),
    /// It does not open those that another root has sealed.
    #[error(
        "it does not open the cluster alone: key-encryption keys of versions {0:?} are sealed \
         under a root that is not named"
    )]
    Elsewhere(Vec<u32>),
    /// They are too many, or one is there twice.
    #[error("make a ring of the key-encryption keys")]
    Ring(#[source] CryptoError),
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

/// Opens with `roots` whatever can be opened without an object: all key-encryption keys, and under
/// them all access keys.
///
/// # Errors
/// See [`RootKeyError`].
pub async fn check(
    meta: &dyn Metadata,
    cluster: ClusterId,
    roots: &Roots,
) -> Result<Opened, RootKeyError> {
    let ring_rows = meta.ask(question::Keks).await?;
    let ring = ring(cluster, roots, &ring_rows).await?;
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

async fn ring(cluster: ClusterId, roots: &Roots, rows: &[KekRow]) -> Result<KeyRing, RootKeyError> {
    if rows.is_empty() {
        return Err(RootKeyError::NoKeks);
    }
    let (mut opened, mut closed, mut elsewhere) = (Vec::<OpenedKek>::new(), vec![], vec![]);
    // One by one, so that each that doesn't open is named.
    for row in rows {
        match roots.open(cluster, std::slice::from_ref(row)).await {
            Ok(kek) => opened.extend(kek),
            Err(RootError::Foreign { .. }) => closed.push(row.version),
            Err(RootError::NotNamed { .. }) => elsewhere.push(row.version),
            Err(error) => return Err(RootKeyError::Unknown(error)),
        }
    }
    if closed.len() == rows.len() {
        return Err(RootKeyError::Foreign(closed));
    }
    if !closed.is_empty() {
        return Err(RootKeyError::DamagedKeks(closed));
    }
    if !elsewhere.is_empty() {
        return Err(RootKeyError::Elsewhere(elsewhere));
    }
    KeyRing::of(&opened).map_err(RootKeyError::Ring)
}

#[cfg(test)]
mod tests;
