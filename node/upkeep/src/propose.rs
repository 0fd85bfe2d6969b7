//! How upkeep speaks to the metadata group.

use megalith_client::{ClientError, MetaClient};
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_store::StoreError;

/// Why a round of upkeep did not get done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpkeepError {
    #[error("ask the metadata group")]
    Metadata(#[source] ClientError),
    #[error("look at the disk")]
    Store(#[source] StoreError),
    #[error("the metadata group did not speak of every shard")]
    ShortAnswer,
    #[error("the metadata group refused: {0}")]
    Refused(Refusal),
}

/// Puts a command through the log.
pub(crate) async fn propose(meta: &MetaClient, command: Command) -> Result<(), UpkeepError> {
    let answer = meta.propose(Envelope { key: None, command }).await;
    let answer = answer.map_err(UpkeepError::Metadata)?;
    answer.map(drop).map_err(UpkeepError::Refused)
}
