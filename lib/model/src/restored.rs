//! What must change in the rows of a backup before a cluster continues from them.
//!
//! The cluster went on after the backup: it gave out numbers and changed volumes that these rows
//! know nothing of. So every number jumps far ahead and everything open is closed: no blob, volume
//! or lease is ever named twice. A row says that the cluster was restored. The same rows always
//! give the same changes, so several members can
//! each restore the same backup on their own. Knows nothing of files.

use crate::denied::DenyList;
use crate::ids::{AccountId, Epoch, LeaseId, VolumeId};
use crate::keys::{self, Meta, RowKey, Table};
use crate::kinds::Stored;
use crate::level::Level;
use crate::machine::{self, MachineError, decode_row, read};
use crate::rows::{DiskRow, DoomedQueue, DoomedRow, VolumeRow};
use crate::table::{Batch, Overlay, Rows};
use crate::topology::Lease;

/// More leases, volumes, accounts and epochs than a cluster gives out between a backup and its
/// loss.
const NUMBERS: u32 = 1 << 20;
/// More deletes than are queued for a disk between a backup and its loss.
const DELETES: u64 = 1 << 40;

/// Returns the changes: all leases are closed, all volumes are closed in epochs of their own, and
/// all numbers start beyond those that may have been given out.
pub fn changes(rows: &dyn Rows) -> Result<Batch, MachineError> {
    let mut overlay = Overlay::new(rows);
    let level = machine::level(rows)?;
    for item in Meta::ALL {
        jump(&mut overlay, *item, level)?;
    }
    close_leases(&mut overlay, level)?;
    for (key, value) in table(rows, Table::Volumes)? {
        let volume: VolumeRow = decode_row(&key, &value)?;
        let epoch = volume.epoch.0.checked_add(NUMBERS).ok_or_else(used_up)?;
        overlay.delete(RowKey::OpenVolume(volume.id).encode());
        let volume = VolumeRow {
            epoch: Epoch(epoch),
            open_until: Epoch(0),
            closed_before: Some(LeaseId(0)),
            ..volume
        };
        overlay.put(key, crate::codec::encode_at(&volume, level));
    }
    for (key, value) in table(rows, Table::Disks)? {
        let disk: DiskRow = decode_row(&key, &value)?;
        let last_delete = disk.last_delete.checked_add(DELETES).ok_or_else(used_up)?;
        let disk = DiskRow {
            last_delete,
            ..disk
        };
        overlay.put(key, crate::codec::encode_at(&disk, level));
    }
    Ok(overlay.into_batch())
}

/// Closes all leases. What is remembered of their commands is worked off later, as after any other
/// closing.
fn close_leases(rows: &mut Overlay<'_>, level: Level) -> Result<(), MachineError> {
    let queue_key = RowKey::Meta(Meta::Doomed);
    let mut queue: DoomedQueue = read(rows, &queue_key)?.unwrap_or_default();
    for (key, value) in table(rows, Table::Leases)? {
        let lease: Lease = decode_row(&key, &value)?;
        let (from, _) = lease.id.blobs();
        let spent = DoomedRow::Spent {
            lease: lease.id,
            from,
        };
        let number = RowKey::Doomed(queue.next).encode();
        rows.put(number, crate::codec::encode_at(&spent, level));
        queue.next += 1;
        rows.delete(key);
    }
    rows.put(queue_key.encode(), crate::codec::encode_at(&queue, level));
    Ok(())
}

fn used_up() -> MachineError {
    MachineError::Contradiction("numbers are used up".into())
}

