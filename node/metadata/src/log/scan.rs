//! Reads one log file as a whole: which appends are complete, and whether what follows them is a
//! torn tail or damage. Pure: bytes in, findings out.

use super::format::{self, ALIGN, HEADER_LEN, Record};
use bytes::Bytes;

/// A record and where it is.
#[derive(Debug)]
pub(super) struct Placed {
    /// Bytes from the file's start.
    pub(super) offset: usize,
    /// Bytes to the next record, or to the file's end.
    pub(super) span: usize,
    pub(super) record: Record,
}

/// A log file's complete appends and what is behind them.
#[derive(Debug)]
pub(super) struct Scanned {
    /// The records of complete appends, in order; at least one.
    pub(super) records: Vec<Placed>,
    /// The first append's number.
    pub(super) first_batch: u64,
    /// The last complete append's number.
    pub(super) last_batch: u64,
    /// Bytes up to the end of the last complete append.
    pub(super) end: usize,
}

/// Reads a log file whose header has been checked. None if not even its first append is whole.
pub(super) fn scan(bytes: &Bytes) -> Option<Scanned> {
    let first_batch = format::decode_record(&tail(bytes, HEADER_LEN)?)?.batch;
    let mut complete = Scanned {
        records: Vec::new(),
        first_batch,
        last_batch: first_batch,
        end: HEADER_LEN,
    };
    let mut open = Vec::new();
    let mut expected = first_batch;
    let mut offset = HEADER_LEN;
    while let Some(found) = tail(bytes, offset).and_then(|rest| format::decode_record(&rest)) {
        if found.batch != expected {
            break;
        }
        open.push(Placed {
            offset,
            // Its padding may be cut off.
            span: found.span.min(bytes.len() - offset),
            record: found.record,
        });
        offset += found.span;
        if found.last {
            complete.records.append(&mut open);
            complete.last_batch = expected;
            complete.end = offset;
            expected += 1;
        }
    }
    (!complete.records.is_empty()).then_some(complete)
}

/// Finds a good record at or after `from` that belongs to an append after `batch`.
///
/// An append is one write and is synced before the next one, so that a torn tail holds records of
/// one append only. A good record of a later one proves that what lies before it was whole once.
pub(super) fn later_record(bytes: &Bytes, from: usize, batch: u64) -> Option<usize> {
    (from.next_multiple_of(ALIGN)..bytes.len())
        .step_by(ALIGN)
        .find(|&offset| {
            bytes[offset..].starts_with(&format::RECORD_MAGIC)
                && tail(bytes, offset)
                    .and_then(|rest| format::decode_record(&rest))
                    .is_some_and(|found| found.batch > batch)
        })
}

fn tail(bytes: &Bytes, offset: usize) -> Option<Bytes> {
    (offset <= bytes.len()).then(|| bytes.slice(offset..))
}
