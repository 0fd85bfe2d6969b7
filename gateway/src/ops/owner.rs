//! The owner of a bucket, sealed: kept in the bucket's row and checked whenever a row is read.
//!
//! Otherwise a writer of metadata without the root key could change a bucket's owner to an account
//! of its own, and read the objects through the front door with that account's valid key.

use super::error::OpError;
use megalith_crypto::{CryptoError, KeyRing, RecordKind};
use megalith_keyring::KeyUse;
use megalith_model::ids::{AccountId, BucketId};
use megalith_model::rows::BucketRow;

/// The kind of the sealed record. Its bytes are the account, 8 bytes big-endian.
const OWNER: RecordKind = RecordKind::new("bucket-owner");

/// Returns what the record is bound to: the bucket's id, 8 bytes big-endian, and its name.
fn binding(id: BucketId, name: &str) -> Vec<u8> {
    [&id.0.to_be_bytes(), name.as_bytes()].concat()
}

/// Seals the owner of a bucket.
///
/// # Errors
/// [`OpError::Internal`] if the random source fails, [`OpError::Unavailable`].
pub(crate) async fn seal(
    keys: &KeyUse,
    id: BucketId,
    name: &str,
    account: AccountId,
) -> Result<Vec<u8>, OpError> {
    let records = keys.ring().await?.records();
    records
        .seal_record(OWNER, &binding(id, name), &account.0.to_be_bytes())
        .map_err(|error| OpError::Internal(format!("seal a bucket's owner: {error}")))
}

/// Seals the record of an owner again, under the newest key-encryption key.
///
/// # Errors
/// [`CryptoError::Unauthentic`] if it doesn't open.
pub(super) fn reseal(
    ring: &KeyRing,
    id: BucketId,
    name: &str,
    sealed: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    ring.records()
        .reseal_record(OWNER, &binding(id, name), sealed)
}

/// Checks that a gateway gave this bucket, by id and name, to the owner that its row shows.
///
/// # Errors
/// [`OpError::Damaged`], [`OpError::Unavailable`].
pub(super) async fn check(keys: &KeyUse, row: &BucketRow) -> Result<(), OpError> {
    let id = binding(row.id, &row.name);
    let open = |ring: &KeyRing| ring.records().open_record(OWNER, &id, &row.sealed_owner);
    let owner = keys.opened("owner of a bucket", &row.sealed_owner, open);
    let owner = owner.await?;
    if *owner == row.account.0.to_be_bytes() {
        Ok(())
    } else {
        Err(OpError::Damaged("owner of a bucket"))
    }
}
