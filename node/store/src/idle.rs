//! Finishing what is left alone: an open chunk file that took nothing for some time gets its index.
//! So memory, descriptors and the time of an opening follow the volumes that are written to, not
//! all that there are; and the space of what died in it comes back as that of other finished files.
//!
//! Reads no clock: the caller says what time it is.

use super::core::Core;
use super::record::{BLOCK_LEN, record_len};
use megalith_model::ids::VolumeId;
use std::time::Duration;

/// With less free space, in bytes, no file is finished that would have to grow for it.
const FREE_LEAST: u64 = 64 << 10;

impl Core {
    /// Finishes one file that has taken no record for the time of the settings, if there is one at
    /// rest. `now` counts from anywhere and never goes back. Returns when the next may be due; None
    /// if no file is open.
    pub(super) fn finish_idle(&mut self, now: Duration) -> Option<Duration> {
        let after = self.catalog.settings.finish_after;
        let health = &self.catalog.health;
        if health.is_gone() || health.is_read_only() {
            return Some(now + after);
        }
        let mut due: Option<(VolumeId, u32)> = None;
        let mut next: Option<Duration> = None;
        for (id, volume) in &mut self.volumes {
            for (seq, file) in &mut volume.files {
                let since = match file.quiet {
                    Some((end, since)) if end == file.end && file.is_at_rest() => since,
                    Some(_) | None => {
                        file.quiet = Some((file.end, now));
                        now
                    }
                };
                if since + after <= now && due.is_none() {
                    due = Some((*id, *seq));
                    // Should it not be finished now, its time begins again.
                    file.quiet = None;
                } else {
                    next = Some(next.map_or(since + after, |next| next.min(since + after)));
                }
            }
        }
        let Some((volume, seq)) = due else {
            return next;
        };
        if !self.has_room_to_finish(volume, seq) {
            return Some(next.map_or(now + after, |next| next.min(now + after)));
        }
        self.finish_file(volume, seq);
        self.tidy_idle(volume);
        next
    }

    /// False if the disk is so full that the mark at the file's end might not fit: then it would
    /// count as a file that failed, and nothing is lost if it stays open.
    fn has_room_to_finish(&self, volume: VolumeId, seq: u32) -> bool {
        let writer = self.volumes.get(&volume);
        let Some(file) = writer.and_then(|writer| writer.files.get(&seq)) else {
            return false;
        };
        let marked = u64::from(file.end) * BLOCK_LEN + record_len(0, 0);
        let free = || self.catalog.fs.space(&file.path).map(|space| space.free);
        file.allocated >= marked || free().is_ok_and(|free| free >= FREE_LEAST)
    }

    pub(super) fn has_open_files(&self) -> bool {
        let mut volumes = self.volumes.values();
        volumes.any(|volume| !volume.files.is_empty())
    }

    /// Looks for space in a volume that is left alone: less than it takes a volume in use.
    fn tidy_idle(&mut self, volume: VolumeId) {
        let writer = self.volumes.get(&volume);
        if writer.is_some_and(|writer| writer.dead_bytes > 0) {
            self.weigh_later(volume);
        }
        self.merge_small(volume);
    }
}
