//! Percent-encoding as signatures require it, and queries.

/// A text that is not UTF-8 once it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not UTF-8")]
pub struct NotUtf8;

/// Appends a text percent-encoded: everything but letters, digits and `-._~`.
pub fn encode(text: &str, keep_slash: bool, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || (keep_slash && byte == b'/');
        if plain {
            out.push(byte);
        } else {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out.extend_from_slice(&[b'%', HEX[high], HEX[low]]);
        }
    }
}

/// Decodes a text once. A `%` without two hexadecimal digits after it stays as it is.
///
/// # Errors
/// [`NotUtf8`].
pub fn decode(text: &str) -> Result<String, NotUtf8> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    decode_bytes(text.bytes())
}

/// Reads a query as pairs of name and value, decoded, in the order of the query. A `+` is a space;
/// a name without `=` has an empty value.
///
/// # Errors
/// [`NotUtf8`].
pub fn parse_query(query: &str) -> Result<Vec<(String, String)>, NotUtf8> {
    let plus_is_space = |byte: u8| if byte == b'+' { b' ' } else { byte };
    let text = |text: &str| {
        if text.contains(['%', '+']) {
            decode_bytes(text.bytes().map(plus_is_space))
        } else {
            Ok(text.to_owned())
        }
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((text(name)?, text(value)?))
        })
        .collect()
}

fn decode_bytes(bytes: impl Iterator<Item = u8>) -> Result<String, NotUtf8> {
    let bytes: Vec<u8> = bytes.collect();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                decoded.push(digit(*high) << 4 | digit(*low));
                rest = after;
            }
            (first, after) => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(decoded).map_err(|_| NotUtf8)
}

/// Returns a hexadecimal digit's value.
fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _upper => byte.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str, keep_slash: bool) -> String {
        let mut out = Vec::new();
        encode(text, keep_slash, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn encoding() {
        assert_eq!(encoded("a/b c+d%20ü~", true), "a/b%20c%2Bd%2520%C3%BC~");
        assert_eq!(encoded("a/b*'()", false), "a%2Fb%2A%27%28%29");
    }

    #[test]
    fn decoding_is_done_once() {
        for (text, expected) in [
            ("a%20b", "a b"),
            ("a+b", "a+b"),
            ("a%2520b", "a%20b"),
            ("%zz%4", "%zz%4"),
            ("%c3%BC", "ü"),
            ("%2e%2E/..", "../.."),
            ("%+1%-1", "%+1%-1"),
        ] {
            assert_eq!(decode(text).as_deref(), Ok(expected));
        }
        assert_eq!(decode("%ff"), Err(NotUtf8));
        assert_eq!(parse_query("a=%ff"), Err(NotUtf8));
    }

    #[test]
    fn queries() {
        let parsed = parse_query("b=1&a&&c=x=y&d=+%2B&%61=2&=v").expect("UTF-8");
        let expected = [
            ("b", "1"),
            ("a", ""),
            ("c", "x=y"),
            ("d", " +"),
            ("a", "2"),
            ("", "v"),
        ];
        let expected: Vec<_> = expected
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(parsed, expected);
    }
}
