//! Shows and changes the cluster's settings.

use megalith_client::{ClientError, Metadata, TypedCalls};
use megalith_model::command::{Command, Envelope, Refusal};
use megalith_model::question;
use megalith_model::settings::{SettingError, Settings};

/// Why the settings were not shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error("ask the metadata group")]
    Client(#[source] ClientError),
    #[error("the settings were not changed: {0}")]
    Refused(Refusal),
}

/// Returns the settings.
pub async fn get(meta: &impl Metadata) -> Result<Settings, SettingsError> {
    let settings = meta.ask(question::Settings).await;
    settings.map_err(SettingsError::Client)
}

/// Changes those that are named, each with its value in words; returns all as they are then. If one
/// can't be set, none is.
///
/// # Errors
/// [`SettingsError::Refused`] with [`Refusal::Changed`] if somebody else has changed them
/// meanwhile.
pub async fn set(
    meta: &impl Metadata,
    changes: &[(String, String)],
) -> Result<Settings, SettingsError> {
    let old = get(meta).await?;
    let mut new = old;
    for (name, value) in changes {
        new.set(name, value)?;
    }
    if new == old {
        return Ok(old);
    }
    new.revision = old.revision.saturating_add(1);
    let envelope = Envelope {
        key: None,
        command: Command::SetSettings(new),
    };
    let answer = meta.propose(envelope).await;
    let answer = answer.map_err(SettingsError::Client)?;
    answer.map_err(SettingsError::Refused)?;
    Ok(new)
}
