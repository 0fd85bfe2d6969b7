//! Notices that certificate files have changed, by checking them at intervals.
//!
//! Polling, rather than the kernel's notifications: it works on every file system and with the
//! symbolic links with which Kubernetes swaps a mounted secret. It may take a minute to see a
//! renewal.

use crate::error::IdentityError;
use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Reads the files again; returns true if they differ from those in use.
pub(crate) type Reload = Arc<dyn Fn() -> Result<bool, IdentityError> + Send + Sync>;

/// What distinguishes two states of the files: inode, length and change time of each.
type Stamp = Vec<Option<(u64, u64, i64, i64)>>;

/// Checks `paths` at each `interval` and reloads when they have changed since the last good reload,
/// until `stop` ends. The first check always reloads, because the files may change between their
/// first reading and the start of the watch.
pub(crate) async fn run(
    paths: Vec<PathBuf>,
    interval: Duration,
    stop: impl Future<Output = ()> + Send,
    reload: Reload,
) {
    // Says which: a process may have several certificates.
    let dir = paths.first().and_then(|path| path.parent());
    let dir = dir.map(|dir| dir.display().to_string());
    let mut stop = pin!(stop);
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut good: Option<Stamp> = None;
    let mut reported: Option<Stamp> = None;
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return,
            _ = ticks.tick() => {}
        }
        let (paths, reload, last) = (paths.clone(), reload.clone(), good.clone());
        let look = tokio::task::spawn_blocking(move || {
            // Taken before reading: a change during the reload is seen at the next check.
            let stamp = stamp(&paths);
            (last.as_ref() != Some(&stamp)).then(|| (reload(), stamp))
        });
        match look.await {
            Ok(None) => {}
            Ok(Some((Ok(changed), stamp))) => {
                if changed {
                    tracing::info!(dir, "new certificate in use");
                }
                good = Some(stamp);
            }
            Ok(Some((Err(error), stamp))) => {
                // Tried again at each check, logged once for each state of the files.
                if reported.as_ref() != Some(&stamp) {
                    let error: &dyn Error = &error;
                    tracing::error!(error, "certificate not reloaded, the old one stays in use");
                    reported = Some(stamp);
                }
            }
            Err(error) => tracing::error!(%error, "reload of certificates broke off"),
        }
    }
}

fn stamp(paths: &[PathBuf]) -> Stamp {
    let one = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    };
    paths.iter().map(one).collect()
}
