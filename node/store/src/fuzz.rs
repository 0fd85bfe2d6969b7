//! A door for `tests/fuzz`: a disk whose files somebody else may have written, opened and read on
//! the caller's thread. Built with the feature `fuzz` only; the program never has it.

use super::core::Core;
use super::error::StoreError;
use super::record::{
    BLOCK_LEN, CRC_LEN, Cell, FOOTER_LEN, Footer, HEADER_LEN, Header, RecordPlace, check_record,
};
use super::recover;
use super::settings::StoreSettings;
use megalith_disk::FileSystem;
use megalith_disk::crc32c::crc32c;
use megalith_model::ids::{ClusterId, DiskId, VolumeId};
use megalith_model::shard::{ShardId, ShardStat};
use std::path::Path;
use std::sync::Arc;

/// A disk without its threads.
pub struct OpenedDisk(Core);

impl OpenedDisk {
    /// Opens a disk as [`super::DiskHandle::open`] does.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        root: &Path,
        cluster: ClusterId,
        disk: DiskId,
        settings: StoreSettings,
    ) -> Result<Self, StoreError> {
        recover::open(fs, root, cluster, Some(disk), settings).map(Self)
    }

    /// Reads a whole shard, checked.
    pub fn read(&self, shard: ShardId) -> Result<Vec<Cell>, StoreError> {
        self.0.catalog.read(shard, 0, u64::MAX)
    }

    /// Lists all shards of a volume.
    pub fn list(&self, volume: VolumeId) -> Result<Vec<ShardStat>, StoreError> {
        self.0.catalog.list(volume, None, usize::MAX)
    }
}

/// Gives whatever begins like a record of this file the checksums that it would have if we had
/// written it: what a scan must then survive is nonsense that looks sound.
pub fn reseal(bytes: &mut [u8], disk: DiskId, file: u32) {
    let blocks = u32::try_from(bytes.len() as u64 / BLOCK_LEN).unwrap_or(u32::MAX);
    for block in 0..blocks {
        let place = RecordPlace { disk, file, block };
        let record = &mut bytes[block as usize * BLOCK_LEN as usize..];
        let Some(head) = record.first_chunk_mut::<HEADER_LEN>() else {
            return;
        };
        let crc = place.crc(&head[..HEADER_LEN - CRC_LEN]);
        head[HEADER_LEN - CRC_LEN..].copy_from_slice(&crc.to_le_bytes());
        let Ok(header) = Header::decode(head, place) else {
            continue;
        };
        let Some(record) = record.get_mut(..header.record_len() as usize) else {
            continue;
        };
        for cell in 0..header.cells {
            let (offset, len) = header.cell_span(cell);
            let crc = crc32c(&record[offset..offset + len]);
            record[offset + len..offset + len + CRC_LEN].copy_from_slice(&crc.to_le_bytes());
        }
        let at = record.len() - FOOTER_LEN;
        let mut digest = [0; 32];
        digest.copy_from_slice(&record[at..at + 32]);
        let total = super::record::u64_at(record, at + 32);
        let footer = Footer { digest, total }.encode(place, header.lsn);
        record[at..].copy_from_slice(&footer);
        assert!(check_record(record, &header, place).is_some(), "resealed");
    }
}
