//! What every command handler works with: typed rows, and the two ways to stop.

use super::{MachineError, SEALED_TIME_APART_MAX_MS};
use crate::codec::{self, DecodeError};
use crate::command::Refusal;
use crate::entry::Entry;
use crate::ids::BlobId;
use crate::keys::{KeyRange, RowKey};
use crate::kinds::Stored;
use crate::level::Level;
use crate::rows::Proposal;
use crate::table::{Overlay, Rows, RowsError};

/// Why a handler stops. Its changes so far are taken back.
pub(super) enum Stop {
    /// The command may not do this.
    Refused(Refusal),
    /// The rows can't be worked with.
    Failed(MachineError),
}

/// What a handler's steps return.
pub(super) type Step<T> = Result<T, Stop>;

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<MachineError> for Stop {
    fn from(error: MachineError) -> Self {
        Self::Failed(error)
    }
}

/// Refuses a command that no honest proposer makes.
pub(super) fn malformed<T>(why: impl Into<String>) -> Step<T> {
    Err(Stop::Refused(Refusal::Malformed(why.into())))
}

/// One command's view of the rows.
pub(super) struct Machine<'m, 'r> {
    pub(super) rows: &'m mut Overlay<'r>,
    /// The command's time, never before that of an earlier one.
    pub(super) now_ms: u64,
    /// The command's place in the log.
    pub(super) index: u64,
    /// The cluster's level before this command: it says in which version a row is written.
    pub(super) level: Level,
    /// The id of a client's command, and what is remembered of it.
    proposal: Option<(BlobId, Proposal)>,
}

impl<'m, 'r> Machine<'m, 'r> {
    pub(super) fn new(rows: &'m mut Overlay<'r>, now_ms: u64, level: Level, entry: &Entry) -> Self {
        let key = entry.envelope.key.map(|key| key.id);
        Self {
            rows,
            now_ms,
            index: entry.index,
            level,
            proposal: key.zip(entry.proposal),
        }
    }

    /// Returns what is remembered of this command, which gives `id` to something new. Its key must
    /// be the same: a key is used once, so nothing else ever has this id.
    pub(super) fn proposal_of(&self, id: BlobId) -> Step<Proposal> {
        match self.proposal {
            Some((key, proposal)) if key == id => Ok(proposal),
            Some(_) | None => malformed("the key of a command is not the id that it gives"),
        }
    }

    pub(super) fn read<T: Stored>(&self, key: &RowKey<'_>) -> Result<Option<T>, MachineError> {
        read(self.rows, key)
    }

    /// As [`Machine::read`], for a short row that many commands read.
    pub(super) fn read_kept<T: Stored>(&self, key: &RowKey<'_>) -> Result<Option<T>, MachineError> {
        read_kept(self.rows, key)
    }

    pub(super) fn require<T: Stored>(&self, key: &RowKey<'_>) -> Result<T, MachineError> {
        require(self.rows, key)
    }

    pub(super) fn exists(&self, key: &RowKey<'_>) -> Result<bool, MachineError> {
        Ok(self.rows.get(&key.encode())?.is_some())
    }

    pub(super) fn write<T: Stored>(&mut self, key: &RowKey<'_>, value: &T) {
        self.rows
            .put(key.encode(), codec::encode_at(value, self.level));
    }

    pub(super) fn delete(&mut self, key: &RowKey<'_>) {
        self.rows.delete(key.encode());
    }

    /// Checks a time that a gateway has sealed: readers are shown it.
    pub(super) fn check_sealed_time(&self, sealed_ms: u64) -> Step<()> {
        if sealed_ms.abs_diff(self.now_ms) <= SEALED_TIME_APART_MAX_MS {
            return Ok(());
        }
        let now_ms = self.now_ms;
        Err(Refusal::SealedTime { now_ms }.into())
    }

    /// The first `max` rows of a range, decoded.
    pub(super) fn page<T: Stored>(
        &self,
        range: &KeyRange,
        max: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, MachineError> {
        page(self.rows, range, max)
    }

    /// Returns true if the range holds no row.
    pub(super) fn is_empty(&self, range: &KeyRange) -> Result<bool, RowsError> {
        let mut empty = true;
        self.rows.scan(&range.from, &range.to, &mut |_, _| {
            empty = false;
            false
        })?;
        Ok(empty)
    }
}

impl From<RowsError> for Stop {
    fn from(error: RowsError) -> Self {
        Self::Failed(MachineError::Rows(error))
    }
}

/// Reads a row, if it is there.
pub(crate) fn read<T: Stored>(
    rows: &dyn Rows,
    key: &RowKey<'_>,
) -> Result<Option<T>, MachineError> {
    let key = key.encode();
    match rows.get(&key)? {
        Some(value) => decode_row(&key, &value).map(Some),
        None => Ok(None),
    }
}

/// As [`read`], for a short row that many commands read.
pub(super) fn read_kept<T: Stored>(
    rows: &dyn Rows,
    key: &RowKey<'_>,
) -> Result<Option<T>, MachineError> {
    let key = key.encode();
    match rows.get_kept(&key)? {
        Some(value) => decode_row(&key, &value).map(Some),
        None => Ok(None),
    }
}

/// Reads a row that must exist because another row refers to it.
pub(crate) fn require<T: Stored>(rows: &dyn Rows, key: &RowKey<'_>) -> Result<T, MachineError> {
    read(rows, key)?.ok_or_else(|| {
        MachineError::Contradiction(format!("{} is missing", describe(&key.encode())))
    })
}

/// Decodes a row's value.
pub(crate) fn decode_row<T: Stored>(key: &[u8], value: &[u8]) -> Result<T, MachineError> {
    codec::decode(value).map_err(|source| damaged(key, source))
}

/// The error for a row that can't be decoded.
pub(crate) fn damaged(key: &[u8], source: DecodeError) -> MachineError {
    MachineError::Damaged {
        row: describe(key),
        source,
    }
}

/// The first `max` rows of a range, decoded.
pub(crate) fn page<T: Stored>(
    rows: &dyn Rows,
    range: &KeyRange,
    max: usize,
) -> Result<Vec<(Vec<u8>, T)>, MachineError> {
    let mut found = Vec::new();
    let mut failed = None;
    if max == 0 {
        return Ok(found);
    }
    rows.scan(&range.from, &range.to, &mut |key, value| {
        match decode_row(key, value) {
            Ok(row) => found.push((key.to_vec(), row)),
            Err(error) => failed = Some(error),
        }
        failed.is_none() && found.len() < max
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(found),
    }
}

/// Describes a row for people: its table and a digest of its key, which may name a user's object.
fn describe(key: &[u8]) -> String {
    let table = key
        .first()
        .and_then(|number| crate::keys::Table::from_number(*number));
    let digest = blake3::hash(key).to_hex();
    match table {
        Some(table) => format!("a row of {table:?} (key digest {})", &digest[..16]),
        None => format!("a row of no table (key digest {})", &digest[..16]),
    }
}
