//! Buckets, accounts and access keys.

use super::{misplaced, page_rows, parsed};
use crate::ids::{AccountId, BucketId};
use crate::keys::{self, KeyRange, RowKey, Table};
use crate::machine::{MachineError, page, read, require};
use crate::question;
use crate::rows::{AccessKeyRow, AccountRow, BucketRow};
use crate::table::Rows;
use std::borrow::Cow;

/// Returns the part of `range` after `key`, or all of it if `name` is empty (the first page).
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
    asked: &question::Buckets,
) -> Result<Vec<BucketRow>, MachineError> {
    let (account, name) = (asked.account, bytes(&asked.after));
    let place = RowKey::AccountBucket { account, name };
    let range = after(keys::account_buckets(account), &asked.after, &place);
    page::<BucketId>(rows, &range, page_rows(asked.max))?
        .into_iter()
        .map(|(_, id)| require(rows, &RowKey::Bucket(id)))
        .collect()
}

pub(super) fn accounts(
    rows: &dyn Rows,
    asked: &question::Accounts,
) -> Result<Vec<AccountRow>, MachineError> {
    let place = RowKey::AccountName(bytes(&asked.after));
    let range = after(keys::table(Table::AccountNames), &asked.after, &place);
    page::<AccountId>(rows, &range, page_rows(asked.max))?
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
    asked: &question::AccessKeys,
) -> Result<Vec<AccessKeyRow>, MachineError> {
    let (after_key, max) = (asked.after.as_str(), page_rows(asked.max));
    let Some(account) = asked.account else {
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
