//! How many more losses each segment survives: exact counts, without reading a blob.
//!
//! margin = living shards − shards needed to read. Below zero, nothing can be read until a slot
//! comes back. Columns without cells are known to be zero and count as living. Inline blobs are as
//! safe as the metadata group; the caller adds them.

use crate::ids::BlobId;
use crate::query::{DataStatus, VolumeStatus};
use crate::shape::{CELL_LEN, SegmentLayout, Shape};
use crate::topology::{ClusterMap, Slot};
use std::collections::BTreeMap;

/// Segments by margin, the lowest first.
pub type Margins = BTreeMap<i32, u64>;

/// Counts the segments of all volumes by margin. `lives` says which slots live.
#[must_use]
pub fn margins(status: &DataStatus, lives: &dyn Fn(&Slot) -> bool) -> Margins {
    let mut margins = Margins::new();
    for volume in &status.volumes {
        add_volume(&mut margins, volume, lives);
    }
    margins
}

/// As [`margins`]; a slot lives if its node is alive and still lists the disk.
#[must_use]
pub fn margins_in(status: &DataStatus, map: &ClusterMap) -> Margins {
    margins(status, &|slot| {
        map.is_alive(slot.node)
            && map
                .node(slot.node)
                .is_some_and(|node| node.disks.iter().any(|disk| disk.id == slot.disk))
    })
}

fn add_volume(margins: &mut Margins, status: &VolumeStatus, lives: &dyn Fn(&Slot) -> bool) {
    let profile = status.volume.profile;
    let dead = (0..)
        .zip(&status.volume.slots)
        .filter(|(_, slot)| !lives(slot))
        .fold(0_u32, |mask, (number, _)| mask | 1 << number);
    let mut add = |shape: Shape, kind: u64, missing: u32, count: u64| {
        if count == 0 {
            return;
        }
        // A segment of that kind: the smallest that fills this many columns, or a copy of such a
        // blob.
        let (blob, len) = match shape {
            Shape::Coded => (BlobId(0), kind * CELL_LEN),
            Shape::Copies | Shape::Inline => (BlobId(kind), 1),
        };
        let holders = SegmentLayout::new(shape, profile, blob, len).slots_mask();
        let lost = (holders & missing).count_ones() as i32;
        *margins.entry(profile.parity() as i32 - lost).or_default() += count;
    };
    let counts = &status.counts;
    let short: u64 = counts.short.iter().sum();
    let full = counts.coded.saturating_sub(short);
    add(Shape::Coded, profile.data() as u64, dead, full);
    for (columns, count) in (1..).zip(&counts.short) {
        add(Shape::Coded, columns, dead, *count);
    }
    for (first, count) in (0..).zip(&counts.copies) {
        add(Shape::Copies, first, dead, *count);
    }
    for &(shape, kind, owed, count) in &status.owed {
        add(shape, kind.into(), dead | owed, count);
    }
}
