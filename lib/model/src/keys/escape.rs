//! Byte strings inside keys, escaped so that they keep their order and mark their own end. 0x00
//! becomes 0x00 0xff, the end is 0x00 0x01; so a string sorts before all longer ones that begin
//! with it.

use std::borrow::Cow;

/// Appends `bytes`, escaped, without the end mark.
pub(super) fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
}

/// Appends the end mark.
pub(super) fn terminate(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 1]);
}

/// Takes an escaped string off the front: (the string, the rest). None if it has no end mark.
pub(super) fn take(bytes: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let first = bytes.iter().position(|&byte| byte == 0)?;
    if bytes.get(first + 1) == Some(&1) {
        return Some((Cow::Borrowed(&bytes[..first]), &bytes[first + 2..]));
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let zero = rest.iter().position(|&byte| byte == 0)?;
        plain.extend_from_slice(&rest[..zero]);
        let mark = *rest.get(zero + 1)?;
        rest = &rest[zero + 2..];
        match mark {
            0xff => plain.push(0),
            1 => return Some((Cow::Owned(plain), rest)),
            _ => return None,
        }
    }
}
