//! Starts the metadata role from its settings.

use crate::cgroup::memory_limit;
use crate::config::defaults::member_memory_bytes;
use crate::config::{Engine, MetadataSection, SettingsError};
use crate::verbs::role::RoleError;
use megalith_metadata::MemberMemory;
use megalith_metadata::engine::{EngineKind, EngineSettings};
use megalith_model::freeing::Grace;
use megalith_server::{MetadataConfig, MetadataPart, NodeConfig, Ports};
use std::path::Path;

/// A gateway beats every second: in less time a living one could be taken for silent.
const GATEWAY_LIFE_S_MIN: u32 = 3;

/// Starts the role of a node whose ports are bound.
pub fn start(
    config: &NodeConfig,
    ports: &Ports,
    dir: &Path,
    settings: &MetadataSection,
) -> Result<MetadataPart, RoleError> {
    let MetadataSection {
        // The node's `start`, `memory` and `engine` carry these.
        members: _,
        dir: _,
        tls_dir: _,
        engine: _,
        memory_bytes: _,
        cache_bytes: _,
        expected_nodes,
        gateway_life_s,
        delete_after_s,
        delete_at_last_s,
        deletes_waiting_max,
    } = *settings;
    let expected = usize::try_from(expected_nodes)
        .ok()
        .filter(|&nodes| nodes > 0);
    if gateway_life_s < GATEWAY_LIFE_S_MIN {
        let message = format!(
            "`metadata.gateway_life_s` is {gateway_life_s}: at least {GATEWAY_LIFE_S_MIN} are needed"
        );
        return Err(SettingsError::invalid("node settings", message).into());
    }
    let memory = memory(settings);
    tracing::info!(
        memory_bytes = memory.bytes(),
        "memory for the metadata's caches and queues"
    );
    let metadata = MetadataConfig {
        dir: dir.to_owned(),
        memory,
        engine: engine(settings),
        planner: megalith_placement::PlannerSettings {
            expected_nodes: expected,
            gateway_life_ms: u64::from(gateway_life_s) * 1_000,
            grace: Grace {
                min_ms: u64::from(delete_after_s) * 1_000,
                max_ms: u64::from(delete_at_last_s) * 1_000,
                queue_max: deletes_waiting_max,
            },
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
    let kind = match settings.engine {
        Engine::Fjall => EngineKind::Fjall,
        Engine::Sled => EngineKind::Sled,
    };
    memory(settings).engine(kind, settings.cache_bytes)
}

/// Returns what a member's caches and queues may use.
fn memory(settings: &MetadataSection) -> MemberMemory {
    let bytes = settings.memory_bytes;
    MemberMemory::new(bytes.unwrap_or_else(|| member_memory_bytes(memory_limit())))
}
