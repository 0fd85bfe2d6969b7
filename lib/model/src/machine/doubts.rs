//! Doubts: shards that a gateway could not read, until somebody has looked at them.
//!
//! A gateway can't mark a shard as owed: its memory or its network may be bad, or its certificate
//! stolen. It raises a doubt. The node that serves the disk reads the shard and marks it, or denies
//! the doubt. A doubt that is denied or stays unsettled is judged by another storage node, which
//! reads the shard over the network and compares it with the digest in the blob's row.

use super::context::{Machine, Step, malformed};
use super::owed::NamedShard;
use super::{DISK_DOUBTS_MAX, DOUBT_SETTLED_MS, MachineError, OWED_MARKS_MAX};
use crate::command::{NewDoubt, Outcome, Verdict};
use crate::ids::{DiskId, NodeId};
use crate::keys::RowKey;
use crate::lookup;
use crate::rows::{DiskRow, DoubtRow};
use crate::shard::ShardId;

/// After this time a doubt that was denied, and judged by nobody, is looked at again if a gateway
/// raises it again.
const DOUBT_AGAIN_MS: u64 = 10 * DOUBT_SETTLED_MS;

fn doubt_key(disk: DiskId, shard: ShardId) -> RowKey<'static> {
    RowKey::Doubt { disk, shard }
}

impl Machine<'_, '_> {
    /// Notes doubts. Skips a shard that nothing names any more, that is owed anyway, or whose disk
    /// has too many doubts already.
    pub(super) fn raise_doubts(&mut self, doubts: &[NewDoubt]) -> Step<Outcome> {
        if doubts.len() > OWED_MARKS_MAX {
            return malformed(format!("{} doubts at once", doubts.len()));
        }
        for doubt in doubts {
            self.raise_doubt(doubt)?;
        }
        Ok(Outcome::Done)
    }

    fn raise_doubt(&mut self, doubt: &NewDoubt) -> Result<(), MachineError> {
        let NewDoubt {
            shard,
            disk,
            epoch,
            damaged,
        } = *doubt;
        let named = self.named(shard, disk, epoch)?;
        if named.is_none_or(|named| named.owes()) {
            return Ok(());
        }
        let key = doubt_key(disk, shard);
        let disk_key = RowKey::Disk(disk);
        if let Some(row) = self.read::<DoubtRow>(&key)? {
            // Nobody has judged it: its own node is to look again.
            let old = self.now_ms.saturating_sub(row.since_ms) >= DOUBT_AGAIN_MS;
            if row.denied && old {
                let (since_ms, denied) = (self.now_ms, false);
                let row = DoubtRow {
                    since_ms,
                    denied,
                    ..row
                };
                self.write(&key, &row);
            }
            return Ok(());
        }
        let mut disk: DiskRow = self.require(&disk_key)?;
        if disk.doubts >= DISK_DOUBTS_MAX {
            return Ok(());
        }
        disk.doubts += 1;
        self.write(&disk_key, &disk);
        let row = DoubtRow {
            since_ms: self.now_ms,
            epoch,
            damaged,
            denied: false,
        };
        self.write(&key, &row);
        Ok(())
    }

    /// Removes a doubt, if there is one: the shard is marked, or well, or gone.
    pub(super) fn settle_doubt(
        &mut self,
        disk: DiskId,
        shard: ShardId,
    ) -> Result<(), MachineError> {
        let key = doubt_key(disk, shard);
        if !self.exists(&key)? {
            return Ok(());
        }
        self.delete(&key);
        let disk_key = RowKey::Disk(disk);
        let mut row: DiskRow = self.require(&disk_key)?;
        row.doubts = row
            .doubts
            .checked_sub(1)
            .ok_or_else(|| super::counters::below_zero("a disk's doubts"))?;
        self.write(&disk_key, &row);
        Ok(())
    }

    /// Notes that the disk's own node finds these shards whole. Another node judges them then.
    pub(super) fn deny_doubts(
        &mut self,
        node: NodeId,
        disk: DiskId,
        shards: &[ShardId],
    ) -> Step<Outcome> {
        if shards.len() > OWED_MARKS_MAX {
            return malformed(format!("{} doubts at once", shards.len()));
        }
        self.own_disk(node, disk)?;
        for shard in shards {
            let key = doubt_key(disk, *shard);
            let Some(row) = self.read::<DoubtRow>(&key)? else {
                continue;
            };
            let gone = self.named(*shard, disk, row.epoch)?.is_none();
            if gone || !self.has_judge(node, *shard)? {
                self.settle_doubt(disk, *shard)?;
            } else if !row.denied {
                let denied = true;
                self.write(&key, &DoubtRow { denied, ..row });
            }
        }
        Ok(Outcome::Done)
    }

    /// True if another node takes part in the shard's volume.
    fn has_judge(&self, node: NodeId, shard: ShardId) -> Result<bool, MachineError> {
        self.any_slot(shard, |other| other != node)
    }

    /// Returns whether a slot of the shard's volume is on a node of that kind.
    fn any_slot(
        &self,
        shard: ShardId,
        wanted: impl Fn(NodeId) -> bool,
    ) -> Result<bool, MachineError> {
        let volume = lookup::volume(self.rows, shard.volume)?;
        Ok(volume.is_some_and(|volume| volume.slots.iter().any(|slot| wanted(slot.node))))
    }

    /// Settles doubts by what another storage node has read. That node must have a slot in the
    /// volume, and the disk's own node has had its time.
    pub(super) fn judge_doubts(
        &mut self,
        judge: NodeId,
        disk: DiskId,
        verdicts: &[Verdict],
    ) -> Step<Outcome> {
        if verdicts.len() > OWED_MARKS_MAX {
            return malformed(format!("{} verdicts at once", verdicts.len()));
        }
        let row: Option<DiskRow> = self.read(&RowKey::Disk(disk))?;
        if row.is_none_or(|row| row.node == judge) {
            return malformed(format!("{judge} is no judge of disk {disk}"));
        }
        for verdict in verdicts {
            self.judge_doubt(judge, disk, verdict)?;
        }
        Ok(Outcome::Done)
    }

    fn judge_doubt(&mut self, judge: NodeId, disk: DiskId, verdict: &Verdict) -> Step<()> {
        let Verdict { shard, whole } = *verdict;
        let Some(doubt) = self.read::<DoubtRow>(&doubt_key(disk, shard))? else {
            return Ok(());
        };
        if !self.any_slot(shard, |node| node == judge)? {
            return malformed(format!("{judge} has no slot in {}", shard.volume));
        }
        let old = self.now_ms.saturating_sub(doubt.since_ms) >= DOUBT_SETTLED_MS;
        if !doubt.denied && !old {
            return Ok(());
        }
        if let Some(named) = self.named(shard, disk, doubt.epoch)?
            && !whole
        {
            self.mark(named, doubt.damaged)?;
        }
        self.settle_doubt(disk, shard)?;
        Ok(())
    }
}

impl NamedShard {
    /// Returns true if the shard is owed already.
    pub(super) fn owes(&self) -> bool {
        self.segment().owed & self.bit() != 0
    }
}
