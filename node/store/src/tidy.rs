//! Giving space back, in small steps between commits: holes for the bytes of dead records, and the
//! choice of the finished files that are emptied and removed, because most of them is dead or
//! because they are many small ones.

use super::catalog::Finished;
use super::core::{Chain, Core};
use super::empty::Emptying;
use super::error::StoreError;
use super::files::{FileName, failed};
use super::record::BLOCK_LEN;
use megalith_disk::File;
use megalith_model::ids::VolumeId;
use megalith_model::shard::ShardKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many punches are made in one turn at most, each of a few holes.
const PUNCHES_PER_TURN: usize = 16;
/// So many small files of about one size are made one.
const SMALL_FILES: usize = 8;
/// A file is small if so many of it fit into one.
const SMALL_PART: u64 = 8;

/// Dead records, first block and block after the last of each.
pub(super) struct Punch {
    volume: VolumeId,
    seq: u32,
    records: Vec<(u32, u32)>,
}

impl Punch {
    pub(super) fn new(volume: VolumeId, seq: u32, records: Vec<(u32, u32)>) -> Self {
        Self {
            volume,
            seq,
            records,
        }
    }
}

/// What the writer does when nothing is more urgent, a step at a time.
pub(super) enum TidyStep {
    Weigh(Weighing),
    Empty(Emptying),
}

/// A look through a volume for files worth being emptied.
pub(super) struct Weighing {
    volume: VolumeId,
    /// Where to go on.
    from: ShardKey,
    /// Living bytes of each file so far.
    live: BTreeMap<u32, u64>,
    /// Punch what is found dead: after an opening nobody knows whether that was done.
    recount: bool,
}

impl Weighing {
    pub(super) fn of(volume: VolumeId) -> Self {
        Self {
            volume,
            from: ShardKey::MIN,
            live: BTreeMap::new(),
            recount: false,
        }
    }

    /// Also punches what is dead in any file.
    pub(super) fn recount(volume: VolumeId) -> Self {
        Self {
            recount: true,
            ..Self::of(volume)
        }
    }
}

