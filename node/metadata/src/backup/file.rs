//! The file of rows: a head, then frames of records, each with a checksum.

use super::{BackupError, io_error};
use megalith_disk::crc32c::crc32c;
use megalith_model::table::{Batch, MemRows, Overlay};
use megalith_proto::v1;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

pub(super) const ROWS_FILE: &str = "rows";
pub(super) const HEAD: &[u8; 16] = b"MEGALITHROWS\x01\0\0\0";
const PUT: u8 = 1;
const DELETE: u8 = 2;
/// No frame is longer: a piece is about a MiB, and a row is far shorter than the rest.
const FRAME_MAX: u32 = 256 << 20;
/// Most frames are shorter.
const FRAME_USUAL: u32 = 2 << 20;

/// Writes the file of rows.
pub(super) struct RowsWriter {
    path: PathBuf,
    file: File,
    digest: blake3::Hasher,
    records: u64,
    len: u64,
}

/// What was written.
pub(super) struct Written {
    pub(super) records: u64,
    pub(super) len: u64,
    pub(super) digest: blake3::Hash,
}

impl RowsWriter {
    /// Begins the file, whatever there was before.
    pub(super) fn create(dir: &Path) -> Result<Self, BackupError> {
        let path = dir.join(ROWS_FILE);
        let file = File::create(&path).map_err(io_error("create", &path))?;
        let mut writer = Self {
            path,
            file,
            digest: blake3::Hasher::new(),
            records: 0,
            len: 0,
        };
        writer.put(HEAD)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.file
            .write_all(bytes)
            .map_err(io_error("write", &self.path))?;
        self.digest.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Appends rows; of a row that comes several times the last one counts.
    pub(super) fn append(&mut self, rows: &[v1::SnapshotRow]) -> Result<(), BackupError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.records += rows.len() as u64;
        self.put(&frame(rows))
    }

    /// Makes the file durable.
    pub(super) fn finish(self) -> Result<Written, BackupError> {
        self.file.sync_all().map_err(io_error("sync", &self.path))?;
        Ok(Written {
            records: self.records,
            len: self.len,
            digest: self.digest.finalize(),
        })
    }
}

/// Returns rows as a frame: its length and checksum first.
pub(super) fn frame(rows: &[v1::SnapshotRow]) -> Vec<u8> {
    let mut frame = vec![0; 8];
    for row in rows {
        let value = if row.deleted { &[][..] } else { &row.value[..] };
        frame.push(if row.deleted { DELETE } else { PUT });
        append_length(&mut frame, &row.key);
        append_length(&mut frame, value);
        frame.extend_from_slice(&row.key);
        frame.extend_from_slice(value);
    }
    let (len, crc) = (length(&frame[8..]), crc32c(&frame[8..]));
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// Reads the digest and length of a file of rows.
pub(super) fn digest(dir: &Path) -> Result<(u64, blake3::Hash), BackupError> {
    let path = dir.join(ROWS_FILE);
    let mut file = File::open(&path).map_err(io_error("open", &path))?;
    let (mut digest, mut bytes, mut len) = (blake3::Hasher::new(), vec![0; 1 << 20], 0);
    loop {
        let read = file.read(&mut bytes).map_err(io_error("read", &path))?;
        if read == 0 {
            return Ok((len, digest.finalize()));
        }
        digest.update(&bytes[..read]);
        len += read as u64;
    }
}

/// Reads the frames of a file whose digest is right, in order.
pub(super) struct RowsReader<R> {
    path: PathBuf,
    file: R,
}

impl RowsReader<BufReader<File>> {
    /// Opens the file.
    pub(super) fn open(dir: &Path) -> Result<Self, BackupError> {
        let path = dir.join(ROWS_FILE);
        let file = File::open(&path).map_err(io_error("open", &path))?;
        Self::new(path, BufReader::with_capacity(1 << 20, file))
    }
}

impl<R: Read> RowsReader<R> {
    /// Reads the head of a file whose name is `path`.
    pub(super) fn new(path: PathBuf, file: R) -> Result<Self, BackupError> {
        let mut reader = Self { path, file };
        let mut head = [0; 16];
        match reader.fill(&mut head)? {
            true if head == *HEAD => Ok(reader),
            _other => Err(reader.damaged("it is no file of rows of version 1")),
        }
    }

    fn damaged(&self, what: &str) -> BackupError {
        BackupError::Damaged {
            path: self.path.clone(),
            what: what.to_owned(),
        }
    }

    /// Fills `bytes`; false if the file ends before the first.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, BackupError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(self.damaged("it ends within a frame")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error("read", &self.path)(error)),
            }
        }
        Ok(true)
    }

    /// Reads a frame of `len` bytes. Takes no more memory than there are bytes: the length is
    /// only what the file says.
    fn frame(&mut self, len: u32) -> Result<Vec<u8>, BackupError> {
        let mut frame = Vec::with_capacity(len.min(FRAME_USUAL) as usize);
        let read = self.file.by_ref().take(len.into()).read_to_end(&mut frame);
        match read.map_err(io_error("read", &self.path))? {
            read if read as u64 == u64::from(len) => Ok(frame),
            _less => Err(self.damaged("it ends within a frame")),
        }
    }

    /// The next frame as a batch, and how many records it had; None at the end.
    pub(super) fn next_batch(&mut self) -> Result<Option<(Batch, u64)>, BackupError> {
        let mut head = [0; 8];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        if word(0) > FRAME_MAX {
            return Err(self.damaged("a frame has no length"));
        }
        let frame = self.frame(word(0))?;
        if crc32c(&frame) != word(4) {
            return Err(self.damaged("a frame's checksum is wrong"));
        }
        let nothing = MemRows::default();
        let (mut overlay, mut records, mut rest) = (Overlay::new(&nothing), 0, &frame[..]);
        while !rest.is_empty() {
            let Some((key, value, behind)) = record(rest) else {
                return Err(self.damaged("a frame holds what is no record"));
            };
            match value {
                Some(value) => overlay.put(key.to_vec(), value.to_vec()),
                None => overlay.delete(key.to_vec()),
            }
            (records, rest) = (records + 1, behind);
        }
        Ok(Some((overlay.into_batch(), records)))
    }
}

