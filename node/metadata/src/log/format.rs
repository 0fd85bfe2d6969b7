//! The bytes of a Raft log's file: header and records, encoded and decoded.
//! `docs/formats/raft-log.md` draws them.
//!
//! Pure: reads and writes no file. Nothing read is trusted; what does not check out is `None`.

use super::{Conf, EntryKind, HardState, LogEntry, LogIdentity, Mark};
use bytes::Bytes;
use megalith_disk::crc32c::{crc32c, crc32c_of};
use megalith_model::ids::{ClusterId, GroupId, NodeId};
use std::collections::BTreeMap;

/// The format this program writes, and the only one it reads.
pub(super) const VERSION: u32 = 1;
/// Bytes of a log file's header.
pub(super) const HEADER_LEN: usize = 64;
/// Bytes of a record's header.
pub(super) const RECORD_HEADER_LEN: usize = 24;
/// Records begin at multiples of this.
pub(super) const ALIGN: usize = 8;
/// The longest payload a record may have, in bytes.
pub(super) const PAYLOAD_MAX: usize = 64 << 20;
/// No log ever comes this far: indexes that a log file may begin with end here, so that counting on
/// from one never overflows.
const INDEX_MAX: u64 = 1 << 62;
/// Bytes of an entry record before its context and data.
pub(super) const ENTRY_FIXED_LEN: usize = 24;

const MAGIC: [u8; 8] = *b"MGLHRLOG";
/// What a record begins with.
pub(super) const RECORD_MAGIC: [u8; 4] = *b"MREC";
const FLAG_LAST: u8 = 1;

const KIND_START: u8 = 1;
const KIND_HARD: u8 = 2;
const KIND_CONF: u8 = 3;
const KIND_ENTRY: u8 = 4;

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// Not ours, or torn, or damaged.
    Unreadable,
    /// A version that this program doesn't know.
    Version(u32),
}

/// One record's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// Opens a log file: the log up to and with `prev` is behind it, all after `prev` is void.
    Start {
        /// The entry before the log file's first one.
        prev: Mark,
        /// True if a snapshot at `prev` replaced the whole log: older log files are void.
        reset: bool,
    },
    Hard(HardState),
    Conf(Conf),
    Entry(LogEntry),
}

/// A record found in a log file.
#[derive(Debug)]
pub(super) struct FoundRecord {
    /// The append it belongs to.
    pub(super) batch: u64,
    /// True for the last record of that append.
    pub(super) last: bool,
    /// Bytes from this record's start to the next one's.
    pub(super) span: usize,
    pub(super) record: Record,
}

/// Encodes a log file's header.
pub(super) fn encode_header(identity: &LogIdentity, sequence: u64) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..28].copy_from_slice(&identity.cluster.0);
    bytes[28..32].copy_from_slice(&identity.member.0.to_le_bytes());
    bytes[32..36].copy_from_slice(&identity.group.0.to_le_bytes());
    bytes[36..44].copy_from_slice(&sequence.to_le_bytes());
    bytes[44..48].copy_from_slice(&identity.incarnation.to_le_bytes());
    let crc = crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Decodes a log file's header.
pub(super) fn decode_header(bytes: &[u8]) -> Result<(LogIdentity, u64), HeaderError> {
    let Some(bytes) = bytes.get(..HEADER_LEN) else {
        return Err(HeaderError::Unreadable);
    };
    let crc = u32_at(bytes, 60);
    if bytes[..8] != MAGIC || crc != crc32c(&bytes[..60]) {
        return Err(HeaderError::Unreadable);
    }
    match u32_at(bytes, 8) {
        VERSION => {}
        version => return Err(HeaderError::Version(version)),
    }
    let mut cluster = [0; 16];
    cluster.copy_from_slice(&bytes[12..28]);
    let identity = LogIdentity {
        cluster: ClusterId(cluster),
        member: NodeId(u32_at(bytes, 28)),
        group: GroupId(u32_at(bytes, 32)),
        incarnation: u32_at(bytes, 44),
    };
    Ok((identity, u64_at(bytes, 36)))
}

/// Appends a record to `out`, padded. Returns the offset in `out` at which it begins.
pub(super) fn encode_record(out: &mut Vec<u8>, batch: u64, last: bool, record: &Record) -> usize {
    let begin = out.len();
    out.resize(begin + RECORD_HEADER_LEN, 0);
    let kind = encode_payload(out, record);
    let len = out.len() - begin - RECORD_HEADER_LEN;
    assert!(len <= PAYLOAD_MAX, "entries are bounded far below a record");
    let (header, payload) = out[begin..].split_at_mut(RECORD_HEADER_LEN);
    header[..4].copy_from_slice(&RECORD_MAGIC);
    header[4..8].copy_from_slice(&u32::try_from(len).expect("bounded above").to_le_bytes());
    header[8..16].copy_from_slice(&batch.to_le_bytes());
    header[16] = kind;
    header[17] = if last { FLAG_LAST } else { 0 };
    let crc = crc32c_of(&[&header[..20], payload]);
    header[20..24].copy_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    begin
}

