//! What one gateway may choose about its pipeline.

use megalith_model::shape::SEGMENT_CELLS_MAX;
use std::time::Duration;

/// Settings of the pipeline; [`PipelineSettings::default`] suits a server with a few GiB of memory.
#[derive(Clone, Debug)]
pub struct PipelineSettings {
    /// The most bytes that all reads and writes together hold at a time. Default 1 GiB.
    pub memory_bytes_max: u64,
    /// Cells of a full segment. Smaller only in tests.
    pub segment_cells_max: u64,
    /// How long who needs memory waits for it before he is told to slow down. Default 10 s.
    pub memory_wait: Duration,
    /// How many volumes of one map are tried for one segment. Default 3.
    pub volumes_tried_max: usize,
    /// How long a segment that no volume takes waits for a map with other volumes. Default 5 s: the
    /// cluster gives up a silent node after 2 s. A map without volumes is waited on once for that
    /// long, and not at all if all disks are there and none takes shards.
    pub volume_wait: Duration,
    /// How long one slot may hold up a write before it is left out. Default 3 s.
    pub slot_stall: Duration,
    /// How long a write waits for enough receipts after its last byte. Default 10 s.
    pub receipts_timeout: Duration,
    /// How long it waits for the remaining receipts after that. Default 500 ms.
    pub straggler_wait: Duration,
    /// How long a node that failed is avoided when a volume is chosen. Default 2 s.
    pub penalty: Duration,
    /// Stripes of the first window of a read. Default 2.
    pub window_stripes_first: u64,
    /// Stripes (cells per slot) of the largest window. Default 16, which is 1 MiB of plaintext per
    /// slot.
    pub window_stripes_max: u64,
    /// How long one request for cells may take. Default 5 s.
    pub read_timeout: Duration,
    /// Hedged requests per hundred requests. Default 5.
    pub hedge_percent: u32,
    /// The earliest time at which a request is hedged. Default 10 ms.
    pub hedge_after_min: Duration,
    /// The latest time at which a request is hedged. Default 1 s.
    pub hedge_after_max: Duration,
    /// Threads for hashing, sealing and coding. Default: one per core.
    pub compute_threads: usize,
}

impl Default for PipelineSettings {
    fn default() -> Self {
        Self {
            memory_bytes_max: 1 << 30,
            segment_cells_max: SEGMENT_CELLS_MAX,
            memory_wait: Duration::from_secs(10),
            volumes_tried_max: 3,
            volume_wait: Duration::from_secs(5),
            slot_stall: Duration::from_secs(3),
            receipts_timeout: Duration::from_secs(10),
            straggler_wait: Duration::from_millis(500),
            penalty: Duration::from_secs(2),
            window_stripes_first: 2,
            window_stripes_max: 16,
            read_timeout: Duration::from_secs(5),
            hedge_percent: 5,
            hedge_after_min: Duration::from_millis(10),
            hedge_after_max: Duration::from_secs(1),
            compute_threads: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}
