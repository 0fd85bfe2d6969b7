//! The record: the only thing a chunk file holds. Encoding, decoding and checks; no input or
//! output. Layout byte by byte in `docs/formats/disk.md`.
//!
//! Every record begins at a block and is padded with zeros to whole blocks: a long one can be
//! written from one aligned buffer, past the page cache. No checksum covers the padding, and nobody
//! reads it: whatever it holds, it makes no record bad, and no bad record good.
//!
//! The checksums of header and footer also cover where the record lies (disk, file, block): a
//! record that a disk wrote to the wrong place, or a stale one, never passes for the right one.

use super::shard::{KEY_LEN, key_from_bytes, key_to_bytes};
use super::superblock::SUPERBLOCK_LEN;
use bytes::{BufMut, Bytes, BytesMut};
use megalith_disk::crc32c::{crc32c, crc32c_of};
use megalith_model::ids::{BlobId, DiskId, Epoch, VolumeId};
use megalith_model::shard::ShardKey;

/// Records begin and end at multiples of this.
pub const BLOCK_LEN: u64 = 4096;
/// The most cells one record holds.
pub const RECORD_CELLS_MAX: u16 = 16;
/// Cells of a shard but its last are exactly this long, in bytes.
pub const CELL_LEN: usize = megalith_model::shape::CELL_LEN as usize;

pub(super) const HEADER_LEN: usize = 64;
pub(super) const FOOTER_LEN: usize = 48;
pub(super) const CRC_LEN: usize = 4;
const HEADER_MAGIC: [u8; 4] = *b"MGRh";
const FOOTER_MAGIC: [u8; 4] = *b"MGRf";
pub(super) const VERSION: u8 = 3;
const FLAG_LAST: u8 = 1;
/// One deleted shard in a tombstone: key, padding, and the `lsn` it is deleted up to.
pub(super) const DELETION_LEN: usize = 24;
/// The most deleted shards in one tombstone.
pub(super) const DELETIONS_MAX: usize = CELL_LEN / DELETION_LEN;
/// The most records of one shard; their list must fit into one block of an index file.
pub(super) const RECORDS_MAX: u32 = 512;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordPlace {
    pub(super) disk: DiskId,
    pub(super) file: u32,
    pub(super) block: u32,
}

impl RecordPlace {
    pub(super) fn crc(self, bytes: &[u8]) -> u32 {
        let (file, block) = (self.file.to_le_bytes(), self.block.to_le_bytes());
        crc32c_of(&[&self.disk.0, &file, &block, bytes])
    }
}

/// What a record is. Numbers are never changed or reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// The first of every file: carries the volume's epoch on. Its one cell is the superblock.
    Head = 1,
    /// Cells of one shard.
    Cells = 2,
    Tombstone = 3,
    Fence = 4,
    /// Everything before it is durable.
    Mark = 5,
    /// Covers what a power cut tore; `length` is its whole length, its body means nothing.
    Skip = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Head,
            2 => Self::Cells,
            3 => Self::Tombstone,
            4 => Self::Fence,
            5 => Self::Mark,
            6 => Self::Skip,
            _ => return None,
        })
    }
}

/// The first 64 bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// The shard ends with this record.
    pub(super) last: bool,
    pub(super) volume: VolumeId,
    pub(super) epoch: Epoch,
    pub(super) key: ShardKey,
    pub(super) first_cell: u32,
    pub(super) cells: u16,
    /// Bytes of the cells, without checksums.
    pub(super) length: u32,
    /// Grows with every record of the disk.
    pub(super) lsn: u64,
    /// The block of the first record of the same shard and try.
    pub(super) stream: u32,
    /// Every block of this file below was durable when this record was written.
    pub(super) synced: u32,
}

/// Why 64 bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// Not a header, or not of this place, or damaged.
    Bad,
    /// A whole header of a format that is not known here.
    OtherFormat(u8),
}

impl Header {
    /// A record without cells.
    pub(super) fn bare(kind: Kind, volume: VolumeId, epoch: Epoch) -> Self {
        Self {
            kind,
            last: false,
            volume,
            epoch,
            key: ShardKey::MIN,
            first_cell: 0,
            cells: 0,
            length: 0,
            lsn: 0,
            stream: 0,
            synced: 0,
        }
    }

    /// A head, whose cell is the superblock.
    pub(super) fn head(volume: VolumeId, epoch: Epoch) -> Self {
        Self {
            cells: 1,
            length: SUPERBLOCK_LEN as u32,
            ..Self::bare(Kind::Head, volume, epoch)
        }
    }

