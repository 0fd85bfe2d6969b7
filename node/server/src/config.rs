//! What a node is told: a checked value, no files read here.

use crate::edge::{DataEdgeSettings, GrpcEdgeSettings};
use megalith_client::{CallSettings, Endpoint};
use megalith_identity::{Role, TlsMaterial};
use megalith_model::claim::{ADDRESS_LEN_MAX, ZONE_LEN_MAX};
use megalith_model::ids::NodeId;
use megalith_store::StoreSettings;
use megalith_upkeep::orphans::OrphanSettings;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A node's configuration. [`NodeConfig::check`] says whether it can be run.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's number, as in its certificate.
    pub node: NodeId,
    /// Failure domain above the node; may be empty.
    pub zone: String,
    /// Where the gRPC listener binds.
    pub rpc: ListenAddress,
    /// Where the data listener binds; without disks it isn't opened.
    pub data: ListenAddress,
    /// The certificate of the storage role: its listener shows it, and it dials with it.
    pub storage: Arc<TlsMaterial>,
    /// The certificate of the metadata role. The same one if that has both roles; otherwise one
    /// that was loaded beside it, so that both follow one deny list.
    pub metadata: Arc<TlsMaterial>,
    /// The disks' directories, formatted. None: no storage role.
    pub disks: Vec<PathBuf>,
    /// The members of the metadata group. This node's own entry, if it is one, follows the port
    /// that was bound.
    pub members: Vec<Endpoint>,
    /// How it does all that.
    pub settings: NodeSettings,
}

/// Where to bind, and what others are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// `host:port`; port 0 takes any free one.
    pub bind: String,
    /// `host:port` by which others reach it; port 0 stands for the bound one. None: as bound.
    pub advertise: Option<String>,
}

/// How a node does its work. What all nodes must share is cluster state and not here.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    pub store: StoreSettings,
    /// Of the gRPC listener.
    pub grpc: GrpcEdgeSettings,
    /// Of the data listener.
    pub data: DataEdgeSettings,
    /// Of calls to the metadata group.
    pub calls: CallSettings,
    /// Between heartbeats (default 500 ms; a node silent for 2 s takes no new shards).
    pub heartbeat_interval: Duration,
    /// Between claims of disks that the cluster refuses (default 10 s): one that has moved here is
    /// free once its old node has registered without it.
    pub claim_interval: Duration,
    /// A disk that doesn't say how it is within this time is reported closed (default 1 s). No
    /// heartbeat waits for it.
    pub disk_deadline: Duration,
    /// Between looks for deletes and damage (default 1 s).
    pub upkeep_interval: Duration,
    /// Between looks for owed shards that are there nevertheless (default 20 s).
    pub fills_interval: Duration,
    /// How shards that nothing names are looked for, and how long they are kept.
    pub orphans: OrphanSettings,
    /// What requests in flight have at a stop (default 10 s).
    pub drain_deadline: Duration,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            store: StoreSettings::default(),
            grpc: GrpcEdgeSettings::default(),
            data: DataEdgeSettings::default(),
            calls: CallSettings::default(),
            heartbeat_interval: Duration::from_millis(500),
            claim_interval: Duration::from_secs(10),
            disk_deadline: Duration::from_secs(1),
            upkeep_interval: Duration::from_secs(1),
            fills_interval: Duration::from_secs(20),
            orphans: OrphanSettings::default(),
            drain_deadline: Duration::from_secs(10),
        }
    }
}

/// A configuration that can't be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The certificate is another member's.
    #[error("the certificate is of {found}; {role} {node} is needed")]
    Certificate {
        /// What it must grant.
        role: Role,
        node: NodeId,
        found: String,
    },
    #[error("the node has neither disks nor the metadata role")]
    NoRole,
    #[error("no member of the metadata group is given")]
    NoMembers,
    /// One number for two members.
    #[error("{node} is given twice among the members of the metadata group")]
    RepeatedMember { node: NodeId },
    /// One directory for two disks.
    #[error("the disk {} is given twice", path.display())]
    RepeatedDisk { path: PathBuf },
    /// Metadata members would refuse it.
    #[error("the zone {zone:?} is longer than {ZONE_LEN_MAX} bytes or holds control characters")]
    Zone { zone: String },
    /// Others can't reach what was given.
    #[error("{what}: {address:?} {fault}")]
    Address {
        what: &'static str,
        address: String,
        fault: &'static str,
    },
}

/// Checks that a node has a role, and the certificate of each of its roles.
pub fn check_certificates(
    node: NodeId,
    storage: Option<&TlsMaterial>,
    metadata: Option<&TlsMaterial>,
) -> Result<(), ConfigError> {
    if storage.or(metadata).is_none() {
        return Err(ConfigError::NoRole);
    }
    for (role, material) in [(Role::Storage, storage), (Role::Metadata, metadata)] {
        let identity = material.map(TlsMaterial::identity);
        if let Some(identity) = identity.filter(|identity| !identity.is(role, node.0)) {
            let found = identity.to_string();
            return Err(ConfigError::Certificate { role, node, found });
        }
    }
    Ok(())
}

