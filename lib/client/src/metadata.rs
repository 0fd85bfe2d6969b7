//! The seam between whoever needs the metadata group and the group itself.
//!
//! [`MetaClient`] is the real part. Tests put a state machine in memory here, which can fail,
//! stay silent and lose answers.

use crate::error::ClientError;
use crate::meta::MetaClient;
use futures::future::BoxFuture;
use megalith_model::command::{Answer, Envelope};
use megalith_model::query::{Query, Reply};
use std::time::{SystemTime, UNIX_EPOCH};

/// The metadata group.
pub trait Metadata: Send + Sync + 'static {
    /// Puts a command through the log.
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, ClientError>>;

    /// Asks a question; the reply is linearizable.
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Reply, ClientError>>;
}

impl Metadata for MetaClient {
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, ClientError>> {
        Box::pin(Self::propose(self, envelope))
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Reply, ClientError>> {
        Box::pin(Self::query(self, query))
    }
}

/// Returns the wall clock in milliseconds since 1970: the time that goes into commands.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
