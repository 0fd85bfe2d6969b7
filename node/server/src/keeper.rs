//! Keeps a node's disks open: each is opened beside everything else, served while it is there, and
//! opened again once it is back. That none is there is a state, and no reason to end.

use super::NodeError;
use megalith_client::{MetaClient, now_ms};
use megalith_disk::RealFs;
use megalith_model::ids::{ClusterId, NodeId};
use megalith_store::{DiskHandle, Disks, StoreSettings};
use megalith_upkeep::orphans::OrphanSettings;
use megalith_upkeep::{compare, deletes, fills, orphans};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// What is done for each disk while it is open.
#[derive(Clone)]
pub(super) struct Upkeep {
    pub(super) node: NodeId,
    pub(super) meta: MetaClient,
    pub(super) interval: Duration,
    pub(super) fills_interval: Duration,
    pub(super) orphans: OrphanSettings,
}

impl Upkeep {
    /// Never ends by itself.
    async fn run(&self, disk: &DiskHandle) {
        let (node, meta) = (self.node, &self.meta);
        tokio::join!(
            deletes::run(node, meta, disk, self.interval),
            compare::run(meta, disk, self.interval),
            fills::run(node, meta, disk, self.fills_interval),
            orphans::run(meta, disk, self.orphans),
        );
    }
}

/// Keeps the disk of one directory open.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) cluster: ClusterId,
    pub(super) store: StoreSettings,
    /// Between tries to open a disk that is not there.
    pub(super) retry_interval: Duration,
    pub(super) disks: Arc<Disks>,
    pub(super) upkeep: Upkeep,
    /// Counts the directories whose disk was opened, or could not be, for the first time.
    pub(super) tried: Arc<watch::Sender<usize>>,
}

impl Keeper {
    /// Runs until it is dropped.
    pub(super) async fn run(self, path: PathBuf) {
        let mut first = true;
        let mut told = String::new();
        loop {
            let opened = self.open(&path).await;
            let served = opened.and_then(|disk| self.serve(disk, &path));
            if std::mem::replace(&mut first, false) {
                self.tried.send_modify(|number| *number += 1);
            }
            match served {
                Ok(disk) => {
                    told.clear();
                    tokio::select! {
                        () = self.upkeep.run(&disk) => {}
                        () = self.came_back(&disk, &path) => {}
                    }
                    self.disks.remove(disk.superblock().disk);
                    disk.stop().await;
                }
                Err(error) => {
                    tell(&error, &mut told);
                    sleep(self.retry_interval).await;
                }
            }
        }
    }

    /// Opens the disk. May take long: what is not finished is scanned.
    async fn open(&self, path: &Path) -> Result<DiskHandle, NodeError> {
        let (cluster, store, path) = (self.cluster, self.store.clone(), path.to_owned());
        let opened = spawn_blocking(move || {
            let disk = DiskHandle::open(Arc::new(RealFs), &path, cluster, None, store);
            disk.map_err(|source| NodeError::Disk { path, source })
        });
        opened.await.expect("opening a disk does not panic")
    }

    /// Lets everybody have an opened disk.
    fn serve(&self, disk: DiskHandle, path: &Path) -> Result<DiskHandle, NodeError> {
        let id = disk.superblock().disk;
        if !self.disks.insert(disk.clone()) {
            let path = path.to_owned();
            return Err(NodeError::SameDisk { path, disk: id });
        }
        tracing::info!(disk = %id, path = %path.display(), "disk opened");
        if let Err(error) = disk.start_scrub(Arc::new(now_ms)) {
            let error: &dyn Error = &error;
            tracing::error!(error, disk = %id, "disk is not scrubbed");
        }
        Ok(disk)
    }

    /// Ends when a disk that had gone is there again.
    async fn came_back(&self, disk: &DiskHandle, path: &Path) {
        loop {
            sleep(self.retry_interval).await;
            if !disk.health().gone {
                continue;
            }
            let path = path.to_owned();
            let found = spawn_blocking(move || DiskHandle::identify(&RealFs, &path)).await;
            // Another in its place may be a copy: that is for a start to judge.
            if let Ok(Ok(found)) = found
                && found.is_of_one_disk(disk.superblock())
            {
                return;
            }
        }
    }
}

/// Logs why a disk is not open, once while it stays so.
fn tell(error: &NodeError, told: &mut String) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    if *told != text {
        let error: &dyn Error = error;
        tracing::error!(
            error,
            "disk not opened; the node goes on without it, and tries again"
        );
        *told = text;
    }
}
