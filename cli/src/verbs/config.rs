//! `megalith config`.

use super::role::{RoleError, address};
use crate::config::{self, GatewayFile, NoFlags, NodeFile, OperatorFile, SettingsError};
use crate::{files, setup};
use megalith_identity::{Role, TlsMaterial};
use megalith_model::ids::NodeId;
use megalith_server::{ConfigError, NodeError};
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
        check_certificates(&settings)?;
        ("a node's settings, sound", settings.metadata.members)
    };
    config::parse_members(&origin, &members)?;
    Ok(format!("{origin}: {kind}\n"))
}

/// Checks that the certificates of a node can be used, and that they have its roles.
fn check_certificates(settings: &NodeFile) -> Result<(), RoleError> {
    let tls = TlsMaterial::load(&settings.node.tls_dir)?;
    let metadata = match &settings.metadata.tls_dir {
        Some(dir) => tls.load_beside(dir)?,
        None => tls.clone(),
    };
    let id = settings.node.id;
    let roles = [
        (Role::Storage, &tls, settings.storage.is_some()),
        (Role::Metadata, &metadata, settings.metadata.dir.is_some()),
    ];
    for (role, tls, _) in roles.into_iter().filter(|(_, _, has)| *has) {
        let identity = tls.identity();
        if !identity.is(role, id) {
            let (node, found) = (NodeId(id), identity.to_string());
            let wrong = ConfigError::Certificate { role, node, found };
            return Err(NodeError::Config(wrong).into());
        }
    }
    Ok(())
}
