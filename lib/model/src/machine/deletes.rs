//! Deletes that disks have done.

use super::MachineError;
use super::context::{Machine, Step};
use crate::command::Outcome;
use crate::ids::{DiskId, NodeId};
use crate::keys::{self, RowKey};
use crate::table::Rows;

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
        let mut range = keys::deletes(disk);
        if let Some(next) = through.checked_add(1) {
            let sequence = next;
            range.to = RowKey::Delete { disk, sequence }.encode();
        }
        let mut done = Vec::new();
        self.rows
            .scan(&range.from, &range.to, &mut |key, _| {
                done.push(key.to_vec());
                true
            })
            .map_err(MachineError::from)?;
        let count = done.len() as u64;
        for key in done {
            self.rows.delete(key);
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
