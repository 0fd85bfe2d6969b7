//! Accounts, their keys and buckets, and the cluster's key-encryption keys.

use super::context::{Machine, Step, malformed};
use super::counters::{down, up};
use super::uploads::Place;
use super::{MachineError, NAME_LEN_MAX};
use crate::command::{Outcome, Refusal};
use crate::ids::{AccountId, BlobId, BucketId};
use crate::keys::{self, Meta, RowKey, Table};
use crate::rows::{AccessKeyRow, AccountRow, BucketRow, Counters, KekRow, UploadRow};
use crate::sealed;
use std::borrow::Cow;

/// The most uploads that end with their bucket: each changes three rows, in one entry.
pub const ENDED_WITH_BUCKET_MAX: usize = 500;

fn check_name(name: &str) -> Step<()> {
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return malformed(format!("a name of {} bytes", name.len()));
    }
    Ok(())
}

fn bytes(name: &str) -> Cow<'_, [u8]> {
    Cow::Borrowed(name.as_bytes())
}

impl Machine<'_, '_> {
    pub(super) fn put_kek(&mut self, version: u32, sealed_kek: &[u8]) -> Step<Outcome> {
        if version == 0 {
            return malformed("key-encryption keys are numbered from 1");
        }
        let key = RowKey::Kek(version);
        match self.read::<KekRow>(&key)? {
            Some(known) if known.sealed_kek != sealed_kek => Err(Refusal::NameTaken.into()),
            Some(_) => Ok(Outcome::Done),
            None if self.keks_are_lost()? => Err(Refusal::KeksLost.into()),
            None => {
                if let Some(rotation) = self.rotation()? {
                    // A late copy of the first command must not bring back what was deleted.
                    let newest = rotation.to;
                    return Err(Refusal::KekReplaced { newest }.into());
                }
                let row = KekRow {
                    version,
                    sealed_kek: sealed_kek.to_vec(),
                };
                self.write(&key, &row);
                Ok(Outcome::Done)
            }
        }
    }

    /// Arrived twice, it finds its own work.
    pub(super) fn reseal_kek(
        &mut self,
        version: u32,
        was: [u8; 16],
        sealed_kek: &[u8],
    ) -> Step<Outcome> {
        let key = RowKey::Kek(version);
        match self.read::<KekRow>(&key)? {
            Some(known) if known.sealed_kek == sealed_kek => Ok(Outcome::Done),
            Some(known) if sealed::mark(&known.sealed_kek) == was => {
                let sealed_kek = sealed_kek.to_vec();
                self.write(
                    &key,
                    &KekRow {
                        sealed_kek,
                        ..known
                    },
                );
                Ok(Outcome::Done)
            }
            Some(_) | None => Err(Refusal::Changed.into()),
        }
    }

    /// Returns whether the table of key-encryption keys is empty although records name one. A new
    /// key would hide the loss, and be used beside the old one once a backup brings that back.
    ///
    /// Whatever is sealed belongs to a bucket or an access key, and all of one cluster is sealed
    /// the same way: the first of each tells.
    fn keks_are_lost(&self) -> Step<bool> {
        if !self.is_empty(&keys::table(Table::Keks))? {
            return Ok(false);
        }
        let buckets = self.page::<BucketRow>(&keys::table(Table::Buckets), 1)?;
        let access_keys = self.page::<AccessKeyRow>(&keys::table(Table::AccessKeys), 1)?;
        let owners = buckets.iter().map(|(_, row)| &row.sealed_owner);
        let credentials = access_keys.iter().map(|(_, row)| &row.sealed_credential);
        let mut sealed = owners.chain(credentials);
        Ok(sealed.any(|record| sealed::kek_version(record).is_some()))
    }

    pub(super) fn create_account(&mut self, name: &str, request: u64) -> Step<Outcome> {
        check_name(name)?;
        let name_key = RowKey::AccountName(bytes(name));
        if let Some(id) = self.read::<AccountId>(&name_key)? {
            let row: AccountRow = self.require(&RowKey::Account(id))?;
            if row.request != request {
                return Err(Refusal::NameTaken.into());
            }
            return Ok(Outcome::Account(row));
        }
        let next_key = RowKey::Meta(Meta::NextAccount);
        let id = self.read::<AccountId>(&next_key)?.unwrap_or(AccountId(1));
        let row = AccountRow {
            id,
            name: name.to_owned(),
            enabled: true,
            created_ms: self.now_ms,
            request,
            revision: 0,
        };
        self.write(&next_key, &id.next());
        self.write(&name_key, &id);
        self.write(&RowKey::Account(id), &row);
        Ok(Outcome::Account(row))
    }

    fn account(&self, account: AccountId) -> Step<AccountRow> {
        let row: Option<AccountRow> = self.read(&RowKey::Account(account))?;
        row.ok_or_else(|| Refusal::NoSuchAccount.into())
    }

