//! The seam between the metadata group and the code that needs it.
//!
//! [`MetaClient`] is the real implementation. Tests use a state machine in memory, which can fail,
//! stay silent and lose answers.

use crate::error::ClientError;
use crate::meta::MetaClient;
use futures::future::BoxFuture;
use megalith_model::command::{Answer, CommandKey, Envelope, Refusal};
use megalith_model::instruction::Instruction;
use megalith_model::query::{Query, Reply};
use megalith_model::question::Question;
use std::time::{SystemTime, UNIX_EPOCH};

/// The metadata group.
pub trait Metadata: Send + Sync + 'static {
    /// Puts a command through the log.
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, ClientError>>;

    /// Asks a question; the reply is linearizable. Also says after which entry of the log the rows
    /// were read.
    fn query_at(&self, query: Query) -> BoxFuture<'_, Result<(Reply, u64), ClientError>>;

    /// Returns the group's time in milliseconds since 1970: what its leader said last, reckoned on.
    fn now_ms(&self) -> u64;
}

impl Metadata for MetaClient {
    fn propose(&self, envelope: Envelope) -> BoxFuture<'_, Result<Answer, ClientError>> {
        Box::pin(Self::propose(self, envelope))
    }

    fn query_at(&self, query: Query) -> BoxFuture<'_, Result<(Reply, u64), ClientError>> {
        Box::pin(Self::query_at(self, query))
    }

    fn now_ms(&self) -> u64 {
        Self::now_ms(self)
    }
}

/// Typed calls to the metadata group: the result is the reply to that question, or an error. Every
/// [`Metadata`] has them.
pub trait TypedCalls: Metadata {
    /// Asks a question; the reply is linearizable.
    ///
    /// # Errors
    /// As [`Metadata::query_at`], and [`ClientError::Malformed`] for a reply to another question.
    fn ask<Q: Question>(
        &self,
        question: Q,
    ) -> impl Future<Output = Result<Q::Reply, ClientError>> + Send {
        let asked = self.ask_at(question);
        async move { asked.await.map(|(reply, _)| reply) }
    }

    /// As [`TypedCalls::ask`]; also says after which entry of the log the rows were read.
    ///
    /// # Errors
    /// As [`TypedCalls::ask`].
    fn ask_at<Q: Question>(
        &self,
        question: Q,
    ) -> impl Future<Output = Result<(Q::Reply, u64), ClientError>> + Send {
        let asked = self.query_at(question.into());
        async move {
            let (reply, index) = asked.await?;
            let reply = Q::from_reply(reply).ok_or_else(not_to_this)?;
            Ok((reply, index))
        }
    }

    /// Puts a command that has its own type of outcome through the log.
    ///
    /// # Errors
    /// As [`Metadata::propose`], and [`ClientError::Malformed`] for another command's outcome.
    fn instruct<I: Instruction>(
        &self,
        key: Option<CommandKey>,
        instruction: I,
    ) -> impl Future<Output = Result<Result<I::Outcome, Refusal>, ClientError>> + Send {
        let answer = self.propose(Envelope {
            key,
            command: instruction.into(),
        });
        async move {
            match answer.await? {
                Ok(outcome) => I::from_outcome(outcome).ok_or_else(not_to_this).map(Ok),
                Err(refusal) => Ok(Err(refusal)),
            }
        }
    }
}

impl<M: Metadata + ?Sized> TypedCalls for M {}

/// The one place that notices an answer of the wrong kind.
fn not_to_this() -> ClientError {
    ClientError::Malformed("it answers another question".to_owned())
}

/// Returns this machine's wall clock in milliseconds since 1970. It may be wrong: for times that
/// are stored of objects, ask [`Metadata::now_ms`].
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
