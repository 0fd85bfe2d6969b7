//! Names every shard on disks that nothing answers for, and every shard that is missing there.
//!
//! `walker BACKUP DISK…` reads the rows of a backup (`megalith meta backup`) and opens the disks by
//! the store's own recovery, as their nodes do at a start; so the nodes must have stopped. It knows
//! the rows by their keys alone and asks none of the program's own answers which shards are named,
//! so that a mistake there does not hide here. Prints one line of JSON. For tests.

use megalith_disk::RealFs;
use megalith_metadata::backup;
use megalith_model::codec::decode;
use megalith_model::ids::{BlobId, LeaseId, VolumeId};
use megalith_model::keys::{Meta, RowKey};
use megalith_model::query::{PAGE_ROWS_MAX, Query, Reply};
use megalith_model::rows::DeleteRow;
use megalith_model::shard::ShardId;
use megalith_model::table::MemRows;
use megalith_model::{answer, question};
use megalith_store::{DiskHandle, StoreSettings};
use serde_json::json;
use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Failure = Box<dyn Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let from = args.next().ok_or("usage: walker BACKUP DISK…")?;
    let said = Said::read(backup::read_rows(&from)?)?;
    let mut found = Found::default();
    for path in args {
        walk(&said, &path, &mut found).await?;
    }
    println!(
        "{}",
        json!({
            "shards": found.shards,
            "bytes": found.bytes,
            "leased": found.leased,
            "queued": found.queued,
            "trashed": found.trashed,
            "unnamed": found.unnamed,
            "missing": found.missing,
        })
    );
    Ok(())
}

/// What the rows say.
struct Said {
    rows: MemRows,
    /// Segments that a volume files.
    filed: BTreeSet<(VolumeId, BlobId, u32)>,
    /// Shards in a delete queue.
    queued: BTreeSet<ShardId>,
    open_leases: BTreeSet<LeaseId>,
    next_lease: LeaseId,
}

impl Said {
    fn read(rows: MemRows) -> Result<Self, Failure> {
        let mut said = Self {
            rows: MemRows::default(),
            filed: BTreeSet::new(),
            queued: BTreeSet::new(),
            open_leases: BTreeSet::new(),
            next_lease: LeaseId(0),
        };
        for (key, value) in rows.iter() {
            match RowKey::decode(key)? {
                RowKey::VolumeBlob {
                    volume,
                    blob,
                    segment,
                } => {
                    said.filed.insert((volume, blob, segment));
                }
                RowKey::Delete { .. } => {
                    said.queued.insert(decode::<DeleteRow>(value)?.shard);
                }
                RowKey::Lease(lease) => {
                    said.open_leases.insert(lease);
                }
                RowKey::Meta(Meta::NextLease) => said.next_lease = decode(value)?,
                _other => {}
            }
        }
        said.rows = rows;
        Ok(said)
    }

    fn is_filed(&self, shard: &ShardId) -> bool {
        let key = (shard.volume, shard.blob, shard.segment);
        self.filed.contains(&key)
    }

    fn is_leased(&self, shard: &ShardId) -> bool {
        let lease = shard.blob.lease();
        lease >= self.next_lease || self.open_leases.contains(&lease)
    }

    /// The shards that a disk holds, owed ones left out.
    fn held(&self, disk: &DiskHandle) -> Result<BTreeSet<ShardId>, Failure> {
        let id = disk.superblock().disk;
        let asked = Query::from(question::DiskVolumes { disk: id });
        let Reply::Volumes(volumes) = answer::answer(&self.rows, &asked, None)? else {
            return Err("no volumes".into());
        };
        let mut held = BTreeSet::new();
        for volume in volumes {
            let slots = (0..).zip(&volume.slots).filter(|(_, slot)| slot.disk == id);
            let slots: Vec<u8> = slots.map(|(number, _)| number).collect();
            let (volume, max, mut after) = (volume.id, PAGE_ROWS_MAX, None);
            loop {
                let asked = Query::from(question::Held { volume, after, max });
                let Reply::Held(page) = answer::answer(&self.rows, &asked, None)? else {
                    return Err("no segments".into());
                };
                for segment in &page {
                    let here = slots
                        .iter()
                        .filter(|slot| segment.slots & (1 << **slot) != 0);
                    held.extend(here.map(|slot| ShardId {
                        volume,
                        blob: segment.blob,
                        segment: segment.segment,
                        slot: *slot,
                    }));
                }
                let Some(last) = page.last() else { break };
                after = Some((last.blob, last.segment));
            }
        }
        Ok(held)
    }
}

/// What was found on disks.
#[derive(Default)]
struct Found {
    shards: u64,
    /// Of their cells.
    bytes: u64,
    /// Neither filed nor queued, of a lease that is open.
    leased: Vec<String>,
    /// In a delete queue.
    queued: Vec<String>,
    /// Nothing but the trash explains them.
    trashed: Vec<String>,
    unnamed: Vec<String>,
    missing: Vec<String>,
}

async fn walk(said: &Said, path: &Path, found: &mut Found) -> Result<(), Failure> {
    let fs = Arc::new(RealFs);
    let superblock = DiskHandle::identify(fs.as_ref(), path)?;
    let settings = StoreSettings::default();
    let disk = DiskHandle::open(fs, path, superblock.cluster, None, settings)?;
    let trash = disk.trash();
    let mut held = said.held(&disk)?;
    for (volume, _) in disk.volumes() {
        let mut after = None;
        loop {
            let page = disk.list(volume, after, PAGE_ROWS_MAX as usize).await?;
            for stat in &page {
                found.shards += 1;
                found.bytes += stat.len;
                let shard = stat.shard;
                let whole = !stat.damaged && held.remove(&shard);
                if whole || said.is_filed(&shard) {
                    continue;
                }
                let list = if said.queued.contains(&shard) {
                    &mut found.queued
                } else if said.is_leased(&shard) {
                    &mut found.leased
                } else if trash.contains_key(&shard) {
                    &mut found.trashed
                } else {
                    &mut found.unnamed
                };
                list.push(format!("{} {shard}", path.display()));
            }
            let Some(last) = page.last() else { break };
            after = Some((last.shard.blob, last.shard.segment));
        }
    }
    let missing = held
        .iter()
        .map(|shard| format!("{} {shard}", path.display()));
    found.missing.extend(missing);
    disk.stop().await;
    Ok(())
}
