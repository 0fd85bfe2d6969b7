//! `megalith config`.

use super::role::{RoleError, address};
use crate::config::{self, GatewayFile, NoFlags, NodeFile, OperatorFile, SettingsError};
use crate::{files, setup};
use megalith_identity::TlsMaterial;
use std::path::Path;

/// Reads a file as its process would, and says which process that is.
pub fn check(file: &Path) -> Result<String, RoleError> {
    let text = files::read(file)?;
    let origin = file.display().to_string();
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| SettingsError::invalid(&origin, error.message()))?;
    let (kind, members) = if table.contains_key("gateway") {
        let settings: GatewayFile = config::load(Some(file), NoFlags {})?;
        setup::read_root_key(&settings.gateway.root_key_file)?;
        address("gateway.listen", &settings.gateway.listen)?;
        TlsMaterial::load(&settings.gateway.tls_dir)?;
        ("a gateway's settings, sound", settings.metadata.members)
    } else if table.contains_key("operator") {
        let settings: OperatorFile = config::load(Some(file), NoFlags {})?;
        TlsMaterial::load(&settings.operator.tls_dir)?;
        ("an operator's settings, sound", settings.metadata.members)
    } else {
        let settings: NodeFile = config::load(Some(file), NoFlags {})?;
        TlsMaterial::load(&settings.node.tls_dir)?;
        ("a node's settings, sound", settings.metadata.members)
    };
    config::parse_members(&origin, &members)?;
    Ok(format!("{origin}: {kind}\n"))
}
