//! How far the log has reached, noted beside the log files: without it a log that has lost its end
//! looks like one that never went further, and its member would vote as if it had promised less.
//!
//! The file `reached` has three places of 512 bytes. Two in turn hold what was synced with a new
//! log file or new space; the third the newest append, which is written for each and not synced: a
//! power cut may take it back, a killed process leaves it.

use super::LogIdentity;
use megalith_disk::crc32c::crc32c;
use megalith_disk::{File, FileSystem, read_exact_at};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// The file's name in the log's directory.
pub(super) const FILE: &str = "reached";
const MAGIC: [u8; 8] = *b"MGLHREAC";
const PLACE_LEN: u64 = 512;
const NOTE_LEN: usize = 68;
/// The place that is not synced.
const NEWEST: u64 = 2;

/// What is certain of the log's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// A log file that was durable, with a whole append; 0 for none.
    pub(super) sequence: u64,
    /// Bytes that this log file had at least.
    pub(super) reserved: u64,
    /// An append that was durable; 0 for none.
    pub(super) append: u64,
}

/// The open file.
pub(super) struct ReachedFile {
    file: Arc<dyn File>,
    turn: u64,
}

impl ReachedFile {
    /// Makes the file; its name is durable with the next sync of the directory.
    pub(super) fn create(fs: &dyn FileSystem, dir: &Path) -> io::Result<Self> {
        let file = fs.create(&dir.join(FILE))?;
        Ok(Self { file, turn: 0 })
    }

    /// Opens the file and reads what it says of this log; None if there is no file. What can't
    /// be read, or is of another log, says nothing.
    pub(super) fn open(
        fs: &dyn FileSystem,
        dir: &Path,
        identity: &LogIdentity,
    ) -> io::Result<Option<(Self, Reached)>> {
        let file = match fs.open(&dir.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let note = |place: u64| {
            let mut bytes = [0; NOTE_LEN];
            read_exact_at(file.as_ref(), &mut bytes, place * PLACE_LEN).ok()?;
            decode(&bytes, identity)
        };
        let (first, second) = (note(0), note(1));
        let synced = first.into_iter().chain(second);
        let best = synced.max_by_key(|note| (note.sequence, note.reserved, note.append));
        let mut reached = best.unwrap_or_default();
        reached.append = reached.append.max(note(NEWEST).unwrap_or_default().append);
        // The better one of the two must stay while the other is written.
        let turn = u64::from(best.is_some() && best == first);
        Ok(Some((Self { file, turn }, reached)))
    }

    /// Notes what was synced before; durable when it returns, if `sync` is set.
    pub(super) fn note(
        &mut self,
        identity: &LogIdentity,
        reached: Reached,
        sync: bool,
    ) -> io::Result<()> {
        let place = if sync { self.turn } else { NEWEST };
        let bytes = encode(identity, reached);
        self.file
            .write_at(&[IoSlice::new(&bytes)], place * PLACE_LEN)?;
        if sync {
            self.file.sync_data()?;
            self.turn = 1 - self.turn;
        }
        Ok(())
    }
}

fn encode(identity: &LogIdentity, reached: Reached) -> [u8; NOTE_LEN] {
    let mut bytes = [0; NOTE_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..24].copy_from_slice(&identity.cluster.0);
    bytes[24..28].copy_from_slice(&identity.member.0.to_le_bytes());
    bytes[28..32].copy_from_slice(&identity.group.0.to_le_bytes());
    bytes[32..36].copy_from_slice(&identity.incarnation.to_le_bytes());
    bytes[40..48].copy_from_slice(&reached.sequence.to_le_bytes());
    bytes[48..56].copy_from_slice(&reached.reserved.to_le_bytes());
    bytes[56..64].copy_from_slice(&reached.append.to_le_bytes());
    let crc = crc32c(&bytes[..64]);
    bytes[64..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; NOTE_LEN], identity: &LogIdentity) -> Option<Reached> {
    let u64_at = |at: usize| {
        let field = bytes[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(field)
    };
    let reached = Reached {
        sequence: u64_at(40),
        reserved: u64_at(48),
        append: u64_at(56),
    };
    (*bytes == encode(identity, reached)).then_some(reached)
}
