//! S3's operations in our own words: buckets, objects, listings, uploads.
//!
//! Owns what each operation promises: conditions, checks before anything is proposed, sealing, and
//! the mapping of refusals. Knows nothing of HTTP or XML ([`crate::s3`] does), nor of how bytes are
//! coded ([`megalith_blobs`] does). Must never answer success for an unknown outcome, or "no such
//! key" if the group could not be asked.

mod buckets;
pub mod checksum;
mod commit;
pub mod conditions;
mod copy;
mod delete;
pub mod error;
mod get;
mod ids;
mod list;
mod multipart;
pub mod names;
pub(crate) mod owner;
pub mod ports;
mod put;
pub mod range;
mod reseal;
mod write;

pub use buckets::BucketPage;
pub use copy::{CopyOutput, CopyRequest, CopySource, MetadataSource};
pub use delete::DeleteRequest;
pub use error::{OpError, Outage};
pub use get::{FoundObject, GetOutput, GetRequest, PartInfo};
pub use list::{ListOutput, ListRequest, ListedObject};
pub use multipart::{
    CompleteOutput, CompleteRequest, CreateUploadRequest, CreatedUpload, ListPartsOutput,
    ListUploadsOutput, ListUploadsRequest, ListedPart, ListedUpload, NamedPart, PART_BYTES_MIN,
    PartCopyRequest, PartOutput, PartRequest, UploadName,
};
pub use put::{PutOutput, PutRequest};
pub(crate) use reseal::Stepped;
pub use write::{BODY_BYTES_MAX, Body, BodyError, Description, Trailer};

use megalith_blobs::{LeaseError, LeasedId, Payer};
use megalith_client::{ClientError, Metadata, TypedCalls as _, chain};
use megalith_keyring::root::RootError;
use megalith_keyring::{KeyUse, Keys, KeysError};
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_model::ids::AccountId;
use megalith_model::instruction::Instruction;
use megalith_model::question::Question;
use ports::Blobs;
use std::future::Future;
use std::sync::Arc;

/// The caller: an account whose signature was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub account: AccountId,
}

impl Caller {
    /// Returns on whose account memory is taken for the caller.
    #[must_use]
    pub fn payer(self) -> Payer {
        Payer::Known(self.account.0)
    }
}

/// What the operations work with.
pub struct StoreComponents {
    pub meta: Arc<dyn Metadata>,
    pub blobs: Arc<dyn Blobs>,
    pub keys: Arc<Keys>,
}

/// The operations, as one request uses them. Cloned handles share everything.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    keys: KeyUse,
}

struct Shared {
    components: StoreComponents,
    buckets: buckets::Cache,
}

/// How many keys a command tries: both leases that the gateway holds may have been closed.
const KEYS_MAX: usize = 3;

/// Why a command was not applied.
enum Rejection {
    /// Apply refused it; nothing has changed.
    Refused(Refusal),
    /// It did not reach apply, or it is unknown whether it did.
    Failed(OpError),
}

impl Store {
    /// Builds the operations over their components.
    #[must_use]
    pub fn new(components: StoreComponents) -> Self {
        Self {
            keys: components.keys.begin(),
            shared: Arc::new(Shared {
                components,
                buckets: buckets::Cache::default(),
            }),
        }
    }

    /// Returns the operations for the next request, which uses the keys anew.
    #[must_use]
    pub fn begin(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            keys: self.shared.components.keys.begin(),
        }
    }

    /// Returns the request's use of the keys.
    #[must_use]
    pub fn keys(&self) -> &KeyUse {
        &self.keys
    }

    fn blobs(&self) -> &dyn Blobs {
        &*self.shared.components.blobs
    }

    /// Returns the group's time, in milliseconds since 1970.
    fn now_ms(&self) -> u64 {
        self.shared.components.meta.now_ms()
    }

    async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Reply, OpError> {
        let meta = &self.shared.components.meta;
        meta.ask(question).await.map_err(unavailable)
    }

    /// As [`Store::ask`]; also says after which entry of the log the rows were read.
    async fn ask_at<Q: Question>(&self, question: Q) -> Result<(Q::Reply, u64), OpError> {
        let meta = &self.shared.components.meta;
        meta.ask_at(question).await.map_err(unavailable)
    }

    /// Proposes the next attempt of the command whose key is `id`.
    async fn propose(&self, id: &LeasedId, command: Command) -> Result<(), Rejection> {
        let envelope = Envelope {
            key: Some(id.next_attempt()),
            command,
        };
        let answer = self.shared.components.meta.propose(envelope).await;
        self.heard(id, judged(answer).map(drop)).await
    }

    /// As [`Store::propose`], for a command that has an outcome of its own.
    async fn instruct<I: Instruction>(
        &self,
        id: &LeasedId,
        instruction: I,
    ) -> Result<I::Outcome, Rejection> {
        let meta = &self.shared.components.meta;
        let answer = meta.instruct(Some(id.next_attempt()), instruction).await;
        self.heard(id, judged(answer)).await
    }

    /// Gives a command that brings no blob a key of its own. If the key's lease was closed, nothing
    /// was done, and it is tried with another key.
    async fn with_key<T, F>(&self, run: impl Fn(Arc<LeasedId>) -> F) -> Result<T, Rejection>
    where
        F: Future<Output = Result<T, Rejection>>,
    {
        for _ in 1..KEYS_MAX {
            let result = run(self.new_key().await?).await;
            if !matches!(result, Err(Rejection::Refused(Refusal::LeaseClosed { .. }))) {
                return result;
            }
        }
        run(self.new_key().await?).await
    }

    async fn new_key(&self) -> Result<Arc<LeasedId>, Rejection> {
        let id = self.blobs().take_id().await;
        let id = id.map_err(|error| Rejection::Failed(no_id(&error)))?;
        Ok(Arc::new(id))
    }

    /// Takes note of an answer. After a restore from a backup all leases are closed, and the keys
    /// may be others than before, too: what is sealed next must be sealed with those that are
    /// there.
    async fn heard<T>(&self, id: &LeasedId, result: Result<T, Rejection>) -> Result<T, Rejection> {
        let result = self.note(id, result);
        if let Err(Rejection::Refused(Refusal::LeaseClosed { .. })) = &result {
            let reloaded = self.keys().reload().await;
            reloaded.map_err(|error| Rejection::Failed(error.into()))?;
        }
        result
    }

    /// Notes what an answer says of a key: that its lease was closed and is not to be used again,
    /// or that no row names its blob.
    fn note<T>(&self, id: &LeasedId, result: Result<T, Rejection>) -> Result<T, Rejection> {
        match &result {
            Err(Rejection::Refused(Refusal::LeaseClosed { .. })) => {
                self.blobs().lease_refused(id.blob().lease());
            }
            // They say nothing of the blob.
            Err(Rejection::Refused(Refusal::KeyUsed { .. } | Refusal::Superseded { .. })) => {}
            Err(Rejection::Refused(_)) => id.refused(),
            Ok(_) | Err(Rejection::Failed(_)) => {}
        }
        result
    }
}

