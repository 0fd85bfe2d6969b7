//! Buckets: create, find, list, delete, and check their owner.
//!
//! A bucket's row is kept for a moment, so that an object costs one trip to the metadata group. A
//! bucket id is never reused and its owner never changes, so a kept row can be wrong in only one
//! way: the bucket is gone. Callers that find nothing through a kept row must look again
//! ([`OwnedBucket::is_kept`]). When a row is too old, the first who needs it asks, and the others
//! wait for his answer. What they get is as good as a kept row.

use super::error::OpError;
use super::names::check_bucket_name;
use super::{Caller, Rejection, Store, owner};
use crate::lock::lock;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use megalith_blobs::LeasedId;
use megalith_model::command::{Command, Refusal};
use megalith_model::ids::BucketId;
use megalith_model::instruction::CreateBucket;
use megalith_model::question;
use megalith_model::rows::BucketRow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

const KEPT_FOR: Duration = Duration::from_secs(2);
const KEPT_MAX: usize = 4096;

/// What came of a question for a bucket; None if there is no such bucket.
type Looked = BoxFuture<'static, Result<Option<BucketRow>, OpError>>;

/// Bucket rows by name.
#[derive(Default)]
pub(super) struct Cache {
    rows: Mutex<HashMap<String, (Instant, BucketRow)>>,
    /// The questions that requests wait for. One that nobody waits for any more is gone.
    asking: Mutex<HashMap<String, WeakShared<Looked>>>,
}

impl Cache {
    fn find(&self, name: &str) -> Option<BucketRow> {
        let rows = self.rows();
        let (since, row) = rows.get(name)?;
        (since.elapsed() < KEPT_FOR).then(|| row.clone())
    }

    fn keep(&self, row: &BucketRow) {
        let mut rows = self.rows();
        if rows.len() >= KEPT_MAX {
            rows.clear();
        }
        rows.insert(row.name.clone(), (Instant::now(), row.clone()));
    }

    fn forget(&self, name: &str) {
        self.rows().remove(name);
    }

    /// Joins the question for a bucket that is under way; None if there is none.
    fn join(&self, name: &str) -> Option<Shared<Looked>> {
        let question = lock(&self.asking).get(name)?.upgrade()?;
        // One that has its answer is not under way.
        question.peek().is_none().then_some(question)
    }

    /// Notes a question, for others to join.
    fn begin(&self, name: &str, question: Looked) -> Shared<Looked> {
        let question = question.shared();
        let mut asking = lock(&self.asking);
        if asking.len() >= KEPT_MAX {
            asking.retain(|_, question| question.upgrade().is_some());
        }
        if let Some(weak) = question.downgrade() {
            asking.insert(name.to_owned(), weak);
        }
        question
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<String, (Instant, BucketRow)>> {
        lock(&self.rows)
    }
}

/// A bucket that belongs to the caller.
#[derive(Clone, Debug)]
pub(super) struct OwnedBucket {
    pub(super) row: BucketRow,
    kept: bool,
}

impl OwnedBucket {
    /// Returns true if the row was kept from before; then the bucket may be gone.
    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Returns true if the error may only mean that the kept row is of a bucket that is gone.
    fn explains(&self, error: &OpError) -> bool {
        let missing = matches!(
            error,
            OpError::NoSuchBucket | OpError::NoSuchKey | OpError::NoSuchUpload
        );
        self.kept && missing
    }
}

/// A page of an account's buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketPage {
    pub buckets: Vec<BucketRow>,
    /// The name after which more follow; None at the end.
    pub next: Option<String>,
}

impl Store {
    /// Creates a bucket.
    ///
    /// # Errors
    /// [`OpError::BucketAlreadyOwnedByYou`], [`OpError::BucketAlreadyExists`],
    /// [`OpError::InvalidBucketName`].
    pub async fn create_bucket(&self, caller: Caller, name: &str) -> Result<BucketRow, OpError> {
        check_bucket_name(name)?;
        let create = |key: Arc<LeasedId>| async move {
            // The command's own key: no other bucket ever gets this number.
            let id = BucketId(key.blob().0);
            let timed = self.timed(async |_| {
                let sealed = owner::seal(self.keys(), id, name, caller.account);
                let create = CreateBucket {
                    id,
                    name: name.to_owned(),
                    account: caller.account,
                    sealed_owner: sealed.await.map_err(Rejection::Failed)?,
                };
                self.instruct(&key, create).await
            });
            timed.await
        };
        match self.with_key(create).await {
            Ok(row) => {
                self.shared.buckets.keep(&row);
                Ok(row)
            }
            Err(Rejection::Refused(Refusal::BucketExists { owner })) if owner == caller.account => {
                Err(OpError::BucketAlreadyOwnedByYou)
            }
            Err(rejection) => Err(rejection.into()),
        }
    }

    /// Finds a bucket of the caller, as it is now.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::AccessDenied`].
    pub async fn head_bucket(&self, caller: Caller, name: &str) -> Result<BucketRow, OpError> {
        Ok(self.bucket_now(caller, name).await?.row)
    }

