//! User metadata that headers can't carry as it is: RFC 2047 encoded words, in UTF-8.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

/// The most bytes of text in one word, so that the word has at most 75 characters.
const WORD_BYTES_MAX: usize = 45;

/// Writes a text for a header: as it is, or as encoded words.
pub(in crate::s3) fn encode(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(WORD_BYTES_MAX);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (word, after) = rest.split_at(end);
        words.push(format!("=?UTF-8?B?{}?=", STANDARD.encode(word)));
        rest = after;
    }
    Cow::Owned(words.join(" "))
}

/// Reads a header's text; None if it looks like encoded words but is malformed.
pub(in crate::s3) fn decode(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim();
    if !text.starts_with("=?") || !text.ends_with("?=") {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        // The text of a "Q" word may contain spaces, although it should not.
        [_] => bytes.extend(decode_word(text)?),
        words if words.iter().all(|word| word.ends_with("?=")) => {
            for word in words {
                bytes.extend(decode_word(word)?);
            }
        }
        _ => bytes.extend(decode_word(text)?),
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn decode_word(word: &str) -> Option<Vec<u8>> {
    let inner = word.strip_prefix("=?")?.strip_suffix("?=")?;
    let mut fields = inner.splitn(3, '?');
    let (_charset, encoding, text) = (fields.next()?, fields.next()?, fields.next()?);
    if encoding.eq_ignore_ascii_case("B") {
        STANDARD.decode(text).ok()
    } else if encoding.eq_ignore_ascii_case("Q") {
        decode_quoted(text)
    } else {
        None
    }
}

fn decode_quoted(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'=' => {
                let mut byte = [0];
                hex::decode_to_slice(after.get(..2)?, &mut byte).ok()?;
                decoded.extend_from_slice(&byte);
                rest = &after[2..];
            }
            b'_' => decoded.push(b' '),
            byte if byte.is_ascii() => decoded.push(*byte),
            _ => return None,
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_return() {
        let long = "ключ ".repeat(40);
        for text in ["", "plain text", "über", "a\u{1}b", &long] {
            let encoded = encode(text);
            assert!(encoded.split(' ').all(|word| word.len() <= 75), "{encoded}");
            // Words are joined without the spaces between them; spaces within them stay.
            assert_eq!(decode(&encoded).as_deref(), Some(text));
        }
        assert_eq!(encode("über"), "=?UTF-8?B?w7xiZXI=?=");
    }

    #[test]
    fn other_spellings() {
        assert_eq!(decode("=?utf-8?q?a_=C3=BC?=").as_deref(), Some("a ü"));
        assert_eq!(decode("=? is no word").as_deref(), Some("=? is no word"));
        for bad in [
            "=?UTF-8?B?***?=",
            "=?UTF-8?X?a?=",
            "=?UTF-8?Q?=C?=",
            "=?UTF-8?Q?=ff?=",
            "=??=",
        ] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
