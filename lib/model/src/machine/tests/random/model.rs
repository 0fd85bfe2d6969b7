//! The simple maps, and what they know of blobs and conditions.

use super::super::{World, version};
use super::Blob;
use crate::command::{Condition, NewBlob};
use crate::ids::{BlobId, BucketId, Epoch, LeaseId, UploadId, VersionId};
use crate::shape::{CELL_LEN, SegmentLayout, Shape};
use crate::topology::VolumeState;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub(super) version: VersionId,
    pub(super) size: u64,
    pub(super) blobs: Vec<BlobId>,
}

pub(super) type Key = (BucketId, Vec<u8>);

#[derive(Default)]
pub(super) struct Model {
    pub(super) buckets: BTreeMap<BucketId, String>,
    pub(super) objects: BTreeMap<Key, Object>,
    pub(super) uploads: BTreeMap<UploadId, (Key, BTreeMap<u32, BlobId>)>,
    pub(super) leases: BTreeSet<LeaseId>,
    pub(super) leases_opened: u64,
    pub(super) volumes: u64,
    /// Blobs that have ever had a row.
    pub(super) brought: BTreeSet<BlobId>,
    pub(super) next: u64,
}

/// Picks the n-th of some things, wrapping around.
pub(super) fn pick<T: Clone>(things: impl Iterator<Item = T>, n: u8) -> Option<T> {
    let things: Vec<T> = things.collect();
    let at = usize::from(n) % things.len().max(1);
    things.get(at).cloned()
}

impl Model {
    pub(super) fn bucket(&self, n: u8) -> BucketId {
        // Sometimes one that isn't there.
        let nowhere = BucketId(29_999);
        pick(self.buckets.keys().copied().chain([nowhere]), n).unwrap_or(nowhere)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// References by blob, counted from objects and parts.
    pub(super) fn references(&self) -> BTreeMap<BlobId, u32> {
        let objects = self.objects.values().flat_map(|object| &object.blobs);
        let parts = self.uploads.values().flat_map(|(_, parts)| parts.values());
        let mut references = BTreeMap::new();
        for blob in objects.chain(parts) {
            *references.entry(*blob).or_default() += 1;
        }
        references
    }

    /// Builds a blob, and says whether the state machine should take it.
    pub(super) fn blob(&mut self, world: &World, spec: &Blob) -> (NewBlob, bool) {
        let (first, _) = LeaseId(self.leases_opened - 1).blobs();
        let id = first.0 + 1 + self.number() % 1_000;
        let volume = 1 + u64::from(spec.volume) % self.volumes;
        let mut new = world.blob(id, spec.len, volume);
        let row = world.volume_row(volume);
        let inline = new.shape == Shape::Inline;
        // Written in the epoch before, or in the present one.
        let closed_since = spec.flaw % 4 == 3 && row.epoch > Epoch(1);
        if closed_since {
            for segment in &mut new.segments {
                segment.epoch = Epoch(row.epoch.0 - 1);
            }
        }
        let is_closed = row.state == VolumeState::Closed;
        let mut good = inline || is_closed == closed_since;
        if let (Some(slot), Some(segment)) = (spec.owed, new.segments.first_mut()) {
            let slot = usize::from(slot) % row.profile.shards();
            segment.owed = 1 << slot;
            let layout = SegmentLayout::new(new.shape, row.profile, new.blob, segment.len);
            good &= layout.slots().any(|holder| holder == slot) && row.profile.parity() >= 2;
        }
        match spec.flaw {
            1 => {
                new.len += 1;
                good = false;
            }
            2 => {
                if let Some(segment) = new.segments.last_mut() {
                    segment.epoch = row.epoch.next();
                    good = false;
                }
            }
            // A volume was lost in the middle: no flaw at a cell's end, one within a cell.
            4..8 => good &= end_early(&mut new, u64::from(spec.flaw) * CELL_LEN, true),
            8 => good &= end_early(&mut new, 5 * CELL_LEN + 1, false),
            _ => {}
        }
        (new, good)
    }

    pub(super) fn condition(&self, key: &Key, n: u8) -> (Condition, bool) {
        let current = self.objects.get(key).map(|object| object.version);
        match (n % 6, current) {
            (0, current) => (Condition::Absent, current.is_none()),
            (1, Some(version)) => (Condition::Version(version), true),
            (2, current) => (Condition::Version(version(0)), current == Some(version(0))),
            _ => (Condition::None, true),
        }
    }
}

/// Ends a coded blob's first segment after so many bytes; the rest becomes a segment behind it.
/// Returns true if the blob stays as good as it was.
fn end_early(new: &mut NewBlob, len: u64, good: bool) -> bool {
    let Some(first) = new.segments.first_mut() else {
        return true;
    };
    if new.shape != Shape::Coded || first.len <= len || first.owed != 0 {
        return true;
    }
    let mut rest = first.clone();
    (first.len, rest.len) = (len, first.len - len);
    new.segments.insert(1, rest);
    good
}
