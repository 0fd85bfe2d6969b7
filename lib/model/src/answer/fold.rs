//! Common prefixes, and scans that jump over what they fold.

use crate::keys::KeyRange;
use crate::machine::MachineError;
use crate::table::Rows;

/// Returns the common prefix that stands for `key` in a listing: `prefix` and all up to and
/// including the first `delimiter` after it. None if the key is listed itself (always if
/// `delimiter` is empty).
#[must_use]
pub fn folded<'k>(prefix: &[u8], delimiter: &[u8], key: &'k [u8]) -> Option<&'k [u8]> {
    if delimiter.is_empty() {
        return None;
    }
    let rest = key.strip_prefix(prefix)?;
    let at = rest
        .windows(delimiter.len())
        .position(|window| window == delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// How a scan goes on after a row.
pub(super) enum Next {
    /// With the next row.
    On,
    /// With the first row at or after this key.
    Jump(Vec<u8>),
    Stop,
}

/// What a scan calls for each row.
type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> Result<Next, MachineError> + 'v;

/// Scans a range with jumps: what is jumped over costs nothing.
pub(super) fn scan(
    rows: &dyn Rows,
    mut range: KeyRange,
    visit: &mut Visit<'_>,
) -> Result<(), MachineError> {
    loop {
        let mut jump = None;
        let mut failed = None;
        rows.scan(&range.from, &range.to, &mut |key, value| {
            match visit(key, value) {
                Ok(Next::On) => return true,
                Ok(Next::Jump(to)) => jump = Some(to),
                Ok(Next::Stop) => {}
                Err(error) => failed = Some(error),
            }
            false
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        match jump {
            Some(to) => range.from = to,
            None => return Ok(()),
        }
    }
}
