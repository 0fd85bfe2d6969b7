//! The scrub's thread, and the steps it takes: ask the plan, check a piece, remember how far it is.

use super::ScrubStatus;
use super::again::Again;
use super::ledger::{DamagedShard, Ledger, NoLedger};
use super::plan::{Checked, FileFacts, Piece, Plan, ScrubAction, ScrubProgress, ScrubView};
use super::verify::{self, FileCheck};
use crate::catalog::Catalog;
use crate::core::Chain;
use crate::error::StoreError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How far the scrub is gets written at most this often.
const SAVE_INTERVAL_MS: u64 = 60_000;
/// Damage is written at most this often.
const DAMAGE_INTERVAL_MS: u64 = 1_000;
/// The list of files is made again after this.
const LIST_INTERVAL_MS: u64 = 1_000;
/// Between looks at the superblock.
const SUPERBLOCK_INTERVAL_MS: u64 = 3_600_000;
/// A disk that fails is tried again after this.
const FAILED_WAIT_MS: u64 = 5_000;

/// What the thread is sent.
pub(crate) enum ScrubMail {
    Demand,
    /// Remember how far it is, end.
    Stop,
}

/// What others see of the scrub.
pub(crate) type SharedStatus = Arc<Mutex<ScrubStatus>>;

/// The scrub of one disk.
pub(crate) struct Scrubber {
    catalog: Arc<Catalog>,
    plan: Plan,
    status: SharedStatus,
    files: Vec<FileFacts>,
    lsn: u64,
    listed_ms: Option<u64>,
    check: Option<FileCheck>,
    traffic: u64,
    superblock_ms: Option<u64>,
    saved: Option<Saved>,
    failing: bool,
    /// Rounds over what is damaged; None before the first turn.
    again: Option<Again>,
}

/// What the ledger said last.
struct Saved {
    at_ms: u64,
    progress: ScrubProgress,
    /// [`crate::health::HealthTracker::damage`]'s number; None if it was not written.
    damage: Option<u64>,
}

impl Scrubber {
    /// Takes up where the ledger says that the scrub stood, and makes the shards known to be
    /// damaged known again.
    pub(crate) fn open(catalog: Arc<Catalog>) -> Self {
        let path = catalog.paths.ledger();
        let disk = catalog.superblock.disk;
        let ledger = match Ledger::read(catalog.fs.as_ref(), &path, disk) {
            Ok(ledger) => ledger,
            Err(NoLedger::Missing) => Ledger::default(),
            Err(NoLedger::Bad) => {
                let path = path.display();
                tracing::error!(%path, "scrub ledger is bad: the scrub begins again");
                catalog.health.add_restored_file();
                Ledger::default()
            }
        };
        let mut known = 0;
        for entry in &ledger.damaged {
            let found = catalog.find(entry.shard).ok().flatten();
            if found.is_some_and(|found| found.lsn == entry.lsn) {
                known += u64::from(catalog.health.add_damaged(entry.shard, entry.cell));
            }
        }
        if known > 0 {
            tracing::error!(%disk, shards = known, "damaged shards known from before");
        }
        let plan = Plan::new(&catalog.settings.scrub, ledger.progress);
        Self {
            status: Arc::new(Mutex::new(plan.status())),
            plan,
            catalog,
            files: Vec::new(),
            lsn: 0,
            listed_ms: None,
            check: None,
            traffic: 0,
            superblock_ms: None,
            saved: None,
            failing: false,
            again: None,
        }
    }

    pub(crate) fn status(&self) -> SharedStatus {
        Arc::clone(&self.status)
    }

    /// Begins a pass over everything at once.
    pub(crate) fn demand(&mut self, now_ms: u64) {
        self.plan.demand(now_ms);
        self.superblock_ms = None;
        self.again_mut(now_ms).demand(now_ms);
        tracing::info!(disk = %self.catalog.superblock.disk, "scrub of the whole disk begun");
    }