/// Tells a command that apply has judged from one that it has not.
fn judged<T>(answer: Result<Result<T, Refusal>, ClientError>) -> Result<T, Rejection> {
    match answer {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(refusal)) => Err(Rejection::Refused(refusal)),
        Err(error) => Err(Rejection::Failed(unavailable(error))),
    }
}

impl From<Rejection> for OpError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Refused(refusal) => refusal.into(),
            Rejection::Failed(error) => error,
        }
    }
}

impl From<Refusal> for OpError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchBucket => Self::NoSuchBucket,
            Refusal::NoSuchKey | Refusal::SourceGone => Self::NoSuchKey,
            Refusal::NoSuchUpload => Self::NoSuchUpload,
            Refusal::NoSuchPart(_) => Self::InvalidPart,
            Refusal::Condition { .. } => Self::PreconditionFailed("If-Match"),
            Refusal::BucketExists { .. } => Self::BucketAlreadyExists,
            Refusal::BucketNotEmpty => Self::BucketNotEmpty,
            Refusal::LeaseClosed { .. } => Self::SlowDown("the lease of blob ids was closed"),
            Refusal::StaleVolume { .. } => Self::SlowDown("a volume changed during the write"),
            Refusal::SealedTime { .. } => {
                Self::SlowDown("the time of the metadata group moved during the write")
            }
            Refusal::KekReplaced { .. } => {
                Self::SlowDown("a key-encryption key was replaced during the write")
            }
            Refusal::NameTaken | Refusal::NoSuchAccount => Self::AccessDenied,
            Refusal::OtherCluster
            | Refusal::KeyUsed { .. }
            | Refusal::Superseded { .. }
            | Refusal::Changed
            | Refusal::Malformed(_)
            | Refusal::Internal(_)
            | Refusal::Level { .. }
            | Refusal::KeksLost
            | Refusal::Rotating { .. } => Self::Internal(refusal.to_string()),
        }
    }
}

impl From<KeysError> for OpError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Metadata(error) => unavailable(error),
            KeysError::Damaged(what) => Self::Damaged(what),
            KeysError::Root(error) => match Outage::of_root(&error) {
                Some(outage) => Self::Unavailable(outage, error.to_string()),
                None => Self::Damaged("key-encryption key"),
            },
            KeysError::Lost | KeysError::Missing { .. } => Self::Internal(error.to_string()),
        }
    }
}

impl Outage {
    /// Says what is out if a root opens no keys; None if it is no outage: what is stored is wrong.
    #[must_use]
    pub fn of_root(error: &RootError) -> Option<Self> {
        match error {
            RootError::Unreachable { .. } => Some(Self::KeyServiceAway),
            RootError::Sealed { .. } => Some(Self::KeyServiceSealed),
            RootError::Denied { .. }
            | RootError::Refused { .. }
            | RootError::Token(_)
            | RootError::NoSuchMount { .. } => Some(Self::KeyServiceRefuses),
            RootError::NoSuchKey { .. } | RootError::TooOld { .. } => Some(Self::RootKeyGone),
            RootError::NotNamed { .. } => Some(Self::Keys),
            RootError::Foreign { .. } | RootError::Crypto(_) => None,
        }
    }
}

/// Says why there is no id for a command.
fn no_id(error: &LeaseError) -> OpError {
    let outage = match error {
        LeaseError::Stopping => Outage::Stopping,
        LeaseError::Metadata(ClientError::Denied(_)) => Outage::Denied,
        LeaseError::Metadata(
            ClientError::Unknown(_)
            | ClientError::Unavailable(_)
            | ClientError::Rejected(_)
            | ClientError::Malformed(_),
        ) => Outage::Metadata,
        LeaseError::Refused(_) => Outage::NoId,
    };
    OpError::Unavailable(outage, chain(error))
}

fn unavailable(error: ClientError) -> OpError {
    match error {
        // An answer that can't be read leaves open what was done.
        ClientError::Unknown(why) | ClientError::Malformed(why) => {
            OpError::Unavailable(Outage::Unclear, format!("outcome unknown: {why}"))
        }
        ClientError::Unavailable(why) => OpError::Unavailable(Outage::Metadata, why),
        ClientError::Denied(why) => {
            OpError::Unavailable(Outage::Denied, format!("this gateway is denied: {why}"))
        }
        ClientError::Rejected(why) => OpError::Internal(format!("rejected: {why}")),
    }
}
