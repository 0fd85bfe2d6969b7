//! Deletes that disks have done.

use super::MachineError;
use super::context::{Machine, Step};
use crate::command::Outcome;
use crate::ids::{DiskId, NodeId};
use crate::keys::{self, RowKey};
use crate::rows::DiskRow;
use crate::table::Rows;

/// The most deletes that one command takes off. Nodes fetch and acknowledge fewer at a time.
const ACKNOWLEDGED_MAX: usize = 10_000;

impl Machine<'_, '_> {
    /// Takes finished deletes off a disk's queue; skips those that were taken off before.
    pub(super) fn ack_deletes(
        &mut self,
        node: NodeId,
        disk: DiskId,
        through: u64,
    ) -> Step<Outcome> {
        // If another node emptied the queue, the shards on this disk would stay for good.
        self.own_disk(node, disk)?;
        let disk_key = RowKey::Disk(disk);
        let mut row: DiskRow = self.require(&disk_key)?;
        let through = through.min(row.last_delete);
        let mut range = keys::deletes(disk, row.first_delete);
        let sequence = through + 1;
        range.to = RowKey::Delete { disk, sequence }.encode();
        let mut done = Vec::new();
        self.rows
            .scan(&range.from, &range.to, &mut |key, _| {
                done.push(key.to_vec());
                done.len() < ACKNOWLEDGED_MAX
            })
            .map_err(MachineError::from)?;
        // The rest is fetched and acknowledged again.
        let sequence = match done.last().map(|key| RowKey::decode(key)) {
            Some(Ok(RowKey::Delete { sequence, .. })) if done.len() == ACKNOWLEDGED_MAX => {
                sequence + 1
            }
            Some(_) | None => sequence,
        };
        let count = done.len() as u64;
        for key in done {
            self.rows.delete(key);
        }
        if sequence > row.first_delete {
            row.first_delete = sequence;
            self.write(&disk_key, &row);
        }
        if count > 0 {
            self.change_totals(|totals| {
                totals.deletes_pending = totals.deletes_pending.checked_sub(count)?;
                Some(())
            })?;
        }
        Ok(Outcome::Done)
    }
}
