//! Buckets, accounts and access keys against the rows that find them by name or owner.

use super::Audit;
use crate::ids::{AccountId, BucketId};
use crate::keys::{RowKey, Table};
use crate::machine::{MachineError, read};
use crate::rows::{AccessKeyRow, AccountRow, BucketRow};
use std::collections::{BTreeMap, BTreeSet};

impl Audit<'_> {
    pub(super) fn owners(&mut self) -> Result<(), MachineError> {
        let mut named: BTreeMap<Vec<u8>, BucketId> = self
            .all::<BucketId>(Table::BucketNames)?
            .into_iter()
            .collect();
        let mut owned: BTreeMap<Vec<u8>, BucketId> = self
            .all::<BucketId>(Table::AccountBuckets)?
            .into_iter()
            .collect();
        for (_, row) in self.all::<BucketRow>(Table::Buckets)? {
            let name = RowKey::BucketName(row.name.as_bytes().into()).encode();
            let place = RowKey::AccountBucket {
                account: row.account,
                name: row.name.as_bytes().into(),
            };
            let both = named.remove(&name) == Some(row.id)
                && owned.remove(&place.encode()) == Some(row.id);
            self.check(both, || format!("{} isn't found by name or owner", row.id));
        }
        let none = named.is_empty() && owned.is_empty();
        self.check(none, || "names of no bucket".into());
        let mut names = self.all::<AccountId>(Table::AccountNames)?.len();
        for (_, row) in self.all::<AccountRow>(Table::Accounts)? {
            names = names.wrapping_sub(1);
            let name = RowKey::AccountName(row.name.as_bytes().into());
            let id: Option<AccountId> = read(self.rows, &name)?;
            self.check(id == Some(row.id), || {
                format!("{} isn't found by name", row.id)
            });
        }
        self.check(names == 0, || "names of no account".into());
        self.access_keys()
    }

    fn access_keys(&mut self) -> Result<(), MachineError> {
        let mut owned: BTreeSet<Vec<u8>> = self
            .all::<()>(Table::AccountAccessKeys)?
            .into_iter()
            .map(|(key, ())| key)
            .collect();
        for (_, row) in self.all::<AccessKeyRow>(Table::AccessKeys)? {
            let place = RowKey::AccountAccessKey {
                account: row.account,
                access_key: row.access_key.as_bytes().into(),
            };
            let listed = owned.remove(&place.encode());
            self.check(listed, || {
                format!("{} isn't found by its account", row.access_key)
            });
        }
        self.check(owned.is_empty(), || "access keys that aren't there".into());
        Ok(())
    }
}