/// Decodes the record at the start of `bytes`, its checksum verified.
pub(super) fn decode_record(bytes: &Bytes) -> Option<FoundRecord> {
    let header = bytes.get(..RECORD_HEADER_LEN)?;
    if header[..4] != RECORD_MAGIC {
        return None;
    }
    let len = u32_at(header, 4) as usize;
    if len > PAYLOAD_MAX {
        return None;
    }
    let end = RECORD_HEADER_LEN + len;
    let payload = bytes.get(RECORD_HEADER_LEN..end)?;
    if u32_at(header, 20) != crc32c_of(&[&header[..20], payload]) {
        return None;
    }
    let record = decode_payload(header[16], &bytes.slice(RECORD_HEADER_LEN..end))?;
    Some(FoundRecord {
        batch: u64_at(header, 8),
        last: header[17] == FLAG_LAST,
        span: end.next_multiple_of(ALIGN),
        record,
    })
}

fn encode_payload(out: &mut Vec<u8>, record: &Record) -> u8 {
    match record {
        Record::Start { prev, reset } => {
            put_u64(out, prev.index);
            put_u64(out, prev.term);
            put_u64(out, u64::from(*reset));
            KIND_START
        }
        Record::Hard(hard) => {
            put_u64(out, hard.term);
            put_u64(out, hard.vote);
            put_u64(out, hard.commit);
            KIND_HARD
        }
        Record::Conf(conf) => {
            put_u64(out, conf.index);
            put_u64(out, u64::from(conf.auto_leave));
            for set in [
                &conf.voters,
                &conf.learners,
                &conf.voters_outgoing,
                &conf.learners_next,
            ] {
                put_u64(out, set.len() as u64);
                for &member in set {
                    put_u64(out, member);
                }
            }
            put_u64(out, conf.addresses.len() as u64);
            for (&member, address) in &conf.addresses {
                put_u64(out, member);
                put_u64(out, address.len() as u64);
                out.extend_from_slice(address.as_bytes());
            }
            KIND_CONF
        }
        Record::Entry(entry) => {
            put_u64(out, entry.term);
            put_u64(out, entry.index);
            let context_len = u32::try_from(entry.context.len()).expect("bounded by the record");
            out.extend_from_slice(&context_len.to_le_bytes());
            out.extend_from_slice(&(entry.kind as u32).to_le_bytes());
            out.extend_from_slice(&entry.context);
            out.extend_from_slice(&entry.data);
            KIND_ENTRY
        }
    }
}

fn decode_payload(kind: u8, payload: &Bytes) -> Option<Record> {
    let mut rest: &[u8] = payload;
    let record = match kind {
        KIND_START => Record::Start {
            prev: Mark {
                index: take_u64(&mut rest).filter(|&index| index <= INDEX_MAX)?,
                term: take_u64(&mut rest)?,
            },
            reset: take_bool(&mut rest)?,
        },
        KIND_HARD => Record::Hard(HardState {
            term: take_u64(&mut rest)?,
            vote: take_u64(&mut rest)?,
            commit: take_u64(&mut rest)?,
        }),
        KIND_CONF => Record::Conf(Conf {
            index: take_u64(&mut rest)?,
            auto_leave: take_bool(&mut rest)?,
            voters: take_set(&mut rest)?,
            learners: take_set(&mut rest)?,
            voters_outgoing: take_set(&mut rest)?,
            learners_next: take_set(&mut rest)?,
            addresses: take_addresses(&mut rest)?,
        }),
        KIND_ENTRY => return decode_entry(payload).map(Record::Entry),
        _unknown => return None,
    };
    rest.is_empty().then_some(record)
}

fn decode_entry(payload: &Bytes) -> Option<LogEntry> {
    let fixed = payload.get(..ENTRY_FIXED_LEN)?;
    let context_end = ENTRY_FIXED_LEN.checked_add(u32_at(fixed, 16) as usize)?;
    if context_end > payload.len() {
        return None;
    }
    Some(LogEntry {
        term: u64_at(fixed, 0),
        index: u64_at(fixed, 8),
        kind: EntryKind::from_number(u32_at(fixed, 20))?,
        context: payload.slice(ENTRY_FIXED_LEN..context_end),
        data: payload.slice(context_end..),
    })
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (value, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(u64::from_le_bytes(*value))
}

fn take_bool(rest: &mut &[u8]) -> Option<bool> {
    match take_u64(rest)? {
        0 => Some(false),
        1 => Some(true),
        _other => None,
    }
}

fn take_set(rest: &mut &[u8]) -> Option<Vec<u64>> {
    let len = usize::try_from(take_u64(rest)?).ok()?;
    if len > rest.len() / 8 {
        return None;
    }
    (0..len).map(|_| take_u64(rest)).collect()
}

/// Reads the members' addresses. A record may end before them: then there are none.
fn take_addresses(rest: &mut &[u8]) -> Option<BTreeMap<u64, String>> {
    if rest.is_empty() {
        return Some(BTreeMap::new());
    }
    let len = usize::try_from(take_u64(rest)?).ok()?;
    if len > rest.len() / 16 {
        return None;
    }
    let one = |_| {
        let member = take_u64(rest)?;
        let bytes = usize::try_from(take_u64(rest)?).ok()?;
        let (address, behind) = rest.split_at_checked(bytes)?;
        *rest = behind;
        Some((member, String::from_utf8(address.to_vec()).ok()?))
    };
    (0..len).map(one).collect()
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(value)
}
