//! `megalith node`: a storage and/or metadata node, run until a signal comes.

mod init;
pub mod metadata;

pub use init::init;

use super::role::{CERTIFICATE_INTERVAL, RoleError, StopSignals, given, warn_of_open_keys};
use crate::args::NodeArgs;
use crate::cgroup::memory_limit;
use crate::config::defaults::disk_queue_bytes;
use crate::config::{self, NodeFile, NodeSection, SettingsError, StorageSection};
use crate::{descriptors, logging, reach};
use megalith_disk::{FileSystem, RealFs};
use megalith_identity::{IdentityError, Role, TlsMaterial};
use megalith_model::ids::NodeId;
use megalith_server::{ListenAddress, NodeConfig, NodeSettings, OrphanSettings, RunningNode};
use megalith_store::ScrubSettings;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const GIB: u64 = 1 << 30;

/// Runs `megalith node` until a signal comes.
pub async fn run(args: &NodeArgs) -> Result<(), RoleError> {
    let settings: NodeFile = config::load(Some(given(args.config.as_deref())?), args)?;
    logging::start(&settings.log).map_err(RoleError::Log)?;
    descriptors::raise()?;
    let mut stop = StopSignals::catch();
    let mut node = tokio::select! {
        started = start(settings) => started?,
        () = stop.wait() => return Ok(()),
    };
    tracing::info!(rpc = node.rpc_addr, data = node.data_addr, "node serves");
    tokio::select! {
        () = stop.wait() => node.stop().await,
        error = node.wait() => return Err(error.into()),
    }
    Ok(())
}

/// Starts a node from its settings.
pub async fn start(settings: NodeFile) -> Result<RunningNode, RoleError> {
    let origin = "node settings";
    // By name, as the other sections, so that no key is read and then carried nowhere.
    let NodeSection {
        id,
        tls_dir,
        rpc_listen,
        data_listen,
        rpc_advertise,
        data_advertise,
        zone,
    } = settings.node;
    let members = config::parse_members(origin, &settings.metadata.members)?;
    let (storage, metadata) = certificates(&tls_dir, settings.metadata.tls_dir.as_deref())?;
    follow_renewals(&storage, &metadata);
    let dirs = std::iter::once(&tls_dir).chain(&settings.metadata.tls_dir);
    let keys: Vec<PathBuf> = dirs.map(|dir| dir.join("node.key")).collect();
    warn_of_open_keys(&keys);
    if let Some(why) = votes_too(&storage, &metadata) {
        tracing::warn!("{why}");
    }
    let mut node_settings = NodeSettings::default();
    let disks = settings
        .storage
        .as_ref()
        .map(|storage| storage.disks.clone())
        .unwrap_or_default();
    let reserve = settings
        .storage
        .as_ref()
        .and_then(|storage| storage.reserve_bytes);
    node_settings.store.reserve = reserve.unwrap_or_else(|| default_reserve(&disks));
    node_settings.store.queue_bytes = disk_queue_bytes(memory_limit(), disks.len());
    if let Some(storage) = &settings.storage {
        node_settings.store.scrub = scrub_settings(origin, storage)?;
        node_settings.orphans = orphan_settings(origin, storage)?;
        node_settings.store.finish_after = finish_after(origin, storage)?;
    }
    let config = NodeConfig {
        node: NodeId(id),
        zone,
        rpc: ListenAddress {
            bind: rpc_listen,
            advertise: rpc_advertise,
        },
        data: ListenAddress {
            bind: data_listen,
            advertise: data_advertise,
        },
        storage,
        metadata,
        disks,
        members: reach::endpoints(&members),
        settings: node_settings,
    };
    let ports = megalith_server::Ports::bind(&config).await?;
    let metadata = match &settings.metadata.dir {
        Some(dir) => Some(metadata::start(&config, &ports, dir, &settings.metadata)?),
        None => None,
    };
    Ok(megalith_server::start(config, ports, metadata).await?)
}

/// Loads the certificates of the storage and of the metadata role, which may be one.
pub fn certificates(
    storage: &Path,
    metadata: Option<&Path>,
) -> Result<(Arc<TlsMaterial>, Arc<TlsMaterial>), IdentityError> {
    let storage = TlsMaterial::load(storage)?;
    let metadata = match metadata {
        Some(metadata) => storage.load_beside(metadata)?,
        None => storage.clone(),
    };
    Ok((storage, metadata))
}

fn follow_renewals(storage: &Arc<TlsMaterial>, metadata: &Arc<TlsMaterial>) {
    let other = (!Arc::ptr_eq(storage, metadata)).then_some(metadata);
    for tls in std::iter::once(storage).chain(other) {
        drop(tls.spawn_reload(CERTIFICATE_INTERVAL, std::future::pending()));
    }
}

/// Returns a warning if the storage certificate is a member's as well, though the metadata role has
/// its own: whoever steals it votes, and the two certificates help nothing.
pub fn votes_too(storage: &Arc<TlsMaterial>, metadata: &Arc<TlsMaterial>) -> Option<String> {
    let identity = storage.identity();
    let warned = !Arc::ptr_eq(storage, metadata) && identity.has(Role::Metadata);
    warned.then(|| {
        format!(
            "the certificate in `node.tls_dir` is of {identity}: with `metadata.tls_dir` it should \
             not have the metadata role, because whoever steals it is a member"
        )
    })
}

