//! Writing one shard, cell by cell. Holds at most two records in memory: one that fills and one on
//! its way to the disk.

use super::error::StoreError;
use super::handle::DiskHandle;
use super::op::{Append, Done, Op};
use super::record::{CELL_LEN, Cell, RECORDS_MAX};
use bytes::Bytes;
use megalith_disk::crc32c::crc32c;
use megalith_model::ids::Epoch;
use megalith_model::shard::{Receipt, ShardId, ShardStat};
use tokio::sync::oneshot;

/// A shard on its way to the disk. Nothing of it is visible before [`ShardWriter::finish`];
/// dropping it gives it up.
pub struct ShardWriter {
    disk: DiskHandle,
    stream: u64,
    shard: ShardId,
    epoch: Epoch,
    total_len: u64,
    record_cells: usize,
    /// The same shard is stored already: the bytes are only compared.
    before: Option<Receipt>,
    hasher: blake3::Hasher,
    pushed: u64,
    cells: Vec<Cell>,
    first_cell: u32,
    in_flight: Option<oneshot::Receiver<Result<Done, StoreError>>>,
    /// False until something was sent to the writer, and after its end.
    open: bool,
}

/// A shard that a writer is asked for.
pub(super) struct NewShard {
    pub(super) shard: ShardId,
    pub(super) epoch: Epoch,
    pub(super) total_len: u64,
}

impl ShardWriter {
    pub(super) fn new(
        disk: DiskHandle,
        stream: u64,
        new: NewShard,
        record_cells: u16,
        before: Option<ShardStat>,
    ) -> Result<Self, StoreError> {
        let NewShard {
            shard,
            epoch,
            total_len,
        } = new;
        let cells = total_len.div_ceil(CELL_LEN as u64);
        let cells_max = u64::from(RECORDS_MAX) * u64::from(record_cells);
        if cells == 0 || cells > cells_max {
            return Err(StoreError::Malformed {
                shard,
                what: "length out of bounds",
            });
        }
        let receipt = |stat: ShardStat| {
            stat.digest.map(|digest| Receipt {
                len: stat.len,
                digest,
                epoch: stat.epoch,
            })
        };
        Ok(Self {
            disk,
            stream,
            shard,
            epoch,
            total_len,
            record_cells: usize::from(record_cells),
            before: before.and_then(receipt),
            hasher: blake3::Hasher::new(),
            pushed: 0,
            cells: Vec::new(),
            first_cell: 0,
            in_flight: None,
            open: false,
        })
    }

    /// Takes the next cell: [`CELL_LEN`] bytes, the last one what is left. Waits while the disk is
    /// behind. After an error the shard is given up.
    pub async fn push_cell(&mut self, bytes: Bytes, crc: u32) -> Result<(), StoreError> {
        let shard = self.shard;
        let left = self.total_len - self.pushed;
        if bytes.is_empty() || bytes.len() as u64 != left.min(CELL_LEN as u64) {
            return Err(StoreError::Malformed {
                shard,
                what: "cell of a wrong length",
            });
        }
        if crc32c(&bytes) != crc {
            return Err(StoreError::ChecksumMismatch {
                shard,
                what: "crc32c of a cell",
            });
        }
        self.hasher.update(&bytes);
        self.pushed += bytes.len() as u64;
        if self.before.is_some() {
            return Ok(());
        }
        if self.cells.len() == self.record_cells {
            self.send(None).await?;
        }
        self.cells.push((bytes, crc));
        Ok(())
    }

    /// Ends the shard: checks that its bytes hash to `expected_digest` (blake3 over the cells'
    /// bytes in order), makes it durable and then visible. The same shard stored before answers
    /// with its receipt.
    pub async fn finish(mut self, expected_digest: [u8; 32]) -> Result<Receipt, StoreError> {
        let shard = self.shard;
        if self.pushed != self.total_len {
            return Err(StoreError::Malformed {
                shard,
                what: "fewer bytes than announced",
            });
        }
        if *self.hasher.finalize().as_bytes() != expected_digest {
            return Err(StoreError::ChecksumMismatch {
                shard,
                what: "blake3 of the shard",
            });
        }
        if let Some(receipt) = self.before {
            return if receipt.digest == expected_digest {
                Ok(receipt)
            } else {
                Err(StoreError::Conflict { shard })
            };
        }
        self.send(Some((self.total_len, expected_digest))).await?;
        match self.settle().await? {
            Some(Done::Stored(receipt)) => {
                self.open = false;
                Ok(receipt)
            }
            done => unreachable!("the end of a shard was answered by {done:?}"),
        }
    }

    async fn send(&mut self, last: Option<(u64, [u8; 32])>) -> Result<(), StoreError> {
        self.settle().await?;
        let cells = std::mem::take(&mut self.cells);
        let count = cells.len() as u32;
        let append = Append {
            stream: self.stream,
            shard: self.shard,
            epoch: self.epoch,
            first_cell: self.first_cell,
            cells,
            last,
        };
        self.first_cell += count;
        self.open = true;
        self.in_flight = Some(self.disk.submit(Op::Append(append)).await?);
        Ok(())
    }

    /// Waits for the record on its way.
    async fn settle(&mut self) -> Result<Option<Done>, StoreError> {
        let Some(in_flight) = self.in_flight.as_mut() else {
            return Ok(None);
        };
        let answer = in_flight.await.map_err(|_| StoreError::Closed);
        self.in_flight = None;
        answer?.map(Some)
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        if self.open {
            self.disk.abandon(self.stream);
        }
    }
}
