//! The metadata role from its settings.

use crate::config::{ConfigError, Engine, MetadataSection};
use crate::run::RunError;
use megalith_metadata::engine::{EngineKind, EngineSettings};
use megalith_model::ids::{ClusterId, NodeId};
use megalith_server::{MetadataConfig, MetadataPart, NodeConfig, Ports};
use std::error::Error;
use std::path::Path;

/// Smaller volumes would be made and closed all the time.
const VOLUME_BYTES_MIN: u64 = 1 << 20;

/// Starts the role of a node whose ports are bound.
pub fn start(
    config: &NodeConfig,
    ports: &Ports,
    dir: &Path,
    settings: &MetadataSection,
) -> Result<MetadataPart, RunError> {
    let expected = usize::try_from(settings.expected_nodes)
        .ok()
        .filter(|&nodes| nodes > 0);
    if settings.volume_bytes < VOLUME_BYTES_MIN {
        let message = format!(
            "`metadata.volume_bytes` is {}: at least {VOLUME_BYTES_MIN} are needed",
            settings.volume_bytes
        );
        return Err(ConfigError::invalid("node settings", message).into());
    }
    let metadata = MetadataConfig {
        dir: dir.to_owned(),
        engine: engine(settings),
        planner: megalith_placement::PlannerSettings {
            expected_nodes: expected,
            volume_bytes: settings.volume_bytes,
            ..megalith_placement::PlannerSettings::default()
        },
    };
    megalith_server::start_metadata(config, ports, metadata).map_err(|source| RunError::Metadata {
        path: dir.to_owned(),
        source: source.into(),
    })
}

/// Which embedded database keeps the rows, and how.
pub fn engine(settings: &MetadataSection) -> EngineSettings {
    EngineSettings {
        kind: match settings.engine {
            Engine::Fjall => EngineKind::Fjall,
            Engine::Sled => EngineKind::Sled,
        },
        cache_bytes: settings.cache_bytes,
    }
}

/// Makes the directory of a member that has never voted.
pub fn init(
    dir: &Path,
    cluster: ClusterId,
    member: u32,
    voters: &[u32],
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let voters: Vec<NodeId> = voters.iter().copied().map(NodeId).collect();
    Ok(megalith_server::init_metadata(
        dir,
        cluster,
        NodeId(member),
        &voters,
    )?)
}