fn scrub_settings(origin: &str, storage: &StorageSection) -> Result<ScrubSettings, SettingsError> {
    let StorageSection {
        // Carried elsewhere.
        disks: _,
        reserve_bytes: _,
        scrub_days,
        scrub_new_hours,
        scrub_bytes_per_s,
        trash_days: _,
        trash_full_percent: _,
        orphan_check_s: _,
        finish_after_s: _,
    } = *storage;
    let keys = [
        ("scrub_days", u64::from(scrub_days)),
        ("scrub_new_hours", u64::from(scrub_new_hours)),
        ("scrub_bytes_per_s", scrub_bytes_per_s),
    ];
    if let Some((key, _)) = keys.iter().find(|(_, value)| *value == 0) {
        let message = format!("`storage.{key}` is 0: rot would never be found");
        return Err(SettingsError::invalid(origin, message));
    }
    Ok(ScrubSettings {
        cycle: Duration::from_secs(24 * 3600 * u64::from(scrub_days)),
        fresh_within: Duration::from_secs(3600 * u64::from(scrub_new_hours)),
        bytes_per_s_max: scrub_bytes_per_s,
    })
}

fn finish_after(origin: &str, storage: &StorageSection) -> Result<Duration, SettingsError> {
    if storage.finish_after_s == 0 {
        let message =
            "`storage.finish_after_s` is 0: every write would get a chunk file".to_owned();
        return Err(SettingsError::invalid(origin, message));
    }
    Ok(Duration::from_secs(storage.finish_after_s.into()))
}

fn orphan_settings(
    origin: &str,
    storage: &StorageSection,
) -> Result<OrphanSettings, SettingsError> {
    if storage.orphan_check_s == 0 {
        let message = "`storage.orphan_check_s` is 0: a disk would do nothing else".to_owned();
        return Err(SettingsError::invalid(origin, message));
    }
    let percent = storage.trash_full_percent;
    if percent > 100 {
        let message = format!("`storage.trash_full_percent` is {percent}; at most 100 is possible");
        return Err(SettingsError::invalid(origin, message));
    }
    Ok(OrphanSettings {
        round_interval: Duration::from_secs(storage.orphan_check_s.into()),
        trash: Duration::from_secs(24 * 3600 * u64::from(storage.trash_days)),
        trash_full_percent: percent,
    })
}

/// Returns 1 GiB, or a twentieth of the smallest disk if that is less.
fn default_reserve(disks: &[PathBuf]) -> u64 {
    let sizes = disks
        .iter()
        .filter_map(|disk| RealFs.space(disk).ok().map(|space| space.capacity));
    sizes.min().map_or(GIB, |smallest| GIB.min(smallest / 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_identity::{Authority, IssueRequest};
    use megalith_model::ids::ClusterId;

    #[tokio::test]
    async fn both_certificates_are_renewed_while_a_node_runs() {
        let here = tempfile::tempdir().expect("temporary directory");
        let dir = |name| here.path().join(name);
        let authority = Authority::create(&dir("ca"), ClusterId([7; 16])).expect("an authority");
        let issue = |role: Role| {
            let request = IssueRequest {
                grants: vec![(role, 1)],
                hosts: Vec::new(),
                days: 30,
            };
            let issued = authority.issue(&request).expect("issued");
            issued.save(&dir(role.name())).expect("saved");
        };
        let roles = [Role::Storage, Role::Metadata];
        roles.into_iter().for_each(issue);
        let (storage, metadata) = (dir("storage"), dir("metadata"));
        let (storage, metadata) = certificates(&storage, Some(&metadata)).expect("loaded");
        let serials = || [&storage, &metadata].map(|tls| tls.identity().serial());
        let before = serials();
        roles.into_iter().for_each(issue);
        follow_renewals(&storage, &metadata);
        let renewed = async {
            while serials().iter().any(|serial| before.contains(serial)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let renewed = tokio::time::timeout(Duration::from_secs(20), renewed).await;
        renewed.expect("both are taken up");
    }

    #[test]
    fn a_scrub_that_never_ends_is_refused() {
        let mut storage = StorageSection::new(Vec::new());
        let settings = scrub_settings("f", &storage).expect("the defaults are sound");
        assert_eq!(settings.cycle, Duration::from_secs(30 * 24 * 3600));
        assert_eq!(settings.fresh_within, Duration::from_secs(24 * 3600));
        storage.scrub_days = 0;
        let error = scrub_settings("f", &storage).expect_err("0 days");
        assert_eq!(
            error.to_string(),
            "f: `storage.scrub_days` is 0: rot would never be found"
        );
    }

    #[test]
    fn a_file_for_every_write_is_refused() {
        let mut storage = StorageSection::new(Vec::new());
        let after = finish_after("f", &storage).expect("the defaults are sound");
        assert_eq!(after, Duration::from_mins(10));
        storage.finish_after_s = 0;
        let error = finish_after("f", &storage).expect_err("0 seconds");
        assert_eq!(
            error.to_string(),
            "f: `storage.finish_after_s` is 0: every write would get a chunk file"
        );
    }

    #[test]
    fn a_disk_is_no_fuller_than_a_hundred_percent() {
        let mut storage = StorageSection::new(Vec::new());
        let settings = orphan_settings("f", &storage).expect("the defaults are sound");
        assert_eq!(settings, OrphanSettings::default());
        storage.trash_full_percent = 101;
        let error = orphan_settings("f", &storage).expect_err("101 %");
        assert_eq!(
            error.to_string(),
            "f: `storage.trash_full_percent` is 101; at most 100 is possible"
        );
    }

    #[test]
    fn the_reserve_is_at_most_1_gib_and_a_twentieth_of_a_small_disk() {
        assert_eq!(default_reserve(&[]), GIB);
        let here = std::env::temp_dir();
        let capacity = RealFs.space(&here).expect("space").capacity;
        assert_eq!(default_reserve(&[here]), GIB.min(capacity / 20));
    }
}
