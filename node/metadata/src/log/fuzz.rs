//! A door for `tests/fuzz`: right checksums for whatever looks like a log's. Built with the feature
//! `fuzz` only; the program never has it.

use super::format::{ALIGN, HEADER_LEN, PAYLOAD_MAX, RECORD_HEADER_LEN, RECORD_MAGIC};
use megalith_disk::crc32c::{crc32c, crc32c_of};

/// Gives a log file's header, and whatever begins like a record, the checksum that it would have if
/// we had written it: what an opening must then survive is nonsense that looks sound.
pub fn reseal(bytes: &mut [u8]) {
    if bytes.len() < HEADER_LEN {
        return;
    }
    let crc = crc32c(&bytes[..60]);
    bytes[60..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    let mut offset = HEADER_LEN;
    while offset + RECORD_HEADER_LEN <= bytes.len() {
        offset += reseal_record(&mut bytes[offset..]).unwrap_or(ALIGN);
    }
}

/// Returns the record's span.
fn reseal_record(bytes: &mut [u8]) -> Option<usize> {
    let (header, rest) = bytes.split_at_mut(RECORD_HEADER_LEN);
    if header[..4] != RECORD_MAGIC {
        return None;
    }
    let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    let payload = rest.get(..len).filter(|_| len <= PAYLOAD_MAX)?;
    let crc = crc32c_of(&[&header[..20], payload]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    Some((RECORD_HEADER_LEN + len).next_multiple_of(ALIGN))
}
