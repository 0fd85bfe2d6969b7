//! A chunk file that grows: what is written, what is durable, what waits to be written.

use super::error::StoreError;
use super::files::failed;
use super::record::{BLOCK_LEN, Cell, Footer, Header, encode_record};
use super::scan::FileId;
use super::settings::StoreSettings;
use bytes::Bytes;
use megalith_disk::{File, FileIdentity, FileSystem};
use megalith_model::ids::Epoch;
use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A file with the writer's view of it. Blocks are of 4 KiB.
pub(super) struct Growing {
    pub(super) id: FileId,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    /// What the path named when the file was opened.
    identity: FileIdentity,
    /// The block the next record goes to, those waiting included.
    pub(super) end: u32,
    /// Blocks below are written.
    pub(super) written: u32,
    /// Blocks below are durable.
    pub(super) synced: u32,
    /// Bytes of the file that have space already.
    pub(super) allocated: u64,
    pub(super) waiting: Vec<Bytes>,
    /// Streams whose shard begins in this file and will end in it.
    pub(super) streams: BTreeSet<u64>,
    /// Steps of giving space back that wait for their turn.
    pub(super) punches: usize,
    /// Bytes that died in it; they count for its volume once it is finished.
    pub(super) dead_bytes: u64,
    /// The end that the last look at it saw, and since when it has been there.
    pub(super) quiet: Option<(u32, Duration)>,
    pub(super) epoch: Epoch,
    pub(super) lsn_max: u64,
}

/// Who asks for space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// A shard: stops above the reserve.
    Shard,
    /// A shard that moves so that its file can go: may use half of the reserve, or a disk full of
    /// small dead shards would stay full.
    Move,
    /// A delete, an epoch or bookkeeping: may use the reserve.
    Reserve,
}

impl Claim {
    /// What must stay free, of a reserve; in bytes.
    pub(super) fn keeps_free(self, reserve: u64) -> u64 {
        match self {
            Self::Shard => reserve,
            Self::Move => reserve / 2,
            Self::Reserve => 0,
        }
    }
}

impl Growing {
    pub(super) fn new(
        fs: &dyn FileSystem,
        id: FileId,
        path: PathBuf,
        file: Arc<dyn File>,
    ) -> Result<Self, StoreError> {
        let identity = fs.identity(&path).map_err(failed("look at", &path))?;
        Ok(Self {
            id,
            identity,
            path,
            file,
            end: 0,
            written: 0,
            synced: 0,
            allocated: 0,
            waiting: Vec::new(),
            streams: BTreeSet::new(),
            punches: 0,
            dead_bytes: 0,
            quiet: None,
            epoch: Epoch(0),
            lsn_max: 0,
        })
    }

    /// True if no stream and no step of giving space back is under way in it.
    pub(super) fn is_at_rest(&self) -> bool {
        self.streams.is_empty() && self.waiting.is_empty() && self.punches == 0
    }

    /// Places a record at the end; [`Growing::write`] writes it. Returns its block.
    pub(super) fn push(&mut self, mut header: Header, cells: &[Cell], footer: &Footer) -> u32 {
        let block = self.end;
        header.synced = self.synced;
        self.waiting
            .extend(encode_record(&header, cells, footer, self.id.place(block)));
        self.end += (header.record_len() / BLOCK_LEN) as u32;
        self.epoch = self.epoch.max(header.epoch);
        self.lsn_max = self.lsn_max.max(header.lsn);
        block
    }

    /// Makes sure that there is space for `len` more bytes.
    pub(super) fn make_room(
        &mut self,
        fs: &dyn FileSystem,
        settings: &StoreSettings,
        len: u64,
        claim: Claim,
    ) -> Result<(), StoreError> {
        let needed_end = u64::from(self.end) * BLOCK_LEN + len;
        let Some(least) = needed_end
            .checked_sub(self.allocated)
            .filter(|&least| least > 0)
        else {
            return Ok(());
        };
        let space = fs
            .space(&self.path)
            .map_err(failed("measure the disk of", &self.path))?;
        let step = self
            .allocated
            .clamp(settings.grow_min, settings.grow_max.max(1))
            .max(least);
        let floor = claim.keeps_free(settings.reserve);
        for want in [step, least] {
            // Nobody takes more than needed out of the reserve.
            let above_reserve = space.free >= settings.reserve.saturating_add(want);
            let may_use = claim == Claim::Reserve || space.free >= floor.saturating_add(want);
            if !above_reserve && (want > least || !may_use) {
                continue;
            }
            match self.file.preallocate(self.allocated, want) {
                Ok(()) => {
                    self.allocated += want;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                Err(error) => return Err(StoreError::io("preallocate", &self.path, error)),
            }
        }
        match claim {
            // The write itself will tell.
            Claim::Reserve => Ok(()),
            Claim::Shard | Claim::Move => Err(StoreError::Full {
                free: space.free,
                reserve: floor,
                needed: least,
            }),
        }
    }

    /// Writes what waits, with one call.
    pub(super) fn write(&mut self) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        let slices: Vec<IoSlice<'_>> = waiting.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let offset = u64::from(self.written) * BLOCK_LEN;
        self.file
            .write_at(&slices, offset)
            .map_err(failed("write", &self.path))?;
        self.written = self.end;
        self.allocated = self.allocated.max(u64::from(self.end) * BLOCK_LEN);
        Ok(())
    }

    /// Makes everything written durable.
    pub(super) fn sync(&mut self, fs: &dyn FileSystem) -> Result<(), StoreError> {
        if self.needs_sync() {
            let outcome = self.file.sync_data();
            self.take_sync(fs, outcome)?;
        }
        Ok(())
    }

    /// True if not everything that was written is known to be durable.
    pub(super) fn needs_sync(&self) -> bool {
        self.synced < self.written
    }

    /// Takes up how a sync of everything written went. A file that was removed under us takes
    /// writes and syncs as before, and is lost with the last handle: so its name is looked at too.
    pub(super) fn take_sync(
        &mut self,
        fs: &dyn FileSystem,
        outcome: io::Result<()>,
    ) -> Result<(), StoreError> {
        outcome.map_err(failed("sync", &self.path))?;
        if !self.is_named(fs)? {
            let gone = io::Error::new(io::ErrorKind::NotFound, "it was removed or replaced");
            return Err(StoreError::io("find", &self.path, gone));
        }
        self.synced = self.written;
        Ok(())
    }

    /// False if the path no longer names this file.
    pub(super) fn is_named(&self, fs: &dyn FileSystem) -> Result<bool, StoreError> {
        match fs.identity(&self.path) {
            Ok(found) => Ok(found == self.identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("look at", &self.path, error)),
        }
    }

    /// Makes the new file's head and name durable before anything else goes into it: one that is
    /// longer than its first space and has no head is known to be damaged, not torn.
    pub(super) fn begin(
        &mut self,
        fs: &dyn FileSystem,
        settings: &StoreSettings,
        head: Header,
        superblock: Cell,
    ) -> Result<(), StoreError> {
        self.make_room(fs, settings, head.record_len(), Claim::Reserve)?;
        self.push(head, &[superblock], &Footer::BLANK);
        self.write()?;
        self.sync(fs)?;
        match self.path.parent() {
            Some(dir) => fs.sync_dir(dir).map_err(failed("sync the directory", dir)),
            None => Ok(()),
        }
    }
}