    pub(super) fn encode(&self, place: RecordPlace) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut out = &mut bytes[..];
        out.put_slice(&HEADER_MAGIC);
        out.put_u8(VERSION);
        out.put_u8(self.kind as u8);
        out.put_u8(if self.last { FLAG_LAST } else { 0 });
        out.put_u8(self.key.slot);
        out.put_u64_le(self.volume.0);
        out.put_u32_le(self.epoch.0);
        out.put_u64_le(self.key.blob.0);
        out.put_u32_le(self.key.segment);
        out.put_u32_le(self.first_cell);
        out.put_u16_le(self.cells);
        out.put_u16_le(0);
        out.put_u32_le(self.length);
        out.put_u64_le(self.lsn);
        out.put_u32_le(self.stream);
        out.put_u32_le(self.synced);
        let crc = place.crc(&bytes[..HEADER_LEN - CRC_LEN]);
        bytes[HEADER_LEN - CRC_LEN..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(
        bytes: &[u8; HEADER_LEN],
        place: RecordPlace,
    ) -> Result<Self, HeaderFault> {
        if bytes[..4] != HEADER_MAGIC {
            return Err(HeaderFault::Bad);
        }
        let crc = place.crc(&bytes[..HEADER_LEN - CRC_LEN]);
        if bytes[HEADER_LEN - CRC_LEN..] != crc.to_le_bytes() {
            return Err(HeaderFault::Bad);
        }
        if bytes[4] != VERSION {
            return Err(HeaderFault::OtherFormat(bytes[4]));
        }
        let kind = Kind::from_byte(bytes[5]).ok_or(HeaderFault::OtherFormat(bytes[4]))?;
        let header = Self {
            kind,
            last: bytes[6] & FLAG_LAST != 0,
            volume: VolumeId(u64_at(bytes, 8)),
            epoch: Epoch(u32_at(bytes, 16)),
            key: ShardKey {
                blob: BlobId(u64_at(bytes, 20)),
                segment: u32_at(bytes, 28),
                slot: bytes[7],
            },
            first_cell: u32_at(bytes, 32),
            cells: u16::from_le_bytes([bytes[36], bytes[37]]),
            length: u32_at(bytes, 40),
            lsn: u64_at(bytes, 44),
            stream: u32_at(bytes, 52),
            synced: u32_at(bytes, 56),
        };
        if header.is_sound(place.block) {
            Ok(header)
        } else {
            Err(HeaderFault::Bad)
        }
    }

    /// The limits that the rest of the code relies on.
    fn is_sound(&self, block: u32) -> bool {
        // What lies behind a record can't have been durable before it.
        if self.synced > block {
            return false;
        }
        match self.kind {
            Kind::Skip => self.length > 0 && u64::from(self.length).is_multiple_of(BLOCK_LEN),
            Kind::Cells => {
                self.stream <= block
                    && self.first_cell < RECORDS_MAX * u32::from(RECORD_CELLS_MAX)
                    && (1..=RECORD_CELLS_MAX).contains(&self.cells)
                    && self.length as usize > (usize::from(self.cells) - 1) * CELL_LEN
                    && self.length as usize <= usize::from(self.cells) * CELL_LEN
            }
            Kind::Tombstone => {
                self.cells == 1
                    && self.length > 0
                    && self.length as usize <= CELL_LEN
                    && (self.length as usize).is_multiple_of(DELETION_LEN)
            }
            Kind::Head => self.cells == 1 && self.length as usize == SUPERBLOCK_LEN,
            Kind::Fence | Kind::Mark => self.cells == 0 && self.length == 0,
        }
    }

    /// The length of the whole record, a multiple of [`BLOCK_LEN`].
    pub(super) fn record_len(&self) -> u64 {
        match self.kind {
            Kind::Skip => u64::from(self.length),
            Kind::Head | Kind::Cells | Kind::Tombstone | Kind::Fence | Kind::Mark => {
                record_len(self.cells, u64::from(self.length))
            }
        }
    }

    /// Length and offset (within the record) of cell `index` of the record.
    pub(super) fn cell_span(&self, index: u16) -> (usize, usize) {
        let offset = HEADER_LEN + usize::from(index) * (CELL_LEN + CRC_LEN);
        let before = usize::from(index) * CELL_LEN;
        (
            offset,
            (self.length as usize).saturating_sub(before).min(CELL_LEN),
        )
    }
}

/// The length of a record of `cells` cells of together `length` bytes.
pub(super) fn record_len(cells: u16, length: u64) -> u64 {
    let overhead = HEADER_LEN + usize::from(cells) * CRC_LEN + FOOTER_LEN;
    (length + overhead as u64).next_multiple_of(BLOCK_LEN)
}

/// The last 48 bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    /// blake3 of the shard; zeros but on its last record.
    pub(super) digest: [u8; 32],
    /// Bytes of the shard up to the end of this record.
    pub(super) total: u64,
}

