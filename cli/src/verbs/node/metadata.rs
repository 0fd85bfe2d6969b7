//! Starts the metadata role from its settings.

use crate::config::{Engine, MetadataSection};
use crate::verbs::role::RoleError;
use megalith_metadata::engine::{EngineKind, EngineSettings};
use megalith_server::{MetadataConfig, MetadataPart, NodeConfig, Ports};
use std::path::Path;

/// Starts the role of a node whose ports are bound.
pub fn start(
    config: &NodeConfig,
    ports: &Ports,
    dir: &Path,
    settings: &MetadataSection,
) -> Result<MetadataPart, RoleError> {
    let MetadataSection {
        // The node's `start` and `engine` carry these.
        members: _,
        dir: _,
        engine: _,
        cache_bytes: _,
        expected_nodes,
    } = *settings;
    let expected = usize::try_from(expected_nodes)
        .ok()
        .filter(|&nodes| nodes > 0);
    let metadata = MetadataConfig {
        dir: dir.to_owned(),
        engine: engine(settings),
        planner: megalith_placement::PlannerSettings {
            expected_nodes: expected,
            ..megalith_placement::PlannerSettings::default()
        },
    };
    megalith_server::start_metadata(config, ports, metadata).map_err(|source| RoleError::Metadata {
        path: dir.to_owned(),
        source: source.into(),
    })
}

/// Returns which embedded database keeps the rows, and its settings.
pub fn engine(settings: &MetadataSection) -> EngineSettings {
    EngineSettings {
        kind: match settings.engine {
            Engine::Fjall => EngineKind::Fjall,
            Engine::Sled => EngineKind::Sled,
        },
        cache_bytes: settings.cache_bytes,
    }
}
