//! `megalith settings`: what all processes of a cluster share.

use super::json_text;
use crate::args::{OutputFormat, SetArgs, SettingsVerb};
use crate::reach::{self, ReachError};
use megalith_admin::settings::{self, SettingsError};
use megalith_client::MetaClient;
use megalith_model::settings::Settings;
use std::fmt::Write;

/// Why the settings could not be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsVerbError {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// Runs the verb.
pub async fn run(verb: &SettingsVerb) -> Result<String, SettingsVerbError> {
    let reach = match verb {
        SettingsVerb::Get { reach, .. } | SettingsVerb::Set(SetArgs { reach, .. }) => reach,
    };
    let reached = reach::open(reach)?;
    let meta = MetaClient::new(&reached.members, reached.tls, reach::call_settings());
    Ok(match verb {
        SettingsVerb::Get { output, .. } => {
            let settings = settings::get(&meta).await?;
            match output {
                OutputFormat::Text => text(&settings),
                OutputFormat::Json => json_text(&settings),
            }
        }
        SettingsVerb::Set(SetArgs { changes, .. }) => text(&settings::set(&meta, changes).await?),
    })
}

/// Returns the settings for people: one per line, in the form that `set` takes.
fn text(settings: &Settings) -> String {
    let mut out = String::new();
    for (name, value, about) in settings.named() {
        let line = format!("{name}={value}");
        let _ = writeln!(out, "{line:<32} {about}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_shown_as_it_is_set() {
        let shown = text(&Settings::default());
        let first = shown.lines().next().expect("a line");
        assert!(first.starts_with("volume_bytes=34359738368  "), "{first}");
    }
}