    pub(super) fn set_account_enabled(
        &mut self,
        account: AccountId,
        enabled: bool,
        revision: u64,
    ) -> Step<Outcome> {
        let mut row = self.account(account)?;
        let repeated = row.revision == revision && row.enabled == enabled;
        if !repeated {
            if row.revision.checked_add(1) != Some(revision) {
                return Err(Refusal::Changed.into());
            }
            (row.enabled, row.revision) = (enabled, revision);
            self.write(&RowKey::Account(account), &row);
        }
        Ok(Outcome::Account(row))
    }

    /// Adds or replaces an access key. Each change names the revision that it makes, so a copy of
    /// an old command that arrives late can't undo a newer one.
    pub(super) fn put_access_key(&mut self, mut new: AccessKeyRow) -> Step<Outcome> {
        check_name(&new.access_key)?;
        self.account(new.account)?;
        let owned_key = RowKey::AccountAccessKey {
            account: new.account,
            access_key: bytes(&new.access_key),
        };
        let key = RowKey::AccessKey(bytes(&new.access_key));
        let known: Option<AccessKeyRow> = self.read(&key)?;
        let mut present = 0;
        if let Some(row) = &known {
            if row.account != new.account {
                return Err(Refusal::NameTaken.into());
            }
            present = row.revision;
            new.created_ms = row.created_ms;
            if *row == new {
                return Ok(Outcome::Done);
            }
        }
        if present.checked_add(1) != Some(new.revision) {
            return Err(Refusal::Changed.into());
        }
        if let Some(row) = known {
            self.count_unsealed(&key, &[&row.sealed_credential])?;
        }
        self.write(&key, &new);
        self.write(&owned_key, &());
        Ok(Outcome::Done)
    }

    pub(super) fn create_bucket(
        &mut self,
        id: BucketId,
        name: &str,
        account: AccountId,
        sealed_owner: &[u8],
    ) -> Step<Outcome> {
        self.proposal_of(BlobId(id.0))?;
        check_name(name)?;
        self.account(account)?;
        let name_key = RowKey::BucketName(bytes(name));
        if let Some(id) = self.read::<BucketId>(&name_key)? {
            let owner = self.require::<BucketRow>(&RowKey::Bucket(id))?.account;
            return Err(Refusal::BucketExists { owner }.into());
        }
        if self.read::<BucketRow>(&RowKey::Bucket(id))?.is_some() {
            return malformed(format!("bucket id {id} is taken"));
        }
        let row = BucketRow {
            id,
            name: name.to_owned(),
            account,
            created_ms: self.now_ms,
            sealed_owner: sealed_owner.to_vec(),
        };
        self.write(&name_key, &id);
        let owned_key = RowKey::AccountBucket {
            account,
            name: bytes(name),
        };
        self.write(&owned_key, &id);
        self.write(&RowKey::Bucket(id), &row);
        self.write(&RowKey::BucketCounters(id), &Counters::default());
        self.change_totals(|totals| up(&mut totals.buckets))?;
        Ok(Outcome::Bucket(row))
    }

    pub(super) fn delete_bucket(&mut self, bucket: BucketId) -> Step<Outcome> {
        let row = self.bucket(bucket)?;
        for range in [keys::names(bucket, b""), keys::versions(bucket)] {
            if !self.is_empty(&range)? {
                return Err(Refusal::BucketNotEmpty.into());
            }
        }
        self.end_uploads_of(&row)?;
        self.delete(&RowKey::BucketName(bytes(&row.name)));
        self.delete(&RowKey::AccountBucket {
            account: row.account,
            name: bytes(&row.name),
        });
        self.count_unsealed(&RowKey::Bucket(bucket), &[&row.sealed_owner])?;
        self.delete(&RowKey::Bucket(bucket));
        self.delete(&RowKey::BucketCounters(bucket));
        self.change_totals(|totals| down(&mut totals.buckets))?;
        Ok(Outcome::Done)
    }

    /// Ends all uploads of a bucket, or none: what is refused keeps every part.
    fn end_uploads_of(&mut self, bucket: &BucketRow) -> Step<()> {
        let range = keys::uploads(bucket.id, b"");
        let found = self.page::<UploadRow>(&range, ENDED_WITH_BUCKET_MAX + 1)?;
        if found.len() > ENDED_WITH_BUCKET_MAX {
            return Err(Refusal::BucketNotEmpty.into());
        }
        for (row_key, _) in &found {
            let Ok(RowKey::Upload { key, upload, .. }) = RowKey::decode(row_key) else {
                let reason = "an upload's key is malformed".into();
                return Err(MachineError::Contradiction(reason).into());
            };
            let place = Place {
                bucket: bucket.id,
                key: &key,
                upload,
            };
            self.end_upload(place, bucket)?;
        }
        Ok(())
    }
}