impl NodeConfig {
    /// Checks what can be checked before anything is opened. `metadata` says whether the node has
    /// that role.
    pub fn check(&self, metadata: bool) -> Result<(), ConfigError> {
        let storage = (!self.disks.is_empty()).then_some(&*self.storage);
        let metadata = metadata.then_some(&*self.metadata);
        check_certificates(self.node, storage, metadata)?;
        if self.members.is_empty() {
            return Err(ConfigError::NoMembers);
        }
        let mut seen = BTreeSet::new();
        if let Some(again) = self.members.iter().find(|member| !seen.insert(member.node)) {
            return Err(ConfigError::RepeatedMember { node: again.node });
        }
        let mut seen = BTreeSet::new();
        if let Some(path) = self.disks.iter().find(|path| !seen.insert(*path)) {
            let path = path.clone();
            return Err(ConfigError::RepeatedDisk { path });
        }
        if self.zone.len() > ZONE_LEN_MAX || self.zone.chars().any(char::is_control) {
            let zone = self.zone.clone();
            return Err(ConfigError::Zone { zone });
        }
        self.rpc.check("rpc address")?;
        if !self.disks.is_empty() {
            self.data.check("data address")?;
        }
        for member in self
            .members
            .iter()
            .filter(|member| member.node != self.node)
        {
            if port_of(&member.address).is_none_or(|port| port == 0) {
                return Err(ConfigError::Address {
                    what: "member",
                    address: member.address.clone(),
                    fault: "has no port",
                });
            }
        }
        Ok(())
    }

    /// Returns what the gRPC listener shows: to each client the certificate of the role that it
    /// calls, and the metadata role's first if the node `is_member`. It says that gRPC is spoken:
    /// standard clients leave a listener that doesn't.
    pub(super) fn rpc_material(&self, is_member: bool) -> Arc<TlsMaterial> {
        let material = match (is_member, self.disks.is_empty()) {
            (true, true) => self.metadata.clone(),
            (true, false) => self.metadata.also_showing(&self.storage),
            (false, _) => self.storage.clone(),
        };
        material.speaking(&["h2"])
    }
}

impl ListenAddress {
    /// Builds an address that is told to others as it is bound.
    #[must_use]
    pub fn new(bind: impl fmt::Display) -> Self {
        Self {
            bind: bind.to_string(),
            advertise: None,
        }
    }

    fn check(&self, what: &'static str) -> Result<(), ConfigError> {
        let wrong = |address: &str, fault| ConfigError::Address {
            what,
            address: address.to_owned(),
            fault,
        };
        if port_of(&self.bind).is_none() {
            return Err(wrong(&self.bind, "has no port"));
        }
        let told = self.advertise.as_deref().unwrap_or(&self.bind);
        if port_of(told).is_none() {
            return Err(wrong(told, "has no port"));
        }
        if told.len() > ADDRESS_LEN_MAX || told.chars().any(char::is_control) {
            return Err(wrong(told, "is too long or holds control characters"));
        }
        let host = told.rsplit_once(':').map_or("", |(host, _)| host);
        if matches!(host, "" | "0.0.0.0" | "[::]") {
            return Err(wrong(
                told,
                "can't be told to others: set what to advertise",
            ));
        }
        Ok(())
    }

    /// Returns what others are told once `port` is bound.
    pub(super) fn told(&self, port: u16) -> String {
        let told = self.advertise.as_deref().unwrap_or(&self.bind);
        match told.rsplit_once(':') {
            Some((host, "0")) => format!("{host}:{port}"),
            Some(_) | None => told.to_owned(),
        }
    }
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bind: &str, advertise: Option<&str>) -> Result<String, &'static str> {
        let address = ListenAddress {
            bind: bind.to_owned(),
            advertise: advertise.map(str::to_owned),
        };
        match address.check("address") {
            Ok(()) => Ok(address.told(700)),
            Err(ConfigError::Address { fault, .. }) => Err(fault),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_told_can_be_reached() {
        assert_eq!(told("127.0.0.1:0", None).as_deref(), Ok("127.0.0.1:700"));
        assert_eq!(told("10.0.0.1:5", None).as_deref(), Ok("10.0.0.1:5"));
        assert_eq!(
            told("[::]:0", Some("node-1.local:0")).as_deref(),
            Ok("node-1.local:700")
        );
        assert_eq!(
            told("0.0.0.0:5", Some("node-1:80")).as_deref(),
            Ok("node-1:80")
        );
        for (bind, advertise) in [
            ("0.0.0.0:5", None),
            ("[::]:5", None),
            (":5", None),
            ("10.0.0.1", None),
            ("10.0.0.1:5", Some("node-1")),
            ("10.0.0.1:5", Some("0.0.0.0:5")),
            ("10.0.0.1:x", None),
        ] {
            assert!(told(bind, advertise).is_err(), "{bind} {advertise:?}");
        }
    }
}
