//! Buckets, accounts and access keys.

use super::{misplaced, parsed};
use crate::ids::{AccountId, BucketId};
use crate::keys::{self, KeyRange, RowKey, Table};
use crate::machine::{MachineError, page, read, require};
use crate::rows::{AccessKeyRow, AccountRow, BucketRow};
use crate::table::Rows;
use std::borrow::Cow;

/// What follows `key` in `range`, or all of it where the page is the first.
fn after(range: KeyRange, name: &str, key: &RowKey<'_>) -> KeyRange {
    if name.is_empty() {
        range
    } else {
        range.after(key.encode())
    }
}

fn bytes(text: &str) -> Cow<'_, [u8]> {
    Cow::Borrowed(text.as_bytes())
}

pub(super) fn bucket(rows: &dyn Rows, name: &str) -> Result<Option<BucketRow>, MachineError> {
    match read::<BucketId>(rows, &RowKey::BucketName(bytes(name)))? {
        Some(id) => require(rows, &RowKey::Bucket(id)).map(Some),
        None => Ok(None),
    }
}

pub(super) fn buckets(
    rows: &dyn Rows,
    account: AccountId,
    after_name: &str,
    max: usize,
) -> Result<Vec<BucketRow>, MachineError> {
    let name = bytes(after_name);
    let place = RowKey::AccountBucket { account, name };
    let range = after(keys::account_buckets(account), after_name, &place);
    page::<BucketId>(rows, &range, max)?
        .into_iter()
        .map(|(_, id)| require(rows, &RowKey::Bucket(id)))
        .collect()
}

pub(super) fn accounts(
    rows: &dyn Rows,
    after_name: &str,
    max: usize,
) -> Result<Vec<AccountRow>, MachineError> {
    let place = RowKey::AccountName(bytes(after_name));
    let range = after(keys::table(Table::AccountNames), after_name, &place);
    page::<AccountId>(rows, &range, max)?
        .into_iter()
        .map(|(_, id)| require(rows, &RowKey::Account(id)))
        .collect()
}

pub(super) fn access_key(
    rows: &dyn Rows,
    access_key: &str,
) -> Result<Option<(AccessKeyRow, AccountRow)>, MachineError> {
    match read::<AccessKeyRow>(rows, &RowKey::AccessKey(bytes(access_key)))? {
        Some(row) => {
            let account = require(rows, &RowKey::Account(row.account))?;
            Ok(Some((row, account)))
        }
        None => Ok(None),
    }
}

pub(super) fn access_keys(
    rows: &dyn Rows,
    account: Option<AccountId>,
    after_key: &str,
    max: usize,
) -> Result<Vec<AccessKeyRow>, MachineError> {
    let Some(account) = account else {
        let place = RowKey::AccessKey(bytes(after_key));
        let range = after(keys::table(Table::AccessKeys), after_key, &place);
        let all = page::<AccessKeyRow>(rows, &range, max)?;
        return Ok(all.into_iter().map(|(_, row)| row).collect());
    };
    let place = RowKey::AccountAccessKey {
        account,
        access_key: bytes(after_key),
    };
    let range = after(keys::account_access_keys(account), after_key, &place);
    page::<()>(rows, &range, max)?
        .iter()
        .map(|(key, ())| match parsed(key)? {
            RowKey::AccountAccessKey { access_key, .. } => {
                require(rows, &RowKey::AccessKey(access_key))
            }
            _ => Err(misplaced()),
        })
        .collect()
}