/// Moves a row of the meta table far ahead, if it is a number that is given out.
fn jump(rows: &mut Overlay<'_>, item: Meta, level: Level) -> Result<(), MachineError> {
    match item {
        Meta::NextLease => far(rows, item, level, LeaseId(0), |id| {
            id.0.checked_add(NUMBERS.into()).map(LeaseId)
        }),
        Meta::NextVolume => far(rows, item, level, VolumeId(1), |id| {
            id.0.checked_add(NUMBERS.into()).map(VolumeId)
        }),
        Meta::NextAccount => far(rows, item, level, AccountId(1), |id| {
            id.0.checked_add(NUMBERS.into()).map(AccountId)
        }),
        // Until an operator releases the restore, no shard is taken for an orphan: these rows name
        // less than the disks hold, and a later backup may name it again.
        Meta::Restored => {
            let key = RowKey::Meta(item).encode();
            rows.put(key, crate::codec::encode_at(&(), level));
            Ok(())
        }
        Meta::Cluster
        | Meta::Clock
        | Meta::Totals
        | Meta::Doomed
        | Meta::Level
        | Meta::Rotation
        | Meta::Settings => Ok(()),
        // Processes keep the newest list that they have heard, so the restored one must be newer.
        Meta::DenyList => {
            let key = RowKey::Meta(item);
            let mut list: DenyList = read(rows, &key)?.unwrap_or_default();
            let revision = list.revision.checked_add(NUMBERS.into());
            list.revision = revision.ok_or_else(used_up)?;
            rows.put(key.encode(), crate::codec::encode_at(&list, level));
            Ok(())
        }
    }
}

fn far<T: Stored>(
    rows: &mut Overlay<'_>,
    item: Meta,
    level: Level,
    first: T,
    ahead: impl FnOnce(T) -> Option<T>,
) -> Result<(), MachineError> {
    let key = RowKey::Meta(item);
    let next = read(rows, &key)?.unwrap_or(first);
    let next = ahead(next).ok_or_else(used_up)?;
    rows.put(key.encode(), crate::codec::encode_at(&next, level));
    Ok(())
}

type Row = (Vec<u8>, Vec<u8>);

/// Reads a table of few rows: volumes, disks, leases.
fn table(rows: &dyn Rows, table: Table) -> Result<Vec<Row>, MachineError> {
    let range = keys::table(table);
    let mut found = Vec::new();
    rows.scan(&range.from, &range.to, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        true
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Condition, ObjectBlobs, Outcome, Refusal};
    use crate::machine::tests::{BOX, World, put, put_command};
    use crate::topology::VolumeState;

    #[test]
    fn restored_rows_agree_and_give_no_number_twice() {
        let mut world = World::ready();
        let blob = world.blob(1, 300_000, 1);
        world.done(put_command(put("kept", 1, ObjectBlobs::New(blob))));
        let lost = world.blob(2, 300_000, 1);
        world.done(Command::DeleteObject {
            bucket: BOX,
            key: b"nothing".to_vec(),
            condition: Condition::None,
        });
        let gone = world.last_key();
        let backup = world.rows.clone();

        // What the cluster did after the backup, of which the rows know nothing.
        world.done(put_command(put("lost", 2, ObjectBlobs::New(lost.clone()))));
        let (lease, volume) = (world.lease(), world.volume(4, 2));

        world.rows = backup;
        let changes = changes(&world.rows).expect("readable");
        world.rows.write(changes);
        world.audited();
        assert!(world.exists(&RowKey::Spent(gone)));
        world.done(Command::WorkOff);
        assert!(!world.exists(&RowKey::Spent(gone)));
        world.audited();

        let late = world.try_apply(put_command(put("lost", 2, ObjectBlobs::New(lost))));
        assert!(matches!(late, Err(Refusal::LeaseClosed { .. })), "{late:?}");
        assert!(world.lease().id > lease.id);
        let fresh = world.volume(4, 2);
        assert!(fresh.id > volume.id);
        let old: VolumeRow = world.row(&RowKey::Volume(VolumeId(1))).expect("there");
        assert!(old.epoch > Epoch(1_000) && old.open_until == Epoch(0));
        assert!(world.volume_row(1).state == VolumeState::Closed);

        let deleted = world.done(Command::DeleteObject {
            bucket: BOX,
            key: b"kept".to_vec(),
            condition: Condition::None,
        });
        assert_eq!(deleted, Outcome::Done);
        world.audited();
    }
}
