//! What a write left on disks and no row names: segments that were begun and then written
//! elsewhere, and everything of a write that failed. Its own gateway names it, once, after the
//! write has ended.
//!
//! Each segment is judged by the rows: what one of them names stays. What nobody names (the gateway
//! was killed, or doesn't know whether its command was applied) is found by comparing disks with
//! rows, never from here. So is a shard that a node was still appending when it was told to delete
//! it.

use super::context::{Machine, Step, malformed};
use super::{LEFTOVERS_MAX, MachineError};
use crate::command::{Leftover, Outcome};
use crate::ids::BlobId;
use crate::keys::RowKey;
use crate::lookup;
use crate::rows::VolumeRow;
use crate::shard::ShardId;

impl Machine<'_, '_> {
    /// Queues the deletes of what a write that was not done has left behind.
    pub(super) fn discard_blob(
        &mut self,
        blob: Option<BlobId>,
        leftovers: &[Leftover],
    ) -> Step<Outcome> {
        let Some(blob) = blob else {
            return malformed("a discard without a key");
        };
        self.discard(blob, leftovers)?;
        Ok(Outcome::Done)
    }

    /// Queues the deletes of a blob's segments that no row names.
    pub(super) fn discard(&mut self, blob: BlobId, leftovers: &[Leftover]) -> Step<()> {
        if leftovers.len() > LEFTOVERS_MAX || !leftovers.is_sorted_by(|a, b| a < b) {
            return malformed("too many segments left behind, or one of them twice");
        }
        for Leftover { volume, segment } in leftovers {
            let (id, segment) = (*volume, *segment);
            let Some(volume) = self.read::<VolumeRow>(&RowKey::Volume(id))? else {
                return malformed(format!("{id} was never there"));
            };
            if lookup::segment(self.rows, id, blob, segment)?.is_none() {
                self.discard_segment(&volume, blob, segment)?;
            }
        }
        Ok(())
    }

    /// Which slots got a shard is not known: each of them may have one.
    fn discard_segment(
        &mut self,
        volume: &VolumeRow,
        blob: BlobId,
        segment: u32,
    ) -> Result<(), MachineError> {
        for (slot, place) in (0..).zip(&volume.slots) {
            let shard = ShardId {
                volume: volume.id,
                blob,
                segment,
                slot,
            };
            self.queue_delete(place.disk, &shard)?;
        }
        Ok(())
    }
}
