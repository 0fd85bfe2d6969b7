//! A door for `tests/fuzz`: backups made and read in memory, by the code that `take` and `restore`
//! use. Built with the feature `fuzz` only; the program never has it.

use super::file::{HEAD, RowsReader, frame};
use super::{BackupCard, BackupError};
use crate::log::LogIdentity;
use megalith_disk::crc32c::crc32c;
use megalith_model::table::Batch;
use megalith_proto::v1;
use std::path::Path;

/// Rows as a member streams them: a key, and a value or None if it was deleted.
pub type Row = (Vec<u8>, Option<Vec<u8>>);

/// Returns the file of rows that holds `frames`, one after the other.
#[must_use]
pub fn rows_file(frames: &[Vec<Row>]) -> Vec<u8> {
    let mut file = HEAD.to_vec();
    for rows in frames {
        let rows: Vec<_> = rows.iter().map(streamed).collect();
        file.extend_from_slice(&frame(&rows));
    }
    file
}

fn streamed((key, value): &Row) -> v1::SnapshotRow {
    v1::SnapshotRow {
        key: key.clone().into(),
        deleted: value.is_none(),
        value: value.clone().unwrap_or_default().into(),
    }
}

/// Returns the text of the card for these rows; `card` says the rest.
#[must_use]
pub fn card_for(card: &BackupCard, rows: &[u8]) -> String {
    let (len, digest) = (rows.len() as u64, blake3::hash(rows));
    let card = BackupCard {
        len,
        digest,
        ..card.clone()
    };
    card.text()
}

/// A digest to fill in a card with that [`card_for`] completes.
#[must_use]
pub fn no_digest() -> blake3::Hash {
    blake3::Hash::from_bytes([0; 32])
}

/// Gives every frame the checksum that it would have if we had written it.
pub fn reseal(rows: &mut [u8]) {
    let mut rest = rows.get_mut(HEAD.len()..).unwrap_or_default();
    while let Some((head, behind)) = rest.split_first_chunk_mut::<8>() {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some((frame, behind)) = behind.split_at_mut_checked(len) else {
            return;
        };
        head[4..].copy_from_slice(&crc32c(frame).to_le_bytes());
        rest = behind;
    }
}

/// Reads a backup as `restore` does: what it would write into an engine, batch by batch.
pub fn read(
    card: &[u8],
    rows: &[u8],
    identity: LogIdentity,
) -> Result<(BackupCard, Vec<Batch>), BackupError> {
    let from = Path::new("/backup");
    let card = BackupCard::decode(card, from.join(super::card::CARD_FILE), identity.cluster)?;
    let found = (rows.len() as u64, blake3::hash(rows));
    super::restore::check(&card, identity.group, found, from)?;
    let mut reader = RowsReader::new(from.join(super::file::ROWS_FILE), rows)?;
    let mut batches = Vec::new();
    while let Some((batch, _records)) = reader.next_batch()? {
        batches.push(batch);
    }
    Ok((card, batches))
}