impl Core {
    /// Does some of what is not urgent: punches a few holes, and one step of everything else.
    /// Returns true while there is more.
    pub(super) fn housekeep(&mut self) -> bool {
        if self.catalog.health.is_gone() {
            self.punches.clear();
            self.tidy_steps.clear();
            self.stop_moving();
            return false;
        }
        self.write_bad_indexes();
        for _ in 0..PUNCHES_PER_TURN {
            let Some(punch) = self.punches.pop_front() else {
                break;
            };
            if let Err(error) = self.punch(&punch) {
                tracing::warn!(error = %Chain(&error), "giving space back");
            }
        }
        self.finish_full();
        if let Some(step) = self.tidy_steps.pop_front() {
            match self.work(step) {
                Ok(Some(rest)) => self.tidy_steps.push_front(rest),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "giving space back");
                    self.stop_moving();
                }
            }
        }
        let tidy_after = self.catalog.settings.tidy_after;
        for (id, volume) in &mut self.volumes {
            if volume.dead_bytes >= tidy_after {
                volume.dead_bytes = 0;
                let weighing = Weighing::of(*id);
                self.tidy_steps.push_back(TidyStep::Weigh(weighing));
            }
        }
        !self.punches.is_empty() || !self.tidy_steps.is_empty()
    }

    /// Looks through a volume for space to give back, however little died there.
    pub(super) fn weigh_later(&mut self, id: VolumeId) {
        if let Some(volume) = self.volumes.get_mut(&id) {
            volume.dead_bytes = 0;
        }
        self.tidy_steps.push_back(TidyStep::Weigh(Weighing::of(id)));
    }

    /// Looks through every volume.
    #[cfg(test)]
    pub(super) fn tidy_all(&mut self) {
        let volumes: Vec<VolumeId> = self.volumes.keys().copied().collect();
        for volume in volumes {
            self.weigh_later(volume);
        }
    }

    /// Makes one step. Returns what is left of it.
    fn work(&mut self, step: TidyStep) -> Result<Option<TidyStep>, StoreError> {
        self.catalog.verify_home()?;
        match step {
            TidyStep::Weigh(weighing) => Ok(self.weigh(weighing)?.map(TidyStep::Weigh)),
            TidyStep::Empty(emptying) => Ok(self.empty(emptying)?.map(TidyStep::Empty)),
        }
    }

    /// Gives the space of dead records back.
    pub(super) fn punch(&mut self, punch: &Punch) -> Result<(), StoreError> {
        let Punch {
            volume,
            seq,
            records,
        } = punch;
        let path = self.catalog.paths.chunk(*volume, *seq);
        let writer = self.volumes.get_mut(volume);
        let file: Arc<dyn File> = match writer.and_then(|writer| writer.files.get_mut(seq)) {
            Some(growing) => {
                growing.punches = growing.punches.saturating_sub(1);
                Arc::clone(&growing.file)
            }
            None => match self.catalog.files.get(FileName::chunk(*volume, *seq)) {
                // Removed meanwhile, as a whole.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                result => result.map_err(failed("open", &path))?,
            },
        };
        self.catalog.verify_home()?;
        for (offset, len) in records.iter().filter_map(|record| hole(*record)) {
            file.punch(offset, len).map_err(failed("punch", &path))?;
        }
        Ok(())
    }

    /// Weighs one page of a volume's shards, and chooses files after the last.
    fn weigh(&mut self, mut weighing: Weighing) -> Result<Option<Weighing>, StoreError> {
        let id = weighing.volume;
        if !self.may_empty(id) {
            return Ok(None);
        }
        let Some(volume) = self.catalog.volume(id) else {
            return Ok(None);
        };
        let page = self.catalog.merged(&volume, weighing.from)?;
        for (seq, entry) in page.held.into_values() {
            if let Some(extent) = entry.extent {
                *weighing.live.entry(seq).or_default() += extent.disk_len();
            }
        }
        if weighing.recount {
            for (seq, entry) in page.outdone {
                if let Some(extent) = entry.extent {
                    self.forget_records(id, seq, extent.blocks().collect());
                }
            }
        }
        if let Some(next) = page.next {
            weighing.from = next;
            return Ok(Some(weighing));
        }
        let finished: Vec<Arc<Finished>> = volume.read().finished.values().cloned().collect();
        let percent = self.catalog.settings.compact_below_percent;
        let mut chosen = Vec::new();
        for file in finished {
            let live = weighing.live.get(&file.id.seq).copied().unwrap_or(0);
            if live * 100 < u64::from(file.facts.end) * BLOCK_LEN * percent {
                chosen.push((live, file.id.seq));
            }
        }
        // Those that need the least space first: on a full disk they make it for the others.
        chosen.sort_unstable();
        for (_, seq) in chosen {
            let emptying = Emptying::of(id, seq);
            self.tidy_steps.push_back(TidyStep::Empty(emptying));
        }
        Ok(None)
    }

    /// Makes one of many small finished files, so that their number stays small however often the
    /// volume is written to and left alone again. Files of about one size are taken together, so a
    /// shard is moved as often as its file grows eightfold.
    pub(super) fn merge_small(&mut self, id: VolumeId) {
        if !self.may_empty(id) {
            return;
        }
        let Some(volume) = self.catalog.volume(id) else {
            return;
        };
        let small = self.catalog.settings.file_len_max / SMALL_PART / BLOCK_LEN;
        let mut sizes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (seq, file) in &volume.read().finished {
            let end = file.facts.end.max(1);
            if u64::from(end) <= small {
                sizes.entry(end.ilog2() / 3).or_default().push(*seq);
            }
        }
        for seq in sizes
            .into_values()
            .filter(|files| files.len() >= SMALL_FILES)
            .flatten()
        {
            let emptying = Emptying::to_merge(id, seq);
            self.tidy_steps.push_back(TidyStep::Empty(emptying));
        }
    }
}

/// Offset and length in bytes of what can be punched of a record: all but its first and last block,
/// so that a scan still finds header and footer and walks on.
fn hole((start, end): (u32, u32)) -> Option<(u64, u64)> {
    let blocks = u64::from(end - start)
        .checked_sub(2)
        .filter(|&blocks| blocks > 0)?;
    Some((u64::from(start + 1) * BLOCK_LEN, blocks * BLOCK_LEN))
}
