//! How many more losses each segment survives: exact counts, without reading a blob.
//!
//! margin = living shards − shards needed to read. Below zero, nothing can be read until a slot
//! comes back. Columns without cells are known to be zero and count as living. Inline blobs are as
//! safe as the metadata group; the caller adds them.

use crate::ids::{BlobId, DiskId};
use crate::query::{DataStatus, VolumeStatus};
use crate::shape::{CELL_LEN, SegmentLayout, Shape};
use crate::topology::{ClusterMap, Slot};
use std::collections::BTreeMap;

/// Segments by margin, the lowest first.
pub type Margins = BTreeMap<i32, u64>;

/// What the loss of some slots means, the volumes taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortfall {
    /// Readable segments of which a shard is on a slot that doesn't live.
    pub segments: u64,
    /// The lowest margin of these; None if there is none.
    pub worst: Option<i32>,
}

/// Counts the segments of all volumes by margin. `lives` says which slots live.
#[must_use]
pub fn margins(status: &DataStatus, lives: &dyn Fn(&Slot) -> bool) -> Margins {
    let mut margins = Margins::new();
    for volume in &status.volumes {
        let dead = slots_mask(volume, |slot| !lives(slot));
        each_kind(volume, |kind| {
            *margins.entry(kind.margin(dead)).or_default() += kind.count;
        });
    }
    margins
}

/// As [`margins`]; a slot lives if its disk is [`is_served`].
#[must_use]
pub fn margins_in(status: &DataStatus, map: &ClusterMap) -> Margins {
    margins(status, &|slot| is_served(map, slot))
}

/// Returns true if the slot's node is alive and still lists the slot's disk.
#[must_use]
pub fn is_served(map: &ClusterMap, slot: &Slot) -> bool {
    map.is_alive(slot.node) && is_listed(map, slot)
}

/// Returns true if the slot's node lists the slot's disk, alive or not.
#[must_use]
pub fn is_listed(map: &ClusterMap, slot: &Slot) -> bool {
    map.node(slot.node)
        .is_some_and(|node| node.disks.iter().any(|disk| disk.id == slot.disk))
}

/// Says what is lacking because slots don't live: readable segments with a shard on such a slot.
/// Segments that only owe shards are not among them.
#[must_use]
pub fn shortfall(status: &DataStatus, lives: &dyn Fn(&Slot) -> bool) -> Shortfall {
    let mut found = Shortfall::default();
    for volume in &status.volumes {
        let dead = slots_mask(volume, |slot| !lives(slot));
        each_kind(volume, |kind| {
            let margin = kind.margin(dead);
            if kind.holders & dead != 0 && margin >= 0 {
                found.segments += kind.count;
                found.worst = Some(found.worst.map_or(margin, |worst| worst.min(margin)));
            }
        });
    }
    found
}

/// Counts the segments of which the disk should hold a shard, owed ones left out.
#[must_use]
pub fn held_by(status: &DataStatus, disk: DiskId) -> u64 {
    let mut held = 0;
    for volume in &status.volumes {
        let on_it = slots_mask(volume, |slot| slot.disk == disk);
        each_kind(volume, |kind| {
            if kind.holders & !kind.owed & on_it != 0 {
                held += kind.count;
            }
        });
    }
    held
}

/// Segments of one kind in one volume: all have their shards on the same slots.
struct Kind {
    parity: i32,
    /// The slots that should hold a shard, as bits.
    holders: u32,
    /// The slots that owe it, as bits.
    owed: u32,
    count: u64,
}

impl Kind {
    fn margin(&self, dead: u32) -> i32 {
        self.parity - (self.holders & (dead | self.owed)).count_ones() as i32
    }
}

fn slots_mask(status: &VolumeStatus, wanted: impl Fn(&Slot) -> bool) -> u32 {
    (0..)
        .zip(&status.volume.slots)
        .filter(|(_, slot)| wanted(slot))
        .fold(0_u32, |mask, (number, _)| mask | 1 << number)
}

fn each_kind(status: &VolumeStatus, mut found: impl FnMut(Kind)) {
    let profile = status.volume.profile;
    let mut add = |shape: Shape, kind: u64, owed: u32, count: u64| {
        if count == 0 {
            return;
        }
        // A segment of that kind: the smallest that fills this many columns, or a copy of such a
        // blob.
        let (blob, len) = match shape {
            Shape::Coded => (BlobId(0), kind * CELL_LEN),
            Shape::Copies | Shape::Inline => (BlobId(kind), 1),
        };
        found(Kind {
            parity: profile.parity() as i32,
            holders: SegmentLayout::new(shape, profile, blob, len).slots_mask(),
            owed,
            count,
        });
    };
    let counts = &status.counts;
    let short: u64 = counts.short.iter().sum();
    let full = counts.coded.saturating_sub(short);
    add(Shape::Coded, profile.data() as u64, 0, full);
    for (columns, count) in (1..).zip(&counts.short) {
        add(Shape::Coded, columns, 0, *count);
    }
    for (first, count) in (0..).zip(&counts.copies) {
        add(Shape::Copies, first, 0, *count);
    }
    for &(shape, kind, owed, count) in &status.owed {
        add(shape, kind.into(), owed, count);
    }
}
