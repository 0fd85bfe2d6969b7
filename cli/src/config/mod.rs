//! Settings of one process: file < environment < flags, checked once.
//!
//! A raw struct for each process mirrors the TOML file; unknown keys are refused with the nearest
//! known name. Environment variables are `MEGALITH_<SECTION>__<KEY>` (two underscores; variables
//! with only one, such as those that Kubernetes sets for a service, are ignored). Defaults that
//! more than one place needs are in `defaults`.
//!
//! State that all nodes share belongs to the metadata group and not into a file (`megalith
//! settings`). There are exceptions so far: each member has `metadata.expected_nodes` and how long
//! deletes wait in its file, and the leader's values count.

pub mod defaults;
mod gateway;
mod node;
mod operator;
mod vault;

pub use gateway::{GatewayFile, GatewaySection, MembersSection};
pub use node::{
    Engine, LogFormat, LogSection, MetadataSection, NodeFile, NodeSection, StorageSection,
};
pub use operator::{OperatorFile, OperatorSection};
pub use vault::VaultSection;

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Serialized};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Settings that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("read the configuration file {path}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// An unknown key.
    #[error("{origin}: unknown key `{key}`{hint}")]
    UnknownKey {
        origin: String,
        /// The key as written.
        key: String,
        /// The nearest known one.
        hint: String,
    },
    /// A value of the wrong kind, or a required key that is missing.
    #[error("{origin}: {message}")]
    Invalid { origin: String, message: String },
}

impl SettingsError {
    /// Builds the error for a value that could be read but makes no sense.
    pub fn invalid(origin: &str, message: impl Into<String>) -> Self {
        Self::Invalid {
            origin: origin.to_owned(),
            message: message.into(),
        }
    }
}

/// No flag was given.
#[derive(Debug, Serialize)]
pub struct NoFlags {}

/// Reads a process's settings from `file` (if given), then the environment, then `flags` (which
/// serialise only what was given on the command line). Later ones win.
pub fn load<T, F>(file: Option<&Path>, flags: F) -> Result<T, SettingsError>
where
    T: DeserializeOwned,
    F: Serialize,
{
    let mut figment = Figment::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
            path: path.to_owned(),
            source,
        })?;
        figment = figment.merge(Serialized::defaults(read_table(path, &text)?));
    }
    figment = figment
        .merge(
            Env::prefixed("MEGALITH_")
                .filter(|key| key.as_str().contains("__"))
                .map(
                    |key| match RENAMED.iter().find(|renamed| key == renamed.old_variable) {
                        Some(renamed) => renamed.variable.into(),
                        None => key.into(),
                    },
                )
                .split("__"),
        )
        .merge(Serialized::defaults(flags));
    let origin = file.map_or_else(|| "settings".to_owned(), |path| path.display().to_string());
    figment.extract().map_err(|error| describe(error, &origin))
}

/// A key that was renamed. Files and environments with the old name are still understood.
struct Renamed {
    section: &'static str,
    old: &'static str,
    new: &'static str,
    /// The variable for the old name, after `MEGALITH_`.
    old_variable: &'static str,
    variable: &'static str,
}

const RENAMED: [Renamed; 1] = [Renamed {
    section: "gateway",
    old: "admin_listen",
    new: "health_listen",
    old_variable: "gateway__admin_listen",
    variable: "gateway__health_listen",
}];

/// Parses a file and replaces old names of keys by new ones.
fn read_table(path: &Path, text: &str) -> Result<toml::Table, SettingsError> {
    let origin = path.display().to_string();
    let mut table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| SettingsError::invalid(&origin, error.to_string()))?;
    for renamed in &RENAMED {
        let Some(section) = table
            .get_mut(renamed.section)
            .and_then(toml::Value::as_table_mut)
        else {
            continue;
        };
        let Some(value) = section.remove(renamed.old) else {
            continue;
        };
        if section.insert(renamed.new.to_owned(), value).is_some() {
            let (section, old, new) = (renamed.section, renamed.old, renamed.new);
            let message =
                format!("`{section}.{old}` is the old name of `{section}.{new}`: name one");
            return Err(SettingsError::invalid(&origin, message));
        }
    }
    Ok(table)
}

fn describe(error: figment::Error, file: &str) -> SettingsError {
    let from_environment = error
        .metadata
        .as_ref()
        .is_some_and(|metadata| metadata.name.contains("environment"));
    let origin = if from_environment {
        "environment".to_owned()
    } else {
        file.to_owned()
    };
    let section = error.path.join(".");
    let at = |key: &str| {
        if section.is_empty() || section.ends_with(key) {
            if section.is_empty() {
                key.to_owned()
            } else {
                section.clone()
            }
        } else {
            format!("{section}.{key}")
        }
    };
    match &error.kind {
        Kind::UnknownField(key, known) => SettingsError::UnknownKey {
            origin,
            key: at(key),
            hint: nearest(key, known),
        },
        Kind::MissingField(key) => SettingsError::Invalid {
            origin,
            message: format!("`{}` is required", at(key)),
        },
        _ => SettingsError::Invalid {
            origin,
            message: if section.is_empty() {
                error.kind.to_string()
            } else {
                format!("`{section}`: {}", error.kind)
            },
        },
    }
}

/// Returns ` (did you mean …?)` with the nearest known name, or the list if none is near.
fn nearest(key: &str, known: &[&str]) -> String {
    let best = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(key, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3);
    match best {
        Some((_, name)) => format!(" (did you mean `{name}`?)"),
        None => format!(" (known: {})", known.join(", ")),
    }
}

/// Reads `id=host:port` pairs.
pub fn parse_members(origin: &str, texts: &[String]) -> Result<Vec<(u32, String)>, SettingsError> {
    let parse = |text: &String| {
        let (id, address) = text.split_once('=')?;
        let id = id.trim().parse().ok().filter(|&id: &u32| id > 0)?;
        let (host, port) = address.trim().rsplit_once(':')?;
        let named = !host.is_empty() && port.parse::<u16>().is_ok();
        named.then(|| (id, address.trim().to_owned()))
    };
    let members: Vec<(u32, String)> = texts
        .iter()
        .map(|text| {
            parse(text).ok_or_else(|| {
                let message = format!("`{text}` is not `id=host:port` with an id from 1");
                SettingsError::invalid(origin, message)
            })
        })
        .collect::<Result<_, _>>()?;
    if members.is_empty() {
        return Err(SettingsError::invalid(
            origin,
            "no metadata member is named",
        ));
    }
    for (i, (id, _)) in members.iter().enumerate() {
        if members[..i].iter().any(|(other, _)| other == id) {
            return Err(SettingsError::invalid(
                origin,
                format!("metadata member {id} is there twice"),
            ));
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests;