    /// Deletes a bucket of the caller that has no objects. Uploads that were begun in it end with
    /// it, as in S3: no listing of objects shows them. A bucket with more uploads than one command
    /// may end is refused, and keeps them all.
    ///
    /// # Errors
    /// [`OpError::NoSuchBucket`], [`OpError::BucketNotEmpty`].
    pub async fn delete_bucket(&self, caller: Caller, name: &str) -> Result<(), OpError> {
        let owned = self.bucket_now(caller, name).await?;
        self.shared.buckets.forget(name);
        let bucket = owned.row.id;
        let delete = |key: Arc<LeasedId>| async move {
            self.propose(&key, Command::DeleteBucket(bucket)).await
        };
        Ok(self.with_key(delete).await?)
    }

    /// Lists the caller's buckets that begin with `prefix`, after a name.
    ///
    /// # Errors
    /// [`OpError::Unavailable`].
    pub async fn list_buckets(
        &self,
        caller: Caller,
        prefix: &str,
        after: &str,
        max: usize,
    ) -> Result<BucketPage, OpError> {
        const ASKED: u32 = 1000;
        let mut page = BucketPage {
            buckets: Vec::new(),
            next: None,
        };
        let mut after = after.to_owned();
        loop {
            let asked = question::Buckets {
                account: caller.account,
                after,
                max: ASKED,
            };
            let rows = self.ask(asked).await?;
            let asked_again = rows.len() >= ASKED as usize;
            after = rows.last().map(|row| row.name.clone()).unwrap_or_default();
            for row in rows {
                if !row.name.starts_with(prefix) {
                    continue;
                }
                if page.buckets.len() == max {
                    page.next = page.buckets.last().map(|row: &BucketRow| row.name.clone());
                    return Ok(page);
                }
                page.buckets.push(row);
            }
            if !asked_again {
                return Ok(page);
            }
        }
    }

    /// Finds a bucket of the caller, perhaps through a row kept for a moment.
    async fn bucket(&self, caller: Caller, name: &str) -> Result<OwnedBucket, OpError> {
        match self.shared.buckets.find(name) {
            Some(row) if row.account == caller.account => Ok(OwnedBucket { row, kept: true }),
            Some(_) => self.bucket_now(caller, name).await,
            None => self.bucket_together(caller, name).await,
        }
    }

    /// Finds a bucket of the caller by a question that others may have asked.
    async fn bucket_together(&self, caller: Caller, name: &str) -> Result<OwnedBucket, OpError> {
        let Some(question) = self.shared.buckets.join(name) else {
            let (store, asked) = (self.clone(), name.to_owned());
            let question = async move { store.look_bucket(&asked).await }.boxed();
            let row = self.shared.buckets.begin(name, question).await?;
            return owned(caller, row, false);
        };
        match question.await {
            Ok(Some(row)) if row.account == caller.account => owned(caller, Some(row), true),
            // It may have been asked before the bucket was created, and the asker's trouble need
            // not be ours.
            Ok(_) | Err(_) => self.bucket_now(caller, name).await,
        }
    }

    /// Finds a bucket of the caller and acts in it. If the act finds nothing through a kept row,
    /// finds the bucket as it is now and acts once more.
    pub(super) async fn in_bucket<T, Acting>(
        &self,
        caller: Caller,
        name: &str,
        act: impl Fn(BucketId) -> Acting + Send,
    ) -> Result<(OwnedBucket, T), OpError>
    where
        Acting: Future<Output = Result<T, OpError>> + Send,
    {
        let owned = self.bucket(caller, name).await?;
        match act(owned.row.id).await {
            Err(error) if owned.explains(&error) => {
                let now = self.bucket_now(caller, name).await?;
                let acted = act(now.row.id).await?;
                Ok((now, acted))
            }
            acted => Ok((owned, acted?)),
        }
    }

    /// Finds a bucket of the caller, as it is now.
    pub(super) async fn bucket_now(
        &self,
        caller: Caller,
        name: &str,
    ) -> Result<OwnedBucket, OpError> {
        let row = self.look_bucket(name).await?;
        owned(caller, row, false)
    }

    /// Asks for a bucket, checks whose it is, and keeps its row.
    async fn look_bucket(&self, name: &str) -> Result<Option<BucketRow>, OpError> {
        let asked = question::Bucket {
            name: name.to_owned(),
        };
        let Some(row) = self.ask(asked).await? else {
            self.shared.buckets.forget(name);
            return Ok(None);
        };
        owner::check(self.keys(), &row).await?;
        self.shared.buckets.keep(&row);
        Ok(Some(row))
    }
}

/// Says whether a bucket is there and is the caller's.
fn owned(caller: Caller, row: Option<BucketRow>, kept: bool) -> Result<OwnedBucket, OpError> {
    let row = row.ok_or(OpError::NoSuchBucket)?;
    match row.account == caller.account {
        true => Ok(OwnedBucket { row, kept }),
        false => Err(OpError::AccessDenied),
    }
}
