//! `megalith config`.

use super::node;
use super::role::{RoleError, address};
use crate::config::{self, GatewayFile, NoFlags, NodeFile, OperatorFile, SettingsError};
use crate::files;
use crate::roots::{For, Named};
use megalith_identity::TlsMaterial;
use megalith_model::ids::NodeId;
use megalith_server::{NodeError, check_certificates};
use std::path::Path;

/// Reads a file as its process would, and says which process that is.
pub fn check(file: &Path) -> Result<String, RoleError> {
    let text = files::read(file)?;
    let origin = file.display().to_string();
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| SettingsError::invalid(&origin, error.message()))?;
    let mut warning = None;
    let (kind, members) = if table.contains_key("gateway") {
        let settings: GatewayFile = config::load(Some(file), NoFlags {})?;
        let named = Named {
            origin: origin.clone(),
            root_key_file: settings.gateway.root_key_file.as_deref(),
            vault: settings.vault.as_ref(),
        };
        named.open(For::Gateway)?;
        address("gateway.listen", &settings.gateway.listen)?;
        TlsMaterial::load(&settings.gateway.tls_dir)?;
        ("a gateway's settings, sound", settings.metadata.members)
    } else if table.contains_key("operator") {
        let settings: OperatorFile = config::load(Some(file), NoFlags {})?;
        TlsMaterial::load(&settings.operator.tls_dir)?;
        ("an operator's settings, sound", settings.metadata.members)
    } else {
        let settings: NodeFile = config::load(Some(file), NoFlags {})?;
        warning = certificates(&settings)?;
        ("a node's settings, sound", settings.metadata.members)
    };
    config::parse_members(&origin, &members)?;
    let warning = warning.map_or_else(String::new, |why| format!("{origin}: warning: {why}\n"));
    Ok(format!("{origin}: {kind}\n{warning}"))
}

/// Checks that the certificates of a node can be used, and that they have its roles. Returns what
/// is to be warned of.
fn certificates(settings: &NodeFile) -> Result<Option<String>, RoleError> {
    let (tls_dir, metadata) = (&settings.node.tls_dir, &settings.metadata);
    let (storage, member) = node::certificates(tls_dir, metadata.tls_dir.as_deref())?;
    let disks = settings.storage.as_ref().map(|storage| &storage.disks);
    let stores = disks.is_some_and(|disks| !disks.is_empty());
    check_certificates(
        NodeId(settings.node.id),
        stores.then_some(&storage),
        metadata.dir.is_some().then_some(&member),
    )
    .map_err(NodeError::Config)?;
    Ok(node::votes_too(&storage, &member))
}