impl Footer {
    pub(super) const BLANK: Self = Self {
        digest: [0; 32],
        total: 0,
    };

    pub(super) fn encode(&self, place: RecordPlace, lsn: u64) -> [u8; FOOTER_LEN] {
        let mut bytes = [0; FOOTER_LEN];
        bytes[..32].copy_from_slice(&self.digest);
        bytes[32..40].copy_from_slice(&self.total.to_le_bytes());
        bytes[40..44].copy_from_slice(&FOOTER_MAGIC);
        let crc = Self::crc(&bytes, place, lsn);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; FOOTER_LEN], place: RecordPlace, lsn: u64) -> Option<Self> {
        let crc = Self::crc(bytes, place, lsn);
        if bytes[40..44] != FOOTER_MAGIC || bytes[44..] != crc.to_le_bytes() {
            return None;
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[..32]);
        Some(Self {
            digest,
            total: u64_at(bytes, 32),
        })
    }

    /// Covers the record's `lsn` too: a footer left from an earlier record is not this one's.
    fn crc(bytes: &[u8; FOOTER_LEN], place: RecordPlace, lsn: u64) -> u32 {
        let mut covered = [0; FOOTER_LEN + 4];
        covered[..44].copy_from_slice(&bytes[..44]);
        covered[44..].copy_from_slice(&lsn.to_le_bytes());
        place.crc(&covered)
    }
}

/// A cell with its crc32c.
pub type Cell = (Bytes, u32);

/// Builds the bytes of a record; the cells are shared, not copied.
pub(super) fn encode_record(
    header: &Header,
    cells: &[Cell],
    footer: &Footer,
    place: RecordPlace,
) -> Vec<Bytes> {
    let used = HEADER_LEN + header.length as usize + cells.len() * CRC_LEN + FOOTER_LEN;
    let padding = header.record_len() as usize - used;
    let mut small = BytesMut::with_capacity(used - header.length as usize + padding);
    small.put_slice(&header.encode(place));
    for (_, crc) in cells {
        small.put_u32_le(*crc);
    }
    small.put_bytes(0, padding);
    small.put_slice(&footer.encode(place, header.lsn));
    let mut small = small.freeze();
    let mut pieces = Vec::with_capacity(2 * cells.len() + 2);
    pieces.push(small.split_to(HEADER_LEN));
    for (bytes, _) in cells {
        pieces.push(bytes.clone());
        pieces.push(small.split_to(CRC_LEN));
    }
    pieces.push(small);
    pieces
}

/// Checks every byte of a record read as a whole; None if anything is wrong.
pub(super) fn check_record(bytes: &[u8], header: &Header, place: RecordPlace) -> Option<Footer> {
    if bytes.len() as u64 != header.record_len() {
        return None;
    }
    for index in 0..header.cells {
        let (offset, len) = header.cell_span(index);
        let cell = bytes.get(offset..offset + len)?;
        if bytes.get(offset + len..offset + len + CRC_LEN)? != crc32c(cell).to_le_bytes() {
            return None;
        }
    }
    let footer = bytes.last_chunk::<FOOTER_LEN>()?;
    Footer::decode(footer, place, header.lsn)
}

/// The body of a tombstone: shards, each deleted up to an `lsn`.
pub(super) fn encode_deletions(deletions: &[(ShardKey, u64)]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(deletions.len() * DELETION_LEN);
    for (key, lsn) in deletions {
        bytes.put_slice(&key_to_bytes(*key));
        bytes.put_bytes(0, DELETION_LEN - KEY_LEN - 8);
        bytes.put_u64_le(*lsn);
    }
    bytes.freeze()
}

/// Reads the body of a tombstone whose checksum was found right.
pub(super) fn decode_deletions(bytes: &[u8]) -> impl Iterator<Item = (ShardKey, u64)> {
    bytes.as_chunks::<DELETION_LEN>().0.iter().map(|deletion| {
        let key = deletion.first_chunk().expect("24 bytes hold a key");
        (key_from_bytes(key), u64_at(deletion, DELETION_LEN - 8))
    })
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
