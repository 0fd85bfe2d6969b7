//! Reads a whole shard and compares it with what its blob's row says: on a disk of this node, or on
//! another node's.

use bytes::Bytes;
use megalith_client::framing::READ_CELLS_MAX;
use megalith_client::{DataClient, DataFault, ShardRoute};
use megalith_model::query::WantedShard;
use megalith_model::shape::CELL_LEN;
use megalith_model::shard::{ShardId, row_digest};
use megalith_store::{DiskHandle, StoreError};

/// Cells read at once from a disk of this node.
const LOCAL_CELLS: u64 = 16;

/// What was found of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its bytes have the digest of the row.
    Whole,
    /// The disk is here, and knows no such shard.
    Missing,
    /// Its bytes are wrong, or can't be read.
    Damaged,
    /// Nobody could say: the disk or its node is away, or busy.
    Unknown,
}

/// Where a shard is read.
pub(crate) enum Place<'a> {
    /// On a disk of this node.
    Here(&'a DiskHandle, ShardId),
    /// On another node's.
    Afar(&'a DataClient, &'a ShardRoute),
}

impl Place<'_> {
    /// Reads the whole shard and compares it.
    pub(crate) async fn verify(&self, wanted: &WantedShard) -> Found {
        let cells = wanted.len.div_ceil(CELL_LEN);
        let step = match self {
            Self::Here(..) => LOCAL_CELLS,
            Self::Afar(..) => READ_CELLS_MAX,
        };
        let mut hasher = blake3::Hasher::new();
        let mut first = 0;
        while first < cells {
            let count = step.min(cells - first);
            match self.read(wanted.len, first, count).await {
                Ok(pieces) => {
                    for piece in pieces {
                        hasher.update(&piece);
                    }
                }
                Err(found) => return found,
            }
            first += count;
        }
        if row_digest(hasher.finalize().as_bytes()) == wanted.digest {
            Found::Whole
        } else {
            Found::Damaged
        }
    }

    async fn read(&self, len: u64, first: u64, count: u64) -> Result<Vec<Bytes>, Found> {
        match self {
            Self::Here(disk, shard) => match disk.read(*shard, first, count).await {
                Ok(cells) => Ok(cells.into_iter().map(|(bytes, _)| bytes).collect()),
                Err(StoreError::NotFound { .. }) => Err(Found::Missing),
                // Also if the shard is shorter than it should be.
                Err(StoreError::Damaged { .. } | StoreError::Malformed { .. }) => {
                    Err(Found::Damaged)
                }
                Err(error) => {
                    tracing::debug!(%error, %shard, "a shard can't be looked at");
                    Err(Found::Unknown)
                }
            },
            Self::Afar(data, route) => {
                let cells = data.get_cells(route, len, first, count).await;
                cells.map_err(|error| match error.fault {
                    DataFault::NotFound => Found::Missing,
                    DataFault::Damaged => Found::Damaged,
                    _other => {
                        tracing::debug!(%error, "a shard in doubt can't be judged");
                        Found::Unknown
                    }
                })
            }
        }
    }
}
