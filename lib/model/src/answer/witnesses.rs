//! What speaks for a shard that is on a disk. Only a shard that nothing speaks for is an orphan.
//!
//! The proof rests on leases. A row names a segment from the command on that brings its blob, and
//! apply accepts that command only while the lease of the blob's id is open. So once the lease is
//! closed and no row names the segment, none ever will; the row's own end has queued a delete. Rows
//! that go back in time (a restore) end the proof, until an operator says that they stay.

use super::deletes;
use crate::freeing::Freeing;
use crate::ids::{DiskId, LeaseId};
use crate::keys::{Meta, RowKey};
use crate::machine::{MachineError, read};
use crate::query::{PAGE_ROWS_MAX, Witness};
use crate::question;
use crate::rows::FiledRow;
use crate::shard::ShardId;
use crate::table::Rows;
use crate::topology::Lease;
use std::collections::BTreeSet;

/// Says what speaks for each of these shards on `disk`.
pub(super) fn witnesses(
    rows: &dyn Rows,
    disk: DiskId,
    shards: &[ShardId],
) -> Result<Vec<Witness>, MachineError> {
    let next: Option<LeaseId> = read(rows, &RowKey::Meta(Meta::NextLease))?;
    let said = Said {
        rows,
        restored: read::<()>(rows, &RowKey::Meta(Meta::Restored))?.is_some(),
        next_lease: next.unwrap_or(LeaseId(0)),
        queue: queue(rows, disk)?,
    };
    shards.iter().map(|shard| said.of(shard)).collect()
}

/// The disk's delete queue; None if it is longer than a page.
fn queue(rows: &dyn Rows, disk: DiskId) -> Result<Option<BTreeSet<ShardId>>, MachineError> {
    let max = PAGE_ROWS_MAX;
    let all = question::Deletes {
        disk,
        max,
        after: 0,
        urgent: true,
    };
    let queued = deletes(rows, all, &Freeing::ALL)?;
    let whole = queued.len() < max as usize;
    let shards = queued.into_iter().map(|(_, shard)| shard);
    Ok(whole.then(|| shards.collect()))
}

/// What the rows say of all shards alike.
struct Said<'a> {
    rows: &'a dyn Rows,
    restored: bool,
    next_lease: LeaseId,
    queue: Option<BTreeSet<ShardId>>,
}

impl Said<'_> {
    fn of(&self, shard: &ShardId) -> Result<Witness, MachineError> {
        let filed = RowKey::VolumeBlob {
            volume: shard.volume,
            blob: shard.blob,
            segment: shard.segment,
        };
        // Whichever slots the segment has: a row names all of them.
        if read::<FiledRow>(self.rows, &filed)?.is_some() {
            return Ok(Witness::Row);
        }
        let lease = shard.blob.lease();
        let open: Option<Lease> = read(self.rows, &RowKey::Lease(lease))?;
        if open.is_some() || lease >= self.next_lease {
            return Ok(Witness::Lease);
        }
        let queued = self.queue.as_ref();
        if queued.is_none_or(|queue| queue.contains(shard)) {
            return Ok(Witness::Delete);
        }
        Ok(match self.restored {
            true => Witness::Restore,
            false => Witness::Nobody,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::answer::tests::ask;
    use crate::command::{Command, Condition, ObjectBlobs};
    use crate::ids::{BlobId, LeaseId, VolumeId};
    use crate::machine::tests::{BOX, GATEWAY, World, coded_len, disk_id, put, put_command};
    use crate::query::Witness;
    use crate::question;
    use crate::restored;
    use crate::shard::ShardId;

    fn shard(blob: u64) -> ShardId {
        ShardId {
            volume: VolumeId(1),
            blob: BlobId(blob),
            segment: 0,
            slot: 0,
        }
    }

    fn of(world: &World, blob: u64) -> Witness {
        let disk = disk_id(1);
        let shards = vec![shard(blob)];
        ask(&world.rows, question::Witnesses { disk, shards })[0]
    }

    fn close(world: &mut World, lease: u64) {
        world.done(Command::CloseLease {
            gateway: GATEWAY,
            lease: LeaseId(lease),
        });
    }

    #[test]
    fn only_a_closed_lease_and_no_row_leave_nobody() {
        let mut world = World::ready();
        let blob = world.blob(7, coded_len(9), 1);
        world.done(put_command(put("a", 1, ObjectBlobs::New(blob))));
        let foreign = LeaseId::BLOBS * 3;
        assert_eq!(of(&world, 7), Witness::Row);
        assert_eq!(of(&world, 8), Witness::Lease);
        assert_eq!(of(&world, foreign), Witness::Lease);
        let fresh = world.lease();
        close(&mut world, 0);
        assert_eq!(of(&world, 7), Witness::Row);
        assert_eq!(of(&world, 8), Witness::Nobody);
        assert_eq!(of(&world, fresh.id.blobs().0.0), Witness::Lease);
        assert_eq!(of(&world, foreign), Witness::Lease);

        world.done(Command::DeleteObject {
            bucket: BOX,
            key: b"a".to_vec(),
            condition: Condition::None,
        });
        assert_eq!(of(&world, 7), Witness::Delete);
    }

    #[test]
    fn after_a_restore_somebody_speaks_for_every_shard() {
        let mut world = World::ready();
        let changes = restored::changes(&world.rows).expect("readable");
        world.rows.write(changes);
        assert_eq!(of(&world, 8), Witness::Restore);
        assert!(ask(&world.rows, question::Data).restored);
        world.done(Command::ReleaseRestore);
        assert_eq!(of(&world, 8), Witness::Nobody);
        world.done(Command::ReleaseRestore);
        world.audited();
    }
}
