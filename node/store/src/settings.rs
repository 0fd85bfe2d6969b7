//! What one process may choose about its disks. None of it is part of the format.

use super::scrub::ScrubSettings;
use std::time::Duration;

/// The settings of one disk's store. All sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// A chunk file takes no new shard beyond this length (default 1 GiB).
    pub file_len_max: u64,
    /// Files grow by at least this much (default 1 MiB) …
    pub grow_min: u64,
    /// … and, doubling, by at most this much (default 64 MiB).
    pub grow_max: u64,
    /// Kept free for deletes; shards are refused below it (default 1 GiB).
    pub reserve: u64,
    /// Cells per record, 1 to 16 (default 16): the memory of a stream is two records.
    pub record_cells: u16,
    /// Bytes that may wait for the writer thread (default 64 MiB); senders wait beyond.
    pub queue_bytes: u32,
    /// One commit takes at most this much (default 4 MiB).
    pub commit_bytes: u64,
    /// The longest a commit waits for company it can expect (default 2 ms); a lone writer never
    /// waits.
    pub commit_wait: Duration,
    /// Threads that read (default 8).
    pub reader_threads: usize,
    /// Reads that may wait for a thread (default 256); callers wait beyond.
    pub reads_waiting_max: usize,
    /// Finished chunk files kept open for reading (default 512).
    pub files_open_max: usize,
    /// Dead bytes of a volume, padding included, after which its files are looked through for space
    /// to give back (default 64 MiB).
    pub tidy_after: u64,
    /// A finished file with less than this many percent of live bytes is rewritten (default 70).
    pub compact_below_percent: u64,
    /// An open chunk file that took no record for this long is finished (default 10 minutes).
    pub finish_after: Duration,
    /// After this many files failed in a row the disk takes no more writes (default 3).
    pub failed_files_max: u32,
    /// How the disk is scrubbed.
    pub scrub: ScrubSettings,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            file_len_max: 1 << 30,
            grow_min: 1 << 20,
            grow_max: 64 << 20,
            reserve: 1 << 30,
            record_cells: super::record::RECORD_CELLS_MAX,
            queue_bytes: 64 << 20,
            commit_bytes: 4 << 20,
            commit_wait: Duration::from_millis(2),
            reader_threads: 8,
            reads_waiting_max: 256,
            files_open_max: 512,
            tidy_after: 64 << 20,
            compact_below_percent: 70,
            finish_after: Duration::from_mins(10),
            failed_files_max: 3,
            scrub: ScrubSettings::default(),
        }
    }
}