type Record<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);

/// Takes a record off the front: key, value, the rest.
fn record(bytes: &[u8]) -> Option<Record<'_>> {
    let (&kind, rest) = bytes.split_first()?;
    let (key_len, rest) = take_length(rest)?;
    let (value_len, rest) = take_length(rest)?;
    let (key, rest) = rest.split_at_checked(key_len)?;
    let (value, rest) = rest.split_at_checked(value_len)?;
    // As engines demand it.
    let row_key = matches!(key.first(), Some(1..=254));
    match kind {
        PUT if row_key => Some((key, Some(value), rest)),
        DELETE if row_key && value.is_empty() => Some((key, None, rest)),
        _unknown => None,
    }
}

/// Appends the length of `bytes` as a varint: seven bits in a byte, the low ones first, and a high
/// bit in all bytes but the last.
fn append_length(frame: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = length(bytes);
    while rest >= 0x80 {
        frame.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    frame.push(rest as u8);
}

/// Takes a varint of at most 32 bits off the front, written in the only way that it can be.
fn take_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let at = bytes.iter().take(5).position(|byte| byte & 0x80 == 0)?;
    let (written, rest) = bytes.split_at(at + 1);
    let bits = written.iter().rev();
    let len = bits.fold(0_u64, |high, byte| high << 7 | u64::from(byte & 0x7f));
    let minimal = at == 0 || written[at] != 0;
    u32::try_from(len)
        .ok()
        .filter(|_| minimal)
        .map(|len| (len as usize, rest))
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("pieces are below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &[u8], value: Option<&[u8]>) -> v1::SnapshotRow {
        v1::SnapshotRow {
            key: key.to_vec().into(),
            deleted: value.is_none(),
            value: value.unwrap_or_default().to_vec().into(),
        }
    }

    #[test]
    fn a_record_costs_few_bytes_and_comes_back() {
        for (key_len, value_len, head) in [
            (1, 0, 3),
            (127, 127, 3),
            (128, 16_383, 5),
            (1_100, 16_384, 6),
            (3, 3 << 20, 6),
        ] {
            let (key, value) = (vec![7; key_len], vec![9; value_len]);
            let frame = frame(&[row(&key, Some(&value)), row(&key, None)]);
            let records = &frame[8..];
            let (found, put, rest) = record(records).expect("a record");
            assert_eq!((found, put), (&key[..], Some(&value[..])));
            assert_eq!(records.len() - rest.len(), head + key_len + value_len);
            assert_eq!(record(rest), Some((&key[..], None, &[][..])));
        }
    }

    #[test]
    fn lengths_have_one_spelling_and_32_bits() {
        assert_eq!(take_length(&[0x00, 7]), Some((0, &[7][..])));
        assert_eq!(take_length(&[0x80, 0x01]), Some((128, &[][..])));
        let most = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(take_length(&most), Some((u32::MAX as usize, &[][..])));
        for malformed in [
            &[][..],
            &[0x80],
            &[0x80, 0x00],
            &[0xff, 0x80, 0x00],
            &[0xff, 0xff, 0xff, 0xff, 0x10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            assert_eq!(take_length(malformed), None, "{malformed:?}");
        }
    }
}