    /// Does the next small thing; returns for how many milliseconds there is nothing to do.
    pub(crate) fn turn(&mut self, now_ms: u64) -> u64 {
        if self.catalog.health.is_gone() {
            return FAILED_WAIT_MS;
        }
        let wait = match self.try_turn(now_ms) {
            Ok(wait) => {
                self.failing = false;
                wait
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let disk = self.catalog.superblock.disk;
                    tracing::warn!(%disk, error = %Chain(&error), "scrub is held up");
                }
                self.check = None;
                FAILED_WAIT_MS
            }
        };
        let status = self.plan.status();
        let before = std::mem::replace(&mut *lock(&self.status), status);
        self.announce(before, status);
        wait
    }

    fn try_turn(&mut self, now_ms: u64) -> Result<u64, StoreError> {
        let traffic = self.catalog.traffic.load(Ordering::Relaxed);
        let busy = std::mem::replace(&mut self.traffic, traffic) != traffic;
        self.list(now_ms);
        let passed = |since: u64, at: u64| now_ms.saturating_sub(at) >= since || now_ms < at;
        if self
            .superblock_ms
            .is_none_or(|at| passed(SUPERBLOCK_INTERVAL_MS, at))
        {
            verify::superblock(&self.catalog)?;
            self.superblock_ms = Some(now_ms);
        }
        let wait_again = self.look_again(now_ms)?;
        let view = ScrubView {
            files: &self.files,
            lsn: self.lsn,
            busy,
        };
        let wait = match self.plan.step(now_ms, view) {
            ScrubAction::Wait(wait) => wait,
            ScrubAction::Check(piece) => {
                let checked = self.piece(piece)?;
                self.plan.checked(now_ms, piece, checked, busy);
                0
            }
        };
        self.save_sometimes(now_ms);
        Ok(wait.min(wait_again))
    }

    /// Reads the damaged shard whose turn it is. Returns for how many milliseconds none is due.
    fn look_again(&mut self, now_ms: u64) -> Result<u64, StoreError> {
        let catalog = Arc::clone(&self.catalog);
        let (health, changes) = (&catalog.health, catalog.health.damage_changes());
        let again = self.again_mut(now_ms);
        let due = again.step(now_ms, changes, || health.damaged());
        let wait = again.wait_ms(now_ms);
        if let Some(shard) = due
            && catalog.is_whole_on_disk(shard)?
        {
            health.forget_damaged(shard);
            let disk = catalog.superblock.disk;
            tracing::info!(%disk, %shard, "shard that was damaged is whole: the fault has passed");
        }
        Ok(wait)
    }

    fn again_mut(&mut self, now_ms: u64) -> &mut Again {
        let changes = self.catalog.health.damage_changes();
        self.again
            .get_or_insert_with(|| Again::new(now_ms, changes))
    }

    fn list(&mut self, now_ms: u64) {
        let old = |at: u64| now_ms < at || now_ms - at >= LIST_INTERVAL_MS;
        if self.check.is_none() || self.listed_ms.is_none_or(old) {
            (self.files, self.lsn) = self.catalog.file_facts();
            self.listed_ms = Some(now_ms);
        }
    }

    fn piece(&mut self, piece: Piece) -> Result<Checked, StoreError> {
        if !self.check.as_ref().is_some_and(|check| check.is_for(piece)) {
            self.check = FileCheck::begin(&self.catalog, piece)?;
        }
        let Some(check) = &self.check else {
            return Ok(Checked::default());
        };
        let checked = check.piece(&self.catalog, piece)?;
        if checked.next.is_none() {
            self.check = None;
        }
        let disk = self.catalog.superblock.disk.to_string();
        metrics::counter!("megalith_scrub_bytes_total", "disk" => disk.clone())
            .increment(checked.bytes);
        metrics::counter!("megalith_scrub_damaged_shards_total", "disk" => disk)
            .increment(checked.found);
        Ok(checked)
    }

    fn announce(&self, before: ScrubStatus, now: ScrubStatus) {
        let disk = self.catalog.superblock.disk;
        if now.passes > before.passes {
            let (passes, found) = (now.passes, now.found_shards);
            tracing::info!(%disk, passes, damaged = found, "scrub has checked the whole disk");
        }
        if now.late && !before.late {
            tracing::warn!(%disk, "scrub is late: the disk holds more than its rate allows for");
        }
    }

    fn save_sometimes(&mut self, now_ms: u64) {
        let (progress, damage) = (self.plan.progress(), self.catalog.health.damage_changes());
        let due = self.saved.as_ref().is_none_or(|saved| {
            let since = now_ms.saturating_sub(saved.at_ms);
            let milestone = (progress.passes, progress.fresh_ms, progress.demanded)
                != (
                    saved.progress.passes,
                    saved.progress.fresh_ms,
                    saved.progress.demanded,
                );
            now_ms < saved.at_ms
                || milestone
                || (saved.damage != Some(damage) && since >= DAMAGE_INTERVAL_MS)
                || (saved.progress != progress && since >= SAVE_INTERVAL_MS)
        });
        if due {
            self.save(now_ms);
        }
    }

    /// Writes down how far the scrub is and what is known to be damaged.
    pub(crate) fn save(&mut self, now_ms: u64) {
        let catalog = &self.catalog;
        let (damaged, changes) = catalog.health.damage();
        let entry = |(shard, cell)| {
            let found = catalog.find(shard).ok().flatten();
            found.map(|found| DamagedShard {
                shard,
                lsn: found.lsn,
                cell,
            })
        };
        let progress = self.plan.progress();
        let ledger = Ledger {
            progress,
            damaged: damaged.into_iter().filter_map(entry).collect(),
        };
        let path = catalog.paths.ledger();
        let disk = catalog.superblock.disk;
        let written = catalog.verify_home().and_then(|()| {
            let written = ledger.write(catalog.fs.as_ref(), &path, disk);
            written.map_err(|error| StoreError::io("write", &path, error))
        });
        if let Err(error) = &written {
            // The next try writes a new file.
            tracing::warn!(error = %Chain(error), "scrub ledger not written");
        }
        self.saved = Some(Saved {
            at_ms: now_ms,
            progress,
            damage: written.ok().map(|()| changes),
        });
    }

    /// True if the writer has index files to write again.
    fn wants_writer(&self) -> bool {
        !lock(&self.catalog.reindex).is_empty()
    }
}

/// Runs until told to stop, or until the disk's last handle is gone.
pub(crate) fn run(
    mut scrubber: Scrubber,
    mail: &Receiver<ScrubMail>,
    clock: &dyn Fn() -> u64,
    wake_writer: &dyn Fn(),
) {
    loop {
        let wait = scrubber.turn(clock());
        if scrubber.wants_writer() {
            wake_writer();
        }
        match mail.recv_timeout(Duration::from_millis(wait)) {
            Ok(ScrubMail::Demand) => scrubber.demand(clock()),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(ScrubMail::Stop) | Err(RecvTimeoutError::Disconnected) => {
                scrubber.save(clock());
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
