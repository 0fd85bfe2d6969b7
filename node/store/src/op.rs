//! What the writer is asked to do, and its answers.

use super::record::Cell;
use megalith_model::ids::{Epoch, VolumeId};
use megalith_model::shard::{Receipt, ShardId};

/// One request to the writer.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// The next record of a stream.
    Append(Append),
    /// The stream ends without a shard.
    Abandon { stream: u64 },
    /// Deletes shards; those not there are deleted already.
    Delete { shards: Vec<ShardId> },
    /// Raises a volume's epoch.
    Fence { volume: VolumeId, epoch: Epoch },
}

/// The next cells of a shard.
#[derive(Clone, Debug)]
pub(super) struct Append {
    /// Which try to write the shard; never used again.
    pub(super) stream: u64,
    pub(super) shard: ShardId,
    pub(super) epoch: Epoch,
    pub(super) first_cell: u32,
    /// At least one. In all but the last append of a stream exactly `record_cells`, all full.
    pub(super) cells: Vec<Cell>,
    /// Length and digest of the whole shard: it ends with these cells.
    pub(super) last: Option<(u64, [u8; 32])>,
}

/// A request that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// Written, not yet durable: the stream goes on.
    Written,
    /// The shard is durable.
    Stored(Receipt),
    /// The stream is forgotten.
    Abandoned,
    /// The deletes are durable.
    Deleted,
    /// The volume is at this epoch, durably.
    Fenced(Epoch),
}

impl Op {
    /// Bytes it takes up in the queue.
    pub(super) fn weight(&self) -> u64 {
        let bytes = match self {
            Self::Append(append) => append.cells.iter().map(|(bytes, _)| bytes.len()).sum(),
            Self::Delete { shards } => shards.len() * 32,
            Self::Abandon { .. } | Self::Fence { .. } => 0,
        };
        bytes as u64 + 256
    }

    /// True if the disk is changed by it.
    pub(super) fn is_change(&self) -> bool {
        match self {
            Self::Append(_) | Self::Delete { .. } | Self::Fence { .. } => true,
            Self::Abandon { .. } => false,
        }
    }

    /// True if the answer waits for a sync.
    pub(super) fn is_durable(&self) -> bool {
        match self {
            Self::Append(append) => append.last.is_some(),
            Self::Delete { .. } | Self::Fence { .. } => true,
            Self::Abandon { .. } => false,
        }
    }
}
