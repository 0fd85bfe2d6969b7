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
        frame.extend_from_slice(&length(&row.key).to_le_bytes());
        frame.extend_from_slice(&length(value).to_le_bytes());
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
    let (key_len, rest) = rest.split_first_chunk::<4>()?;
    let (value_len, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_len) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
    // As engines demand it.
    let row_key = matches!(key.first(), Some(1..=254));
    match kind {
        PUT if row_key => Some((key, Some(value), rest)),
        DELETE if row_key && value.is_empty() => Some((key, None, rest)),
        _unknown => None,
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("pieces are below 4 GiB")
}
