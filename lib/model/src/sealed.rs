//! The one thing that stands in the clear in a sealed record: which key-encryption key sealed it.
//!
//! Nothing is opened here. `lib/crypto` draws the records, and `lib/keyring` tests that both agree
//! on where the version is.

/// Of all suites so far.
const SUITE: u8 = 1;
/// Suite, version, salt, commitment and tag, around an empty text.
const LEN_MIN: usize = 85;

/// Returns what names the bytes of a sealed key: the first 16 bytes of their blake3.
#[must_use]
pub fn mark(sealed: &[u8]) -> [u8; 16] {
    let mut mark = [0; 16];
    mark.copy_from_slice(&blake3::hash(sealed).as_bytes()[..16]);
    mark
}

/// Returns the version of the key-encryption key that a record says it is sealed under; None if it
/// is no sealed record, or one under another kind of key. Only opening it proves it.
#[must_use]
pub fn kek_version(sealed: &[u8]) -> Option<u32> {
    if sealed.len() < LEN_MIN || sealed[0] != SUITE {
        return None;
    }
    let version = u32::from_be_bytes(sealed[1..5].try_into().ok()?);
    (version != 0).then_some(version)
}
