//! A second look at what did not read well. A fault of a cable, a controller or memory may pass;
//! only what is bad on the disk itself, too, is damage.

use super::catalog::{Catalog, LocatedShard};
use super::error::StoreError;
use super::files::{FileName, is_loss};
use super::record::{BLOCK_LEN, Header, RecordPlace, check_record};
use megalith_disk::{File, read_exact_at};
use megalith_model::ids::VolumeId;
use megalith_model::shard::{ShardId, ShardKey};
use std::sync::Arc;

/// The record of a living shard that should be at a place.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) volume: VolumeId,
    pub(super) key: ShardKey,
    pub(super) first_cell: u32,
}

impl Expected {
    /// Checks every byte of a record.
    pub(super) fn is(self, bytes: &[u8], place: RecordPlace) -> bool {
        self.header_of(bytes, place)
            .is_some_and(|header| check_record(bytes, &header, place).is_some())
    }

    fn header_of(self, bytes: &[u8], place: RecordPlace) -> Option<Header> {
        let header = Header::decode(bytes.first_chunk()?, place).ok()?;
        let found = (header.volume, header.key, header.first_cell);
        (found == (self.volume, self.key, self.first_cell)).then_some(header)
    }
}

impl Catalog {
    /// Reads all of a shard from the disk itself. False if it is not whole, or is gone.
    pub(super) fn is_whole_on_disk(&self, shard: ShardId) -> Result<bool, StoreError> {
        self.verify_home()?;
        let Some(located) = self.find(shard)?.filter(|it| it.extent.is_whole()) else {
            return Ok(false);
        };
        let Some(file) = self.opened_again(shard.volume, &located)? else {
            return Ok(false);
        };
        let id = self.file_id(shard.volume, located.seq);
        let (mut digest, mut len) = (blake3::Hasher::new(), 0);
        for (first_cell, block, record_len) in located.extent.records() {
            let offset = u64::from(block) * BLOCK_LEN;
            let _ = file.drop_cached(offset, record_len);
            // One record: 1 MiB and a little.
            let mut bytes = vec![0; record_len as usize];
            if read_exact_at(file.as_ref(), &mut bytes, offset).is_err() {
                return Ok(false);
            }
            let (expected, place) = (
                Expected {
                    volume: shard.volume,
                    key: shard.key(),
                    first_cell,
                },
                id.place(block),
            );
            let Some(header) = expected.header_of(&bytes, place) else {
                return Ok(false);
            };
            if check_record(&bytes, &header, place).is_none() {
                return Ok(false);
            }
            for index in 0..header.cells {
                let (at, cell_len) = header.cell_span(index);
                digest.update(&bytes[at..at + cell_len]);
                len += cell_len as u64;
            }
        }
        let digest = Some(*digest.finalize().as_bytes());
        Ok((len, digest) == (located.extent.len, located.extent.digest))
    }

    /// Lets the next read of a shard come from the disk, not from memory. It is advice.
    pub(super) fn drop_cached(&self, volume: VolumeId, located: &LocatedShard) {
        let Ok(Some(file)) = self.opened_again(volume, located) else {
            return;
        };
        for (_, block, len) in located.extent.records() {
            let _ = file.drop_cached(u64::from(block) * BLOCK_LEN, len);
        }
    }

    /// Opens the file of a shard anew, unless it grows. None if the disk has lost it.
    fn opened_again(
        &self,
        volume: VolumeId,
        located: &LocatedShard,
    ) -> Result<Option<Arc<dyn File>>, StoreError> {
        self.files.forget(FileName::chunk(volume, located.seq));
        match self.chunk_of(volume, located) {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_loss(&error) => Ok(None),
            Err(error) => {
                let path = self.paths.chunk(volume, located.seq);
                Err(StoreError::io("open", path, error))
            }
        }
    }

    /// Says that a shard was whole at a second look.
    pub(super) fn tell_passing(&self, shard: ShardId) {
        let disk = self.superblock.disk;
        tracing::warn!(%disk, %shard, "a read failed and went well at the second look");
    }
}
